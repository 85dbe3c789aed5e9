"""How much a clip moves: the strength that D_t is told beside the frame rate (as Stable Video Diffusion, 2311.15127).

The change from frame to frame depends on the rate, roughly as a power of it. So a strength is the change divided by the
usual one at that rate: 0 stands still, 1 is the mean of the data.
"""

import numpy as np
import torch
from torch import Tensor

from .figures import STRONGEST_MOTION


def change(clips: Tensor) -> Tensor:
    """Mean absolute change from frame to frame of clips (b, f, 3, h, w): (b,), in their own units."""
    if clips.shape[1] < 2:
        return clips.new_zeros(len(clips))
    return clips.diff(dim=1).abs().flatten(1).mean(1)


def usual_change(changes: list[float], rates: list[float]) -> tuple[float, float]:
    """(scale, exponent), so that clips at `rates` frames a second change by scale * rate**-exponent on average.

    Least squares of the logarithms give the exponent, between 0 and 1; the scale then makes the mean strength 1. What
    stands still has no part in it.
    """
    moving = [(c, r) for c, r in zip(changes, rates, strict=True) if c > 1e-4 and r > 0]
    if not moving:
        return 0.05, 0.5
    moved, rate = np.array(moving).T
    spread = np.log(rate) - np.log(rate).mean()
    exponent = -float((spread * np.log(moved)).sum() / max((spread**2).sum(), 1e-9))
    exponent = min(1.0, max(0.0, exponent))
    return float((moved * rate**exponent).mean()), exponent


def strength(changes: Tensor, rates: Tensor, usual: tuple[float, float]) -> Tensor:
    """Motion strength (b,) of clips with these mean changes (b,) at these rates (b,)."""
    scale, exponent = usual
    return (changes * rates.clamp(min=1e-3) ** exponent / scale).clamp(0, STRONGEST_MOTION)


def clip_strength(clips: Tensor, rates: Tensor, usual: tuple[float, float]) -> Tensor:
    """Motion strength (b,) of clips (b, f, 3, h, w) at these rates (b,); -1, unknown, of pictures."""
    if clips.shape[1] < 2:
        return torch.full((len(clips),), -1.0, device=clips.device)
    return strength(change(clips), rates.to(clips.device).float(), usual)
