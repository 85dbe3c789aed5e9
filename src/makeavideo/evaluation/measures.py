"""The measures on frames, on text and on motion. The Fréchet distance between videos is in `frechet`.

Every measure takes a folder of videos or a list of files, reads one video at a time, and gives a `Result`.
"""

import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UserError
from ..media.reader import read_video
from .features import FeatureNetwork, TextImageNetwork, classifier, image_features, in_batches, text_image_network
from .frechet import FeatureSet, compare, shown
from .results import Result, Value, bootstrap, bootstrap_settings, mean_value
from .videos import Tell, captions_of, chosen_videos, list_videos, spread

Folder = str | Path | list[Path]

STILL = 8
"""A pixel stands still where every frame is within this many of 255 levels of its median over time."""
STILL_SHARE = 0.01
"""Flicker is only measured where at least this part of the frame stands still."""
FLOW_SIDE = 64
"""Smaller frames are enlarged to this before the flow is measured: its patches are 8 pixels wide."""


class Precomputed(nn.Module):
    """Lets a torchmetrics image metric work on features that are at hand already."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frames_of(folder: Folder, count: int, limit: int | None, seed: int, tell: Tell | None, what: str):
    """(path, uint8 (count, h, w, 3)) of each video: frames spread evenly over it."""
    files = chosen_videos(folder, limit, seed)
    for index, path in enumerate(files):
        yield path, spread(read_video(path).frames, count)
        if tell:
            tell(what, index + 1, len(files))


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
    metric: Any = None
    sets, counts = [], {}
    for folder, is_real, name in ((real, True, "real"), (made, False, "made")):
        found = FeatureSet()
        for _, pictures in frames_of(folder, frames, max_videos, seed, tell, f"{name} videos"):
            features = in_batches(network, pictures[:, None], batch_size)
            if metric is None:
                metric = FrechetInceptionDistance(Precomputed(features.shape[1])).set_dtype(torch.float64)
            metric.update(torch.from_numpy(features).double(), real=is_real)
            found.add(features[None])
        sets.append(found)
        counts |= {f"{name} videos": found.gaussian.count // frames, f"{name} frames": found.gaussian.count}
    if min(found.gaussian.count for found in sets) < 2:
        raise UserError("A Fréchet distance needs at least two frames in each set: give more videos.")
    value = compare(sets[0], sets[1], draws, seed)
    return Result(
        measure=network.name,
        values={"distance": Value(float(metric.compute()), value.interval, value.note)},
        settings={"real": shown(real), "made": shown(made), "frames a video": frames, "max_videos": max_videos},
        counts=counts,
        seed=seed,
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
        network={"name": type(network).__name__, "weights": network.weights},
        bootstrap=bootstrap_settings(draws),
    )


def embedded(
    made: Folder,
    captions: str | Path | Sequence[str] | None,
    network: TextImageNetwork,
    frames: int,
    batch_size: int,
    tell: Tell | None,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Texts (videos, dim), frames (videos, frames, dim), both unit vectors, and the captions."""
    files = list(made) if isinstance(made, list) else list_videos(made)
    if captions is None or isinstance(captions, (str, Path)):
        captions = captions_of(files, captions, made if isinstance(made, (str, Path)) else None)
    elif len(captions) != len(files):
        raise UserError(f"There are {len(captions)} captions for {len(files)} videos: give one for each.")
    pictures = [
        in_batches(network.embed_frames, shots, batch_size)
        for _, shots in frames_of(files, frames, None, 0, tell, "videos")
    ]
    captions = list(captions)
    parts = [network.embed_texts(captions[start : start + 256]) for start in range(0, len(captions), 256)]
    return np.concatenate(parts), np.stack(pictures), captions


def clipsim(
    made: Folder,
    network: TextImageNetwork | str | Path,
    captions: str | Path | Sequence[str] | None = None,
    frames: int = 16,
    seed: int = 0,
    draws: int = 1000,
    batch_size: int = 32,
    tell: Tell | None = None,
) -> Result:
    """CLIPSIM (GODIVA, arXiv 2104.14806): cosine of text and frame, mean over a video's frames, then over videos.

    Args:
        network: a TextImageNetwork, or what `text_image_network` takes.
        captions: a csv (see `captions_of`), one caption a video, or None: the prompt in each file's recipe.
        frames: how many of each video, evenly spread.

    Raises:
        UserError: an empty folder, an unreadable video, a video without caption, no such network.
    """
    network = text_image_network(network) if isinstance(network, (str, Path)) else network
    texts, pictures, _ = embedded(made, captions, network, frames, batch_size, tell)
    cosines = np.einsum("vd,vfd->v", texts, pictures) / pictures.shape[1]
    return Result(
        measure="CLIPSIM",
        values={"cosine": mean_value(cosines.astype(np.float64), draws, seed)},
        settings={"made": shown(made), "frames a video": frames, "captions": source_of(captions)},
        counts={"videos": len(cosines), "frames": pictures.shape[0] * pictures.shape[1]},
        seed=seed,
        network={"name": network.name, "weights": network.weights},
        bootstrap=bootstrap_settings(draws),
    )


def source_of(captions: str | Path | Sequence[str] | None) -> str:
    if captions is None:
        return "each file's recipe"
    return str(captions) if isinstance(captions, (str, Path)) else "given"


def retrieval(
    made: Folder,
    network: TextImageNetwork | str | Path,
    captions: str | Path | Sequence[str] | None = None,
    frames: int = 16,
    seed: int = 0,
    draws: int = 1000,
    batch_size: int = 32,
    tell: Tell | None = None,
) -> Result:
    """Text-to-video retrieval: does a caption find its video among all? R@1, R@5 and the median rank (1 is best).

    A video is the mean of its frames' unit vectors, as in CLIP4Clip's parameter-free head (arXiv 2104.08860). Videos of
    the very same caption are equally right: the rank is that of the best of them. The interval resamples captions and
    leaves the videos that they choose from as they are. Arguments and errors as for `clipsim`.
    """
    network = text_image_network(network) if isinstance(network, (str, Path)) else network
    texts, pictures, names = embedded(made, captions, network, frames, batch_size, tell)
    videos = pictures.mean(1)
    videos /= np.linalg.norm(videos, axis=1, keepdims=True)
    _, number = np.unique(names, return_inverse=True)
    ranks = ranks_of(texts @ videos.T, number)
    values = {}
    for name, statistic in (
        ("R@1", lambda r: (r <= 1).mean()),
        ("R@5", lambda r: (r <= 5).mean()),
        ("median rank", np.median),
    ):
        interval = bootstrap(lambda chosen, s=statistic: s(ranks[chosen]), [len(ranks)], draws, seed)
        values[name] = Value(float(statistic(ranks)), interval)
    return Result(
        measure="text-video retrieval",
        values=values,
        settings={"made": shown(made), "frames a video": frames, "captions": source_of(captions)},
        counts={"videos": len(ranks), "different captions": int(number.max()) + 1},
        seed=seed,
        network={"name": network.name, "weights": network.weights},
        bootstrap={**(bootstrap_settings(draws) or {}), "resampled": "captions"} if draws else None,
    )


def ranks_of(similarity: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Rank (texts,) of the best right video: 1 + how many wrong ones are as near or nearer.

    similarity: (texts, videos). number: (texts,), the caption's number; text i and video i belong together.
    """
    right = number[:, None] == number[None]
    best = np.where(right, similarity, -np.inf).max(1, keepdims=True)
    return 1 + ((similarity >= best) & ~right).sum(1)


def motion_of(frames: np.ndarray) -> dict[str, float]:
    """How one video (frames, h, w, 3), uint8, at least two frames, moves.

    - "frame difference": mean absolute change from frame to frame, levels of 255.
    - "static area": per cent of the pixels that stand still: within STILL levels of their median over time.
    - "flow": mean length of the optical flow (DIS, Kroeger et al., arXiv 1603.03590, OpenCV's medium preset), in per
      cent of the frame's width a frame, so that sizes can be compared. What stands still counts as zero: the flow of a
      moving thing spreads over a plain background.
    - "flicker": mean absolute change from frame to frame in the static area, levels of 255; NaN where it is too small.
    - "loop gap": mean absolute difference of the last frame and the first, levels of 255: 0 is a loop that closes on
      the same picture.
    """
    change = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean(3)
    height, width = frames.shape[1:3]
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    zoom = max(1.0, FLOW_SIDE / min(height, width))
    if zoom > 1:
        size = (round(width * zoom), round(height * zoom))
        grey = [cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR) for picture in grey]
    estimator: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    lengths = np.zeros(grey[0].shape, np.float32)
    for before, after in pairwise(grey):
        lengths += np.linalg.norm(estimator.calc(before, after, None), axis=2)
    lengths = cv2.resize(lengths, (width, height), interpolation=cv2.INTER_AREA)
    lengths *= 100 / (len(frames) - 1) / grey[0].shape[1]
    still = (np.abs(frames - np.median(frames, 0)).mean(3) <= STILL).all(0)
    return {
        "frame difference": float(change.mean()),
        "flow": float((lengths * ~still).mean()),
        "static area": 100 * float(still.mean()),
        "flicker": float(change[:, still].mean()) if still.mean() >= STILL_SHARE else float("nan"),
        "loop gap": float(np.abs(frames[-1].astype(np.int16) - frames[0]).mean()),
    }


def motion(
    made: Folder,
    max_frames: int | None = None,
    max_videos: int | None = None,
    seed: int = 0,
    draws: int = 1000,
    tell: Tell | None = None,
) -> Result:
    """How the videos of a folder move: means over videos of what `motion_of` measures. No network.

    Videos of one frame are left out; those of which nothing stands still are left out of the flicker only. Compare
    videos of the same frame rate only.

    Raises:
        UserError: an empty folder, an unreadable video, no video of two frames or more.
    """
    files = chosen_videos(made, max_videos, seed)
    rows = []
    for index, path in enumerate(files):
        frames = read_video(path, max_frames=max_frames).frames
        if len(frames) > 1:
            rows.append(motion_of(frames))
        if tell:
            tell("videos", index + 1, len(files))
    if not rows:
        raise UserError("No video has two frames or more, so nothing moves: give longer videos.")
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    counts = {"videos": len(rows), "single frames": len(files) - len(rows)}
    counts["videos without static area"] = int(np.isnan(columns["flicker"]).sum())
    values = {}
    for name, column in columns.items():
        known = column[~np.isnan(column)]
        values[name] = mean_value(known, draws, seed) if len(known) else Value(None, None, "nothing stands still")
    return Result(
        measure="motion",
        values=values,
        settings={"made": shown(made), "max_frames": max_frames, "max_videos": max_videos, "still": STILL},
        counts=counts,
        seed=seed,
        bootstrap=bootstrap_settings(draws),
    )
