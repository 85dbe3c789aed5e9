"""Where F-up starts: the given frames, and between two of them that are near, both warped along their optical flow.

A cross-fade shows a moving thing twice. F-up would have to learn to see both and to move them together; dense optical
flow does that for small motion at once, and leaves to the network what it cannot know: what appears, what is hidden,
what changes its shape (section 3.3 of the paper gives F-up the masked frames alone).
"""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .figures import FRAME_SKIP
from .sampling import cross_fade

NEAR = FRAME_SKIP + FRAME_SKIP // 2
"""Largest distance of two given frames that flow leads between; the last gap of a loop can be the longest."""
FAR_UNIT = 0.25
"""Unit of F-up's correction where no flow leads: about the size of what happens in a window."""
LEAST = 12
"""Pixels a side that OpenCV's flow asks for; a smaller picture is continued by its rim."""


class Flow:
    """Dense optical flow (DIS) between two pictures (h, w, 3), float32 in [-1, 1], in both directions."""

    def __init__(self, a: np.ndarray, b: np.ndarray):
        from .opencv import cv2  # here, so that the other stages train without it

        dis: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        dis.setFinestScale(0)
        self.pictures = a, b
        grey = [
            cv2.cvtColor(((x + 1) * 127.5).round().clip(0, 255).astype(np.uint8), cv2.COLOR_RGB2GRAY) for x in (a, b)
        ]
        height, width = a.shape[:2]
        lacks = (0, max(0, LEAST - height), 0, max(0, LEAST - width))
        grey = [cv2.copyMakeBorder(x, *lacks, cv2.BORDER_REPLICATE) for x in grey] if any(lacks) else grey
        self.forward, self.backward = (
            dis.calc(*pair, None)[:height, :width] for pair in ((grey[0], grey[1]), (grey[1], grey[0]))
        )
        self.y, self.x = np.mgrid[:height, :width].astype(np.float32)

    def warped(self, s: float) -> tuple[np.ndarray, np.ndarray]:
        """Both pictures moved to `s` of the way from the first to the second (Super SloMo, section 3.2)."""
        from .opencv import cv2

        to_a = s * s * self.backward - (1 - s) * s * self.forward
        to_b = (1 - s) ** 2 * self.forward - s * (1 - s) * self.backward
        a, b = (
            cv2.remap(
                picture, self.x + to[..., 0], self.y + to[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            for picture, to in zip(self.pictures, (to_a, to_b), strict=True)
        )
        return a, b

    def between(self, s: float) -> np.ndarray:
        """The picture at `s` of the way: warped, and cross-faded where the warps agree less than the pictures do."""
        from .opencv import cv2

        (a, b), (c, d) = self.pictures, self.warped(s)
        still, moved = (cv2.blur(np.abs(x - y).mean(-1), (5, 5)) ** 2 + 6e-5 for x, y in ((a, b), (c, d)))
        # 6e-5 is one level of 255, squared: what differs less agrees
        trust = np.minimum(1, 2 * still / (still + moved))[..., None]
        return trust * ((1 - s) * c + s * d) + (1 - trust) * ((1 - s) * a + s * b)

    def unit(self) -> np.ndarray:
        """(h, w), the unit of F-up's correction: about a quarter of the change around a pixel."""
        from .opencv import cv2

        a, b = self.pictures
        change = cv2.blur(np.square(a - b).mean(-1), (9, 9))
        return 0.25 * np.sqrt(change.clip(0)) + 0.02  # running sums can round to just below zero


def first_guess(given: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """What F-up corrects, and the unit of its correction.

    Args:
        given, mask: as in `sampling.cross_fade`.

    Returns:
        The given frames with the others filled in, shaped as `given`: along the optical flow where the given frames on
        either side are at most NEAR apart, by a cross-fade elsewhere. And the unit (b, f, 1, h, w).
    """
    guess = cross_fade(given, mask)
    unit = torch.full_like(guess[:, :, :1], FAR_UNIT)
    for row, known in enumerate(mask > 0.5):
        places = known.nonzero()[:, 0].tolist()
        for start, end in pairwise(places):
            if not 1 < end - start <= NEAR:
                continue
            flow = Flow(*(given[row, place].permute(1, 2, 0).float().cpu().numpy().copy() for place in (start, end)))
            unit[row, start + 1 : end] = torch.from_numpy(flow.unit()).to(unit)
            for place in range(start + 1, end):
                picture = flow.between((place - start) / (end - start))
                guess[row, place] = torch.from_numpy(picture).permute(2, 0, 1).to(guess)
    return guess, unit
