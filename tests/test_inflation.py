"""The inflated network against 2-D networks that this repository did not write."""

import copy
import json

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from torch.nn import functional as F

from makeavideo import UserError
from makeavideo.inflation import (
    VideoUNet,
    add_motion,
    add_pixel_path,
    inflate,
    is_temporal,
    per_frame,
    remove_pixel_path,
    widen_input,
)
from makeavideo.pseudo3d import Clip, PseudoAttention3d, PseudoConv3d, TemporalAttention, TemporalConv, num_heads

BATCH, FRAMES, SIZE = 2, 5, 16
CHANNELS = {"block_out_channels": (16, 32), "norm_num_groups": 8, "layers_per_block": 1, "sample_size": SIZE}


def ddpm():
    return UNet2DModel(
        **CHANNELS,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    ), {}


def unclip():
    """As Karlo's decoder: added keys and values, scale-shift, ResNet down-sampling, image embedding as class."""
    return UNet2DConditionModel(
        **CHANNELS,
        out_channels=8,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        attention_head_dim=8,
        cross_attention_dim=24,
        resnet_time_scale_shift="scale_shift",
        class_embed_type="identity",
    ), {"encoder_hidden_states": torch.randn(BATCH, 7, 24), "class_labels": torch.randn(BATCH, 64)}


def kandinsky():
    """As Kandinsky 2.2's decoder: everything comes from one image embedding. The project's own decoder is like this."""
    return UNet2DConditionModel(
        **CHANNELS,
        down_block_types=("DownBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        cross_attention_dim=24,
        addition_embed_type="image",
        encoder_hid_dim_type="image_proj",
        encoder_hid_dim=12,
    ), {"encoder_hidden_states": None, "added_cond_kwargs": {"image_embeds": torch.randn(BATCH, 12)}}


def super_resolution():
    """Six input channels (noisy and low-resolution picture), noise-augmentation level as class, no attention."""
    return UNet2DModel(
        **CHANNELS,
        in_channels=6,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        class_embed_type="timestep",
        add_attention=False,
    ), {"class_labels": torch.tensor([3.0, 40.0])}


def stable_diffusion():
    return UNet2DConditionModel(
        **CHANNELS,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=4,
        cross_attention_dim=24,
    ), {"encoder_hidden_states": torch.randn(BATCH, 7, 24)}


NETWORKS = [ddpm, unclip, kandinsky, super_resolution, stable_diffusion]
WITH_ATTENTION = [ddpm, unclip, kandinsky, stable_diffusion]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def clip(unet, frames=FRAMES):
    return torch.randn(BATCH, frames, unet.config.in_channels, SIZE, SIZE)


def frame_by_frame(unet, sample, timestep, conditions):
    """The 2-D network's answer: (B, F, C, H, W) from one call a frame."""
    return torch.stack([unet(picture, timestep, **conditions).sample for picture in sample.unbind(1)], dim=1)


def randomise_temporal(video, scale=0.05):
    """Stands for a trained network."""
    with torch.no_grad():
        for p in video.temporal_parameters():
            p.add_(scale * torch.randn_like(p))
    return video


def reset_temporal(video):
    """The temporal layers as inflation makes them."""
    fresh = {k: v for k, v in inflate(plain(video)).state_dict().items() if is_temporal(k)}
    video.load_state_dict(fresh, strict=False)


def plain(video):
    """The 2-D network with the video network's spatial weights."""
    unet = type(video.unet).from_config(video.config.unet_config)
    unet.load_state_dict({k: v for k, v in video.state_dict().items() if not is_temporal(k)})
    return unet


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


def test_one_frame_costs_a_third_of_the_temporal_convolution():
    conv = TemporalConv(8, Clip())
    conv.weight.data.normal_()
    frames = torch.randn(4, 8, 3, 3)
    conv.clip.num_frames = 1
    alone = conv(frames)
    conv.clip.num_frames = 4
    among_zeros = torch.cat([torch.zeros_like(frames[:1]), frames[:1], torch.zeros_like(frames[:2])])
    torch.testing.assert_close(conv(among_zeros)[1], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("low_cpu_mem_usage", [True, False])
@pytest.mark.parametrize("network", NETWORKS)
def test_save_and_load(network, low_cpu_mem_usage, tmp_path):
    unet, conditions = network()
    unet.register_to_config(_name_or_path="somebody/their-unet")
    video = randomise_temporal(inflate(unet)).eval()
    video.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["unet_class"] == type(unet).__name__
    assert config["unet_config"]["_name_or_path"] == "somebody/their-unet"
    assert [p.name for p in tmp_path.glob("*.safetensors")] == ["diffusion_pytorch_model.safetensors"]
    sample = clip(unet)
    loaded, info = VideoUNet.from_pretrained(tmp_path, low_cpu_mem_usage=low_cpu_mem_usage, output_loading_info=True)
    assert not any(info.values())
    half = VideoUNet.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        expected = video(sample, 3, fps=torch.ones(BATCH), **conditions).sample
        assert torch.equal(loaded(sample, 3, fps=torch.ones(BATCH), **conditions).sample, expected)
        conditions = to(conditions, torch.bfloat16)
        result = half(sample.bfloat16(), 3, fps=torch.ones(BATCH), **conditions).sample
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), expected, atol=0.1, rtol=0.1)


def to(conditions, dtype):
    if isinstance(conditions, dict):
        return {k: to(v, dtype) for k, v in conditions.items()}
    return conditions.to(dtype) if isinstance(conditions, torch.Tensor) else conditions


@pytest.mark.parametrize("network", NETWORKS)
def test_autocast_to_bfloat16(network):
    unet, conditions = network()
    video = randomise_temporal(inflate(unet)).to(memory_format=torch.channels_last)
    sample = clip(unet)
    expected = video(sample, 3, fps=torch.ones(BATCH), **conditions).sample
    with torch.autocast("cpu", torch.bfloat16):
        result = video(sample, 3, fps=torch.ones(BATCH), **conditions).sample
    torch.testing.assert_close(result.float(), expected, atol=0.1, rtol=0.1)
    result.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in video.parameters())


@pytest.mark.parametrize("network", [ddpm, unclip, stable_diffusion])
def test_gradient_checkpointing(network):
    unet, conditions = network()
    video = randomise_temporal(inflate(unet)).train()
    long, short = clip(unet), clip(unet, 1)

    def gradients():
        video.zero_grad()
        # Two clips of different lengths before one backward pass, as in training on clips and pictures together.
        loss = sum(video(sample, 3, **conditions).sample.square().mean() for sample in (long, short))
        loss.backward()
        return {name: p.grad.clone() for name, p in video.named_parameters()}

    expected = gradients()
    video.enable_gradient_checkpointing()
    assert video.is_gradient_checkpointing
    result = gradients()
    for name in expected:
        torch.testing.assert_close(result[name], expected[name], atol=1e-6, rtol=1e-4)
    video.disable_gradient_checkpointing()
    assert not video.is_gradient_checkpointing


@torch.no_grad()
def test_compile_looks_at_the_number_of_frames():
    unet, conditions = stable_diffusion()
    video = randomise_temporal(inflate(unet))
    torch._dynamo.reset()
    compiled = torch.compile(video, backend="aot_eager", fullgraph=True)

    def compare(sample, timestep, **conditions):
        expected, result = (f(sample, timestep, **conditions).sample for f in (video, compiled))
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)

    for frames in (4, 2):
        compare(clip(unet, frames), torch.tensor([3, 4]), fps=torch.tensor([4.0, 0.0]), **conditions)
    # as many pictures as before, but another number of clips
    compare(clip(unet, 4)[:1], torch.tensor([3]), fps=torch.tensor([4.0]), **per_first(conditions))


def per_first(conditions):
    if isinstance(conditions, dict):
        return {k: per_first(v) for k, v in conditions.items()}
    return conditions[:1] if isinstance(conditions, torch.Tensor) else conditions


def test_compile_forward_and_backward():
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(8,),
        norm_num_groups=4,
        layers_per_block=1,
        attention_head_dim=4,
        down_block_types=("AttnDownBlock2D",),
        up_block_types=("UpBlock2D",),
    )
    video = randomise_temporal(inflate(unet)).to(memory_format=torch.channels_last)
    sample = torch.randn(2, 3, 3, 8, 8)
    torch._dynamo.reset()
    gradients = []
    for f in (video, torch.compile(video)):
        video.zero_grad()
        f(sample, torch.tensor([3, 4]), fps=torch.tensor([4.0, 0.0])).sample.square().mean().backward()
        gradients.append({name: p.grad.clone() for name, p in video.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-5, rtol=1e-3)


def test_copies_are_whole():
    unet, conditions = kandinsky()
    video = randomise_temporal(inflate(unet))
    twin = copy.deepcopy(video)
    sample = clip(unet)
    with torch.no_grad():
        expected = video(sample, 3, **conditions).sample
        for p in video.parameters():
            p.zero_()
        assert torch.equal(twin(sample, 3, **conditions).sample, expected)
    assert next(twin.to(torch.float64).unet.parameters()).dtype == torch.float64


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
