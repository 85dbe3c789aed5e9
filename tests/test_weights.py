"""The trained emoji cascade of the repository, at its smallest setting and once through every stage."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from makeavideo.included import default_model
from makeavideo.media.reader import probe, read_video
from makeavideo.pipeline import MakeAVideoPipeline

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("weights")]


@pytest.fixture(scope="module")
def pipe():
    pipe = MakeAVideoPipeline.load(default_model())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make(pipe, prompt, **kwargs):
    options = {"num_frames": 8, "size": pipe.sizes[0], "num_inference_steps": 8, "fps": 8.0, "output_type": "pt"}
    return pipe(prompt, generator=torch.Generator().manual_seed(0), **{**options, **kwargs}).frames


def test_files_are_small_and_half_precision():
    from safetensors import safe_open

    files = list(default_model().rglob("*.safetensors"))
    assert len(files) == 9  # the seven networks, the text encoder and the table of wordings
    assert max(file.stat().st_size for file in files) < 50e6
    assert sum(file.stat().st_size for file in files) < 160e6
    for file in files:
        with safe_open(file, "pt") as weights:
            kinds = {weights.get_slice(key).get_dtype() for key in weights.keys()}  # noqa: SIM118
        assert kinds <= {"F16", "I32", "I64"}, file  # whole numbers are places in tables


def test_colours_follow_the_prompt(pipe):
    """The fire is redder than the blue heart, wherever either is not white."""
    frames = make(pipe, ["fire", "blue heart"])
    red, blue = ((video[:, 0] - video[:, 2]).mean() for video in frames)
    assert red > blue + 0.05


def test_it_moves_and_the_background_does_not(pipe):
    frames = make(pipe, ["rocket", "dog", "sun with face"], num_frames=16)
    change = (frames[:, 1:] - frames[:, :-1]).abs()
    assert change.mean() * 255 > 0.5
    corners = frames[..., :3, :3]
    assert (corners > 0.9).all()
    assert (corners[:, 1:] - corners[:, :-1]).abs().mean() * 255 < 2


def test_not_noise(pipe):
    """Neighbouring pixels are alike, as in a picture: noise of the same spread would differ far more."""
    frames = make(pipe, "red apple")
    rough = (frames[..., 1:] - frames[..., :-1]).abs().mean()
    assert rough < 0.5 * frames.std()


def test_the_whole_cascade_writes_a_file(tmp_path):
    target = tmp_path / "a.mp4"
    command = [sys.executable, "-m", "makeavideo", "generate", "a red apple", "-o", str(target), "--seed", "1"]
    subprocess.run([*command, "--num-frames", "18", "--steps", "8", "--quiet"], check=True, timeout=600)
    found = probe(target)
    assert (found.width, found.height, found.num_frames) == (768, 768, 18)
    assert found.recipe["prompt"] == "a red apple"
    frames = read_video(target).frames
    assert frames.std() > 10 and np.abs(np.diff(frames.astype(int), axis=0)).mean() > 0.05
    json.dumps(found.recipe)
