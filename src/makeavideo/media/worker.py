"""One thread that does one job after another, for callers that a signal may interrupt at any moment.

concurrent.futures does not serve: its locks are Python code, so a KeyboardInterrupt in `submit` or `result` can leave
one locked for ever, and the thread then waits for it. A call of a SimpleQueue is C code, which is done or not.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

__all__ = ["Worker"]

_Job = tuple[Callable[..., None], tuple[Any, ...], "SimpleQueue[BaseException | None]"]


class Worker:
    """A thread for jobs in order. It ends when this object does, after the jobs that were given."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        # A daemon, since Python waits for others before it runs the finalizer that ends this one
        thread = threading.Thread(target=_work, args=(self._jobs,), name="video-writer", daemon=True)
        thread.start()
        weakref.finalize(self, _end, self._jobs, thread)

    def run(self, job: Callable[..., None], *args: Any) -> None:
        """Wait for `job(*args)` and raise what it raised. A job whose caller is interrupted is done all the same."""
        done: SimpleQueue[BaseException | None] = SimpleQueue()
        self._jobs.put((job, args, done))
        error = done.get()
        if error is not None:
            raise error


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    while (given := jobs.get()) is not None:
        job, args, done = given
        error: BaseException | None = None
        try:
            job(*args)
        except BaseException as raised:
            error = raised
        done.put(error)
        del given, job, args, done, error  # or the last job's owner lives as long as the thread waits


def _end(jobs: SimpleQueue[_Job | None], thread: threading.Thread) -> None:
    jobs.put(None)
    if thread is not threading.current_thread():
        thread.join()
