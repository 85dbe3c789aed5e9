"""Diffusion with networks that predict the clean picture: the training target and the samplers, as plain functions.

x_t = (1 - t) x + t n joins a clean sample x (t = 0) and noise n (t = 1) by a straight line (flow matching); the network
gives x_hat from x_t. The velocity that diffusers' flow schedulers expect is (x_t - x_hat) / t.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

TIMESTEPS = 1000
"""Networks are told the noise level as `t * TIMESTEPS`, the range that diffusers' time embeddings are made for."""


def add_noise(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) x + t n, with one noise level t (batch,) for all frames of a clip."""
    t = t.view(-1, *[1] * (x.ndim - 1))
    return (1 - t) * x + t * noise


def frame_noise(shape: tuple[int, ...], generator: torch.Generator | None, shared: bool = False) -> Tensor:
    """Gaussian noise (batch, frames, ...); `shared`: the same for every frame, which super-resolution needs (3.2.1).

    Drawn on the generator's device, so that a seed gives the same noise wherever the networks run.
    """
    device = generator.device if generator is not None else "cpu"
    drawn = (shape[0], 1, *shape[2:]) if shared else shape
    return torch.randn(drawn, generator=generator, device=device).expand(shape)


def upsample(low: Tensor, size: int) -> Tensor:
    """(batch, frames, channels, h, w) -> (batch, frames, channels, size, size), bilinear: where SR networks start."""
    up = F.interpolate(low.flatten(0, 1), (size, size), mode="bilinear", align_corners=False)
    return up.unflatten(0, low.shape[:2])


def to_uint8(pixels: Tensor):
    """(batch, frames, 3, h, w) in [-1, 1] -> uint8 array (batch, frames, h, w, 3)."""
    scaled = (pixels.float().clamp(-1, 1) + 1) * 127.5
    return scaled.round().to(torch.uint8).permute(0, 1, 3, 4, 2).cpu().numpy()


def guide(conditional: Tensor, unconditional: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance: away from the unconditional prediction."""
    return unconditional + guidance_scale * (conditional - unconditional)


@torch.no_grad()
def sample(
    predict: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    scheduler,
    num_inference_steps: int,
    on_step: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """Run a flow-matching scheduler of diffusers with a clean-picture network.

    Args:
        predict: (x_t, t) -> x_hat, with t a 0-d tensor in (0, 1].
        noise: x_t at t = 1, float32.
        scheduler: DPMSolverMultistepScheduler (`prediction_type="flow_prediction"`) or FlowMatchEulerDiscreteScheduler.
        num_inference_steps: network evaluations.
        on_step: called after each step with (step, timestep, x_hat).

    Returns:
        The clean sample, shaped as `noise`.
    """
    scheduler.set_timesteps(num_inference_steps)
    x_t = noise
    for step, timestep in enumerate(scheduler.timesteps):
        t = scheduler.sigmas[step].to(x_t)
        x_hat = predict(x_t, t)
        x_t = scheduler.step((x_t - x_hat) / t, timestep, x_t, return_dict=False)[0]
        if on_step is not None:
            on_step(step, timestep, x_hat)
    return x_t


def make_scheduler(shift: float = 1.0, solver_order: int = 2):
    """The scheduler that every pixel network of the cascade uses; `shift` > 1 spends more steps at high noise."""
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler(
        num_train_timesteps=TIMESTEPS,
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=shift,
        solver_order=solver_order,
        final_sigmas_type="zero",
    )
