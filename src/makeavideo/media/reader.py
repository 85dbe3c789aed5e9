"""Whole clips, and what files say about themselves: mp4, webm, mov, mkv ...; gif, webp, png; folders of png."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError
from .decoder import VideoInfo, open_clip
from .pictures import parse_background

__all__ = ["Video", "probe", "read_recipe", "read_video"]


class Video(NamedTuple):
    """A clip in memory."""

    frames: np.ndarray
    """uint8 (frames, height, width, 3), RGB."""
    times: np.ndarray
    """float64 (frames,): when each frame is shown, in seconds after the first."""
    fps: float
    """Frames a second; the mean where the rate varies."""


def read_video(path: str | os.PathLike[str], *, background: str = "#ffffff", max_frames: int | None = None) -> Video:
    """Read a whole clip: mp4, webm, mov, mkv and what else FFmpeg knows; gif, webp, png, apng, jpg; a folder of png.

    The kind is found from the content, not the name. Transparent pixels are composed on `background` (a colour as
    Pillow understands it). A picture that the camera marked as turned is turned upright.

    Args:
        max_frames: stop after so many.

    Raises:
        UserError: no such file, not a video, no picture in it, cut off or damaged.
    """
    frames, times = [], []
    with open_clip(path) as clip:
        for frame, time in clip.frames(parse_background(background)):
            frames.append(frame)
            times.append(time)
            if max_frames is not None and len(frames) >= max_frames:
                break
        if not frames:
            raise UserError(f"{os.fspath(path)} holds no frames")
        if any(frame.shape != frames[0].shape for frame in frames):
            raise UserError(f"{os.fspath(path)} holds frames of several sizes, make them equal first")
        seconds = np.array(times, dtype=np.float64)
        return Video(np.stack(frames), seconds - seconds[0], clip.fps(len(frames), float(seconds[-1] - seconds[0])))


def read_recipe(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The recipe that `write_video` put into the file, or None if it carries none. Raises as `read_video` does."""
    with open_clip(path) as clip:
        return clip.recipe()


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Size, length, codec and recipe of a clip, without decoding a video's frames. Raises as `read_video` does."""
    with open_clip(path) as clip:
        return clip.info()
