"""What the command line shows meanwhile: a line while a video is made (stage, frames done, time left), or bars."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

if TYPE_CHECKING:  # it imports torch, which takes seconds: the line is there before
    from torch import Tensor

    from ..orders import Order
    from ..work import WatchedPipeline


class TimeLeft(ProgressColumn):
    """Counts down between two estimates."""

    def render(self, task: Task) -> Text:
        end = task.fields["end"]
        if end is None:
            return Text("")
        minutes, seconds = divmod(max(0, round(end - time.monotonic())), 60)
        return Text(f"{minutes}:{seconds:02} left")


class ProgressLine:
    """A `work.Watcher`. Where the console is no terminal, or `hidden`, it shows nothing at all."""

    def __init__(self, console: Console, hidden: bool = False, before: str = ""):
        """before: what goes before every stage, such as which of several videos it is."""
        self.before = before
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(None, table_column=Column(ratio=1)),
            TextColumn("{task.fields[frames]}"),
            TimeLeft(table_column=Column(no_wrap=True)),
            console=console,
            expand=True,
            transient=True,
            disable=hidden or not console.is_interactive,
        )
        self.task = self.progress.add_task(before + "Loading the model", total=None, frames="", end=None)
        self.work: Any = None  # a Work, from `begin` on
        self.num_frames = 0

    def __enter__(self) -> ProgressLine:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def begin(self, order: Order, pipe: WatchedPipeline, given: int = 0) -> None:
        """The model is loaded; the frames of `order` go into the file, and those that were given."""
        from ..work import Work

        self.work, self.num_frames = (
            Work(order.use, order.settings, pipe, order.parts),
            order.settings.num_frames + given,
        )
        self.progress.update(self.task, total=1, completed=0)
        self.on_written(0)

    def on_written(self, done: int) -> None:
        """So many frames are in the file."""
        self.progress.update(self.task, frames=f"{done}/{max(done, self.num_frames)} frames")

    def on_stage(self, stage: str) -> None:
        self.work.begin(stage)
        # drawn at once: some stages are over before the line is drawn by itself
        self.progress.update(self.task, description=self.before + self.work.stage, refresh=True)

    def on_step(self, stage: str, step: int, sample: Tensor) -> None:
        self.work.step(stage, sample)
        left = self.work.seconds_left
        self.progress.update(self.task, completed=self.work.share, end=left and time.monotonic() + left)


@contextlib.contextmanager
def bars(console: Console, hidden: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Shows a bar for everything that is told of as (what, done, total); nothing where it is `hidden`."""
    tasks: dict[str, TaskID] = {}
    with Progress(console=console, disable=hidden) as shown:

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total)
            shown.update(tasks[what], completed=done, total=total)

        yield tell
