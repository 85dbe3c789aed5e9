"""One png picture, and a folder of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .disk import Target


class PngSink:
    """One picture."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def add(self, frame: np.ndarray) -> None:
        _save_png(self._target.path, frame, {"Comment": self._target.recipe})

    def finish(self) -> int:
        return 1

    def drop(self) -> None:
        pass


class FolderSink:
    """A folder of pictures; the first one carries the recipe and the frame rate."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._count = 0
        target.path.mkdir()

    def add(self, frame: np.ndarray) -> None:
        notes = {"Comment": self._target.recipe, "fps": str(self._target.rate)} if self._count == 0 else {}
        path = self._target.path / f"frame_{self._count:05d}.png"
        try:
            _save_png(path, frame, notes)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self._count += 1

    def finish(self) -> int:
        return self._count

    def drop(self) -> None:
        pass


def _save_png(path: Path, frame: np.ndarray, notes: dict[str, str | None]) -> None:
    info = PngInfo()
    for key, value in notes.items():
        if value is not None:
            info.add_text(key, value)
    Image.fromarray(frame).save(path, "PNG", pnginfo=info)
