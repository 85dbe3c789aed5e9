"""Animated WebP: pictures by Pillow, the container here."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

from .disk import Output, Target
from .pictures import EXIF_IFD, USER_COMMENT


class WebpSink:
    """Animated WebP: every frame encoded by Pillow, put into the container here (developers.google.com/speed/webp).

    libwebp's own animation encoder keeps all frames in memory, and drops those that equal the one before: a clip that
    stands still loses a part of its length. FFmpeg's container takes whole pictures only: nine times as large, and what
    stands still flickers. Here only the rectangle that changed is coded, and every frame counts.
    """

    _QUALITY = 90
    """Pillow's, where none is asked for."""

    def __init__(self, target: Target) -> None:
        self._rate, self._recipe = target.rate, target.recipe
        self._quality = target.quality or self._QUALITY
        self._count = 0
        self._before: np.ndarray | None = None
        height, width = target.size
        self._file = open(target.path, "wb", buffering=0)  # noqa: SIM115 - closed in finish() or drop()
        self._output = Output(self._file, target.reserve)
        flags = 0x02 | (0x08 if self._recipe is not None else 0)  # animation, EXIF
        head = _chunk(b"VP8X", bytes([flags, 0, 0, 0]) + _int24(width - 1) + _int24(height - 1))
        head += _chunk(b"ANIM", b"\xff\xff\xff\xff" + b"\0\0")  # white behind; loop for ever
        self._output.write(b"RIFF\0\0\0\0WEBP" + head)

    def _time(self, index: int) -> int:
        """When frame `index` starts, in 1/1000 s."""
        return round(index * 1000 / self._rate)

    def add(self, frame: np.ndarray) -> None:
        top, left, bottom, right = _changed(self._before, frame)
        top, left = top & ~1, left & ~1  # the container counts offsets in twos
        picture = io.BytesIO()
        Image.fromarray(frame[top:bottom, left:right]).save(picture, "WEBP", quality=self._quality, method=2)
        duration = self._time(self._count + 1) - self._time(self._count)
        place = _int24(left // 2) + _int24(top // 2) + _int24(right - left - 1) + _int24(bottom - top - 1)
        # 0x02: replace what is there. A single picture is RIFF, size, WEBP (12 bytes), then the chunk that is wanted.
        self._output.write(_chunk(b"ANMF", place + _int24(duration) + b"\x02" + picture.getvalue()[12:]))
        self._output.mark()
        self._before = frame.copy()
        self._count += 1

    def finish(self) -> int:
        end = b"" if self._recipe is None else _chunk(b"EXIF", _exif(self._recipe))
        try:
            self._output.write(end)
        except Exception:
            if not self._output.failed:
                raise
        count = self._output.cut(end) if self._output.failed else self._count
        size = self._file.tell()
        self._file.seek(4)
        self._file.write(struct.pack("<I", size - 8))
        self._file.close()
        return count

    def drop(self) -> None:
        self._file.close()


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _int24(value: int) -> bytes:
    return value.to_bytes(3, "little")


def _changed(before: np.ndarray | None, frame: np.ndarray) -> tuple[int, int, int, int]:
    """The rectangle (top, left, bottom, right) outside which the frames agree; one pixel if they agree everywhere."""
    if before is None:
        return 0, 0, frame.shape[0], frame.shape[1]
    differs = (before != frame).any(axis=2)
    if not differs.any():
        return 0, 0, 1, 1
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _exif(comment: str) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = b"ASCII\0\0\0" + comment.encode("ascii")
    return exif.tobytes().removeprefix(b"Exif\0\0")
