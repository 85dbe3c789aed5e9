"""Many videos from a list of prompts, in one process or on a Ray cluster; what is stopped goes on where it was."""
