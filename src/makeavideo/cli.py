"""The command line: `make-a-video generate | info | train | data`."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .errors import UserError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Make-A-Video, complete and open: videos from a sentence, learnt without text-video pairs.",
)
data_app = typer.Typer(no_args_is_help=True, help="Build data sets.")
app.add_typer(data_app, name="data")
console = Console(stderr=True)

MODEL_FOLDERS = (Path("models/emoji"), Path(__file__).resolve().parents[2] / "models" / "emoji")


def default_model() -> Path:
    """The emoji cascade of the repository, wherever the command is called from."""
    return next((folder for folder in MODEL_FOLDERS if folder.is_dir()), MODEL_FOLDERS[0])


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What the video shows, in a few words.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write; its ending names the format.")] = Path(
        "video.mp4"
    ),
    model: Annotated[Path | None, typer.Option(help="Folder of the cascade; default: the emoji cascade.")] = None,
    negative: Annotated[str | None, typer.Option(help="What to steer away from.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Same seed, same machine: same video.")] = None,
    num_frames: Annotated[int | None, typer.Option(help="1 to 76; above 16, frames are interpolated.")] = None,
    fps: Annotated[float, typer.Option(help="Frames a second, 1 to 60.")] = 24.0,
    size: Annotated[
        int | None, typer.Option(help="Pixels a side: where in the cascade to stop (64, 256, 768).")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps of the decoder.")] = None,
    guidance: Annotated[float, typer.Option(help="How closely to follow the prompt; 1 is off.")] = 2.0,
    fast: Annotated[bool, typer.Option("--fast", help="A quick look: 16 frames at the smallest size.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")] = False,
) -> None:
    """Make a video from a sentence."""
    from .video import VideoWriter, check_writable

    check_writable(output, fps=fps)
    if not prompt.strip():
        raise UserError("The prompt is empty: say in a few words what the video should show.")
    # libraries' notices would garble the progress bars
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    import torch

    from .pipeline import MAX_FRAMES, MakeAVideoPipeline, weights_hash
    from .sampling import to_uint8

    disable_loading_bars()
    started = time.monotonic()
    folder = model or default_model()
    pipe = MakeAVideoPipeline.load(folder)
    pipe.set_progress_bar_config(disable=quiet)
    num_frames = num_frames if num_frames is not None else (16 if fast else MAX_FRAMES)
    size = size if size is not None else pipe.sizes[0 if fast else -1]
    steps = steps if steps is not None else (8 if fast else 16)
    seed = seed if seed is not None else int.from_bytes(os.urandom(4), "big")
    recipe = {
        "prompt": prompt,
        "negative_prompt": negative,
        "seed": seed,
        "num_frames": num_frames,
        "fps": fps,
        "size": size,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "model": folder.name,
        "weights": weights_hash(folder),
    }
    pipe.check_inputs(prompt, num_frames, fps, size, steps)
    generator = torch.Generator().manual_seed(seed)
    chunks = pipe.stream(prompt, negative, num_frames, fps, size, steps, guidance, generator)
    with VideoWriter(output, fps, recipe) as writer:
        for chunk in chunks:
            for frame in to_uint8(chunk)[0]:
                writer.write(frame)
    if not quiet:
        seconds = time.monotonic() - started
        console.print(f"{output}: {num_frames} frames of {size}x{size}, seed {seed}, {seconds:.1f} s", highlight=False)


def disable_loading_bars() -> None:
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


@app.command()
def info(file: Annotated[Path, typer.Argument(help="A file that `generate` wrote.")]) -> None:
    """Print what a file shows and the recipe that it carries."""
    import json

    from .video import probe

    found = probe(file)._asdict()
    print(json.dumps({"file": str(file), **found}, indent=2, ensure_ascii=False))


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, for example recipes/emoji/decoder-image.yaml.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="key=value, dots for nested keys.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the newest checkpoint.")] = False,
) -> None:
    """Train one stage of the cascade."""
    from .training.recipe import load_recipe

    checked = load_recipe(recipe, overrides or [])
    from .training.trainer import train as run

    disable_loading_bars()
    console.print(f"trained: {run(checked, resume)}", highlight=False)


@app.command()
def assemble(
    folder: Annotated[Path, typer.Argument(help="Where to put the cascade.")],
    runs: Annotated[Path, typer.Option(help="Folder of the stages' outputs.")] = Path("runs/emoji"),
) -> None:
    """Put the networks of a folder of finished stages together as one pipeline."""
    from .training.assemble import assemble as run

    disable_loading_bars()
    console.print(f"assembled: {run(runs, folder)}", highlight=False)


@data_app.command("emoji")
def data_emoji(
    folder: Annotated[Path, typer.Argument(help="Where to build the emoji data set.")],
    cache: Annotated[Path | None, typer.Option(help="Folder for downloaded packages.")] = None,
) -> None:
    """Build the emoji data set from pinned npm packages: captioned pictures, silent clips, large vectors."""
    from rich.progress import Progress

    from .data.emoji import build_emoji

    tasks: dict[str, int] = {}
    with Progress(console=console) as bar:

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        counts = build_emoji(folder, cache, tell)["counts"]
    console.print(counts)


def main() -> None:
    """Entry point: a `UserError` becomes one line and exit code 2."""
    try:
        app()
    except UserError as error:
        print(f"make-a-video: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
