"""Making one video of a batch: in this process, or in that of a worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..orders import Model, generate
from .jobs import Job

if TYPE_CHECKING:
    import numpy as np

    from ..work import Watcher


@dataclass(frozen=True)
class Made:
    """What came of a job: its recipe and size in bytes, or the sentence that says why there is no video."""

    job: Job
    recipe: dict[str, Any]
    size: int = 0
    seconds: float = 0.0
    error: str | None = None
    data: bytes | None = None
    """The file, where it was made elsewhere."""


class NoRoom(UserError):
    """The disk is full: the next video would not fit either."""


def make(
    model: Model,
    job: Job,
    path: Path,
    watcher: Watcher | None = None,
    written: Callable[[int], None] = lambda frames: None,
) -> Made:
    """The file of `job` under `path`; it appears when it is whole. What goes wrong is in the result.

    watcher: is told of the steps, `written` of the frames that are in the file.

    Raises:
        NoRoom: the disk is full.
    """
    from ..media.disk import FULL
    from ..media.writer import write_video

    started = time.monotonic()
    order, recipe = job.order, model.recipe(job.order)

    def frames() -> Iterator[np.ndarray]:
        done = 0
        for chunk in model.frames(order, generate(job.prompt, order.what["negative_prompt"]), watcher):
            yield from chunk
            done += len(chunk)
            written(done)

    try:
        write_video(path, frames(), order.settings.fps, recipe, job.quality)
        return Made(job, recipe, path.stat().st_size, time.monotonic() - started)
    except UserError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in FULL:
            raise NoRoom(str(error)) from error
        return Made(job, recipe, error=str(error))
    except Exception as error:  # whatever it is, it is this video's: the next one may be fine
        return Made(job, recipe, error=first_line(error))


def first_line(error: BaseException) -> str:
    """An error in one line, for the manifest: ours is one, of others it is their kind and the first one."""
    if isinstance(error, UserError):
        return str(error)
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
