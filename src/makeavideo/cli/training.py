"""`make-a-video train | assemble | adopt`: cascades by recipes, put together, or begun from text-to-image weights."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
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
    memory: Annotated[
        bool, typer.Option("--memory", help="Count what a recipe of decoder-video or interpolator takes.")
    ] = False,
) -> None:
    """Train one stage, or a whole cascade by a plan; the same command goes on where a plan was stopped."""
    if memory:
        from ..training.recipe import load_recipe

        recipe = load_recipe(path, overrides or ())
        from ..training.memory import count

        for line in count(recipe).lines():
            console.print(line, highlight=False, markup=False)
        return
    from ..training.plan import Wishes, check

    wishes = Wishes(
        tuple(overrides or ()), hours, tuple(only or ()), start, tuple(pictures or ()), tuple(clips or ()), output
    )
    check(path, wishes, resume)
    from ..training.train_plan import train_path

    if said := train_path(path, wishes, resume):
        console.print(said, highlight=False, markup=False)


def assemble(
    folder: Annotated[Path, typer.Argument(help="Where to put the cascade.")],
    runs: Annotated[Path, typer.Option(help="Folder of the stages' outputs.")] = Path("runs/emoji"),
    model: Annotated[
        Path | None, typer.Option(help="A cascade, adopted for one, that is to get the networks of --run.")
    ] = None,
    run_folders: Annotated[
        list[Path] | None, typer.Option("--run", help="With --model: output of a finished run; can be repeated.")
    ] = None,
) -> None:
    """Put the networks of a folder of finished stages together, or those of some runs into a cascade that there is."""
    if model is not None or run_folders:
        if model is None or not run_folders:
            raise UserError("--model and --run belong together: name the cascade, and the runs to put into it.")
        from ..training.onto import assemble_onto

        console.print(f"assembled: {assemble_onto(model, run_folders, folder)}", highlight=False)
        return
    if not runs.is_dir():
        raise UserError(f"There is no folder {runs}: give the folder of the stages' outputs, --runs.")
    from ..training.assemble import assemble as run

    console.print(f"assembled: {run(runs, folder)}", highlight=False)


def adopt(
    source: Annotated[
        str, typer.Argument(help="A text-to-image pipeline: a folder, or an id of the Hugging Face hub.")
    ],
    folder: Annotated[Path, typer.Argument(help="Where to put the cascade.")],
    prior: Annotated[str | None, typer.Option(help="Folder or hub id of its prior, if it has none of its own.")] = None,
    image_encoder: Annotated[
        str | None, typer.Option(help="CLIP's folder or hub id, if it has no image tower.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="float32, bfloat16 or float16: of the weights that are saved.")
    ] = "float32",
) -> None:
    """Begin a cascade from a text-to-image model (Kandinsky 2.2, Karlo, Stable unCLIP), to be trained on clips."""
    from ..figures import DTYPES

    if dtype not in DTYPES:
        raise UserError(f"--dtype {dtype} is not possible: choose {', '.join(DTYPES)}.")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} holds something already: name another folder.")
    import torch

    from ..adoption.card import card_of
    from ..adoption.kinds import adopt as begin
    from ..pipeline import MakeAVideoPipeline
    from ..training.networks import written_whole

    adopted = begin(source, prior, image_encoder, getattr(torch, dtype))
    pipe = MakeAVideoPipeline(**adopted.components, sampling=adopted.sampling)
    with written_whole(folder, "free some space and adopt again") as partial:
        pipe.save_pretrained(partial, safe_serialization=True)
        (partial / "README.md").write_text(card_of(adopted, folder.name), "utf-8")
    for title in ("found", "made", "missing"):
        for sentence in getattr(adopted, title):
            console.print(f"{title}: {sentence}", highlight=False, markup=False, soft_wrap=True)
    licences = ", ".join(sorted({one.licence or "not named" for one in adopted.sources}))
    console.print(f"adopted: {folder}, licence {licences}", highlight=False, markup=False, soft_wrap=True)
