"""Clips that Pillow reads: gif, webp, png, apng, avif, jpg; and folders of png pictures."""

from __future__ import annotations

import contextlib
import re
import struct
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ..errors import UserError
from .clip import Clock, Colour, VideoInfo, parse_recipe
from .patience import MAX_SECONDS, interrupt, within
from .pictures import EXIF_IFD, USER_COMMENT, TooManyPixels, as_seen, open_image, to_rgb, to_srgb

# Of all frames: an animation can only be decoded from its start, and two kilobytes can hold a hundred large frames.
MAX_ANIMATION_PIXELS = 2_000_000_000

_ORIENTATION, _LYING = 0x0112, (5, 6, 7, 8)  # those of EXIF at which width and height change places


class Animation:
    """One file of Pillow's, which tells a frame's delay only when it is decoded."""

    by_index = False

    def __init__(self, image: Image.Image) -> None:
        self._image = image
        self._kind = (image.format or "").lower()
        self._delays: list[int] = []  # milliseconds, filled while reading
        self._all_read = False

    def _steps(self) -> Iterator[Image.Image]:
        """Every frame, loaded; its delay is appended to self._delays."""
        image = self._image
        with within(MAX_SECONDS):
            count: int = getattr(image, "n_frames", 1)
        if image.width * image.height * count > MAX_ANIMATION_PIXELS:
            raise TooManyPixels(MAX_ANIMATION_PIXELS)
        # The still picture of an animated png that is not part of the animation
        first = 1 if count > 1 and image.info.get("default_image") else 0
        self._delays, self._all_read = [], False
        worked = 0.0
        for index in range(first, count):
            begun = time.thread_time()
            with within(MAX_SECONDS - worked):
                interrupt.get()()
                image.seek(index)
                image.load()
            worked += time.thread_time() - begun
            delay = round(image.info.get("duration", 0) or 0)
            if count == 1 and self._kind == "avif":  # of which Pillow says that it is shown for a second
                delay = 0
            self._delays.append(delay if delay > 10 or count == 1 else 100)  # as browsers play it
            self._all_read = index == count - 1
            yield ImageOps.exif_transpose(image) if count == 1 else image

    def clock(self) -> Clock:
        if not self._all_read:
            for _ in self._steps():
                pass
        ends = np.cumsum(self._delays) / 1000
        return Clock(np.append(0.0, ends[:-1]), float(ends[-1]))

    def frames(self, background: Colour) -> Iterator[tuple[np.ndarray, float]]:
        elapsed = 0
        for image in self._steps():
            yield np.asarray(to_rgb(to_srgb(image), background)), elapsed / 1000
            elapsed += self._delays[-1]

    def at(self, clock: Clock, wanted: Sequence[int], background: Colour) -> Iterator[np.ndarray]:
        position = 0
        for index, image in enumerate(self._steps()):
            if position == len(wanted):
                return
            if wanted[position] == index:
                frame = np.asarray(to_rgb(to_srgb(image), background))
                while position < len(wanted) and wanted[position] == index:
                    yield frame
                    position += 1

    def fps(self, count: int, span: float) -> float:
        return _rate_of_delays(self._delays[:count], 10 if self._kind == "gif" else 1)

    def shape(self) -> tuple[int, int]:
        with within(MAX_SECONDS):
            turned = self._image.getexif().get(_ORIENTATION, 1) in _LYING and getattr(self._image, "n_frames", 1) == 1
        width, height = self._image.size
        return (width, height) if turned else (height, width)

    def is_still(self) -> bool:
        with within(MAX_SECONDS):
            return getattr(self._image, "n_frames", 1) == 1

    def info(self) -> VideoInfo:
        height, width = self.shape()
        clock = self.clock()
        count = len(clock.times)
        return VideoInfo(width, height, count, self.fps(count, 0.0), clock.duration, self._kind, self.recipe())

    def recipe(self) -> dict[str, Any] | None:
        if self._kind == "png":
            return parse_recipe(getattr(self._image, "text", {}).get("Comment"))
        if self._kind == "gif":
            return parse_recipe(self._image.info.get("comment"))
        comment = self._image.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT, b"")
        return parse_recipe(comment.removeprefix(b"ASCII\0\0\0")) if isinstance(comment, bytes) else None


def _rate_of_delays(delays: Sequence[int], tick: int) -> float:
    """Frames a second from delays in milliseconds that were rounded to `tick` ms; 0 for a picture without delay.

    24 a second is 4, 4, 5, 4, 4, 4 ... hundredths in a gif: so the whole rate that rounds to these delays, if any does.
    """
    total = sum(delays)
    if not total:
        return 0.0
    mean = len(delays) * 1000 / total
    whole = round(mean)
    ends = np.cumsum(delays)
    if whole and all(abs(end - (i + 1) * 1000 / whole) <= tick / 2 + 1e-6 for i, end in enumerate(ends)):
        return float(whole)
    return mean


class Folder:
    """A folder of png pictures, in natural order of their names; 24 a second unless the first one says otherwise."""

    by_index = True

    def __init__(self, folder: str) -> None:
        self._pictures = sorted(Path(folder).glob("*.png"), key=_natural)
        self._size, self._fps, self._comment = (0, 0), 24.0, None
        if not self._pictures:
            return
        with open(self._pictures[0], "rb") as file, open_image(file) as image:
            image.load()
            text = getattr(image, "text", {})
            self._size = ImageOps.exif_transpose(image).size
        self._comment = text.get("Comment")
        with contextlib.suppress(ValueError, ZeroDivisionError):
            self._fps = float(Fraction(text.get("fps", "24"))) or 24.0

    def __len__(self) -> int:
        return len(self._pictures)

    def clock(self) -> Clock:
        return Clock(np.arange(len(self)) / self._fps, len(self) / self._fps)

    def _picture(self, index: int, background: Colour) -> np.ndarray:
        interrupt.get()()
        path = self._pictures[index]
        try:
            with open(path, "rb") as file, open_image(file) as image:
                return np.asarray(as_seen(image, background))
        except (OSError, SyntaxError, EOFError, ValueError, struct.error) as error:  # whatever Pillow says of damage
            raise UserError(
                f"{path} is cut off, damaged or no picture: get a whole copy of it, or take it out."
            ) from error

    def frames(self, background: Colour) -> Iterator[tuple[np.ndarray, float]]:
        for index in range(len(self)):
            yield self._picture(index, background), index / self._fps

    def at(self, clock: Clock, wanted: Sequence[int], background: Colour) -> Iterator[np.ndarray]:
        for index in wanted:
            yield self._picture(index, background)

    def fps(self, count: int, span: float) -> float:
        return self._fps

    def shape(self) -> tuple[int, int]:
        width, height = self._size
        return height, width

    def is_still(self) -> bool:
        return len(self) == 1

    def info(self) -> VideoInfo:
        return VideoInfo(*self._size, len(self), self._fps, len(self) / self._fps, "png", self.recipe())

    def recipe(self) -> dict[str, Any] | None:
        return parse_recipe(self._comment)


def _natural(path: Path) -> list[Any]:
    """Sort key: frame_2 before frame_10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]
