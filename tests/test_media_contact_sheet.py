"""Many frames in one picture."""

import numpy as np
import pytest

from makeavideo.media.contact_sheet import contact_sheet
from media_files import CLIP


def test_contact_sheet_of_clips() -> None:
    clips = [np.full((n, 8, 12, 3), 0, np.uint8) for n in (16, 3)]
    for clip in clips:
        clip[...] = np.linspace(0, 200, len(clip)).astype(np.uint8)[:, None, None, None]
    sheet = contact_sheet(clips, columns=3)
    pixels = np.asarray(sheet)
    assert sheet.mode == "RGB" and pixels.shape == (2 + 2 * 10, 2 + 3 * 14, 3)
    assert pixels[5, 5, 0] == 0 and pixels[5, 2 + 2 * 14 + 5, 0] == 200  # first and last frame
    assert pixels[15, 2 + 14 + 5, 0] == 100
    labelled = np.asarray(contact_sheet(np.stack([clips[1]] * 2), 3, ["rocket " * 40, "日本 🚀\nline two"]))
    assert labelled.shape == (2 + 2 * 24, 44, 3)
    assert labelled[2:16].min() < 128  # there is ink


def test_contact_sheet_of_pictures() -> None:
    assert contact_sheet(CLIP, columns=5).size == (2 + 5 * 66, 2 + 3 * 66)
    assert contact_sheet(list(CLIP[:3]), columns=2, labels=["a", "b", "c"]).size == (2 + 2 * 66, 2 + 2 * 80)
    for clips, columns, labels in (([], 2, None), (CLIP, 0, None), (CLIP, 2, ["a"]), (CLIP.astype(float), 2, None)):
        with pytest.raises(ValueError):
            contact_sheet(clips, columns, labels)
