"""Clips read from real files made here by Pillow and PyAV: formats, rates, the sampler, the curriculum."""

import pickle
import random
import tarfile
from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from makeavideo import UserError
from makeavideo.data import decode as decoding
from makeavideo.data.clips import UnlabelledClips
from makeavideo.data.curriculum import FrameRateCurriculum
from makeavideo.data.decode import decode
from makeavideo.data.reader import to_pixels
from makeavideo.media import decoder
from tiny_clips import STEP, grey, indices, same, write_animation, write_video


@pytest.mark.parametrize("stem", ["h264", "vp9", "quick", "ffv1", "anim"])
def test_every_format_decodes_each_frame_in_order(clip_folder, stem):
    paths = sorted(clip_folder.glob(f"{stem}.*"))
    assert paths
    for path in paths:
        frames, times, duration = decode(path, 32)
        assert frames.shape == (40, 32, 32, 3) and frames.dtype == np.uint8
        step = 1 / 25 if stem == "anim" else 1 / 30
        np.testing.assert_allclose(times, np.arange(40) * step, atol=2e-3, err_msg=path.name)
        assert duration == pytest.approx(40 * step, abs=3e-3)
        found = (frames[:, :, :8].mean((1, 2, 3)) - 8) / STEP
        np.testing.assert_allclose(found, np.arange(40), atol=0.49, err_msg=path.name)


@pytest.mark.parametrize("cache_bytes", [4 * 2**30, 0])  # 0: only the frames needed are decoded, after a seek
@pytest.mark.parametrize("fps", [30, 15, 10])
def test_sampling_is_right_to_the_frame(tmp_path, fps, cache_bytes):
    write_video(tmp_path / "a.mp4", count=60)
    clips = UnlabelledClips(tmp_path, 32, num_frames=16, fps=fps, cache_bytes=cache_bytes)
    starts = set()
    for seed in range(12):
        sample = clips[0, seed]
        assert sample["pixels"].shape == (16, 3, 32, 32) and sample["fps"] == fps
        found = indices(sample)
        assert found == [found[0] + k * (30 // fps) for k in range(16)]
        starts.add(found[0])
    assert len(starts) > 3
    assert min(starts) >= 0 and max(starts) + 15 * 30 // fps <= 59


def test_a_clip_exactly_long_enough_is_taken_whole(tmp_path):
    write_video(tmp_path / "a.webm", count=16, codec="libvpx-vp9")
    clips = UnlabelledClips(tmp_path, 32, num_frames=16, fps=30, short="skip")
    assert all(indices(clips[0, seed]) == list(range(16)) for seed in range(5))


def test_slow_rates_repeat_frames(tmp_path):
    write_video(tmp_path / "a.mp4", count=20, fps=10)
    found = indices(UnlabelledClips(tmp_path, 32, num_frames=16, fps=30)[0, 1])
    assert all(b - a in (0, 1) for a, b in pairwise(found)) and found[-1] - found[0] == 5


@pytest.mark.parametrize("kind", ["webm", "mp4", "webp", "gif"])
def test_variable_frame_rate_uses_presentation_times(tmp_path, kind):
    # ten frames of 40 ms, then ten of 200 ms: at 5 fps the second half goes frame by frame, the first in fives
    durations = [40] * 10 + [200] * 10
    pts = np.concatenate([[0], np.cumsum(durations)[:-1]]).tolist()
    path = tmp_path / f"a.{kind}"
    if kind in ("webp", "gif"):
        write_animation(path, 20, durations)
    else:
        write_video(path, 20, pts=pts, codec="libx264" if kind == "mp4" else "libvpx-vp9")
    _, times, duration = decode(path, 32)
    np.testing.assert_allclose(times, np.array(pts) / 1000, atol=2e-3)
    assert duration == pytest.approx(2.4, abs=0.17)
    clips = UnlabelledClips(tmp_path, 32, num_frames=11, fps=5)
    for seed in range(5):
        found = indices(clips[0, seed])
        assert found[0] in (0, 1, 2, 3, 4, 5) and found[3:] == list(range(found[3], found[3] + 8))
        assert found[1] - found[0] in (4, 5)


def test_short_clips_loop(tmp_path):
    write_animation(tmp_path / "a.webp", 10, 100)
    clips = UnlabelledClips(tmp_path, 32, num_frames=16, fps=10, short="loop")
    firsts = set()
    for seed in range(20):
        found = indices(clips[0, seed])
        assert found == [(found[0] + k) % 10 for k in range(16)]
        firsts.add(found[0])
    assert len(firsts) > 4


def test_short_clips_are_replaced_and_named(tmp_path):
    write_animation(tmp_path / "a.webp", 10, 100)
    write_animation(tmp_path / "b.webp", 40, 100)
    clips = UnlabelledClips(tmp_path, 32, num_frames=16, fps=10, short="skip")
    sample = clips[0, 3]
    told = [(str(tmp_path / "a.webp"), "too short for 16 frames at 10 a second")]
    assert (sample["key"], sample["index"], sample["skipped"]) == ("b", 1, told)
    with pytest.raises(UserError, match="long enough"):
        UnlabelledClips(tmp_path, 32, num_frames=16, fps=1, short="skip")[0, 3]


def test_one_frame_samples_and_frame_skip(tmp_path):
    write_video(tmp_path / "a.mp4", count=60)
    assert UnlabelledClips(tmp_path, 32, num_frames=1, fps=30)[0, 5]["pixels"].shape == (1, 3, 32, 32)
    sample = UnlabelledClips(tmp_path, 32, num_frames=8, fps=30, frame_skip=5)[0, 5]
    assert sample["fps"] == 6 and np.diff(indices(sample)).tolist() == [5] * 7
    drawn = UnlabelledClips(tmp_path, 32, num_frames=4, fps=30, frame_skip=(1, 3))
    assert {drawn[0, seed]["fps"] for seed in range(20)} == {30, 15, 10}


def test_alpha_is_composed_on_the_background(tmp_path):
    write_animation(tmp_path / "a.webp", 4, 100, alpha=True)
    right = UnlabelledClips(tmp_path, 16, num_frames=2, fps=10, background="#00ff00")[0, 0]["pixels"][:, :, :, -4:]
    assert torch.equal(right[0, :, 0, 0], torch.tensor([-1.0, 1.0, -1.0]))


def test_alpha_of_vp9_is_composed(tmp_path):
    with av.open(str(tmp_path / "a.webm"), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=10, options={"auto-alt-ref": "0"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuva420p"
        for i in range(6):
            rgba = np.dstack([grey(i), np.repeat([[255] * 16 + [0] * 16], 32, 0).astype(np.uint8)])
            frame = av.VideoFrame.from_ndarray(rgba, format="rgba")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames, _, _ = decode(tmp_path / "a.webm", 32, "#0000ff")
    assert len(frames) == 6
    assert np.abs(frames[:, 16, 28].astype(int) - [0, 0, 255]).max() < 12
    assert np.abs(frames[3, 16, 4].astype(int) - (8 + 3 * STEP)).max() < 12


def test_frames_that_are_not_square_are_cropped_at_the_centre(tmp_path):
    write_video(tmp_path / "a.mp4", count=8, size=(64, 32))
    frames, _, _ = decode(tmp_path / "a.mp4", 16)
    assert frames.shape == (8, 16, 16, 3)


def test_crop_is_the_same_for_all_frames(tmp_path):
    ramp = np.dstack([np.tile(np.arange(64, dtype=np.uint8) * 3, (64, 1))] * 3)
    ramp[:, :, 1] = ramp[:, :, 0].T
    images = [Image.fromarray(np.dstack([ramp[:, :, :2], np.full((64, 64), i, np.uint8)])) for i in range(9)]
    images[0].save(tmp_path / "a.webp", save_all=True, append_images=images[1:], duration=100, lossless=True)
    clips = UnlabelledClips(tmp_path, 64, num_frames=4, fps=10, crop=24)
    corners = set()
    for seed in range(8):
        pixels = clips[0, seed]["pixels"]
        assert pixels.shape == (4, 3, 24, 24)
        assert (pixels[:, :2] == pixels[:1, :2]).all()
        corners.add(tuple(pixels[0, :2, 0, 0].tolist()))
    assert len(corners) > 4


def first(samples: list[dict]) -> dict:
    return {**samples[0], "pixels": to_pixels(samples[0]["pixels"])}


def test_same_key_same_bits_in_any_order_and_process(clip_folder):
    make = lambda **kw: UnlabelledClips(clip_folder, 24, 6, FrameRateCurriculum(), crop=16, **kw)  # noqa: E731
    keys = [(i % 7, 1000 + i, i / 14) for i in range(14)]
    clips = make()
    once = [clips[key] for key in keys]
    assert len({s["fps"] for s in once}) == 14
    for other in (make(), make(cache_bytes=0), make(cache_bytes=100_000), pickle.loads(pickle.dumps(clips))):
        assert all(same(a, other[key]) for a, key in list(zip(once, keys, strict=True))[::-1])
    batches = [[key] for key in keys]
    for workers in (0, 2):
        loader = DataLoader(make(), batch_sampler=batches, collate_fn=first, num_workers=workers)
        assert all(same(a, b) for a, b in zip(once, loader, strict=True))


def test_cache_stays_within_its_bound(clip_folder):
    clips = UnlabelledClips(clip_folder, 16, 4, 30, cache_bytes=100_000)
    for i in range(7):
        clips[i, i]
        assert clips.cache.used <= 100_000


def test_curriculum_moves_from_high_to_low_rates():
    curriculum = FrameRateCurriculum(low=1, high=30, start=(5, 2), end=(2, 5))
    assert curriculum.parameters(0.5) == (3.5, 3.5)
    means = []
    for progress in (0.0, 0.5, 1.0):
        for rng in (random.Random(0), np.random.default_rng(0)):
            drawn = [curriculum.sample(rng, progress) for _ in range(4000)]
            assert min(drawn) >= 1 and max(drawn) <= 30
            a, b = curriculum.parameters(progress)
            assert np.mean(drawn) == pytest.approx(1 + 29 * a / (a + b), abs=0.4)
            means.append(np.mean(drawn))
    assert means == sorted(means, reverse=True) or means[0] > means[2] > means[4]
    assert FrameRateCurriculum.constant(12).sample(random.Random(1), 0.3) == 12
    for wrong in ({"low": 0}, {"low": 5, "high": 4}, {"start": (0, 1)}, {"end": (1,)}):
        with pytest.raises(UserError):
            FrameRateCurriculum(**wrong)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "shard"])
def test_a_sample_of_a_long_clip_decodes_no_more_than_of_a_short_one(tmp_path, monkeypatch, packed):
    """Cost is frames decoded: those from the key frame before the sample to its end."""
    (tmp_path / "data").mkdir()
    decoded = []
    real = decoder.Container._decoded
    monkeypatch.setattr(decoder.Container, "_decoded", lambda self: (decoded.append(f) or f for f in real(self)))
    costs = {}
    for seconds in (20, 120):
        path = write_video(tmp_path / "data" / f"{seconds}.mp4", count=30 * seconds)
        if packed:
            with tarfile.open(tmp_path / "data" / f"{seconds}.tar", "w") as tar:
                tar.add(path, "clip.mp4")
            path = tmp_path / "data" / f"{seconds}.tar"
        clips, costs[seconds] = UnlabelledClips(path, 32, num_frames=8, fps=30), []
        for seed in range(6):
            decoded.clear()
            clips[0, seed]
            costs[seconds].append(len(decoded))
    assert max(costs[20] + costs[120]) <= 250 + 8  # x264's longest way between key frames, and the sample


def test_an_animation_is_decoded_once_for_its_clock_and_its_frames(tmp_path, monkeypatch):
    write_animation(tmp_path / "a.gif", count=40)
    opened, really = [], decoding.open_by_content
    monkeypatch.setattr(decoding, "open_by_content", lambda *a, **k: opened.append(1) or really(*a, **k))
    clips = UnlabelledClips(tmp_path, 32, num_frames=8, fps=25, cache_bytes=0)
    first = clips[0, 3]
    assert len(opened) == 1
    torch.testing.assert_close(clips[0, 3]["pixels"], first["pixels"])  # its clock is known: only what it needs
    assert len(opened) == 2
