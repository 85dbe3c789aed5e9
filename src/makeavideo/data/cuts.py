"""Where a video goes over from one scene to another: suddenly, through a plain picture, or by a cross-fade.

PySceneDetect finds sudden changes (its adaptive detector: a change that stands out among its neighbours) and fades
through black, white or any other colour (its threshold detector, given the contrast). Cross-fades are found here: their
middle is a mix of the pictures before and after, which show different scenes. Wipes are not found: what tells them
apart, parts of two pictures side by side, is seen where large things move, too.
"""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import Any

import numpy as np

from ..errors import UserError
from ..opencv import cv2

SMALL = 32
"""Pixels of the short side at which pictures are compared: a little motion changes nothing."""
PLAIN = 3
"""Grey levels of contrast (mean distance from the mean) up to which a picture shows nothing but a colour."""
PASSING = 0.25
"""Seconds that a flash lasts at most: where the picture is then what it was before, nothing is cut."""
JUMP = 12
"""Grey levels by which a flash jumps (on average), and by which the ends of a cross-fade differ (squared mean)."""
SPANS = (1 / 6, 1 / 4, 1 / 2, 1)
"""Seconds from the middle of a cross-fade to the frames that it may be a mix of."""
MIXED = 0.3
"""Part of the ends' difference by which the middle may miss a mix of them: scenes move while they are mixed.

Where large things move in one scene it mostly misses more, but often less than 0.4.
"""
PARTLY = 0.2
"""Correlation of a cross-fade's middle with either end, at least: else it may only become darker between them."""
ALIKE, SEEN_AGAIN = 0.5, 0.85
"""Correlation from which on two pictures are of one scene: as they are, and the middle of one anywhere in the other."""
GOES_ON, LEAST = 0.92, 5
"""A picture that correlates so well with the one before, or differs by fewer grey levels (mean of the colours), goes on
with it: what changes suddenly is how well it is coded, as a key frame of few bits does, or the hue of what is grey."""
EDGE = 2
"""Frames on both sides that the adaptive detector compares with: so often are the first and the last one repeated."""


class Cuts:
    """Looks at the frames of a video one after the other; of the pictures it remembers the last two seconds.

    Args:
        rate: frames a second, about.
    """

    def __init__(self, rate: float) -> None:
        try:
            from scenedetect import AdaptiveDetector, ThresholdDetector
        except ImportError:
            raise UserError("Cuts are found by PySceneDetect: pip install 'makeavideo[clips]'.") from None
        self._rate = Fraction(rate).limit_denominator(1001)
        self._sudden = AdaptiveDetector(min_scene_len=1, window_width=EDGE, min_content_val=LEAST)
        self._plain = ThresholdDetector(PLAIN, min_scene_len=2)
        self._spans = sorted({max(2, round(rate * span)) for span in SPANS})
        self._moment = max(2, round(rate * PASSING))
        self._greys: deque[np.ndarray] = deque(maxlen=2 * self._spans[-1] + 1)
        self._last: np.ndarray = np.zeros((1, 1, 3), np.uint8)
        self._jumps: list[float] = []
        self._recoloured: list[float] = []
        self._nothing: list[bool] = []
        self._found: set[int] = set()
        self._passing: set[int] = set()
        self._middles: dict[int, tuple[int, float]] = {}

    def look(self, frame: np.ndarray) -> None:
        """The next frame, made small: uint8 (height, width, 3)."""
        number = len(self._nothing)
        before, self._last = self._last, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        contrast = np.abs(self._last - self._last.mean((0, 1)))
        self._found.update(self._ask(self._plain, number, contrast))
        self._nothing.append(bool(contrast.mean() < PLAIN))
        grey, scale = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), SMALL / min(frame.shape[:2])
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.float32)
        self._jumps.append(_apart(self._greys[-1], grey) if self._greys else 0.0)
        self._greys.append(grey)
        self._recoloured.append(float(cv2.absdiff(before, self._last).mean()) if number else 0.0)
        for repeated in range(1 if number else EDGE + 1):
            self._see_sudden(number + (EDGE if number else repeated))
        self._see_flashes(number)
        self._see_cross_fades(number)

    def _ask(self, detector: Any, number: int, picture: np.ndarray) -> list[int]:
        from scenedetect import FrameTimecode

        return [cut.frame_num for cut in detector.process_frame(FrameTimecode(number, self._rate), picture)]

    def _see_sudden(self, number: int) -> None:
        """Asks with the last picture, as of frame `number` where the first one is shown EDGE times before it."""
        for cut in self._ask(self._sudden, number, self._last):
            at = cut - EDGE
            back = at - len(self._recoloured)
            if self._recoloured[at] >= LEAST and not _goes_on(self._greys[back - 1], self._greys[back]):
                self._found.add(at)

    def _see_flashes(self, number: int) -> None:
        """Notes what began with a jump, unlike a fade, and is over: this frame is like the one before it."""
        for began in range(max(2, number - self._moment), number):
            before, now = self._greys[began - number - 2], self._greys[-1]
            least = max(JUMP, 3 * self._jumps[began - 1], 3 * _apart(before, now))
            if self._jumps[began] > least and _is_one_scene(before, now):
                self._passing.update(range(began, number + 1))

    def _see_cross_fades(self, number: int) -> None:
        for span in self._spans:
            if number >= 2 * span:
                first, middle, last = (self._greys[-1 - back] for back in (2 * span, span, 0))
                missed = _mix_missed(first, middle, last)
                if missed < MIXED and not _is_one_scene(first, last):
                    self._middles.setdefault(number - span, (span, missed))

    def all(self) -> tuple[list[int], np.ndarray]:
        """To be asked once, after the last frame.

        Returns:
            The first frames of all scenes but the first one, in order; and of every frame whether it shows no scene, as
            it is plain or part of a cross-fade, bool (frames,).
        """
        for repeated in range(EDGE):
            self._see_sudden(len(self._nothing) + EDGE + repeated)
        cuts, nothing = sorted(self._found - self._passing - {0}), np.array(self._nothing, bool)
        for middles in self._cross_fades(cuts):
            best = min(middles, key=lambda at: self._middles[at][1])
            cuts.append(best)
            # neither end prevails in these, which is about half of it
            around = min(len(middles), self._spans[-1] // 2)
            nothing[max(0, best - around) : best + around + 1] = True
        return sorted(cuts), nothing

    def _cross_fades(self, cuts: list[int]) -> list[list[int]]:
        """The middles of each."""
        reach, plain, sudden = self._spans[-1], np.array(self._nothing, bool), np.array(cuts, int)
        runs: list[list[int]] = []
        for at, (span, _) in sorted(self._middles.items()):
            # one of three scenes may look like a mix of the others; one that fades is a mix of itself and a colour
            if ((sudden > at - span) & (sudden <= at + span)).any() or plain[max(0, at - reach) : at + reach].any():
                continue
            if not runs or at - runs[-1][-1] > self._moment:
                runs.append([])
            runs[-1].append(at)
        return runs


def _apart(first: np.ndarray, second: np.ndarray) -> float:
    """Mean difference, grey levels."""
    return float(np.abs(first - second).mean())


def _alike(whole: np.ndarray, part: np.ndarray) -> float:
    """Correlation, at the best of all places."""
    return float(cv2.matchTemplate(whole, part, cv2.TM_CCOEFF_NORMED).max())


def _mix_missed(first: np.ndarray, middle: np.ndarray, last: np.ndarray) -> float:
    """How far the middle is from a mix of the ends, as a part of their difference; infinite if it is mostly one."""
    change, way = last - first, middle - first
    size = float((change**2).mean())
    share = float((way * change).mean()) / max(size, 1e-6)
    if size < JUMP**2 or not 0.3 < share < 0.7 or min(_alike(first, middle), _alike(middle, last)) < PARTLY:
        return np.inf
    return float(((way - share * change) ** 2).mean() / size) ** 0.5


def _goes_on(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether a frame is the next one of a scene, be it moved by an eighth."""
    height, width = first.shape
    inner = np.s_[height // 8 : height - height // 8, width // 8 : width - width // 8]
    return max(_alike(first, second), _alike(first, second[inner]), _alike(second, first[inner])) > GOES_ON


def _is_one_scene(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two pictures show the same, be it moved: a scene that pans is for a moment about a mix of its frames."""
    if _alike(first, second) > ALIKE:
        return True
    height, width = first.shape
    inner = np.s_[height // 4 : height - height // 4, width // 4 : width - width // 4]
    return max(_alike(first, second[inner]), _alike(second, first[inner])) > SEEN_AGAIN
