"""Full disks: a folder with too little room for what is written there; later there is room, and the work goes on.

The folder is a small tmpfs where the soak may mount one (root on Linux), and elsewhere a limit on the size of a file
(RLIMIT_FSIZE), which stops what writes just as a quota does.
"""

import random
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from makeavideo.media.reader import read_video
from makeavideo.votes.store import Store
from soak_ground import Ground, contents, hears_signals, run, said_in_one_sentence
from soak_kills import Fault, Runs, Votes, expect, plays, victims
from soak_pages import GONE, Rater, Site

MIB = 2**20
GOES_ON = ("train",)
"""These say that the disk is full, and work on without what could not be written."""


class Disk:
    """A folder on a disk of its own, of `size` bytes; `grow` makes it large."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size, self.mounted = folder, size, False
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Disk":
        if shutil.which("mount"):
            options = f"size={self.size}"
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "none", str(self.folder)], capture_output=True
            )
            self.mounted = done.returncode == 0
        return self

    def __exit__(self, *_: object) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)

    def limit(self) -> None:
        """Popen's preexec_fn, of what writes there."""
        hears_signals()
        if not self.mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.RLIM_INFINITY))

    def grow(self) -> None:
        self.size = 2048 * MIB
        if self.mounted:
            options = f"remount,size={self.size}"
            subprocess.run(["mount", "-o", options, str(self.folder)], check=True, capture_output=True)


def fill(name: str, victim: Runs, disk: Disk) -> None:
    """A command whose disk gets full, and again when there is room. Fault: something is wrong."""
    out = disk.folder / "out"
    made = run(*victim.at(out), preexec_fn=disk.limit)
    if name in GOES_ON and made.returncode == 0:
        expect("Traceback" not in made.stderr, f"a traceback: {made.stderr[-300:]}")
    elif made.returncode != 0:
        wrong = said_in_one_sentence(made.stderr) if name != "batch" else None
        expect(wrong is None and "Traceback" not in made.stderr, f"{wrong or made.stderr[-300:]}")
    for file in out.rglob("*.mp4"):
        expect(file.name.startswith(".") or plays(file), f"{file.name} does not play")
    disk.grow()
    again = () if made.returncode == 0 and name not in GOES_ON else tuple(victim.again)
    if name == "generate" or made.returncode != 0:
        done = run(*victim.at(out), *again, preexec_fn=disk.limit)
        expect(done.returncode == 0, f"it could not go on: {done.stderr[-300:]}")
    came = victim.result(out)
    differs = sorted(name for name in victim.wanted.keys() | came.keys() if victim.wanted.get(name) != came.get(name))
    # the index of a video stays at its end where there was no room for a copy: other bytes, the same frames
    wrong = [name for name in differs if not same_frames(out / name, victim.folder / "whole" / name)]
    expect(not wrong, f"{', '.join(wrong)} is not what it should be")
    left = [file for file in contents(out) if ".makeavideo-" in file or "partial" in file]
    expect(not left, f"{', '.join(left)} was left")


def same_frames(one: Path, other: Path) -> bool:
    """Whether two files are videos of the same frames."""
    if not (one.is_file() and other.is_file() and one.suffix == ".mp4"):
        return False
    return np.array_equal(read_video(one).frames, read_video(other).frames)


def fill_votes(ground: Ground, disk: Disk) -> None:
    """The page says that a vote cannot be kept, keeps those before, and takes it when there is room."""
    victim = Votes(ground, disk.folder.with_name(f"{disk.folder.name}-pairs"))
    db, log = disk.folder / "v.sqlite", victim.folder / "log.txt"
    site = Site("compare", *victim.folders, "--db", db, "--raters", 21, log=log, preexec_fn=disk.limit)
    try:
        with site:
            raters = [Rater(site, f"rater {place} {'x' * 60}") for place in range(3)]
            for rater in raters:
                before = -1
                while rater.saved > before and len(Path(db).read_bytes()) < 8 * MIB:
                    before = rater.saved
                    rater.vote(("left", "right"))
            expect(any("full" in rater.said for rater in raters), f"nobody was told of the disk: {raters[-1].said!r}")
            if disk.mounted:
                disk.grow()
                for rater in raters:
                    before = rater.saved
                    rater.vote(("left", "right"))
                    # two more: a vote was kept, and there was no room to hand out the pair after it, which was said
                    expect(rater.saved > before, f"no vote is taken when there is room: {rater.said!r}")
    except RuntimeError:  # there was no room for the file at all
        wrong = said_in_one_sentence(log.read_text("utf-8"))
        expect(wrong is None, str(wrong))
        return
    said = log.read_text("utf-8")
    expect("Traceback" not in said, f"a traceback: {said[-300:]}")
    kept = Store(db).votes()
    for rater in raters:
        expect(len({vote.pair for vote in kept if vote.rater == rater.name}) >= rater.saved, "votes are lost")


def sizes(name: str, count: int, victim: Any, seed: int) -> Iterator[int]:
    """Bytes of disks that are too small: from next to nothing to just too little of what is written."""
    rng = random.Random(f"{seed}/{name}/sizes")
    whole = 400 * 1024 if victim is None else sum(map(len, contents(victim.folder / "whole").values()))
    for place in range(count):
        yield max(32 * 1024, int(whole * (place + rng.random()) / count * 0.9))


def soak(ground: Ground, count: int, seed: int, tell: Callable[[str], None]) -> dict[str, dict]:
    """So many full disks, shared out: name -> {"disks", "kind", "faults": [...]}."""
    table: dict[str, dict] = {}
    folder = ground.folder / "disks"
    makers = victims(ground, folder / "unbroken")
    names = ("generate", "train", "batch", "votes")
    for place, name in enumerate(names):
        share = count // len(names) + (place < count % len(names))
        row = table[name] = {"disks": 0, "kind": "none", "faults": []}
        victim = makers[name]() if share and name != "votes" else None
        for number, size in enumerate(sizes(name, share, victim, seed)):
            with Disk(folder / f"{name}-{number}", size) as disk:
                row["kind"] = "a small tmpfs" if disk.mounted else "RLIMIT_FSIZE"
                try:
                    if victim is None:
                        fill_votes(ground, disk)
                    else:
                        fill(name, victim, disk)
                except (Fault, *GONE) as fault:
                    row["faults"].append(f"number {number}, {size:,} bytes: {fault}")
                    tell(f"{name}, disk of {size:,} bytes: {fault}")
            row["disks"] += 1
    return table
