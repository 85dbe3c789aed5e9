"""A picture is set in motion; it is the first frame.

python examples/animate.py photo.png moving.mp4 [SIZE]
"""

import sys

import torch

from makeavideo.included import default_model
from makeavideo.media.writer import write_video
from makeavideo.pipeline import MakeAVideoPipeline

picture, output, *size = sys.argv[1:]
pipe = MakeAVideoPipeline.load(default_model())
generator = torch.Generator().manual_seed(1)
size = int(size[0]) if size else None
frames = pipe.animate(picture, num_frames=46, size=size, generator=generator, output_type="np").frames[0]
write_video(output, (frames * 255).round().astype("uint8"), fps=24)
