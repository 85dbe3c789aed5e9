"""Clips that look otherwise than they are, so that D_t goes on from the frame that it is shown and not from memory."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TURN, MOVE = 0.15, 0.15
"""Radians, and parts of half a side, to either side."""
SCALE = (0.9, 1.25)
SATURATION, GAMMA = (0.4, 1.2), (0.7, 1.4)
TURNED_HUES = 0.7
"""Share of the clips whose hues are turned."""


def other_looks(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Clips (b, f, 3, h, w) in [-1, 1], each mirrored, moved and coloured at random, all its frames in the same way.

    White stays white, and is what comes in from outside.
    """
    draws = torch.rand(9, len(clips), generator=generator, device=generator.device).to(clips.device)
    placed = place(clips, draws[:5])
    return recolour((placed + 1) / 2, draws[5:]) * 2 - 1


def between(draws: Tensor, low: float, high: float) -> Tensor:
    """Numbers in [0, 1) -> [low, high)."""
    return low + (high - low) * draws


def place(clips: Tensor, draws: Tensor) -> Tensor:
    """Mirrored or not, larger or smaller, turned and moved; draws (5, b)."""
    mirror = torch.where(draws[0] < 0.5, -1.0, 1.0)
    scale, angle = between(draws[1], *SCALE), between(draws[2], -TURN, TURN)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    across, down = (between(x, -MOVE, MOVE) for x in draws[3:])
    rows = torch.stack([mirror * cos, -sin, across]), torch.stack([mirror * sin, cos, down])
    theta = torch.stack(rows).permute(2, 0, 1)
    grid = F.affine_grid(theta, [len(clips), 1, *clips.shape[-2:]], align_corners=False)
    return warp(clips.flatten(1, 2), grid).unflatten(1, clips.shape[1:3])


def warp(pictures: Tensor, grid: Tensor) -> Tensor:
    """Pictures (n, c, h, w), white 1, seen through a grid as `F.grid_sample` takes it; white comes in from outside."""
    return 1 - F.grid_sample(1 - pictures, grid, align_corners=False)


def recolour(clips: Tensor, draws: Tensor) -> Tensor:
    """Hues turned about the grey axis, more or less saturated, darker or lighter; clips in [0, 1], draws (4, b)."""
    hue = torch.where(draws[0] < TURNED_HUES, between(draws[1], -math.pi, math.pi), 0.0)
    turn, third = hue.sin() / math.sqrt(3), (1 - hue.cos()) / 3
    same, before, after = hue.cos() + third, third - turn, third + turn
    rows = [[same, before, after], [after, same, before], [before, after, same]]
    matrix = torch.stack([torch.stack(row, -1) for row in rows], -2)
    grey = torch.full_like(matrix, 1 / 3)
    matrix = torch.lerp(grey, matrix, between(draws[2], *SATURATION)[:, None, None])
    colours = torch.einsum("bij,bfjhw->bfihw", matrix, clips).clamp(1e-4, 1)
    return colours ** between(draws[3], *GAMMA)[:, None, None, None, None]
