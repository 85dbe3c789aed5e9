"""F-up: frames between and after the given ones (section 3.3 of the paper)."""

import torch
from torch import nn

from ...flow import EXTRA_CHANNELS, LARGEST_CORRECTION, first_guess, seen_by_interpolator
from ...inflate import add_pixel_path, widen_input
from ..masks import draw_masks
from .decoder import Conditions, DecoderVideoStage

PIXEL_CHANNELS = 48
"""Width of F-up's path at full resolution."""


class InterpolatorStage(DecoderVideoStage):
    """F-up (section 3.3): D_t with more input channels, the given frames, the mask and the unit of what it makes.

    In place of the frames that are not given it sees a guess from those that are (`flow.first_guess`), and makes what
    is to be added to it, in one step from t = 1. There the noise says nothing, and its mean is taken in place of a
    draw. D_t's weights read the guess where they read the noisy frames, and the last layer starts as zero: F-up starts
    as the guess.
    """

    component = "interpolator"
    sheet_steps, sheet_guidance = 1, 1.0

    def start(self):
        network = super().start()
        if network.config.extra_channels == 0:
            network = add_pixel_path(widen_input(network, EXTRA_CHANNELS), PIXEL_CHANNELS)
            weight = network.unet.conv_in.weight.data
            x_t, guess, _ = weight.split(
                [network.config.space_to_depth**2 * channels for channels in (3, 3, EXTRA_CHANNELS - 3)], 1
            )
            guess.copy_(x_t)
            x_t.zero_()
            for name, parameter in network.unet.conv_out.named_parameters():
                if name != "temporal.weight":
                    nn.init.zeros_(parameter)
        if self.recipe.train == "path":
            network.requires_grad_(False).pixel_path.requires_grad_(True)
        return network.to(memory_format=torch.channels_last)

    def parameter_groups(self):
        optim = self.recipe.optim
        path = {"params": list(self.network.pixel_path.parameters()), "lr": optim.learning_rate}
        if self.recipe.train == "path":
            return [path]
        pretrained = [p for name, p in self.network.named_parameters() if not name.startswith("pixel_path.")]
        return [path, {"params": pretrained, "lr": optim.learning_rate * optim.pretrained_scale}]

    def noise_like(self, x, generator):
        return torch.zeros_like(x)

    def diffuse(self, x, generator):
        return self.noise_like(x, generator), torch.ones(len(x), device=x.device)

    def target(self, batch, generator):
        pixels = batch["pixels"]
        mask = draw_masks(*pixels.shape[:2], generator, self.recipe.data.every_fifth).to(pixels.device)
        batch["guess"], batch["unit"] = first_guess(pixels, mask)
        batch["mask"] = mask[:, :, None, None, None].expand(-1, -1, 1, *pixels.shape[3:])
        correction = (pixels - batch["guess"]) / batch["unit"]
        return correction.clamp(-LARGEST_CORRECTION, LARGEST_CORRECTION)

    def frames(self, made, batch):
        return batch["guess"] + batch["unit"] * made

    def predict(self, network, x_t, t, conditions: Conditions, batch):
        seen = seen_by_interpolator(x_t, batch["guess"], batch["unit"], batch["mask"])
        return super().predict(network, seen, t, conditions, batch) * (1 - batch["mask"])
