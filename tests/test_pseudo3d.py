"""The space-time layers, each by itself, against their definitions."""

import pytest
import torch
from torch.nn import functional as F

from diffusers_unets import (
    clip,
    ddpm,
)
from makeavideo.inflation import (
    inflate,
)
from makeavideo.pseudo3d import Clip, TemporalAttention, TemporalConv, num_heads


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_temporal_convolution_is_conv3d():
    layer = TemporalConv(6, Clip())
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    layer.clip.num_frames = 4
    x = torch.randn(2, 4, 6, 3, 5)
    expected = F.conv3d(x.transpose(1, 2), layer.weight.unsqueeze(-1), layer.bias, padding=(1, 0, 0)).transpose(1, 2)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        result = layer(x.flatten(0, 1).contiguous(memory_format=memory_format)).unflatten(0, (2, 4))
        torch.testing.assert_close(result, expected)


def test_temporal_convolution_copies_nothing():
    layer = TemporalConv(6, Clip()).to(memory_format=torch.channels_last)
    layer.clip.num_frames = 4
    x = torch.randn(8, 6, 3, 5).contiguous(memory_format=torch.channels_last)
    with torch.profiler.profile() as profile:
        result = layer(x)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert not {e.key for e in profile.key_averages()} & {"aten::copy_", "aten::clone", "aten::contiguous"}


def test_temporal_attention_follows_the_definition():
    layer = TemporalAttention(12, 2, Clip())
    torch.nn.init.normal_(layer.to_out.weight)
    layer.clip.num_frames = 3
    x = torch.randn(2, 3, 5, 12)  # batch, frames, positions, channels
    result = layer(x.flatten(0, 1)).unflatten(0, (2, 3))
    one = x[1, :, 4]  # the frames at one position
    real, imaginary, v = layer.to_qkv(layer.norm(one)).chunk(3, dim=-1)
    frequency = 256 ** (-torch.arange(3) / 3)
    turn = torch.polar(torch.ones(3, 3), torch.arange(3.0)[:, None] * frequency)
    q, k = torch.complex(real, imaginary).unflatten(-1, (2, 2, 3)).permute(1, 2, 0, 3) * turn  # (heads, frames, 3)
    v = v.unflatten(-1, (2, 6)).transpose(0, 1)
    weights = ((q @ k.mH).real / 6**0.5).softmax(-1)
    expected = layer.to_out((weights @ v).transpose(0, 1).flatten(1))
    torch.testing.assert_close(result[1, :, 4], expected)


@pytest.mark.parametrize("channels, heads", [(64, 1), (192, 3), (320, 5), (32, 1), (200, 2), (130, 1)])
def test_heads(channels, heads):
    assert num_heads(channels) == heads


def test_frame_rate():
    unet, _ = ddpm()
    video = inflate(unet)
    video.time_embedding.temporal.linear_2.weight.data.normal_()
    sample = clip(unet)
    with torch.no_grad():
        a, b, zero, none = (
            video(sample, 3, fps=fps).sample
            for fps in (torch.tensor([4.0, 8.0]), torch.tensor([4, 30]), torch.zeros(2), None)
        )
    torch.testing.assert_close(a[0], b[0])
    assert (a[1] - b[1]).abs().max() > 1e-3
    assert (a[0] - zero[0]).abs().max() > 1e-3
    assert torch.equal(zero, none)


def test_one_frame_costs_a_third_of_the_temporal_convolution():
    conv = TemporalConv(8, Clip())
    conv.weight.data.normal_()
    frames = torch.randn(4, 8, 3, 3)
    conv.clip.num_frames = 1
    alone = conv(frames)
    conv.clip.num_frames = 4
    among_zeros = torch.cat([torch.zeros_like(frames[:1]), frames[:1], torch.zeros_like(frames[:2])])
    torch.testing.assert_close(conv(among_zeros)[1], alone[0], atol=1e-5, rtol=0)
