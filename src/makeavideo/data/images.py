"""Captioned pictures: folders and webdataset shards (the only data with text; section 3.1 of the paper)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from torch.utils.data import Dataset

from .files import DEFAULT_CACHE, PICTURES, Include, ItemReader, Unreadable, decode_picture, read_captions


class CaptionedImages(ItemReader, Dataset):
    """Pictures with one or more captions each.

    root: a folder, a .tar shard or a list of them. In folders (searched recursively) a picture (jpg, png, webp, bmp,
        tif) belongs with the .txt (one caption a line) or .json ({"captions": [...]} or {"caption": ...}) of the same
        name; shards are those of webdataset, as img2dataset writes them.
    size: pixels; a picture that is not square is scaled on its short side and cropped at its centre.
    background: any Pillow colour; alpha is composed on it before resizing.
    crop: random crop of crop x crop pixels after resizing.
    include: only pictures whose stem is in this set, or for whose stem this function is true.
    cache_bytes: memory for resized pictures (uint8), in each process that reads.
    need_captions: leave out pictures without one; if false, theirs is "".

    A sample is asked for with (index, seed) or (index, seed, progress) and depends on nothing else:
    {"pixels": float tensor (1, 3, size, size) in [-1, 1], "caption": str, "key": stem, "index": int,
    "skipped": [(path, reason)]}; key and index are those of the picture delivered.
    A picture that cannot be read or has no caption is replaced by another one and named in "skipped".
    UserError: root does not exist, holds no picture, or none of them can be read.
    """

    def __init__(
        self,
        root: str | Path | Sequence[str | Path],
        size: int,
        background: str = "#ffffff",
        crop: int | None = None,
        include: Include = None,
        cache_bytes: int = DEFAULT_CACHE,
        need_captions: bool = True,
    ) -> None:
        self.need_captions = need_captions
        super().__init__(root, PICTURES, size, background, crop, include, cache_bytes)
        self._captions: dict[int, list[str]] = {}

    def captions(self, index: int) -> list[str]:
        """All captions of a picture; the empty list if it has none."""
        if index not in self._captions:
            self._captions[index] = read_captions(self.items[index].captions)
        return self._captions[index]

    def read(self, index: int, rng: random.Random, progress: float) -> dict:
        captions = self.captions(index)
        if self.need_captions and not captions:
            raise Unreadable("no caption")
        frames = self.cache.get(index)
        if frames is None:
            frames = decode_picture(self.items[index].media, self.size, self.background)
            self.cache.put(index, frames, frames.nbytes)
        return {"pixels": self.cut(frames, rng), "caption": rng.choice(captions or [""])}
