"""Commands that are killed at random moments, and started again: nothing that was done is lost or damaged.

Of each command one run is left alone first: it says how long it takes, and what has to come of it. Then it is ended at
a moment that the seed draws, by SIGKILL, SIGTERM or SIGINT (Ctrl-C), and the same command is given once more.
"""

import contextlib
import json
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from makeavideo.errors import UserError
from makeavideo.media.reader import read_video
from makeavideo.votes.store import QUESTIONS, Store
from soak_ground import FEW_STEPS, PROMPTS, RECIPES, Ground, contents, run, said_in_one_sentence, start
from soak_pages import GONE, Rater, Site, ended

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PATIENCE = 60.0
"""Seconds after a signal until a process that still runs counts as hanging."""
EARLIEST = 0.3
"""Seconds after its start from which on a command is ended: before, Python itself is not there yet."""
VIDEOS = (".mp4",)


class Fault(Exception):
    """Something that must not be."""


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Fault(otherwise)


def plays(file: Path) -> bool:
    with contextlib.suppress(UserError):
        return len(read_video(file).frames) > 0
    return False


class Runs:
    """A command that ends by itself.

    Args:
        arguments: of the command; `{out}` is a folder of its own.
        again: what is added when it is started again.
        result: what of the folder has to be the same whether it was killed or not.
    """

    def __init__(
        self,
        arguments: Sequence[Any],
        folder: Path,
        result: Callable[[Path], dict[str, bytes]],
        again: Sequence[str] = (),
    ) -> None:
        self.arguments, self.folder, self.result, self.again = arguments, folder, result, again
        started = time.monotonic()
        whole = folder / "whole"
        made = run(*self.at(whole))
        expect(made.returncode == 0, f"the run that is left alone failed: {made.stderr[-500:]}")
        self.seconds = time.monotonic() - started
        self.wanted = result(whole)

    def at(self, out: Path) -> list[str]:
        out.mkdir(parents=True, exist_ok=True)
        return [str(word).replace("{out}", str(out)) for word in self.arguments]

    def kill(self, number: int, rng: random.Random, how: signal.Signals) -> str:
        """One kill and what comes after; what happened, in words. Fault: something is wrong."""
        out = self.folder / str(number)
        process = start(*self.at(out))
        moment = rng.uniform(EARLIEST, self.seconds)
        code = ended(process, moment)
        if code is None:
            process.send_signal(how)
        try:
            _, errors = process.communicate(timeout=PATIENCE)
        except Exception:
            process.kill()
            process.communicate()
            raise Fault(f"it hung after {how.name} at {moment:.2f} s") from None
        code = process.returncode
        if how is signal.SIGINT and code != 0:
            expect(code > 0, f"it ended by {how.name} without a word at {moment:.2f} s")
            wrong = said_in_one_sentence(errors)
            expect(wrong is None, f"{how.name} at {moment:.2f} s: {wrong}")
        if how is signal.SIGTERM and code > 0:
            wrong = said_in_one_sentence(errors)
            expect(wrong is None, f"{how.name} at {moment:.2f} s: {wrong}")
        for file in out.rglob("*.mp4"):
            expect(file.name.startswith(".") or plays(file), f"{file.name} does not play after {how.name}")
        self.go_on(out, how, moment)
        shutil.rmtree(out)
        return "ended before" if code == 0 else "killed"

    def go_on(self, out: Path, how: signal.Signals, moment: float) -> None:
        """The same command again: what comes of it, and nothing is left of the first one."""
        again = run(*self.at(out), *self.again)
        where = f"after {how.name} at {moment:.2f} s"
        expect(again.returncode == 0, f"it could not go on {where}: {again.stderr[-300:]}")
        made = self.result(out)
        differs = sorted(name for name in self.wanted.keys() | made.keys() if self.wanted.get(name) != made.get(name))
        expect(not differs, f"{', '.join(differs)[:200]} is not what it should be {where}")
        left = [name for name in contents(out) if ".makeavideo-" in name or "partial" in name]
        expect(not left, f"{', '.join(left)} was left {where}")


class Studio:
    """A studio in which somebody makes videos; killed, and opened again on the same gallery."""

    def __init__(self, ground: Ground, folder: Path) -> None:
        self.ground, self.folder = ground, folder
        self.gallery, self.log = folder / "gallery", folder / "log.txt"
        folder.mkdir(parents=True)

    def kill(self, number: int, rng: random.Random, how: signal.Signals) -> str:
        log = self.folder / f"log-{number}.txt"
        made: list[str] = []
        end = time.monotonic() + 1e9
        with Site("web", "--model", self.ground.model, "--gallery", self.gallery, log=log) as site:
            self.whole(site)
            end = time.monotonic() + rng.uniform(0.0, 6.0)
            with contextlib.suppress(*GONE):
                picture = site.upload(rng.choice(sorted(self.ground.pictures.glob("*.png"))))
                events = [site.begin("animate", picture, "", number, 24, 8, 128, False, 4, 0.3, "crop", None)]
                events += [site.begin("generate", PROMPTS[0], number, 24, 8, 128, False, 2.0, 4, "", None)]
                time.sleep(max(0.0, end - time.monotonic()))
            site.process.send_signal(how)
            code = ended(site.process, PATIENCE)
            expect(code is not None, f"it hung after {how.name}")
        said = log.read_text("utf-8", "replace")
        expect("Traceback" not in said, f"a traceback after {how.name}: {said.strip().splitlines()[-1:]}")
        made += [file.name for file in self.gallery.glob("*.mp4")]
        for name in made:
            expect(plays(self.gallery / name), f"{name} does not play after {how.name}")
        return "killed"

    def whole(self, site: Site) -> None:
        """A studio that was opened shows all that plays; it makes a video, and what was left half made is gone."""
        listed = next(iter(site.events(f"call/gallery/{site.begin('gallery')}")))[0]
        shown = {item["name"] for item in listed}
        there = {file.name for file in self.gallery.glob("*.mp4") if not file.name.startswith(".")}
        expect(shown == there, f"{', '.join(sorted(there ^ shown))} is not shown")
        site.make("animate", site.upload(self.ground.pictures / "p0.png"), "", 1, 2, 8, 32, False, 1, 0.3, "crop", None)
        left = [name for name in contents(self.gallery) if Path(name).name.startswith(".")]
        expect(not left, f"{', '.join(left)} was left by the one before")


class Votes:
    """The page of votes with one person who votes without end; every vote that the page confirmed is kept."""

    def __init__(self, ground: Ground, folder: Path) -> None:
        self.ground, self.folder, self.confirmed = ground, folder, {}
        folder.mkdir(parents=True)
        self.db = folder / "v.sqlite"
        for side in "ab":  # names of many pairs, and one video each
            (folder / side).mkdir()
            video = next(self.ground.clips.glob("*.mp4"))
            for number in range(400):
                (folder / side / f"{number}.mp4").hardlink_to(video)
        rows = "".join(f"{number},a cat\n" for number in range(400))
        (folder / "prompts.csv").write_text(f"id,prompt\n{rows}")
        self.folders = (folder / "a", folder / "b", "--prompts", folder / "prompts.csv")

    def kill(self, number: int, rng: random.Random, how: signal.Signals) -> str:
        log = self.folder / f"log-{number}.txt"
        with Site("compare", *self.folders, "--db", self.db, "--raters", 21, log=log) as site:
            rater = Rater(site, f"rater {number}")
            end, broken = time.monotonic() + rng.uniform(0.2, 3.0), False
            while time.monotonic() < end and rater.vote((rng.choice(("left", "right")), "left")):
                pass
            site.process.send_signal(how)
            with contextlib.suppress(*GONE):
                while rater.vote(("left", "right")):  # what it may still confirm
                    pass
                broken = True
            code = ended(site.process, PATIENCE)
            expect(code is not None and not broken, f"it did not end after {how.name}")
        self.confirmed[rater.name] = rater.saved
        said = log.read_text("utf-8", "replace")
        expect("Traceback" not in said, f"a traceback after {how.name}: {said.strip().splitlines()[-1:]}")
        with contextlib.closing(sqlite3.connect(self.db)) as db:
            expect(db.execute("PRAGMA integrity_check").fetchone() == ("ok",), f"damaged after {how.name}")
        kept: dict[str, dict[str, set[str]]] = {}
        for vote in Store(self.db).votes():
            kept.setdefault(vote.rater, {}).setdefault(vote.pair, set()).add(vote.question)
        for name, confirmed in self.confirmed.items():
            pairs = kept.get(name, {})
            expect(len(pairs) >= confirmed, f"{confirmed - len(pairs)} confirmed votes are lost after {how.name}")
            expect(all(found == set(QUESTIONS) for found in pairs.values()), f"half a vote after {how.name}")
        return f"killed after {rater.saved} votes"


def victims(ground: Ground, folder: Path) -> dict[str, Callable[[], Any]]:
    """What is killed, by name; each is made when its turn comes."""
    model = ("--model", ground.model)
    sets = [word for one in FEW_STEPS if ":" not in one for word in ("--set", one)]
    sets += [
        "--set",
        "steps=40",
        "--set",
        "checkpoint_steps=3",
        "--set",
        f"data.roots={json.dumps([str(ground.pictures)])}",
    ]
    trained = ("train", RECIPES / "clip.yaml", *sets, "--set", "output={out}/run")
    longer = ("--num-frames", 76, "--size", 128, "--steps", 4)
    generate = ("generate", PROMPTS[0], *model, "--seed", 1, *longer, "-o", "{out}/video.mp4")
    batch = ("batch", ground.lists / "list.jsonl", "{out}", *model, "--num-frames", 24, "--size", 128, "--steps", 4)
    return {
        "generate": lambda: Runs(generate, folder / "generate", lambda out: contents(out, VIDEOS)),
        "train": lambda: Runs(trained, folder / "train", final_weights, ["--resume"]),
        "batch": lambda: Runs(batch, folder / "batch", lambda out: contents(out, VIDEOS)),
        "studio": lambda: Studio(ground, folder / "studio"),
        "votes": lambda: Votes(ground, folder / "votes"),
    }


def final_weights(out: Path) -> dict[str, bytes]:
    """Of a run: what it exported."""
    return contents(out / "run" / "final", (".safetensors",))


def soak(ground: Ground, count: int, seed: int, tell: Callable[[str], None]) -> dict[str, dict]:
    """So many kills, shared out: name -> {"kills", "faults": [...]} and how many ended before."""
    table: dict[str, dict] = {}
    for place, (name, make) in enumerate(victims(ground, ground.folder / "kills").items()):
        share = count // 5 + (place < count % 5)
        row = table[name] = {"kills": 0, "signals": {one.name: 0 for one in SIGNALS}, "faults": []}
        if not share:
            continue
        victim = make()
        for number in range(share):
            rng, how = random.Random(f"{seed}/{name}/{number}"), SIGNALS[number % len(SIGNALS)]
            try:
                victim.kill(number, rng, how)
            except (Fault, *GONE) as fault:
                row["faults"].append(f"number {number}: {fault}")
                tell(f"{name}, kill {number}: {fault}")
            row["kills"] += 1
            row["signals"][how.name] += 1
    return table
