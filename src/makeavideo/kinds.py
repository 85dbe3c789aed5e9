"""Of what kind something is that somebody gave: numbers of every library count, and True is none."""

import math
from numbers import Integral, Real
from typing import Any

from .errors import UserError
from .nesting import SHORT


def is_whole(value: Any) -> bool:
    """Whether it is a whole number, of 64 bits at most."""
    return isinstance(value, Integral) and not isinstance(value, bool) and abs(int(value)) < 2**63


def is_number(value: Any) -> bool:
    """Whether it is a number that a float can hold."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True


def check_number(name: str, value: Any) -> None:
    """Raises UserError where it is no number, or not a finite one."""
    if not is_number(value) or not math.isfinite(value):
        raise UserError(f"{name} {SHORT.repr(value)} is not possible: give a number.")
