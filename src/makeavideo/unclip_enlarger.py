"""Karlo's super-resolution at work: diffusion whose every step draws noise, and another network for the last step."""

import torch
from torch import Tensor

from .enlarger import upsampled
from .inflation import VideoUNet
from .prior import generator_a_row
from .sampling import Generators, OnStep, forked, frame_noise


class UnclipEnlarger:
    """Small frames -> large frames, as diffusers' UnCLIPPipeline makes pictures: see `enlarger.Enlarger`.

    All noise, that of the steps too, is the same for all frames of all parts of a video (section 3.2.1).

    Args:
        first: of noise, on its own schedule.
        last: takes the last step, at timestep 0; None: `first` does.
        scheduler: an UnCLIPScheduler.
        factor, steps, generator: as for `Enlarger`; of steps there are two at least.
    """

    def __init__(
        self,
        first: VideoUNet,
        last: VideoUNet | None,
        scheduler,
        factor: int,
        steps: int,
        generator: Generators,
    ):
        self.networks, self.scheduler, self.factor = (first, last or first), scheduler, factor
        self.steps, self.generator = max(2, steps), generator
        self.noise: Tensor | None = None
        self.draws: list[torch.Generator] = []

    def __call__(
        self,
        small: Tensor,
        fps: Tensor | None = None,
        on_step: OnStep = lambda step, timestep, x_t, x_hat: x_t,
    ) -> Tensor:
        """As `Enlarger.__call__`."""
        first, last = self.networks
        up = upsampled(first, small, [side * self.factor for side in small.shape[-2:]])
        if self.noise is None:
            given = self.generator if self.generator is not None else forked(None, 1)[0]
            self.draws = generator_a_row(given, len(up)) or []
            self.noise = frame_noise((len(up), 1, *up.shape[2:]), self.draws).to(up.device)
        x_t, draws = self.noise.expand_as(up), self.draws
        self.scheduler.set_timesteps(self.steps)
        timesteps = [*self.scheduler.timesteps, None]
        for step, timestep in enumerate(timesteps[:-1]):
            network = first if step + 1 < self.steps else last
            named = network(torch.cat([x_t, up], 2), timestep, fps=fps, own=True).sample.float()
            frames = []
            for noise, frame in zip(named.unbind(1), x_t.unbind(1), strict=True):
                drawn = alike(draws)
                after = timesteps[step + 1]
                frames.append(self.scheduler.step(noise, timestep, frame, prev_timestep=after, generator=drawn))
            draws = drawn
            x_t, x_hat = (
                torch.stack([getattr(frame, name) for frame in frames], 1)
                for name in ("prev_sample", "pred_original_sample")
            )
            changed = on_step(step, timestep, x_t, x_hat)
            if changed is None:
                return x_hat.clamp(-1, 1)
            x_t = changed
        return x_t.clamp(-1, 1)


def alike(generators: list[torch.Generator]) -> list[torch.Generator]:
    """Others that will draw the same; rows of one generator go on sharing one."""
    others = {id(one): one.clone_state() for one in generators}
    return [others[id(one)] for one in generators]
