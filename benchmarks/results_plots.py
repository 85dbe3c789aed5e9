"""The plots of the results page. Each function of FIGURES draws what one benchmark wrote on an empty figure."""

from collections.abc import Callable

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from results_bars import BARS, DISTANCE, mean_and_spread, number


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


def plot_dials(figure: plt.Figure, record: dict) -> None:
    rows, axes = record["figures"]["rates"], figure.subplots()
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
    "dials": plot_dials,
    "thesis": plot_thesis,
}
