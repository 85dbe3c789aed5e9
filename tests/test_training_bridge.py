"""Clips that are learnt on the way from what D_t begins with in use."""

import pytest
import torch

from makeavideo.sampling import add_noise, cross_fade, frame_noise, make_scheduler, sample
from makeavideo.training.losses import diffuse, draw_levels
from makeavideo.training.recipe import NoiseRecipe

KNOWN = torch.tensor([[1.0, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 0, 0, 1], [0, 0, 0, 0, 0]])


def test_clips_are_on_the_straight_way_from_known_frames_that_are_noised():
    x, start = torch.randn(4, 5, 3, 8, 8), 0.7
    noise = NoiseRecipe(shared=0.5, bridge=1.0, bridge_levels=(start, start))
    x_t, t = diffuse(x, noise, torch.Generator().manual_seed(3), KNOWN)
    again = torch.Generator().manual_seed(3)
    usual = draw_levels(4, noise, again)
    n = frame_noise(x.shape, again, noise.shared)
    assert (t[:3] <= start).all() and t[3] == usual[3]  # nothing is known of the last one: noised as ever
    x_T = add_noise(cross_fade(x[:3], KNOWN[:3]), n[:3], torch.full((3,), start))
    way = (t[:3] / start)[:, None, None, None, None]
    torch.testing.assert_close(x_t[:3], x[:3] + way * (x_T - x[:3]))
    torch.testing.assert_close(x_t[3:], add_noise(x[3:], n[3:], t[3:]))


def test_the_sampler_goes_that_way():
    """A network that knows the clip meets, at every level, what it has learnt from."""
    x, n, at = torch.randn(1, 5, 3, 8, 8), torch.randn(1, 5, 3, 8, 8), []
    held = cross_fade(x, KNOWN[:1])

    def knows(x_t, t):
        at.append((x_t, t))
        return x

    made = sample(knows, n, make_scheduler(2.0), 8, start=held, strength=0.7)
    begun, start = at[0]
    torch.testing.assert_close(begun, add_noise(held, n, start.reshape(1)))
    for x_t, t in at:
        torch.testing.assert_close(x_t, x + (t / start) * (begun - x), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(made, x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_share_of_the_clips_is(share):
    noise = NoiseRecipe(bridge=share, bridge_levels=(0.5, 0.8))
    x, known = torch.zeros(400, 5, 1, 1, 1), KNOWN[:1].expand(400, -1)
    x[:, 1:] = 100
    x_t, t = diffuse(x, noise, torch.Generator().manual_seed(0), known)
    # of frames of 100 copies of a frame of 0 take something away
    taken = (1 - t) * 100 - x_t[:, 1:].mean((1, 2, 3, 4)) > 4
    assert abs(taken.float().mean() - share) < 0.08
