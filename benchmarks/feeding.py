"""Does the training wait for its data, and how much memory does a clip of two hours take?

    python benchmarks/feeding.py DATA [--recipes FILE ...] [--own-networks] [--workers 2] [--steps 40] [--json FILE]

DATA has clips/ and images/. Each recipe takes real steps, of batches that its workers make and of one batch that is
held fixed, which is the network alone. With a GPU the clock is on the wall, and waiting for workers counts.

On the processor, which workers and network share, no step could be timed beside workers. There they have made all
batches before the first step, as they have beside a network that takes longer than they do (how long is said too), and
what counts is all processor time of the training process: to receive a batch, to step, and what its other threads do.
Steps of both kinds alternate, so that what else the machine does slows both. Unless --own-networks asks for that of
the recipe the network costs nothing, and the image tower next to nothing: so the ratio is the largest there can be.
Frames are not cached, as in a set that is too large for it.

Then a process of its own reads samples of a long clip, in a folder and in a shard: one of two hours of nearly nothing,
and one of 100 MB of noise.
"""

import argparse
import json
import multiprocessing
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import psutil
import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from makeavideo.errors import UserError
from makeavideo.evaluation.results import one_sentence, save_benchmark
from makeavideo.training.batches import Batches, StepKeys
from makeavideo.training.progress import Watch
from makeavideo.training.recipe import Recipe, load_recipe
from makeavideo.training.run import Run

RECIPES = Path(__file__).parents[1] / "recipes" / "emoji"
BAR, MEMORY_BAR = 1.1, 200.0
"""Of a step's time as a ratio to the network's alone; megabytes that a long clip adds."""
WARM = 2
"""Steps before the clock starts."""
TINY = {
    "class": "UNet2DConditionModel",
    "space_to_depth": 8,
    "sample_size": 8,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ["DownBlock2D", "SimpleCrossAttnDownBlock2D"],
    "up_block_types": ["SimpleCrossAttnUpBlock2D", "UpBlock2D"],
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "attention_head_dim": 8,
    "cross_attention_dim": 8,
    "encoder_hid_dim": 8,
    "encoder_hid_dim_type": "image_proj",
    "addition_embed_type": "image",
    "resnet_time_scale_shift": "scale_shift",
}
TINY_TOWER = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "patch_size": 16,
    "projection_dim": 8,
}
READER = """
import json, sys
from makeavideo.data.clips import UnlabelledClips

def memory(kind):
    return int(open("/proc/self/status").read().split(kind)[1].split()[0]) * 1024 / 1e6

short, root, long = sys.argv[1:]
UnlabelledClips(short, 64, fps=8.0)[(0, 0)]
before = memory("VmRSS:")
open("/proc/self/clear_refs", "w").write("5")  # the peak counts from here
clips = UnlabelledClips(root, 64, fps=8.0)
rows = [row for row, item in enumerate(clips.items) if item.stem.endswith(long)]
for seed in range(4):
    sample = clips[(rows[0], seed)]
    assert sample["index"] == rows[0] and not sample["skipped"], sample["skipped"]
print(json.dumps(memory("VmHWM:") - before))
"""


class Free(nn.Module):
    """A network of no cost: its answer is what it sees."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, sample: Tensor, timestep: Any, **told: Any) -> SimpleNamespace:
        return SimpleNamespace(sample=sample[:, :, :3] * self.weight)


def prepared(recipe: Recipe, data: Path, work: Path, workers: int, steps: int, own_networks: bool) -> Recipe:
    """The recipe on these data, for so many steps, with tiny networks unless its own are wanted."""
    given: dict[str, Any] = {"roots": [str(data / "clips")], "num_workers": workers, "cache_gb": 0.0, "held_out": []}
    given |= {kind: [str(data / "images")] for kind in ("stills", "moved_stills") if getattr(recipe.data, kind)}
    if not torch.cuda.is_available():
        given["prefetch"] = -(-steps // workers)
    changes: dict[str, Any] = {"output": str(work / recipe.stage), "trackers": [], "sample_every": 0, "prompts": None}
    changes |= {"steps": steps, "gradient_accumulation": 1}
    if not own_networks:
        tower = work / "tower"
        side = max(recipe.data.shape)
        CLIPVisionModelWithProjection(CLIPVisionConfig(image_size=side, **TINY_TOWER)).save_pretrained(tower)
        changes |= {"init_from": None, "network": TINY, "image_encoder": str(tower), "codec": None}
    return recipe.model_copy(update={**changes, "data": recipe.data.model_copy(update=given)})


def feeding(recipe: Recipe, own_networks: bool) -> dict[str, float]:
    """Seconds of a step, after WARM to warm up, and of what belongs to it."""
    run = Run(recipe, Watch())
    if not own_networks:
        run.compiled = Free()
    keys = StepKeys(recipe, len(run.stage.dataset), 0, 0, 1)
    batches = Batches(run.stage.dataset, keys, run.stage.complete)
    fixed = batches[0]
    on_gpu = run.accelerator.device.type == "cuda"
    fed, alone = (in_a_row if on_gpu else in_turn)(run, fixed, recipe.steps)
    began = time.process_time()
    for number in range(1, recipe.steps):
        batches[number]
    made = (time.process_time() - began) / (recipe.steps - 1)
    run.end()
    return {"alone": alone, "fed": fed, "ratio": fed / alone, "made": made, "samples": recipe.batch_size / made}


def in_a_row(run: Run, fixed: dict, steps: int) -> tuple[float, float]:
    """Seconds on the wall of a step that is fed, and of one with the fixed batch: all of the first, then the others."""

    def seconds(batches: Iterable[dict]) -> float:
        began = 0.0
        for number, batch in enumerate(batches):
            if number == WARM:
                torch.cuda.synchronize()
                began = time.perf_counter()
            run.learn(number, batch)
        torch.cuda.synchronize()
        return (time.perf_counter() - began) / (steps - WARM)

    return seconds(batch for _, batch in run.batches()), seconds({**fixed, "skipped": []} for _ in range(steps))


def in_turn(run: Run, fixed: dict, steps: int) -> tuple[float, float]:
    """The same of processor time, in turn, once the workers have made all batches."""
    batches = run.batches()
    first = [next(batches)]
    wait_for_workers()
    fed, alone = [], []
    for number in range(steps):
        began = time.process_time()
        _, batch = first.pop() if first else next(batches)
        run.learn(number, batch)
        between = time.process_time()
        run.learn(number, {**fixed, "skipped": []})
        fed.append(between - began)
        alone.append(time.process_time() - between)
    return sum(fed[WARM:]) / (steps - WARM), sum(alone[WARM:]) / (steps - WARM)


def wait_for_workers() -> None:
    """Until the processes that read for this one rest."""
    used, before = 0.0, -1.0
    while used - before > 0.02:
        before = used
        time.sleep(2)
        used = sum(sum(psutil.Process(one.pid).cpu_times()[:2]) for one in multiprocessing.active_children())


def write_clip(path: Path, frames: int, size: tuple[int, int], noise: bool) -> None:
    """Frames (height, width) at 10 a second: of noise, or of a grey that hardly changes."""
    rng = np.random.default_rng(0)
    pictures = [np.full((*size, 3), 100 + number, np.uint8) for number in range(8)]
    if noise:
        pictures = [rng.integers(0, 256, (*size, 3), np.uint8) for _ in range(8)]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=10, options={"qscale": "2" if noise else "20"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.qmin = stream.codec_context.qmax = 2 if noise else 20
        shown = [av.VideoFrame.from_ndarray(picture).reformat(format="yuv420p") for picture in pictures]
        for number in range(frames):
            frame = shown[number * 7 // 50 % len(shown) if not noise else number % len(shown)]
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def long_clips(work: Path, hours: float, megabytes: float) -> dict[str, dict[str, float]]:
    """Megabytes that each long clip adds to a process that reads four samples of it."""
    for place in ("short", "folder"):
        (work / place).mkdir()
    write_clip(work / "short" / "short.mp4", 60, (360, 640), True)
    write_clip(work / "folder" / "hours.mp4", max(20, round(hours * 36_000)), (64, 64), False)
    frame = (work / "short" / "short.mp4").stat().st_size / 60
    write_clip(work / "folder" / "noise.mp4", max(20, round(megabytes * 1e6 / frame)), (360, 640), True)
    with tarfile.open(work / "shard.tar", "w") as tar:
        for path in sorted((work / "folder").iterdir()):
            tar.add(path, path.name)
    found: dict[str, dict[str, float]] = {}
    for name in ("hours", "noise"):
        found[name] = {"megabytes": (work / "folder" / f"{name}.mp4").stat().st_size / 1e6}
        for place in ("folder", "shard.tar"):
            call = [sys.executable, "-c", READER, *map(str, (work / "short", work / place, name))]
            done = subprocess.run(call, capture_output=True, text=True)
            if done.returncode:
                raise UserError(f"The reader failed: {done.stderr.strip().splitlines()[-1]}")
            found[name][place.removesuffix(".tar")] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with clips/ and images/")
    own = [RECIPES / "decoder-video.yaml", RECIPES / "interpolator.yaml"]
    parser.add_argument("--recipes", type=Path, nargs="+", default=own, help="of stages that learn from clips")
    parser.add_argument("--own-networks", action="store_true", help="those that the recipes name")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--hours", type=float, default=2.0, help="length of the long clip")
    parser.add_argument("--megabytes", type=float, default=100.0, help="size of the clip of noise")
    parser.add_argument("--json", type=Path, help="write the figures")
    arguments = parser.parse_args()
    if arguments.workers < 1 or arguments.steps < 1:
        raise UserError("--workers and --steps must be at least 1.")

    figures: dict[str, Any] = {"device": "cuda" if torch.cuda.is_available() else "cpu", "stages": {}}
    what = "seconds" if torch.cuda.is_available() else "seconds of the processor"
    with tempfile.TemporaryDirectory() as folder:
        for path in arguments.recipes:
            recipe = load_recipe(path, ["mixed_precision=no"] if not torch.cuda.is_available() else [])
            recipe = prepared(
                recipe, arguments.data, Path(folder), arguments.workers, arguments.steps + WARM, arguments.own_networks
            )
            found = figures["stages"][recipe.stage] = feeding(recipe, arguments.own_networks)
            needed = found["made"] / arguments.workers
            ratio, made, rate = (found[key] for key in ("ratio", "made", "samples"))
            print(f"{recipe.stage}: a step takes {found['alone']:.4f} {what} alone, {found['fed']:.4f} fed")
            print(f"  ({ratio:.2f} of it; bar {BAR:g}). A batch takes a worker {made:.3f} seconds of the")
            print(f"  processor: {rate:.1f} samples a second and worker. A network that takes more than {needed:.3f} s")
            print(f"  a step never waits for {arguments.workers} of them", flush=True)
        figures["long clips"] = long_clips(Path(folder), arguments.hours, arguments.megabytes)
        for name, row in figures["long clips"].items():
            places = ", ".join(f"{row[place]:.0f} MB in a {place}" for place in ("folder", "shard"))
            print(f"{name}.mp4 of {row['megabytes']:.0f} MB adds {places} (bar {MEMORY_BAR:g})")
    if arguments.json:
        save_benchmark(arguments.json, "feeding", arguments, figures)


if __name__ == "__main__":
    one_sentence(main)
