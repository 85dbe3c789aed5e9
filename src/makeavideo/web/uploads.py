"""What people bring: pictures and videos, bounded, looked at for what they are and not for what they are called."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import math
import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from ..errors import UserError
from ..media.disk import reason, temporary_in
from ..media.inputs import open_video, read_picture, sample_frames
from ..media.patience import within
from ..media.reader import probe
from ..media.writer import write_video
from .gallery import Gallery

__all__ = ["MAX_BYTES", "Source", "Uploads"]

MAX_BYTES = 50 * 2**20
MAX_TOTAL_BYTES = 2 * 2**30
"""Of all uploads together; the oldest go first."""
MAX_INCOMING_BYTES = 256 * 2**20
"""Of files that were received and that nobody has used yet; the oldest go first."""
INCOMING_SECONDS = 3600.0
"""How long such a file waits."""
_TIDY_SECONDS = 60.0
LOOK_SECONDS = 10.0
"""Of work on looking at one upload."""
MAX_SECONDS = 60.0
MAX_FRAMES = 3600
MAX_VIDEO_PIXELS = 1920 * 1200
"""Of one frame; pictures have the limit of `makeavideo.media.pictures`, 64 megapixels."""
KEPT_PIXELS = 8_000_000
"""Larger pictures are kept smaller: reading them again would take seconds in which nothing could stop it."""

Kind = Literal["picture", "video"]

_STORED = re.compile(r"[0-9a-f]{32}")
_SHOWN_SIDE = 256


@dataclass(frozen=True)
class Source:
    """An input of a use.

    where: "upload" or "gallery".
    name: what it is stored as.
    shown: what its owner calls it.
    """

    where: str
    name: str
    shown: str


class Uploads:
    """The folder of uploads: files named by their content, so that nobody can ask for one that he has not got.

    Args:
        folder: where they are kept; `incoming` in it is where Gradio puts what has not been looked at.
    """

    def __init__(self, folder: Path, gallery: Gallery) -> None:
        self.folder, self.incoming, self.gallery = folder, folder / "incoming", gallery
        self.incoming.mkdir(parents=True, exist_ok=True)

    def accept(self, path: Any, kind: Kind, name: str | None = None) -> Source:
        """Look at a file that Gradio has received, and keep it.

        Raises:
            UserError: too large, too long, not what it should be, or not a file that was uploaded.
        """
        file = self.received(path)
        shown = _shown(name or file.name)
        try:
            with within(LOOK_SECONDS):
                source = self._keep_picture(file, shown) if kind == "picture" else self._keep_video(file, shown)
        except UserError as error:
            raise UserError(str(error).replace(str(file), shown)) from None
        file.unlink(missing_ok=True)
        return source

    def received(self, path: Any) -> Path:
        """A path that a client names, if it is a file that was uploaded; bounded in bytes."""
        try:
            file = Path(path).resolve(strict=True)
            inside = file.is_relative_to(self.incoming.resolve()) and file.is_file() and not Path(path).is_symlink()
        except (OSError, TypeError, ValueError):
            inside = False
        if not inside:
            raise UserError("This is not an uploaded file: choose a file and upload it.")
        if file.stat().st_size > MAX_BYTES:
            raise UserError(f"The file is larger than {MAX_BYTES // 2**20} MB: choose a smaller one.")
        return file

    def tidy_incoming(self) -> None:
        """Remove what has waited too long, and the oldest while there is too much; called after every upload."""
        kept = []
        for folder, _, names in os.walk(self.incoming, topdown=False):
            for path in (os.path.join(folder, name) for name in names):
                with contextlib.suppress(OSError):  # it is gone meanwhile
                    kept.append((os.lstat(path), path))
            with contextlib.suppress(OSError):
                if time.time() - os.stat(folder).st_mtime > INCOMING_SECONDS and folder != str(self.incoming):
                    os.rmdir(folder)  # only if it is empty
        total = sum(stat.st_size for stat, _ in kept)
        for stat, path in sorted(kept, key=lambda one: one[0].st_mtime_ns):
            if total > MAX_INCOMING_BYTES or time.time() - stat.st_mtime > INCOMING_SECONDS:
                Path(path).unlink(missing_ok=True)
                total -= stat.st_size

    def keep_tidy(self) -> None:
        """For ever, in a thread: what nobody comes back for goes too."""
        while True:
            with contextlib.suppress(OSError):
                self.tidy_incoming()
            time.sleep(_TIDY_SECONDS)

    def _keep_picture(self, file: Path, shown: str) -> Source:
        picture = Image.fromarray(read_picture(file))
        scale = math.sqrt(KEPT_PIXELS / (picture.width * picture.height))
        if scale >= 1:
            return self.keep(file, shown)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        return self.keep_frame(np.asarray(picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)), shown)

    def _keep_video(self, file: Path, shown: str) -> Source:
        info = probe(file)
        if info.width * info.height > MAX_VIDEO_PIXELS:
            raise UserError(f"The video has {info.width} x {info.height} pixels: choose one of at most 1920 x 1200.")
        if info.duration > MAX_SECONDS or info.num_frames > MAX_FRAMES:
            raise UserError(
                f"The video lasts {info.duration:.0f} seconds ({info.num_frames} frames): "
                f"choose one of at most {MAX_SECONDS:.0f} seconds and {MAX_FRAMES} frames."
            )
        sample_frames(file, 3, 8)
        return self.keep(file, shown)

    def keep(self, file: Path, shown: str) -> Source:
        with open(file, "rb") as content:
            name = hashlib.file_digest(content, "blake2b").hexdigest()[:32]
        target = self.folder / name
        if not target.is_file():
            temporary = temporary_in(self.folder)
            try:
                shutil.copyfile(file, temporary)
                os.replace(temporary, target)
            except OSError as error:
                raise UserError(f"{shown} cannot be kept: {reason(error)}.") from error
            finally:
                temporary.unlink(missing_ok=True)
        os.utime(target)  # used just now
        self._tidy()
        return Source("upload", name, shown)

    def _tidy(self) -> None:
        """Remove the oldest uploads while there is more than MAX_TOTAL_BYTES."""
        with os.scandir(self.folder) as entries:
            kept = [(one.stat(), one.path) for one in entries if _STORED.fullmatch(one.name) and one.is_file()]
        total = sum(stat.st_size for stat, _ in kept)
        for stat, path in sorted(kept, key=lambda one: one[0].st_mtime_ns)[:-1]:
            if total <= MAX_TOTAL_BYTES:
                return
            Path(path).unlink(missing_ok=True)
            total -= stat.st_size

    def keep_frame(self, frame: np.ndarray, shown: str) -> Source:
        """A picture as it is, uint8 (height, width, 3)."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "frame.png"
            Image.fromarray(frame).save(file, compress_level=1)
            return self.keep(file, shown)

    def path(self, source: Source) -> Path:
        """Raises UserError where the file is gone, or never was."""
        if source.where == "gallery":
            return self.gallery.path(source.name)
        path = self.folder / source.name
        if not _STORED.fullmatch(source.name) or path.is_symlink() or not path.is_file():
            raise UserError(f"The upload {source.shown} is not here (any more): upload it again.")
        return path

    def has(self, source: Source) -> bool:
        try:
            self.path(source)
        except UserError:
            return False
        return True

    def shown(self, name: str) -> tuple[bytes, str]:
        """What a page shows of an upload, and its media type: small, and made here, whatever the file holds."""
        return _small(self.path(Source("upload", name, name)))


@functools.lru_cache(maxsize=64)
def _small(path: Path) -> tuple[bytes, str]:
    try:
        clip = open_video(path, _SHOWN_SIDE, None, "pad")
    except UserError:
        buffer = io.BytesIO()
        Image.fromarray(read_picture(path, _SHOWN_SIDE, "pad")).save(buffer, "PNG")
        return buffer.getvalue(), "image/png"
    with tempfile.TemporaryDirectory() as folder:
        moved = write_video(Path(folder) / "shown.mp4", clip, min(60.0, clip.fps))
        return moved.read_bytes(), "video/mp4"


def _shown(name: str) -> str:
    """The name of somebody's file, without its folders and of bounded length."""
    return re.sub(r"[\x00-\x1f]", "", re.split(r"[/\\]", name)[-1])[-80:] or "file"
