"""Damaged files: real small ones, mutated by seed, each through all that reads its kind."""

import os
import random
import re
import shutil
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from makeavideo.votes.pairs import Pair
from makeavideo.votes.store import Store
from soak_ground import RECIPES, Ground, drawn, pack, run, save_clip
from soak_readers import Reader

Mutation = Callable[[bytes, random.Random], bytes]


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def flip(data: bytes, rng: random.Random) -> bytes:
    """Some bits, a few or many."""
    array = np.frombuffer(data, np.uint8).copy()
    for _ in range(rng.choice((1, 4, 32, 256))):
        array[rng.randrange(len(array))] ^= 1 << rng.randrange(8)
    return array.tobytes()


def flip_head(data: bytes, rng: random.Random) -> bytes:
    """In the first bytes, where formats say what follows."""
    end = min(len(data), 256)
    return flip(data[:end], rng) + data[end:]


def blank(data: bytes, rng: random.Random) -> bytes:
    """A stretch of zeros, as after a crash of the machine."""
    start = rng.randrange(len(data))
    length = min(len(data) - start, rng.choice((4, 64, 4096)))
    return data[:start] + bytes(length) + data[start + length :]


def swap(data: bytes, rng: random.Random) -> bytes:
    """Two stretches change places."""
    one, other, length = rng.randrange(len(data)), rng.randrange(len(data)), rng.choice((1, 16, 512))
    low, high = sorted((one, other))
    a, b = data[low : low + length], data[high : high + length]
    return data[:low] + b + data[low + length : high] + a + data[high + length :]


def repeat(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start : start + 64] * rng.choice((2, 50)) + data[start:]


def insert(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + rng.randbytes(rng.choice((1, 7, 300))) + data[start:]


def something_else(data: bytes, rng: random.Random) -> bytes:
    """Empty, noise, a web page, a pointer of Git LFS."""
    page = b"<!DOCTYPE html><html><body>Not found</body></html>"
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n"
    return rng.choice((b"", rng.randbytes(2000), page, pointer, b"\x80\x04\x95pickle."))


WORDS = (
    b"null",
    b"-1",
    b"0",
    b"1e999",
    b"9" * 40,
    b'""',
    b"[]",
    b"{}",
    b"true",
    b"[" * 300,
    b"\xff\xfe",
    b"\x00",
    b": ",
)


def wrong_word(data: bytes, rng: random.Random) -> bytes:
    """Of a text: a word or a number becomes something else."""
    places = [found.span() for found in re.finditer(rb'"[^"]*"|[-\w.]+', data[: 2**20])]
    if not places:
        return something_else(data, rng)
    start, end = rng.choice(places)
    return data[:start] + rng.choice(WORDS) + data[end:]


def lost_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    lines.pop(rng.randrange(len(lines)))
    return b"".join(lines)


BINARY: tuple[Mutation, ...] = (cut, flip, flip_head, blank, swap, repeat, insert, something_else)
TEXT: tuple[Mutation, ...] = (wrong_word, wrong_word, wrong_word, lost_line, cut, flip, repeat, insert, something_else)


class Sample(NamedTuple):
    """A whole file that is to be damaged. place: below the folder in which it is read."""

    kind: str
    label: str
    place: str
    data: bytes

    @property
    def is_text(self) -> bool:
        return self.place.endswith((".json", ".jsonl", ".yaml", ".csv", ".txt"))


def samples(ground: Ground) -> dict[str, list[Sample]]:
    """Whole files by what a table calls them."""
    found: list[Sample] = []
    for file in sorted(ground.pictures.iterdir()):
        if file.suffix in (".txt", ".json"):
            found.append(Sample("captions", "captions", file.name, file.read_bytes()))
        else:
            found.append(Sample("picture", file.suffix[1:], file.name, file.read_bytes()))
    for file in sorted(ground.clips.iterdir()):
        label = "webp, moving" if file.suffix == ".webp" else file.suffix[1:]
        found.append(Sample("clip", label, file.name, file.read_bytes()))
    for file in sorted(ground.shards.iterdir()):
        found.append(Sample("shard", "tar shards", file.name, file.read_bytes()))
    for file in sorted(ground.lists.iterdir()):
        found.append(Sample("prompts", "lists of prompts, stories", file.name, file.read_bytes()))
    manifest = (ground.folder / "manifest.jsonl").read_bytes()
    found.append(Sample("manifest", "manifests of batches", "manifest.jsonl", manifest))
    for file in sorted(RECIPES.glob("*.yaml")):
        found.append(Sample("recipe", "recipes and plans", file.name, file.read_bytes()))
    found.append(Sample("votes", "votes", "v.sqlite", (ground.folder / "v.sqlite").read_bytes()))
    for file in sorted(file for file in ground.model.rglob("*") if file.suffix in (".json", ".txt", ".safetensors")):
        place = f"model/{file.relative_to(ground.model).as_posix()}"
        found.append(Sample("model", "models", place, file.read_bytes()))
    run_folder = ground.folder / "run"
    for file in sorted((run_folder / "checkpoints").glob("*/*")):
        place = f"run/{file.relative_to(run_folder).as_posix()}"
        found.append(Sample("checkpoint", "checkpoints", place, file.read_bytes()))
    by_label: dict[str, list[Sample]] = {}
    for sample in found:
        by_label.setdefault(sample.label, []).append(sample)
    return by_label


def prepare(ground: Ground) -> None:
    """What samples are made of beside the ground's own: a run with checkpoints, votes, a manifest."""
    clip = ground.runs / "clip"
    shutil.copytree(clip, ground.folder / "run", dirs_exist_ok=True)
    names = ("a", "b")
    for number, name in enumerate(names):
        folder = ground.folder / "voted" / name
        folder.mkdir(parents=True, exist_ok=True)
        for item in range(3):
            save_clip(folder / f"{item}.mp4", 10 * number + item, frames=4)
    pairs = [Pair(f"{i}", "a cat", *(ground.folder / "voted" / n / f"{i}.mp4" for n in names)) for i in range(3)]
    store = Store.create(ground.folder / "v.sqlite", pairs, raters=1)
    for _ in range(2):
        hand = store.hand_out("Ada")
        assert hand is not None
        store.vote(hand.token, {"quality": "left", "faithfulness": "left"})
    videos = ground.folder / "videos"
    run(
        "batch", ground.lists / "list.jsonl", videos, "--model", ground.model, "--fast", "--steps", 1
    ).check_returncode()
    shutil.copy(videos / "manifest.jsonl", ground.folder / "manifest.jsonl")


def damaged(count: int, ground: Ground, seed: int) -> Iterator[tuple[Sample, bytes, str]]:
    """(the whole file, damaged, how) so many times, as many of each kind."""
    by_label = samples(ground)
    labels = sorted(by_label)
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        sample = rng.choice(by_label[labels[number % len(labels)]])
        while True:
            mutation = rng.choice(TEXT if sample.is_text else BINARY)
            data = mutation(sample.data, rng)
            if data != sample.data:
                break
        yield sample, data, mutation.__name__


def lay_out(sample: Sample, ground: Ground, folder: Path) -> None:
    """What belongs around a file of this kind, in an empty folder; large files as links."""
    if sample.kind in ("picture", "clip", "shard", "captions"):
        whole = folder / "whole"
        whole.mkdir()
        drawn(99).save(whole / "whole.png")
        (whole / "whole.txt").write_text("a cat")
        save_clip(whole / "whole.gif", 99, frames=6)
        if sample.kind == "shard":  # the reader of clips passes the picture by, the one of pictures the clip
            pack(whole / "whole.tar", [whole / "whole.png", whole / "whole.txt", whole / "whole.gif"])
    elif sample.kind == "model":
        shutil.copytree(ground.model, folder / "model", copy_function=os.link)
    elif sample.kind == "checkpoint":
        shutil.copytree(ground.folder / "run", folder / "run")
        final = next((ground.folder / "run" / "final").rglob("*.safetensors"))
        shutil.copy(final, folder / "whole.safetensors")
        shutil.rmtree(folder / "run" / "final")
        recipe = folder / "run" / "recipe.yaml"
        recipe.write_text(recipe.read_text().replace(str(ground.runs / "clip"), str(folder / "run")))
    elif sample.kind == "recipe":
        shutil.copytree(RECIPES, folder, dirs_exist_ok=True)


def soak(ground: Ground, count: int, seed: int, tell: Callable[[str], None]) -> dict[str, dict]:
    """What came of so many damaged files: label -> {"files", "read", "refused", "faults": [...], "slowest"}."""
    prepare(ground)
    reader, table = Reader(), {}
    try:
        for number, (sample, data, how) in enumerate(damaged(count, ground, seed)):
            folder = ground.folder / "damaged" / f"{number}-{''.join(random.choices(string.ascii_lowercase, k=4))}"
            folder.mkdir(parents=True)
            lay_out(sample, ground, folder)
            file = folder / sample.place
            file.unlink(missing_ok=True)  # a link to the whole one
            file.write_bytes(data)
            came = reader.read(sample.kind, file, folder)
            row = table.setdefault(sample.label, {"files": 0, "read": 0, "refused": 0, "faults": [], "slowest": 0.0})
            row["files"] += 1
            row["slowest"] = max(row["slowest"], round(came.seconds, 2))
            if came.how == "fault":
                row["faults"].append(f"{sample.place}, {how}, number {number}: {came.said}")
                tell(f"damaged {sample.place} ({how}, number {number}): {came.said}")
            else:
                row[came.how] += 1
                shutil.rmtree(folder)
    finally:
        reader.end()
    return table
