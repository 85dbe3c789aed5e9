"""F-up: frames between and after the given ones (section 3.3 of the paper)."""

import torch
from torch import Tensor, nn

from ...flow import EXTRA_CHANNELS, LARGEST_CORRECTION, first_guess, seen_by_interpolator
from ...inflate import add_pixel_path, widen_input
from ...timeline import FRAME_SKIP
from .decoder import DecoderVideoStage

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

    def predict(self, network, x_t, t, y_e, fps, batch):
        seen = seen_by_interpolator(x_t, batch["guess"], batch["unit"], batch["mask"])
        return super().predict(network, seen, t, y_e, fps, batch).float() * (1 - batch["mask"])


def draw_masks(batch: int, num_frames: int, generator: torch.Generator, every_fifth: float) -> Tensor:
    """Which frames are given (batch, num_frames), 1 where they are.

    A share of the clips: every fifth frame (interpolation). The others: the first ones (extrapolation, image
    animation), some at both ends (joining, closing a loop), or any.
    """
    masks = torch.zeros(batch, num_frames)
    draws = torch.rand(batch, 5, generator=generator, device=generator.device).cpu()
    for row, (interpolate, kind, start, end, place) in zip(masks, draws.tolist(), strict=True):
        first, last = (1 + int(x**2 * num_frames / 2) for x in (start, end))
        if interpolate < every_fifth:
            row[::FRAME_SKIP] = 1
        elif kind < 0.5:
            row[:first] = 1
        elif kind < 0.8:
            row[:first] = row[-last:] = 1
        else:
            row[torch.randperm(num_frames, generator=torch.Generator().manual_seed(int(place * 2**31)))[:first]] = 1
    return masks
