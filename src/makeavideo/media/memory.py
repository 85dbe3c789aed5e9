"""Pictures and clips in memory, of whatever kind people have them in -> uint8 RGB arrays.

What a pipeline gives is among them: PIL pictures, NumPy arrays (height, width, 3) and tensors (3, height, width), both
in [0, 1]. Torch is not imported: a tensor knows by itself how to become an array.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..errors import UserError

__all__ = ["array_of", "clip_of", "frames_of"]


def array_of(picture: Any, background: str = "#ffffff") -> np.ndarray:
    """uint8 (height, width, 3) of a picture: PIL, uint8 or [0, 1] (height, width, 3), tensor (3, height, width).

    A PIL picture becomes what it would be from its file: upright, in sRGB, transparent parts on the background.

    Raises:
        UserError: of another shape, or with numbers that are no colours.
    """
    if hasattr(picture, "convert"):
        from .pictures import in_memory, parse_background  # and Pillow, which is there already

        return np.array(in_memory(picture, parse_background(background)))
    if isinstance(picture, list | tuple):
        raise UserError(f"{len(picture)} pictures stand where one is wanted: of several videos give one")
    pixels = _numbers(picture)
    shape = pixels.shape
    if is_tensor(picture):
        pixels = np.moveaxis(pixels, 0, -1) if pixels.ndim == 3 else pixels
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise UserError(
            f"a picture in memory has the shape {shape}: give (height, width, 3), or a tensor (3, height, width)"
        )
    return _in_bytes(pixels)


def frames_of(video: Any) -> Iterable[Any]:
    """The frames of a clip of any kind, one by one, as they are; a batch of one video is that video.

    Raises:
        UserError: several videos, or nothing that has frames.
    """
    if isinstance(video, str | bytes | dict) or not hasattr(video, "__iter__"):
        kind = type(video).__name__
        raise UserError(f"the type {kind} is no video in memory: give pictures, such as the .frames of a pipeline")
    first = video[0] if isinstance(video, list | tuple) and video else None
    if getattr(video, "ndim", 0) == 5 or isinstance(first, list | tuple) or getattr(first, "ndim", 0) == 4:
        if len(video) != 1:
            raise UserError(f"{len(video)} videos are given where one is wanted: give one of them, such as frames[0]")
        return video[0]
    return video


def clip_of(video: Any, background: str = "#ffffff") -> np.ndarray:
    """uint8 (frames, height, width, 3) of a clip: a list of pictures, an array, a tensor (frames, 3, height, width).

    A batch of one video is that video; `background` as in `array_of`.

    Raises:
        UserError: as `array_of` and `frames_of`; also frames of several sizes, or none at all.
    """
    video = frames_of(video)
    if isinstance(video, list | tuple):
        frames = [array_of(frame, background) for frame in video]
        if not frames or len({frame.shape for frame in frames}) > 1:
            raise UserError("a video in memory has no frames, or frames of several sizes: give some of one size")
        return np.stack(frames)
    pixels = _numbers(video)
    shape = pixels.shape
    if is_tensor(video):
        pixels = np.moveaxis(pixels, 1, -1) if pixels.ndim == 4 else pixels
    if pixels.ndim != 4 or pixels.shape[3] != 3 or not pixels.size:
        raise UserError(
            f"a video in memory has the shape {shape}: give (frames, height, width, 3), or a tensor (frames, 3, "
            "height, width)"
        )
    return _in_bytes(pixels)


def is_tensor(value: Any) -> bool:
    """Whether it is one of torch's; open files can be detached too."""
    return hasattr(value, "is_floating_point")


def _numbers(pixels: Any) -> np.ndarray:
    try:
        if is_tensor(pixels):
            pixels = pixels.detach().cpu()
            return np.asarray(pixels.float() if pixels.is_floating_point() else pixels)
        found = np.asarray(pixels)
        if found.dtype == object or not found.ndim:
            raise TypeError("it is no numbers")
        return found
    except (RuntimeError, TypeError, ValueError) as error:  # a tensor without numbers, a sparse one, ragged lists
        kind = type(pixels).__name__
        raise UserError(f"this {kind} is no picture in memory: give a dense tensor, an array, a PIL picture") from error


def _in_bytes(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    if not np.issubdtype(pixels.dtype, np.floating):
        raise UserError(f"pixels in memory are {pixels.dtype}: give uint8, or numbers from 0 to 1")
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise UserError(f"pixels in memory lie from {low:g} to {high:g}: give numbers from 0 to 1, or uint8")
    return (pixels.clip(0, 1) * 255).round().astype(np.uint8)
