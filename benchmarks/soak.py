"""The soak: damage, kills, full disks and long use, with everything real. `make soak`; not in continuous integration.

    python benchmarks/soak.py [--scale 0.1] [--only damaged kills ...] [--json FILE]

At full size 500 damaged files go through every reader, 50 commands are killed at random moments, 30 disks get full and
a studio makes 200 videos; it takes about an hour on two cores. `--scale` makes all of it smaller. The same seed means
the same damage, and kills at the same moments. It prints a table, and ends with exit code 1 if anything was wrong; what
was is in FILE, and the damaged files that did it stay in the folder that it names.

    python benchmarks/soak.py --page      # writes evaluation/soak.json's table into docs/reliability.md
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import soak_damage
import soak_disks
import soak_kills
import soak_studio
from makeavideo.errors import UserError
from makeavideo.evaluation.results import command_line, one_sentence, save_benchmark, today
from soak_ground import ROOT, Ground
from soak_page import faults_of, table, write_page

PARTS: dict[str, tuple[Callable[..., Any], int]] = {
    "damaged": (soak_damage.soak, 500),
    "kills": (soak_kills.soak, 50),
    "disks": (soak_disks.soak, 30),
    "studio": (soak_studio.soak, 200),
}
"""What is done, and how often at full size."""


def soak(
    folder: Path, scale: float, only: list[str], seed: int, steps: int, keep: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """The figures: of each part what it counts, and the seconds that it took; `keep` has them after each part."""
    ground = Ground(folder)
    ground.draw()
    started = time.monotonic()
    ground.train(steps)
    print(f"a cascade to try, {time.monotonic() - started:.0f} s, in {folder}", flush=True)
    figures: dict[str, Any] = {}
    for name in only:
        part, count = PARTS[name]
        started = time.monotonic()
        found = part(ground, max(1, round(count * scale)), seed, lambda text: print(f"FAULT {text}", flush=True))
        seconds = round(time.monotonic() - started)
        figures[name] = {"command": command_line(), "date": today(), "seconds": seconds, "rows": found}
        print(f"{name}: {seconds} s, {len(faults_of(figures[name]))} faults", flush=True)
        keep(figures)
    return figures


def figures_in(file: Path) -> dict[str, Any]:
    """Of the parts that were done before; none where there is no such file. UserError: it is something else."""
    try:
        return json.loads(file.read_text("utf-8"))["figures"] if file.is_file() else {}
    except (OSError, ValueError, LookupError, TypeError):
        raise UserError(f"{file} is no record of a soak: name another file.") from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="1: an hour")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to do")
    parser.add_argument("--steps", type=int, default=4, help="of each stage of the cascade that is tried")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where it works; a new one, which stays")
    parser.add_argument("--json", type=Path, help="write the figures")
    parser.add_argument("--page", action="store_true", help="write evaluation/soak.json into the docs")
    arguments = parser.parse_args()
    if arguments.page:
        print(write_page(ROOT / "evaluation" / "soak.json", ROOT / "docs" / "reliability.md"))
        return
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="makeavideo-soak-"))

    def keep(figures: dict[str, Any]) -> None:
        if arguments.json:  # parts that were done before stay
            save_benchmark(arguments.json, "soak", arguments, {**figures_in(arguments.json), **figures})

    if arguments.json:
        figures_in(arguments.json)
    figures = soak(folder.resolve(), arguments.scale, arguments.only, arguments.seed, arguments.steps, keep)
    print(table(figures))
    wrong = [fault for part in figures.values() for fault in faults_of(part)]
    if wrong:
        print(f"{len(wrong)} faults; the files are in {folder}")
        sys.exit(1)
    if not arguments.folder:
        shutil.rmtree(folder)


if __name__ == "__main__":
    one_sentence(main)
