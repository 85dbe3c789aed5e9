"""A batch from its list to its manifest: what is there already is left alone, what fails stops nothing."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..media.disk import reason, write_whole
from ..signals import handled
from .jobs import Job, Plan
from .making import Made
from .manifest import Manifest

LOCK = ".batch.lock"


@dataclass
class Counts:
    """What became of a batch, in videos; `broken` are lines of which none could be asked for."""

    wanted: int = 0
    there: int = 0
    """Made by an earlier run."""
    made: int = 0
    failed: int = 0
    broken: int = 0
    twice: int = 0
    """Asked for again by another line, and made once."""

    @property
    def done(self) -> int:
        return self.there + self.made + self.failed


class Batch:
    """A folder of videos and the jobs that are to fill it; as a context manager the only one at work there.

    Args:
        plan: of the list.
        folder: of the videos; it is made.

    Raises:
        UserError: the folder cannot be written, or another batch is at work in it.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        from filelock import FileLock

        self.plan, self.folder = plan, folder
        self.counts = Counts(wanted=len(plan.jobs), broken=len(plan.broken), twice=plan.twice)
        make_folder(folder)
        self._lock = FileLock(folder / LOCK, blocking=False)

    def __enter__(self) -> Batch:
        from filelock import Timeout

        try:
            self._lock.acquire()
            self.manifest = Manifest(self.folder)
            self.manifest.begin()
        except Timeout:
            raise UserError(
                f"Another batch is at work in {self.folder}: wait for it, or choose another folder."
            ) from None
        except OSError as error:
            raise UserError(f"The folder {self.folder} cannot be written: choose another one.") from error
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.manifest.settle(self.plan.jobs)
        finally:
            self._lock.release()

    def missing(self) -> list[Job]:
        """The jobs that are still to do. Broken lines, and files that are in the way, go into the manifest."""
        for broken in self.plan.broken:
            self.manifest.add({"line": broken.line, "status": "failed", "error": broken.error, "said": broken.said})
        return [job for job in self.plan.jobs.values() if not self._is_there(job)]

    def _is_there(self, job: Job) -> bool:
        """Whether nothing is to do: it is made already, or something else is in its place."""
        path = self.folder / job.name
        told = self.manifest.made.get(job.name)
        if not os.path.lexists(path):
            return False
        size = path.stat().st_size if path.is_file() else None
        if told is not None and told.get("key") == job.key:
            wrong = "" if told.get("bytes") == size else "is not as it was made: remove it, and it is made again"
        elif told is None and size is not None and job.recipe.items() <= (found := read_recipe_of(path) or {}).items():
            # a process that was killed between the file and its line
            self.manifest.add(line_of(Made(job, found, size)))
            wrong = ""
        else:
            wrong = "is there already and shows something else: move it away, or choose another output"
        if wrong:
            self._fail(job, f"{job.name} {wrong}.")
        else:
            self.manifest.made[job.name]["line"] = job.line
            self.counts.there += 1
        return True

    def _fail(self, job: Job, error: str) -> None:
        self.counts.failed += 1
        told = {"line": job.line, "status": "failed", "file": job.name, "error": error}
        self.manifest.add({**told, "prompt": job.prompt, "seed": job.order.seed})

    def take(self, made: Made) -> None:
        """Note what came of a job; a file that was made elsewhere is written. Ctrl-C comes before or after all of it.

        Raises:
            UserError: it cannot be.
        """
        with uninterrupted():
            if made.error is not None:
                self.manifest.made.pop(made.job.name, None)
                self._fail(made.job, made.error)
                return
            if made.data is not None:
                write_whole(self.folder / made.job.name, made.data)
            self.manifest.add(line_of(made))
            self.counts.made += 1


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """SIGINT and SIGTERM that come meanwhile are heard at the end."""
    heard: list[int] = []
    try:
        with handled(lambda number, _: heard.append(number), signal.SIGINT, signal.SIGTERM):
            yield
    finally:
        if heard:
            signal.raise_signal(heard[0])


def make_folder(folder: Path) -> None:
    """Raises UserError where a folder of videos cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be made ({reason(error)}): choose another one.") from error


def read_recipe_of(path: Path) -> dict[str, Any] | None:
    """None where it is no video of ours."""
    from ..media.reader import read_recipe

    with contextlib.suppress(UserError):
        return read_recipe(path)
    return None


def line_of(made: Made) -> dict[str, Any]:
    job = made.job
    told = {"line": job.line, "status": "made", "file": job.name, "prompt": job.prompt, "seed": job.order.seed}
    times = {"seconds": round(made.seconds, 2)} if made.seconds else {}
    return {**told, "bytes": made.size, **times, "key": job.key, "recipe": made.recipe}
