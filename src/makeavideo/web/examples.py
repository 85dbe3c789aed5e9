"""The pictures and the video of the examples: drawn here, so that the package needs no files for them."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..media.writer import write_video
from .uploads import Source, Uploads

__all__ = ["Examples"]

_SIDE = 256
_OVER = 4
"""Drawn that many times as large: Pillow's circles have no smooth edges."""


def face(mouth: float, turn: float = 0.0) -> np.ndarray:
    """A yellow face, uint8 (256, 256, 3); `mouth` from -1, sad, to 1, smiling; turned by `turn` degrees."""
    side = _SIDE * _OVER
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)

    def box(x: float, y: float, width: float, height: float) -> tuple[float, ...]:
        return (x - width / 2) * side, (y - height / 2) * side, (x + width / 2) * side, (y + height / 2) * side

    draw.ellipse(box(0.5, 0.5, 0.88, 0.88), fill="#ffcc33")
    for x in (0.36, 0.64):
        draw.ellipse(box(x, 0.42, 0.1, 0.15), fill="#5c3a1e")
    points = [
        ((0.5 + 0.22 * x) * side, (0.66 + 0.1 * mouth * (0.4 - x * x)) * side) for x in np.linspace(-1, 1, 41).tolist()
    ]
    draw.line(points, fill="#5c3a1e", width=round(0.035 * side), joint="curve")
    for x, y in (points[0], points[-1]):
        draw.ellipse(box(x / side, y / side, 0.035, 0.035), fill="#5c3a1e")
    image = image.rotate(turn, Image.Resampling.BICUBIC, fillcolor="white")
    return np.array(image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS))


class Examples:
    """Inputs of the examples, put among the uploads."""

    def __init__(self, uploads: Uploads) -> None:
        self.smile = uploads.keep_frame(face(1.0), "smile.png")
        self.frown = uploads.keep_frame(face(-1.0), "frown.png")
        self.nod = self._nod(uploads)

    @staticmethod
    def _nod(uploads: Uploads) -> Source:
        """One second of a face that sways and smiles."""
        steps = [2 * math.pi * step / 24 for step in range(24)]
        with tempfile.TemporaryDirectory() as folder:
            frames = [face(0.6 + 0.4 * math.cos(step), 15 * math.sin(step)) for step in steps]
            return uploads.keep(write_video(Path(folder) / "nod.mp4", frames, 24), "nod.mp4")
