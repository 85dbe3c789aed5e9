"""`make-a-video data`: build data sets."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from ..errors import UserError
from .options import Background, console
from .progress import bars

if TYPE_CHECKING:
    from ..data.report import SkipReport

app = typer.Typer(no_args_is_help=True, help="Build data sets.")


def cores() -> int:
    """Processes that a command takes where no number is given."""
    return os.cpu_count() or 1


def say_skipped(report: "SkipReport") -> None:
    """What of the data was passed by, if anything was."""
    if len(report):
        console.print(report.text(), markup=False, highlight=False, soft_wrap=True)


@app.command("pack")
def data_pack(
    source: Annotated[Path, typer.Argument(help="Folder of pictures, clips, or folders of them.")],
    folder: Annotated[Path, typer.Argument(help="Where to put the shards.")],
    size: Annotated[
        str,
        typer.Option(metavar="PIXELS", help="data.size of the recipes that will read them, a side or width x height."),
    ],
    quality: Annotated[
        int | None, typer.Option(help="1 to 100; default: stills lossless, clips 80.", min=1, max=100)
    ] = None,
    background: Background = "#ffffff",
    workers: Annotated[int | None, typer.Option(help="Processes; default: one a core.", min=1)] = None,
) -> None:
    """Write small webdataset shards at the training's own size, which train faster and travel."""
    from ..data.pack import pack
    from ..shapes import read_size

    with Progress(console=console) as bar:
        task = bar.add_task("packed", total=None)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        packed, report = pack(source, folder, read_size(size), quality, background, workers or cores(), tell)
    made = f"{packed.stills} stills, {packed.clips} clips of {packed.frames} frames"
    console.print(f"{folder}: {made}, {packed.bytes / 1e6:.1f} MB, {packed.psnr:.1f} dB", highlight=False)
    say_skipped(report)


@app.command("index")
def data_index(
    roots: Annotated[
        list[str],
        typer.Argument(help="Folders, .tar shards, .csv or .jsonl lists (path, caption); also s3://, gs://, hf:// ..."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the index.")],
    only: Annotated[str | None, typer.Option(help="pictures or clips, where both lie there.")] = None,
    shapes: Annotated[bool, typer.Option("--shapes", help="Open each to note its shape, for data.buckets.")] = False,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one a core.", min=1)] = None,
) -> None:
    """Look through a large set once, so that training starts at once: the index is given in place of the folders."""
    from ..data.indexing import build_index

    if only not in (None, "pictures", "clips"):
        raise UserError(f"--only {only} is not possible: choose pictures or clips.")
    with bars(console) as tell:
        samples, kinds, report = build_index(
            roots, output, only, workers or cores(), shapes, lambda done, total: tell("indexed", done, total)
        )
    of_each = ", ".join(f"{count:,} .{kind}" for kind, count in kinds.most_common())
    console.print(f"{output}: {samples:,} samples ({of_each})", highlight=False)
    say_skipped(report)


@app.command("clips")
def data_clips(
    source: Annotated[Path, typer.Argument(help="Folder of videos.")],
    folder: Annotated[Path, typer.Argument(help="Where to put the shards, and report.html.")],
    min_seconds: Annotated[float, typer.Option(help="Shorter scenes are left out.")] = 1.0,
    max_seconds: Annotated[float, typer.Option(help="Longer scenes are parted.")] = 20.0,
    motion: Annotated[float, typer.Option(help="Part of the picture that changes within half a second, at least.")] = (
        0.002
    ),
    flicker: Annotated[float, typer.Option(help="Grey levels that the brightness jumps to and fro, at most.")] = 6.0,
    side: Annotated[int, typer.Option(help="Pixels of a clip's short side, at most.", min=64)] = 512,
    quality: Annotated[int, typer.Option(help="Of the clips, 1 to 100.", min=1, max=100)] = 80,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one a core.", min=1)] = None,
) -> None:
    """Cut people's videos into clips to learn from: without cuts, standing still, flicker, black borders."""
    from ..data.curation import Settings, curate
    from ..data.curation_report import write_report
    from ..data.report import SkipReport
    from ..data.scenes import Limits

    settings = Settings(Limits(min_seconds, max_seconds, motion, flicker), side, quality)
    with bars(console) as tell:
        told = curate(source, folder, settings, workers or cores(), lambda *done: tell("cut", *done))
    counted = write_report(folder)
    made = f"{counted.kept:,} clips of {counted.hours:.2f} hours kept, {counted.dropped:,} scenes left out"
    console.print(f"{folder}: {made}; report.html says why", highlight=False)
    report = SkipReport()
    report.add([*told, *counted.unread])
    say_skipped(report)


@app.command("embed")
def data_embed(
    index: Annotated[str, typer.Argument(help="The index of captioned pictures.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the arrays.")],
    image_encoder: Annotated[str, typer.Option(help="Folder of the trained image tower.")],
    text_encoder: Annotated[str | None, typer.Option(help="Folder; default: that of the included model.")] = None,
    size: Annotated[int, typer.Option(help="Pixels a side: data.size of the decoder's recipes.", min=1)] = 64,
    captions: Annotated[int, typer.Option(help="Captions of each picture that are embedded.", min=1)] = 1,
    background: Background = "#ffffff",
    batch: Annotated[int, typer.Option(help="Pictures at a time.", min=1)] = 256,
    readers: Annotated[int, typer.Option(help="Processes that read, beside each that embeds.", min=0)] = 2,
    shard_cache: Annotated[Path | None, typer.Option(help="Folder for whole shards that lie elsewhere.")] = None,
    shard_cache_gb: Annotated[float, typer.Option(help="As many of them are kept.", min=0)] = 100.0,
) -> None:
    """Embed pictures and captions once, for the prior. Started again it goes on; several processes share the work."""
    from ..data.shards import ShardCache
    from ..training.embed import Wanted, embed

    cache = None if shard_cache is None else ShardCache(shard_cache, int(shard_cache_gb * 2**30))
    wanted = Wanted(index, image_encoder, text_encoder, size, captions, background, batch, readers, cache)
    with bars(console) as tell:
        made, report = embed(wanted, output, lambda *done: tell("embedded", *done))
    console.print(f"{output}: {made:,} pictures embedded", highlight=False)
    say_skipped(report)


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
