"""What F-up sees and says, of both kinds: one interface, given frames kept, the right answer gives the clip back."""

import pytest
import torch

from makeavideo.errors import UserError
from makeavideo.filling import LARGEST_CORRECTION, FirstGuess, Masked, filling_of


@pytest.fixture
def clip():
    return torch.rand(2, 6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def mask():
    return torch.tensor([[1.0, 0, 0, 0, 0, 1], [1, 1, 0, 0, 0, 0]])


@pytest.mark.parametrize("kind", [FirstGuess, Masked])
def test_it_is_found_by_the_channels_that_the_network_sees(kind, clip, mask):
    shown = kind(clip, mask)
    assert filling_of(kind.extra_channels) is kind
    with pytest.raises(UserError, match=r"sees 7 channels .* one of latents 5"):
        filling_of(7, of_latents=True)
    x_t = shown.noise(torch.Generator().manual_seed(1))
    assert x_t.shape == clip.shape
    assert shown.seen(x_t).shape[2] == 3 + kind.extra_channels


@pytest.mark.parametrize("kind", [FirstGuess, Masked])
def test_given_frames_stay_whatever_the_network_says(kind, clip, mask):
    shown = kind(clip, mask)
    made = shown.frames(shown.answer(torch.full_like(clip, 7.0)))
    given = mask.bool()
    assert torch.equal(made[given], clip[given])
    assert made.abs().max() <= 1


@pytest.mark.parametrize("kind", [FirstGuess, Masked])
def test_the_right_answer_is_the_clip(kind, clip, mask):
    shown = kind(clip * mask[:, :, None, None, None], mask)
    right = shown.target(clip)
    made = shown.frames(right)
    near = right.abs() < LARGEST_CORRECTION  # what could not be foreseen is cut off
    assert torch.allclose(made[near], clip[near], atol=1e-5)
    assert near.float().mean() > 0.5


@pytest.mark.parametrize("kind", [FirstGuess, Masked])
def test_frames_that_are_not_given_are_not_seen(kind, clip, mask):
    x_t = torch.zeros_like(clip)
    other = torch.where(mask[:, :, None, None, None] > 0, clip, -clip)
    assert torch.equal(kind(clip, mask).seen(x_t), kind(other, mask).seen(x_t))


def test_the_guess_is_corrected_in_one_step_without_noise(clip, mask):
    generator = torch.Generator().manual_seed(0)
    ours, paper = FirstGuess(clip, mask), Masked(clip, mask)
    assert ours.at_once and ours.steps(16) == 1
    assert not ours.noise(generator).any()
    assert not paper.at_once and paper.steps(16) == 16
    assert paper.noise(generator).std() > 0.9
