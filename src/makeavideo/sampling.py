"""Diffusion with networks that predict the clean picture: the training target and the samplers, as plain functions.

x_t = (1 - t) x + t n joins a clean sample x (t = 0) and noise n (t = 1) by a straight line (flow matching); the network
gives x_hat from x_t. The velocity that diffusers' flow schedulers expect is (x_t - x_hat) / t.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import UserError
from .figures import TIMESTEPS

DETAIL_TOLERANCE = 0.15
"""Change of a small frame's pixel, of the range -1 to 1, at which nothing is left of a given picture's detail."""


def add_noise(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) x + t n, with a noise level for each clip, t (b,), or for each frame, t (b, f)."""
    t = t.view(*t.shape, *[1] * (x.ndim - t.ndim))
    return (1 - t) * x + t * noise


Generators = torch.Generator | Sequence[torch.Generator] | None
"""What draws: one for a whole batch; one for each video, which is then the same as alone; or torch's own."""

OnStep = Callable[[int, Tensor, Tensor, Tensor], Tensor | None]
"""Called after a step with (step, timestep, x_t, x_hat); gives the x_t to go on from, or None to stop at x_hat."""


def generator_list(generator: Generators) -> list[torch.Generator | None]:
    """One for each part of a batch; one part, where there is one for all or none."""
    return list(generator) if isinstance(generator, Sequence) else [generator]


def forked(generator: Generators, count: int) -> list[list[torch.Generator]]:
    """`count` times new generators, one for each of these, seeded by one draw of it."""
    seeds = [
        int(torch.randint(2**62, (1,), generator=one, device="cpu" if one is None else one.device))
        for one in generator_list(generator)
    ]
    return [[torch.Generator().manual_seed(seed + number) for seed in seeds] for number in range(count)]


def copied(generators: Sequence[torch.Generator]) -> list[torch.Generator]:
    """Others that will draw the same."""
    return [one.clone_state() for one in generators]


def frame_noise(shape: tuple[int, ...], generator: Generators, shared: float = 0.0) -> Tensor:
    """Gaussian noise (b, f, ...), of whose variance the part `shared` is the same in every frame.

    0: each frame its own. 1: the same for all, which super-resolution needs (3.2.1). Between them a network of pictures
    starts with frames that look alike, whatever it makes of them (PYoCo, 2305.10474).

    Drawn on the generator's device, so that a seed gives the same noise wherever the networks run. Of several
    generators each draws an equal part of the batch.
    """
    if isinstance(generator, Sequence):
        part = (shape[0] // len(generator), *shape[1:])
        return torch.cat([frame_noise(part, one, shared) for one in generator])
    device = generator.device if generator is not None else "cpu"
    if shared == 0:
        return torch.randn(shape, generator=generator, device=device)
    common = torch.randn((shape[0], 1, *shape[2:]), generator=generator, device=device).expand(shape)
    if shared == 1:
        return common
    own = torch.randn(shape, generator=generator, device=device)
    return shared**0.5 * common + (1 - shared) ** 0.5 * own


def upsample(low: Tensor, size: Sequence[int]) -> Tensor:
    """(b, f, c, h, w) -> (b, f, c, *size), bilinear: where SR networks start."""
    up = F.interpolate(low.flatten(0, 1), tuple(size), mode="bilinear", align_corners=False)
    return up.unflatten(0, low.shape[:2])


def cross_fade(given: Tensor, mask: Tensor) -> Tensor:
    """Fill the frames that are not given by a linear blend of the given ones on either side.

    Args:
        given: (b, f, c, h, w).
        mask: (b, f), 1 where a frame is given, one or more in each clip; before the first and after the last
            of them that one is held.
    """
    frames = torch.arange(given.shape[1], device=given.device)
    known = mask > 0.5
    before = torch.where(known, frames, -1).cummax(1).values
    after = torch.where(known, frames, len(frames)).flip(1).cummin(1).values.flip(1)
    before, after = torch.where(before < 0, after, before), torch.where(after == len(frames), before, after)
    share = (frames - before) / (after - before).clamp(min=1)
    rows = torch.arange(len(given), device=given.device)[:, None]
    return torch.lerp(given[rows, before], given[rows, after], share[:, :, None, None, None].to(given.dtype))


@dataclass
class Anchor:
    """A given picture (b, 1, 3, h, w) that stands at a frame of the result, at its full size."""

    frame: int
    picture: Tensor


def add_details(
    frames: Tensor, low: Tensor, first: int, anchors: Sequence[Anchor], lows: list[Tensor], details: list[Tensor]
) -> Tensor:
    """Gives super-resolved frames the detail of the given pictures, wherever they still look like them.

    Super-resolution cannot know the fine detail of a given picture; without this the video would jump from the picture
    to its smooth copy. Between two anchors the share of one falls linearly as that of the other grows.

    Args:
        frames: (b, k, 3, height, width), the frames `first` to first + k - 1 of the video.
        low: the same frames before super-resolution (b, k, 3, h, w).
        lows, details: of each anchor, its picture made small, and what super-resolution lacks of the picture.
    """
    if not anchors:
        return frames
    places = torch.arange(first, first + frames.shape[1], device=frames.device, dtype=torch.float32)
    result = frames
    for number, (anchor, small, detail) in enumerate(zip(anchors, lows, details, strict=True)):
        share = torch.ones_like(places)
        for other in (*anchors[max(0, number - 1) : number], *anchors[number + 1 : number + 2]):
            away = (places - anchor.frame) / (other.frame - anchor.frame)
            share = torch.where(away > 0, (1 - away).clamp(min=0), share)
        unlike = (low - small).abs().amax(2, keepdim=True) / DETAIL_TOLERANCE
        alike = upsample((1 - unlike).clamp(min=0), frames.shape[-2:])
        result = result + alike * share[None, :, None, None, None] * detail
        at = (places == anchor.frame)[None, :, None, None, None]
        result = torch.where(at, anchor.picture, result)
    return result


def from_uint8(pixels) -> Tensor:
    """uint8 array (b, f, h, w, 3) -> (b, f, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(pixels.copy()).permute(0, 1, 4, 2, 3).float() / 127.5 - 1


def to_uint8(pixels: Tensor):
    """(b, f, 3, h, w) in [-1, 1] -> uint8 array (b, f, h, w, 3)."""
    scaled = (pixels.float().clamp(-1, 1) + 1) * 127.5
    return scaled.round().to(torch.uint8).permute(0, 1, 3, 4, 2).cpu().numpy()


def guide(conditional: Tensor, unconditional: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance: away from the unconditional prediction."""
    return unconditional + guidance_scale * (conditional - unconditional)


def steps_of(num_inference_steps: int, strength: float) -> int:
    """Steps that are run where a clean sample is begun with."""
    return max(1, round(num_inference_steps * strength))


@torch.no_grad()
def sample(
    predict: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    scheduler,
    num_inference_steps: int,
    on_step: OnStep | None = None,
    start: Tensor | None = None,
    strength: float = 1.0,
    levels: Sequence[float] | None = None,
) -> Tensor:
    """Run a flow-matching scheduler of diffusers with a clean-picture network.

    Args:
        predict: (x_t, t) -> x_hat, with t a 0-d tensor in (0, 1].
        noise: x_t at t = 1, float32.
        scheduler: DPMSolverMultistepScheduler (`prediction_type="flow_prediction"`) or FlowMatchEulerDiscreteScheduler.
        num_inference_steps: network evaluations.
        on_step: called after each step, and may change x_t or stop.
        start, strength: a clean sample to begin with and the part of the steps, the last ones, that are run on it after
            noise has been added to it (SDEdit); with strength 1 it is hardly seen.
        levels: noise levels of the steps, falling, for a network whose schedule does not reach from 1 to 0; None: the
            scheduler's own.

    Returns:
        The clean sample, shaped as `noise`.

    Raises:
        UserError: see `check_scheduler`.
    """
    check_scheduler(scheduler)
    scheduler.set_timesteps(num_inference_steps)
    x_t, begin = noise, 0
    if levels is not None:
        space(scheduler, levels)
        x_t = noise * math.hypot(1 - levels[0], levels[0])  # such a network begins with pictures of noise alone
    if start is not None:
        begin = num_inference_steps - steps_of(num_inference_steps, strength)
        scheduler.set_begin_index(begin)
        x_t = add_noise(start, noise, scheduler.sigmas[begin].to(start).expand(len(start)))
    for step, timestep in enumerate(scheduler.timesteps[begin:]):
        t = scheduler.sigmas[begin + step].to(x_t)
        x_hat = predict(x_t, t)
        x_t = scheduler.step((x_t - x_hat) / t, timestep, x_t, return_dict=False)[0]
        if on_step is not None:
            changed = on_step(step, timestep, x_t, x_hat)
            if changed is None:
                return x_hat
            x_t = changed
    return x_t


def space(scheduler: Any, levels: Sequence[float]) -> None:
    """Gives a scheduler, whose steps are set, other noise levels: of those that work here not all take any."""
    scheduler.sigmas = torch.tensor([*levels, 0.0])
    scheduler.timesteps = scheduler.sigmas[:-1] * TIMESTEPS


def is_unclip(scheduler: Any) -> bool:
    """Whether a network with this scheduler is run as in unCLIP's pipelines: a prior, or Karlo's super-resolution."""
    return type(scheduler).__name__ == "UnCLIPScheduler"


def check_scheduler(scheduler: Any) -> None:
    """These networks were trained on the line between picture and noise, so their scheduler has to follow it.

    Raises:
        UserError: it does not, or draws noise of its own.
    """
    name, config = type(scheduler).__name__, scheduler.config
    if name != "FlowMatchEulerDiscreteScheduler":
        solver = name in ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler")
        if not solver or config.prediction_type != "flow_prediction" or not config.use_flow_sigmas:
            raise UserError(
                f"{name} cannot run networks that learnt by flow matching: choose FlowMatchEulerDiscreteScheduler, or "
                "DPMSolverMultistepScheduler or UniPCMultistepScheduler with prediction_type='flow_prediction' and "
                "use_flow_sigmas=True."
            )
    if "sde" in config.get("algorithm_type", "") or config.get("stochastic_sampling"):
        raise UserError(
            f"{name} draws noise of its own here, which no seed repeats: choose algorithm_type='dpmsolver++'."
        )


def make_scheduler(shift: float = 1.0, solver_order: int = 2):
    """The scheduler that every pixel network of the cascade uses; `shift` > 1 spends more steps at high noise."""
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler(
        num_train_timesteps=TIMESTEPS,
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=shift,
        solver_order=solver_order,
        final_sigmas_type="zero",
    )
