"""The frame-rate curriculum of the video stages (sections 3.4 and 4 of the paper)."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np

from ..errors import UserError


@dataclass(frozen=True)
class FrameRateCurriculum:
    """Draws frames per second from low + (high - low) * Beta(a, b); (a, b) move linearly with the progress.

    Training starts at high rates, where neighbouring frames are alike and there is little motion to learn, and moves
    to low rates, where 16 frames span much motion. start and end are the Beta's (a, b) at progress 0 and 1. low may
    equal high: then the rate is constant. UserError if a rate or a parameter is not a positive number.
    """

    low: float = 1.0
    high: float = 30.0
    start: tuple[float, float] = (5.0, 2.0)
    end: tuple[float, float] = (2.0, 5.0)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.high) and 0 < self.low <= self.high):
            raise UserError(f"The frame rates must be 0 < low <= high, not low={self.low} and high={self.high}.")
        for name, pair in (("start", self.start), ("end", self.end)):
            if len(pair) != 2 or not all(math.isfinite(x) and x > 0 for x in pair):
                raise UserError(f"The Beta parameters `{name}` must be two positive numbers, not {pair}.")

    @classmethod
    def constant(cls, fps: float) -> FrameRateCurriculum:
        return cls(low=float(fps), high=float(fps))

    def parameters(self, progress: float) -> tuple[float, float]:
        """(a, b) of the Beta distribution at progress (clamped to 0..1)."""
        p = min(max(float(progress), 0.0), 1.0)
        (a, b), (c, d) = self.start, self.end
        return a + p * (c - a), b + p * (d - b)

    def sample(self, rng: random.Random | np.random.Generator, progress: float = 0.0) -> float:
        """One rate in frames per second, low <= rate <= high."""
        a, b = self.parameters(progress)
        # The Beta is drawn for a constant rate too, so that what follows from the same rng does not depend on the kind.
        x = rng.betavariate(a, b) if isinstance(rng, random.Random) else float(rng.beta(a, b))
        return self.low + (self.high - self.low) * x
