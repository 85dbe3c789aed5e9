"""`python -m makeavideo.training`: `make-a-video train` where typer is not installed, on a rented GPU for example."""

import argparse
import sys
from pathlib import Path

from ..errors import UserError
from .plan import Wishes, check


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m makeavideo.training", description="Train a recipe or a plan.")
    parser.add_argument("path", type=Path, help="a recipe, or a folder of recipes with a plan.yaml")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="[STAGE:]KEY=VALUE")
    parser.add_argument("--resume", action="store_true", help="one recipe: continue from the newest checkpoint")
    parser.add_argument("--hours", type=float, help="share so many hours out among the stages")
    parser.add_argument("--only", action="append", default=[], metavar="STAGE")
    parser.add_argument("--from", dest="start", metavar="STAGE")
    parser.add_argument("--pictures", action="append", default=[], metavar="FOLDER")
    parser.add_argument("--clips", action="append", default=[], metavar="FOLDER")
    parser.add_argument("-o", "--output", help="folder of the pipeline")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """A `UserError` becomes one line and exit code 2."""
    given = vars(parse(arguments))
    path, resume = given.pop("path"), given.pop("resume")
    lists = {key: tuple(value) for key, value in given.items() if isinstance(value, list)}
    try:
        wishes = Wishes(**{**given, **lists})
        check(path, wishes, resume)
        from .train_plan import train_path

        if said := train_path(path, wishes, resume):
            print(said)
    except UserError as error:
        sys.stderr.write(f"make-a-video: {error}\n")  # at once: every process says it
        sys.exit(2)


if __name__ == "__main__":
    main()
