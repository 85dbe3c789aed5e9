"""Three other videos of the same meaning.

python examples/vary.py rocket.mp4 variation.mp4 [SIZE]      writes variation_0.mp4, variation_1.mp4, variation_2.mp4
"""

import sys
from pathlib import Path

import torch

from makeavideo.included import default_model
from makeavideo.media.writer import write_video
from makeavideo.pipeline import MakeAVideoPipeline

video, output, *size = sys.argv[1:]
pipe = MakeAVideoPipeline.load(default_model())
size = int(size[0]) if size else None
for seed in range(3):
    generator = torch.Generator().manual_seed(seed)
    frames = pipe.vary(video, num_frames=46, size=size, generator=generator, output_type="np").frames[0]
    name = Path(output).with_stem(f"{Path(output).stem}_{seed}")
    write_video(name, (frames * 255).round().astype("uint8"), fps=24)
