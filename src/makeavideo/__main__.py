"""`python -m makeavideo` is `make-a-video`."""

from .cli.main import main

main()
