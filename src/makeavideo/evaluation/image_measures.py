"""The measures on frames by torchmetrics: FID and the Inception Score.

Every measure takes a folder of videos or a list of files, reads one video at a time, and gives a `Result`.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UserError
from ..media.reader import read_video
from .classifiers import classifier
from .features import FeatureNetwork, image_features, in_batches
from .frechet import FeatureSet, compare
from .results import Result, Value, bootstrap, bootstrap_settings
from .videos import Folder, Tell, chosen_videos, frames_of, shown, spread, still_pictures


class Precomputed(nn.Module):
    """Lets a torchmetrics image metric work on features that are at hand already."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def fid(
    real: Folder,
    made: Folder,
    network: FeatureNetwork | str | Path,
    frames: int = 16,
    max_videos: int | None = None,
    seed: int = 0,
    draws: int = 100,
    batch_size: int = 32,
    tell: Tell | None = None,
) -> Result:
    """Fréchet distance between the frames of two sets (FID, Heusel et al., arXiv 1706.08500), by torchmetrics.

    Args:
        network: a FeatureNetwork, or what `image_features` takes.
        frames: how many of each video, evenly spread.
        draws: resamples of the bootstrap, which draws whole videos: frames of one video are no independent samples.

    Raises:
        UserError: an empty folder, an unreadable video, no such network.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    network = image_features(network) if isinstance(network, (str, Path)) else network
    metric: FrechetInceptionDistance | None = None
    sets: list[FeatureSet] = []
    counts: dict[str, int] = {}
    for folder, is_real, name in ((real, True, "real"), (made, False, "made")):
        found = FeatureSet()
        for _, pictures in frames_of(folder, frames, max_videos, seed, tell, f"{name} videos"):
            features = in_batches(network, pictures[:, None], batch_size)
            if metric is None:
                metric = FrechetInceptionDistance(Precomputed(features.shape[1]))
                metric.set_dtype(torch.float64)
            metric.update(torch.from_numpy(features).double(), real=is_real)
            found.add(features[None])
        sets.append(found)
        counts |= {f"{name} videos": found.gaussian.count // frames, f"{name} frames": found.gaussian.count}
    if metric is None or min(found.gaussian.count for found in sets) < 2:
        raise UserError("A Fréchet distance needs at least two frames in each set: give more videos.")
    value = compare(sets[0], sets[1], draws, seed)
    return Result(
        measure=network.name,
        values={"distance": Value(float(metric.compute()), value.interval, value.note)},
        settings={"real": shown(real), "made": shown(made), "frames a video": frames, "max_videos": max_videos},
        counts=counts,
        seed=seed,
        still_pictures=still_pictures(real, made),
        network={"name": type(network).__name__, "weights": network.weights},
        bootstrap=bootstrap_settings(draws),
    )


def score_of_logits(logits: Tensor, splits: int, seed: int) -> tuple[float, float]:
    """(mean, standard deviation) of the Inception Score over splits, by torchmetrics. logits: (n, classes)."""
    from torchmetrics.image.inception import InceptionScore

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # that it keeps all features: they are here already
        torch.manual_seed(seed)  # it shuffles with the global generator
        metric = InceptionScore(Precomputed(logits.shape[1]), splits=splits)
        metric.update(logits.double())
        mean, deviation = metric.compute()
    return float(mean), float(deviation)


def inception_score(
    made: Folder,
    network: FeatureNetwork | str | Path,
    clips: bool = False,
    frames: int = 16,
    splits: int = 10,
    max_videos: int | None = None,
    seed: int = 0,
    draws: int = 100,
    batch_size: int = 32,
    tell: Tell | None = None,
) -> Result:
    """Inception Score (Salimans et al., arXiv 1606.03498), by torchmetrics.

    Args:
        network: a FeatureNetwork that gives logits, or what `classifier` takes.
        clips: the network sees `frames` consecutive frames of each video and judges it once (C3D on UCF-101); otherwise
            it judges `frames` single frames, evenly spread.
        splits: parts that the score is averaged over; fewer where there are not two items for each.

    Raises:
        UserError: an empty folder, an unreadable video, no such network, fewer than two videos.
    """
    if isinstance(network, (str, Path)):
        network, clips = classifier(network, clips)
    rows, counts = [], {"videos": 0, "videos too short": 0}
    files = chosen_videos(made, max_videos, seed)
    for index, path in enumerate(files):
        video = read_video(path, max_frames=frames if clips else None).frames
        if clips and len(video) < frames:
            counts["videos too short"] += 1
        else:
            items = video[None] if clips else spread(video, frames)[:, None]
            rows.append(in_batches(network, items, batch_size))
            counts["videos"] += 1
        if tell:
            tell("videos", index + 1, len(files))
    if len(rows) < 2:
        raise UserError("An Inception Score needs at least two videos that are long enough: give more videos.")
    logits = torch.from_numpy(np.stack(rows))
    splits = max(1, min(splits, logits.shape[0] * logits.shape[1] // 2))
    mean, deviation = score_of_logits(logits.flatten(0, 1), splits, seed)

    def again(chosen: np.ndarray) -> float:
        return score_of_logits(logits[chosen].flatten(0, 1), splits, seed)[0]

    values = {"score": Value(mean, bootstrap(again, [len(rows)], draws, seed, centre=mean))}
    if splits > 1:
        values["standard deviation over splits"] = Value(deviation)
    return Result(
        measure=network.name,
        values=values,
        settings={"made": shown(made), "frames": frames, "clips": clips, "splits": splits, "max_videos": max_videos},
        counts=counts,
        seed=seed,
        still_pictures=still_pictures(made),
        network={"name": type(network).__name__, "weights": network.weights},
        bootstrap=bootstrap_settings(draws),
    )
