"""The parts of a video between its cuts (`cuts.py`), and what they are worth for learning how things move.

What a part's figures are is said at `Scene`.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..errors import UserError
from ..opencv import cv2
from .cuts import Cuts

SMALL = 64
"""Pixels of the short side at which frames are compared: what a camera's noise changes is averaged away."""
BLACK = 16
"""Grey level (0..255) up to which a picture or a border counts as black."""
CHANGED = 12
"""Grey levels by which a pixel changes that shows something else than before."""
APART = (0.5, 0.25, 0.125, 0)
"""Seconds (a frame at least) between frames that are compared for motion: the first, and others in shorter scenes."""
STILL = 2.0
"""Seconds for which a part of a scene stands still that is left out."""
BORDER_EVERY = 0.25
"""Seconds between frames whose borders are looked at."""
SMALLEST_BORDER, LARGEST_BORDER = 0.02, 0.4
"""Parts of a side: less is left as it is, more is a dark picture."""


@dataclass(frozen=True)
class Limits:
    """What is dropped. seconds: a scene's shortest and longest; a longer one is parted.

    motion: `Scene.motion` below which a scene stands still; flicker: above which it flickers; side: its fewest pixels.
    """

    shortest: float = 1.0
    longest: float = 20.0
    motion: float = 0.002
    flicker: float = 6.0
    side: int = 64

    def __post_init__(self) -> None:
        if not 0 < self.shortest <= self.longest:
            raise UserError(
                f"The scenes must last 0 < shortest <= longest seconds, not {self.shortest:g} to {self.longest:g}."
            )
        for name in ("motion", "flicker"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} {getattr(self, name):g} is no limit: choose a number from 0 on.")


@dataclass
class Scene:
    """A part of a video without a cut.

    start, end: frames [start, end); begins, ends: seconds.
    motion: mean share of pixels that show something else half a second later, sooner in a scene that is shorter.
    flicker: mean jump of the brightness to and fro from frame to frame, grey levels.
    brightness: mean grey level.
    crop: (left, top, right, bottom) of what is no black border, pixels.
    dropped: why it is left out; "": it is kept.
    """

    start: int
    end: int
    begins: float
    ends: float
    motion: float
    flicker: float
    brightness: float
    crop: tuple[int, int, int, int]
    dropped: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of what is kept."""
        left, top, right, bottom = self.crop
        return right - left, bottom - top


class Watcher:
    """Looks at the frames of a video one after the other, and says what scenes it has; memory does not grow with them.

    But for a few numbers a frame, and the brightness of rows and columns four times a second.

    Args:
        rate: frames a second, about; frames may come at any times.
    """

    def __init__(self, rate: float) -> None:
        self._cuts = Cuts(rate)
        self._distances = [max(1, round(rate * apart)) for apart in APART]
        self._greys: deque[np.ndarray] = deque(maxlen=self._distances[0] + 1)
        self._times: list[float] = []
        self._brightness: list[float] = []
        self._changed: list[list[float]] = []
        self._borders: list[tuple[int, np.ndarray, np.ndarray]] = []
        self.shape = (0, 0)

    def look(self, frame: np.ndarray, time: float) -> None:
        """A frame, uint8 (height, width, 3), and when it is shown, seconds."""
        number, (height, width) = len(self._times), frame.shape[:2]
        self.shape = height, width
        scale = SMALL / min(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        self._cuts.look(small)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.int16)
        self._greys.append(grey)
        befores = [self._greys[max(-1 - distance, -len(self._greys))] for distance in self._distances]
        self._changed.append([float((np.abs(grey - before) > CHANGED).mean()) for before in befores])
        self._times.append(time)
        self._brightness.append(float(grey.mean()))
        if not self._borders or time - self._times[self._borders[-1][0]] >= BORDER_EVERY:
            full = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
            rows, columns = (full.mean(axis).round().astype(np.uint8) for axis in (1, 0))
            self._borders.append((number, rows, columns))

    def scenes(self, duration: float, limits: Limits) -> list[Scene]:
        """The scenes in order, those too that are dropped. duration: of the video, seconds."""
        if not self._times:
            return []
        cuts, nothing = self._cuts.all()
        starts = [0, *cuts, len(self._times)]
        ends = np.append(self._times, duration)
        found = []
        for first, last in pairwise(starts):
            shown = first + np.flatnonzero(~nothing[first:last])
            if len(shown):
                first, last = int(shown[0]), int(shown[-1]) + 1
            elif ends[last] - ends[first] < limits.shortest:
                continue  # the black, or the cross-fade, between two scenes
            for piece in self._moving_and_still(first, last, ends, limits.motion):
                for start, end in self._parts(*piece, ends, limits.longest):
                    found.append(self._scene(start, end, ends, limits))
        return found

    def _moving_and_still(self, start: int, end: int, times: np.ndarray, motion: float) -> Iterable[tuple[int, int]]:
        """A scene where it moves, and where it stands still for long, in order."""
        apart = self._distances[0]
        # of two frames and of what is between them: what moves to and fro may be back half a second later
        still = np.array(self._changed)[start + apart : end].max(1, initial=0) < motion
        turns = np.flatnonzero(np.diff(still, prepend=False, append=False)) + start
        stretches = [(first, last + apart) for first, last in turns.reshape(-1, 2).tolist()]
        stretches = [stretch for stretch in stretches if times[stretch[1]] - times[stretch[0]] > STILL]
        edges = sorted({start, end, *(edge for stretch in stretches for edge in stretch)})
        return pairwise(edges)

    def _parts(self, start: int, end: int, times: np.ndarray, longest: float) -> Iterable[tuple[int, int]]:
        """Equal parts of at most so many seconds."""
        count = max(1, int(np.ceil((times[end] - times[start]) / longest - 1e-6)))
        wanted = np.linspace(times[start], times[end], count + 1)
        edges = [start, *np.searchsorted(times, wanted[1:-1]).tolist(), end]
        return pairwise(edges)

    def _scene(self, start: int, end: int, times: np.ndarray, limits: Limits) -> Scene:
        bright = np.asarray(self._brightness[start:end])
        place, apart = next(((i, n) for i, n in enumerate(self._distances) if n < end - start), (0, self._distances[0]))
        changed = [of_frame[place] for of_frame in self._changed[start + apart : end]]
        jumps = np.abs(2 * bright[1:-1] - bright[:-2] - bright[2:]) / 2
        scene = Scene(
            start,
            end,
            float(times[start]),
            float(times[end]),
            float(np.mean(changed)) if len(changed) else 0.0,
            float(jumps.mean()) if len(jumps) else 0.0,
            float(bright.mean()),
            self._crop(start, end),
        )
        return dataclasses.replace(scene, dropped=why_dropped(scene, limits))

    def _crop(self, start: int, end: int) -> tuple[int, int, int, int]:
        """What is not black in any frame of a scene, of even width and height."""
        seen = [(rows, columns) for number, rows, columns in self._borders if start <= number < end]
        height, width = self.shape
        if not seen:
            return 0, 0, width, height
        left, right = _lit_span(np.max([columns for _, columns in seen], 0))
        top, bottom = _lit_span(np.max([rows for rows, _ in seen], 0))
        return left, top, right, bottom


def _lit_span(lines: np.ndarray) -> tuple[int, int]:
    """[first, last) of the rows or columns that are lit, an even number of them."""
    side, lit = len(lines), np.flatnonzero(lines > BLACK)
    low, high = (int(lit[0]), int(lit[-1]) + 1) if len(lit) else (0, side)
    if not SMALLEST_BORDER * side <= max(low, side - high) <= LARGEST_BORDER * side:
        low, high = 0, side
    low += low % 2
    return low, low + max(2, (high - low) // 2 * 2)


def why_dropped(scene: Scene, limits: Limits) -> str:
    """The first reason, or ""."""
    rules: list[tuple[str, Callable[[], bool]]] = [
        ("shorter than is asked for", lambda: scene.ends - scene.begins < limits.shortest - 1e-3),
        ("black", lambda: scene.brightness <= BLACK),
        ("too few pixels", lambda: min(scene.size) < limits.side),
        ("flickers", lambda: scene.flicker > limits.flicker),
        ("stands still", lambda: scene.motion < limits.motion),
    ]
    return next((reason for reason, broken in rules if broken()), "")
