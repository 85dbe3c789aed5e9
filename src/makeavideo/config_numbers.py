"""Whether the numbers of a config can be those of a network or a scheduler: looked at before anything is built."""

import math
from collections.abc import Iterator
from typing import Any

ANY = (-math.inf, math.inf)
LARGEST = 2**31
"""Numbers in a config beyond it are no sizes of a network."""
BOUNDS = {
    "freq_shift": (0.0, 1.0),
    "shift": (1e-2, 1e2),
    "eps": (1e-16, 0.1),
    "scale_factor": (1e-3, 1e3),
    "scaling_factor": (1e-3, 1e3),
}
"""By the last words of their names, the first that fits: beyond them a network gives nothing, or no numbers."""


def fault_in(values: Any, network: bool = True) -> str | None:
    """What is wrong with the first number of a json that cannot be; None: nothing.

    network: of a network, whose numbers are sizes; a scheduler's may be negative or infinite.
    """
    for key, value in numbers_in(values):
        negative = isinstance(value, int) and value < 0 and not key.endswith("_id")
        endless = not isinstance(value, int) and not math.isfinite(value)
        if network and (negative or endless or abs(value) > LARGEST):
            return f"{key} is {str(value)[:40]}, which is no size of a network"
        low, high = next((bounds for end, bounds in BOUNDS.items() if f"_{key}".endswith(f"_{end}")), ANY)
        if not low <= value <= high:
            return f"{key} is {str(value)[:40]}, but has to be a number from {low:g} to {high:g}"
    return None


def numbers_in(values: Any, key: str = "") -> Iterator[tuple[str, int | float]]:
    """All numbers of a json, each with the name that it stands under."""
    if isinstance(values, dict):
        for name, value in values.items():
            yield from numbers_in(value, name)
    elif isinstance(values, list):
        for value in values:
            yield from numbers_in(value, key)
    elif isinstance(values, int | float) and not isinstance(values, bool):
        yield key, values
