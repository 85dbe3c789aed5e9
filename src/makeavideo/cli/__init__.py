"""The command line, `make-a-video`: `main` has the list of its commands."""
