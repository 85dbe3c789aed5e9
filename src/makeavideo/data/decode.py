"""Decoding of pictures and clips, to frames of the training's shape; `media.decoder` and `media.animations` do it."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UserError
from ..media.clip import Clip, Clock, open_by_content
from ..media.pictures import Unreadable, load_picture, parse_background, sides, to_shape, unreadable
from .index import Source

FrameSize = int | tuple[int, int]
"""(height, width) in pixels, or one number for a square."""


def decode_picture(source: Source, size: FrameSize, background: tuple[int, int, int]) -> np.ndarray:
    """uint8 (1, height, width, 3), turned as its EXIF says; Unreadable for anything that is not a whole picture."""
    return to_shape(load_picture(io.BytesIO(source.read()), background, 2 * max(sides(size))), size)[None]


@dataclass
class Decoded:
    """All frames of a clip, uint8 (n, height, width, 3), and their clock."""

    frames: np.ndarray
    clock: Clock


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[Clip]:
    """The clip in this file. PyAV is needed for containers only: gif, webp and avif, packed clips too, do without.

    Unreadable, whatever is wrong with it. UserError: PyAV is not installed.
    """
    try:
        # One thread: a decoder with threads hangs a forked DataLoader worker that inherits and frees it.
        with source.open() as file, open_by_content(file, threads=1) as clip:
            yield clip
    except ImportError:
        raise UserError(
            f"{source} cannot be read without PyAV: pip install av, or pack the clips where it is (data pack)."
        ) from None
    except Exception as error:
        raise unreadable(error) from error


def clip_clock(source: Source) -> Clock:
    """When its frames are shown, without decoding them where that is possible; Unreadable if it is no clip."""
    with _opened(source) as clip:
        return of_several(clip.clock())


def of_several(clock: Clock) -> Clock:
    """The same; Unreadable if it is that of a still picture, whatever its file is called."""
    if len(clock.times) < 2:
        raise Unreadable("only one frame")
    return clock


def decode_clip(source: Source, size: FrameSize, background: tuple[int, int, int]) -> Decoded:
    """All of a clip."""
    with _opened(source) as clip:
        if not clip.by_index:  # decoding tells the clock: so that it is decoded once
            frames = [_fitted(frame, size) for frame, _ in clip.frames(background)]
            return Decoded(np.stack(frames), of_several(clip.clock()))
        clock = of_several(clip.clock())
        wanted = range(len(clock.times))
        return Decoded(np.stack([_fitted(frame, size) for frame in clip.at(clock, wanted, background)]), clock)


def decode_frames(
    source: Source, clock: Clock, wanted: Sequence[int], size: FrameSize, background: tuple[int, int, int]
) -> np.ndarray:
    """uint8 (len(wanted), height, width, 3): the frames of these ascending indices, no others decoded than needed."""
    with _opened(source) as clip:
        return np.stack([_fitted(frame, size) for frame in clip.at(clock, wanted, background)])


def _fitted(frame: np.ndarray, size: FrameSize) -> np.ndarray:
    return to_shape(Image.fromarray(frame), size)


def decode(
    source: str | Path | Source, size: FrameSize, background: str = "#ffffff"
) -> tuple[np.ndarray, np.ndarray, float]:
    """(frames uint8 (n, height, width, 3), times seconds (n,), duration seconds) of any clip, or Unreadable."""
    if not isinstance(source, Source):
        source = Source(os.path.abspath(source), Path(source).name)
    decoded = decode_clip(source, size, parse_background(background))
    return decoded.frames, decoded.clock.times, decoded.clock.duration
