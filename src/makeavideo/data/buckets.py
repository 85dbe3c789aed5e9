"""Frames of several shapes in one run: a sample is cut to the shape nearest to its own, a batch is of one shape.

Which samples are of one shape is known before the first batch, from their files or from an index, so that every batch
follows from (seed, epoch, position) as without buckets (`order`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..media.clip import open_by_content
from ..media.pictures import open_image
from .index import CLIPS, PICTURES, Source
from .order import Order

LARGEST = 2**16 - 1
"""Pixels of a side that an index can note; a longer one is noted as this."""
SIDEWAYS = range(5, 9)
"""Values of EXIF's orientation that lay a picture on its side."""
ORIENTATION = 0x0112


def shown_shape(source: Source) -> tuple[int, int]:
    """(height, width) of a picture or of a clip's frames, as they are shown; zeros where it cannot be read."""
    try:
        with source.open() as file:
            if source.extension in PICTURES - CLIPS:
                with open_image(file) as image:
                    turned = image.getexif().get(ORIENTATION) in SIDEWAYS
                    return (image.width, image.height) if turned else (image.height, image.width)
            with open_by_content(file, threads=1) as clip:
                for frame, _ in clip.frames((255, 255, 255)):  # the header knows them as they are stored
                    return frame.shape[0], frame.shape[1]
    except Exception:  # the reader passes it by, and says why
        pass
    return 0, 0


def noted(shape: tuple[int, int]) -> int:
    """A shape as an index has it."""
    height, width = (min(side, LARGEST) for side in shape)
    return height << 16 | width


def of_notes(notes: np.ndarray) -> np.ndarray:
    """(n, 2) heights and widths, of what `noted` made."""
    return np.stack([notes >> 16, notes & LARGEST], 1)


class Buckets:
    """Which sample is cut to which shape.

    Args:
        shapes: (height, width) of the buckets, one or more.
        own: (n, 2) heights and widths of the samples; zeros: not known, which counts as square.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], own: np.ndarray) -> None:
        self.shapes = [(int(height), int(width)) for height, width in shapes]
        known = own.min(1) > 0
        proportion = np.zeros(len(own), np.float32)
        proportion[known] = np.log(own[known, 0] / own[known, 1])
        self.of = np.zeros(len(own), np.uint8)
        nearest = np.full(len(own), np.inf, np.float32)
        for number, (height, width) in enumerate(self.shapes):
            away = np.abs(proportion - np.float32(np.log(height / width)))
            self.of[away < nearest] = number
            nearest = np.minimum(nearest, away)

    def shape(self, index: int) -> tuple[int, int]:
        """(height, width) that a sample is cut to."""
        return self.shapes[self.of[index]]

    def members(self) -> list[np.ndarray]:
        """Of each bucket the indices of its samples, ascending."""
        return [np.flatnonzero(self.of == number) for number in range(len(self.shapes))]

    def alike(self, indices: Sequence[int]) -> list[int]:
        """As many samples, all of the first one's bucket: others stand in for those that are not."""
        group = np.flatnonzero(self.of == self.of[indices[0]])
        first = self.of[indices[0]]
        return [int(index if self.of[index] == first else group[index % len(group)]) for index in indices]

    def length(self, batch: int) -> int:
        """Of an epoch, in samples: whole batches."""
        return sum(-(-len(members) // batch) * batch for members in self.members())


class BucketedOrder:
    """Each sample once, in batches of one bucket that follow each other in a drawn order.

    Where the samples of a bucket do not fill its last batch, its first ones of this epoch fill it once more.

    Args:
        members: of each bucket the indices of its samples.
        within: the order of a bucket's samples, (bucket, its members) -> position to place among them.
        batch: samples of a batch.
        key: seed and epoch.
    """

    def __init__(
        self, members: list[np.ndarray], within: Callable[[int, np.ndarray], Order], batch: int, *key: int
    ) -> None:
        counts = [-(-len(one) // batch) for one in members]
        self._batches = np.repeat(np.arange(len(members), dtype=np.uint8), counts)
        np.random.default_rng([*key, len(members)]).shuffle(self._batches)
        self._ranks = np.zeros(len(self._batches), np.int64)
        for bucket, count in enumerate(counts):
            self._ranks[self._batches == bucket] = np.arange(count)
        self._within = [within(bucket, one) if len(one) else None for bucket, one in enumerate(members)]
        self._members, self._batch = members, batch

    def __call__(self, position: int) -> int:
        number, place = divmod(position, self._batch)
        bucket = int(self._batches[number])
        order, members = self._within[bucket], self._members[bucket]
        assert order is not None
        return int(members[order((int(self._ranks[number]) * self._batch + place) % len(members))])
