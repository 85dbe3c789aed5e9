"""What does the third dimension cost? One clip of 16 frames of 64x64 through four networks, forward only, eager mode.

    python benchmarks/space_time.py [--threads N] [--repetitions 9] [--cpu-time] [--width 64] [--side 64] [--json FILE]

    2-D, as built     diffusers' UNet2DModel, 64/128/192/256 channels, on 16 pictures
    2-D, channels-last  the same with weights and pictures in the memory layout that inflated networks use
    inflated          the same network after `inflate`, on the clip
    peer              SpaceTimeUnet of make-a-video-pytorch (of the extra `dev`; without it the row is left out)

Repetitions are interleaved, so that a busy machine slows all alike; times are medians. Operations are counted by
torch.utils.flop_counter (which leaves out the products inside scaled_dot_product_attention on CPU: the true rate is a
little higher). `--cpu-time` measures this process's processor time instead of the wall clock: use it with
`--threads 1` on a machine that has other work to do. A processor without bf16 instructions emulates them: there bf16 is
left out.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from pathlib import Path

import torch
from diffusers import UNet2DModel
from torch.utils.flop_counter import FlopCounterMode

from makeavideo.evaluation.results import machine, one_sentence, save_benchmark
from makeavideo.inflation import inflate

FRAMES = 16
UNET = {
    "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    "attention_head_dim": 32,
}
PEER = {"dim_mult": (1, 2, 3, 4), "self_attns": (False, False, True, True), "attn_heads": 4}


def networks(width: int, side: int) -> dict[str, tuple[torch.nn.Module, object]]:
    """name -> (network, function that runs it once); `width` channels in the first level, `side` pixels a side."""
    clip = torch.randn(1, FRAMES, 3, side, side)
    pictures = clip.flatten(0, 1)
    last = pictures.contiguous(memory_format=torch.channels_last)
    timestep = torch.tensor([500])
    built = UNet2DModel(sample_size=side, block_out_channels=[width * level for level in (1, 2, 3, 4)], **UNET).eval()
    plain = copy.deepcopy(built).to(memory_format=torch.channels_last)
    inflated = inflate(built).to(memory_format=torch.channels_last)
    all_networks = {
        "2-D, as built": (built, lambda: built(pictures, timestep).sample),
        "2-D, channels-last": (plain, lambda: plain(last, timestep).sample),
        "inflated": (inflated, lambda: inflated(clip, timestep, fps=torch.tensor([8.0])).sample),
    }
    try:
        from make_a_video_pytorch import SpaceTimeUnet
    except ImportError:
        print("make-a-video-pytorch is not installed: no row for the peer")
        return all_networks
    peer = SpaceTimeUnet(dim=width, **PEER).eval()
    transposed = clip.transpose(1, 2).contiguous()
    return all_networks | {"peer": (peer, lambda: peer(transposed, timestep.float()))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--width", type=int, default=64, help="channels of the first level, a multiple of 32")
    parser.add_argument("--side", type=int, default=64, help="pixels a side, a multiple of 8")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    print("{processor}, {threads} thread(s), torch {torch}, ".format(**machine()) + clock.__name__)
    rows = networks(arguments.width, arguments.side)
    operations: dict[str, float] = {}
    figures: dict[str, dict] = {"networks": {}, "seconds": {}}
    with torch.inference_mode():
        for name, (network, run) in rows.items():
            with FlopCounterMode(display=False) as counter:
                run()
            operations[name] = counter.get_total_flops() / 1e9
            size = sum(p.numel() for p in network.parameters()) / 1e6
            figures["networks"][name] = {"M parameters": size, "GFLOP": operations[name]}
            print(f"{name:20}{size:8.1f} M parameters {operations[name]:8.0f} GFLOP")
    native = torch.cpu._is_avx512_bf16_supported()
    if not native:
        print("bfloat16: left out, this processor has no instructions for it and would emulate them")
    for dtype in (torch.bfloat16, torch.float32) if native else (torch.float32,):
        times = {name: [] for name in rows}
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            for repetition in range(arguments.repetitions + 1):
                for name, (_, run) in rows.items():
                    start = clock()
                    run()
                    if repetition:  # the first is to warm up
                        times[name].append(clock() - start)
        medians = {name: statistics.median(values) for name, values in times.items()}
        precision = str(dtype).removeprefix("torch.")
        figures["seconds"][precision] = medians
        print(f"\n{precision}")
        for name, seconds in medians.items():
            line = f"{name:20}{seconds:8.3f} s {operations[name] / seconds:8.0f} GFLOP/s"
            against = (f"{seconds / medians[other]:6.2f} x {other}" for other in rows if other.startswith("2-D"))
            print(line + "".join(f"{text:>30}" for text in against))
        if "peer" in rows:
            ours, theirs = (operations[name] / medians[name] for name in ("inflated", "peer"))
            print(f"inflated: {ours / theirs:.2f} times the peer's GFLOP/s")
    if arguments.json:
        save_benchmark(arguments.json, "space_time", arguments, figures)


if __name__ == "__main__":
    one_sentence(main)
