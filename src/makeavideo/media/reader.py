"""Whole clips, and what files say about themselves: mp4, webm, mov, mkv ...; gif, webp, png; folders of png."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import UnidentifiedImageError

from ..errors import UserError
from .animations import Folder
from .clip import Clip, VideoInfo, open_by_content
from .disk import reason
from .patience import TooSlow
from .pictures import TooManyPixels, Unreadable, parse_background

__all__ = ["Video", "is_still", "probe", "read_recipe", "read_video"]


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
        return Video(np.stack(frames), seconds, clip.fps(len(frames), float(seconds[-1])))


def is_still(path: str | os.PathLike[str]) -> bool:
    """Whether a file, or a folder of pictures, is one frame, whatever its name. Raises as `read_video` does."""
    with open_clip(path) as clip:
        return clip.is_still()


def read_recipe(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The recipe that `write_video` put into the file, or None if it carries none. Raises as `read_video` does."""
    with open_clip(path) as clip:
        return clip.recipe()


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Size, length, codec and recipe of a clip; of a video one frame is decoded. Raises as `read_video` does."""
    with open_clip(path) as clip:
        return clip.info()


_NO_VIDEO = "is not a video that can be read: it is cut off, damaged or of another kind"
_SENTENCES = {
    "empty file": "is empty: copy or download it again",
    "truncated, its end is missing": "is cut off: its end is missing, copy or download it again",
    "truncated": "is cut off or damaged: get a whole copy of it",
    "no video track": "has no video stream, nothing but sound: give a file with moving pictures",
    "unknown codec": "is coded in a way that FFmpeg does not know: convert it to mp4 first",
    "no frames": "holds no frames",
    "its colours are coded as YCgCo": "has its colours coded as YCgCo, which are not read: convert it to mp4 first",
}


def _errors_of_content() -> tuple[type[Exception], ...]:
    """What libraries raise of a damaged file; PyAV may be missing, as on a machine that trains on packed clips."""
    found = (UnidentifiedImageError, SyntaxError, EOFError, ValueError, struct.error)  # SyntaxError: Pillow's, of a png
    try:
        from av.error import FFmpegError
    except ImportError:
        return found
    return (FFmpegError, *found)


@contextlib.contextmanager
def open_clip(path: str | os.PathLike[str]) -> Iterator[Clip]:
    """The clip in a file, or of a folder of pictures; whatever is wrong with it becomes one sentence, a UserError."""
    text = os.fspath(path)
    try:
        if os.path.isdir(text):
            folder = Folder(text)
            if not len(folder):
                raise UserError(f"the folder {text} holds no png pictures: give a video, or a folder of its frames")
            yield folder
            return
        if os.path.exists(text) and not os.path.isfile(text):  # reading a pipe could last for ever
            raise UserError(f"{text} is not a file: give a video file, or a folder of its frames as png")
        with open(text, "rb") as file, open_by_content(file) as clip:
            yield clip
    except FileNotFoundError as error:
        raise UserError(f"{text} does not exist: check its name") from error
    except UserError:
        raise
    except TooManyPixels as error:
        raise UserError(f"{text} has {error}: make it smaller first") from error
    except TooSlow as error:
        raise UserError(f"{text} {error}: make it smaller or shorter first") from error
    except Unreadable as error:
        raise UserError(f"{text} {_SENTENCES.get(str(error), _NO_VIDEO)}") from error
    except _errors_of_content() as error:
        raise UserError(f"{text} {_NO_VIDEO}") from error
    except OSError as error:
        # Pillow's errors about content carry no number, the system's do
        problem = f"cannot be read: {reason(error)}" if error.errno else _SENTENCES["truncated"]
        raise UserError(f"{text} {problem}") from error
