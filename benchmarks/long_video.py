"""Long videos and loops: is there a seam, does the subject stay, does memory stay flat, do loops close?

    python benchmarks/long_video.py seams [--prompts 8]     frame differences at the borders of windows, and of loops
    python benchmarks/long_video.py drift [--seconds 60]    likeness to the prompt's embedding, window after window
    python benchmarks/long_video.py memory                  peak memory and time of 1, 4 and 16 times 76 frames

With --json FILE each writes its figures; --steps sets the decoder's. Prompts are labels of the emoji set, prompt n has
the seed plus n; a seam is where one window of F-up ends and the next begins.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from makeavideo.errors import UserError
from makeavideo.evaluation.results import one_sentence, save_benchmark
from makeavideo.figures import FRAME_SKIP, KEY_FRAMES, MAX_FRAMES
from makeavideo.included import default_model
from makeavideo.loading import weights_hash
from makeavideo.pipeline import MakeAVideoPipeline
from makeavideo.sampling import to_uint8

PROMPTS = ["dog face", "rocket", "red apple", "sun with face", "ghost", "frog", "birthday cake", "blue heart"]


def load(model: Path) -> MakeAVideoPipeline:
    pipe = MakeAVideoPipeline.load(model)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make(pipe, prompt: str, seed: int, **options) -> np.ndarray:
    """uint8 (frames, h, w, 3)."""
    generator = torch.Generator().manual_seed(seed)
    chunks = pipe(prompt, size=pipe.sizes[0], generator=generator, output_type="stream", **options).frames
    return np.concatenate([to_uint8(chunk)[0] for chunk in chunks])


def steps(frames: np.ndarray) -> np.ndarray:
    """Mean absolute difference of consecutive frames, in levels of 255; the last one from the last to the first."""
    return np.abs(np.roll(frames, -1, 0).astype(np.float32) - frames).mean((1, 2, 3))


def seams(pipe, prompts: list[str], first_seed: int, **options) -> dict[str, dict[str, float]]:
    """The step from the last frame of a window to the first of the next, against the median step of the video."""
    window = KEY_FRAMES - pipe.sampling.context  # new key frames
    count = 4 * window * FRAME_SKIP
    borders = [(KEY_FRAMES - 1 + n * window) * FRAME_SKIP for n in range(4)]
    rows = {}
    for seed, prompt in enumerate(prompts, first_seed):
        open_end = make(pipe, prompt, seed, num_frames=count, **options)
        loop = make(pipe, prompt, seed, num_frames=MAX_FRAMES, loop=True, **options)
        moved, looped = steps(open_end)[:-1], steps(loop)
        at = [moved[border] for border in borders if border < len(moved)]
        rows[prompt] = {
            "median step": float(np.median(moved)),
            "largest seam / median": float(max(at) / np.median(moved)),
            "loop: last to first / median": float(looped[-1] / np.median(looped)),
        }
        print(f"{prompt:16}" + "".join(f"{value:10.2f}" for value in rows[prompt].values()), flush=True)
    print("columns: " + ", ".join(next(iter(rows.values()))))
    return rows


def drift(pipe, prompts: list[str], first_seed: int, **options) -> dict[str, list[float]]:
    """Cosine of the frames' embeddings, averaged over a window, with the prompt's; windows of equal length."""
    rows = {}
    length = (KEY_FRAMES - pipe.sampling.context) * FRAME_SKIP
    for seed, prompt in enumerate(prompts, first_seed):
        frames = make(pipe, prompt, seed, **options)
        wanted = pipe.embed_prompts([prompt], torch.Generator().manual_seed(seed))[0]
        pixels = torch.from_numpy(frames[::FRAME_SKIP].copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
        likeness = torch.cosine_similarity(pipe.embed_pictures(pixels), wanted[None]).numpy()
        windows = np.array_split(likeness, max(1, len(frames) // length))
        rows[prompt] = [float(window.mean()) for window in windows]
        first, last = rows[prompt][0], rows[prompt][-1]
        curve = " ".join(f"{value:.2f}" for value in rows[prompt])
        print(f"{prompt:16} change {last / first - 1:+.0%}   {curve}", flush=True)
    return rows


def fresh(model: Path, *options: str) -> tuple[float, float]:
    """(seconds from start to file, peak memory in GiB) of `make-a-video generate` in a process of its own.

    The system's "maximum resident set" would not do: a process inherits it from the one that started it.
    """
    code = (
        "import runpy, sys; sys.argv = ['make-a-video', *sys.argv[1:]]\n"
        "try:\n    runpy.run_module('makeavideo', run_name='__main__')\n"
        "finally:\n    print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-c",
            code,
            "generate",
            *options,
            "--model",
            str(model),
            "-q",
            "-o",
            f"{folder}/a.mp4",
        ]
        start = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - start
    if done.returncode:
        raise UserError("`make-a-video generate` failed, so it was not measured; what it said stands above.")
    return seconds, int(done.stdout.split()[-1]) / 2**20


def memory(model: Path, seed: int, steps: int, size: int, length: int, multiples: list[int]) -> list[dict[str, float]]:
    """Each multiple of `length` frames in a process of its own."""
    rows = []
    for times in multiples:
        frames = length * times
        numbers = {"seed": seed, "size": size, "steps": steps, "num-frames": frames}
        options = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
        seconds, peak = fresh(model, PROMPTS[0], *options)
        rows.append({"times": times, "frames": frames, "GiB": peak, "seconds": seconds})
        print("{frames:6} frames  {GiB:6.2f} GiB  {seconds:7.1f} s".format(**rows[-1]), flush=True)
    return rows


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["seams", "drift", "memory"])
    parser.add_argument("--model", type=Path, default=default_model())
    parser.add_argument("--prompts", type=int, default=len(PROMPTS))
    parser.add_argument("--seconds", type=float, default=60.0, help="drift: of a video")
    parser.add_argument("--length", type=int, default=MAX_FRAMES, help="memory: frames of the shortest video")
    parser.add_argument("--multiples", type=int, nargs="+", default=[1, 4, 16], help="memory: of that length")
    parser.add_argument("--size", type=int, default=256, help="memory: pixels a side")
    parser.add_argument("--steps", type=int, help="default: 16; memory: 4")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures")
    arguments = parser.parse_args()
    what, seed = arguments.what, arguments.seed
    if what == "memory":
        steps, size = arguments.steps or 4, arguments.size
        rows = memory(arguments.model, seed, steps, size, arguments.length, arguments.multiples)
    else:
        pipe, prompts = load(arguments.model), PROMPTS[: arguments.prompts]
        options = {"num_inference_steps": arguments.steps or 16}
        if what == "seams":
            rows = seams(pipe, prompts, seed, **options)
        else:
            rows = drift(pipe, prompts, seed, seconds=arguments.seconds, **options)
    if arguments.json:
        save_benchmark(arguments.json, what, arguments, rows, weights_hash(arguments.model))


if __name__ == "__main__":
    one_sentence(main)
