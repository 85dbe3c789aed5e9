"""Many frames in one picture, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image


def contact_sheet(
    clips: np.ndarray | Sequence[np.ndarray], columns: int, labels: Sequence[str] | None = None
) -> Image.Image:
    """One picture that shows many frames side by side.

    Args:
        clips: a list of clips, each uint8 (frames, height, width, 3), or one array with a leading clip axis: a row for
            each clip, `columns` frames evenly spaced over it, first and last included. Or a list of pictures, uint8
            (height, width, 3), or one clip's array: all of them in order, `columns` to a row.
        columns: pictures in a row, at least 1.
        labels: one text for each clip (above its row) or for each picture (above it); cut where it does not fit.

    Returns:
        An RGB picture on white.

    Raises:
        ValueError: nothing to show, wrong shapes, or as many labels as neither clips nor pictures.
    """
    from PIL import Image, ImageDraw, ImageFont

    arrays = [np.asarray(clip) for clip in clips]
    if not arrays or columns < 1 or any(a.dtype != np.uint8 or a.ndim not in (3, 4) or not a.size for a in arrays):
        raise ValueError("a contact sheet needs uint8 pictures (height, width, 3) or clips of them, and columns")
    if labels is not None and len(labels) != len(arrays):
        raise ValueError(f"{len(labels)} labels for {len(arrays)} rows or pictures")
    moving = arrays[0].ndim == 4
    if any((a.ndim == 4) != moving or a.shape[-1] != 3 for a in arrays):
        raise ValueError("a contact sheet shows either clips or pictures, all of them RGB")
    if moving:
        rows = [[a[round(i)] for i in np.linspace(0, len(a) - 1, columns)] for a in arrays]
    else:
        rows = [arrays[i : i + columns] for i in range(0, len(arrays), columns)]

    gap = 2
    cell_height = max(a.shape[-3] for a in arrays)
    cell_width = max(a.shape[-2] for a in arrays)
    text_height = 14 if labels is not None else 0
    width = gap + columns * (cell_width + gap)
    sheet = Image.new("RGB", (width, gap + len(rows) * (text_height + cell_height + gap)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()

    def write(text: str, x: int, y: int, room: int) -> None:
        text = " ".join(str(text).split())
        whole = text
        while text and draw.textlength(text + ("" if text == whole else "..."), font=font) > room:
            text = text[:-1]
        draw.text((x, y), text if text == whole else text + "...", fill="black", font=font)

    for r, row in enumerate(rows):
        y = gap + r * (text_height + cell_height + gap)
        if moving and labels is not None:
            write(labels[r], gap, y, width - 2 * gap)
        for c, picture in enumerate(row):
            x = gap + c * (cell_width + gap)
            if not moving and labels is not None:
                write(labels[r * columns + c], x, y, cell_width)
            sheet.paste(Image.fromarray(picture), (x, y + text_height))
    return sheet
