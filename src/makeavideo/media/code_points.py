"""What a png (chunk cICP) or avif (box colr) says of its colours in the numbers of ITU-T H.273, as videos do."""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

WIDE_PRIMARIES = (9, 11, 12)  # BT.2020, DCI-P3, Display P3
HDR = (16, 18)  # PQ, HLG
_RGB, _FULL = 0, 2  # Pillow gives RGB, so no matrix; all levels
_TILE = 256  # pixels a side: a mapping is prepared for a size, which takes seconds, and each pixel is on its own
_FIRST = 2**16  # bytes of an avif in which its boxes stand, before the pixels
_CHUNKS = 100  # of a png, before its pixels


class CodePoints(NamedTuple):
    """primaries, transfer: H.273's numbers; full: whether levels reach from 0 to 255, and not from 16 to 235."""

    primaries: int
    transfer: int
    full: bool = True

    @property
    def usual(self) -> bool:
        """Whether a picture can be shown as it is."""
        return self.transfer not in HDR and self.primaries not in WIDE_PRIMARIES


def code_points(file: BinaryIO, kind: str | None) -> CodePoints | None:
    """Of an open file of this kind of Pillow's, whose place is kept; None where it says nothing."""
    place = file.tell()
    try:
        return _of_png(file) if kind == "PNG" else _of_avif(file) if kind == "AVIF" else None
    finally:
        file.seek(place)


def _of_png(file: BinaryIO) -> CodePoints | None:
    file.seek(8)
    for _ in range(_CHUNKS):
        head = file.read(12)
        length, name = struct.unpack_from(">I4s", head.ljust(12, b"\0"))
        if name == b"cICP" and length == 4:
            primaries, transfer, _, full = head[8:]
            return CodePoints(primaries, transfer, bool(full))
        if len(head) < 12 or name == b"IDAT":
            break
        file.seek(length, 1)  # four of its bytes were read, four of its checksum were not
    return None


def _of_avif(file: BinaryIO) -> CodePoints | None:
    file.seek(0)
    head = file.read(_FIRST)
    found = head.find(b"colrnclx")
    if found < 0 or found + 12 > len(head):
        return None
    return CodePoints(*struct.unpack_from(">HH", head, found + 8))  # libavif gives all levels


def mapped(image: Image.Image, points: CodePoints) -> Image.Image:
    """An RGB picture in the usual colours and range, by the function that maps the frames of a video.

    Raises:
        ImportError: PyAV, which has libswscale, is not installed.
    """
    import av

    from .shown import as_shown

    if not points.full:
        image = image.point([round(min(max((level - 16) * 255 / 219, 0), 255)) for level in range(256)] * 3)
    width, height = image.size
    pixels = np.asarray(image).reshape(-1, 3)
    whole = -(-len(pixels) // _TILE**2)
    tiles = np.resize(pixels, (whole * _TILE**2, 3)).reshape(whole, _TILE, _TILE, 3)
    made = []
    for tile in tiles:
        frame = av.VideoFrame.from_ndarray(tile, "rgb24")
        frame.color_primaries, frame.color_trc, frame.colorspace = points.primaries, points.transfer, _RGB
        frame.color_range = _FULL
        made.append(as_shown(frame, None, "rgb24").to_ndarray())
    return Image.fromarray(np.concatenate(made).reshape(-1, 3)[: width * height].reshape(height, width, 3))
