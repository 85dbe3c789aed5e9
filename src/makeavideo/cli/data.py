"""`make-a-video data`: build data sets."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from ..errors import UserError
from .options import Background, console
from .progress import bars

app = typer.Typer(no_args_is_help=True, help="Build data sets.")


@app.command("pack")
def data_pack(
    source: Annotated[Path, typer.Argument(help="Folder of pictures, clips, or folders of them.")],
    folder: Annotated[Path, typer.Argument(help="Where to put the shards.")],
    size: Annotated[int, typer.Option(help="Pixels a side: data.size of the recipes that will read them.")],
    quality: Annotated[
        int | None, typer.Option(help="1 to 100; default: stills lossless, clips 80.", min=1, max=100)
    ] = None,
    background: Background = "#ffffff",
    workers: Annotated[int | None, typer.Option(help="Processes; default: one a core.", min=1)] = None,
) -> None:
    """Write small webdataset shards at the training's own size, which train faster and travel."""
    from ..data.pack import pack

    with Progress(console=console) as bar:
        task = bar.add_task("packed", total=None)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        packed, report = pack(source, folder, size, quality, background, workers or os.cpu_count() or 1, tell)
    made = f"{packed.stills} stills, {packed.clips} clips of {packed.frames} frames"
    console.print(f"{folder}: {made}, {packed.bytes / 1e6:.1f} MB, {packed.psnr:.1f} dB", highlight=False)
    if len(report):
        console.print(report.text(), markup=False, highlight=False, soft_wrap=True)


@app.command("index")
def data_index(
    roots: Annotated[
        list[str],
        typer.Argument(help="Folders, .tar shards, .csv or .jsonl lists (path, caption); also s3://, gs://, hf:// ..."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the index.")],
    only: Annotated[str | None, typer.Option(help="pictures or clips, where both lie there.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one a core.", min=1)] = None,
) -> None:
    """Look through a large set once, so that training starts at once: the index is given in place of the folders."""
    from ..data.indexing import build_index

    if only not in (None, "pictures", "clips"):
        raise UserError(f"--only {only} is not possible: choose pictures or clips.")
    with bars(console) as tell:
        samples, kinds, report = build_index(
            roots, output, only, workers or os.cpu_count() or 1, lambda done, total: tell("indexed", done, total)
        )
    of_each = ", ".join(f"{count:,} .{kind}" for kind, count in kinds.most_common())
    console.print(f"{output}: {samples:,} samples ({of_each})", highlight=False)
    if len(report):
        console.print(report.text(), markup=False, highlight=False, soft_wrap=True)


@app.command("emoji")
def data_emoji(
    folder: Annotated[Path, typer.Argument(help="Where to build the emoji data set.")],
    cache: Annotated[Path | None, typer.Option(help="Folder for downloaded packages.")] = None,
) -> None:
    """Build the emoji data set from pinned npm packages: captioned pictures, silent clips, large vectors."""
    from ..emoji.build import build_emoji

    with bars(console) as tell:
        counts = build_emoji(folder, cache, tell)["counts"]
    console.print(counts)
