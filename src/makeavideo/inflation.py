"""Inflation (section 3.2 of the paper): any 2-D UNet of diffusers becomes a video UNet that computes the same function.

    video_unet = inflate(UNet2DConditionModel.from_pretrained(...))
    video_unet(clip, timestep, fps=fps, encoder_hidden_states=...).sample     # clip (b, f, c, h, w)

At initialisation a clip of k frames gives exactly the k pictures that the 2-D network gives. The 2-D weights keep their
names; the new ones are those that have ``temporal`` in their name.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, Literal

import diffusers
import torch
from annotated_types import Ge, Le
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders.peft import PeftAdapterMixin
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import TimestepEmbedding
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.utils.outputs import BaseOutput
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .any_shape import take_any_shape
from .conditioning import Conditioning, conditioning_of
from .errors import UserError
from .figures import TIMESTEPS
from .parametrization import Parametrization, Prediction, mean_alone
from .pixel_path import PixelPath
from .pseudo3d import Clip, ClipTimeEmbedding, PseudoAttention3d, PseudoConv3d, extend, set_to_zero

Temporal = Literal["pseudo3d", "attention", "none"]
Scale = Annotated[float, Ge(1), Le(100)]
UNET_CLASSES = {"UNet2DModel": UNet2DModel, "UNet2DConditionModel": UNet2DConditionModel}


class CastingTimestepEmbedding(TimestepEmbedding):
    """Accepts float32 sinusoids in a network of any dtype (`UNet2DModel` forgets to cast those of its class labels)."""

    def forward(self, sample: Tensor, condition: Tensor | None = None) -> Tensor:
        return super().forward(sample.to(self.linear_1.weight.dtype), condition)


def add_temporal_layers(unet: nn.Module, temporal: Temporal, clip: Clip) -> None:
    """Gives every spatial layer of a 2-D UNet its temporal one, in place."""
    for module in list(unet.modules()):
        extended: type[nn.Module] | None = None
        if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1 and temporal == "pseudo3d":
            extended = PseudoConv3d
        elif isinstance(module, Attention) and attends_to_itself(module):
            extended = PseudoAttention3d
        elif module is unet.time_embedding:
            extended = ClipTimeEmbedding
        if extended is not None:
            extend(module, extended, clip)


def attends_to_itself(attention: Attention) -> bool:
    """True for self-attention, also where a few context tokens are added to the keys (unCLIP, Kandinsky)."""
    crosses = attention.is_cross_attention and attention.added_kv_proj_dim is None
    return not (attention.only_cross_attention or crosses)


@dataclass
class VideoUNetOutput(BaseOutput):
    """sample: (b, f, c, h, w)."""

    sample: Tensor


class VideoUNet(ModelMixin, ConfigMixin, PeftAdapterMixin):  # type: ignore[misc]
    """A 2-D UNet of diffusers that works on clips.

    Args:
        unet_class: "UNet2DModel" or "UNet2DConditionModel".
        unet_config: the 2-D network's configuration; its channels are counted after space-to-depth.
        temporal: "pseudo3d" (the paper), "attention" (convolutions stay 2-D) or "none" (every frame by itself).
        space_to_depth: side of the square of pixels that becomes one position of the 2-D network.
        extra_channels: input channels beyond those of the 2-D network, counted in pixels (`widen_input`).
        pixel_channels: width of a path of a few convolutions at full resolution, beside the patches (`add_pixel_path`).
        pixel_modulated: whether the 2-D network's last features scale and shift that path's.
        motion: (scale, exponent) of the change from frame to frame that a strength of 1 means (`motion.usual_change`);
            None: the network knows nothing of motion (`add_motion`).
        shared_noise: part of the noise's variance that the frames of a clip have in common, in training and sampling.
        guidance: scale of the guidance that is trained in: at this one sampling needs no second evaluation.
        known_frames: whether it has learnt to see frames as they are (noise level 0) among noisy ones.
        frame_guidance: as guidance, of that towards the one known frame that a clip begins with.
        prediction: what the 2-D network names: the clean picture on the flow line ("sample"), or "epsilon" or
            "v_prediction" on a DDPM `schedule`, fields of a DDPMScheduler's config (`parametrization`).
        conditioning: what turns an image embedding into what the 2-D network is told, and zeros into its null embedding
            (`conditioning`); None: it is told `image_embeds` as they are.
    """

    config: Any  # a FrozenDict, whose entries are attributes too
    _supports_gradient_checkpointing = True
    # These cast what they are given to their weights' type, which is no type to compute in
    _skip_layerwise_casting_patterns = ["norm", "encoder_hid_proj", "time_embedding"]  # type: ignore[assignment]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        unet_class: str,
        unet_config: dict[str, Any],
        temporal: Temporal = "pseudo3d",
        space_to_depth: Annotated[int, Ge(1)] = 1,
        extra_channels: Annotated[int, Ge(0)] = 0,
        pixel_channels: Annotated[int, Ge(0)] = 0,
        pixel_modulated: bool = False,
        motion: tuple[Annotated[float, Ge(1e-6), Le(1e6)], Annotated[float, Ge(-8), Le(8)]] | None = None,
        shared_noise: Annotated[float, Ge(0), Le(1)] = 0.0,
        guidance: Scale = 1.0,
        known_frames: bool = False,
        frame_guidance: Scale = 1.0,
        prediction: Prediction = "sample",
        schedule: dict[str, Any] | None = None,
        conditioning: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.parametrization = None if prediction == "sample" else Parametrization(prediction, schedule or {})
        if unet_class not in UNET_CLASSES:
            raise UserError(f"cannot inflate a {unet_class}: use one of {', '.join(UNET_CLASSES)}")
        if temporal not in ("pseudo3d", "attention", "none"):
            raise UserError(f"temporal is {temporal!r}: use 'pseudo3d', 'attention' or 'none'")
        if temporal == "none" and motion is not None:
            raise UserError("a network that sees every frame by itself knows nothing of motion: leave motion out")
        unet = UNET_CLASSES[unet_class].from_config(unet_config)
        # The 2-D network and this one share their children: names of weights stay those of the 2-D network.
        object.__setattr__(self, "unet", unet)
        self._modules = unet._modules
        self.clip = Clip()
        if conditioning is not None:
            self.conditioner = conditioning_of(conditioning)
        if isinstance(unet.class_embedding, TimestepEmbedding):
            unet.class_embedding.__class__ = CastingTimestepEmbedding
        if isinstance(unet, UNet2DConditionModel):
            take_any_shape(unet)
        if extra_channels:
            widen_conv(unet.conv_in, extra_channels * space_to_depth**2)
        if temporal != "none":
            add_temporal_layers(unet, temporal, self.clip)
        if motion is not None:
            self.time_embedding.add_motion()
        if pixel_channels:
            self._make_pixel_path(pixel_channels, pixel_modulated)

    def _make_pixel_path(self, width: int, modulated: bool) -> None:
        self.pixel_path = PixelPath(self.config.extra_channels or self.out_channels, self.out_channels, width)
        if modulated:
            numbers = 2 * width * self.config.space_to_depth**2  # each pixel of a patch has its own
            self.pixel_modulation = nn.Conv2d(self.unet.conv_out.in_channels, numbers, 1)
            set_to_zero(self.pixel_modulation.weight, self.pixel_modulation.bias)
            self.unet.conv_out.register_forward_pre_hook(self.clip.keep_features)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        fps: Tensor | None = None,
        motion: Tensor | None = None,
        return_dict: bool = True,
        own: bool = False,
        **conditions: Any,
    ) -> VideoUNetOutput | tuple[Tensor]:
        """Denoises a clip: gives the clean one.

        Args:
            sample: (b, f, c, h, w) on the flow line; channels beyond `out_channels` are conditions.
            timestep: t * TIMESTEPS, one for all clips, (b,), or one for each frame, (b, f).
            fps: frames per second of each clip, (b,); 0 where it is not known.
            motion: strength of each clip's motion, (b,), 1 the usual one; below 0 where it is not known.
            own: sample and timestep are of the 2-D network's own schedule, and so is what it gives: noise, or velocity.
            conditions: what the 2-D network takes; tensors with leading size b are repeated for every frame.
        """
        batch, frames = sample.shape[:2]
        self.clip.num_frames = frames
        self.clip.fps = torch.zeros(batch, device=sample.device) if fps is None else fps.to(sample.device).float()
        motion = torch.full((batch,), -1.0) if motion is None else motion
        self.clip.motion = motion.to(sample.device).float()
        timestep = torch.as_tensor(timestep, device=sample.device)
        timestep = (timestep if timestep.ndim == 2 else timestep.expand(batch)[:, None]).expand(batch, frames)
        if self.config.conditioning is not None:
            conditions = self.conditioner(conditions)
        if self.parametrization is not None and not own:
            return self._of_other_kind(sample, timestep, return_dict, conditions)
        result = self._predict(sample, timestep.flatten(), conditions)
        return VideoUNetOutput(sample=result) if return_dict else (result,)

    def _of_other_kind(
        self, sample: Tensor, timestep: Tensor, return_dict: bool, conditions: dict[str, Any]
    ) -> VideoUNetOutput | tuple[Tensor]:
        """The same by a network of noise or velocity, in float32 around it: at high noise it is a small difference."""
        assert self.parametrization is not None
        t, channels = timestep / TIMESTEPS, self.out_channels
        x_vp, timestep = self.parametrization.seen(sample[:, :, :channels].float(), t)
        made = self._predict(torch.cat([x_vp.to(sample), sample[:, :, channels:]], 2), timestep.flatten(), conditions)
        result = self.parametrization.clean(made, x_vp, t)
        return VideoUNetOutput(sample=result) if return_dict else (result,)

    def _predict(self, sample: Tensor, timestep: Tensor, conditions: dict[str, Any]) -> Tensor:
        """What the 2-D network names, (b, f, c, h, w), of frames at timesteps (b * f,)."""
        batch, frames = sample.shape[:2]
        patch = self.config.space_to_depth
        if sample.shape[-1] % patch or sample.shape[-2] % patch:
            size = f"{sample.shape[-1]}x{sample.shape[-2]}"
            raise UserError(f"a {size} picture does not divide into {patch}x{patch} patches: use multiples of {patch}")
        sample = sample.to(self.dtype)
        pictures = F.pixel_unshuffle(sample.flatten(0, 1), patch).contiguous(memory_format=torch.channels_last)
        conditions = per_frame(conditions, batch, frames)
        if isinstance(self.unet, UNet2DConditionModel):
            conditions.setdefault("encoder_hidden_states", None)
        result = self.unet(pictures, timestep, **conditions, return_dict=False)[0]
        del self.clip.fps, self.clip.motion
        result = F.pixel_shuffle(result, patch)
        if self.config.pixel_channels:
            result = self._at_full_resolution(result, sample)
        return result.unflatten(0, (batch, frames))

    def _at_full_resolution(self, made: Tensor, sample: Tensor) -> Tensor:
        """The path at full resolution, on what the UNet made of `sample`: (b * f, c, h, w)."""
        seen = sample[:, :, -self.config.extra_channels :].flatten(0, 1)  # all of it, if none are extra
        if not self.config.pixel_modulated:
            return self.pixel_path(made, seen)
        modulation = F.pixel_shuffle(self.pixel_modulation(self.clip.features), self.config.space_to_depth)
        del self.clip.features
        return self.pixel_path(made, seen, modulation)

    def levels(self, steps: int) -> list[float] | None:
        """Noise levels of so many steps, where the network has its own schedule; None: the scheduler's."""
        return None if self.parametrization is None else self.parametrization.levels(steps)

    def bounded(self, x_hat: Tensor) -> Tensor:
        """A guided prediction (b, f, c, h, w) within the bounds that the network's own sampler keeps."""
        return x_hat if self.parametrization is None else self.parametrization.bounded(x_hat)

    @property
    def out_channels(self) -> int:
        """Channels of a frame that it gives, counted in pixels."""
        return self.unet.config.out_channels // self.config.space_to_depth**2

    def enable_gradient_checkpointing(self, gradient_checkpointing_func=None) -> None:
        """As in diffusers; a recomputed block sees the number of frames of its own forward pass, not the latest."""
        inner = gradient_checkpointing_func or self._checkpoint
        clip = self.clip

        def with_its_clip(function, *args):
            num_frames = clip.num_frames

            def again(*args):
                clip.num_frames = num_frames
                return function(*args)

            return inner(again, *args)

        super().enable_gradient_checkpointing(with_its_clip)

    @staticmethod
    def _checkpoint(function, *args):
        return checkpoint(function, *args, use_reentrant=False)

    @wraps(ModelMixin.save_pretrained)
    def save_pretrained(self, *args: Any, **options: Any) -> None:  # type: ignore[override]
        """As diffusers' own; LoRAs become part of the weights that are saved, as strong as they are here."""
        saved = self
        if self._hf_peft_config_loaded:
            saved = deepcopy(self)
            saved.fuse_lora()
            saved.unload_lora()
        super(VideoUNet, saved).save_pretrained(*args, **options)

    def temporal_parameters(self) -> Iterator[nn.Parameter]:
        """The new weights: temporal convolutions, temporal attention, embeddings of frame rate and motion."""
        return (p for name, p in self.named_parameters() if is_temporal(name))

    def spatial_parameters(self) -> Iterator[nn.Parameter]:
        """The 2-D network's weights."""
        return (p for name, p in self.named_parameters() if not is_temporal(name))


def is_temporal(name: str) -> bool:
    """Whether the weight of this name is one that inflation added."""
    return "temporal" in name.split(".")


def per_frame(conditions: Any, batch: int, frames: int) -> Any:
    """Repeats every tensor with leading size `batch` (in nested dicts, lists, tuples too) for each of its frames."""
    if isinstance(conditions, Tensor):
        same = conditions.ndim == 0 or conditions.shape[0] != batch
        return conditions if same else conditions.repeat_interleave(frames, dim=0)
    if isinstance(conditions, dict):
        return {key: per_frame(value, batch, frames) for key, value in conditions.items()}
    if isinstance(conditions, (list, tuple)):
        return type(conditions)(per_frame(value, batch, frames) for value in conditions)
    return conditions


def inflate(
    unet: UNet2DModel | UNet2DConditionModel | VideoUNet,
    temporal: Temporal = "pseudo3d",
    space_to_depth: int | None = None,
    prediction: Prediction = "sample",
    schedule: dict[str, Any] | None = None,
) -> VideoUNet:
    """A video network that gives, for every frame, what the 2-D network gives for it; the weights are copied.

    A `VideoUNet` without temporal layers (an image stage) can be inflated as well; it keeps its space_to_depth.
    `prediction` and `schedule` say what the 2-D network names, as for `VideoUNet`; then the video network gives the
    clean picture that follows from that. Of a network that names its variance too, the mean's half remains.
    """
    weights = unet.state_dict()
    if isinstance(unet, VideoUNet):
        if unet.config.temporal != "none":
            raise UserError("this network has temporal layers already: inflate a 2-D one")
        if space_to_depth not in (None, unet.config.space_to_depth):
            raise UserError(f"this network was trained with space_to_depth {unet.config.space_to_depth}: keep it")
        config = {**public(unet.config), "temporal": temporal}
    else:
        if type(unet).__name__ not in UNET_CLASSES:
            raise UserError(f"cannot inflate a {type(unet).__name__}: use one of {', '.join(UNET_CLASSES)}")
        if prediction != "sample":
            weights = mean_alone(unet.config, weights)
        source = {"_name_or_path": unet.config.get("_name_or_path"), "_diffusers_version": diffusers.__version__}
        config = {
            "unet_class": type(unet).__name__,
            "unet_config": public(unet.config) | source | {"out_channels": len(weights["conv_out.weight"])},
            "temporal": temporal,
            "space_to_depth": space_to_depth or 1,
            "prediction": prediction,
            "schedule": schedule,
        }
    video = VideoUNet(**config)
    nn.Module.to(video, unet.device, unet.dtype)  # not video.to(), which warns about an empty list of float32 layers
    missing, unexpected = video.load_state_dict(weights, strict=False)
    if unexpected or not all(map(is_temporal, missing)):
        raise UserError(f"the weights do not fit {config['unet_class']}'s configuration: {unexpected or missing}")
    return video.train(unet.training)


def add_conditioning(video_unet: VideoUNet, conditioning: Conditioning) -> VideoUNet:
    """What turns an image embedding into what the 2-D network is told, in place."""
    video_unet.conditioner = conditioning.to(video_unet.device, video_unet.dtype)
    video_unet.register_to_config(conditioning=conditioning.config)
    return video_unet


def public(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without the library's own notes."""
    return {key: value for key, value in config.items() if not key.startswith("_")}


def widen_input(video_unet: VideoUNet, extra_channels: int) -> VideoUNet:
    """Adds input channels at the end, in place: their weights are zero, so the output does not change.

    A path at full resolution, which was made for the channels there were, is taken off.
    """
    remove_pixel_path(video_unet)
    widen_conv(video_unet.unet.conv_in, extra_channels * video_unet.config.space_to_depth**2)
    video_unet.register_to_config(extra_channels=video_unet.config.extra_channels + extra_channels)
    return video_unet


def add_pixel_path(video_unet: VideoUNet, channels: int, modulated: bool = False) -> VideoUNet:
    """Adds a path at full resolution, `channels` wide, in place: the output does not change."""
    video_unet._make_pixel_path(channels, modulated)
    nn.Module.to(video_unet, video_unet.device, video_unet.dtype)
    video_unet.register_to_config(pixel_channels=channels, pixel_modulated=modulated)
    return video_unet


def remove_pixel_path(video_unet: VideoUNet) -> VideoUNet:
    """Takes the path at full resolution off, in place; what the UNet made remains."""
    for name in ("pixel_path", "pixel_modulation"):
        if name in video_unet._modules:
            delattr(video_unet, name)
    video_unet.unet.conv_out._forward_pre_hooks.clear()
    video_unet.register_to_config(pixel_channels=0, pixel_modulated=False)
    return video_unet


def add_motion(video_unet: VideoUNet, motion: tuple[float, float]) -> VideoUNet:
    """Adds the embedding of motion strength, in place: the output does not change. `motion`: as in the config."""
    video_unet.time_embedding.add_motion()
    video_unet.register_to_config(motion=tuple(motion))
    return video_unet


def widen_conv(conv: nn.Conv2d, extra_channels: int) -> None:
    """Appends input channels with zero weights to a convolution."""
    out_channels, _, *kernel = conv.weight.shape
    extra = conv.weight.new_zeros(out_channels, extra_channels, *kernel)
    conv.weight = nn.Parameter(torch.cat([conv.weight.detach(), extra], dim=1))
    conv.in_channels += extra_channels
