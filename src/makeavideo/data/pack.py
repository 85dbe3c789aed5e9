"""Pictures and clips at the training's own size, in webdataset shards: small enough to travel, quick to read.

A reader turns every picture into RGB of `size` before anything else. Here that is done once, by the reader's own
functions, and written down: a stage that trains at this size gets the same pictures from the shards as from the
folders, transparent ones composed on the background. Stills are lossless WebP; clips are AVIF, which codes what moves,
with full colour resolution: animated WebP halves it, and at 64 pixels a small part is then a grey smear.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, features

from ..errors import UserError
from ..media.disk import temporary_in
from ..media.pictures import Unreadable, open_image, parse_background, sides
from .decode import FrameSize, decode, decode_picture
from .index import CLIPS, PICTURES, Item, Source, list_items
from .report import RENAMED, SkipReport
from .workers import mapped

QUALITY = 80
SHARD_BYTES = 32 * 2**20
MANIFEST = ".packed"  # hidden, and of no ending that readers know: they pass it by without a word
SHORTEST = 11
"""Milliseconds: a shorter frame is shown for a tenth of a second, by browsers and by our reader."""


@dataclass
class Packed:
    """What was written. error: squared difference to the source at this size, summed over `values` numbers."""

    stills: int = 0
    clips: int = 0
    frames: int = 0
    bytes: int = 0
    error: float = 0.0
    values: int = 0

    def __iadd__(self, other: Packed) -> Packed:
        for key, value in vars(other).items():
            setattr(self, key, getattr(self, key) + value)
        return self

    @property
    def psnr(self) -> float:
        """Of the packed clips against their sources at this size, in dB, over all pixels; stills too if lossy."""
        return 10 * math.log10(255**2 * self.values / self.error) if self.error else math.inf


Made = tuple[dict[str, bytes], Packed | str]
"""({extension: content}, what they are), or ({}, why the file cannot be read)."""


def pack(
    source: Path,
    out: Path,
    size: FrameSize,
    quality: int | None = None,
    background: str = "#ffffff",
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Packed, SkipReport]:
    """Write the pictures and clips under `source` as shards under `out`, a folder of shards for each of its folders.

    Args:
        source: a folder of pictures (with the .txt or .json that captions them) and clips, or of shards.
        size: (height, width) in pixels, or one number for a square; the rest is cropped, as in training.
        quality: 1 to 100, of clips and stills; None: stills lossless, clips QUALITY.
        background: colour that transparent pixels are composed on; a recipe's `data.background` changes it no more.
        workers: processes.
        progress: called as progress(items done, items in all).

    Keys stay as they are, so that a split by key holds. A clip keeps its frames and when each of them is shown, to the
    millisecond. A folder that is packed already, from the same files with the same settings, is left alone.

    Returns:
        What was written, and the files that could not be read.

    Raises:
        UserError: no such folder, nothing to pack, `out` inside `source`, a wrong size, quality or background, a killed
            process.
    """
    if min(sides(size)) < 1 or (quality is not None and not 1 <= quality <= 100):
        raise UserError(f"The size must be at least 1 and the quality 1 to 100, not {size} and {quality}.")
    if not features.check("avif"):
        raise UserError("This Pillow was built without AVIF: pip install --upgrade 'pillow>=11.3'.")
    source, out = Path(source), Path(out)
    if out.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{out} lies in {source}, where it would be packed itself: choose another folder.")
    parse_background(background)
    items, damaged = list_items(source, PICTURES | CLIPS)
    folders: dict[str, list[Item]] = {}
    base = source if source.is_dir() else source.parent
    for item in items:
        folder = os.path.relpath(os.path.dirname(item.media.path), os.path.abspath(base))
        folders.setdefault(folder, []).append(item)
    total, report, done = Packed(), SkipReport(), 0
    report.add(damaged)
    encode = partial(encode_item, size=size, quality=quality, background=background)
    jobs = [_Job(members, out / folder, encode.keywords) for folder, members in folders.items()]
    missing = [item for job in jobs if job.packed is None for item in job.members]
    with closing(mapped(encode, missing, workers)) as made:
        for job in jobs:
            packed, skipped = job.packed or _pack_folder(job, _told(made, done, len(items), progress))
            total += packed
            report.add(skipped)
            done += len(job.members)
            progress(done, len(items))
    return total, report


class _Job:
    """A folder of shards that is to be made. packed: what `_pack_folder` gives, where it is made already."""

    def __init__(self, members: list[Item], folder: Path, settings: dict) -> None:
        self.members, self.folder = members, folder
        self.packed: tuple[Packed, list[tuple[str, str]]] | None = None
        stats = [(m.media.path, m.media.name, os.stat(m.media.path)) for m in members]
        known = [[path, name, stat.st_size, stat.st_mtime_ns] for path, name, stat in stats]
        self.fingerprint = hashlib.sha256(json.dumps([known, settings]).encode()).hexdigest()
        with suppress(OSError, ValueError, KeyError):
            manifest = json.loads((folder / MANIFEST).read_text())
            if manifest["fingerprint"] == self.fingerprint:
                self.packed = Packed(**manifest["packed"]), manifest["skipped"]


def _told(made: Iterator[Made], done: int, total: int, progress: Callable[[int, int], None]) -> Iterator[Made]:
    """The same, while `progress` is told of each."""
    for number, one in enumerate(made, done + 1):
        progress(number, total)
        yield one


def _pack_folder(job: _Job, made: Iterator[Made]) -> tuple[Packed, list[tuple[str, str]]]:
    """One folder of shards; it gets its name when it is whole. made: the next of them are of its members."""
    folder = job.folder
    temporary = temporary_in(folder.parent)
    temporary.mkdir(parents=True)
    packed, skipped, shards, names = Packed(), [], _Shards(temporary), set()
    for item, (files, part) in zip(job.members, made, strict=False):
        if isinstance(part, str):
            skipped.append((str(item.media), part))
            continue
        key = item.stem
        while key in names:
            key += "_"
        if key != item.stem:
            skipped.append((str(item.media), RENAMED))
        names.add(key)
        shards.add(key, files)
        packed += part
    packed.bytes = shards.close()
    text = {"fingerprint": job.fingerprint, "packed": vars(packed), "skipped": skipped}
    (temporary / MANIFEST).write_text(json.dumps(text))
    if (folder / MANIFEST).exists():
        shutil.rmtree(folder)
    elif folder.exists() and any(folder.glob("*")):
        raise UserError(f"{folder} holds other files: choose a new folder for the shards.")
    elif folder.exists():
        folder.rmdir()
    os.replace(temporary, folder)
    return packed, skipped


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """A file of a shard; of no time and nobody, so that the same samples are the same bytes."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


class _Shards:
    """Tar files of at most SHARD_BYTES, 00000.tar and on."""

    def __init__(self, folder: Path):
        self.folder, self.count, self.written = folder, 0, 0
        self.tar: tarfile.TarFile | None = None

    def add(self, key: str, files: dict[str, bytes]) -> None:
        tar = self.room_for(sum(map(len, files.values())))
        for extension, data in files.items():
            add_member(tar, f"{key}.{extension}", data)

    def room_for(self, size: int) -> tarfile.TarFile:
        """The present shard, or a new one where it is full."""
        if self.tar is None or self.tar.offset + size > SHARD_BYTES:
            self.close()
            name = self.folder / f"{self.count:05d}.tar"
            self.tar = tarfile.open(name, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
            self.count += 1
        return self.tar

    def close(self) -> int:
        """Bytes of all shards so far."""
        if self.tar is not None:
            self.tar.close()
            self.written += os.path.getsize(str(self.tar.name))
            self.tar = None
        return self.written


def encode_item(item: Item, size: FrameSize, quality: int | None, background: str) -> Made:
    """One sample. Runs in a process of its own."""
    try:
        if _is_clip(item.media):
            frames, times, duration = decode(item.media, size, background)
            data, kept = encode_clip(frames, times, duration, QUALITY if quality is None else quality)
            part = Packed(clips=1, frames=len(kept))
            _measure(part, data, kept)
            return {"avif": data}, part
        picture = decode_picture(item.media, size, parse_background(background))
        captions = {source.extension: source.read() for source in item.captions}
        kind = "webp" if quality in (None, 100) else "avif"
        data = _encode_still(picture[0], kind, quality)
        part = Packed(stills=1)
        if kind == "avif":
            _measure(part, data, picture)
        return {kind: data, **captions}, part
    except Unreadable as error:
        return {}, str(error)


def _is_clip(source: Source) -> bool:
    if source.extension not in PICTURES:
        return True
    if source.extension not in CLIPS:
        return False
    try:
        with open_image(io.BytesIO(source.read())) as image:  # webp and avif can be either
            return getattr(image, "n_frames", 1) > 1
    except Unreadable:
        raise
    except Exception as error:
        raise Unreadable("not a picture") from error


def encode_clip(frames: np.ndarray, times: np.ndarray, duration: float, quality: int) -> tuple[bytes, np.ndarray]:
    """(animated AVIF, the frames in it): uint8 (n, height, width, 3), shown from `times` on, `duration` seconds."""
    starts = [round(time * 1000) for time in times]
    keep = [0]
    for index in range(1, len(starts)):
        if starts[index] - starts[keep[-1]] >= SHORTEST:
            keep.append(index)
    if len(keep) < 2:
        raise Unreadable("shorter than a fiftieth of a second")
    ends = [starts[index] for index in keep[1:]] + [max(round(duration * 1000), starts[keep[-1]] + SHORTEST)]
    durations = [end - starts[index] for index, end in zip(keep, ends, strict=True)]
    first, *rest = (Image.fromarray(frames[index]) for index in keep)
    file = io.BytesIO()
    first.save(file, "AVIF", save_all=True, append_images=rest, duration=durations, **_avif(quality))
    return file.getvalue(), frames[keep]


def _encode_still(picture: np.ndarray, kind: str, quality: int | None) -> bytes:
    file = io.BytesIO()
    options = {"lossless": True, "quality": 100, "method": 4} if kind == "webp" else _avif(quality)
    Image.fromarray(picture).save(file, kind.upper(), **options)
    return file.getvalue()


def _avif(quality: int | None) -> dict:
    return {"quality": quality, "subsampling": "4:4:4", "speed": 6, "max_threads": 1}


def _measure(part: Packed, data: bytes, frames: np.ndarray) -> None:
    """Add the coding error to `part`, from what a reader decodes."""
    for frame, made in zip(frames, _decoded(data), strict=True):
        part.error += float(np.square(made.astype(np.float32) - frame).sum())
        part.values += frame.size


def _decoded(data: bytes) -> Iterator[np.ndarray]:
    with Image.open(io.BytesIO(data)) as image:
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            yield np.asarray(image.convert("RGB"))
