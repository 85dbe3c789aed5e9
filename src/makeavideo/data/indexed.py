"""A data set as an index has it: memory-mapped arrays instead of an object a sample, made once by `indexing`.

A folder with these files:

    index.json      what the index was made of, how many samples and bytes it has, and of which kinds
    shards.json     of each shard: path, stamp (`shards.stamp_of`), samples; loose files: their folder, no stamp
    samples.bin     a RECORD a sample, in the order of the shards
    words.bin       of each sample a list in JSON: name, phrases, names, keywords, group, concept; empty ends left out
    paths.bin       the sorted `number_of` the paths of all samples, 8 bytes each
    keywords.json   how many groups have a keyword
    skipped.txt     what of the data is not in the index, or not as it is (`SkipReport.write`)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, overload

import numpy as np

from ..errors import UserError
from .index import CLIPS, PICTURES, Item, Source, split_name
from .order import WindowedOrder
from .report import SkipReport, printable
from .shards import ShardCache, ShardStore, is_remote, joined
from .wordings import Wordings

RECORD = np.dtype([("offset", "<u8"), ("size", "<u8"), ("words", "<u8"), ("shard", "<u4"), ("shape", "<u4")])
"""Of a sample: where its media lies in its shard, where its words begin in words.bin; its shape (`buckets.noted`), 0
where that was not looked at. 32 bytes."""
NUMBER = np.dtype("<u8")
INDEX, SHARDS, SAMPLES, WORDS = "index.json", "shards.json", "samples.bin", "words.bin"
PATHS, KEYWORDS, SKIPPED = "paths.bin", "keywords.json", "skipped.txt"
VERSION = 2
WINDOW_BYTES = 256 * 2**20
FEWEST = 2048
"""Samples of a window at least, so that a batch is mixed where samples are large."""
TOLD = 1000
"""Skipped files that a reader names; skipped.txt has all of them."""


def is_index(path: str | Path) -> bool:
    return (Path(path).expanduser() / INDEX).is_file() and (Path(path).expanduser() / SAMPLES).is_file()


def number_of(path: object) -> int:
    """64 bits that stand for a path as reports name it."""
    return int.from_bytes(blake2b(printable(path).encode(), digest_size=NUMBER.itemsize).digest(), "little")


class IndexedItems(Sequence[Item]):
    """The samples of an index: looked up when they are asked for, and shared by all processes of a machine.

    Args:
        folder: the index.
        extensions: of the media that the reader takes.
        cache: for shards that lie elsewhere.

    Raises:
        UserError: it is damaged, or holds other media too.
    """

    def __init__(self, folder: str | Path, extensions: Set[str], cache: ShardCache | None = None) -> None:
        self.folder, self.extensions, self.cache = Path(folder).expanduser(), frozenset(extensions), cache
        with self._undamaged():
            about = json.loads((self.folder / INDEX).read_text("utf-8"))
            self.shards: list[list] = json.loads((self.folder / SHARDS).read_text("utf-8"))
            self.records = np.memmap(self.folder / SAMPLES, RECORD, "r")
            self.words = np.memmap(self.folder / WORDS, np.uint8, "r")
            self.paths = np.memmap(self.folder / PATHS, NUMBER, "r")
            self.bytes, kinds = int(about["bytes"]), dict(about["kinds"])
            self.shapes = bool(about.get("shapes"))
            in_shards = sum(count for _, _, count in self.shards)
            whole = about["version"] == VERSION and about["words"] == len(self.words)
            whole &= about["samples"] == len(self.records) == len(self.paths) == in_shards
            whole &= all(isinstance(path, str) and isinstance(stamp, str | None) for path, stamp, _ in self.shards)
            if not whole:
                raise ValueError
        if other := sorted(set(kinds) - self.extensions):
            what, only = ("clips", "pictures") if self.extensions <= PICTURES else ("pictures", "clips")
            counts = ", ".join(f"{kinds[kind]:,} .{kind}" for kind in other)
            raise UserError(
                f"The index {self.folder} holds {what} too ({counts}): make one with data index --only {only}."
            )
        self.store = ShardStore({path: stamp for path, stamp, _ in self.shards if stamp is not None}, cache)

    @contextmanager
    def _undamaged(self) -> Iterator[None]:
        """Around what reads the files: UserError where they are not what was written."""
        try:
            yield
        except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
            remedy = "make it again by make-a-video data index"
            raise UserError(f"The index {self.folder} is damaged: {remedy}.") from None

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        with self._undamaged():
            return self._item(index)

    def _item(self, index: int) -> Item:
        offset, size, _, shard, _ = self.records[index].item()
        said = self.said(index)
        name = said.pop(0)
        place, stamp, _ = self.shards[shard]
        if stamp is None:
            path = joined(place, name)
            store = self.store if is_remote(path) else None
            media, key = Source(path, name.rpartition("/")[2], store=store), name.rpartition(".")[0] or name
        else:
            folder, slash, last = name.rpartition("/")
            media, key = Source(place, name, offset, size, self.store), folder + slash + split_name(last)[0]
        return Item(key, media, [], unpacked(said, str(media)))

    def said(self, index: int) -> list:
        """[name, phrases, names, keywords, group, concept], without empty ends."""
        start = int(self.records[index]["words"])
        end = int(self.records[index + 1]["words"]) if index + 1 < len(self.records) else len(self.words)
        return json.loads(self.words[start:end].tobytes())

    @property
    def passed_by(self) -> list[tuple[str, str]]:
        """(path, reason) of what is not in the index; of very many the first."""
        report, file = SkipReport(), self.folder / SKIPPED
        report.read(file)
        told = list(report)
        more = [(str(file), f"{len(told) - TOLD:,} more files that the index leaves out")] if len(told) > TOLD else []
        return told[:TOLD] + more

    def keywords(self) -> dict[str, int]:
        """How many groups of pictures have each keyword."""
        with self._undamaged():
            return dict(json.loads((self.folder / KEYWORDS).read_text("utf-8")))

    def order(self, seed: int, epoch: int) -> WindowedOrder:
        """The shards in a drawn order, mixed in windows of WINDOW_BYTES."""
        return WindowedOrder([count for _, _, count in self.shards], self.window, seed, epoch)

    def order_of(self, some: np.ndarray, *key: int) -> WindowedOrder:
        """The same of some samples, whose indices ascend: position -> place among them."""
        counts = np.bincount(self.records["shard"][some], minlength=len(self.shards))
        return WindowedOrder(counts.tolist(), self.window, *key)

    @property
    def window(self) -> int:
        """Samples that are mixed."""
        return max(FEWEST, WINDOW_BYTES * len(self) // max(1, self.bytes))

    def notes(self) -> np.ndarray:
        """(n,) what is noted of their shapes. UserError: nothing."""
        if not self.shapes:
            raise UserError(f"The index {self.folder} knows no shapes, for buckets: make it again, with --shapes.")
        return np.array(self.records["shape"])

    def __reduce__(self) -> tuple:
        return IndexedItems, (self.folder, self.extensions, self.cache)


def packed(said: Wordings, own: str) -> list:
    """What words.bin has of them; `own` is the group of a picture without one."""
    parts = [said.phrases, said.names, said.keywords, "" if said.group == own else said.group, said.concept]
    while parts and not parts[-1]:
        parts.pop()
    return parts


def unpacked(parts: list, own: str) -> Wordings:
    """The reverse of `packed`."""
    none: list[Any] = [(), (), (), "", ""]
    phrases, names, keywords, group, concept = parts + none[len(parts) :]
    return Wordings(tuple(phrases), tuple(names), tuple(keywords), group or own, concept)


class IndexedFiles(Set[str]):
    """The paths of all samples as reports name them: asked of a few, by their numbers."""

    def __init__(self, items: IndexedItems) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[str]:
        return (printable(item.media) for item in self.items)

    def __contains__(self, path: object) -> bool:
        number = np.uint64(number_of(path))
        place = int(np.searchsorted(self.items.paths, number))
        return place < len(self.items.paths) and bool(self.items.paths[place] == number)


KINDS = {"pictures": PICTURES, "clips": CLIPS}
"""What an index may be of, and which files are that."""
