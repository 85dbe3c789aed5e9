"""How long reading a file may take: who waits for it can end it, at every step and at every read of the file."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, BinaryIO

__all__ = ["MAX_SECONDS", "TooSlow", "Watched", "interrupt", "within"]

interrupt: ContextVar[Callable[[], None]] = ContextVar("interrupt", default=lambda: None)
"""Called at every step through a file that is read, which can take long: what it raises ends the reading."""

MAX_SECONDS = 30.0
"""Of work on a picture, or on the frames of an animation, where nobody says less."""


class TooSlow(Exception):
    """Reading took more work than it may; never leaves the package."""

    def __init__(self) -> None:
        super().__init__("takes too long to read")


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Reading ends as `TooSlow` after so much work of this thread; a busy machine takes nothing away from it."""
    before, end = interrupt.get(), time.thread_time() + seconds

    def check() -> None:
        before()
        if time.thread_time() > end:
            raise TooSlow

    token = interrupt.set(check)
    try:
        yield
    finally:
        interrupt.reset(token)


class Watched:
    """A file for Pillow, whose own loops nothing else could end: it counts the frames of a gif one by one, and puts a
    comment together from pieces of 255 bytes, each time anew."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        interrupt.get()()
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
