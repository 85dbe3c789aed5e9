"""Long work before the first step of a stage: whoever watches the run is told how far it is."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Item = TypeVar("Item")

Tell = Callable[[str, int, int], None]
"""(what is done, how many times it is done, how many times it has to be)."""

_tell: ContextVar[Tell | None] = ContextVar("tell", default=None)


@contextmanager
def told(tell: Tell | None) -> Iterator[None]:
    """While this lasts `tell` hears of what is `prepared`."""
    token = _tell.set(tell)
    try:
        yield
    finally:
        _tell.reset(token)


def prepared(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """The items, each of them told of when the next one is asked for."""
    tell = _tell.get()
    for done, item in enumerate(items):
        if tell is not None:
            tell(what, done, total)
        yield item
    if tell is not None:
        tell(what, total, total)
