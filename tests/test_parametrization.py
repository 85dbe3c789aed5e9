"""Networks of noise and of velocity, read as networks of the clean picture: against diffusers' own DDIM."""

from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from diffusers_unets import clip, ddpm, kandinsky, stable_diffusion, unclip
from makeavideo import UserError, VideoUNet, inflate, parametrization
from makeavideo.figures import TIMESTEPS
from makeavideo.parametrization import Parametrization, own_weight
from makeavideo.sampling import make_scheduler, sample
from makeavideo.training.losses import weighted_loss

SCHEDULES = {
    "linear": {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
    "scaled linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "squared cosine": {"beta_schedule": "squaredcos_cap_v2"},
}


def network_of(make):
    """(unet, conditions)"""
    torch.manual_seed(0)
    unet, told = make()
    return unet.eval(), told


def by_ddim(unet, noise, scheduler, steps, **conditions):
    """The picture that diffusers makes."""
    scheduler.set_timesteps(steps)
    x = noise
    for timestep in scheduler.timesteps:
        made = unet(x, timestep, **conditions).sample[:, : x.shape[1]]  # a learned variance comes after the mean
        x = scheduler.step(made, timestep, x, use_clipped_model_output=True).prev_sample
    return x


def by_us(network, noise, scheduler, steps, **conditions):
    """Euler's steps along the flow line, at the noise levels of DDIM's timesteps; (b, 1, c, h, w)."""
    scheduler.set_timesteps(steps)
    signal = scheduler.alphas_cumprod.double()[scheduler.timesteps]
    sigma = ((1 - signal) / signal).sqrt()
    levels = [*(sigma / (1 + sigma)).tolist(), 0.0]
    spread = lambda t: ((1 - t) ** 2 + t**2) ** 0.5  # noqa: E731
    x_t = noise * spread(levels[0])
    for t, after in pairwise(levels):
        x_hat = network(x_t, t * TIMESTEPS, **conditions).sample
        x_t = x_t + (after - t) * (x_t - x_hat) / t
    return x_t


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("make", [ddpm, kandinsky, stable_diffusion])
@torch.no_grad()
def test_the_picture_is_that_of_ddim(prediction, schedule, make):
    unet, told = network_of(make)
    scheduler = DDIMScheduler(**schedule, prediction_type=prediction, clip_sample=False, set_alpha_to_one=True)
    network = inflate(unet, prediction=prediction, schedule=schedule)
    noise = clip(unet, 1)[:, 0]
    expected = by_ddim(unet, noise, scheduler, 20, **told)
    made = by_us(network, noise[:, None], scheduler, 20, **told)[:, 0]
    assert (made - expected).abs().max() < 1e-3 * max(1, expected.abs().max())


@pytest.mark.parametrize("bounds", [{}, {"clip_sample": True, "clip_sample_range": 0.5}, {"thresholding": True}])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@torch.no_grad()
def test_the_sampler_takes_the_steps_of_ddim(spacing, bounds):
    """A network with a learned variance, through `sample` and a scheduler that pipelines use."""
    unet, told = network_of(unclip)
    schedule = {**SCHEDULES["scaled linear"], "timestep_spacing": spacing, **bounds}
    network = inflate(unet, prediction="epsilon", schedule=schedule)
    assert network.config.unet_config["out_channels"] == network.out_channels == 4
    scheduler = DDIMScheduler(**{"clip_sample": False, **schedule}, set_alpha_to_one=True)
    noise = clip(unet, 1)
    expected = by_ddim(unet, noise[:, 0], scheduler, 10, **told)
    predict = lambda x_t, t: network.bounded(network(x_t, t * TIMESTEPS, **told).sample)  # noqa: E731
    made = sample(predict, noise, make_scheduler(solver_order=1), 10, levels=network.levels(10))[:, 0]
    assert (made - expected).abs().max() < 1e-3 * max(1, expected.abs().max())


@torch.no_grad()
def test_a_clip_is_its_pictures_and_levels_may_differ():
    network = inflate(network_of(ddpm)[0], prediction="epsilon", schedule=SCHEDULES["linear"])
    frames, levels = torch.randn(1, 4, 3, 8, 8), torch.tensor([[0.1, 0.9, 0.5, 0.0]]) * TIMESTEPS
    together = network(frames, levels).sample
    for frame in range(4):
        alone = network(frames[:, frame : frame + 1], levels[:, frame : frame + 1]).sample
        assert (together[:, frame : frame + 1] - alone).abs().max() < 1e-4
    assert (together[:, 3] - frames[:, 3]).abs().max() < 0.02  # without noise nothing changes


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_timesteps_of_noise_levels(schedule):
    table = DDPMScheduler(**schedule).alphas_cumprod.double()
    sigma = ((1 - table) / table).sqrt()
    found = Parametrization("epsilon", schedule).timestep(sigma / (1 + sigma))
    assert (found - torch.arange(1000)).abs().max() < 0.01


@torch.no_grad()
def test_half_precision_is_close_at_high_noise():
    """x_t is divided in float32, though the network is of half precision."""
    network = inflate(network_of(ddpm)[0], prediction="epsilon", schedule=SCHEDULES["linear"])
    x_t = torch.randn(1, 2, 3, 8, 8)
    expected = network(x_t, 0.9 * TIMESTEPS).sample
    made = network.to(torch.bfloat16)(x_t, 0.9 * TIMESTEPS).sample
    assert made.dtype == torch.float32 and (made - expected).abs().max() < 0.05 * expected.abs().max()


def test_it_survives_saving(tmp_path):
    network = inflate(network_of(ddpm)[0], prediction="v_prediction", schedule=SCHEDULES["squared cosine"])
    network.save_pretrained(tmp_path)
    again = VideoUNet.from_pretrained(tmp_path)
    clip = torch.randn(1, 2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(again(clip, 300).sample, network(clip, 300).sample)
    assert again.config.prediction == "v_prediction"


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_loss_is_that_of_the_networks_own_target(prediction):
    generator = torch.Generator().manual_seed(0)
    x, noise, answer = (torch.randn(4, 2, 3, 8, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    t = torch.tensor([0.2, 0.5, 0.8, 0.95], dtype=torch.float64)
    level = t[:, None].expand(4, 2)
    spread = own_weight("v_prediction", t).sqrt().view(4, 1, 1, 1, 1)
    signal, sigma = (1 - t.view(4, 1, 1, 1, 1)) / spread, t.view(4, 1, 1, 1, 1) / spread
    x_vp = signal * x + sigma * noise
    target = noise if prediction == "epsilon" else signal * noise - sigma * x
    x_hat = Parametrization(prediction, SCHEDULES["linear"]).clean(answer, x_vp, level)
    found = weighted_loss(x_hat, x, t, 0.0, prediction=prediction)
    assert torch.allclose(found, (answer - target).square().mean(), rtol=1e-4)


def test_what_is_no_schedule_is_one_sentence():
    with pytest.raises(UserError, match="use sample, epsilon or v_prediction"):
        inflate(network_of(ddpm)[0], prediction="noise", schedule=SCHEDULES["linear"])
    with pytest.raises(UserError, match="none of a DDPM's"):
        inflate(network_of(ddpm)[0], prediction="epsilon", schedule={"beta_schedule": "straight"})


def test_no_double_lies_on_a_device_that_has_none(monkeypatch):
    """Apple's GPUs: there the timestep is computed on the processor."""
    assert parametrization.where_doubles_are(torch.device("mps", 0)) == torch.device("cpu")
    assert parametrization.where_doubles_are(torch.device("cuda", 1)) == torch.device("cuda", 1)
    t = torch.linspace(0.01, 0.99, 7)
    one = Parametrization("epsilon", {})
    before = one.timestep(t)
    asked = []
    monkeypatch.setattr(parametrization, "where_doubles_are", lambda device: asked.append(device) or device)
    assert torch.equal(one.timestep(t), before) and asked == [torch.device("cpu")]
