"""The small frames that super-resolution meets: those that the network before it makes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...encoders import embed_images
from ...errors import UserError
from ...figures import TIMESTEPS
from ...inflation import VideoUNet
from ...media.pictures import sides
from ...sampling import add_noise, from_uint8, to_uint8
from ...shapes import Shape, shapes_from
from ...super_resolution import SuperResolver
from ..networks import load_folder
from ..recipe import Recipe
from ..small_frames import Clean, shrink


@dataclass
class CleanedByDecoder:
    """Small frames noised, and cleaned by D in one step: uint8 (frames, h, w, 3) -> several of the same shape."""

    decoder: Any
    image_encoder: torch.nn.Module
    levels: tuple[float, float]
    variants: int

    @torch.no_grad()
    def __call__(self, frames: np.ndarray, seed: int) -> list[np.ndarray]:
        generator = torch.Generator().manual_seed(seed)
        device = self.decoder.device
        x = from_uint8(frames[None]).to(device).expand(self.variants, -1, -1, -1, -1)
        low, high = self.levels
        t = (low + (high - low) * torch.rand(len(x), generator=generator)).to(device)
        noise = torch.randn(x.shape, generator=generator).to(device)
        y_e = embed_images(self.image_encoder, x[:, 0])
        made = self.decoder(add_noise(x, noise, t), t * TIMESTEPS, added_cond_kwargs={"image_embeds": y_e}).sample
        return list(to_uint8(made))


@dataclass
class EnlargedBySuperResolution:
    """Frames shrunk, and enlarged again by SR_l: uint8 (frames, h, w, 3) -> one of the same shape.

    With `cleaned`, several more: enlarged from the small frames as D cleans them.
    """

    network: Any
    cleaned: CleanedByDecoder | None = None

    @torch.no_grad()
    def __call__(self, frames: np.ndarray, seed: int) -> list[np.ndarray]:
        small = shrink(frames, self.network.config.factor)
        kinds = [small, *(self.cleaned(small, seed) if self.cleaned else [])]
        return list(to_uint8(self.network(from_uint8(np.stack(kinds)).to(self.network.device))))


def network_before(recipe: Recipe, factor: int, device: torch.device) -> Clean | None:
    """What makes small frames as D does, or SR_l, or SR_l from D's; None if the recipe names neither.

    UserError: it makes frames of another size than this stage sees.
    """
    settings, small = recipe.super_resolution, Shape(*(side // factor for side in sides(recipe.data.size)))
    if settings.super_resolution_low is None:
        return decoder_before(recipe, small, device) if settings.decoder else None
    network = load_folder(SuperResolver, settings.super_resolution_low, "super_resolution_low").float()
    if any(side % network.config.factor for side in small):
        what = f"{small.written} pixels are no multiple of {network.config.factor}"
        raise UserError(f"{what}: drop super_resolution_low.")
    smaller = Shape(*(side // network.config.factor for side in small))
    cleaned = decoder_before(recipe, smaller, device) if settings.decoder else None
    return EnlargedBySuperResolution(network.to(device, memory_format=torch.channels_last).eval(), cleaned)


def decoder_before(recipe: Recipe, small: Shape, device: torch.device) -> CleanedByDecoder:
    """D of the recipe, which has to make frames of `small` pixels."""
    from transformers import CLIPVisionModelWithProjection

    settings = recipe.super_resolution
    decoder = load_folder(VideoUNet, settings.decoder, "decoder").float()
    tower = load_folder(CLIPVisionModelWithProjection, recipe.image_encoder, "image encoder").float()
    made = shapes_from({"decoder": decoder.config}, 1).base
    if made != small:
        says = f"D makes {made.written} pixels a side and {recipe.stage} sees {small.written}"
        raise UserError(f"{says}: drop super_resolution.decoder.")
    decoder.to(device, memory_format=torch.channels_last).eval()
    return CleanedByDecoder(decoder, tower.to(device).eval(), settings.cleaned_levels, settings.cleaned_variants)
