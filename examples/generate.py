"""A sentence becomes a video that closes on itself.

python examples/generate.py "a rocket" rocket.webp [SIZE]
"""

import sys

import torch

from makeavideo.included import default_model
from makeavideo.media.writer import write_video
from makeavideo.pipeline import MakeAVideoPipeline

prompt, output, *size = sys.argv[1:]
pipe = MakeAVideoPipeline.load(default_model())
generator = torch.Generator().manual_seed(1)
size = int(size[0]) if size else None
frames = pipe(prompt, loop=True, num_frames=60, size=size, generator=generator, output_type="np").frames[0]
write_video(output, (frames * 255).round().astype("uint8"), fps=24)
