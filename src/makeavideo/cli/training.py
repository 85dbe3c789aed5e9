"""`make-a-video train | assemble`: a stage or a whole cascade by recipes, and the networks put together."""

from pathlib import Path
from typing import Annotated

import typer

from .options import console


def train(
    path: Annotated[Path, typer.Argument(help="A recipe, or a folder of recipes with a plan: recipes/emoji.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, dots for nested keys; STAGE:key=value in a plan.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="One recipe: continue from the newest checkpoint.")] = False,
    hours: Annotated[float | None, typer.Option(help="Share so many hours out among the plan's stages.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this stage of the plan; can be repeated.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="This stage of the plan and those after it.")] = None,
    pictures: Annotated[list[str] | None, typer.Option(help="Folder or shard of your captioned pictures.")] = None,
    clips: Annotated[list[str] | None, typer.Option(help="Folder or shard of your clips.")] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="Folder of the model that a plan makes.")] = None,
) -> None:
    """Train one stage, or a whole cascade by a plan; the same command goes on where a plan was stopped."""
    from ..training.plan import Wishes, check

    wishes = Wishes(
        tuple(overrides or ()), hours, tuple(only or ()), start, tuple(pictures or ()), tuple(clips or ()), output
    )
    check(path, wishes, resume)
    from ..training.train_plan import train_path

    console.print(train_path(path, wishes, resume), highlight=False, markup=False)


def assemble(
    folder: Annotated[Path, typer.Argument(help="Where to put the cascade.")],
    runs: Annotated[Path, typer.Option(help="Folder of the stages' outputs.")] = Path("runs/emoji"),
) -> None:
    """Put the networks of a folder of finished stages together as one pipeline."""
    from ..training.assemble import assemble as run

    console.print(f"assembled: {run(runs, folder)}", highlight=False)
