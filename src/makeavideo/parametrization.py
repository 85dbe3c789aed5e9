"""Networks that were trained on another schedule or target, read as networks of the clean picture on the flow line.

Everything here speaks of x_t = (1 - t) x + t n and of x_hat. A network of noise (epsilon) or of velocity (v) on a DDPM
schedule says the same after a change of variables: with abar = (1 - t)^2 / ((1 - t)^2 + t^2) it has to be shown
x_vp = x_t / sqrt((1 - t)^2 + t^2), at the timestep whose alphas_cumprod is abar. Euler's step from its x_hat is DDIM's.
"""

import math
from typing import Any, Literal

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from .errors import UserError

Prediction = Literal["sample", "epsilon", "v_prediction"]
LARGEST_LEVEL = 0.999
"""Of noise that such a network is asked about: at 1 nothing of the picture is left to divide by."""
SMALLEST_LEVEL = 1e-4


class Parametrization:
    """What a network predicts, on which schedule.

    Args:
        prediction: "epsilon" or "v_prediction", as diffusers calls them.
        schedule: fields of a DDPMScheduler's config: num_train_timesteps, beta_schedule, beta_start, beta_end; how its
            timesteps are spaced; and, where its sampler keeps predictions within bounds, clip_sample or thresholding.

    Raises:
        UserError: a schedule or target that is none.
    """

    def __init__(self, prediction: Prediction, schedule: dict[str, Any]):
        if prediction not in ("epsilon", "v_prediction"):
            raise UserError(f"prediction is {prediction!r}: use sample, epsilon or v_prediction")
        try:
            with torch.device("cpu"):  # also where a network is made without memory
                self._scheduler = DDPMScheduler(**schedule)
        except (TypeError, NotImplementedError) as error:
            raise UserError(f"the schedule {schedule} is none of a DDPM's: {error}") from None
        table = self._scheduler.alphas_cumprod.double()
        self.prediction = prediction
        self._bound = schedule.get("clip_sample_range", 1.0) if schedule.get("clip_sample") else math.inf
        self._thresholding = bool(schedule.get("thresholding"))
        self._log_snr = torch.log(table / (1 - table)).flip(0)  # ascending

    def levels(self, steps: int) -> list[float]:
        """Noise levels t of the timesteps that a DDIM sampler of so many steps takes, falling."""
        self._scheduler.set_timesteps(steps)
        last = len(self._log_snr) - 1
        log_snr = self._log_snr[(last - self._scheduler.timesteps).clamp(0, last)]
        return (1 / (1 + torch.exp(log_snr / 2))).clamp(max=LARGEST_LEVEL).tolist()

    def bounded(self, x_hat: Tensor) -> Tensor:
        """A prediction (b, f, c, h, w) as this network's own sampler cuts it."""
        if self._thresholding:
            return self._scheduler._threshold_sample(x_hat.flatten(0, 1)).unflatten(0, x_hat.shape[:2])
        return x_hat.clamp(-self._bound, self._bound)

    def timestep(self, t: Tensor) -> Tensor:
        """The timestep, with a fraction, at which this network saw as much noise as there is at t; shaped as t."""
        exact = t.to(where_doubles_are(t.device)).double()
        known = self._log_snr.to(exact.device)
        wanted = 2 * torch.log((1 - exact) / exact)
        above = torch.searchsorted(known, wanted.contiguous()).clamp(1, len(known) - 1)
        low, high = known[above - 1], known[above]
        place = above - 1 + ((wanted - low) / (high - low)).clamp(0, 1)
        return (len(known) - 1 - place).float().to(t.device)

    def seen(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """(x_vp, timestep) for x_t (b, f, c, h, w) at levels t (b, f)."""
        t = askable(t)
        return x_t / spread(t).view(*t.shape, 1, 1, 1), self.timestep(t)

    def clean(self, made: Tensor, x_vp: Tensor, t: Tensor) -> Tensor:
        """x_hat, from what the network made of x_vp; float32."""
        t = askable(t).view(*t.shape, 1, 1, 1)
        signal, noise = (1 - t) / spread(t), t / spread(t)  # sqrt(abar), sqrt(1 - abar)
        if self.prediction == "v_prediction":
            return signal * x_vp - noise * made.float()
        return (x_vp - noise * made.float()) / signal


def where_doubles_are(device: torch.device) -> torch.device:
    """Apple's GPUs have no float64."""
    return torch.device("cpu") if device.type == "mps" else device


def askable(t: Tensor) -> Tensor:
    """Levels that such a network can be asked about, float32."""
    return t.float().clamp(SMALLEST_LEVEL, LARGEST_LEVEL)


def spread(t: Tensor) -> Tensor:
    """The standard deviation of x_t where that of pictures is 1."""
    return ((1 - t).square() + t.square()).sqrt()


def own_weight(prediction: Prediction, t: Tensor) -> Tensor:
    """By what |x_hat - x|^2 / t^2 has to be multiplied to be the loss of the network's own target, shaped as t.

    A network of the clean picture is trained on the velocity of the flow, so there it is 1.
    """
    if prediction == "epsilon":
        return (1 - t).square()
    return spread(t).square() if prediction == "v_prediction" else torch.ones_like(t)


def mean_alone(config: Any, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights without those of a learned variance (Improved DDPM), which follows the mean in the last channels."""
    if config.out_channels != 2 * config.in_channels:
        return weights
    halves = {name: weights[name][: config.in_channels] for name in ("conv_out.weight", "conv_out.bias")}
    return {**weights, **halves}
