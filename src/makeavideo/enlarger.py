"""A super-resolution network at work, of either kind: one step, or diffusion as in the paper (section 3.2)."""

from collections.abc import Callable

import torch
from torch import Tensor

from .inflation import VideoUNet
from .sampling import TIMESTEPS, frame_noise, sample, upsample
from .super_resolution import SuperResolver


class Enlarger:
    """Small frames -> large frames: `enlarge(small, fps)`, as often as a video has parts.

    A `SuperResolver` makes them in one step. A `VideoUNet` diffuses them, `steps` steps from noise that is drawn once
    and is the same for all frames of all parts (section 3.2.1), as something to add to bilinear up-sampling.

    Args:
        factor: large pixels a small one, along each side.
        steps: of diffusion; a `SuperResolver` takes one, whatever is asked for.
    """

    def __init__(
        self,
        network: VideoUNet | SuperResolver,
        scheduler,
        factor: int,
        steps: int,
        generator: torch.Generator | None,
    ):
        self.network, self.scheduler, self.factor, self.generator = network, scheduler, factor, generator
        self.at_once = isinstance(network, SuperResolver)
        self.steps = 1 if self.at_once else steps
        self.noise: Tensor | None = None

    def __call__(
        self,
        small: Tensor,
        fps: Tensor | None = None,
        on_step: Callable[[int, Tensor, Tensor], None] = lambda *_: None,
    ) -> Tensor:
        """(batch, frames, 3, h, w) -> (batch, frames, 3, factor * h, factor * w), both in [-1, 1].

        fps: (batch,), for networks with temporal layers; on_step: called with (step, timestep, frames as they are).
        """
        if self.at_once:
            made = self.network(small.to(self.network.dtype)).float().clamp(-1, 1)
            on_step(0, torch.zeros((), device=made.device), made)
            return made
        up = upsample(small, small.shape[-1] * self.factor)
        if self.noise is None:
            self.noise = frame_noise((len(up), 1, *up.shape[2:]), self.generator).to(up.device)
        level = torch.zeros(len(up), device=up.device)  # in training the small frames are noised; these are not

        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            x = torch.cat([x_t, up], 2).to(self.network.dtype)
            return up + self.network(x, t * TIMESTEPS, fps=fps, class_labels=level).sample.float()

        return sample(predict, self.noise.expand_as(up), self.scheduler, self.steps, on_step).clamp(-1, 1)
