"""One picture passes into another; they are the first and the last frame.

python examples/interpolate.py first.png last.png between.mp4 [SIZE]
"""

import sys

import torch

from makeavideo.included import default_model
from makeavideo.media.writer import write_video
from makeavideo.pipeline import MakeAVideoPipeline

first, last, output, *size = sys.argv[1:]
pipe = MakeAVideoPipeline.load(default_model())
generator = torch.Generator().manual_seed(1)
size = int(size[0]) if size else None
frames = pipe.interpolate(first, last, num_frames=76, size=size, generator=generator, output_type="np").frames[0]
write_video(output, (frames * 255).round().astype("uint8"), fps=24)
