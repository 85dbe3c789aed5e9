"""Decoding of pictures and clips, to squares of the training's size."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..media.pictures import Unreadable, load_picture, open_image, parse_background, to_rgb, to_square, unreadable
from .index import PILLOW_CLIPS, Source

MAX_CLIP_PIXELS = 8_000_000_000  # all frames of one gif, webp, apng or avif, which can only be decoded from the start


def decode_picture(source: Source, size: int, background: tuple[int, int, int]) -> np.ndarray:
    """uint8 (1, size, size, 3), turned as its EXIF says; Unreadable for anything that is not a whole picture."""
    return to_square(load_picture(io.BytesIO(source.read()), background, 2 * size), size)[None]


@dataclass
class Clock:
    """When frames are shown. times: seconds from the first frame, increasing; duration: seconds in all."""

    times: np.ndarray
    duration: float

    def nearest(self, wanted: np.ndarray, wrap: bool) -> np.ndarray:
        """Index of the frame nearest in time to each wanted second (the earlier of two equally near)."""
        times = np.append(self.times, self.duration) if wrap else self.times
        index = np.searchsorted((times[1:] + times[:-1]) / 2, wanted - 1e-6, side="left")
        return index % len(self.times)  # the end of a loop is its first frame


@dataclass
class Decoded:
    """All frames of a clip, uint8 (n, size, size, 3), and their clock."""

    frames: np.ndarray
    clock: Clock


def clock_of(times: Sequence[float], last: float | None) -> Clock:
    """From when each frame is shown and how long the last one is, in seconds (None or 0: as long as the median)."""
    array = np.asarray(times, dtype=np.float64)
    array = array - array[0]
    step = float(np.median(np.diff(array)))
    return Clock(array, float(array[-1]) + (last if last and last > 0 else step))


def decode_animation(source: Source, size: int, background: tuple[int, int, int]) -> Decoded:
    """gif, apng, animated webp and avif by Pillow, all frames."""
    try:
        with open_image(io.BytesIO(source.read())) as image:
            count = getattr(image, "n_frames", 1)
            first = 1 if image.info.get("default_image") else 0  # an apng's still, which is not part of the animation
            if count - first < 2:
                raise Unreadable("only one frame")
            if image.width * image.height * count > MAX_CLIP_PIXELS:
                raise Unreadable("too many pixels for one animation")
            frames, times, now, duration = [], [], 0.0, 0.0
            for index in range(first, count):
                image.seek(index)
                image.load()
                frames.append(to_square(to_rgb(image, background), size))
                times.append(now)
                # As browsers do, a duration too short to be meant is a tenth of a second.
                duration = image.info.get("duration") or 0
                duration = duration / 1000 if duration > 10 else 0.1
                now += duration
        return Decoded(np.stack(frames), clock_of(times, duration))
    except Exception as error:
        raise unreadable(error) from error


def open_video(source: Source, size: int, background: tuple[int, int, int]):
    """The `videos.Video` of this file, imported here: gif, webp and avif, packed clips too, are read without PyAV.

    UserError: PyAV is not installed.
    """
    try:
        from .videos import Video
    except ImportError:
        raise UserError(
            f"{source} cannot be read without PyAV: pip install av, or pack the clips where it is (data pack)."
        ) from None
    return Video(source, size, background)


def decode(source: str | Path | Source, size: int, background: str = "#ffffff") -> tuple[np.ndarray, np.ndarray, float]:
    """(frames uint8 (n, size, size, 3), times seconds (n,), duration seconds) of any clip; Unreadable if it is none."""
    if not isinstance(source, Source):
        source = Source(os.path.abspath(source), Path(source).name)
    rgb = parse_background(background)
    if source.extension in PILLOW_CLIPS:
        decoded = decode_animation(source, size, rgb)
        return decoded.frames, decoded.clock.times, decoded.clock.duration
    video = open_video(source, size, rgb)
    clock, pts = video.clock()
    return video.frames(pts), clock.times, clock.duration
