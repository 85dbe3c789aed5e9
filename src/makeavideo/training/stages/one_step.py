"""How a `SuperResolver` learns: large frames from small ones, in one step (in place of section 3.2's diffusion)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor

from ...data.reader import to_pixels
from ...errors import UserError
from ...sampling import to_uint8, upsample
from ...super_resolution import SuperResolver, inflate_resolver
from ..adversary import Adversary
from ..batches import Complete
from ..networks import all_parameters, build, load_folder, make_trainable, save_network, temporal_and_spatial
from ..processes import Share
from ..recipe import Recipe
from ..small_frames import PackedCrops, degrade, pack, sharpen
from .base import Companion
from .before import network_before

SHEET_ROWS = 12
BEYOND = 0.05
"""Weight of what lies beyond black and white."""
DATA_KEYS = {"roots", "size", "crop", "background", "split", "num_frames", "short"}
DATA_KEYS |= {"fps_low", "fps_high", "fps_beta_start", "fps_beta_end"}
SMALL_FRAME_KEYS = {"crops", "decoder", "super_resolution_low", "cleaned_variants", "cleaned_levels"}
"""The keys of a recipe that decide what the crops are."""


def differences(x: Tensor) -> list[Tensor]:
    """Differences of neighbours (batch, frames, 3, h, w): to the right, downwards, and of a clip in time."""
    return [torch.diff(x, dim=dim) for dim in (-1, -2, 1) if x.shape[dim] > 1]


def edge_loss(made: Tensor, real: Tensor) -> Tensor:
    """L1 of the differences of neighbours: the cheapest sharpener, and in time what keeps still things still."""
    pairs = zip(differences(made), differences(real), strict=True)
    return torch.stack([F.l1_loss(a, b) for a, b in pairs]).sum()


def as_shown(made: Tensor) -> Tensor:
    """Pixels with what lies beyond black and white counted for little: it is cut off where a picture is shown.

    So white may be aimed at from above, and the noise on a white background is cut off too. Not wholly: a pixel that
    should be darker must find its way back.
    """
    shown = made.clamp(-1, 1)
    return shown + BEYOND * (made - shown)


class OneStepStage:
    """Small frames -> large frames, of a picture or of a clip.

    It sees small frames of the kinds that it will meet (`small_frames`, `before`), says the large ones, sharpened if
    asked for, and is off by the L1 of pixels and edges and by what a discriminator says.
    """

    complete: Complete | None = None

    def __init__(self, recipe: Recipe, device: torch.device, reader: Any, component: str, factor: int):
        self.recipe, self.settings, self.device = recipe, recipe.super_resolution, device
        self.component, self.factor = component, factor
        self.skipped: list[tuple[str, str]] = []
        self.network: Any = start(recipe, factor)
        make_trainable(self.network, recipe)
        self.dataset = self.crops_of(reader)
        self.adversary = None
        if self.settings.adversarial_weight:
            width, rate = self.settings.discriminator_width, self.settings.discriminator_learning_rate
            self.adversary = Adversary(width, rate, device)
        self.companions: list[Companion] = [self.adversary] if self.adversary else []

    def crops_of(self, reader: Any) -> PackedCrops:
        """Crops of the reader's large frames with the small frames of each, cut once into the run's folder."""
        recipe, crop = self.recipe, self.recipe.data.crop or self.recipe.data.size
        step = self.factor * self.network.config.patch
        if not isinstance(crop, int):
            raise UserError(f"{recipe.stage} learns from squares: add data.crop, the side of one, to the recipe.")
        if crop % step:
            raise UserError(f"The crop of {recipe.stage} has {crop} pixels a side: use a multiple of {step}.")
        folder = Path(recipe.output) / "crops"
        note = {
            **recipe.data.model_dump(mode="json", include=DATA_KEYS),
            **self.settings.model_dump(mode="json", include=SMALL_FRAME_KEYS),
            "items": len(reader),
        }
        reader.crop = None  # the crops are cut here, where small and large pixels meet
        clean = network_before(recipe, self.factor, self.device)
        with PartialState().local_main_process_first():
            pack(reader, folder, self.factor, crop, self.settings.crops, clean, note)
        return PackedCrops(folder, self.settings.cleaned, reader.files)

    def parameter_groups(self) -> list[dict]:
        return (temporal_and_spatial if self.recipe.video else all_parameters)(self.network, self.recipe)

    def loss(self, network, batch: dict, generator: torch.Generator) -> Tensor:
        s = self.settings
        small = to_pixels(batch["small"])
        small = degrade(batch["pixels"], small, batch["cleaned"], s.blur, s.noise, generator)
        real = sharpen(batch["pixels"], s.sharpen) if s.sharpen else batch["pixels"]
        made = as_shown(network(small).float())
        loss = F.l1_loss(made, real)
        if s.gradient_weight:
            loss = loss + s.gradient_weight * edge_loss(made, real)
        made, real = made.flatten(0, 1), real.flatten(0, 1)
        if self.adversary is not None:
            up = upsample(small, real.shape[-2:]).flatten(0, 1)
            adversarial, features = self.adversary.judge(real, made, up)
            loss = loss + s.adversarial_weight * adversarial + s.feature_weight * features
        return loss

    @torch.no_grad()
    def contact_sheet(self, network):
        """A row a crop: small frame, what is made of it, the real one; the first frame of each."""
        from ...media.contact_sheet import contact_sheet

        count = min(SHEET_ROWS, len(self.dataset))
        share = Share(count)
        samples = [self.dataset[(i * len(self.dataset) // count, i)] for i in share.rows]
        pixels, small = (to_pixels(np.stack([s[key] for s in samples])).to(self.device) for key in ("pixels", "small"))
        rows = torch.cat([upsample(small, pixels.shape[-2:])[:, :1], network(small)[:, :1], pixels[:, :1]], 1)
        return contact_sheet(to_uint8(share.joined(rows)), columns=3)

    def export(self, folder) -> None:
        save_network(self.network, self.component, 1.0, folder)  # a scheduler that is not asked: one format for both


def start(recipe: Recipe, factor: int) -> SuperResolver:
    """The `SuperResolver` that a stage begins with: from scratch, or from `init_from`; inflated for clips."""
    network: Any
    if recipe.init_from is None:
        config = {key: value for key, value in recipe.network.items() if key != "class"}
        if config.get("factor", factor) != factor:
            raise UserError(f"The recipe's network.factor is {config['factor']}: {recipe.stage} needs {factor}.")
        network = build(SuperResolver, {**config, "factor": factor})
    else:
        network = load_folder(SuperResolver, recipe.init_from, "network to start from").float()
    if recipe.gradient_checkpointing:
        raise UserError("A SuperResolver is small and cannot recompute: take gradient_checkpointing out of the recipe.")
    if recipe.temporal == "attention":
        raise UserError("A SuperResolver has temporal convolutions only: set temporal to pseudo3d.")
    if recipe.video and network.config.temporal == "none":
        network = inflate_resolver(network)
    return network.to(memory_format=torch.channels_last)
