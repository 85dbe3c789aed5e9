"""What a measure or a benchmark gives back: figures and all that they depend on, as one JSON file."""

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import UserError
from ..media.disk import write_whole

LEVEL = 0.95


def machine() -> dict[str, Any]:
    """What times depend on, and roundings: the processor, its cores, the threads used, and torch's version."""
    info = Path("/proc/cpuinfo")
    lines = [line.partition(":") for line in info.read_text().splitlines()] if info.exists() else []
    facts = {name.strip(): value.strip() for name, _, value in reversed(lines)}
    processor = facts.get("model name", platform.processor() or platform.machine())
    # rented machines often hide which processor of the maker it is; its family and model tell
    if "cpu family" in facts:
        processor += f" (family {facts['cpu family']}, model {facts['model']})"
    cores = os.cpu_count()
    return {"processor": processor, "cores": cores, "threads": torch.get_num_threads(), "torch": torch.__version__}


def command_line() -> str:
    """What was typed, as it can be typed anywhere: without the folders of this machine.

    A path in the working folder is relative to it, of one elsewhere only the last part is kept: whoever measures again
    has their own data, and wants a sheet where they can see it.
    """
    program = Path(sys.argv[0])
    start = ["python", os.path.relpath(program)] if program.suffix == ".py" else [program.name]
    if program.name == "__main__.py" and program.parent.name in ("makeavideo", "cli"):  # python -m makeavideo
        start = ["make-a-video"]
    return shlex.join([*start, *(anywhere(argument) for argument in sys.argv[1:])])


def anywhere(argument: str) -> str:
    """An argument without the folders of this machine; `--option=path` too. What is no path outside stays."""
    option, equals, value = argument.rpartition("=") if argument.startswith("--") else ("", "", argument)
    path = Path(value)
    if not path.is_absolute() and ".." not in path.parts:
        return argument
    path = Path(os.path.abspath(path))
    within = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else Path(path.name)
    return f"{option}{equals}{within}"


def today() -> str:
    return date.today().isoformat()


def save_benchmark(
    path: Path, benchmark: str, arguments: argparse.Namespace, figures: Any, weights: str | None = None
) -> None:
    """Write a benchmark's figures as JSON, in the form that benchmarks/results_page.py reads.

    arguments: the command line's; what is no path, and no list of paths, becomes "settings", and "seed".
    weights: the hash of the cascade's, None where it has no part.
    """
    settings = {name: value for name, value in vars(arguments).items() if not is_place(value)}
    record = {
        "benchmark": benchmark,
        "command": command_line(),
        "date": today(),
        "machine": machine(),
        "makeavideo": version("makeavideo"),
        "weights": weights,
        "seed": settings.pop("seed", None),
        "settings": settings,
        "figures": figures,
    }
    write_whole(path, json.dumps(record, indent=2, ensure_ascii=False, default=plain) + "\n")


def one_sentence(main: Callable[[], None]) -> None:
    """Run a script whose UserError becomes one line and exit code 2."""
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


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
    still_pictures: files of one frame among the videos, which are not measured.
    network: name and hash of the weights; None where there is no network.
    command, date, machine: where the figures come from.
    """

    measure: str
    values: dict[str, Value]
    settings: dict[str, Any]
    counts: dict[str, int]
    seed: int
    still_pictures: list[str] = field(default_factory=list)
    network: dict[str, str] | None = None
    bootstrap: dict[str, Any] | None = None
    makeavideo: str = field(default_factory=lambda: version("makeavideo"))
    command: str = field(default_factory=command_line)
    date: str = field(default_factory=today)
    machine: dict[str, Any] = field(default_factory=machine)

    def as_dict(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self), default=plain))

    def save(self, path: str | Path) -> Path:
        """Write the result as JSON; missing folders are made."""
        path = Path(path)
        write_whole(path, json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n")
        return path


def is_place(value: Any) -> bool:
    """Whether a setting is nothing, or says where something lies on this machine."""
    return isinstance(value, Path | None) or (isinstance(value, list) and any(isinstance(one, Path) for one in value))


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


def bootstrap_settings(draws: int, resampled: str = "videos") -> dict[str, Any] | None:
    return {"draws": draws, "level": LEVEL, "resampled": resampled} if draws else None


def mean_value(items: np.ndarray, draws: int, seed: int) -> Value:
    """Mean of one figure a video, and its interval."""
    return Value(float(items.mean()), bootstrap(lambda chosen: items[chosen].mean(), [len(items)], draws, seed))
