"""SR_l, SR_l_t and SR_h: from small frames to large ones (section 3.2 of the paper)."""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...inflation import VideoUNet
from ...sampling import TIMESTEPS, add_noise, frame_noise, make_scheduler, sample, to_uint8, upsample
from ...super_resolution import SuperResolver
from ..recipe import Recipe
from . import one_step
from .base import load_folder
from .pixels import SHEET_CLIPS, PixelStage, weighted_loss


def load_super_resolution(folder: str | Path, what: str) -> VideoUNet | SuperResolver:
    """A network of either kind, as its configuration says."""
    try:
        name = json.loads((Path(folder) / "config.json").read_text())["_class_name"]
    except (OSError, ValueError, KeyError, TypeError):
        name = None  # load_folder has the sentence for it
    return load_folder(SuperResolver if name == "SuperResolver" else VideoUNet, folder, what)


class SuperResolutionStage(PixelStage):
    """SR_l, SR_l_t and SR_h: small frames -> large frames (section 3.2), by a network of one of two kinds.

    With a `SuperResolver` (`network.class` of the recipe, or that of `init_from`) in one step: see `OneStep`. With a
    UNet by diffusion, as in the paper, a residual over bilinear up-sampling; the small frames are then noised
    (noise-conditioning augmentation) and the network is told how much.
    """

    factor, shift = 4, 1.0
    in_channels = 6  # x_t and the small frames

    def __init__(self, recipe: Recipe, device: torch.device):
        super().__init__(recipe, device)
        self.one_step = None
        if isinstance(self.network, SuperResolver):
            self.one_step = one_step.OneStep(recipe, self.network, self.dataset, device)
            self.dataset = self.one_step.dataset
            self.companions = [self.one_step.adversary] if self.one_step.adversary else []

    def start(self):
        recipe = self.recipe
        if recipe.init_from is None:
            in_one_step = recipe.network.get("class") == "SuperResolver"
        else:
            in_one_step = isinstance(load_super_resolution(recipe.init_from, "network to start from"), SuperResolver)
        return one_step.start(recipe, self.factor, self.video) if in_one_step else super().start()

    def degrade(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(low-resolution frames up-sampled again, augmentation level (batch,))."""
        size = x.shape[-1]
        low = F.interpolate(x.flatten(0, 1), scale_factor=1 / self.factor, mode="bilinear", antialias=True)
        low = low.unflatten(0, x.shape[:2])
        level = torch.rand(len(x), generator=generator, device=generator.device).to(x.device)
        level = level.square() * self.recipe.noise.low_res_max
        low = add_noise(low, frame_noise(low.shape, generator, self.recipe.noise.shared).to(x.device), level)
        return upsample(low, size), level

    def predict(self, network, x_t, t, up, level, fps):
        net = network(torch.cat([x_t, up], 2), t * TIMESTEPS, fps=fps, class_labels=level * TIMESTEPS)
        return up + net.sample.float()

    def loss(self, network, batch, generator):
        if self.one_step is not None:
            return self.one_step.loss(network, batch, generator)
        x = batch["pixels"]
        up, level = self.degrade(x, generator)
        fps = self.frame_rates(batch, generator)
        x_t, t = self.diffuse(x, generator)
        x_hat = self.predict(network, x_t, t, up, level, fps)
        return weighted_loss(x_hat, x, t, self.recipe.noise.weight_floor)

    def contact_sheet(self, network):
        if self.one_step is not None:
            return self.one_step.contact_sheet(network)
        from ...media.contact_sheet import contact_sheet

        generator = torch.Generator().manual_seed(self.recipe.seed)
        samples = [self.dataset[(i * len(self.dataset) // SHEET_CLIPS, i, 1.0)] for i in range(SHEET_CLIPS)]
        x = torch.stack([s["pixels"] for s in samples]).to(self.device)[:, :4]
        fps = torch.tensor([float(s["fps"]) for s in samples], device=self.device) if self.video else None
        up, level = self.degrade(x, generator)

        def predict(x_t, t):
            return self.predict(network, x_t, t.expand(len(x_t)), up, level, fps)

        noise = frame_noise(x.shape, generator, shared=True).to(self.device)
        made = sample(predict, noise, make_scheduler(self.shift), 4)
        return contact_sheet(to_uint8(torch.cat([x[:, :1], up[:, :1], made[:, :1]], 1)), columns=3)


class SRLowImageStage(SuperResolutionStage):
    component = "super_resolution_low"


class SRLowVideoStage(SRLowImageStage):
    video = True


class SRHighImageStage(SuperResolutionStage):
    component, factor = "super_resolution_high", 3
