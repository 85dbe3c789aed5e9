"""Pictures that move as no film shows them: clips in which D_t can go on only from the frame that it is shown.

A few hundred clips are soon known by heart, and what was never filmed then melts into what was. Of pictures there are
many more. Moved about and bent they teach nothing of how things move, but to keep every part of what is seen.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .looks import warp

FREQUENCY = (0.2, 1.5)
"""Swings a second."""
LARGEST = {"across": 0.15, "down": 0.15, "turn": 0.25, "wider": 0.15, "taller": 0.15, "shear": 0.15}
"""Of whole pictures, in parts of half a side and radians."""
BEND, BENDS, HANDLES = 0.1, 2, 4
"""Of parts: how far, how many at once, and handles along a side that are pulled at."""
MOVING = 0.5
"""Chance of each kind of motion."""


def moved(pictures: Tensor, rates: Tensor, num_frames: int, generator: torch.Generator) -> Tensor:
    """Clips (b, num_frames, 3, h, w) of pictures (b, 3, 2 h, 2 w), at these frame rates (b,).

    The pictures are twice as large as the frames, which so stay sharp. White stays white, and is what comes in from
    outside. All in [-1, 1].
    """
    batch, device = len(pictures), pictures.device
    kinds = len(LARGEST) + BENDS
    draws = torch.rand(4, batch, kinds, generator=generator, device=generator.device).to(device)
    handles = torch.randn(batch * BENDS, 2, HANDLES, HANDLES, generator=generator, device=generator.device).to(device)
    low, high = (math.log(limit) for limit in FREQUENCY)
    frequencies = (low + (high - low) * draws[0]).exp()
    seconds = torch.arange(num_frames, device=device) / rates.to(device).float()[:, None]
    phases = frequencies[:, None] * seconds[:, :, None] + draws[1][:, None]
    swings = (2 * math.pi * phases).sin() * (draws[2] * (draws[3] < MOVING))[:, None]  # (b, f, kinds)
    whole = swings[:, :, : len(LARGEST)] * torch.tensor(list(LARGEST.values()), device=device)
    side = pictures.shape[-2:]
    grid = F.affine_grid(affine(whole).flatten(0, 1), [batch * num_frames, 1, *side], align_corners=False)
    fields = F.interpolate(handles, side, mode="bicubic", align_corners=True).unflatten(0, (batch, BENDS))
    bent = BEND * torch.einsum("bfk,bkchw->bfhwc", swings[:, :, len(LARGEST) :], fields)
    copies = pictures[:, None].expand(-1, num_frames, -1, -1, -1).flatten(0, 1)
    return F.avg_pool2d(warp(copies, grid + bent.flatten(0, 1)), 2).unflatten(0, (batch, num_frames))


def affine(whole: Tensor) -> Tensor:
    """Matrices (b, f, 2, 3) of what `LARGEST` names, (b, f, 6)."""
    across, down, turn, wider, taller, shear = whole.unbind(-1)
    cos, sin = turn.cos(), turn.sin()
    rows = [(1 + wider) * cos, shear - sin, across], [sin, (1 + taller) * cos, down]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
