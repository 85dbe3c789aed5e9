"""Super-resolution in one step: a small convolutional network that works at the small size (SR_l_t and SR_h of 3.2).

The paper's networks draw large frames by diffusion (`inflate.VideoUNet` does so here). This one says at once what they
look like. No noise goes in, so the same frame gives the same pixels, and a still background stays still.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import UserError
from .inflation import is_temporal, public
from .pseudo3d import Clip, PseudoConv3d, extend, set_to_zero

SLOPE = 0.1
"""Of the leaky rectifiers, below zero."""


class Residual(nn.Module):
    """x + conv(rectify(conv(x))): (b * f, c, h, w) -> the same shape."""

    def __init__(self, width: int):
        super().__init__()
        self.conv_1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_2 = nn.Conv2d(width, width, 3, padding=1)
        with torch.no_grad():
            self.conv_2.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_2(F.leaky_relu(self.conv_1(x), SLOPE, inplace=True))


class SuperResolver(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Frames -> larger frames, in one step: SRVGG (Real-ESRGAN's small network), with residual blocks.

    All convolutions work at the small size, or at `patch` times less; one pixel shuffle makes the large frames. Beside
    them goes a linear up-sampling that starts as the bicubic one, so the network starts as that.

    Args:
        factor: large pixels a small one, along each side.
        width: channels of the hidden layers.
        depth: residual blocks, of two convolutions each.
        patch: side of the square of small pixels that becomes one position of the hidden layers.
        temporal: "pseudo3d", every hidden convolution is followed by one over three frames, which starts as the
            identity (section 3.2), or "none", every frame by itself.
    """

    config: Any  # a FrozenDict, whose entries are attributes too
    blocks: Any  # of Residual

    @register_to_config
    def __init__(
        self,
        factor: int = 4,
        width: int = 48,
        depth: int = 6,
        patch: int = 1,
        temporal: Literal["pseudo3d", "none"] = "none",
    ):
        super().__init__()
        if min(factor, width, depth, patch) < 1:
            raise UserError("factor, width, depth and patch of a SuperResolver are whole numbers from 1 up.")
        if temporal not in ("pseudo3d", "none"):
            raise UserError(f"temporal is {temporal!r}: a SuperResolver knows 'pseudo3d' and 'none'.")
        self.clip = Clip()
        self.conv_in = nn.Conv2d(3 * patch**2, width, 3, padding=1)
        self.blocks = nn.ModuleList(Residual(width) for _ in range(depth))
        self.conv_out = nn.Conv2d(width, 3 * (patch * factor) ** 2, 3, padding=1)
        self.linear = nn.Conv2d(3, 3 * factor**2, 5)
        set_to_zero(self.conv_out.weight, self.conv_out.bias, self.linear.bias)
        if not self.linear.weight.is_meta:  # where weights will be loaded, working the kernel out took 0.1 s a network
            with torch.no_grad():
                self.linear.weight.copy_(bicubic_kernel(factor))
        if temporal == "pseudo3d":
            for module in self.hidden():
                extend(module, PseudoConv3d, self.clip)

    def hidden(self) -> list[nn.Conv2d]:
        """The convolutions that get a temporal one."""
        return [self.conv_in] + [conv for block in self.blocks for conv in (block.conv_1, block.conv_2)]

    def forward(self, frames: Tensor) -> Tensor:
        """(b, f, 3, h, w) in [-1, 1] -> (b, f, 3, factor * h, factor * w), not clamped.

        UserError: h or w does not divide by `patch`.
        """
        config = self.config
        if frames.shape[-1] % config.patch or frames.shape[-2] % config.patch:
            size = f"{frames.shape[-1]}x{frames.shape[-2]}"
            raise UserError(f"a {size} picture does not divide into patches: use multiples of {config.patch}")
        self.clip.num_frames = frames.shape[1]
        pictures = frames.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        x = F.leaky_relu(self.conv_in(F.pixel_unshuffle(pictures, config.patch)), SLOPE)
        for block in self.blocks:
            x = block(x)
        made = F.pixel_shuffle(self.conv_out(x), config.patch * config.factor)
        base = F.pixel_shuffle(self.linear(F.pad(pictures, (2, 2, 2, 2), mode="replicate")), config.factor)
        return (base + made).unflatten(0, frames.shape[:2])

    def temporal_parameters(self) -> Iterator[nn.Parameter]:
        """The temporal convolutions' weights."""
        return (p for name, p in self.named_parameters() if is_temporal(name))

    def spatial_parameters(self) -> Iterator[nn.Parameter]:
        """All other weights."""
        return (p for name, p in self.named_parameters() if not is_temporal(name))


def bicubic_kernel(factor: int) -> Tensor:
    """Bicubic up-sampling as a convolution over 5 x 5 small pixels: (3 * factor^2, 3, 5, 5), before a pixel shuffle."""
    impulses = torch.eye(5)[:, None, None, :]  # one row of small pixels each
    rows = F.interpolate(impulses, (factor, 5 * factor), mode="bicubic", align_corners=False)
    taps = rows[:, 0, 0, 2 * factor : 3 * factor]  # (5, factor): what each small pixel gives the middle one's parts
    kernel = torch.einsum("yp,xq->pqyx", taps, taps).reshape(factor**2, 5, 5)
    weight = torch.zeros(3, factor**2, 3, 5, 5)
    for colour in range(3):
        weight[colour, :, colour] = kernel
    return weight.flatten(0, 1)


def inflate_resolver(network: SuperResolver) -> SuperResolver:
    """SR_l_t from SR_l (section 3.2): every frame of a clip comes out as before, and the weights are copied."""
    if network.config.temporal != "none":
        raise UserError("this network has temporal layers already: inflate one without")
    video = SuperResolver(**{**public(network.config), "temporal": "pseudo3d"})
    nn.Module.to(video, network.device, network.dtype)
    missing, unexpected = video.load_state_dict(network.state_dict(), strict=False)
    if unexpected or not all(map(is_temporal, missing)):
        raise UserError(f"the weights do not fit the configuration: {unexpected or missing}")
    return video.train(network.training)
