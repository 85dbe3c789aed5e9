"""Captioned pictures: folders and webdataset shards (the only data with text; section 3.1 of the paper)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from torch.utils.data import Dataset

from ..media.pictures import Unreadable
from .decode import FrameSize, decode_picture
from .index import PICTURES, Include
from .indexed import IndexedItems
from .reader import DEFAULT_CACHE, ItemReader
from .shards import ShardCache
from .wordings import CaptionDraw, Wordings, groups_by_keyword, read_wordings, remarks


class CaptionedImages(ItemReader, Dataset):
    """Pictures with one or more captions each.

    root: a folder, a .tar shard or a list of them, or an index (`make-a-video data index`). In folders (searched
        recursively) a picture (its endings: `index.PICTURES`) belongs with the .txt (one caption a line) or .json
        (keys: `wordings.read_wordings`) of the same name;
        shards are those of webdataset, as img2dataset writes them.
    size: (height, width) in pixels, or one number for a square; other pictures are scaled until they cover it, and
        cropped at their centre.
    background: any Pillow colour; alpha is composed on it before resizing.
    crop: random crop of so many pixels after resizing, given as the size is.
    include: only pictures whose stem is in this set, or for whose stem this function is true.
    cache_bytes: memory for resized pictures (uint8), in each process that reads.
    shards: where whole shards that lie elsewhere are kept, of an index; None: they are read in place.
    need_captions: leave out pictures without one; if false, theirs is "".
    buckets: (height, width) of each; a picture is then cut to the one that is nearest in proportions, without a crop.

    A sample is asked for with (index, seed) or (index, seed, progress) and depends on nothing else:
    {"pixels": float tensor (1, 3, height, width) in [-1, 1], "caption": str, "words": str, the wordings that the
    caption is made of, a line each, "key": stem, "index": int, "skipped": [(path, reason)]}; key and index are
    those of the picture delivered.
    A picture that cannot be read or has no caption is replaced by another one and named in "skipped".
    UserError: root does not exist, holds no picture, or none of them can be read.
    """

    def __init__(
        self,
        root: str | Path | Sequence[str | Path],
        size: FrameSize,
        background: str = "#ffffff",
        crop: FrameSize | None = None,
        include: Include = None,
        cache_bytes: int = DEFAULT_CACHE,
        need_captions: bool = True,
        shards: ShardCache | None = None,
        buckets: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.need_captions = need_captions
        super().__init__(root, PICTURES, size, background, crop, include, cache_bytes, shards, buckets)
        self._remarked: set[int] = set()
        self._wordings: dict[int, Wordings] = {}
        self._draw: CaptionDraw | None = None

    def remarks(self, index: int) -> list[tuple[str, str]]:
        if not self.need_captions or index in self._remarked or not self.items[index].captions:
            return []
        self._remarked.add(index)
        return remarks(self.items[index].captions)

    def wordings(self, index: int) -> Wordings:
        """All that is said of a picture."""
        if (said := self.items[index].said) is not None:
            return said
        if index not in self._wordings:
            self._wordings[index] = read_wordings(self.items[index].captions, str(self.items[index].media))
        return self._wordings[index]

    def captions(self, index: int) -> list[str]:
        """All wordings of a picture, captions and label first; the empty list if it has none."""
        return list(self.wordings(index).all)

    def draw_caption(self, index: int, rng: random.Random) -> tuple[str, tuple[str, ...]]:
        """(caption, the wordings that it is made of), as `CaptionDraw` draws them; "" of a picture without."""
        wordings = self.wordings(index)
        if wordings.keywords and self._draw is None:  # how common a keyword is takes all files to know
            if isinstance(self.items, IndexedItems):
                self._draw = CaptionDraw(self.items.keywords())
            else:
                self._draw = CaptionDraw(groups_by_keyword(map(self.wordings, range(len(self)))))
        return (self._draw or CaptionDraw({}))(wordings, rng)

    def read(self, index: int, rng: random.Random, progress: float, size: tuple[int, int]) -> dict:
        if self.need_captions and not self.wordings(index).all:
            raise Unreadable("no caption")
        frames = self.cache.get((index, size))
        if frames is None:
            frames = decode_picture(self.items[index].media, size, self.background)
            self.cache.put((index, size), frames, frames.nbytes)
        pixels = self.cut(frames, rng)
        caption, words = self.draw_caption(index, rng)
        return {"pixels": pixels, "caption": caption, "words": "\n".join(words)}
