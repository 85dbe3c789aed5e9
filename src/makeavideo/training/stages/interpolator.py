"""F-up: frames between and after the given ones (section 3.3 of the paper), by a guess to correct or by diffusion."""

import torch
from torch import nn

from ...errors import UserError
from ...flow import (
    EXTRA_CHANNELS,
    LARGEST_CORRECTION,
    MASKED_CHANNELS,
    first_guess,
    seen_by_interpolator,
    seen_by_masked_interpolator,
)
from ...inflation import VideoUNet, add_pixel_path, widen_input
from ..masks import draw_masks
from .decoder import Conditions, DecoderVideoStage

PIXEL_CHANNELS = 48
"""Width of F-up's path at full resolution."""


class InterpolatorStage(DecoderVideoStage):
    """F-up (section 3.3): D_t with more input channels.

    `guess: none` is the paper's: the given frames, zeros where there are none, and the mask, four channels; the others
    are diffused. The network starts as D_t.

    `guess: flow` is ours: in place of the frames that are not given it sees a guess from those that are
    (`flow.first_guess`), the mask and the unit of what it makes, five channels; it makes what is to be added to the
    guess, in one step from t = 1. There the noise says nothing, and its mean is taken in place of a draw. D_t's weights
    read the guess where they read the noisy frames, and the last layer starts as zero: F-up starts as the guess.
    """

    component = "interpolator"

    @property
    def masked(self) -> bool:
        """Whether it is the paper's."""
        return self.recipe.guess == "none"

    @property
    def sheet_steps(self) -> int:
        return 16 if self.masked else 1

    sheet_guidance = 1.0

    def start(self):
        network = super().start()
        channels = MASKED_CHANNELS if self.masked else EXTRA_CHANNELS
        if network.config.extra_channels == 0:
            network = widen_input(network, channels)
            if not self.masked:
                self.read_guess(add_pixel_path(network, PIXEL_CHANNELS))
        elif network.config.extra_channels != channels:
            raise UserError(
                f"The interpolator in {self.recipe.init_from} has {network.config.extra_channels} extra channels and "
                f"guess: {self.recipe.guess} needs {channels}: change guess, or start from a decoder."
            )
        if self.recipe.train == "path":
            network.requires_grad_(False).pixel_path.requires_grad_(True)
        return network.to(memory_format=torch.channels_last)

    @staticmethod
    def read_guess(network: VideoUNet) -> None:
        """Lets D_t's weights read the guess, and the network start by adding nothing to it, in place."""
        sizes = [network.config.space_to_depth**2 * channels for channels in (3, 3, EXTRA_CHANNELS - 3)]
        x_t, guess, _ = network.unet.conv_in.weight.data.split(sizes, 1)
        guess.copy_(x_t)
        x_t.zero_()
        for name, parameter in network.unet.conv_out.named_parameters():
            if name != "temporal.weight":
                nn.init.zeros_(parameter)

    def parameter_groups(self):
        if self.masked:
            return super().parameter_groups()
        optim = self.recipe.optim
        path = {"params": list(self.network.pixel_path.parameters()), "lr": optim.learning_rate}
        if self.recipe.train == "path":
            return [path]
        pretrained = [p for name, p in self.network.named_parameters() if not name.startswith("pixel_path.")]
        return [path, {"params": pretrained, "lr": optim.learning_rate * optim.pretrained_scale}]

    def noise_like(self, x, generator):
        return super().noise_like(x, generator) if self.masked else torch.zeros_like(x)

    def diffuse(self, x, generator):
        if self.masked:
            return super().diffuse(x, generator)
        return self.noise_like(x, generator), torch.ones(len(x), device=x.device)

    def target(self, batch, generator):
        pixels = batch["pixels"]
        mask = draw_masks(*pixels.shape[:2], generator, self.recipe.data.every_fifth).to(pixels.device)
        batch["mask"] = mask[:, :, None, None, None].expand(-1, -1, 1, *pixels.shape[3:])
        if self.masked:
            batch["given"] = pixels * batch["mask"]
            return pixels
        batch["guess"], batch["unit"] = first_guess(pixels, mask)
        correction = (pixels - batch["guess"]) / batch["unit"]
        return correction.clamp(-LARGEST_CORRECTION, LARGEST_CORRECTION)

    def frames(self, made, batch):
        return made if self.masked else batch["guess"] + batch["unit"] * made

    def predict(self, network, x_t, t, conditions: Conditions, batch):
        mask = batch["mask"]
        if self.masked:
            seen = seen_by_masked_interpolator(x_t, batch["given"], mask)
            return torch.lerp(super().predict(network, seen, t, conditions, batch), batch["given"], mask)
        seen = seen_by_interpolator(x_t, batch["guess"], batch["unit"], mask)
        return super().predict(network, seen, t, conditions, batch) * (1 - mask)
