"""What a measure gives back: values with their intervals, and all that they depend on, as one JSON file."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

LEVEL = 0.95


@dataclass
class Value:
    """A figure and its bootstrap interval; None where none was asked for or none can be had (`note` says why)."""

    value: float | None
    interval: tuple[float, float] | None = None
    note: str | None = None


@dataclass
class Result:
    """One measure on one set of videos.

    measure: what it is called in a table, with its qualifier.
    values: figures by name.
    settings: protocol, folders, everything that was chosen.
    counts: videos, clips, frames, and what was left out.
    network: name and hash of the weights; None where there is no network.
    """

    measure: str
    values: dict[str, Value]
    settings: dict[str, Any]
    counts: dict[str, int]
    seed: int
    network: dict[str, str] | None = None
    bootstrap: dict[str, Any] | None = None
    makeavideo: str = field(default_factory=lambda: version("makeavideo"))

    def as_dict(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self), default=plain))

    def save(self, path: str | Path) -> Path:
        """Write the result as JSON; missing folders are made."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return path


def plain(value: Any) -> Any:
    """What JSON cannot hold by itself: paths, data classes, NumPy's numbers."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value.item() if isinstance(value, np.generic) else str(value)


def bootstrap(
    statistic: Callable[..., float], sizes: Sequence[int], draws: int, seed: int, centre: float | None = None
) -> tuple[float, float] | None:
    """95 % interval of a statistic of one or more samples (Efron's percentile bootstrap), None without draws.

    Args:
        statistic: called with one array of indices for each sample, drawn with replacement.
        sizes: how many items each sample has.
        draws: how many resamples; 0 for none.
        seed: the same seed gives the same interval.
        centre: move the interval so that the resamples' mean falls on this value. For statistics that resampling
            biases: a resample has fewer different items, which makes a Fréchet distance larger. The interval is then
            the spread at this number of videos; the bias that few videos give the distance itself is not in it.
    """
    if draws < 1 or min(sizes) < 2:
        return None
    rng = np.random.default_rng(seed)
    found = np.array([statistic(*(rng.integers(0, size, size) for size in sizes)) for _ in range(draws)])
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(found, (tail, 1 - tail))
    move = 0.0 if centre is None else centre - found.mean()
    return float(low + move), float(high + move)


def bootstrap_settings(draws: int) -> dict[str, Any] | None:
    return {"draws": draws, "level": LEVEL, "resampled": "videos"} if draws else None


def mean_value(items: np.ndarray, draws: int, seed: int) -> Value:
    """Mean of one figure a video, and its interval."""
    return Value(float(items.mean()), bootstrap(lambda chosen: items[chosen].mean(), [len(items)], draws, seed))
