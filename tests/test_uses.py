"""The five uses with the trained weights, at their smallest: what each of them promises."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from conftest import interruptible
from makeavideo.included import default_model
from makeavideo.media.inputs import read_picture
from makeavideo.media.reader import read_video
from makeavideo.media.writer import write_video
from makeavideo.pipeline import MakeAVideoPipeline

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("weights")]
EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def pipe():
    pipe = MakeAVideoPipeline.load(default_model())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def frames_of(use, *inputs, seed=0, **options) -> np.ndarray:
    """uint8 (frames, 64, 64, 3)."""
    options = {"size": 64, "num_inference_steps": 8, "output_type": "np", **options}
    frames = use(*inputs, generator=torch.Generator().manual_seed(seed), **options).frames[0]
    return (frames * 255).round().astype(np.uint8)


@pytest.fixture(scope="module")
def clip(pipe) -> np.ndarray:
    return frames_of(pipe, "dog face", num_frames=16, fps=8.0)


def steps(frames: np.ndarray) -> np.ndarray:
    """Mean absolute difference of each frame from the next; the last one's from the first."""
    return np.abs(np.roll(frames, -1, 0).astype(float) - frames).mean((1, 2, 3))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(np.square(a.astype(float) - b).mean(), 1e-6))


def test_motion_from_frame_to_frame_falls_as_the_rate_rises(pipe):
    """The dial of --fps, on the mean of four prompts."""
    moved = []
    for fps in (2.0, 30.0):
        options = {"num_frames": 8, "fps": fps, "size": 64, "num_inference_steps": 8, "output_type": "np"}
        prompts = ["rocket", "dog face", "ghost", "frog"]
        videos = pipe(prompts, generator=torch.Generator().manual_seed(0), **options).frames
        moved.append(np.abs(np.diff(videos, axis=1)).mean())
    assert moved[0] > 1.03 * moved[1], moved


def test_an_animation_starts_with_the_picture_and_does_not_jump(pipe, clip, tmp_path):
    moving = frames_of(pipe.animate, clip[0], num_frames=31)
    write_video(tmp_path / "a.mp4", moving, 24)
    assert psnr(read_video(tmp_path / "a.mp4").frames[0], clip[0]) >= 35
    moved = steps(moving)[:-1]
    assert moved[0] <= 3 * np.median(moved) and moved.mean() > 0.1


def test_an_animation_keeps_the_detail_of_a_large_picture(pipe):
    """At 256 pixels the second frame is no smooth copy of the first: fine texture stays where nothing moves."""
    picture = frames_of(pipe, "red heart", num_frames=1, size=256)[0]
    noise = np.random.default_rng(0).integers(-12, 13, (96, 96, 3))
    inside = slice(80, 176), slice(80, 176)
    picture[inside] = (picture[inside] + noise).clip(0, 255)
    moving = frames_of(pipe.animate, picture, num_frames=4, size=256)
    assert psnr(moving[0], picture) > 45
    fine = [frame[inside] - uniform_filter(frame[inside].astype(float), (5, 5, 1)) for frame in (moving[1], picture)]
    assert fine[0].std() > 0.6 * fine[1].std()


def test_interpolation_has_both_pictures(pipe, clip):
    other = read_picture(255 - clip[0], 64)
    made = frames_of(pipe.interpolate, clip[0], other, num_frames=31)
    assert psnr(made[0], clip[0]) >= 35 and psnr(made[-1], other) >= 35
    assert steps(made)[:-1].max() < 0.5 * np.abs(clip[0].astype(float) - other).mean()  # no cut


def test_a_variation_is_like_the_video_but_not_the_same(pipe, clip):
    """Its embedding is nearer to the video's than that of another prompt's video is."""

    def embedding(frames):
        pixels = torch.from_numpy(frames.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
        return pipe.embed_pictures(pixels).mean(0)

    made = frames_of(pipe.vary, clip, num_frames=8, fps=8.0)
    other = frames_of(pipe, "blue heart", num_frames=8, fps=8.0)
    near, far = (torch.cosine_similarity(embedding(x), embedding(clip), dim=0) for x in (made, other))
    assert near > far + 0.2
    assert psnr(made[0], clip[0]) < 35


def test_an_extension_goes_on_without_a_seam(pipe):
    """Where the video ends, and where a second window begins, it moves about as much as elsewhere: in the mean of four
    videos, since each has its own faster and slower moments, and in none does it jump."""
    seams = []
    for seed, prompt in enumerate(["dog face", "rocket", "red apple", "frog"]):
        video = frames_of(pipe, prompt, num_frames=31, seed=seed)
        longer = frames_of(pipe.extend, video, num_frames=70, fps=24.0, seed=seed)
        assert np.array_equal(longer[:31], video)
        moved = steps(longer)[:-1]
        seams.append(moved[[30, 80]] / np.median(moved))
    assert (np.mean(seams, 0) <= 1.5).all() and np.max(seams) <= 3, seams


@pytest.mark.parametrize("use", ["generate", "animate", "interpolate", "extend"])
def test_loops_close(pipe, clip, use):
    inputs = {
        "generate": ("dog face",),
        "animate": (clip[0],),
        "interpolate": (clip[0], clip[8]),
        "extend": (clip,),
    }[use]
    made = frames_of(getattr(pipe, use), *inputs, num_frames=60, loop=True)
    moved = steps(made)
    back = np.median(moved[-5:])  # the frames that lead back to the first one
    assert moved[-1] <= 1.2 * back and back <= 2 * np.median(moved), moved


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_video_can_be_played(ending, tmp_path):
    """A long one, stopped while it is made: everything made so far is in the file."""
    target = tmp_path / "long.mp4"
    command = [sys.executable, "-m", "makeavideo", "generate", "dog face", "-o", str(target), "--seconds", "600"]
    command += ["--size", "64", "--steps", "1", "-q"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not any(f.stat().st_size > 20_000 for f in tmp_path.iterdir()):
        time.sleep(0.2)
    process.send_signal(ending)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2 and "Stopped" in said and "Traceback" not in said
    assert [f.name for f in tmp_path.iterdir()] == ["long.mp4"]
    frames = read_video(target).frames
    assert len(frames) > 20 and f"first {len(frames)} frames" in said


@pytest.mark.parametrize("name", ["generate", "animate", "interpolate", "vary", "extend"])
def test_examples_run(name, clip, tmp_path):
    write_video(tmp_path / "clip.mp4", clip, 8)
    write_video(tmp_path / "a.png", clip[:1], 8)
    write_video(tmp_path / "b.png", clip[8:9], 8)
    arguments = {
        "generate": ["dog face"],
        "animate": ["a.png"],
        "interpolate": ["a.png", "b.png"],
        "vary": ["clip.mp4"],
        "extend": ["clip.mp4"],
    }[name]
    tail = ["out.webp", *(["2"] if name == "extend" else []), "64"]
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments, *tail]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=300, env={**os.environ, "TQDM_DISABLE": "1"})
    frames = read_video(tmp_path / ("out_0.webp" if name == "vary" else "out.webp")).frames
    assert len(frames) >= 30 and frames.shape[1:] == (64, 64, 3)
