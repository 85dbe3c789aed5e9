"""What a video costs: for each stage of the cascade the operations, the seconds and the share of the machine's rate.

    python benchmarks/generate.py [--size 768] [--num-frames 76] [--steps 16] [--json FILE]

The machine's rate is that of a 3x3 convolution of 192 channels in the precision that the pipeline uses, measured first.
Also prints the seconds of a whole `make-a-video generate` in a fresh process, and its peak memory.
"""

import argparse
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from long_video import fresh
from makeavideo.cli import default_model
from makeavideo.evaluation.results import machine, one_sentence, save_benchmark
from makeavideo.pipeline import MakeAVideoPipeline, weights_hash


def convolution_rate(dtype: torch.dtype) -> float:
    """Operations a second of a large convolution."""
    x = torch.randn(16, 192, 32, 32, dtype=dtype).contiguous(memory_format=torch.channels_last)
    conv = torch.nn.Conv2d(192, 192, 3, padding=1).to(dtype).to(memory_format=torch.channels_last)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        conv(x)
    seconds = []
    with torch.no_grad():
        for _ in range(20):
            start = time.perf_counter()
            conv(x)
            seconds.append(time.perf_counter() - start)
    return counter.get_total_flops() / min(seconds)


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
    pipe = MakeAVideoPipeline.load(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    size = arguments.size or pipe.sizes[-1]
    loading = time.perf_counter() - start
    precision = str(pipe.decoder.dtype).removeprefix("torch.")
    print("machine: {processor}, {threads} threads; torch {torch}".format(**machine()) + f"; {precision}")
    rate = convolution_rate(pipe.decoder.dtype)
    print(f"3x3 convolution: {rate / 1e9:.0f} GFLOP/s; loading: {loading:.1f} s")

    marks: dict[str, list[float]] = {}
    clock = [time.perf_counter()]

    def seconds_of(pipeline, step, timestep, state):
        now = time.perf_counter()
        marks.setdefault(state["stage"], []).append(now - clock[0])
        clock[0] = now

    def run(callback=None):
        video = pipe(
            arguments.prompt,
            num_frames=arguments.num_frames,
            size=size,
            num_inference_steps=arguments.steps,
            generator=torch.Generator().manual_seed(arguments.seed),
            callback_on_step_end=callback,
            output_type="stream",
        )
        for _ in video.frames:
            pass

    run(seconds_of)
    networks = {
        name: getattr(pipe, name)
        for name in ("prior", "decoder", "interpolator", "super_resolution_low", "super_resolution_high")
    }
    # counting slows the run, so operations and seconds come from two runs
    operations = dict.fromkeys(networks, 0)
    for name, network in networks.items():
        forward = network.forward

        def counted(*args, _forward=forward, _name=name, **kwargs):
            with FlopCounterMode(display=False) as counter:
                result = _forward(*args, **kwargs)
            operations[_name] += counter.get_total_flops()
            return result

        network.forward = counted
    run()
    print(f"\n{arguments.num_frames} frames, {size} pixels, {arguments.steps} steps")
    print(f"{'stage':24}{'GFLOP':>10}{'seconds':>10}{'GFLOP/s':>10}{'of rate':>10}")
    stages = []
    for name, taken in marks.items():
        total, gflop = sum(taken), operations[name] / 1e9
        stages.append({"stage": name, "GFLOP": gflop, "seconds": total, "of rate": gflop * 1e9 / total / rate})
        print(f"{name:24}{gflop:10.0f}{total:10.2f}{gflop / total:10.0f}{stages[-1]['of rate']:10.0%}")

    whole = []
    sizes = [("--fast",), *(("--size", str(pixels)) for pixels in pipe.sizes[1:])]
    for options in sizes:
        seconds, peak = fresh(arguments.model, arguments.prompt, "--seed", str(arguments.seed), *options)
        whole.append({"options": " ".join(options), "seconds": seconds, "GiB": peak})
        print(f"generate {whole[-1]['options']:12} start to file: {seconds:6.1f} s, peak memory {peak:.2f} GiB")
    if arguments.json:
        figures = {
            "precision": precision,
            "convolution GFLOP/s": rate / 1e9,
            "loading seconds": loading,
            "size": size,
            "stages": stages,
            "generate": whole,
        }
        save_benchmark(arguments.json, "generate", arguments, figures, weights_hash(arguments.model))


if __name__ == "__main__":
    one_sentence(main)
