"""Which frames of a clip are given while D_t and F-up learn (section 3.3 of the paper)."""

import torch
from torch import Tensor

from ..figures import FRAME_SKIP


def draw_masks(batch: int, num_frames: int, generator: torch.Generator, every_fifth: float = 0.0) -> Tensor:
    """(batch, num_frames), 1 where a frame is given.

    `every_fifth`: share of the clips of which every fifth one is (interpolation). Of the others the first one is (a
    clip that grows from a picture, image animation), or several first ones (extrapolation), or some at both ends
    (joining, closing a loop), or any.
    """
    masks = torch.zeros(batch, num_frames)
    draws = torch.rand(batch, 5, generator=generator, device=generator.device).cpu()
    for row, (interpolate, kind, start, end, place) in zip(masks, draws.tolist(), strict=True):
        first, last = (1 + int(x**2 * num_frames / 2) for x in (start, end))
        if interpolate < every_fifth:
            row[::FRAME_SKIP] = 1
        elif kind < 0.5:
            row[0] = 1
        elif kind < 0.75:
            row[:first] = 1
        elif kind < 0.9:
            row[:first] = row[-last:] = 1
        else:
            row[torch.randperm(num_frames, generator=torch.Generator().manual_seed(int(place * 2**31)))[:first]] = 1
        if num_frames > 1 and row.all():  # something is left to make
            row[num_frames // 2] = 0
    return masks
