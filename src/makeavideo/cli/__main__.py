"""`python -m makeavideo.cli` is `make-a-video`."""

from .main import main

main()
