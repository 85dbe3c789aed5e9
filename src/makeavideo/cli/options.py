"""The options that several commands have, and where they speak: standard error."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console(stderr=True)

Output = Annotated[Path, typer.Option("--output", "-o", help="File to write; its ending names the format.")]
Model = Annotated[Path | None, typer.Option(help="Folder of the cascade; default: the emoji cascade.")]
LARGEST_SEED = 2**62
"""Generators take a little more, and files of votes too."""
Seed = Annotated[int | None, typer.Option(min=0, max=LARGEST_SEED, help="Same seed, same machine: same video.")]
NumFrames = Annotated[int | None, typer.Option(help="Frames to make; default 76. Any number: memory does not grow.")]
Seconds = Annotated[float | None, typer.Option(help="Length to make, in seconds, instead of --num-frames.")]
Fps = Annotated[float, typer.Option(help="Frames a second, 1 to 60; the lower, the more moves from frame to frame.")]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="PIXELS", help="Where in the cascade to stop (64, 256, 768), or another shape, width x height: 256x144."
    ),
]
Steps = Annotated[int | None, typer.Option(help="Denoising steps of the decoder.")]
Guidance = Annotated[float, typer.Option(help="How closely to follow the prompt; 1 is off.")]
Motion = Annotated[float | None, typer.Option(help="How much moves: 0 (still) to 2; 1 is usual.")]
Loop = Annotated[bool, typer.Option("--loop", help="The last frame passes into the first one.")]
Quality = Annotated[int | None, typer.Option(help="Of mp4, webm and webp: 1 (smallest file) to 100 (best).")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16; default: what the device is fast in.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps ...; default: a CUDA GPU, or the processor.")]
Offload = Annotated[
    str | None, typer.Option(help="With a GPU of little memory: model (one network there at a time) or sequential.")
]
Fast = Annotated[bool, typer.Option("--fast", help="A quick look: 16 frames at the smallest size.")]
MotionModule = Annotated[
    Path | None, typer.Option(help="What the decoder knows of motion, a file of `train: temporal`.")
]
MotionModuleScale = Annotated[float, typer.Option(help="How much of it: 1 as trained, 0 no motion.")]
Lora = Annotated[
    list[str] | None, typer.Option(metavar="FILE[:STRENGTH]", help="A LoRA for the decoder; can be repeated.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors.")]
AllowHost = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="A further name to open the page under, such as a proxy's.")
]
Prompt = Annotated[str | None, typer.Option(help="Mix the meaning of these words into the picture's.")]
PromptWeight = Annotated[float, typer.Option(help="How much of the prompt to mix in, 0 to 1.")]
FitOption = Annotated[
    str,
    typer.Option(
        "--fit", help="What is of another shape: crop (cut the centre), pad, or keep (the video gets its shape)."
    ),
]
Background = Annotated[str, typer.Option(help="Colour behind what is transparent or padded.")]
