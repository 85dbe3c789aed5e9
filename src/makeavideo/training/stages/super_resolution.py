"""SR_l, SR_l_t and SR_h: from small frames to large ones (section 3.2 of the paper), by a network of one of two kinds.

By diffusion, as in the paper (this file), or in one step (`one_step`).
"""

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...enlarger import enlarged, told_level, upsampled
from ...inflation import VideoUNet
from ...sampling import add_noise, frame_noise, make_scheduler, sample
from ...super_resolution import SuperResolver
from ..batches import Complete
from ..datasets import captioned_images, unlabelled_clips
from ..losses import diffuse, weighted_loss
from ..networks import (
    all_parameters,
    load_folder,
    make_trainable,
    save_network,
    start_network,
    temporal_and_spatial,
)
from ..recipe import Recipe
from .base import Companion, Stage
from .conditions import drop_rates
from .one_step import OneStepStage
from .sheets import SHEET_CLIPS, Sheet

SHIFT, SHEET_STEPS = 1.0, 4


def component_of(recipe: Recipe) -> tuple[str, int]:
    """(the network's name in a pipeline, how many times it enlarges)."""
    return ("super_resolution_high", 3) if recipe.stage == "sr-high-image" else ("super_resolution_low", 4)


def super_resolution_stage(recipe: Recipe, device: torch.device) -> Stage:
    """The stage of the kind that the recipe's network has: `network.class`, or that of `init_from`."""
    component, factor = component_of(recipe)
    dataset = unlabelled_clips(recipe.data) if recipe.video else captioned_images(recipe.data, captions=False)
    if recipe.init_from is None:
        in_one_step = recipe.network.get("class") == "SuperResolver"
    else:
        in_one_step = is_super_resolver(recipe.init_from)
    kind = OneStepStage if in_one_step else DiffusionStage
    return kind(recipe, device, dataset, component, factor)


def is_super_resolver(folder: str | Path) -> bool:
    """Whether a folder holds a network that takes one step, as its configuration says."""
    try:
        return json.loads((Path(folder) / "config.json").read_text())["_class_name"] == "SuperResolver"
    except (OSError, ValueError, KeyError, TypeError):
        return False  # load_folder has the sentence for it


def load_super_resolution(folder: str | Path, what: str) -> VideoUNet | SuperResolver:
    """A network of either kind."""
    return load_folder(SuperResolver if is_super_resolver(folder) else VideoUNet, folder, what)


class DiffusionStage:
    """Small frames -> large frames, a residual over bilinear up-sampling, by diffusion; Karlo's names noise.

    It sees noisy large frames beside the small ones, up-sampled; those are noised too (noise-conditioning
    augmentation), where it is told how much. It says the clean large frames, and is off by the velocity's squared
    error, or by that of what it names.
    """

    complete: Complete | None = None

    def __init__(self, recipe: Recipe, device: torch.device, dataset: Any, component: str, factor: int):
        self.recipe, self.device, self.dataset = recipe, device, dataset
        self.component, self.factor = component, factor
        self.companions: list[Companion] = []
        self.skipped: list[tuple[str, str]] = []
        self.network: Any = start_network(recipe, in_channels=6)  # x_t and the small frames
        make_trainable(self.network, recipe)

    def parameter_groups(self) -> list[dict]:
        return (temporal_and_spatial if self.recipe.video else all_parameters)(self.network, self.recipe)

    def loss(self, network, batch: dict, generator: torch.Generator) -> Tensor:
        x, noise = batch["pixels"], self.recipe.noise
        up, level = self.degrade(x, generator)
        fps = batch["fps"] if self.recipe.video else None
        fps = drop_rates(fps, self.recipe.condition_dropout, generator, self.device)
        x_t, t = diffuse(x, noise, generator)
        made = enlarged(self.network, x_t, t, up, level, fps, called=network)
        return weighted_loss(made, x, t, noise.weight_floor, prediction=self.network.config.prediction)

    def degrade(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(low-resolution frames up-sampled again, augmentation level (batch,))."""
        size, noise = x.shape[-2:], self.recipe.noise
        low = F.interpolate(x.flatten(0, 1), scale_factor=1 / self.factor, mode="bilinear", antialias=True)
        low = low.unflatten(0, x.shape[:2])
        level = torch.rand(len(x), generator=generator, device=generator.device).to(x.device)
        level = level.square() * noise.low_res_max * told_level(self.network)
        low = add_noise(low, frame_noise(low.shape, generator, noise.shared).to(x.device), level)
        return upsampled(self.network, low, size), level

    def contact_sheet(self, network):
        """A row a sample, of its first frame: real, small, made."""
        from ...media.contact_sheet import contact_sheet

        sheet = Sheet(self.dataset, SHEET_CLIPS, self.device, self.recipe.seed, seeds=True)
        x = sheet.pixels[:, :4]
        up, level = self.degrade(x, sheet.generator)

        def at(x_t, t):
            return network.bounded(enlarged(network, x_t, t.expand(len(x_t)), up, level, sheet.rates))

        noise = frame_noise(x.shape, sheet.generator, shared=True).to(self.device)
        made = sample(at, noise, make_scheduler(SHIFT), SHEET_STEPS, levels=network.levels(SHEET_STEPS))
        return contact_sheet(sheet.rows(torch.cat([x[:, :1], up[:, :1], made[:, :1]], 1)), columns=3)

    def export(self, folder) -> None:
        save_network(self.network, self.component, SHIFT, folder)
