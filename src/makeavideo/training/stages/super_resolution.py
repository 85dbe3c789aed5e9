"""SR_l, SR_l_t and SR_h: from small frames to large ones (section 3.2 of the paper)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ...sampling import TIMESTEPS, add_noise, frame_noise, make_scheduler, sample, to_uint8, upsample
from .pixels import SHEET_CLIPS, PixelStage, weighted_loss


class SuperResolutionStage(PixelStage):
    """SR_l, SR_l_t and SR_h: small frames -> large frames (section 3.2), a residual over bilinear up-sampling.

    The small frames are noised (noise-conditioning augmentation); the network is told how much.
    """

    factor, shift = 4, 1.0
    in_channels = 6  # x_t and the small frames

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
        x = batch["pixels"]
        up, level = self.degrade(x, generator)
        fps = self.frame_rates(batch, generator)
        x_t, t = self.diffuse(x, generator)
        x_hat = self.predict(network, x_t, t, up, level, fps)
        return weighted_loss(x_hat, x, t, self.recipe.noise.weight_floor)

    def contact_sheet(self, network):
        from ...video import contact_sheet

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
