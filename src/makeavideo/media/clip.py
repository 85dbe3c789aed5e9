"""What every kind of clip answers, and opening one by what it holds, not by its name."""

from __future__ import annotations

import contextlib
import json
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np

from ..nesting import levels
from .patience import MAX_SECONDS, within
from .pictures import Unreadable

Colour = tuple[int, int, int]

MAX_RECIPE, MAX_DEPTH = 2**20, 32
"""Characters of a recipe, and objects and lists in each other."""


class VideoInfo(NamedTuple):
    """What `reader.probe` finds out about a file; width and height in pixels as it is shown."""

    width: int
    height: int
    num_frames: int
    fps: float
    duration: float
    """Seconds."""
    codec: str
    recipe: dict[str, Any] | None


@dataclass
class Clock:
    """When frames are shown.

    times: seconds from the first frame, increasing; duration: seconds in all. In containers also `pts`, the same times
    in the stream's own unit (None where the file does not say them), and `keys`, those at which decoding can begin.
    """

    times: np.ndarray
    duration: float
    pts: np.ndarray | None = None
    keys: np.ndarray | None = None

    def nearest(self, wanted: np.ndarray, wrap: bool = False) -> np.ndarray:
        """Index of the frame nearest in time to each wanted second (the earlier of two equally near).

        wrap: the end of the clip is its first frame once more.
        """
        times = np.append(self.times, self.duration) if wrap else self.times
        index = np.searchsorted((times[1:] + times[:-1]) / 2, wanted - 1e-6, side="left")
        return index % len(self.times)


class Clip(Protocol):
    """A file open for reading. Frames are uint8 RGB (height, width, 3), transparent ones composed on the background.

    What is wrong with a file is `Unreadable`, or whatever else the libraries raise: see `pictures.unreadable`.
    """

    by_index: bool
    """Whether single frames can be had without decoding all that is before them."""

    def clock(self) -> Clock:
        """Without decoding in containers; of an animation all frames are decoded, unless `frames` was before."""
        ...

    def frames(self, background: Colour) -> Iterator[tuple[np.ndarray, float]]:
        """All frames in order, each with its time, in seconds from the first one."""
        ...

    def at(self, clock: Clock, wanted: Sequence[int], background: Colour) -> Iterator[np.ndarray]:
        """The frames of these indices, which ascend and may repeat; nothing else is decoded where that is possible."""
        ...

    def fps(self, count: int, span: float) -> float:
        """Frames a second, where `count` frames were read whose first and last times are `span` seconds apart."""
        ...

    def shape(self) -> tuple[int, int]:
        """(height, width) of the frames as they are shown; at most the first one is decoded."""
        ...

    def is_still(self) -> bool:
        """Whether it is one frame only; nothing is decoded."""
        ...

    def info(self) -> VideoInfo: ...

    def recipe(self) -> dict[str, Any] | None: ...


@contextlib.contextmanager
def open_by_content(file: BinaryIO, threads: int = 0) -> Iterator[Clip]:
    """The clip in `file`: gif, webp, png, jpg and avif by Pillow, everything else by PyAV (ImportError without it).

    threads: of the decoder; 0: as many as it likes.
    """
    head = file.read(16)
    if not head:
        raise Unreadable("empty file")
    if _is_picture(head):
        from .animations import Animation
        from .pictures import open_image

        file.seek(0)
        with within(MAX_SECONDS):
            image = open_image(file)
        with image:
            yield Animation(image)
        return
    size = file.seek(0, os.SEEK_END)
    if _declared_size(file, size) > size:  # FFmpeg ends a cut-off file without complaint where it can
        raise Unreadable("truncated, its end is missing")
    from .decoder import Container

    with contextlib.closing(Container(file, threads)) as clip:
        yield clip


def _is_picture(head: bytes) -> bool:
    if head[4:8] == b"ftyp":
        return head[8:12] in (b"avif", b"avis")
    return head.startswith((b"GIF8", b"\x89PNG", b"\xff\xd8\xff")) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def _declared_size(file: BinaryIO, size: int) -> int:
    """How long an mp4/mov or mkv/webm file says it is, from its outermost boxes, in bytes; 0 for other kinds."""
    file.seek(0)
    head = file.read(12)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        place = 0
        while place + 8 <= size:
            file.seek(place)
            length, _, large = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
            length = large if length == 1 else length
            if length < 8:  # 0: up to the end of the file
                return size
            place += length
        return place
    if head.startswith(b"\x1a\x45\xdf\xa3"):  # EBML: a header, then one Segment with everything in it
        file.seek(4)
        length, _ = _ebml_length(file)
        file.seek(length, os.SEEK_CUR)
        if file.read(4) == b"\x18\x53\x80\x67":
            length, known = _ebml_length(file)
            return file.tell() + length if known else size
    return 0


def _ebml_length(file: BinaryIO) -> tuple[int, bool]:
    """A Matroska element's length, and whether it is known (a live recording's is not)."""
    first = (file.read(1) or b"\0")[0]
    extra = 8 - first.bit_length()
    value = int.from_bytes(bytes([first & (0x7F >> extra)]) + file.read(extra), "big") if first else 0
    return value, bool(first) and value != (1 << 7 * (extra + 1)) - 1


def parse_recipe(text: str | bytes | None) -> dict[str, Any] | None:
    """A comment that is a JSON object is a recipe; any other comment is somebody else's.

    So is one that no recipe could be: of more than a megabyte, or of objects in objects without end.
    """
    if len(text or "") > MAX_RECIPE:
        return None
    try:
        value = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    deepest = next(islice(levels(value), MAX_DEPTH, None), [])  # of what others will go through by recursion
    return None if any(isinstance(one, dict | list) for one in deepest) else value
