"""Samplers and encoders against what can be computed exactly and against libraries."""

import itertools
import math

import pytest
import torch

from conftest import tiny_text_encoder
from makeavideo.encoders import embed_images, embed_text, load_text_encoder
from makeavideo.sampling import add_noise, frame_noise, guide, make_scheduler, sample, upsample

MEAN, VARIANCE = 1.0, 0.25


def best_guess(x_t, t):
    """E[x | x_t] for x ~ N(MEAN, VARIANCE): what a perfectly trained clean-picture network gives."""
    signal = 1 - t
    return MEAN + signal * VARIANCE / (signal**2 * VARIANCE + t**2) * (x_t - signal * MEAN)


@pytest.mark.parametrize("order, steps, tolerance", [(1, 64, 0.04), (2, 16, 0.03), (2, 64, 0.01)])
def test_sampler_recovers_a_gaussian(order, steps, tolerance):
    noise = torch.randn(50_000, generator=torch.Generator().manual_seed(0))
    made = sample(best_guess, noise, make_scheduler(2.0, order), steps)
    assert abs(made.mean() - MEAN) < tolerance
    assert abs(made.std() - math.sqrt(VARIANCE)) < tolerance


def test_the_same_function_drives_diffusers_euler_scheduler():
    from diffusers import FlowMatchEulerDiscreteScheduler

    noise = torch.randn(50_000, generator=torch.Generator().manual_seed(0))
    euler = sample(best_guess, noise, FlowMatchEulerDiscreteScheduler(shift=2.0), 200)
    second = sample(best_guess, noise, make_scheduler(2.0), 200)
    assert (euler - second).abs().mean() < 0.02


def test_steps_are_reported_in_order():
    seen = []
    sample(best_guess, torch.zeros(3), make_scheduler(), 5, lambda step, timestep, x_hat: seen.append((step, timestep)))
    assert [step for step, _ in seen] == list(range(5))
    assert all(a > b for (_, a), (_, b) in itertools.pairwise(seen))


def test_noise_is_a_straight_line():
    x, n = torch.randn(2, 3, 3, 4, 4), torch.randn(2, 3, 3, 4, 4)
    t = torch.tensor([0.0, 1.0])
    mixed = add_noise(x, n, t)
    assert torch.equal(mixed[0], x[0]) and torch.equal(mixed[1], n[1])


def test_frame_noise():
    shared = frame_noise((2, 5, 3, 4, 4), torch.Generator().manual_seed(0), shared=True)
    assert torch.equal(shared[:, 0], shared[:, 4]) and not torch.equal(shared[0], shared[1])
    own = frame_noise((2, 5, 3, 4, 4), torch.Generator().manual_seed(0))
    assert not torch.equal(own[:, 0], own[:, 4])
    assert torch.equal(own, frame_noise((2, 5, 3, 4, 4), torch.Generator().manual_seed(0)))


def test_guidance():
    known, null = torch.randn(3), torch.randn(3)
    assert torch.allclose(guide(known, null, 1.0), known)
    assert torch.equal(guide(known, null, 0.0), null)


def test_upsample_keeps_a_flat_picture():
    low = torch.full((1, 2, 3, 4, 4), 0.25)
    assert torch.equal(upsample(low, 16), torch.full((1, 2, 3, 16, 16), 0.25))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return load_text_encoder(tiny_text_encoder(tmp_path_factory.mktemp("text")))


def test_a_text_has_one_embedding_whatever_stands_beside_it(text):
    alone = embed_text(*text, ["a cat"])
    padded = embed_text(*text, ["a cat", "a red rocket taking off the cat"])
    assert alone.shape == (1, 16)
    assert torch.allclose(alone[0], padded[0], atol=1e-6)
    assert torch.allclose(padded.norm(dim=-1), torch.ones(2))
    assert not torch.allclose(padded[0], padded[1], atol=1e-3)


def test_pictures_of_any_size_have_an_embedding_of_unit_numbers():
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
        projection_dim=8,
    )
    tower = CLIPVisionModelWithProjection(config).eval()
    for size in (16, 24, 64):
        embeds = embed_images(tower, torch.rand(2, 3, size, size) * 2 - 1)
        assert embeds.shape == (2, 8)
        assert torch.allclose(embeds.square().mean(-1), torch.ones(2), atol=1e-5)
