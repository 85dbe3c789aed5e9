"""Pictures and videos as people have them -> RGB frames of a shape: any turn, depth, transparency and frame rate.

Everything is uint8 RGB, as in `media.reader`. A video is decoded frame by frame and is never in memory as a whole.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..errors import UserError
from ..kinds import is_number
from ..nesting import SHORT
from .memory import array_of, clip_of
from .pictures import (
    Fit,
    Unreadable,
    check_shape,
    in_memory,
    load_picture,
    parse_background,
    sides,
    to_shape,
)
from .reader import open_clip

__all__ = [
    "Picture",
    "Video",
    "VideoInput",
    "open_video",
    "read_picture",
    "sample_frames",
    "shape_of",
    "shape_of_video",
]

Picture = str | os.PathLike[str] | np.ndarray | Image.Image | Any
"""A file, a PIL image, an array (height, width, 3) or a tensor (3, height, width); see `media.memory`."""
Video = str | os.PathLike[str] | np.ndarray | Sequence[Image.Image] | Any
"""A file, or frames in memory, 24 a second unless another rate is given: a list of pictures, an array (frames, height,
width, 3), a tensor (frames, 3, height, width)."""


def read_picture(
    path: Picture, size: int | tuple[int, int] | None = None, fit: Fit = "crop", background: str = "#ffffff"
) -> np.ndarray:
    """A picture file of any kind that Pillow reads, as uint8 (height, width, 3) RGB; an animation's first frame.

    A picture in memory is taken as it is.

    It is turned as its EXIF says, its colours go to sRGB, deeper ones than 8 bits are scaled, and transparent parts are
    composed on the background before any resizing.

    Args:
        size: (height, width) that is wanted, or pixels a side of a square; None: the picture as it is.
        fit: "crop": it is scaled until it covers that, and the centre is cut out; "pad": the whole picture, with
            `background` beside or above and below it.
        background: a colour as Pillow understands it.

    Raises:
        UserError: no such file, not a picture, cut off, more than 64 megapixels; a wrong size, fit or background.
    """
    colour = parse_background(background)
    check_shape(size, fit)
    if not isinstance(path, str | os.PathLike):
        image = path if isinstance(path, Image.Image) else Image.fromarray(array_of(path))
        image = in_memory(image, colour)
        return np.array(image) if size is None else to_shape(image, size, fit, colour)
    text = os.fspath(path)
    if not os.path.exists(text):
        raise UserError(f"the picture {text} does not exist: check its name")
    if os.path.isdir(text):
        raise UserError(f"{text} is a folder, not a picture: name one picture in it")
    if not os.path.isfile(text):  # reading a pipe could last for ever
        raise UserError(f"{text} is not a file: give a picture file, such as png or jpg")
    try:
        if os.path.getsize(text) == 0:
            raise UserError(f"the picture {text} is empty: copy or download it again")
        with open(text, "rb") as file:
            image = load_picture(file, colour, None if size is None else 2 * max(sides(size)))
    except OSError as error:
        raise UserError(f"the picture {text} cannot be opened: {(error.strerror or str(error)).lower()}") from error
    except Unreadable as error:
        raise UserError(_picture_problem(text, str(error))) from error
    return np.array(image) if size is None else to_shape(image, size, fit, colour)


def shape_of(picture: Picture) -> tuple[int, int]:
    """(height, width) of a picture as `read_picture` gives it. Raises UserError as that does."""
    height, width = read_picture(picture).shape[:2]
    return height, width


def shape_of_video(video: Video) -> tuple[int, int]:
    """(height, width) of a video's frames as they are shown. Raises UserError as `open_video` does."""
    if not isinstance(video, str | os.PathLike):
        height, width = clip_of(video).shape[1:3]
        return height, width
    with open_clip(video) as clip:
        return clip.shape()


def _picture_problem(text: str, reason: str) -> str:
    """One sentence: what is wrong with this file and what to do."""
    if reason == "truncated":
        return f"the picture {text} is cut off: its end is missing, copy or download it again"
    if reason.startswith("takes too long"):
        return f"the picture {text} {reason}: make it smaller first"
    if reason.startswith("more than"):
        return f"the picture {text} has {reason}: make it smaller first"
    if reason != "not a picture":
        return f"the picture {text} cannot be read, it is cut off or {reason}: get a whole copy of it"
    with open(text, "rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"):
        return f"{text} is a HEIC picture, which cannot be read here: save it as jpg or png"
    with contextlib.suppress(UserError), open_clip(text):
        return f"{text} is a video, not a picture: give a picture, such as one frame of it"
    return f"{text} is not a picture that can be read: give a png, jpg, webp or gif file"


def check_rate(fps: Any) -> None:
    """Raises UserError where it is no frame rate; None is a video's own."""
    if fps is not None and not (is_number(fps) and 0.01 <= fps <= 240):
        raise UserError(f"the frame rate is {SHORT.repr(fps)}: it must lie between 0.01 and 240")


class VideoInput:
    """A video that is decoded while it is iterated over, frame by frame, as often as wanted; see `open_video`.

    Iterating gives uint8 (height, width, 3) frames, `num_frames` of them, `1 / fps` seconds apart: each is the one
    nearest in time. It raises UserError where the file turns out to be damaged.

    Attributes:
        fps: frames a second that iterating gives, constant.
        num_frames: how many.
        duration: seconds that the file lasts.
    """

    fps: float
    num_frames: int
    duration: float
    _fit: Fit

    def __init__(
        self,
        path: str | os.PathLike[str],
        size: int | tuple[int, int],
        fps: float | None = None,
        fit: Fit = "crop",
        background: str = "#ffffff",
    ) -> None:
        self._path, self._size = os.fspath(path), size
        self._fit: Fit = fit
        self._background = parse_background(background)
        check_shape(size, fit)
        check_rate(fps)
        with open_clip(path) as clip:
            self._clock, info = clip.clock(), clip.info()
        if not info.fps or not info.duration:
            raise UserError(f"{self._path} is a single picture, not a video: give a file with moving pictures")
        self.duration = info.duration
        self.fps = float(fps or info.fps)
        self.num_frames = max(1, round(self.duration * self.fps))

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.at(index / self.fps for index in range(self.num_frames))

    def at(self, times: Iterable[float]) -> Iterator[np.ndarray]:
        """The frame nearest to each time, in ascending seconds after the first frame; the earlier of two equally near.

        uint8 (height, width, 3) each; decoding stops after the last one.
        """
        wanted = self._clock.nearest(np.fromiter(times, np.float64))
        with open_clip(self._path) as clip:
            before = made = None
            for frame in clip.at(self._clock, wanted.tolist(), self._background):
                made = made if frame is before and made is not None else self._fitted(frame)
                before = frame
                yield made.copy()

    def _fitted(self, frame: np.ndarray) -> np.ndarray:
        return to_shape(Image.fromarray(frame), self._size, self._fit, self._background)


class _FrameArray(VideoInput):
    """A clip in memory, uint8 (frames, height, width, 3), with the ways of a `VideoInput`."""

    def __init__(
        self, frames: np.ndarray, size: int | tuple[int, int], fps: float | None, fit: Fit, background: str
    ) -> None:
        self._frames, self._size, self._fit = frames, size, fit
        self._background = parse_background(background)
        check_shape(size, fit)
        check_rate(fps)
        self.fps = float(fps or 24)
        self.num_frames = len(frames)
        self.duration = self.num_frames / self.fps

    def at(self, times: Iterable[float]) -> Iterator[np.ndarray]:
        for time in times:
            yield self._fitted(self._frames[min(max(round(time * self.fps), 0), self.num_frames - 1)])


def open_video(
    path: Video,
    size: int | tuple[int, int],
    fps: float | None = None,
    fit: Fit = "crop",
    background: str = "#ffffff",
) -> VideoInput:
    """A video of any kind that `media.reader.read_video` reads, to be iterated over at a constant frame rate.

    Its packets are looked through once for its length, without decoding them (a gif, webp or apng is decoded for it).
    Frames that are not wanted are decoded only where the wanted ones need them.

    Args:
        size: (height, width) of the frames, or pixels a side of square ones.
        fps: frames a second that are wanted; None: the file's own, the mean where it varies.
        fit, background: as in `read_picture`.

    Raises:
        UserError: no such file, not a video, no picture in it, cut off, frames of more than 64 megapixels; a wrong
            size, rate, fit or background.
    """
    if not isinstance(path, str | os.PathLike):
        return _FrameArray(clip_of(path, background), size, fps, fit, background)
    return VideoInput(path, size, fps, fit, background)


def sample_frames(
    path: Video, count: int, size: int | tuple[int, int], fit: Fit = "crop", background: str = "#ffffff"
) -> np.ndarray:
    """uint8 (count, height, width, 3): frames spread evenly over a whole video, each from the middle of an equal part.

    Only the frames returned are ever in memory. Arguments and errors as in `open_video`; where the video has fewer
    frames than `count`, they repeat.
    """
    if count < 1:
        raise UserError(f"{count} frames are wanted: it must be at least 1")
    video = open_video(path, size, None, fit, background)
    half = 0.5 / video.fps  # a frame's time is when it begins
    return np.stack(list(video.at(video.duration * (index + 0.5) / count - half for index in range(count))))
