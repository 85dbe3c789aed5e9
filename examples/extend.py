"""A video goes on; its frames stream to the file, so that its length costs no memory.

python examples/extend.py rocket.mp4 longer.mp4 SECONDS [SIZE]
"""

import sys

import torch

from makeavideo.included import default_model
from makeavideo.media.reader import probe
from makeavideo.media.writer import VideoWriter
from makeavideo.pipeline import MakeAVideoPipeline
from makeavideo.sampling import to_uint8

video, output, seconds, *size = sys.argv[1:]
pipe = MakeAVideoPipeline.load(default_model())
size = int(size[0]) if size else None
fps = probe(video).fps
generator = torch.Generator().manual_seed(1)
options = {"seconds": float(seconds), "fps": fps, "size": size, "generator": generator, "output_type": "stream"}
with VideoWriter(output, fps) as writer:
    for chunk in pipe.extend(video, **options).frames:
        for frame in to_uint8(chunk)[0]:
            writer.write(frame)
