"""What is added to an inflated network: patches, input channels, a path at full resolution, strength of motion."""

import copy

import pytest
import torch
from diffusers import UNet2DModel
from torch.nn import functional as F

from diffusers_unets import (
    BATCH,
    CHANNELS,
    FRAMES,
    SIZE,
    clip,
    kandinsky,
    randomise_temporal,
)
from makeavideo import UserError
from makeavideo.inflation import (
    VideoUNet,
    add_motion,
    add_pixel_path,
    inflate,
    remove_pixel_path,
    widen_input,
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_space_to_depth():
    unet = UNet2DModel(
        **CHANNELS | {"sample_size": 8},
        in_channels=12,
        out_channels=12,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    video = inflate(unet, space_to_depth=2)
    sample = torch.randn(BATCH, FRAMES, 3, SIZE, SIZE)
    with torch.no_grad():
        expected = F.pixel_shuffle(unet(F.pixel_unshuffle(sample.flatten(0, 1), 2), 3).sample, 2)
        result = video(sample, 3).sample
    assert result.shape == sample.shape
    torch.testing.assert_close(result.flatten(0, 1), expected, atol=1e-5, rtol=0)
    with pytest.raises(UserError, match="multiples of 2"):
        video(sample[..., :-1], 3)
    # an image stage becomes a video stage
    image = inflate(unet, "none", space_to_depth=2)
    again = inflate(image)
    assert (again.config.space_to_depth, again.config.temporal) == (2, "pseudo3d")
    with torch.no_grad():
        torch.testing.assert_close(again(sample, 3).sample, result)
    with pytest.raises(UserError, match="space_to_depth"):
        inflate(image, space_to_depth=4)
    with pytest.raises(UserError, match="already"):
        inflate(again)


@pytest.mark.parametrize("space_to_depth", [1, 2])
@pytest.mark.parametrize("temporal", ["pseudo3d", "none"])
def test_widen_input(tmp_path, space_to_depth, temporal):
    channels = 3 * space_to_depth**2
    unet = UNet2DModel(
        **CHANNELS,
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    video = randomise_temporal(inflate(unet, temporal, space_to_depth))
    sample, extra = torch.randn(BATCH, FRAMES, 3, SIZE, SIZE), torch.randn(BATCH, FRAMES, 4, SIZE, SIZE)
    with torch.no_grad():
        before = video(sample, 3).sample
        wide = widen_input(video, 4)
        after = wide(torch.cat([sample, extra], dim=2), 3).sample
        torch.testing.assert_close(after, before, atol=1e-6, rtol=0)
        wide.conv_in.weight.normal_()
        expected = wide(torch.cat([sample, extra], dim=2), 3).sample
        assert (expected - after).abs().max() > 1e-3
        wide.save_pretrained(tmp_path)
        loaded = VideoUNet.from_pretrained(tmp_path)
        assert loaded.config.extra_channels == 4
        torch.testing.assert_close(loaded(torch.cat([sample, extra], dim=2), 3).sample, expected)
        assert widen_input(loaded, 1).conv_in.weight.shape[1] == 8 * space_to_depth**2


def test_a_path_at_full_resolution_changes_nothing_at_first(tmp_path):
    unet = UNet2DModel(
        **CHANNELS,
        in_channels=48,
        out_channels=48,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    video = widen_input(inflate(unet, space_to_depth=4), 4)
    sample = torch.randn(BATCH, FRAMES, 7, SIZE, SIZE)
    with torch.no_grad():
        before = video(sample, 3).sample
        video = add_pixel_path(video, 8)
        torch.testing.assert_close(video(sample, 3).sample, before)
        video.pixel_path[-1].weight.normal_()
        expected = video(sample, 3).sample
        # unlike the UNet's patches it acts on single pixels, and frame by frame
        changed = sample.clone()
        changed[:, 1, 3, 5, 5] += 1
        made = video.pixel_path(torch.zeros(FRAMES, 3, SIZE, SIZE), changed[0, :, 3:])
        was = video.pixel_path(torch.zeros(FRAMES, 3, SIZE, SIZE), sample[0, :, 3:])
        assert (made - was)[1].abs().max() > 0 and torch.equal(made[2:], was[2:])
        video.save_pretrained(tmp_path)
        torch.testing.assert_close(VideoUNet.from_pretrained(tmp_path)(sample, 3).sample, expected)
    # its channels are counted: wider, the network is without it
    assert widen_input(video, 1).config.pixel_channels == 0


def test_a_modulated_path_sees_the_input_and_the_features(tmp_path):
    unet, conditions = kandinsky()
    video = randomise_temporal(inflate(unet))
    sample = clip(unet)
    with torch.no_grad():
        before = video(sample, 3, **conditions).sample
        video = add_pixel_path(video, 8, modulated=True)
        torch.testing.assert_close(video(sample, 3, **conditions).sample, before)
        video.pixel_path[-1].weight.normal_()
        unmodulated = video(sample, 3, **conditions).sample
        assert (unmodulated - before).abs().max() > 1e-3
        video.pixel_modulation.weight.normal_()
        expected = video(sample, 3, **conditions).sample
        assert (expected - unmodulated).abs().max() > 1e-3
        video.save_pretrained(tmp_path)
        torch.testing.assert_close(VideoUNet.from_pretrained(tmp_path)(sample, 3, **conditions).sample, expected)
        again = copy.deepcopy(video)
        torch.testing.assert_close(again(sample, 3, **conditions).sample, expected)
        plain = remove_pixel_path(video)
        torch.testing.assert_close(plain(sample, 3, **conditions).sample, before)


def test_motion_strength(tmp_path):
    unet, conditions = kandinsky()
    video = randomise_temporal(inflate(unet))
    sample = clip(unet)
    with torch.no_grad():
        before = video(sample, 3, **conditions).sample
        video = add_motion(video, (0.05, 0.5))
        strong = torch.tensor([0.0, 1.5])
        torch.testing.assert_close(video(sample, 3, motion=strong, **conditions).sample, before)
        video.time_embedding.motion["temporal"].linear_2.weight.normal_()
        moved = video(sample, 3, motion=strong, **conditions).sample
        assert ((moved - before).abs().flatten(1).amax(1) > 1e-3).all()
        torch.testing.assert_close(video(sample, 3, motion=torch.tensor([-1.0, -1.0]), **conditions).sample, before)
        assert "time_embedding.motion.temporal.linear_1.weight" in dict(video.named_parameters())
        video.save_pretrained(tmp_path)
        loaded = VideoUNet.from_pretrained(tmp_path)
        assert tuple(loaded.config.motion) == (0.05, 0.5)
        torch.testing.assert_close(loaded(sample, 3, motion=strong, **conditions).sample, moved)
