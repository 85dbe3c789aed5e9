"""What was made: a folder of mp4 files, each with its recipe inside. There is nothing else, so it can be copied."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..media.clip import VideoInfo
from ..media.inputs import open_video
from ..media.patience import within
from ..media.reader import probe
from ..media.writer import VideoWriter

__all__ = ["DOWNLOADS", "Gallery", "Item"]

DOWNLOADS = {"mp4": "video/mp4", "webm": "video/webm", "gif": "image/gif", "webp": "image/webp"}
"""Ending -> media type of what can be downloaded."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,120}\.mp4")
LOOK_SECONDS = 5.0
"""Of work on finding out what one file is."""
_FASTEST = {"gif": 50.0, "webp": 90.0}


@dataclass(frozen=True)
class Item:
    """A video of the gallery."""

    name: str
    info: VideoInfo

    @functools.cached_property
    def recipe(self) -> dict[str, Any]:
        """As far as it can be sent and shown; {} where there is none."""
        return _plain(self.info.recipe or {})


def _plain(value: Any) -> Any:
    """What anybody may have written into a file, without what no answer could hold.

    Halves of characters, numbers that are none, whole numbers of more than 64 bits.
    """
    if isinstance(value, dict):
        return {_plain(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, int) and abs(value) >= 2**63 else value


@functools.lru_cache(maxsize=4096)
def _look(path: Path, changed: int) -> VideoInfo | None:
    try:
        with within(LOOK_SECONDS):
            return probe(path)
    except Exception:  # a file that somebody put there: whatever is wrong with it, the others are shown
        return None


class Gallery:
    """The folder; links in it are not followed, so that nothing outside of it can be seen through it."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).resolve()
        self._formats = self.folder / ".formats"
        self._converting = threading.Lock()
        try:
            self._formats.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"The gallery {folder} cannot be made ({error.strerror}): choose another --gallery."
            ) from None

    def new_path(self, label: str) -> Path:
        """Where a new video goes: its name sorts by time and says a little of what it shows."""
        words = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:40].strip("-") or "video"
        return self.folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{words}-{secrets.token_hex(3)}.mp4"

    def items(self) -> list[Item]:
        """Newest first."""
        found = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # it is gone meanwhile
                    if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                        found.append((entry.stat().st_mtime_ns, entry.name))
        looked = ((name, _look(self.folder / name, changed)) for changed, name in sorted(found, reverse=True))
        return [Item(name, info) for name, info in looked if info is not None]

    def path(self, name: Any) -> Path:
        """The file of an item.

        Raises:
            UserError: no such item; anything that is not the plain name of a file in the folder.
        """
        if isinstance(name, str) and _NAME.fullmatch(name):
            path = self.folder / name
            if path.is_file() and not path.is_symlink():
                return path
        raise UserError("This video is not in the gallery (any more): reload the page.")

    def find(self, name: Any) -> Item:
        """Raises as `path` does, and for a file that is not a video."""
        path = self.path(name)
        info = _look(path, path.stat().st_mtime_ns)
        if info is None:
            raise UserError("This file of the gallery is not a video: choose another one.")
        return Item(path.name, info)

    def download(self, name: str, ending: str) -> Path:
        """The video in a format, converted once; the recipe comes along.

        Raises:
            UserError: see `path`; an ending that is not in DOWNLOADS.
        """
        source = self.path(name)
        if ending not in DOWNLOADS:
            raise UserError(f"Downloads are {', '.join(DOWNLOADS)}, not {ending}: choose one of them.")
        if ending == "mp4":
            return source
        target = self._formats / f"{source.stem}-{source.stat().st_mtime_ns}.{ending}"
        with self._converting:  # two at once would only be slower, and could be the same one
            if not target.is_file():
                info = probe(source)
                fps = min(info.fps, _FASTEST.get(ending, info.fps))
                frames = open_video(source, (info.height, info.width), fps)
                with VideoWriter(target, fps, info.recipe, keep_partial=False) as writer:
                    for frame in frames:
                        writer.write(frame)
        return target
