"""What a person sees of a training, and how Ctrl-C ends it: after the step in hand, with a checkpoint."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich import get_console
from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from ..signals import handled
from .preparing import told
from .processes import launched
from .recipe import Recipe


class Watch:
    """Follows one run after the other; the trainer calls it, in every process.

    Attributes:
        stop: the run is to end after its present step.
        console: where lines about the run go.
    """

    def __init__(self) -> None:
        self.stop = False
        self.console = Console()

    @contextmanager
    def preparing(self, stage: str, show: bool) -> Iterator[None]:
        """While this lasts a stage reads its data and its networks, and looks at the data as a whole if it has to."""
        with told(None):
            yield

    @contextmanager
    def follow(self, recipe: Recipe, step: int, show: bool) -> Iterator[None]:
        """A run from `step` on. Until it ends, the first Ctrl-C or SIGTERM sets `stop`; the second one ends at once.

        Not under a launcher, which hands on what its processes have heard with it: a terminal and SLURM tell all.
        """

        def ask(number: int, frame: object) -> None:
            if self.stop and not launched():
                raise KeyboardInterrupt
            if show and not self.stop:
                again = "" if launched() else "; Ctrl-C again stops at once"
                self.console.print(f"Stopping after this step{again}.", highlight=False)
            self.stop = True

        heard = [s for s in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(s) != signal.SIG_IGN]
        with handled(ask, *heard):
            yield

    def step(self, step: int) -> None:
        """`step` is done."""

    def log(self, step: int, loss: float, rate: float) -> None:
        """Every `log_every` steps: the mean loss since the last time, and samples a second."""


class RunBar(Watch):
    """A bar for one run; a line each time where there is no terminal."""

    @contextmanager
    def preparing(self, stage, show):
        if not show:
            with super().preparing(stage, show):
                yield
        elif not self.console.is_terminal:
            self.console.print(f"{stage}: reading the data and the networks", highlight=False)
            with told(Lines(stage, self.console)):
                yield
        else:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            with Progress(*columns, TimeElapsedColumn(), console=self.console, transient=True) as bar:
                task = bar.add_task(f"{stage}: reading the data and the networks", total=None)
                with told(lambda what, done, total: bar.update(task, description=what, completed=done, total=total)):
                    yield

    @contextmanager
    def follow(self, recipe, step, show):
        bar = Progress(
            TextColumn(recipe.stage),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            disable=not (show and get_console().is_interactive),
        )
        self.console, self.started, self.shown = bar.console, time.monotonic(), show
        with bar, super().follow(recipe, step, show):
            self.bar, self.task = bar, bar.add_task("", total=recipe.steps, completed=step, status="")
            yield

    def log(self, step, loss, rate):
        self.bar.update(self.task, completed=step, status=f"loss {loss:.4f}  {rate:.1f}/s")
        if self.shown and not self.console.is_terminal:
            minutes = (time.monotonic() - self.started) / 60
            self.console.print(f"step {step} loss {loss:.4f} {rate:.1f}/s {minutes:.1f} min")


class Lines:
    """Tells of long work now and then, where there is no terminal."""

    def __init__(self, stage: str, console: Console, seconds: float = 30.0):
        self.stage, self.console, self.seconds = stage, console, seconds
        self.next = time.monotonic() + seconds

    def __call__(self, what: str, done: int, total: int) -> None:
        if time.monotonic() >= self.next:
            self.next = time.monotonic() + self.seconds
            self.console.print(f"{self.stage}: {what}, {done} of {total}", highlight=False, soft_wrap=True)


class Row:
    """One stage in the table."""

    def __init__(self, name: str, minutes: float, seconds: float, finished: bool):
        self.name, self.minutes, self.seconds = name, minutes, seconds
        self.state = "done" if finished else "waiting"
        self.step = self.first = self.steps = 0
        self.loss = self.rate = self.doing = ""
        self.began = 0.0

    def left(self, pace: float | None) -> float | None:
        """Seconds that it will take, as far as can be told; `pace`: seconds that a planned minute takes here."""
        if self.state == "done":
            return 0.0
        if self.state == "running" and self.step > self.first:
            return (self.steps - self.step) * (time.monotonic() - self.began) / (self.step - self.first)
        return None if pace is None else max(0.0, self.minutes * pace - self.elapsed())

    def elapsed(self) -> float:
        return self.seconds + (time.monotonic() - self.began if self.state == "running" else 0.0)


class PlanTable(Watch):
    """All stages of a plan in one table with the time left; a line each time where there is no terminal.

    stages: (name, minutes of the plan, whether it is finished). used: seconds that stages took before. hours: the
    budget, if there is one: it says how long a planned minute takes; without it the stages done so far say so.
    """

    def __init__(self, stages: list[tuple[str, float, bool]], used: dict[str, float], hours: float | None):
        super().__init__()
        self.rows = {name: Row(name, minutes, used.get(name, 0.0), done) for name, minutes, done in stages}
        self.hours = hours

    @contextmanager
    def shown(self, show: bool) -> Iterator[None]:
        """While this lasts the table is on the terminal."""
        self.show = show
        if not (show and self.console.is_terminal):
            yield
            return
        with Live(get_renderable=self.table, console=self.console, refresh_per_second=2):
            yield

    def begin(self, name: str) -> None:
        """This stage comes next: it is measured how fast it is, or it loads."""
        self.row = self.rows[name]
        self.row.state, self.row.began = "running", time.monotonic()
        self.say(f"{name} begins")

    def done(self, name: str) -> None:
        self.row.seconds, self.row.state = self.row.elapsed(), "done"
        self.say(f"{name} is done, {clock(self.row.seconds)}; {self.title()}")

    @contextmanager
    def preparing(self, stage, show):
        row, lines = self.row, Lines(self.row.name, self.console)

        def tell(what: str, done: int, total: int) -> None:
            row.doing = f"{what} {done}/{total}"
            if self.show and not self.console.is_terminal:
                lines(what, done, total)

        row.doing = "loading"
        with told(tell if show else None):
            yield
        row.doing = ""

    @contextmanager
    def follow(self, recipe, step, show):
        row = self.row
        row.seconds, row.began = row.elapsed(), time.monotonic()
        row.step = row.first = step
        row.steps = recipe.steps
        with super().follow(recipe, step, show):
            yield

    def step(self, step):
        self.row.step = step

    def log(self, step, loss, rate):
        row = self.row
        row.loss, row.rate = f"{loss:.4f}", f"{rate:.1f}/s"
        self.say(f"{row.name} step {step} of {row.steps} loss {row.loss} {row.rate} {clock(row.elapsed())}")

    def say(self, text: str) -> None:
        if self.show and not self.console.is_terminal:
            self.console.print(text, highlight=False, soft_wrap=True)

    def pace(self) -> float | None:
        """Seconds that a planned minute takes."""
        if self.hours is not None:
            return self.hours * 3600 / sum(row.minutes for row in self.rows.values())
        known = [row for row in self.rows.values() if row.seconds and row.state == "done"]
        spent, minutes = sum(row.seconds for row in known), sum(row.minutes for row in known)
        row = next((row for row in self.rows.values() if row.state == "running" and row.step > row.first), None)
        if row is not None:
            spent, minutes = spent + row.elapsed() + (row.left(None) or 0), minutes + row.minutes
        return spent / minutes if minutes else None

    def title(self) -> str:
        pace = self.pace()
        rows = [row.left(pace) for row in self.rows.values()]
        known = [left for left in rows if left is not None]
        return f"{clock(sum(known))} left" if len(known) == len(rows) else "time left is not known yet"

    def table(self) -> Table:
        pace = self.pace()
        table = Table(title=self.title(), title_justify="left", box=None)
        table.add_column("stage")
        for name in ("step", "loss", "samples", "time", "left"):
            table.add_column(name, justify="right")
        for row in self.rows.values():
            left = row.left(pace)
            steps = row.doing or (f"{row.step} of {row.steps}" if row.steps else row.state)
            remains = "" if left is None or row.state == "done" else clock(left)
            style = {"done": "green", "running": "bold", "waiting": "dim"}[row.state]
            taken = clock(row.elapsed()) if row.elapsed() else ""
            table.add_row(row.name, steps, row.loss, row.rate, taken, remains, style=style)
        return table


def clock(seconds: float) -> str:
    """1:02:03, or 2:03 below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
