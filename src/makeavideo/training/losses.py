"""Noise, and how far off a prediction of the clean frames is: flow matching for a network that names the clean frames.

x_t = (1 - t) x + t n, with noise levels t in (0, 1); frames are (batch, frames, 3, h, w).
"""

import torch
from torch import Tensor

from ..parametrization import Prediction, own_weight
from ..sampling import add_noise, cross_fade, frame_noise
from .recipe import NoiseRecipe


def draw_levels(batch: int, noise: NoiseRecipe, generator: torch.Generator) -> Tensor:
    """t (batch,): sigmoid(mean + std N(0, 1)), on the generator's device."""
    return torch.sigmoid(noise.mean + noise.std * torch.randn(batch, generator=generator, device=generator.device))


def diffuse(
    x: Tensor, noise: NoiseRecipe, generator: torch.Generator, known: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(x_t, t) of clean frames x, at levels t (batch,) drawn as the recipe says.

    known: (batch, frames), 1 where a frame is shown, which is noised here like the others.
    """
    t = draw_levels(x.shape[0], noise, generator).to(x.device)
    n = frame_noise(x.shape, generator, noise.shared).to(x.device)
    if known is None or not noise.bridge:
        return add_noise(x, n, t), t
    t, held = bridge(t, known, noise, generator)
    begun = cross_fade(x, torch.where(known.any(1, keepdim=True), known, 1.0))
    return add_noise(torch.lerp(x, begun, held[:, None, None, None, None]), n, t), t


def bridge(t: Tensor, known: Tensor, noise: NoiseRecipe, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Levels (batch,) of clips that are on the way from known frames, and the part of those in them, (batch,).

    A clip that D_t grows from a picture begins with copies of it, x_T = (1 - T) held + T n (SDEdit), and not with the
    frames that it is to end with. On the straight way between the two, x_t = x + (t / T) (x_T - x), there is
    (1 - t / T) of the frames, (t / T) (1 - T) of the copies, and t of noise; so the velocity is (x_t - x) / t as ever,
    and sampling is the same. Learnt from noised clips alone the copies would say that nothing moves.
    """
    draws = torch.rand(3, len(t), generator=generator, device=generator.device).to(t.device)
    low, high = noise.bridge_levels
    start = low + (high - low) * draws[1]
    way = draws[2].sqrt()
    on_it = (draws[0] < noise.bridge) & (known > 0).any(1)
    level = torch.where(on_it, way * start, t)
    return level, torch.where(on_it, way * (1 - start) / (1 - way * start), 0.0)


def denoising_loss(
    x_hat: Tensor,
    x: Tensor,
    t: Tensor,
    noise: NoiseRecipe,
    wanted: Tensor | None = None,
    prediction: Prediction = "sample",
) -> Tensor:
    """What D_t and F-up learn by: `weighted_loss` and, where the recipe asks for it, `gradient_loss`.

    prediction: what the network names; each is weighted as its own target asks.
    """
    loss = weighted_loss(x_hat, x, t, noise.weight_floor, wanted, prediction)
    if noise.gradient:
        loss = loss + noise.gradient * gradient_loss(x_hat, x, t, noise.weight_floor, wanted)
    return loss


def weighted_loss(
    x_hat: Tensor,
    x: Tensor,
    t: Tensor,
    floor: float,
    wanted: Tensor | None = None,
    prediction: Prediction = "sample",
) -> Tensor:
    """|x_hat - x|^2 / max(t, floor)^2: the velocity's loss, written for a clean-picture network.

    t: (batch,), or one a frame, (batch, frames). wanted: 1 for the frames that count, (batch, frames); None: all.
    prediction: as in `denoising_loss`.
    """
    error = (x_hat - x).square()
    if x.ndim == 2:
        return (error.mean(1) / t.clamp(min=floor).square()).mean()
    level = per_frame_level(t, x)
    return frame_mean(error, own_weight(prediction, level) / level.clamp(min=floor).square(), wanted)


def gradient_loss(x_hat: Tensor, x: Tensor, t: Tensor, floor: float, wanted: Tensor | None = None) -> Tensor:
    """L1 of the x- and y-gradients, the cheapest sharpener; only where less than 0.7 is noise (PixelGen, 2602.02493).

    At higher noise the clean picture is unknown, and the median of what it may be is no sharper than the mean.
    Arguments as those of `weighted_loss`.
    """
    off = x_hat - x
    level = per_frame_level(t, x)
    weight = (level < 0.7) / level.clamp(min=floor)
    across, along = (frame_mean(off.diff(dim=axis).abs(), weight, wanted) for axis in (-1, -2))
    return across + along


def per_frame_level(t: Tensor, x: Tensor) -> Tensor:
    """Noise levels (batch, frames) of clips x from (batch,) or (batch, frames)."""
    return (t if t.ndim == 2 else t[:, None]).expand(x.shape[:2])


def frame_mean(error: Tensor, weight: Tensor, wanted: Tensor | None) -> Tensor:
    """Weighted mean over frames of an error (batch, frames, ...); weight and wanted (batch, frames)."""
    error = error.flatten(2).mean(2) * weight
    return error.mean() if wanted is None else (error * wanted).sum() / wanted.sum().clamp(min=1)
