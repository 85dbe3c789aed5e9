"""One queue and one worker for all people: a processor or a GPU makes one video at a time."""

from __future__ import annotations

import secrets
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

from ..errors import UserError

__all__ = ["Job", "Jobs", "Stopped"]

State = Literal["waiting", "working", "done", "stopped", "failed"]

KEPT = 200
"""Jobs that are remembered after their end, for pages that ask late."""
PREVIEWS_KEPT = 8
"""Of these jobs the newest keep their preview too, of several megabytes: a browser may still be fetching it."""


class Stopped(Exception):
    """The person has pressed Stop: unwinds the work, which then keeps what there is."""


class Job:
    """A video that is wanted, in the making, or made.

    The token is all that a page or a client needs to watch and to stop it, so it cannot be guessed.

    Attributes:
        client: who asked, as far as the server can tell.
        stage: what is being done, in words.
        share: how much of the work is done, 0 to 1.
        seconds_left: an estimate, None before there is one.
        version: of the preview, 0 before there is any.
        preview: the bytes of an mp4.
        preview_name: which version of the video that is, in words.
        result: the name of the video in the gallery.
        error: one sentence, for the person who asked.
    """

    def __init__(self, use: str, request: Any, client: str = "") -> None:
        self.token = secrets.token_urlsafe(16)
        self.use, self.request, self.client = use, request, client
        self.state: State = "waiting"
        self.stage, self.share = "", 0.0
        self.seconds_left: float | None = None
        self.version, self.preview, self.preview_name = 0, b"", ""
        self.result: str | None = None
        self.error: str | None = None
        self.stop_asked = threading.Event()
        self.ended_at: float | None = None

    @property
    def over(self) -> bool:
        return self.state in ("done", "stopped", "failed")

    def check(self) -> None:
        """Raises Stopped once Stop was pressed; called often while the networks work."""
        if self.stop_asked.is_set():
            raise Stopped

    def show(self, preview: bytes, name: str) -> None:
        self.preview, self.preview_name = preview, name
        self.version += 1


class Jobs:
    """The queue and its worker, a daemon thread.

    Args:
        work: makes one job's video and returns its name in the gallery, None if there is nothing to keep. Where
            `job.check` raises Stopped, it keeps what there is and returns as usual.
        limit: how many may wait; half of them may be of one client, so that there is room for others.
    """

    def __init__(self, work: Callable[[Job], str | None], limit: int) -> None:
        self._work, self.limit = work, limit
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._waiting: list[Job] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="studio-worker", daemon=True).start()

    def submit(self, use: str, request: Any, client: str = "") -> Job:
        """Put a job at the end of the queue.

        Raises:
            UserError: as many are waiting as may, of all or of this client.
        """
        with self._changed:
            if len(self._waiting) >= self.limit:
                raise UserError(
                    f"The queue is full: {self.limit} videos are waiting already, please try again in a few minutes."
                )
            mine = sum(job.client == client for job in self._waiting)
            if client and mine >= max(1, self.limit // 2):
                raise UserError(f"{mine} videos of yours are waiting already: wait for one of them, or stop it.")
            job = Job(use, request, client)
            self._jobs[job.token] = job
            self._waiting.append(job)
            self._changed.notify_all()
        return job

    def find(self, token: Any) -> Job | None:
        return self._jobs.get(token) if isinstance(token, str) else None

    def position(self, job: Job) -> int:
        """1: next; 0: not waiting."""
        with self._changed:
            return self._waiting.index(job) + 1 if job in self._waiting else 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def stop(self, token: Any) -> Job | None:
        """Take a waiting job out of the queue, or tell the worker to leave off; None for an unknown token."""
        job = self.find(token)
        if job is None:
            return None
        with self._changed:
            job.stop_asked.set()
            if job in self._waiting:
                self._waiting.remove(job)
                self._end(job, "stopped")
        return job

    def _end(self, job: Job, state: State) -> None:
        job.state, job.seconds_left, job.ended_at = state, None, time.monotonic()
        over = [token for token, other in self._jobs.items() if other.over]
        for token in over[:-PREVIEWS_KEPT]:
            self._jobs[token].preview = b""
        for token in over[:-KEPT]:
            del self._jobs[token]

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                job = self._waiting.pop(0)
                job.state = "working"
            try:
                job.result = self._work(job)
                state: State = "stopped" if job.stop_asked.is_set() else "done"
            except Stopped:
                state = "stopped"
            except UserError as error:
                job.error, state = str(error), "failed"
            except Exception:  # one person's trouble must not end the worker that all share
                traceback.print_exc(file=sys.stderr)
                job.error, state = (
                    "Something went wrong while this video was made: please try other settings.",
                    "failed",
                )
            with self._changed:
                self._end(job, state)
