"""A path at full resolution beside a network of patches: sharp edges for networks that see squares of pixels."""

import torch
from torch import Tensor, nn

from .pseudo3d import set_to_zero


class PixelPath(nn.Sequential):
    """A few convolutions at full resolution, frame by frame: what patches are too coarse for, sharp edges above all.

    They see the input (of F-up the extra channels alone) and what the UNet made, and change it; the last one starts as
    zero.
    """

    def __init__(self, seen_channels: int, out_channels: int, width: int):
        layers = []
        for dilation, channels in ((1, seen_channels + out_channels), (1, width), (2, width), (4, width)):
            layers += [nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation), nn.SiLU()]
        super().__init__(*layers, nn.Conv2d(width, out_channels, 3, padding=1))
        set_to_zero(self[-1].weight, self[-1].bias)

    def forward(  # type: ignore[override]
        self, made: Tensor, seen: Tensor, modulation: Tensor | None = None
    ) -> Tensor:
        """All (b * f, c, h, w); `modulation`: scale and shift of what the first layer gives."""
        first, *rest = self
        x = first(torch.cat([seen, made], 1).contiguous(memory_format=torch.channels_last))
        if modulation is not None:
            scale, shift = modulation.chunk(2, 1)
            x = x * (1 + scale) + shift
        for layer in rest:
            x = layer(x)
        return made + x
