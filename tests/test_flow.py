"""F-up's first guess: along the optical flow where two given frames are near, a cross-fade elsewhere."""

import multiprocessing
import time

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, shift

from makeavideo.flow import FAR_UNIT, Flow, first_guess
from makeavideo.sampling import cross_fade

SIZE = 64


def texture(seed: int) -> np.ndarray:
    """A smooth random picture (SIZE, SIZE, 3) in [-1, 1]."""
    noise = np.random.default_rng(seed).normal(size=(SIZE, SIZE, 3))
    smooth = gaussian_filter(noise, (3, 3, 0), mode="wrap")
    return (smooth / np.abs(smooth).max()).astype(np.float32)


def sliding(num_frames: int, step: float) -> torch.Tensor:
    """A texture that moves by (step, 2 step) pixels a frame: (1, num_frames, 3, SIZE, SIZE)."""
    frames = [
        shift(texture(0), (step * i, 2 * step * i, 0), order=3, mode="grid-wrap").clip(-1, 1) for i in range(num_frames)
    ]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)[None].float()


def every_fifth(num_frames: int) -> torch.Tensor:
    mask = torch.zeros(1, num_frames)
    mask[:, ::5] = 1
    return mask


def test_what_moves_is_moved_and_not_shown_twice():
    clip, mask = sliding(11, 0.5), every_fifth(11)
    given = clip * mask[:, :, None, None, None]
    guess, unit = first_guess(given, mask)
    inner = (..., slice(10, -10), slice(10, -10))
    error = (guess - clip)[inner].square().mean()
    assert error < 0.1 * (cross_fade(given, mask) - clip)[inner].square().mean()
    assert unit.shape == (1, 11, 1, SIZE, SIZE)
    missing = [i for i in range(11) if i % 5]
    assert (unit[:, missing] < FAR_UNIT).all()
    assert torch.equal(guess[:, ::5], clip[:, ::5])


@pytest.mark.parametrize("shape", [(8, 8), (3, 5), (1, 1), (4, 30)])
def test_pictures_smaller_than_opencvs_flow_takes(shape):
    """They are continued by their rim: what moves in the middle still moves, and what is still stays."""
    clip = sliding(6, 0.5)[..., : shape[0], : shape[1]]
    mask = every_fifth(6)
    guess, unit = first_guess(clip * mask[:, :, None, None, None], mask)
    assert guess.shape == clip.shape and unit.shape == (1, 6, 1, *shape)
    assert guess.isfinite().all() and unit.isfinite().all() and torch.equal(guess[:, ::5], clip[:, ::5])
    still = clip[:, :1].expand(-1, 6, -1, -1, -1)
    torch.testing.assert_close(first_guess(still * mask[:, :, None, None, None], mask)[0], still, atol=1e-6, rtol=0)
    if shape == (8, 8):
        fade = cross_fade(clip * mask[:, :, None, None, None], mask)
        assert (guess - clip)[..., 2:-2, 2:-2].square().mean() < (fade - clip)[..., 2:-2, 2:-2].square().mean()


def test_what_stands_still_stays_as_it_is():
    clip = sliding(1, 0).expand(-1, 6, -1, -1, -1)
    guess, unit = first_guess(clip * every_fifth(6)[:, :, None, None, None], every_fifth(6))
    assert torch.allclose(guess, clip, atol=1e-6)
    assert unit[:, 1:5].max() == pytest.approx(0.02)


def test_far_frames_are_cross_faded_or_held():
    clip = sliding(16, 0.5)
    mask = torch.zeros(1, 16)
    mask[:, [2, 12]] = 1
    given = clip * mask[:, :, None, None, None]
    guess, unit = first_guess(given, mask)
    assert torch.equal(guess, cross_fade(given, mask))
    assert (unit == FAR_UNIT).all()


def test_unlike_pictures_are_cross_faded_where_no_flow_explains_them():
    """Warping one random picture to another would tear it."""
    a, b = texture(1), texture(2)
    flow = Flow(a, b)
    fade = (a + b) / 2
    torn = np.mean([np.square(x - fade).mean() for x in flow.warped(0.5)])
    assert np.square(flow.between(0.5) - fade).mean() < torn


def test_the_unit_is_a_number_where_next_to_nothing_changes():
    """Running sums of a blur can fall below zero beside a large change."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        change = np.zeros((SIZE, SIZE, 3), np.float32)
        change[20:40, 20:40] = 10 ** rng.uniform(-4, 0, (20, 20, 1))
        assert np.isfinite(Flow(np.zeros_like(change), change).unit()).all()


def test_each_clip_of_a_batch_has_its_own_gaps():
    clips = torch.cat([sliding(6, 0.5), sliding(6, 1.0)])
    masks = torch.tensor([[1.0, 0, 0, 0, 0, 1], [1, 0, 0, 1, 0, 0]])
    given = clips * masks[:, :, None, None, None]
    together = first_guess(given, masks)
    for row in range(2):
        alone = first_guess(given[row : row + 1], masks[row : row + 1])
        for x, y in zip(together, alone, strict=True):
            assert torch.equal(x[row], y[0])
    assert (together[1][1, 4:] == FAR_UNIT).all()  # beyond the last given frame


def test_half_precision_frames():
    guess, unit = first_guess(sliding(6, 0.5).to(torch.bfloat16), every_fifth(6))
    assert guess.dtype == unit.dtype == torch.bfloat16


def in_a_reader(clip, mask):
    torch.set_num_threads(1)  # as a data loader's processes do
    first_guess(clip, mask)


def test_a_forked_process_finds_flow_after_its_parent():
    """With OpenCV's own threads it would wait for those that the fork does not have."""
    clip, mask = torch.nn.functional.interpolate(sliding(6, 0.5)[0], scale_factor=8)[None], every_fifth(6)
    first_guess(clip, mask)
    time.sleep(0.5)  # until threads, if there are any, sleep
    process = multiprocessing.get_context("fork").Process(target=in_a_reader, args=(clip, mask))
    process.start()
    process.join(60)
    stuck = process.is_alive()
    process.kill()
    assert not stuck and process.exitcode == 0
