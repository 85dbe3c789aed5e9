"""docs/results.md and its plots, built from the JSON files of the benchmarks. No figure and no verdict in it is typed.

    python benchmarks/results_page.py

The words stand in results_page.md.j2, the bars that figures are held against in BARS below, the figures in
evaluation/results/NAME.json, where `--json` of each benchmark and of `make-a-video evaluate` writes them, in
evaluation/thesis.json and in evaluation/paper_results.json. What has no file yet gets the command that measures it.
"""

import argparse
import json
import math
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from generate import bar_of
from makeavideo.errors import UserError
from makeavideo.evaluation.results import one_sentence
from makeavideo.loading import weights_hash

TEMPLATE = Path(__file__).with_suffix(".md.j2")
RESULTS = Path("results")
MEASURE = {
    "wording": "wording.py data/emoji",
    "emoji_bars": "emoji_bars.py data/emoji --sheet docs/contact-sheet.png",
    "sharpness": "sharpness.py data/emoji",
    "interpolation": "interpolation.py data/emoji --sheet docs/interpolation-sheet.png",
    "seams": "long_video.py seams",
    "drift": "long_video.py drift",
    "memory": "long_video.py memory",
    "frame_rate": "frame_rate.py data/emoji",
    "generate": "generate.py",
    "space_time": "space_time.py",
    "floors": "floors.py data/emoji",
    "thesis": "thesis.py data/emoji --seeds 3",
}
"""What measures each part of the page."""
FILES = {name: RESULTS / f"{name}.json" for name in MEASURE} | {"thesis": Path("thesis.json")}
"""Where its figures are, in the folder evaluation."""


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


CHECKS: dict[str, Callable[[dict], Iterator[tuple[str, float, Bar]]]] = {
    "wording": wording,
    "emoji_bars": emoji_bars,
    "sharpness": sharpness,
    "interpolation": interpolation,
    "seams": seams,
    "drift": drift,
    "memory": memory,
    "generate": generate,
    "space_time": space_time,
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


# Plots. Each takes the figure's axes; those of FIGURES are drawn where their record is there.


def plot_interpolation(figure: plt.Figure, record: dict) -> None:
    figure.set_size_inches(7, 2.2)
    ways = record["figures"]["ways"]
    titles = {"psnr": ("PSNR, dB: more is better", 4), "1 - ssim": ("1 - SSIM: less is better", 2)}
    for axes, (key, (title, digits)) in zip(figure.subplots(1, 2, sharey=True), titles.items(), strict=True):
        # points and not bars: PSNR has no zero that lengths could start from
        for place, (name, way) in enumerate(ways.items()):
            axes.plot(way[key], place, "o", color="C1" if name == "F-up" else "C0")
            axes.annotate(number(way[key], digits), (way[key], place), (6, -3), textcoords="offset points", fontsize=8)
        axes.set_yticks(range(len(ways)), list(ways))
        axes.margins(x=0.25, y=0.2)
        axes.grid(axis="y", lw=0.5)
        axes.set_title(title, fontsize=9)
    figure.axes[0].invert_yaxis()


def plot_drift(figure: plt.Figure, record: dict) -> None:
    axes, seconds = figure.subplots(), record["settings"]["seconds"]
    curves = [[value / curve[0] for value in curve] for curve in record["figures"].values()]
    for name, curve in zip(record["figures"], curves, strict=True):
        axes.plot(places(len(curve), seconds), curve, lw=1, alpha=0.6, label=name)
    mean = [sum(values) / len(values) for values in zip(*curves, strict=True)]
    axes.plot(places(len(mean), seconds), mean, color="black", lw=2.5, label="mean")
    axes.axhline(1 + BARS["drift"].low, color="red", ls="--", lw=1, label="asked for: above")
    axes.set(xlabel="seconds", ylabel="likeness to the prompt,\nas a share of the first window's")
    axes.legend(fontsize=7, ncols=2, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.set_size_inches(8, 3.2)


def places(count: int, seconds: float) -> list[float]:
    """The middle of each window, in seconds."""
    return [(i + 0.5) * seconds / count for i in range(count)]


def plot_memory(figure: plt.Figure, record: dict) -> None:
    rows = record["figures"]
    axes = figure.subplots()
    axes.plot([row["frames"] for row in rows], [row["GiB"] for row in rows], "o-", label="peak memory")
    axes.axhline(BARS["memory"].high * rows[0]["GiB"], color="red", ls="--", lw=1, label="asked for: below")
    axes.set_xscale("log", base=2)
    axes.set_xticks([row["frames"] for row in rows], [str(row["frames"]) for row in rows], minor=False)
    axes.set(xlabel="frames", ylabel="GiB", ylim=(0, 1.2 * max(row["GiB"] for row in rows)))
    axes.legend(fontsize=8, loc="lower right")


def plot_frame_rate(figure: plt.Figure, record: dict) -> None:
    rows, axes = record["figures"], figure.subplots()
    for key in ("made", "real"):
        axes.plot([row["fps"] for row in rows], [row[key] for row in rows], "o-", label=key)
    axes.set(xlabel="frames a second", ylabel="motion from frame to frame,\nlevels of 255", ylim=(0, None))
    axes.legend()


def plot_thesis(figure: plt.Figure, record: dict) -> None:
    values = record["values"]
    known = [name for name in next(iter(values.values()), {}) if all(name in figures for figures in values.values())]
    wanted = (DISTANCE, "motion, never seen moving", "flicker", "right concept in first five, never seen moving")
    chosen = [name for name in wanted if name in known] or known[:4]
    for axes, name in zip(figure.subplots(1, len(chosen), squeeze=False)[0], chosen, strict=True):
        found = [mean_and_spread(figures[name]) for figures in values.values()]
        at, colours = range(len(found)), ["C1" if variant == "paper" else "C0" for variant in values]
        axes.bar(at, [mean for mean, _ in found], yerr=[spread or 0 for _, spread in found], capsize=4, color=colours)
        axes.set_xticks(at, list(values), rotation=30, ha="right", fontsize=8)
        axes.set_title(name.replace(", never", ",\nnever"), fontsize=8)
    figure.set_size_inches(2.5 * len(chosen), 3)


FIGURES: dict[str, Callable[[plt.Figure, dict], None]] = {
    "interpolation": plot_interpolation,
    "drift": plot_drift,
    "memory": plot_memory,
    "frame_rate": plot_frame_rate,
    "thesis": plot_thesis,
}


WRONG = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)
"""What happens where a file holds something else than figures."""


class Figures(dict):
    """An object of a JSON file, which names the file when something lacks."""

    def __init__(self, file: Path, items: dict):
        super().__init__(items)
        self.file = file

    def __missing__(self, key: str) -> None:
        raise UserError(f"{self.file} has no {key!r}: measure it again, or remove it.")


def read(file: Path) -> Any:
    """Raises UserError: no JSON."""
    try:
        return json.loads(file.read_text(encoding="utf-8"), object_hook=lambda items: Figures(file, items))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is no JSON ({error}): measure it again, or remove it.") from None


def origin(record: Figures, evaluation: Path, current: str | None) -> str:
    """The command and a few words on when, where and of which weights. current: hash of the weights of today."""
    machine = record["machine"]
    if isinstance(machine, dict):
        plural = {key: f"{{}} {key}".removesuffix("s" if machine.get(key) == 1 else "") for key in ("cores", "threads")}
        words = plural | {"memory": "{}", "precision": "{}", "torch": "torch {}"}
        known = [text.format(machine[key]) for key, text in words.items() if machine.get(key) is not None]
        machine = ", ".join([machine["processor"], *known])
    parts = [record.get("date"), machine]
    if record.get("weights"):
        weights = f"weights `{record['weights']}`"
        parts.append(weights if record["weights"] == current else f"{weights}, **not those in models/emoji now**")
    line = "; ".join(part for part in parts if part) + "."
    line += "".join(f" {text[0].upper()}{text[1:]}." for text in record.get("notes", []))
    line += f" [Figures](../evaluation/{record.file.relative_to(evaluation).as_posix()})"
    command = f"    {record['command']}\n\n" if record.get("command") else ""
    return command + textwrap.fill(line, 120, break_long_words=False, break_on_hyphens=False)


def build(evaluation: Path, docs: Path, model: Path | None) -> Path:
    """Write docs/results.md and docs/results/*.png; the page's path.

    evaluation: the folder with results/*.json, thesis.json and paper_results.json.
    model: the cascade whose weights figures should be of; None: no word on that.

    Raises:
        UserError: a file that is no JSON, or lacks a figure.
    """
    files = {name: evaluation / file for name, file in FILES.items()}
    results = {name: read(file) if file.is_file() else None for name, file in files.items()}
    others = [read(file) for file in sorted((evaluation / RESULTS).glob("*.json")) if file not in files.values()]
    measures = [result for found in others for result in (found if isinstance(found, list) else [found])]
    pictures = docs / "results"
    pictures.mkdir(parents=True, exist_ok=True)
    checks: dict[str, list[Check]] = {}
    for name, record in results.items():
        if record is None:
            (pictures / f"{name}.png").unlink(missing_ok=True)
            continue
        try:
            checks[name] = [Check(name, *found) for found in CHECKS.get(name, lambda _: ())(record)]
            if name in FIGURES:
                figure = plt.figure(figsize=(5, 3), layout="constrained")
                FIGURES[name](figure, record)
                # without the version of matplotlib in it, the same figures give the same file
                figure.savefig(pictures / f"{name}.png", dpi=120, metadata={"Software": None})
                plt.close(figure)
        except UserError:
            raise
        except WRONG as error:
            raise UserError(f"{files[name]} cannot be used ({error}): measure it again, or remove it.") from None

    current = weights_hash(model) if model else None
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {
        "number": number,
        "interval": interval,
        "with_spread": with_spread,
        "percent": lambda x: f"{100 * x:.3g} %",
    }
    try:
        text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
            results=results,
            measures=measures,
            paper=read(evaluation / "paper_results.json"),
            checks=checks,
            all_checks=[check for found in checks.values() for check in found],
            measure={
                name: f"python benchmarks/{line} --json evaluation/{FILES[name]}" for name, line in MEASURE.items()
            },
            variants=VARIANTS,
            loop_step=LOOP,
            falls=falls,
            losses=losses,
            standing=standing,
            distance=DISTANCE,
            origin=lambda record: origin(record, evaluation, current),
            pictures={path.name for path in [*docs.glob("*.png"), *docs.glob("*.webp")]},
        )
    except UserError:
        raise
    except (jinja2.UndefinedError, *WRONG) as error:
        raise UserError(f"A file in {evaluation} cannot be used ({error}): measure again.") from None
    page = docs / "results.md"
    page.write_text(re.sub(r"\n{3,}", "\n\n", text), encoding="utf-8")
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).parents[1]
    parser.add_argument("--evaluation", type=Path, default=root / "evaluation", help="folder of the JSON files")
    parser.add_argument("--docs", type=Path, default=root / "docs", help="folder of the page")
    parser.add_argument("--model", type=Path, default=root / "models" / "emoji")
    arguments = parser.parse_args()
    print(build(arguments.evaluation, arguments.docs, arguments.model))


if __name__ == "__main__":
    one_sentence(main)
