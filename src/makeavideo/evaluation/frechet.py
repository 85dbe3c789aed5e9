"""The Fréchet distance between two sets of videos, in the space of a feature network.

d^2 = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) for Gaussians with means m and covariances S (Dowson and Landau 1982;
Heusel et al., arXiv 1706.08500, for images; Unterthiner et al., arXiv 1812.01717, for videos: FVD).
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg

from ..errors import UserError
from .features import FeatureNetwork, video_features
from .results import Result, Value, bootstrap, bootstrap_settings
from .videos import ClipProtocol, Folder, Tell, read_clips, shown, still_pictures

KEPT_BYTES = 2**30
"""Features are kept, for the bootstrap, up to this size; past it only the sums stay and there is no interval."""


class Gaussian:
    """Mean and covariance of features that come in parts; sums in double precision around the first part's mean.

    Without that shift the covariance would be the small difference of two large sums.
    """

    def __init__(self) -> None:
        self.count = 0
        self._shift = self._sum = self._outer = np.zeros(0)

    def add(self, features: np.ndarray) -> None:
        """features: (n, dim)."""
        features = np.asarray(features, np.float64)
        if not self.count:
            self._shift = features.mean(0)
            self._sum = np.zeros_like(self._shift)
            self._outer = np.zeros((len(self._shift),) * 2)
        shifted = features - self._shift
        self.count += len(features)
        self._sum += shifted.sum(0)
        self._outer += shifted.T @ shifted

    @property
    def mean(self) -> np.ndarray:
        """(dim,)."""
        return self._shift + self._sum / self.count

    @property
    def covariance(self) -> np.ndarray:
        """(dim, dim), unbiased. UserError with fewer than two items."""
        if self.count < 2:
            raise UserError("A Fréchet distance needs at least two clips in each set: give more videos.")
        mean = self._sum / self.count
        return (self._outer - self.count * np.outer(mean, mean)) / (self.count - 1)


def root(covariance: np.ndarray) -> np.ndarray:
    """R (dim, rank) with R R^T = covariance; rounding's small negative eigenvalues count as zero."""
    values, vectors = scipy.linalg.eigh(covariance)
    kept = values > values[-1] * len(values) * np.finfo(values.dtype).eps
    return vectors[:, kept] * np.sqrt(values[kept])


def distance_of_roots(mean1: np.ndarray, root1: np.ndarray, mean2: np.ndarray, root2: np.ndarray) -> float:
    """The distance from means (dim,) and roots (dim, any) of the covariances.

    tr (S1 S2)^(1/2) is the sum of the singular values of R1^T R2: no square root of a product that is neither symmetric
    nor, with fewer videos than dimensions, of full rank.
    """
    singular: Any = scipy.linalg.svdvals(root1.T @ root2) if min(root1.shape[1], root2.shape[1]) else np.zeros(1)
    return float(np.square(mean1 - mean2).sum() + np.square(root1).sum() + np.square(root2).sum() - 2 * singular.sum())


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """The Fréchet distance (squared, as everybody reports it) between two sets of features."""
    return distance_of_roots(one.mean, root(one.covariance), other.mean, root(other.covariance))


def distance_of_features(one: np.ndarray, other: np.ndarray) -> float:
    """The same from features (n, dim) that are at hand; fewer of them than dimensions cost less."""
    means, roots = [], []
    for features in (one, other):
        features = np.asarray(features, np.float64)
        centred = (features - features.mean(0)) / np.sqrt(len(features) - 1)
        means.append(features.mean(0))
        roots.append(centred.T if len(features) <= features.shape[1] else root(centred.T @ centred))
    return distance_of_roots(means[0], roots[0], means[1], roots[1])


class FeatureSet:
    """Features of a set of videos: their Gaussian, and themselves while they are few.

    kept: float32 (videos, clips, dim), or None past KEPT_BYTES.
    """

    def __init__(self) -> None:
        self.gaussian, self.skipped = Gaussian(), 0
        self._parts: list[np.ndarray] | None = []
        self._bytes = 0

    def add(self, features: np.ndarray) -> None:
        """features: (videos, clips, dim)."""
        self.gaussian.add(features.reshape(-1, features.shape[-1]))
        if self._parts is not None:
            self._parts.append(features.astype(np.float32))
            self._bytes += self._parts[-1].nbytes
            if self._bytes > KEPT_BYTES:
                self._parts = None

    @property
    def kept(self) -> np.ndarray | None:
        return np.concatenate(self._parts) if self._parts else None


def batches(clips: Iterable[np.ndarray | None], size: int) -> Iterator[tuple[np.ndarray | None, int]]:
    """Join the clips of several videos, (videos, clips, frames, h, w, 3), with the number of those left out.

    Videos of another size begin a new batch.
    """
    waiting: list[np.ndarray] = []
    skipped = 0
    for item in clips:
        if item is None:
            skipped += 1
            continue
        if waiting and waiting[0].shape != item.shape:
            yield np.stack(waiting), 0
            waiting = []
        waiting.append(item)
        if len(waiting) * len(item) >= size:
            yield np.stack(waiting), 0
            waiting = []
    yield (np.stack(waiting) if waiting else None), skipped


def features_of(clips: Iterable[np.ndarray | None], network: FeatureNetwork, batch_size: int = 16) -> FeatureSet:
    """Run the clips of `read_clips` through a network.

    Raises:
        UserError: no clip is long enough.
    """
    found = FeatureSet()
    for batch, skipped in batches(clips, batch_size):
        found.skipped += skipped
        if batch is not None:
            features = network(batch.reshape(-1, *batch.shape[2:]))
            found.add(features.reshape(*batch.shape[:2], -1))
    if found.gaussian.count == 0:
        raise UserError("No video is long enough for the protocol: ask for fewer frames, or for `loop`.")
    return found


def compare(one: FeatureSet, other: FeatureSet, draws: int, seed: int) -> Value:
    """Distance between two sets and its interval, resampling whole videos."""
    value = frechet_distance(one.gaussian, other.gaussian)
    first, second = one.kept, other.kept
    if not draws:
        return Value(value)
    if first is None or second is None:
        return Value(value, None, f"no interval: the features take more than {KEPT_BYTES} bytes")

    return Value(value, interval_of(first, second, value, draws, seed))


def interval_of(
    first: np.ndarray, second: np.ndarray, value: float, draws: int, seed: int
) -> tuple[float, float] | None:
    """Of the distance `value` between features (videos, clips, dim)."""
    dim = first.shape[-1]

    def again(a: np.ndarray, b: np.ndarray) -> float:
        return distance_of_features(first[a].reshape(-1, dim), second[b].reshape(-1, dim))

    return bootstrap(again, [len(first), len(second)], draws, seed, centre=value)


def fvd(
    real: Folder,
    made: Folder,
    network: FeatureNetwork | str,
    protocol: ClipProtocol,
    seed: int = 0,
    draws: int = 100,
    batch_size: int = 16,
    tell: Tell | None = None,
) -> Result:
    """Fréchet distance between the clips of two folders of videos.

    Args:
        real, made: folders, or lists of files.
        network: a FeatureNetwork, or what `video_features` takes.
        protocol: which frames of which videos, see `videos.ClipProtocol`.
        seed: of the videos and starts drawn, and of the bootstrap.
        draws: resamples of the bootstrap; 0 for no interval.

    Raises:
        UserError: an empty folder, an unreadable video, clips that are all too short, no such network.
    """
    network = video_features(network) if isinstance(network, (str, Path)) else network
    first, second = (
        features_of(read_clips(folder, protocol, is_real, seed, tell), network, batch_size)
        for folder, is_real in ((real, True), (made, False))
    )
    counts: dict[str, int] = {}
    for name, found in (("real", first), ("made", second)):
        counts |= {f"{name} clips": found.gaussian.count, f"{name} videos too short": found.skipped}
    return Result(
        measure=network.name,
        values={"distance": compare(first, second, draws, seed)},
        settings={"real": shown(real), "made": shown(made), "protocol": asdict(protocol)},
        counts=counts,
        seed=seed,
        still_pictures=still_pictures(real, made),
        network={"name": type(network).__name__, "weights": network.weights},
        bootstrap=bootstrap_settings(draws),
    )
