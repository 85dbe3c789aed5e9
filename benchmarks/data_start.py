"""Ten million pictures in a thousand shards: how long until training reads them, in how much memory, in which order?

    python benchmarks/data_start.py FOLDER [--shards 1000] [--samples 10000] [--scan 2] [--json FILE]

One shard of small pictures is written, and the others are links to it, so that every sample is read and decoded as it
would be. The first --scan of them are looked through as `make-a-video data index` does it, which gives the rate, and
the index says of the others what it says of these. Then new processes start as training does, and read: with 1, 2 and 8
workers, at the beginning and in the middle of a run.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from makeavideo.data import indexed
from makeavideo.data.indexing import build_index
from makeavideo.data.pack import add_member
from makeavideo.errors import UserError
from makeavideo.evaluation.results import one_sentence, save_benchmark

BARS = {"start": 2.0, "memory": 300.0, "first batch": 5.0, "resume": 3.0}
"""Seconds, and megabytes a process."""
READER = """
import hashlib, json, resource, sys, time
began = time.monotonic()
import torch
from makeavideo.data.images import CaptionedImages
from makeavideo.training.batches import StepKeys, make_loader
from makeavideo.training.recipe import Recipe
imported = time.monotonic()
index, batch, workers, worlds, step = sys.argv[1], *map(int, sys.argv[2:])
recipe = Recipe.model_validate({"stage": "clip", "output": "unused", "data": {"roots": [index], "size": 16},
                                "steps": 10**6, "batch_size": batch // worlds})
images = CaptionedImages(index, 16)
parts = [StepKeys(recipe, len(images), step, rank, worlds, images.order) for rank in range(worlds)]
ready = time.monotonic()
loader = iter(make_loader(images, parts[0], workers))
first = next(loader)
read = time.monotonic()
digest = hashlib.sha256()
for batches in zip(*(iter(part) for part in parts), range(20)):
    digest.update(json.dumps([key[:2] for keys in batches[:-1] for key in keys]).encode())
import psutil
processes = [psutil.Process(), *psutil.Process().children(True)]
memory = [process.memory_full_info() for process in processes]
print(json.dumps({
    "imports": imported - began, "start": ready - imported, "first batch": read - ready, "order": digest.hexdigest(),
    "memory": max(one.rss for one in memory) / 1e6, "own memory": max(one.uss for one in memory) / 1e6,
    "processes": len(processes), "samples": len(images), "keys": first["index"].tolist()[:4]}))
"""


def write_shard(path: Path, samples: int) -> None:
    """Pictures of one colour each, with a caption."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(samples):
            file = io.BytesIO()
            Image.new("RGB", (16, 16), (number % 256, number // 256 % 256, 90)).save(file, "PNG")
            for ending, data in (("png", file.getvalue()), ("txt", f"picture number {number} of a shard".encode())):
                add_member(tar, f"{number:09d}.{ending}", data)


def make_set(folder: Path, shards: int, samples: int, scan: int) -> tuple[Path, float]:
    """(the index of all, samples a second that one process looks through)."""
    if not 1 <= scan <= shards:
        raise UserError(f"--scan must be 1 to {shards}, not {scan}.")
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    paths = [folder / "shards" / f"{number:05d}.tar" for number in range(shards)]
    write_shard(paths[0], samples)
    for path in paths[1:]:
        path.unlink(missing_ok=True)
        os.link(paths[0], path)
    began = time.monotonic()
    build_index([str(path) for path in paths[:scan]], folder / "set.index", "pictures")
    rate = scan * samples / (time.monotonic() - began)
    repeat(folder / "set.index", paths, samples)
    return folder / "set.index", rate


def repeat(index: Path, paths: list[Path], samples: int) -> None:
    """What the index says of the first shard, of all of them."""
    about, shards = (json.loads((index / name).read_text()) for name in (indexed.INDEX, indexed.SHARDS))
    records = np.fromfile(index / indexed.SAMPLES, indexed.RECORD, samples)
    every = (index / indexed.WORDS).read_bytes()
    words = every[: int(np.fromfile(index / indexed.SAMPLES, indexed.RECORD)["words"][samples : samples + 1].sum())]
    words = words or every
    with open(index / indexed.SAMPLES, "wb") as first, open(index / indexed.WORDS, "wb") as second:
        for number in range(len(paths)):
            again = records.copy()
            again["shard"], again["words"] = number, records["words"] + number * len(words)
            first.write(again.tobytes())
            second.write(words)
    count = len(paths)
    about |= {"samples": samples * count, "words": len(words) * count, "kinds": {"png": samples * count}}
    about["bytes"] = int(records["size"].sum()) * count
    np.resize(np.fromfile(index / indexed.PATHS, indexed.NUMBER), samples * count).tofile(index / indexed.PATHS)
    (index / indexed.SHARDS).write_text(json.dumps([[str(path), shards[0][1], samples] for path in paths]))
    (index / indexed.INDEX).write_text(json.dumps(about))


def read(index: Path, batch: int, workers: int, worlds: int, step: int) -> dict:
    """A new process that reads as training does."""
    numbers = map(str, (batch, workers, worlds, step))
    done = subprocess.run([sys.executable, "-c", READER, index, *numbers], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"A reader failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the shards and the index are made, and left")
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=10_000, help="in each shard")
    parser.add_argument("--scan", type=int, default=2, help="shards that are looked through to measure the rate")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--step", type=int, default=500_000, help="where a run goes on")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--json", type=Path, help="write the figures")
    arguments = parser.parse_args()

    index, rate = make_set(arguments.folder.absolute(), arguments.shards, arguments.samples, arguments.scan)
    size = sum(file.stat().st_size for file in index.iterdir())
    begun = read(index, arguments.batch, arguments.workers, 1, 0)
    later = read(index, arguments.batch, arguments.workers, 1, arguments.step)
    orders = {worlds: read(index, arguments.batch, 0, worlds, 0)["order"] for worlds in (1, 2, 8)}
    figures = {
        "samples": begun["samples"],
        "index bytes a sample": size / begun["samples"],
        "samples a second and process looked through": rate,
        "imports": begun["imports"],
        "start": begun["start"],
        "first batch": begun["first batch"],
        "memory": begun["memory"],
        "own memory": begun["own memory"],
        "processes": begun["processes"],
        "resume": later["start"] + later["first batch"],
        "same order of 1, 2 and 8": int(len(set(orders.values())) == 1),
    }
    for name, value in figures.items():
        bar = f"   (bar: {BARS[name]:g})" if name in BARS else ""
        print(f"{name:45} {value:12,.2f}{bar}")
    if arguments.json:
        save_benchmark(arguments.json, "data_start", arguments, figures)


if __name__ == "__main__":
    one_sentence(main)
