"""Work shared among processes, of which one may be killed."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from threading import Thread
from typing import TypeVar

from ..errors import UserError

Given = TypeVar("Given")
Result = TypeVar("Result")


def mapped(function: Callable[[Given], Result], items: Iterable[Given], workers: int) -> Generator[Result, None, None]:
    """The function's results in the order of the items; in this process where `workers` is 1.

    Raises:
        UserError: a process was killed, as Linux does where memory runs out.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    try:
        with ProcessPoolExecutor(workers, initializer=end_with_parent) as pool:
            yield from pool.map(function, items)
    except BrokenProcessPool:
        raise UserError(
            "A process that works on the data was killed, maybe for want of memory: start again with fewer --workers."
        ) from None


def end_with_parent() -> None:
    """This process ends when the one that started it is killed, which leaves it without work and without an end."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()
