"""`make-a-video batch`: many videos from a list of prompts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError
from ..included import default_model
from ..orders import Abilities, Additions, Machine, Model
from .options import (
    LARGEST_SEED,
    Device,
    Dtype,
    Fast,
    Fps,
    Guidance,
    Loop,
    Lora,
    Motion,
    MotionModule,
    MotionModuleScale,
    NumFrames,
    Offload,
    Quality,
    Quiet,
    Seconds,
    Size,
    Steps,
    console,
)
from .options import Model as ModelOption
from .progress import ProgressLine, bars

if TYPE_CHECKING:
    from ..batch.cluster import Cluster
    from ..batch.jobs import Job, Plan
    from ..batch.making import Made
    from ..batch.run import Batch


def batch(
    prompts: Annotated[Path, typer.Argument(metavar="LIST", help="csv, txt or jsonl: a line a video.")],
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the videos and of manifest.jsonl.")],
    kind: Annotated[
        str, typer.Option("--format", help="mp4, webm, gif or webp, of files that LIST does not name.")
    ] = "mp4",
    model: ModelOption = None,
    negative: Annotated[str | None, typer.Option(help="What to steer away from.")] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Of lines without one; of equal ones, the next ones.")
    ] = 0,
    num_frames: NumFrames = None,
    seconds: Seconds = None,
    fps: Fps = 24.0,
    size: Size = None,
    steps: Steps = None,
    guidance: Guidance = 2.0,
    motion: Motion = None,
    loop: Loop = False,
    fast: Fast = False,
    quality: Quality = None,
    dtype: Dtype = None,
    device: Device = None,
    offload: Offload = None,
    motion_module: MotionModule = None,
    motion_module_scale: MotionModuleScale = 1.0,
    lora: Lora = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Ray cluster: local (this machine), auto or HOST:PORT.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="With --ray: default one a GPU, or a processor core.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="With --ray: of each worker, on processors.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Make the videos of a list; started again, it makes those that are missing.

    The options are for lines of LIST that do not have a column of that name.
    """
    from ..batch.cluster import Cluster
    from ..batch.run import Batch

    if ray is None and (workers is not None or threads != 1):
        raise UserError("--workers and --threads are of --ray: add --ray local, or leave them out.")
    cluster = None if ray is None else Cluster(ray, workers, threads)
    asked: dict[str, Any] = {"negative": negative, "num_frames": num_frames, "seconds": seconds, "size": size}
    given: dict[str, Any] = {key: value for key, value in (asked | {"steps": steps}).items() if value is not None}
    given |= {"fps": fps, "guidance": guidance, "motion": motion, "loop": loop, "fast": fast, "quality": quality}
    how, cascade = Machine(dtype, device, offload), model or default_model()
    more, ending = Additions.read(motion_module, motion_module_scale, lora), f".{kind.removeprefix('.')}"
    plan = planned(prompts, folder, cascade, given, ending, seed, more)
    with Batch(plan, folder) as work, stoppable(work):
        missing = work.missing()
        say_failures(work)
        if missing and cluster is None:
            make_here(work, missing, cascade, how, quiet)
        elif missing and cluster is not None:
            make_there(work, missing, cascade, how, cluster, quiet)
    finish(work, quiet)


def say_failures(work: Batch) -> None:
    """A line for what of the list cannot be made; `work.missing` has found out."""
    for told in work.manifest.failed:
        say_failure(told["line"], told["error"])


def planned(
    prompts: Path, folder: Path, cascade: Path, given: dict[str, Any], ending: str, seed: int, more: Additions
) -> Plan:
    """The jobs of the list, with what the command says of all lines."""
    from ..batch.jobs import Plan, check_defaults
    from ..batch.rows import as_row, read_list
    from ..batch.run import make_folder

    lines = read_list(prompts, given)
    abilities = Abilities.of(cascade)
    check_defaults(as_row({"prompt": "a line", **given}), abilities, ending)
    make_folder(folder)
    from ..loading import weights_hash  # torch takes seconds: after what is refused quickly

    plan = Plan(cascade, abilities, weights_hash(cascade), prompts.parent, ending, seed, more)
    for line in lines:
        plan.add(line)
    return plan


def make_here(work: Batch, missing: list[Job], folder: Path, how: Machine, quiet: bool) -> None:
    """One after the other in this process."""
    from ..batch.making import make

    model: Model | None = None
    for job in missing:
        with ProgressLine(console, quiet, f"{work.counts.done + 1}/{work.counts.wanted} ") as line:
            model = model or Model(folder, how, work.plan.additions)
            line.begin(job.order, model.pipe)
            made = make(model, job, work.folder / job.name, line, line.on_written)
        work.take(made)
        tell(work, made, quiet)


def make_there(work: Batch, missing: list[Job], folder: Path, how: Machine, cluster: Cluster, quiet: bool) -> None:
    """By the workers of a Ray cluster."""
    from ..batch.cluster import Crew, connected

    with bars(console, quiet) as show:
        show("videos", work.counts.done, work.counts.wanted)
        # Ray prints a page for each dead worker, of which the manifest tells
        with (
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            connected(cluster) as (workers, takes),
        ):
            more = work.plan.additions.resolved()
            crew = Crew(workers, takes, folder.resolve(), work.plan.weights, how, cluster.threads, more)
            for made in crew.run(missing):
                work.take(made)
                tell(work, made, quiet)
                show("videos", work.counts.done, work.counts.wanted)


@contextlib.contextmanager
def stoppable(work: Batch) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the batch with a sentence."""
    from ..media.writer import terminate_as_interrupt

    with terminate_as_interrupt():
        try:
            yield
        except KeyboardInterrupt:
            counts = work.counts
            done = f"{counts.there + counts.made} of {counts.wanted} videos are made"
            raise UserError(f"Stopped: {done}; the same command makes the others.") from None


def tell(work: Batch, made: Made, quiet: bool) -> None:
    """A line for what came of a job; of what failed also where nothing else is shown."""
    if made.error is not None:
        say_failure(made.job.line, made.error)
    elif not quiet:
        settings = made.job.order.settings
        width, height = settings.shape.width, settings.shape.height
        what = f"{work.folder / made.job.name}: {settings.num_frames} frames of {width}x{height}"
        seed = made.job.order.seed
        console.print(f"{what}, seed {seed}, {made.seconds:.1f} s", markup=False, highlight=False, soft_wrap=True)


def say_failure(line: int, error: str) -> None:
    console.print(f"line {line}: {error}", style="red", markup=False, highlight=False, soft_wrap=True)


def finish(work: Batch, quiet: bool) -> None:
    """What came of all; exit code 1 where something failed."""
    counts = work.counts
    failed = counts.failed + counts.broken
    if not quiet:
        told = f"{work.folder}: {counts.made} made, {counts.there} there already"
        told += f", {counts.twice} asked for twice and made once" if counts.twice else ""
        told += f", {failed} failed: {work.manifest.path} says why" if failed else ""
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)
