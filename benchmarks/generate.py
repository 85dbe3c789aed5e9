"""What a video costs: for each stage of the cascade the operations, the seconds and the share of the machine's rate.

    python benchmarks/generate.py [--size 768] [--num-frames 76] [--steps 16] [--json FILE]

The machine's rate R is that of a 3x3 convolution of 192 channels in the precision that the pipeline uses, in GFLOP/s,
measured first. Then the seconds of a whole `make-a-video generate` in a fresh process, from start to finished file, and
its peak memory, each beside its bar for 76 frames, which R decides: 3,000/R s at 256 pixels, 4,500/R s at 768,
1,000/R + 3 s with --fast.
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from long_video import fresh
from makeavideo.evaluation.results import machine, one_sentence, save_benchmark
from makeavideo.figures import MAX_FRAMES
from makeavideo.included import default_model
from makeavideo.loading import weights_hash
from makeavideo.work import WatchedPipeline

BARS = {"--fast": (1000, 3), "--size 256": (3000, 0), "--size 768": (4500, 0)}
"""Options of `generate`: GFLOP and seconds besides."""


def bar_of(options: str, rate: float) -> float | None:
    """Seconds that a machine of `rate` GFLOP/s may take, None where nothing is asked for."""
    work, besides = BARS.get(options, (None, None))
    return None if work is None else work / rate + besides


def convolution_rate(dtype: torch.dtype) -> float:
    """Operations a second of a large convolution."""
    x = torch.randn(16, 192, 32, 32, dtype=dtype).contiguous(memory_format=torch.channels_last)
    conv = nn.Conv2d(192, 192, 3, padding=1).to(dtype).to(memory_format=torch.channels_last)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        conv(x)
    seconds = []
    with torch.no_grad():
        for _ in range(20):
            start = time.perf_counter()
            conv(x)
            seconds.append(time.perf_counter() - start)
    return counter.get_total_flops() / min(seconds)


class Clock:
    """A `work.Watcher`: seconds of each stage, up to its last step, and whose turn it is."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self.stage, self.last = "", time.perf_counter()

    def on_stage(self, stage: str) -> None:
        self.stage = stage

    def on_step(self, stage: str, step: int, sample: torch.Tensor) -> None:
        now = time.perf_counter()
        self.seconds[stage] += now - self.last
        self.last = now


def stages_of(pipe: WatchedPipeline, prompt: str, seed: int, **options) -> list[dict]:
    """Operations and seconds of each stage; counting slows a run, so they come from two."""

    def run() -> Clock:
        clock = pipe.watcher = Clock()
        generator = torch.Generator().manual_seed(seed)
        for _ in pipe(prompt, generator=generator, output_type="stream", **options).frames:
            pass
        return clock

    seconds = run().seconds
    operations: dict[str, float] = defaultdict(float)
    for network in pipe.components.values():
        if isinstance(network, nn.Module):
            forward = network.forward

            def counted(*args, _forward=forward, **kwargs):
                with FlopCounterMode(display=False) as counter:
                    result = _forward(*args, **kwargs)
                operations[pipe.watcher.stage] += counter.get_total_flops()
                return result

            network.forward = counted
    run()
    return [{"stage": name, "GFLOP": operations[name] / 1e9, "seconds": taken} for name, taken in seconds.items()]


def start_to_file(model: Path, prompt: str, seed: int, rate: float, runs: list[tuple[str, ...]]) -> list[dict]:
    """`make-a-video generate` with each list of options, beside its bar."""
    rows = []
    for options in runs:
        seconds, peak = fresh(model, prompt, "--seed", str(seed), *options)
        name = " ".join(options)
        rows.append({"options": name, "seconds": seconds, "GiB": peak, "bar": bar_of(name, rate)})
        bar = rows[-1]["bar"]
        verdict = "no bar" if bar is None else f"bar {bar:.1f} s: {'holds' if seconds <= bar else 'does not hold'}"
        print(f"generate {name:12} start to file: {seconds:6.1f} s, {verdict}, peak memory {peak:.2f} GiB", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=default_model())
    parser.add_argument("--prompt", default="a rocket taking off")
    parser.add_argument("--size", type=int)
    parser.add_argument("--num-frames", type=int, default=76)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures")
    arguments = parser.parse_args()

    start = time.perf_counter()
    pipe = WatchedPipeline.load(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    size = arguments.size or pipe.sizes[-1]
    loading = time.perf_counter() - start
    precision = str(pipe.decoder.dtype).removeprefix("torch.")
    print("machine: {processor}, {threads} threads; torch {torch}".format(**machine()) + f"; {precision}")
    rate = convolution_rate(pipe.decoder.dtype) / 1e9
    print(f"3x3 convolution, R: {rate:.0f} GFLOP/s; loading: {loading:.1f} s")

    options = {"num_frames": arguments.num_frames, "size": size, "num_inference_steps": arguments.steps}
    stages = stages_of(pipe, arguments.prompt, arguments.seed, **options)
    print(f"\n{arguments.num_frames} frames, {size} pixels, {arguments.steps} steps")
    print(f"{'stage':24}{'GFLOP':>10}{'seconds':>10}{'GFLOP/s':>10}{'of rate':>10}")
    for row in stages:
        speed = row["GFLOP"] / row["seconds"]
        row["of rate"] = speed / rate
        print("{stage:24}{GFLOP:10.0f}{seconds:10.2f}".format(**row) + f"{speed:10.0f}{speed / rate:10.0%}")

    frames = () if arguments.num_frames == MAX_FRAMES else ("--num-frames", str(arguments.num_frames))
    sizes = [("--fast",), *(("--size", str(pixels), *frames) for pixels in pipe.sizes[1:])]
    print()
    whole = start_to_file(arguments.model, arguments.prompt, arguments.seed, rate, sizes)
    if arguments.json:
        figures = {
            "precision": precision,
            "convolution GFLOP/s": rate,
            "loading seconds": loading,
            "size": size,
            "stages": stages,
            "generate": whole,
        }
        save_benchmark(arguments.json, "generate", arguments, figures, weights_hash(arguments.model))


if __name__ == "__main__":
    one_sentence(main)
