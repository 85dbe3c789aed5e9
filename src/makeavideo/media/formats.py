"""What can be written, and the questions that can be answered before any work is done."""

from __future__ import annotations

import os
import re
import tempfile
from fractions import Fraction
from pathlib import Path

from ..errors import UserError
from ..kinds import is_number, is_whole
from ..nesting import SHORT
from .disk import TEMPORARY, reason

__all__ = ["FORMATS", "check_size", "check_writable", "ending_of", "frame_rate"]

FORMATS: dict[str, str] = {
    ".mp4": "H.264 video, plays everywhere",
    ".webm": "VP9 video",
    ".gif": "animated GIF, 256 colours",
    ".webp": "animated WebP",
    ".png": "one picture",
    "": "a folder of png pictures",
}
"""What can be written: ending -> description. The empty ending is a folder, frame_00000.png and so on."""

_MAX_FPS = {".gif": 50, ".webp": 90}  # browsers play shorter delays than these at 10 frames a second
_MAX_FPS_ANY = 240

FRAME_NAME = re.compile(r"frame_\d+\.png")
ONE_PICTURE = (
    "cannot write {n} frames to {path}: a .png holds one picture, use .mp4 or a folder (a name without ending)"
)


def check_quality(quality: int | None, ending: str) -> None:
    """Raises UserError for a number that is none, and for a format that loses nothing or cannot choose."""
    if quality is None:
        return
    if ending not in (".mp4", ".webm", ".webp"):
        kind = "a folder of pictures" if ending == "" else f"a {ending}"
        raise UserError(f"{kind} has no quality to choose: leave out --quality, or write .mp4, .webm or .webp")
    if not is_whole(quality) or not 1 <= quality <= 100:
        raise UserError(f"--quality {SHORT.repr(quality)} is not possible: choose from 1 (smallest file) to 100 (best)")


def check_writable(
    path: str | os.PathLike[str],
    *,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
    num_frames: int | None = None,
    quality: int | None = None,
) -> Path:
    """Make sure, before any work is done, that a clip can be written to `path`; missing folders are created.

    Args:
        path: a file with one of the endings of `FORMATS`; without ending, or ending with a slash, a folder.
        fps: the frame rate, if known already.
        size: (height, width) in pixels, if known already.
        num_frames: how many frames there will be, if known already.
        quality: of the encoder, see `writer.write_video`.

    Returns:
        The absolute path that will be written, links resolved.

    Raises:
        UserError: unknown ending, a folder where a file is asked or the reverse, a folder that cannot be written or
            holds other things, an impossible frame rate or size.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str) or not text or "\0" in text:
        raise UserError(f"the output path {SHORT.repr(text)} is not a file name: give one such as video.mp4")
    ending = ending_of(text)
    check_quality(quality, ending)
    if fps is not None:
        frame_rate(fps, ending)
    if size is not None:
        check_size(size, ending)
    if ending == ".png" and num_frames is not None and num_frames > 1:
        raise UserError(ONE_PICTURE.format(path=text, n=num_frames))

    target = Path(os.path.realpath(text))
    try:
        is_folder, exists = target.is_dir(), os.path.lexists(target)
        if ending and is_folder:
            raise UserError(f"cannot write {text}: a folder of that name exists, choose another name")
        if not ending and exists and not is_folder:
            raise UserError(f"cannot write {text} as a folder of pictures: a file of that name exists, add an ending")
        if not ending and is_folder:
            others = [entry.name for entry in os.scandir(target) if not FRAME_NAME.fullmatch(entry.name)]
            others = sorted(name for name in others if not name.startswith(TEMPORARY))
            if others:
                raise UserError(
                    f"cannot write pictures to {text}: the folder holds other things ({others[0]}), choose an empty one"
                )
        place = target if is_folder else target.parent
        _check_folder(place, text)
    except OSError as error:  # such as a name that is too long
        raise UserError(f"cannot write {text}: {reason(error)}") from error
    return target


def _check_folder(folder: Path, shown: str) -> None:
    """Create `folder` if it is missing and make sure that files can be made in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = (
            "part of the path is a file" if isinstance(error, FileExistsError | NotADirectoryError) else reason(error)
        )
        raise UserError(f"cannot write {shown}: the folder {folder} cannot be created, {problem}") from error
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=TEMPORARY):
            pass
    except OSError as error:
        raise UserError(f"cannot write {shown}: the folder {folder} is not writable, {reason(error)}") from error


def ending_of(text: str) -> str:
    """The key of FORMATS that `text` asks for."""
    if text.endswith(("/", os.sep)):
        return ""
    name = Path(text).name
    ending = Path(text).suffix.lower()
    known = ", ".join(key for key in FORMATS if key)
    if name.lower() in FORMATS and name:
        raise UserError(f"cannot write {text}: the name has nothing before its ending, write for example video{name}")
    if ending not in FORMATS or name.endswith("."):
        raise UserError(
            f"cannot write {text}: the ending {ending or '.'} is unknown, "
            f"use {known}, or no ending for a folder of png pictures"
        )
    return ending


def frame_rate(fps: float, ending: str) -> Fraction:
    """`fps` as a fraction; UserError where the format cannot hold it."""
    limit = _MAX_FPS.get(ending, _MAX_FPS_ANY)
    if not is_number(fps) or not 0.01 <= fps <= limit:
        said = SHORT.repr(fps)
        raise UserError(f"the frame rate is {said}: it must lie between 0.01 and {limit} for {ending or 'pictures'}")
    return Fraction(float(fps)).limit_denominator(1001)


def check_size(size: tuple[int, int], ending: str) -> None:
    height, width = size
    if height < 1 or width < 1:
        raise UserError(f"the frames are {width}x{height} pixels: both sides must be at least 1")
    if ending in (".mp4", ".webm") and (height % 2 or width % 2):
        raise UserError(f"the frames are {width}x{height} pixels: {ending} needs even sides, use even sizes or .webp")
