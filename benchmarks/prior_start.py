"""A prior on a million stored embeddings: how long until its first step, and in how much memory?

    python benchmarks/prior_start.py FOLDER [--samples 1000000] [--json FILE]

The index and the embeddings are made up: one small picture is all there is, and every sample says that it is this one.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from makeavideo.data import indexed
from makeavideo.data.embeddings import Embeddings, Shape, fingerprint
from makeavideo.data.indexing import build_index
from makeavideo.errors import UserError
from makeavideo.evaluation.results import one_sentence, save_benchmark

BAR = 10.0
"""Seconds, what "in seconds" may mean."""
TRAINER = """
import json, sys, time
import psutil, torch
from makeavideo.training.batches import StepKeys, make_loader
from makeavideo.training.recipe import Recipe
from makeavideo.training.stages.prior import PriorStage
imported = time.monotonic()
recipe = Recipe.model_validate(json.loads(sys.argv[1]))
stage = PriorStage(recipe, torch.device("cpu"))
keys = StepKeys(recipe, len(stage.dataset), 0, 0, 1, stage.dataset.order)
batch = next(iter(make_loader(stage.dataset, keys, 0)))
loss = stage.loss(stage.network, batch, torch.Generator().manual_seed(0))
loss.backward()
memory = psutil.Process().memory_info()
print(json.dumps({"start": time.monotonic() - imported, "loss": float(loss), "samples": len(stage.dataset),
                  "memory": (memory.rss - memory.shared) / 1e6, "pages of files": memory.shared / 1e6}))
"""


def make_set(folder: Path, samples: int, dim: int) -> None:
    """An index of one picture, said again and again, and embeddings of unit size."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), "red").save(folder / "pictures" / "one.png")
    (folder / "pictures" / "one.txt").write_text("a red picture")
    build_index([str(folder / "pictures")], folder / "set.index", "pictures")
    about, shards = (json.loads((folder / "set.index" / name).read_text()) for name in (indexed.INDEX, indexed.SHARDS))
    words = (folder / "set.index" / indexed.WORDS).read_bytes()
    records = np.repeat(np.fromfile(folder / "set.index" / indexed.SAMPLES, indexed.RECORD), samples)
    records["words"] = np.arange(samples) * len(words)
    records.tofile(folder / "set.index" / indexed.SAMPLES)
    (folder / "set.index" / indexed.WORDS).write_bytes(words * samples)
    number = np.fromfile(folder / "set.index" / indexed.PATHS, indexed.NUMBER)
    np.repeat(number, samples).tofile(folder / "set.index" / indexed.PATHS)
    about |= {"samples": samples, "words": len(words) * samples, "kinds": {"png": samples}}
    (folder / "set.index" / indexed.INDEX).write_text(json.dumps(about))
    (folder / "set.index" / indexed.SHARDS).write_text(json.dumps([[*shards[0][:2], samples]]))
    stored = Embeddings.begin(
        folder / "embeddings",
        Shape(samples, 1, dim, dim, 16, fingerprint(folder / "set.index"), "#ffffff", "made up", "made up"),
    )
    rng = np.random.default_rng(0)
    for start, end in list(stored.chunks()):
        count = end - start
        stored.fill(
            start, rng.standard_normal((count, dim), np.float32), rng.standard_normal((count, 1, dim), np.float32)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where index and embeddings are made, and left; new or empty")
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384, help="numbers of an embedding")
    parser.add_argument("--json", type=Path, help="write the figures")
    arguments = parser.parse_args()
    if arguments.folder.exists() and any(arguments.folder.iterdir()):
        raise UserError(f"{arguments.folder} holds files: choose a new folder.")

    folder = arguments.folder.absolute()
    make_set(folder, arguments.samples, arguments.dim)
    data = {"roots": [str(folder / "set.index")], "size": 16, "embeddings": str(folder / "embeddings")}
    network = {"num_attention_heads": 2, "attention_head_dim": 32, "num_layers": 2}
    recipe = {"stage": "prior", "output": "unused", "data": data, "network": network, "steps": 1000, "batch_size": 256}
    began = time.monotonic()
    call = [sys.executable, "-c", TRAINER, json.dumps({**recipe, "mixed_precision": "no"})]
    done = subprocess.run(call, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"The prior failed: {done.stderr.strip().splitlines()[-1]}")
    figures = {**json.loads(done.stdout), "with imports": time.monotonic() - began}
    print(f"{figures['samples']:,} embeddings: first step after {figures['start']:.2f} s (bar {BAR:g}),")
    print(f"{figures['with imports']:.1f} s with the imports; {figures['memory']:.0f} MB of its own, and")
    print(f"{figures['pages of files']:.0f} MB of files that the system keeps in memory while there is room")
    if arguments.json:
        save_benchmark(arguments.json, "prior_start", arguments, figures)


if __name__ == "__main__":
    one_sentence(main)
