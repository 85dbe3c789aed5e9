"""Frames whose sides do not halve evenly, in every UNet2DConditionModel of diffusers.

Such a network says to each block that enlarges how large its result should be. Blocks of plain convolutions heed it;
those with residual up-sampling (Kandinsky's, Karlo's, ours) make exactly twice of what they got.
"""

from typing import Any

import torch.nn.functional as F
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn


def take_any_shape(unet: UNet2DConditionModel) -> None:
    """Lets all blocks that enlarge make the size that they are told, in place; what they make of others stays."""
    for block in unet.up_blocks:
        block.register_forward_hook(as_told, with_kwargs=True)


def as_told(block: nn.Module, inputs: tuple, told: dict[str, Any], made: Tensor) -> Tensor | None:
    """A forward hook: the last row and column are repeated, or left out."""
    size = told.get("upsample_size")
    if size is None or made.shape[-2:] == tuple(size):
        return None
    height, width = (int(side) for side in size)
    more = (max(0, width - made.shape[-1]), max(0, height - made.shape[-2]))
    return F.pad(made, (0, more[0], 0, more[1]), mode="replicate")[..., :height, :width]
