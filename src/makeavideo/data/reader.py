"""What the two data sets share: samples by key, the frame cache, a replacement for what cannot be read."""

from __future__ import annotations

import copy
import functools
import random
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Self

import numpy as np

from ..errors import UserError
from ..media.pictures import Unreadable, parse_background, sides
from .buckets import BucketedOrder, Buckets, of_notes, shown_shape
from .decode import FrameSize
from .index import Include, Item, list_items
from .indexed import IndexedFiles, IndexedItems, is_index
from .order import Order, ShuffledOrder
from .shards import ShardCache

DEFAULT_CACHE = 4 * 2**30
WORTH = 20
"""A cache of frames is kept where it can hold a twentieth of the set, a frame of each: else hardly one is met again."""


class FrameCache:
    """Least-recently-used arrays, bounded by their bytes. Pickled empty: each worker process fills its own."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = int(limit), 0
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable) -> Any:
        """None: it is not kept."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def put(self, key: Hashable, value: object, size: int) -> None:
        with self._lock:
            if size > self.limit or key in self._entries:
                return
            self._entries[key] = (value, size)
            self.used += size
            while self.used > self.limit:
                self.used -= self._entries.popitem(last=False)[1][1]

    def __reduce__(self) -> tuple:
        return FrameCache, (self.limit,)


class Unfit(Exception):
    """A good file that does not suit this sample (too short for the rate): replaced for this one."""


class HeldOut(Exception):
    """An item that the split keeps from training: another one stands in its place."""


def _index_among(root: str | Path | Sequence[str | Path]) -> str | Path | None:
    """The index that the roots are; UserError if there is one among other roots."""
    roots = [root] if isinstance(root, (str, Path)) else list(root)
    found = [one for one in roots if is_index(one)]
    if found and len(roots) > 1:
        raise UserError(f"{found[0]} is an index and the only root then: make one index of all that is to be read.")
    return found[0] if found else None


class ItemReader:
    """Base of the two datasets: keys, include, cache, and a replacement for every item that cannot be read.

    The replacement is drawn from the sample's own seed, so a sample is a pure function of its key and the files.
    """

    def __init__(
        self,
        root: str | Path | Sequence[str | Path],
        extensions: set[str],
        size: FrameSize,
        background: str,
        crop: FrameSize | None,
        include: Include,
        cache_bytes: int,
        shards: ShardCache | None = None,
        buckets: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.size, self.crop = sides(size), None if crop is None else sides(crop)
        if not all(1 <= part <= whole for part, whole in zip(self.crop or self.size, self.size, strict=True)):
            raise UserError(f"The crop must lie between 1 and the size {size}, not {crop}; the size must be positive.")
        self.background = parse_background(background)
        self.root = root
        self.items: Sequence[Item]
        self.wanted: Callable[[str], bool] | None = None
        """Which stems of an index are read: to list all that are would take every process as long as the index."""
        if (index := _index_among(root)) is not None:
            self.items = IndexedItems(index, extensions, shards)
            self.passed_by = self.items.passed_by
            self.wanted = include if callable(include) or include is None else include.__contains__
        else:
            self.items, self.passed_by = list_items(root, extensions, include)
        worth = len(self.items) * self.size[0] * self.size[1] * 3 <= WORTH * cache_bytes
        self.cache = FrameCache(cache_bytes if worth else 0)
        self.bad: dict[int, str] = {}
        self.buckets = Buckets(buckets, self.own_shapes()) if buckets else None

    def __len__(self) -> int:
        return len(self.items)

    @functools.cached_property
    def keys(self) -> list[str]:
        """Of every item."""
        return [item.key for item in self.items]

    @property
    def files(self) -> Collection[str]:
        """The path of every item, as reports name it."""
        if isinstance(self.items, IndexedItems):
            return IndexedFiles(self.items)
        return [str(item.media) for item in self.items]

    def order(self, seed: int, epoch: int) -> Order:
        """Position in an epoch -> index: the same for every process."""
        if isinstance(self.items, IndexedItems):
            return self.items.order(seed, epoch)
        return ShuffledOrder(len(self), seed, epoch)

    def own_shapes(self) -> np.ndarray:
        """(n, 2) heights and widths of all items, zeros where they cannot be read. UserError: the index has none."""
        if isinstance(self.items, IndexedItems):
            return of_notes(self.items.notes())
        return np.array([shown_shape(item.media) for item in self.items])

    def in_batches(self, batch: int) -> tuple[int, Callable[[int, int], Order]]:
        """(samples of an epoch, its order by seed and epoch), of which each `batch` are of one bucket."""
        assert self.buckets is not None
        return self.buckets.length(batch), functools.partial(self.order_in_batches, batch, self.buckets.members())

    def order_in_batches(self, batch: int, members: list[np.ndarray], *key: int) -> Order:
        """Of an epoch, by seed and epoch; members: of each bucket, indices."""
        return BucketedOrder(members, lambda bucket, some: self.order_of(some, *key, bucket), batch, *key)

    def order_of(self, some: np.ndarray, *key: int) -> Order:
        """Of some of the items, as `order` has all."""
        if isinstance(self.items, IndexedItems):
            return self.items.order_of(some, *key)
        return ShuffledOrder(len(some), *key)

    @property
    def in_one_shape(self) -> Self:
        """The same data without buckets, cut to `size`."""
        other = copy.copy(self)
        other.buckets = None
        return other

    def read(self, index: int, rng: random.Random, progress: float, size: tuple[int, int]) -> dict:
        """The sample of this item, "pixels" as uint8 (n, *size, 3), or as cut; Unreadable or Unfit."""
        raise NotImplementedError

    def remarks(self, index: int) -> list[tuple[str, str]]:
        """(path, what is odd) about the files of an item that is used all the same; told once."""
        return []

    def __getitem__(self, key: tuple) -> dict:
        sample = self.sample(key)
        return {**sample, "pixels": to_pixels(sample["pixels"])}

    def __getitems__(self, keys: Sequence[tuple]) -> list[dict]:
        """What a DataLoader asks for: bytes travel, and become numbers a whole batch at a time (`to_pixels`)."""
        return [self.sample(key) for key in keys]

    def sample(self, key: tuple) -> dict:
        """As `read`, and which item it is, and what was skipped for it."""
        index, seed, progress = (*key, 0.0) if len(key) == 2 else key
        index, progress = int(index), float(progress)
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        rng, draw = random.Random(f"{int(seed)}"), None
        size = self.size if self.buckets is None else self.buckets.shape(index)  # another one's too, in its place
        skipped: dict[str, str] = {}
        tried: set[int] = set()
        while True:
            try:
                if index in self.bad:
                    raise Unreadable(self.bad[index])
                item = self.items[index]
                if self.wanted is not None and not self.wanted(item.stem):
                    raise HeldOut
                sample = self.read(index, rng, progress, size)
                skipped.update(self.remarks(index))
                return {**sample, "key": item.key, "index": index, "skipped": list(skipped.items())}
            except Unreadable as error:
                self.bad[index] = str(error)
                skipped[str(self.items[index].media)] = str(error)
            except Unfit as error:
                skipped[str(self.items[index].media)] = str(error)
            except HeldOut:
                pass
            tried.add(index)
            if len(tried) == len(self):
                raise self._nothing(progress)
            draw = draw or random.Random(f"replacement {int(seed)}")
            # At most half of the draws are lost to items already tried; past that, the next untried in order.
            index = draw.randrange(len(self))
            while index in tried:
                index = (index + 1) % len(self)
            rng = random.Random(f"{int(seed)}")

    def _nothing(self, progress: float) -> UserError:
        roots = [self.root] if isinstance(self.root, (str, Path)) else self.root
        where = ", ".join(str(r) for r in roots)
        if self.wanted is not None and not any(self.wanted(item.stem) for item in self.items):
            return UserError(f"{where} holds none of the files to include.")
        if len(self.bad) < len(self):
            return UserError(f"No clip in {where} is long enough for the frame rate drawn; set `short` to loop.")
        first = min(self.bad)
        return UserError(
            f"Nothing in {where} can be read; the first problem is {self.items[first].media}: {self.bad[first]}."
        )

    def cut(self, frames: np.ndarray, rng: random.Random) -> np.ndarray:
        """The same random crop of every frame, (n, *size, 3) -> (n, *crop, 3)."""
        if self.crop is None:
            return frames
        top, left = (rng.randint(0, whole - part) for whole, part in zip(self.size, self.crop, strict=True))
        return frames[:, top : top + self.crop[0], left : left + self.crop[1]]


def to_pixels(frames):
    """uint8 (..., height, width, 3), array or tensor -> float tensor (..., 3, height, width) in [-1, 1]."""
    import torch

    frames = torch.from_numpy(np.array(frames)) if isinstance(frames, np.ndarray) else frames
    return frames.movedim(-1, -3).contiguous().float().div_(127.5).sub_(1.0)
