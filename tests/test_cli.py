"""The command line as a user calls it: a file, what is said, an exit code; where it matters in a process of its own."""

import contextlib
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from safetensors.torch import load_file, save_file

from makeavideo.cli import main as cli

SMALL = ["--num-frames", "3", "--size", "16", "--steps", "1", "--seed", "5", "--quiet"]


def run(*arguments, cwd=None) -> subprocess.CompletedProcess:
    """Without the seconds that a new process takes to import everything."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.chdir(cwd or "."),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["make-a-video", *map(str, arguments)]),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def command(*arguments) -> list[str]:
    return [sys.executable, "-m", "makeavideo", *map(str, arguments)]


def sentence(done: subprocess.CompletedProcess) -> str:
    """The one line on stderr of a refused command."""
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture(scope="module")
def made(tiny_model, tmp_path_factory) -> Path:
    """Made in a process of its own, to which nobody listens at a terminal: it says one line."""
    folder = tmp_path_factory.mktemp("made")
    arguments = command("generate", "a rocket <b>", "-o", folder / "one.mp4", "--model", tiny_model, *SMALL[:-1])
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\S*one\.mp4: 3 frames of 16x16, seed 5, [\d.]+ s\n", done.stderr), done.stderr
    assert done.stdout == ""
    return folder / "one.mp4"


def test_same_seed_same_bytes_and_nothing_else_in_the_folder(made, tiny_model):
    again = made.with_name("again.mp4")
    done = run("generate", "a rocket <b>", "-o", again, "--model", tiny_model, *SMALL)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
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
    from makeavideo.media.reader import probe

    target = f"{tmp_path}/{name}"
    done = run("generate", "a cat", "-o", target, "--model", tiny_model, *SMALL)
    assert done.returncode == 0, done.stderr
    assert probe(target).num_frames == 3
    assert probe(target).recipe["prompt"] == "a cat"


def test_one_line_at_a_terminal_for_the_whole_video(tiny_model, tmp_path):
    """Stage, frames done of all, time left, always in the same line; then it makes room for what was made."""
    options = ["--model", tiny_model, "--num-frames", "40", "--steps", "4", "--seed", "1"]
    told, terminal = pty.openpty()
    size = {"COLUMNS": "100", "TERM": "xterm"}
    process = subprocess.Popen(
        command("generate", "a cat", "-o", tmp_path / "a.gif", *options), stderr=terminal, env={**os.environ, **size}
    )
    os.close(terminal)
    raw = b""
    with contextlib.suppress(OSError), open(told, "rb", buffering=0) as reader:  # the end of a terminal is an error
        while part := reader.read(4096):
            raw += part
    assert process.wait(60) == 0, raw
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw.decode())
    progress, last = (line for line in text.split("\r\n") if line.strip())
    assert "a.gif: 40 frames of 192x192, seed 1" in last
    shown = progress.split("\r")
    for stage in ("Loading the model", "small clip", "move smoothly", "Adding detail", "Making it large"):
        assert any(stage in line for line in shown), stage
    counts = [int(found[1]) for line in shown if (found := re.search(r"(\d+)/40 frames", line))]
    assert counts == sorted(counts) and counts[0] == 0 and counts[-1] == 40
    assert re.search(r" \d:\d\d left$", shown[-1].rstrip())


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["  "], "prompt is empty"),
        (["a cat", "--size", "100"], "--size 100"),
        (["a cat", "--num-frames", "0"], "--num-frames 0"),
        (["a cat", "--num-frames", "20", "--seconds", "3"], "choose one"),
        (["a cat", "--seconds", "-1"], "--seconds -1"),
        (["a cat", "--prompts", "story.yaml"], "leave out PROMPT"),
        (["--prompts", "story.yaml"], "story story.yaml cannot be read"),
        (["a cat", "--fps", "0"], "fps|frame rate"),
        (["a cat", "-o", "video.xyz"], "ending .xyz"),
        (["a cat", "--model", "nowhere"], "no model at nowhere"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, words, tiny_model, tmp_path):
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


@pytest.mark.parametrize(
    "part, lost", [("image_encoder", "visual_projection.weight"), ("decoder", "conv_in.bias"), ("text_encoder", "x")]
)
def test_weights_that_are_missing_are_no_random_numbers(tiny_model, tmp_path, part, lost):
    """The libraries only warn, in words that the command line does not show."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    file = next((folder / part).glob("*.safetensors"))
    weights = load_file(file)
    weights.pop(lost if lost in weights else min(weights))
    save_file(weights, file, {"format": "pt"})
    assert "it lacks weights" in sentence(run("generate", "a cat", "--model", folder, "-o", tmp_path / "a.mp4"))


def test_info_of_something_else(tmp_path):
    (tmp_path / "a.mp4").write_text("not a video")
    assert "a.mp4" in sentence(run("info", tmp_path / "a.mp4"))
    assert "b.mp4" in sentence(run("info", tmp_path / "b.mp4"))


def test_recipe_errors(tmp_path):
    (tmp_path / "bad.yaml").write_text("stage: clip\nstepz: 3\n")
    assert "stepz" in sentence(run("train", tmp_path / "bad.yaml"))
    assert "none.yaml" in sentence(run("train", tmp_path / "none.yaml"))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """Two pictures, a video, a story, and what is none."""
    import numpy as np
    from PIL import Image

    from makeavideo.media.writer import write_video

    folder, rng = tmp_path_factory.mktemp("inputs"), np.random.default_rng(0)
    for name in ("a.png", "b.jpg"):
        Image.fromarray(rng.integers(0, 256, (30, 50, 3), np.uint8)).save(folder / name)
    write_video(folder / "clip.mp4", rng.integers(0, 256, (12, 32, 48, 3), np.uint8), 12)
    (folder / "story.yaml").write_text("- {prompt: a rocket, seconds: 0.5}\n- {prompt: a cat, seconds: 0.25}\n")
    (folder / "wrong.yaml").write_text("- a rocket\n")
    (folder / "text.png").write_text("no picture")
    return folder


@pytest.mark.parametrize(
    "arguments, use, frames, fps",
    [
        (["animate", "a.png", "--num-frames", "5"], "animate", 5, 24),
        (["animate", "a.png", "--num-frames", "5", "--prompt", "a cat", "--fit", "pad", "--loop"], "animate", 5, 24),
        (["interpolate", "a.png", "b.jpg", "--num-frames", "19"], "interpolate", 19, 24),
        (["vary", "clip.mp4", "--num-frames", "4"], "vary", 4, 24),
        (["vary", "clip.mp4", "--keep-timing"], "vary", 12, 12),
        (["extend", "clip.mp4", "--seconds", "1"], "extend", 24, 12),
        (["extend", "clip.mp4", "--num-frames", "3", "--fps", "24"], "extend", 27, 24),
        (["generate", "--prompts", "story.yaml"], "generate", 18, 24),
        (["generate", "a cat", "--seconds", "0.5", "--loop"], "generate", 12, 24),
    ],
)
def test_every_use_writes_a_file_that_says_how_it_was_made(arguments, use, frames, fps, inputs, tiny_model, tmp_path):
    from makeavideo.media.reader import probe

    target = tmp_path / "out.mp4"
    options = ["--model", tiny_model, "--size", "16", "--steps", "1", "--seed", "5", "--quiet", "-o", target]
    done = run(*arguments, *options, cwd=inputs)
    assert done.returncode == 0, done.stderr
    found = probe(target)
    assert (found.num_frames, found.fps, found.width) == (frames, fps, 16)
    assert found.recipe["use"] == use and found.recipe["seed"] == 5


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["animate", "nothing.png"], "nothing.png does not exist"),
        (["animate", "text.png"], "text.png is not a picture"),
        (["animate", "a.png", "--fit", "stretch"], "crop or pad"),
        (["animate", "a.png", "--background", "reddish"], "not a colour"),
        (["animate", "a.png", "--prompt", "a cat", "--prompt-weight", "2"], "--prompt-weight 2"),
        (["interpolate", "a.png", "clip.mp4"], "is a video, not a picture"),
        (["interpolate", "a.png", "b.jpg", "--num-frames", "100"], "3 to 76 frames"),
        (["vary", "text.png"], "text.png"),
        (["vary", "clip.mp4", "--keep-timing", "--seconds", "3"], "leave out"),
        (["extend", "nothing.mp4"], "nothing.mp4 does not exist"),
        (["generate", "--prompts", "wrong.yaml"], "is not a list of parts"),
    ],
)
def test_bad_input_of_every_use_is_one_sentence(arguments, words, inputs, tiny_model, tmp_path):
    line = sentence(run(*arguments, "--model", tiny_model, "-o", tmp_path / "out.mp4", cwd=inputs))
    assert words in line, line
    assert list(tmp_path.iterdir()) == []
