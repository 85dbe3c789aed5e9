"""Many jobs of one studio, all five uses by turns: its memory stays flat."""

import random
import statistics
from collections.abc import Callable
from typing import Any

import psutil

from soak_ground import PROMPTS, Ground
from soak_pages import GONE, Site

BOUND = 0.05
"""By which the memory may grow."""
WARM_UP = 40
"""Jobs: until the largest of each use has been made, caches fill."""


def wish(number: int, rng: random.Random, site: Site, ground: Ground, made: list[str]) -> tuple[str, list[Any]]:
    """(use, data) of a job: of another length, size and seed each time."""
    size, frames = rng.choice((32, 32, 128)), rng.choice((4, 8, 16))
    common = [number, frames, 8, size, rng.random() < 0.2]
    pictures, clips = sorted(ground.pictures.glob("*.png")), sorted(ground.clips.glob("*.mp4"))
    use = ("generate", "animate", "interpolate", "vary", "extend")[number % 5]
    if use == "generate":
        return use, [rng.choice(PROMPTS), *common, 2.0, 2, "", None]
    if use == "animate":
        return use, [site.upload(rng.choice(pictures)), rng.choice(("", PROMPTS[0])), *common, 2, 0.3, "crop", None]
    if use == "interpolate":
        return use, [site.upload(pictures[0]), site.upload(pictures[-1]), *common, 2, "pad", None]
    video = rng.choice(made) if made and rng.random() < 0.5 else site.upload(rng.choice(clips))
    if use == "vary":
        return use, [video, *common, 2.0, 2, "crop", None]
    return use, [video, "", *common, 2, 0.3, "crop", None]


def memory(process: psutil.Process) -> float:
    """MiB of the studio and its children."""
    return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)]) / 2**20


def soak(ground: Ground, jobs: int, seed: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """{"jobs", "faults", "MiB after the warm-up", "MiB at the end", "growth", "MiB"}: medians of a tenth of them."""
    log, faults, made, used = ground.folder / "studio.txt", [], [], []
    with Site("web", "--model", ground.model, "--gallery", ground.folder / "gallery", log=log) as site:
        process = psutil.Process(site.process.pid)
        for number in range(jobs):
            use, data = wish(number, random.Random(f"{seed}/studio/{number}"), site, ground, made)
            try:
                made.append(site.make(use, *data)["name"])
            except GONE as error:
                faults.append(f"job {number}, {use}: {error}")
                tell(faults[-1])
            used.append(round(memory(process), 1))
    said = log.read_text("utf-8", "replace")
    if "Traceback" in said:
        faults.append(f"a traceback: {said.strip().splitlines()[-1]}")
    tenth = max(1, jobs // 10)
    first = min(WARM_UP, jobs - tenth)
    before, after = statistics.median(used[first : first + tenth]), statistics.median(used[-tenth:])
    growth = after / before - 1
    if growth > BOUND and jobs >= 50:  # of fewer jobs the warm-up is most
        faults.append(f"the memory grew by {100 * growth:.1f} %")
        tell(faults[-1])
    figures = {"MiB after the warm-up": before, "MiB at the end": after, "growth": round(growth, 4), "MiB": used}
    return {"jobs": jobs, "faults": faults, **figures}
