"""The moving picture at the top of the README: several prompts side by side.

    python benchmarks/demo_picture.py docs/demo.webp [PROMPT ...] [--count 8] [--seed 0]

Without prompts, they are sentences of evaluation/sentences.tsv, drawn by seed and not picked by their looks. A still of
each of the 200, twenty a row:

    python benchmarks/demo_picture.py docs/sentences.webp --count 200 --num-frames 1 --columns 20 --pixels 96
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from makeavideo.included import default_model
from makeavideo.media.writer import write_video
from makeavideo.pipeline import MakeAVideoPipeline
from makeavideo.sampling import to_uint8
from wording import SENTENCES, read_sentences


def sentences(count: int, seed: int) -> list[str]:
    """So many drawn by seed; all of them, in the file's order, if there are no more."""
    known = read_sentences(SENTENCES)
    return known.words if count >= len(known.words) else known.some(count, seed).words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("prompts", nargs="*")
    parser.add_argument("--count", type=int, default=8, help="sentences that are drawn if no prompt is given")
    parser.add_argument("--model", type=Path, default=default_model())
    parser.add_argument("--columns", type=int, default=4)
    parser.add_argument("--num-frames", type=int, default=46)
    parser.add_argument("--fps", type=float, default=16)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--pixels", type=int, default=160, help="side of each video in the picture")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    prompts = arguments.prompts or sentences(arguments.count, arguments.seed)
    print("\n".join(prompts))
    pipe = MakeAVideoPipeline.load(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    videos = []
    for prompt in prompts:
        generator = torch.Generator().manual_seed(arguments.seed)
        options = {"num_frames": arguments.num_frames, "fps": arguments.fps, "size": pipe.sizes[1]}
        options["num_inference_steps"] = arguments.steps
        frames = pipe(prompt, generator=generator, output_type="pt", **options).frames[0]
        side = (arguments.pixels, arguments.pixels)
        small = torch.nn.functional.interpolate(frames, side, mode="bilinear", antialias=True)
        videos.append(to_uint8(small[None] * 2 - 1)[0])
    rows = [np.concatenate(videos[i : i + arguments.columns], 2) for i in range(0, len(videos), arguments.columns)]
    write_video(arguments.output, np.concatenate(rows, 1), arguments.fps, {"prompts": prompts})


if __name__ == "__main__":
    main()
