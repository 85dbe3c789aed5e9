"""`make-a-video data index`: shards, folders and lists, here or elsewhere, looked through once, many at a time."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO, NamedTuple

import numpy as np

from ..errors import UserError, in_a_line
from ..media.disk import temporary_in
from ..media.pictures import Unreadable
from . import indexed
from .buckets import noted, shown_shape
from .index import CLIPS, NOT_REGULAR, Item, Named, Source, index_tar, items_of, split_name
from .indexed import RECORD, packed
from .report import SkipReport
from .roots import Task, tasks_of
from .shards import filesystem, is_remote, joined, part_elsewhere, patiently, stamp_of
from .window import Window
from .wordings import read_wordings, remarks
from .workers import mapped

FILES = (indexed.SAMPLES, indexed.WORDS, indexed.PATHS)
"""To which each part of an index adds."""


@dataclass
class Part:
    """What a task found."""

    place: str
    stamp: str | None
    records: np.ndarray
    words: bytes
    paths: np.ndarray
    """`indexed.number_of` each sample's."""
    kinds: Counter[str] = field(default_factory=Counter)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    keywords: Counter[str] = field(default_factory=Counter)
    """By how many pictures without a group each is said."""
    grouped: set[tuple[str, str]] = field(default_factory=set)
    """(keyword, group) of the others."""


class Found(NamedTuple):
    """A sample, as words.bin names it, and its bytes."""

    item: Item
    name: str
    size: int


class Texts:
    """Captions that have been read with their shard's headers."""

    def __init__(self, texts: dict[int, bytes]) -> None:
        self.texts = texts

    def read(self, path: str, offset: int, size: int | None) -> bytes:
        return self.texts[offset]

    def open(self, path: str, offset: int, size: int | None) -> BinaryIO:
        return io.BytesIO(self.texts[offset])


def build_index(
    roots: Sequence[str],
    out: Path,
    only: str | None = None,
    workers: int = 1,
    shapes: bool = False,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[int, Counter[str], SkipReport]:
    """Write the index of what lies under `roots` into the folder `out`, in place of an older one.

    Args:
        roots: folders, .tar shards, or lists (.csv, .jsonl); also URLs of fsspec.
        only: "pictures" or "clips"; None: both, of which a reader takes one.
        workers: processes.
        shapes: note the shape of every picture or clip, for `data.buckets`; each is opened for that.
        tell: called as tell(shards or parts of folders and lists done, all of them).

    Returns:
        (samples, how many of each kind, what was passed by).

    Raises:
        UserError: a root does not exist or cannot be reached, nothing usable, `out` is something else, a process was
            killed.
    """
    if out.exists() and not indexed.is_index(out):
        raise UserError(f"{out} is there already and is no index: choose another name.")
    extensions = set().union(*indexed.KINDS.values()) if only is None else indexed.KINDS[only]
    tasks, told = tasks_of([root.removeprefix("file://") for root in map(str, roots)])
    partial_out = temporary_in(out.parent)
    try:
        partial_out.mkdir(parents=True)
        writer = _Writer(partial_out)
        writer.report.add(told)
        look = partial(look_through, extensions=extensions, captions=only != "clips", shapes=shapes)
        for done, part in enumerate(mapped(look, tasks, workers), 1):
            writer.add(part)
            tell(done, len(tasks))
        if not writer.samples:
            reasons = Counter(reason for _, reason in writer.report).most_common(3)
            there = f" ({', '.join(f'{count} {reason}' for reason, count in reasons)})" if reasons else ""
            raise UserError(f"{', '.join(map(str, roots))} holds nothing that can be indexed{there}.")
        writer.finish(list(map(str, roots)), shapes)
        shutil.rmtree(out, ignore_errors=True)
        os.replace(partial_out, out)
    except OSError as error:
        raise UserError(f"The index {out} cannot be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(partial_out, ignore_errors=True)
    return writer.samples, writer.kinds, writer.report


def look_through(task: Task, extensions: set[str], captions: bool, shapes: bool = False) -> Part:
    """One task, in a process of its own."""
    if task.files is None:
        part, found = _look_through_shard(task.place, extensions, captions)
    else:
        look = _look_through_files if task.rows is None else _look_through_rows
        part, found = look(task, extensions, captions)
    if shapes:
        part.records["shape"] = [noted(shown_shape(reached(one.item.media))) for one in found]
    return part


def reached(source: Source) -> Source:
    """The same with what reads it, where it lies elsewhere."""
    return replace(source, store=_Elsewhere()) if is_remote(source.path) else source


def _look_through_files(task: Task, extensions: set[str], captions: bool) -> tuple[Part, list[Found]]:
    """Loose files."""
    assert task.files is not None
    store = _Elsewhere() if is_remote(task.place) else None
    sources, sizes = [], dict(zip(task.files, task.sizes, strict=True))
    for name in task.files:
        folder, _, last = name.rpartition("/")
        source = Source(f"{task.place}/{name}", last, store=store)
        sources.append(Named(folder, f"{folder}/{split_name(last)[0]}".strip("/"), source.extension, source))
    items, told = items_of(sources, extensions)
    names = [item.media.path[len(task.place) + 1 :] for item in items]
    found = [Found(item, name, sizes[name]) for item, name in zip(items, names, strict=True)]
    return _part(task.place, None, found, told, captions), found


class _Elsewhere:
    """Files, or parts of them, that fsspec reads."""

    def read(self, path: str, offset: int, size: int | None) -> bytes:
        try:
            return part_elsewhere(path, offset, size)
        except Unreadable:
            raise
        except Exception as error:
            raise Unreadable(in_a_line(error)) from error

    def open(self, path: str, offset: int, size: int | None) -> BinaryIO:
        try:
            fs, name = filesystem(path)
            file = patiently(lambda: fs.open(name, "rb"))
            return file if size is None else io.BufferedReader(Window(file, offset, size))
        except Exception as error:
            raise Unreadable(in_a_line(error)) from error


def _look_through_shard(place: str, extensions: set[str], captions: bool) -> tuple[Part, list[Found]]:
    texts: dict[int, bytes] | None = {} if captions else None
    try:
        stamp = stamp_of(place)
        fs, path = filesystem(place)
        with fs.open(path, "rb", **({"cache_type": "readahead"} if is_remote(place) else {})) as file:
            sources, problem = index_tar(place, file, patiently(lambda: fs.size(path)) or 0, texts)
    except Exception as error:
        return _part(place, "", [], [(place, in_a_line(error))], captions), []
    items, told = items_of(sources, extensions)
    told += [(place, problem)] if problem else []
    for item in items:
        item.captions = [Source(s.path, s.name, s.offset, s.size, Texts(texts)) for s in item.captions if texts]
    found = [Found(item, item.media.name, item.media.size or 0) for item in items]
    return _part(place, stamp, found, told, captions), found


def _look_through_rows(task: Task, extensions: set[str], captions: bool) -> tuple[Part, list[Found]]:
    """Rows of a list: the files that they name, and what they say."""
    assert task.files is not None and task.rows is not None
    folder, found, told = task.place.rpartition("/")[0], [], []
    for name, rows in zip(task.files, task.rows, strict=True):
        path = joined(folder, name)
        media = Source(path, name.rpartition("/")[2])
        size, problem = (0, None) if is_remote(path) else _size(path)
        if media.extension not in extensions:
            problem = "a clip beside pictures" if media.extension in CLIPS else "a file of another kind"
        if problem is not None:
            told.append((path, problem))
            continue
        said = [row for row in rows.split(b"\n") if len(row) > 2]
        lines = [Source(task.place, f"{name}.json", 0, len(row), Texts({0: row})) for row in said]
        found.append(Found(Item(name, media, lines), name, size))
    return _part(folder, None, found, told, captions), found


def _size(path: str) -> tuple[int, str | None]:
    """(bytes of a file, what is wrong with it)."""
    try:
        stat = os.stat(path)
    except OSError as error:
        return 0, error.strerror or "cannot be opened"
    return stat.st_size, None if S_ISREG(stat.st_mode) else NOT_REGULAR


def _part(place: str, stamp: str | None, found: list[Found], told: list[tuple[str, str]], captions: bool) -> Part:
    records = np.zeros(len(found), RECORD)
    words = bytearray()
    paths = np.array([indexed.number_of(item.media) for item, _, _ in found], indexed.NUMBER)
    part = Part(place, stamp, records, b"", paths, skipped=told)
    for place_of, (item, name, size) in enumerate(found):
        own = str(item.media)
        said = read_wordings(item.captions if captions else [], own)
        part.skipped += remarks(item.captions) if captions else []
        records[place_of] = (item.media.offset, size, len(words), 0, 0)
        line = json.dumps([name, *packed(said, own)], ensure_ascii=False, separators=(",", ":"))
        words += line.encode("utf-8", "surrogatepass")  # names of files may hold anything
        part.kinds[item.media.extension] += 1
        if said.group == own:
            part.keywords.update(said.keywords)
        else:
            part.grouped.update((word, said.group) for word in said.keywords)
    part.words = bytes(words)
    return part


class _Writer:
    """Puts the parts together."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.samples, self.words, self.bytes = folder, 0, 0, 0
        self.kinds: Counter[str] = Counter()
        self.report = SkipReport()
        self._keywords: Counter[str] = Counter()
        self._grouped: set[tuple[str, str]] = set()
        self._shards: list[tuple[str, str | None, int]] = []
        self._files = [open(folder / name, "wb") for name in FILES]  # noqa: SIM115

    def add(self, part: Part) -> None:
        self.report.add(part.skipped)
        if not len(part.records):
            return
        part.records["words"] += self.words
        part.records["shard"] = len(self._shards)
        self._files[0].write(part.records.tobytes())
        self._files[1].write(part.words)
        self._files[2].write(part.paths.tobytes())
        self._shards.append((part.place, part.stamp, len(part.records)))
        self.samples += len(part.records)
        self.words += len(part.words)
        self.bytes += int(part.records["size"].sum())
        self.kinds += part.kinds
        self._keywords += part.keywords
        self._grouped |= part.grouped

    def finish(self, roots: list[str], shapes: bool) -> None:
        for file in self._files:
            file.close()
        np.memmap(self.folder / indexed.PATHS, indexed.NUMBER, "r+").sort()
        self._keywords.update(word for word, _ in self._grouped)
        counts = {"samples": self.samples, "words": self.words, "bytes": self.bytes, "kinds": dict(self.kinds)}
        about = {"version": indexed.VERSION, "roots": roots, **counts, "skipped": len(self.report), "shapes": shapes}
        for name, content in (
            (indexed.SHARDS, self._shards),
            (indexed.KEYWORDS, dict(self._keywords)),
            (indexed.INDEX, about),
        ):
            (self.folder / name).write_text(json.dumps(content), "utf-8")
        self.report.write(self.folder / indexed.SKIPPED)
