"""The bars that figures are held against, and the words of each comparison: what results_page.py says of a figure.

A function of CHECKS takes what one benchmark wrote and gives (what, value, bar) for each figure that is asked for.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from generate import bar_of


@dataclass(frozen=True)
class Bar:
    """What is asked of a figure. percent: it is a share, shown as such; digits: significant ones that are shown."""

    low: float = -math.inf
    high: float = math.inf
    percent: bool = False
    unit: str = ""
    digits: int = 3

    def met(self, value: float) -> bool:
        return self.low <= value <= self.high

    def show(self, value: float) -> str:
        return f"{100 * value:.3g} %" if self.percent else f"{number(value, self.digits)}{self.unit}"

    def __str__(self) -> str:
        bounds = {"at least": self.low, "at most": self.high}
        shown = {words: f"{100 * x:.3g} %" if self.percent else f"{x:.4g}{self.unit}" for words, x in bounds.items()}
        return ", ".join(f"{words} {shown[words]}" for words, x in bounds.items() if math.isfinite(x))


BARS = {
    "labels": Bar(low=0.97, percent=True),
    "known keywords": Bar(low=0.97, percent=True),
    "held-out keywords": Bar(low=0.6, percent=True),
    "sentences": Bar(low=0.88, percent=True),
    "likeness, first": Bar(low=0.9, percent=True),
    "likeness, first five": Bar(low=0.97, percent=True),
    "motion": Bar(low=0.75, high=1.33),
    "background": Bar(high=1),
    "strength": Bar(low=3),
    "edges": Bar(low=0.85, high=1.15),
    "flat": Bar(high=0.5),
    "halo": Bar(high=2),
    "flicker": Bar(high=1),
    "seam": Bar(high=1.5),
    "loop": Bar(high=1.2),
    "drift": Bar(low=-0.1, percent=True),
    "memory": Bar(high=1.1),
    "peak": Bar(high=4, unit=" GiB"),
    "bfloat16": Bar(high=1.10),
    "float32": Bar(high=1.25),
    "peer": Bar(low=3.4),
    "fed": Bar(high=1.1),
    "long clip": Bar(high=200, unit=" MB"),
    "prior": Bar(high=10, unit=" s"),
    "workers": Bar(low=1.6),
}
"""Every bar of the page; interpolation is held against the other ways to fill a gap instead, and seconds from start to
file against what the machine's rate allows (generate.bar_of)."""


@dataclass(frozen=True)
class Check:
    """A figure against its bar, in words."""

    part: str
    what: str
    value: float
    bar: Bar

    @property
    def met(self) -> bool:
        return self.bar.met(self.value)

    @property
    def shown(self) -> str:
        return self.bar.show(self.value)

    @property
    def verdict(self) -> str:
        return "met" if self.met else "**not met**"


def number(value: float | None, digits: int = 3) -> str:
    """To so many significant digits, without exponents."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    return f"{value:,.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def interval(ends: list[float] | None) -> str:
    return f"{number(ends[0])} to {number(ends[1])}" if ends else "-"


def wording(record: dict) -> Iterator[tuple[str, float, Bar]]:
    f = record["figures"]
    yield "labels, right concept first", f["labels"]["top-1"], BARS["labels"]
    known = f["known keywords of one group"]["top-5"]
    yield "known keywords that one concept has, among the first five", known, BARS["known keywords"]
    for kind in ("held-out keywords", "sentences"):
        yield f"{kind}, right concept among the first five", f[kind]["top-5"], BARS[kind]


def sharpness(record: dict) -> Iterator[tuple[str, float, Bar]]:
    f = record["figures"]["generated"]
    for size in (size for size in ("256", "768") if size in f):
        yield f"edges at {size} pixels, as a ratio to the real pictures'", f[size]["edges"], BARS["edges"]
        yield f"gradient of flat areas at {size}, above the real pictures'", f[size]["flat"], BARS["flat"]
        yield f"halo at {size}, levels", f[size]["halo"], BARS["halo"]
    flicker = f["flicker"]["large"] / f["flicker"]["small"] if f["flicker"]["small"] else 1.0
    yield "flicker of still areas at 256, as a ratio to the small frames'", flicker, BARS["flicker"]
    for size, ways in record["figures"]["held out"].items():
        ours, bicubic = ways["this model"]["psnr"], ways["bicubic"]["psnr"]
        yield f"PSNR of real small frames to {size}", ours, Bar(low=bicubic + 1, unit=" dB")


def emoji_bars(record: dict) -> Iterator[tuple[str, float, Bar]]:
    f = record["figures"]
    yield "right concept first", f["right concept first"], BARS["likeness, first"]
    yield "right concept among the first five", f["right concept in first five"], BARS["likeness, first five"]
    moving = f["motion ratio, animated concepts"]
    yield "motion of concepts that move, as a ratio to their real clips'", moving, BARS["motion"]
    yield (
        "background change from frame to frame, 99th percentile",
        f["background change, 99th percentile"],
        BARS["background"],
    )


def dials(record: dict) -> Iterator[tuple[str, float, Bar]]:
    made = {row["motion"]: row["made"] for row in record["figures"]["motions"]}
    if 0.3 in made and 1.5 in made:
        yield "motion at a strength of 1.5, as a ratio to that at 0.3", made[1.5] / made[0.3], BARS["strength"]


def interpolation(record: dict) -> Iterator[tuple[str, float, Bar]]:
    ours, *others = (record["figures"]["ways"][name] for name in ("F-up", "cross-fade", "optical flow (DIS)"))
    for name, theirs in zip(("the cross-fade's", "the optical flow's"), others, strict=True):
        # the next number after theirs: as good as they is not better
        psnr, ssim = math.nextafter(theirs["psnr"], math.inf), math.nextafter(theirs["1 - ssim"], 0.0)
        yield f"F-up's PSNR, above {name}", ours["psnr"], Bar(low=psnr, digits=4)
        yield f"F-up's 1 - SSIM, below {name}", ours["1 - ssim"], Bar(high=ssim)


def seams(record: dict) -> Iterator[tuple[str, float, Bar]]:
    rows = record["figures"].values()
    yield "largest seam", max(row["largest seam / median"] for row in rows), BARS["seam"]
    yield "largest step from a loop's end to its start", max(row[LOOP] for row in rows), BARS["loop"]


LOOP = "loop: last to first / median"


def falls(record: dict) -> dict[str, float]:
    """How much the likeness of each prompt's video changes from its first window to its last, as a share."""
    return {prompt: curve[-1] / curve[0] - 1 for prompt, curve in record["figures"].items()}


def drift(record: dict) -> Iterator[tuple[str, float, Bar]]:
    found, what = falls(record), f"change of likeness to the prompt after {record['settings']['seconds']:g} s"
    yield f"{what}, mean over prompts", sum(found.values()) / len(found), BARS["drift"]
    yield f"{what}, worst prompt ({min(found, key=found.get)})", min(found.values()), BARS["drift"]


def memory(record: dict) -> Iterator[tuple[str, float, Bar]]:
    first, *others = record["figures"]
    for row in others:
        yield f"peak memory of {row['times']} times the length, as a ratio", row["GiB"] / first["GiB"], BARS["memory"]


def generate(record: dict) -> Iterator[tuple[str, float, Bar]]:
    rows = record["figures"]["generate"]
    for row in rows:
        limit = bar_of(row["options"], record["figures"]["convolution GFLOP/s"])
        if limit is not None:
            yield f"`generate {row['options']}`, start to file", row["seconds"], Bar(high=limit, unit=" s")
    yield "peak memory of any of them", max(row["GiB"] for row in rows), BARS["peak"]


def space_time(record: dict) -> Iterator[tuple[str, float, Bar]]:
    networks, seconds = record["figures"]["networks"], record["figures"]["seconds"]
    for precision, times in seconds.items():
        for other in (name for name in times if name.startswith("2-D")):
            what = f"inflated, time as a ratio to {other} ({precision})"
            yield what, times["inflated"] / times[other], BARS[precision]
        if "peer" in times:
            ours, theirs = (networks[name]["GFLOP"] / times[name] for name in ("inflated", "peer"))
            yield f"inflated, operations a second, of the peer's ({precision})", ours / theirs, BARS["peer"]


def data_start(record: dict) -> Iterator[tuple[str, float, Bar]]:
    f = record["figures"]
    yield "the set is open", f["start"], Bar(high=2, unit=" s")
    yield "the first batch", f["first batch"], Bar(high=5, unit=" s")
    yield "going on in the middle of a run: open, and the first batch", f["resume"], Bar(high=3, unit=" s")
    yield "memory of the largest process", f["memory"], Bar(high=300, unit=" MB")


def prior_start(record: dict) -> Iterator[tuple[str, float, Bar]]:
    yield "a prior's first step", record["figures"]["start"], BARS["prior"]


def batch_ray(record: dict) -> Iterator[tuple[str, float, Bar]]:
    workers = record["settings"]["workers"]
    yield f"videos of {workers} workers, as a ratio to those of one", record["figures"]["ratio"], BARS["workers"]


def feeding(record: dict) -> Iterator[tuple[str, float, Bar]]:
    f = record["figures"]
    costs = "alone" if f["device"] == "cuda" else "alone, one that costs nothing"
    for stage, row in f["stages"].items():
        yield f"a step of {stage}, as a ratio to the network's {costs}", row["ratio"], BARS["fed"]
    most = max(row[place] for row in f["long clips"].values() for place in ("folder", "shard"))
    yield "memory that a long clip adds, at most", most, BARS["long clip"]


CHECKS: dict[str, Callable[[dict], Iterator[tuple[str, float, Bar]]]] = {
    "wording": wording,
    "emoji_bars": emoji_bars,
    "sharpness": sharpness,
    "interpolation": interpolation,
    "dials": dials,
    "seams": seams,
    "drift": drift,
    "memory": memory,
    "generate": generate,
    "space_time": space_time,
    "data_start": data_start,
    "prior_start": prior_start,
    "feeding": feeding,
    "batch_ray": batch_ray,
}


VARIANTS = {
    "paper": "pseudo-3-D, all weights (the paper)",
    "attention": "attention only",
    "frozen": "temporal weights only",
    "random": "no text-to-image start",
}
DISTANCE = "emoji-feature distance"


def mean_and_spread(figure: Any) -> tuple[float | None, float | None]:
    """Of the thesis' figures: a number, or its mean and spread over seeds."""
    return (figure["mean"], figure.get("spread")) if isinstance(figure, dict) else (figure, None)


def with_spread(figure: Any) -> str:
    mean, spread = mean_and_spread(figure)
    return number(mean) if spread is None else f"{number(mean)} ± {number(spread, 2)}"


def standing(record: dict, figure: str = DISTANCE) -> dict[str, list[str]]:
    """Against which variants the paper's has the smaller figure, the larger one, or one within the seeds' spread."""
    found: dict[str, list[str]] = {"ahead": [], "behind": [], "level": []}
    ours, our_spread = mean_and_spread(record["values"]["paper"][figure])
    for name, figures in record["values"].items():
        if name != "paper":
            theirs, their_spread = mean_and_spread(figures[figure])
            level = abs(theirs - ours) <= (our_spread or 0) + (their_spread or 0)
            found["level" if level else "ahead" if ours < theirs else "behind"].append(VARIANTS.get(name, name))
    return found


def losses(record: dict) -> list[str]:
    """The ways that F-up does not beat, with the measures."""
    ways = record["figures"]["ways"]
    ours, found = ways["F-up"], []
    for name, theirs in ways.items():
        if name != "F-up":
            worse = ["PSNR"] if ours["psnr"] <= theirs["psnr"] else []
            worse += [key.upper() for key in ("1 - ssim", "hog") if key in theirs and ours[key] >= theirs[key]]
            found += [f"{name} ({', '.join(worse)})"] if worse else []
    return found
