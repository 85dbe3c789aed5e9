"""Space-time layers (section 3.2 of the paper, arXiv 2209.14792): one pretrained spatial layer, one new temporal layer.

    PseudoConv3d            Conv2d over the picture, then Conv1d over frames, which starts as the identity (eq. 1)
    PseudoAttention3d       attention over the picture, then over frames, residual, which starts as zero (eq. 2)
    ClipTimeEmbedding       time embedding plus embeddings of frames per second and motion, which start as zero

Axes have one letter each, here and in all docstrings: b clips of a batch, f frames of a clip, c channels (3: colours),
h and w rows and columns of a frame, d numbers of an embedding. Shapes are written in the order of the axes.

A clip travels through the network as its frames, folded into the batch: (b * f, c, h, w), channels-last. Each class
extends a spatial layer, whose weights keep their names, by one child named ``temporal``; `Clip` tells the children how
many frames to unfold.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor, nn
from torch.nn import functional as F


def set_to_zero(*parameters: Any) -> None:
    """What starts as zero adds nothing at first: the network around it computes what it did before."""
    for parameter in parameters:
        nn.init.zeros_(parameter)


class Clip:
    """What all temporal layers of one network need to know about the clip that is passing through it."""

    num_frames: int = 1
    fps: Tensor  # (b,), 0 = not given
    motion: Tensor  # (b,), below 0 = not given
    features: Tensor  # what the last layer of the 2-D network sees

    def keep_features(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
        """A forward hook, put before the last layer: its input is kept for the path at full resolution."""
        self.features = inputs[0]


class TemporalConv(nn.Conv2d):
    """Convolution over three frames at each position: (b * f, c, h, w) -> the same shape. Starts as identity.

    In channels-last memory a clip is already laid out as (b, f, h * w, c), so that the 1-D convolution is a Conv2d
    with kernel (3, 1) on a view: no transpose, no copy.
    """

    def __init__(self, channels: int, clip: Clip, **factory):
        super().__init__(channels, channels, kernel_size=(3, 1), padding=(1, 0), **factory)
        self.clip = clip
        nn.init.dirac_(self.weight)
        set_to_zero(self.bias)

    def forward(self, frames: Tensor) -> Tensor:
        if self.clip.num_frames == 1:  # a picture has no neighbours: a third of the work
            return F.conv2d(frames, self.weight[:, :, 1:2], self.bias)
        size = frames.shape[2:]
        frames = frames.contiguous(memory_format=torch.channels_last)  # nothing to do, unless the weights are not
        clips = frames.permute(0, 2, 3, 1).flatten(1, 2).unflatten(0, (-1, self.clip.num_frames)).permute(0, 3, 1, 2)
        clips = super().forward(clips)  # (b, c, f, h * w), channels-last
        return clips.permute(0, 2, 3, 1).flatten(0, 1).unflatten(1, size).permute(0, 3, 1, 2)


class PseudoConv3d(nn.Conv2d):
    """A Conv2d followed by a `TemporalConv`."""

    def extend(self, clip: Clip) -> None:
        self.temporal = TemporalConv(self.out_channels, clip, device=self.weight.device, dtype=self.weight.dtype)

    def forward(self, frames: Tensor) -> Tensor:
        return self.temporal(super().forward(frames))


class TemporalAttention(nn.Module):
    """Self-attention over the frames at each position: (b * f, h * w, c) -> what to add. Starts as zero.

    Frames know their order by rotary position embedding, with periods from 6 to about 1,600 frames: no parameters, and
    only distances in time count, so that a clip may be longer than those of the training.
    """

    def __init__(self, channels: int, heads: int, clip: Clip, **factory):
        super().__init__()
        self.clip = clip
        self.heads = heads
        self.norm = nn.LayerNorm(channels, **factory)
        self.to_qkv = nn.Linear(channels, 3 * channels, bias=False, **factory)
        self.to_out = nn.Linear(channels, channels, **factory)
        set_to_zero(self.to_out.weight, self.to_out.bias)

    def forward(self, x: Tensor) -> Tensor:
        frames, positions, channels = self.clip.num_frames, *x.shape[1:]
        # One half of the channels of all queries and keys, the other half, the values: (b, f, h * w, c).
        # Rotating halves before they are split into heads keeps the arithmetic on long contiguous rows.
        first, second, values = self.to_qkv(self.norm(x)).unflatten(0, (-1, frames)).chunk(3, dim=-1)
        cos, sin = (y.to(x.dtype) for y in self.rotation(frames, channels, x.device))
        halves = [first * cos - second * sin, first * sin + second * cos]
        # To (b * h * w, heads, f, channels of a head).
        halves = [y.unflatten(-1, (2, self.heads, 1, -1)).permute(3, 0, 2, 4, 1, 5, 6) for y in halves]
        queries, keys = torch.cat(halves, dim=-2).flatten(-2).flatten(1, 2)
        values = values.unflatten(-1, (self.heads, -1)).permute(0, 2, 3, 1, 4).flatten(0, 1)
        y = F.scaled_dot_product_attention(queries, keys, values)
        return self.to_out(y.unflatten(0, (-1, positions)).permute(0, 3, 1, 2, 4).flatten(0, 1).flatten(2))

    def rotation(self, frames: int, channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosine and sine for one half of the channels of queries and keys: each (f, 1, c)."""
        pairs = channels // self.heads // 2
        frequency = 256 ** (-torch.arange(pairs, device=device, dtype=torch.float32) / pairs)
        phase = torch.arange(frames, device=device, dtype=torch.float32)[:, None] * frequency
        phase = phase.repeat(1, 2 * self.heads).unsqueeze(1)
        return phase.cos(), phase.sin()


def num_heads(channels: int) -> int:
    """Heads of about 64 channels (an even number): short sequences are slow in small heads."""
    return next((n for n in range(max(1, channels // 64), 0, -1) if channels % (2 * n) == 0), 1)


class PseudoAttention3d(Attention):
    """A spatial self-attention of diffusers followed by a `TemporalAttention`."""

    def extend(self, clip: Clip) -> None:
        factory = {"device": self.to_q.weight.device, "dtype": self.to_q.weight.dtype}
        self.temporal = TemporalAttention(self.out_dim, num_heads(self.out_dim), clip, **factory)

    def forward(self, hidden_states: Tensor, *args, **kwargs) -> Tensor:
        """(b * f, h * w, c) or (b * f, c, h, w) -> the same shape."""
        result = super().forward(hidden_states, *args, **kwargs)
        # Where the residual is added later, by the transformer block, the temporal layer still has to see it.
        adds_residual = self.residual_connection or self.added_kv_proj_dim is not None
        seen = result if adds_residual else hidden_states + result
        if seen.ndim == 3:
            return result + self.temporal(seen)
        added = self.temporal(seen.flatten(2).transpose(1, 2))
        return result + added.transpose(1, 2).unflatten(2, result.shape[2:])


MOTION_UNIT = 100.0
"""Motion strengths lie between 0 and about 4, and `Timesteps` tells numbers apart that are ones or more."""


class ClipTimeEmbedding(TimestepEmbedding):
    """Adds embeddings of the clip's frames per second and of its strength of motion to the time embedding.

    A frame rate of 0 and a motion below 0 mean unknown and add nothing.
    """

    def extend(self, clip: Clip) -> None:
        self.clip = clip
        self.frequencies = Timesteps(128, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.temporal = self.embedding()

    def add_motion(self) -> None:
        """Makes the embedding of motion; the network's output does not change."""
        self.motion = nn.ModuleDict({"temporal": self.embedding()})

    def embedding(self) -> TimestepEmbedding:
        embedding = TimestepEmbedding(128, self.linear_2.out_features).to(self.linear_1.weight)
        set_to_zero(embedding.linear_2.weight, embedding.linear_2.bias)
        return embedding

    def forward(self, sample: Tensor, condition: Tensor | None = None) -> Tensor:
        time = super().forward(sample, condition)
        fps, motion = self.clip.fps, self.clip.motion
        added = self.temporal(self.frequencies(fps).to(time.dtype)) * (fps > 0).to(time.dtype)[:, None]
        if "motion" in self._modules:
            strength = self.motion["temporal"](self.frequencies(motion * MOTION_UNIT).to(time.dtype))
            added = added + strength * (motion >= 0).to(time.dtype)[:, None]
        return time + added.repeat_interleave(self.clip.num_frames, dim=0)


def extend(layer: Any, kind: type[nn.Module], clip: Clip) -> None:
    """Makes a spatial layer one of these by changing its class, so that diffusers' module tree stays."""
    layer.__class__ = kind
    layer.extend(clip)
