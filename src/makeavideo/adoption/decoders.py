"""D_t from the decoder of a text-to-image pipeline: inflated, and told an image embedding alone."""

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch

from ..conditioning import Conditioning
from ..errors import UserError
from ..inflation import VideoUNet, add_conditioning, inflate
from ..sampling import make_scheduler
from .adopted import Adopted, millions
from .meanings import SAMPLING, Meanings
from .source import Source

NOT_OF_A_SCHEDULE = {"variance_type", "prediction_type"}


def schedule_of(values: dict[str, Any]) -> dict[str, Any]:
    """What of a scheduler's config a network's `schedule` holds: the betas, the spacing, the bounds."""
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    known = set(signature(DDPMScheduler.__init__).parameters) - {"self"} - NOT_OF_A_SCHEDULE
    fields = {key: value for key, value in values.items() if key in known and value is not None}
    if values.get("_class_name") == "UnCLIPScheduler":  # with defaults of its own, and a spacing that it does not name
        usual = {"beta_schedule": "squaredcos_cap_v2", "clip_sample": True, "timestep_spacing": "linspace"}
        fields = usual | fields
    return fields


def decoder_of(source: Source, part: str, scheduler: str, conditioning: Conditioning, dtype: torch.dtype) -> VideoUNet:
    """D_t, which makes the pictures that the 2-D network makes.

    Raises:
        UserError: as `Source.network`; a network or schedule that cannot be read as one of clean pictures.
    """
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    unet = source.network(part, UNet2DConditionModel, dtype)
    values = source.config(scheduler, "scheduler_config.json")
    prediction = values.get("prediction_type", "epsilon")
    if unet.config.sample_size is None or not isinstance(unet.config.sample_size, int):
        raise UserError(f"{source.name} cannot be adopted: its {part} names no size of square pictures (sample_size).")
    video = inflate(unet, prediction=prediction, schedule=schedule_of(values))
    return add_conditioning(video, conditioning)


def check_prior_fits(meanings: Meanings, decoder: Source, takes: int, times: int = 1) -> None:
    """Raises UserError where P's embeddings are of another length than the decoder takes; it takes `times` as many."""
    if meanings.dim * times != takes:
        raise UserError(
            f"The prior of {meanings.prior.name} makes embeddings of {meanings.dim} numbers, and the decoder of "
            f"{decoder.name} takes {takes // times}: name a prior that belongs to it with --prior."
        )


def adopted_from(
    source: Source,
    meanings: Meanings,
    decoder: VideoUNet,
    guidance: float,
    made: str,
    codec: Any = None,
    found: Sequence[str] = (),
    missing: Sequence[str] = (),
) -> Adopted:
    """What comes of all that was read. made: what became of the null embedding."""
    whole = {**meanings.parts, "decoder": decoder, "decoder_scheduler": make_scheduler()}
    found = [*meanings.described(), *found]
    if codec is not None:
        whole["codec"] = codec
        kind = "MoVQ" if type(codec).__name__ == "VQModel" else type(codec).__name__
        found.append(f"codec: {kind}, {millions(codec)}, from {source.name}")
    sources = {one.name: one for one in (source, meanings.prior, meanings.tower) if one is not None}
    return Adopted(whole, dict(SAMPLING), list(sources.values()), guidance, found, [told(decoder), made], list(missing))


def told(video: VideoUNet) -> str:
    """What was made of it, in a sentence."""
    new = sum(weight.numel() for weight in video.temporal_parameters())
    old = sum(weight.numel() for weight in video.spatial_parameters())
    return f"decoder: inflated, {new / 1e6:,.1f} million new temporal weights beside {old / 1e6:,.1f} million"
