"""What a Fréchet distance on emoji features means: from half of the real clips to the other half, and to worse videos.

    python benchmarks/floors.py DATA [--videos 128] [--json FILE]

DATA is the folder that `make-a-video data emoji` built. As many clips everywhere, 16 frames at 8 a second: the other
half as it is (the floor: no generator can be expected below it), with its frames shuffled, standing still at its first
frame, and what the cascade makes of the captions of that half's concepts.
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from emoji_bars import make_videos
from makeavideo.data.clips import UnlabelledClips
from makeavideo.data.images import CaptionedImages
from makeavideo.errors import UserError
from makeavideo.evaluation.features import video_features
from makeavideo.evaluation.frechet import compare, features_of
from makeavideo.evaluation.results import one_sentence, save_benchmark
from makeavideo.included import default_model
from makeavideo.loading import weights_hash
from makeavideo.pipeline import MakeAVideoPipeline
from makeavideo.sampling import to_uint8

FRAMES, FPS = 16, 8.0


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path, default=default_model())
    parser.add_argument("--videos", type=int, default=128, help="in each set")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--bootstrap", type=int, default=100, help="resamples for the 95 %% intervals")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures")
    arguments = parser.parse_args()
    seed = arguments.seed

    pipe = MakeAVideoPipeline.load(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    stills = CaptionedImages(arguments.data / "images", pipe.sizes[0])
    captions = {key: stills.captions(i)[0] for i, key in enumerate(stills.keys) if stills.captions(i)}
    clips = UnlabelledClips(arguments.data / "clips", pipe.sizes[0], FRAMES, fps=FPS, cache_bytes=0)
    named = [i for i, key in enumerate(clips.keys) if key in captions]
    if len(named) < 2 * arguments.videos:
        raise UserError(f"{len(named)} clips have a caption: give --videos at most {len(named) // 2}.")
    drawn = np.random.default_rng(seed).permutation(named)[: 2 * arguments.videos]

    def real(indices: np.ndarray) -> Iterator[np.ndarray]:
        return (to_uint8(clips[(int(i), seed)]["pixels"][None])[0] for i in indices)

    half, other = drawn[::2], drawn[1::2]
    prompts = [captions[clips.keys[i]] for i in other]
    rng = np.random.default_rng(seed)
    sets = {
        "the other half": real(other),
        "the other half, frames shuffled": (frames[rng.permutation(FRAMES)] for frames in real(other)),
        "the other half, standing still": (np.repeat(frames[:1], FRAMES, 0) for frames in real(other)),
        "made": make_videos(pipe, prompts, FRAMES, FPS, arguments.steps, arguments.guidance, seed),
    }
    network = video_features("emoji")
    reference = features_of((frames[None] for frames in real(half)), network)
    distances = {}
    for name, videos in sets.items():
        value = compare(reference, features_of((frames[None] for frames in videos), network), arguments.bootstrap, seed)
        distances[name] = asdict(value)
        print(f"{name:36}{value.value:10.2f}", flush=True)
    if arguments.json:
        figures = {"measure": network.name, "network": network.weights, "distances": distances}
        save_benchmark(arguments.json, "floors", arguments, figures, weights_hash(arguments.model))


if __name__ == "__main__":
    one_sentence(main)
