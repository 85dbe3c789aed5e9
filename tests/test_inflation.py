"""The inflated network against 2-D networks that this repository did not write."""

import copy

import pytest
import torch
from torch.nn import functional as F

from diffusers_unets import (
    BATCH,
    FRAMES,
    NETWORKS,
    WITH_ATTENTION,
    clip,
    ddpm,
    frame_by_frame,
    kandinsky,
    plain,
    randomise_temporal,
    reset_temporal,
    unclip,
)
from makeavideo import UserError
from makeavideo.inflation import (
    inflate,
    is_temporal,
    per_frame,
)
from makeavideo.pseudo3d import PseudoAttention3d, PseudoConv3d, TemporalAttention, TemporalConv


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("temporal", ["pseudo3d", "attention", "none"])
def test_a_clip_gives_what_its_frames_give(network, temporal):
    unet, conditions = network()
    video = inflate(unet, temporal)
    sample, timestep = clip(unet), torch.tensor([3, 700])
    with torch.no_grad():
        expected = frame_by_frame(unet, sample, timestep, conditions)
        result = video(sample, timestep, fps=torch.tensor([0.0, 12.0]), **conditions).sample
    assert result.shape == expected.shape
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("network", NETWORKS)
def test_names_of_weights_are_kept(network):
    unet, _ = network()
    video = inflate(unet)
    with torch.no_grad():
        for p in video.parameters():
            p.fill_(1.0)
    missing, unexpected = video.load_state_dict(unet.state_dict(), strict=False)
    assert not unexpected
    assert missing and all(map(is_temporal, missing))
    assert all(torch.equal(v, video.state_dict()[k]) for k, v in unet.state_dict().items())
    sizes = [sum(p.numel() for p in ps) for ps in (video.spatial_parameters(), video.temporal_parameters())]
    assert sizes[0] == sum(p.numel() for p in unet.parameters())
    assert sum(sizes) == sum(p.numel() for p in video.parameters())


def test_the_2d_network_is_left_alone():
    unet, _ = ddpm()
    before = copy.deepcopy(unet.state_dict())
    video = randomise_temporal(inflate(unet))
    with torch.no_grad():
        for p in video.parameters():
            p.zero_()
    assert all(torch.equal(v, before[k]) for k, v in unet.state_dict().items())
    assert not any(isinstance(m, (PseudoConv3d, PseudoAttention3d)) for m in unet.modules())


@pytest.mark.parametrize("network", WITH_ATTENTION)
def test_every_spatial_layer_has_its_temporal_layer(network):
    unet, _ = network()
    video = inflate(unet)
    convs = [m for m in unet.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)]
    assert sum(isinstance(m, TemporalConv) for m in video.modules()) == len(convs)
    names = [n for n, m in video.named_modules() if isinstance(m, TemporalAttention)]
    assert len(names) == 1 + 1 + 2  # down, middle, up
    assert not any("attn2" in n for n in names)
    assert not any(isinstance(m, TemporalConv) for m in inflate(unet, "attention").modules())
    assert not list(inflate(unet, "none").temporal_parameters())


@pytest.mark.parametrize("network", NETWORKS)
def test_frames_depend_on_each_other_only_after_training_and_only_through_temporal_layers(network):
    unet, conditions = network()
    video = inflate(unet)
    sample, fps, timestep = clip(unet), torch.tensor([5.0, 20.0]), torch.tensor([10, 500])
    order = torch.tensor([3, 1, 4, 0, 2])

    def difference():
        with torch.no_grad():
            straight = video(sample, timestep, fps=fps, **conditions).sample[:, order]
            return (video(sample[:, order], timestep, fps=fps, **conditions).sample - straight).abs().max().item()

    assert difference() < 1e-5
    optimiser = torch.optim.Adam(video.parameters(), lr=3e-3)
    for _ in range(3):  # to predict the next frame, which takes looking at others
        result = video(sample, timestep, fps=fps, **conditions).sample
        loss = F.mse_loss(result[:, :, :3], sample[:, :, :3].roll(1, dims=1))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert all(p.grad is not None for p in video.parameters())
    assert difference() > 1e-3
    reset_temporal(video)
    assert difference() < 1e-5
    with torch.no_grad():
        expected = frame_by_frame(plain(video), sample, timestep, conditions)
        torch.testing.assert_close(video(sample, timestep, fps=fps, **conditions).sample, expected, atol=1e-5, rtol=0)


def test_clips_of_one_batch_do_not_mix():
    unet, conditions = unclip()
    video = randomise_temporal(inflate(unet))
    sample, fps = clip(unet), torch.tensor([5.0, 20.0])
    with torch.no_grad():
        both = video(sample, 7, fps=fps, **conditions).sample
        second = {k: v[1:] for k, v in conditions.items()}
        one = video(sample[1:], 7, fps=fps[1:], **second).sample
    torch.testing.assert_close(both[1:], one, atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [1, 2, 9])
def test_any_number_of_frames(frames):
    unet, conditions = unclip()
    video = randomise_temporal(inflate(unet), 0.0)
    sample = clip(unet, frames)
    with torch.no_grad():
        expected = frame_by_frame(unet, sample, 3, conditions)
        torch.testing.assert_close(video(sample, 3, **conditions).sample, expected, atol=1e-5, rtol=0)
        randomise_temporal(video)
        assert video(sample, 3, **conditions).sample.isfinite().all()


def test_every_frame_can_have_its_own_noise_level():
    unet, conditions = kandinsky()
    video = inflate(unet)
    sample = clip(unet)
    levels = torch.arange(BATCH * FRAMES).float().view(BATCH, FRAMES) * 10
    with torch.no_grad():
        made = video(sample, levels, **conditions).sample
        for place in range(FRAMES):
            expected = video(sample, levels[:, place], **conditions).sample
            torch.testing.assert_close(made[:, place], expected[:, place], atol=1e-5, rtol=0)


def test_conditions_are_repeated_for_every_frame():
    x = torch.arange(2.0)
    given = {"a": x, "b": [x, {"c": x}], "d": None, "e": 3, "f": torch.ones(3), "g": torch.tensor(1.0)}
    result = per_frame(given, 2, 2)
    twice = torch.tensor([0.0, 0, 1, 1])
    assert torch.equal(result["a"], twice) and torch.equal(result["b"][1]["c"], twice)
    assert result["d"] is None and result["e"] == 3 and result["f"].shape == (3,) and result["g"].ndim == 0


def test_mistakes_are_named():
    unet, _ = ddpm()
    with pytest.raises(UserError, match="temporal is 'conv'"):
        inflate(unet, "conv")
    with pytest.raises(UserError, match="Linear"):
        inflate(torch.nn.Linear(2, 2))
