"""The command line as a user calls it: a process, a file, an exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SMALL = ["--num-frames", "3", "--size", "16", "--steps", "1", "--seed", "5", "--quiet"]


def run(*arguments, cwd=None) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "makeavideo.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)


def sentence(done: subprocess.CompletedProcess) -> str:
    """The one line on stderr of a refused command."""
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture(scope="module")
def made(tiny_model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    done = run("generate", "a rocket <b>", "-o", folder / "one.mp4", "--model", tiny_model, *SMALL)
    assert done.returncode == 0, done.stderr
    return folder / "one.mp4"


def test_same_seed_same_bytes_and_nothing_else_in_the_folder(made, tiny_model):
    again = made.with_name("again.mp4")
    assert run("generate", "a rocket <b>", "-o", again, "--model", tiny_model, *SMALL).returncode == 0
    assert again.read_bytes() == made.read_bytes()
    assert sorted(p.name for p in made.parent.iterdir()) == ["again.mp4", "one.mp4"]


def test_info_prints_the_recipe(made):
    done = run("info", made)
    found = json.loads(done.stdout)
    assert (found["width"], found["height"], found["num_frames"], found["fps"]) == (16, 16, 3, 24)
    assert found["codec"] == "h264"
    recipe = found["recipe"]
    assert recipe["prompt"] == "a rocket <b>" and recipe["seed"] == 5 and len(recipe["weights"]) == 16


@pytest.mark.parametrize("name", ["clip.gif", "clip.webp", "clip.webm", "frames/"])
def test_format_by_the_ending(name, tiny_model, tmp_path):
    from makeavideo.video import probe

    target = f"{tmp_path}/{name}"
    done = run("generate", "a cat", "-o", target, "--model", tiny_model, *SMALL)
    assert done.returncode == 0, done.stderr
    assert probe(target).num_frames == 3
    assert probe(target).recipe["prompt"] == "a cat"


def test_progress_names_the_stages(tiny_model, tmp_path):
    done = run(
        "generate", "a cat", "-o", tmp_path / "a.gif", "--model", tiny_model, "--num-frames", "17", "--steps", "2"
    )
    assert done.returncode == 0, done.stderr
    for stage in ("prior", "decoder", "interpolator", "super resolution low", "super resolution high"):
        assert stage in done.stderr
    assert "192x192" in done.stderr


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["  "], "prompt is empty"),
        (["a cat", "--size", "100"], "--size 100"),
        (["a cat", "--num-frames", "1000"], "--num-frames 1000"),
        (["a cat", "--fps", "0"], "fps|frame rate"),
        (["a cat", "-o", "video.xyz"], "ending .xyz"),
        (["a cat", "--model", "nowhere"], "no model at nowhere"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, words, tiny_model, tmp_path):
    import re

    options = [] if "--model" in arguments else ["--model", tiny_model]
    line = sentence(run("generate", *arguments, *options, cwd=tmp_path))
    assert re.search(words, line), line
    assert list(tmp_path.iterdir()) == []


def test_unwritable_folder(tiny_model, tmp_path):
    (tmp_path / "file").write_text("")
    line = sentence(run("generate", "a cat", "-o", tmp_path / "file" / "a.mp4", "--model", tiny_model))
    assert "file" in line
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        sentence(run("generate", "a cat", "-o", tmp_path / "a.mp4", "--model", tiny_model))


def test_pickled_weights(tmp_path):
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "weights.ckpt").write_bytes(b"x")
    assert "pickled" in sentence(run("generate", "a cat", "--model", tmp_path))


def test_info_of_something_else(tmp_path):
    (tmp_path / "a.mp4").write_text("not a video")
    assert "a.mp4" in sentence(run("info", tmp_path / "a.mp4"))
    assert "b.mp4" in sentence(run("info", tmp_path / "b.mp4"))


def test_recipe_errors(tmp_path):
    (tmp_path / "bad.yaml").write_text("stage: clip\nstepz: 3\n")
    assert "stepz" in sentence(run("train", tmp_path / "bad.yaml"))
    assert "none.yaml" in sentence(run("train", tmp_path / "none.yaml"))
