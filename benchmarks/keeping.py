"""Does what D_t is shown stay whole? Pictures of clips that it has learnt, and of concepts that no network has seen.

    python benchmarks/keeping.py DATA [--clips 32] [--json FILE]

DATA is the folder that `make-a-video data emoji` built. The first frame of clips, drawn by seed, is animated, 16 frames
at 8 a second; beside it are the 16 real frames. Parts: squares of 8 pixels of the first frame with something in them;
each is looked for in every later frame, up to 6 pixels away, and what is left of the difference at the best place (root
mean square, in levels of 255) says how much of it melts. Likeness: cosine of the frames' embeddings to the first one's.
Motion: mean change from frame to frame, in levels of 255: a clip that stands still keeps everything.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from emoji_bars import drawn_clips, motion
from makeavideo.data.clips import UnlabelledClips
from makeavideo.emoji.concepts import split
from makeavideo.evaluation.results import one_sentence, save_benchmark
from makeavideo.included import default_model
from makeavideo.loading import weights_hash
from makeavideo.pipeline import MakeAVideoPipeline
from makeavideo.sampling import to_uint8

FRAMES, FPS = 16, 8.0
SIDE, AWAY = 8, 6
"""Pixels of a part, and how far it may have moved."""
TEXTURE = 25.0
"""Deviation, in levels, from which on a part has something in it."""


def melted(frames: np.ndarray) -> float:
    """Levels that parts of the first frame are off at their best places in the others; uint8 (frames, h, w, 3)."""
    clip = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    height, width = clip.shape[-2:]
    first = clip[:1]
    squares = F.unfold(first, SIDE, stride=SIDE // 2)
    textured = squares.std(1)[0] > TEXTURE
    room = F.pad(clip[1:], (AWAY,) * 4, value=255.0)
    best = torch.full((len(room), len(textured)), torch.inf)
    for down in range(2 * AWAY + 1):
        for across in range(2 * AWAY + 1):
            off = (room[..., down : down + height, across : across + width] - first).square().mean(1, keepdim=True)
            best = torch.minimum(best, F.avg_pool2d(off, SIDE, SIDE // 2).flatten(1))
    return float(best[:, textured].sqrt().mean())


def likeness(pipe: MakeAVideoPipeline, frames: np.ndarray) -> float:
    embedded = pipe.embed_pictures(torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1)
    return float(torch.cosine_similarity(embedded[1:], embedded[:1]).mean())


def kept(pipe: MakeAVideoPipeline, clips: list[np.ndarray], steps: int, seed: int) -> dict[str, dict[str, float]]:
    """Means over the clips, of the real frames and of those that are made."""
    rows: dict[str, list] = {"real": [], "made": []}
    for number, clip in enumerate(clips):
        generator = torch.Generator().manual_seed(seed + number)
        options = {"size": pipe.sizes[0], "num_inference_steps": steps, "output_type": "pt", "generator": generator}
        made = to_uint8(pipe.animate(clip[0], num_frames=FRAMES, fps=FPS, **options).frames * 2 - 1)[0]
        for name, frames in (("real", clip), ("made", made)):
            rows[name].append((melted(frames), likeness(pipe, frames), motion(frames)))
    means = {name: np.nanmean(found, 0).tolist() for name, found in rows.items()}
    return {name: dict(zip(("parts", "likeness", "motion"), found, strict=True)) for name, found in means.items()}


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path, default=default_model())
    parser.add_argument("--clips", type=int, default=32, help="of each kind")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures")
    arguments = parser.parse_args()

    pipe = MakeAVideoPipeline.load(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    unseen, still = split().held_out_all, split().no_motion
    kinds: dict[str, Callable[[str], bool]] = {
        "learnt": lambda key: key not in still,
        "never seen": lambda key: key in unseen,
    }
    figures = {}
    for kind, include in kinds.items():
        data = UnlabelledClips(arguments.data / "clips", pipe.sizes[0], FRAMES, FPS, include=include, cache_bytes=0)
        clips = drawn_clips(data, arguments.clips, arguments.seed)
        figures[kind] = kept(pipe, clips, arguments.steps, arguments.seed)
        for name, row in figures[kind].items():
            print(f"{kind:10} {name}  " + "  ".join(f"{what} {value:6.3f}" for what, value in row.items()), flush=True)
    if arguments.json:
        save_benchmark(arguments.json, "keeping", arguments, figures, weights_hash(arguments.model))


if __name__ == "__main__":
    one_sentence(main)
