"""2-D UNets of diffusers that this repository did not write, small, and what tests do with them inflated."""

import torch
from diffusers import UNet2DConditionModel, UNet2DModel

from makeavideo.inflation import (
    inflate,
    is_temporal,
)

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
