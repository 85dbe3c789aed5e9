"""Inflated networks as they are run: saved and loaded, copied, in bfloat16, with checkpoints, compiled."""

import copy
import json

import pytest
import torch
from diffusers import UNet2DModel

from diffusers_unets import (
    BATCH,
    NETWORKS,
    clip,
    ddpm,
    kandinsky,
    randomise_temporal,
    stable_diffusion,
    unclip,
)
from makeavideo.inflation import (
    VideoUNet,
    inflate,
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


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


@pytest.mark.slow
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


@pytest.mark.slow
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
