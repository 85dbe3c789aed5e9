"""Does the decoder follow what it is told? The frame rate, and the strength of motion.

    python benchmarks/dials.py DATA [--prompts 16] [--rates 3 6 12 24] [--motions 0 0.3 1 1.5] [--json FILE]

DATA is the folder that `make-a-video data emoji` built. The same prompts and seeds at every rate, 16 frames by the
decoder alone; beside them clips of the data, read at the same rates: the lower the rate, the more must move from frame
to frame. Then at 8 frames a second with each strength of motion, where the decoder was trained with one. Motion: mean
change from frame to frame, in levels of 255.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from emoji_bars import drawn_clips, drawn_stills, make_videos, motion
from makeavideo.data.clips import UnlabelledClips
from makeavideo.data.images import CaptionedImages
from makeavideo.evaluation.results import one_sentence, save_benchmark
from makeavideo.included import default_model
from makeavideo.loading import weights_hash
from makeavideo.pipeline import MakeAVideoPipeline

FRAMES, FPS = 16, 8.0


def real_motion(data: Path, size: int, rate: float, count: int, seed: int) -> float:
    """Mean over clips of the data, drawn by seed, read at this rate."""
    clips = UnlabelledClips(data / "clips", size, FRAMES, fps=rate, cache_bytes=0)
    return float(np.mean([motion(frames) for frames in drawn_clips(clips, count, seed)]))


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path, default=default_model())
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--rates", type=float, nargs="+", default=[3.0, 6.0, 12.0, 24.0], help="frames a second")
    parser.add_argument("--motions", type=float, nargs="+", default=[0.0, 0.3, 1.0, 1.5], help="strengths")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures")
    arguments = parser.parse_args()

    pipe = MakeAVideoPipeline.load(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    size = pipe.sizes[0]
    stills = CaptionedImages(arguments.data / "images", size)
    prompts = [stills.captions(int(i))[0] for i in drawn_stills(stills, arguments.prompts, arguments.seed)]

    def made(rate: float, strength: float | None = None) -> float:
        told = (arguments.steps, arguments.guidance, arguments.seed)
        videos = make_videos(pipe, prompts, FRAMES, rate, *told, motion=strength)
        return float(np.mean([motion(frames) for frames in videos]))

    figures: dict[str, list] = {"rates": [], "motions": []}
    for rate in sorted(arguments.rates):
        real = real_motion(arguments.data, size, rate, arguments.clips, arguments.seed)
        figures["rates"].append({"fps": rate, "made": made(rate), "real": real})
        print("{fps:6g} frames a second  made {made:6.2f}  real {real:6.2f}".format(**figures["rates"][-1]), flush=True)
    for strength in sorted(arguments.motions) if pipe.decoder.config.motion else ():
        figures["motions"].append({"motion": strength, "made": made(FPS, strength)})
        print("motion {motion:6g}           made {made:6.2f}".format(**figures["motions"][-1]), flush=True)
    if arguments.json:
        save_benchmark(arguments.json, "dials", arguments, figures, weights_hash(arguments.model))


if __name__ == "__main__":
    one_sentence(main)
