"""The samplers sample by sample against a flow whose solution is known, and the interpolator's masks."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from makeavideo.sampling import make_scheduler, sample
from makeavideo.training.masks import draw_masks

MEAN, STD = 0.4, 0.25


def denoise_gaussian(x_t, t):
    """E[x | x_t] for x ~ N(MEAN, STD^2): what a perfectly trained network would say."""
    gain = (1 - t) * STD**2 / ((1 - t) ** 2 * STD**2 + t**2)
    return MEAN + gain * (x_t - (1 - t) * MEAN)


@pytest.mark.parametrize(
    "scheduler, steps, tolerance",
    [
        (make_scheduler(), 24, 0.01),
        (make_scheduler(shift=2.0), 24, 0.01),
        (FlowMatchEulerDiscreteScheduler(), 300, 0.01),
        (FlowMatchEulerDiscreteScheduler(shift=2.0), 300, 0.01),
    ],
)
def test_gaussian_is_recovered(scheduler, steps, tolerance):
    """The flow's exact solution takes noise n to MEAN + STD n, sample by sample."""
    noise = torch.randn(1, 1, 20000, generator=torch.Generator().manual_seed(0))
    made = sample(denoise_gaussian, noise, scheduler, steps)
    assert abs(made.mean() - MEAN) < tolerance
    assert abs(made.std() - STD) < tolerance
    assert (made - (MEAN + STD * noise)).square().mean().sqrt() < 2 * tolerance


def test_few_steps_lose_spread_but_no_more_than_their_last_leap():
    """From the last level t on, the sampler takes the mean of what may be: that spread is lost."""
    noise = torch.randn(20000, generator=torch.Generator().manual_seed(0))
    scheduler = make_scheduler(shift=2.0)
    made = sample(denoise_gaussian, noise, scheduler, 8)
    t = scheduler.sigmas[-2]
    kept = (1 - t) * STD**2 / ((1 - t) ** 2 * STD**2 + t**2).sqrt()
    assert abs(made.mean() - MEAN) < 0.02
    assert abs(made.std() - kept) < 0.02


def test_a_scheduler_can_be_used_again():
    noise, scheduler = torch.randn(10), make_scheduler()
    first = sample(denoise_gaussian, noise, scheduler, 4)
    assert torch.equal(sample(denoise_gaussian, noise, scheduler, 4), first)


def test_shift_spends_more_steps_at_high_noise():
    plain, shifted = make_scheduler(1.0), make_scheduler(3.0)
    plain.set_timesteps(10)
    shifted.set_timesteps(10)
    assert (shifted.sigmas[1:-1] > plain.sigmas[1:-1]).all()


@pytest.mark.parametrize("num_frames", [1, 2, 16])
def test_masks(num_frames):
    masks = draw_masks(400, num_frames, torch.Generator().manual_seed(0), 0.67)
    assert masks.shape == (400, num_frames)
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    assert (masks.sum(1) >= 1).all()
    assert torch.equal(masks, draw_masks(400, num_frames, torch.Generator().manual_seed(0), 0.67))


def test_masks_are_of_every_kind():
    masks = draw_masks(2000, 16, torch.Generator().manual_seed(0), 0.67)
    every_fifth, both_ends, first_only = torch.zeros(3, 16)
    every_fifth[::5] = 1
    both_ends[0] = both_ends[-1] = 1
    first_only[0] = 1
    assert 0.62 < (masks == every_fifth).all(1).float().mean() < 0.72
    assert (masks == both_ends).all(1).any()
    others = ~(masks == every_fifth).all(1)
    assert 0.45 < (masks[others] == first_only).all(1).float().mean() < 0.7  # a picture that is to move
    assert (masks.sum(0) > 10).all()  # any frame may be given
