"""`make-a-video batch`: the list, what one line can spoil, and what a second run finds."""

import contextlib
import json
import os
import pty
import re
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from makeavideo import UserError
from makeavideo.batch.jobs import Plan, checked_name
from makeavideo.batch.making import Made, first_line
from makeavideo.batch.manifest import Manifest
from makeavideo.batch.rows import read_list
from makeavideo.batch.run import Batch
from makeavideo.media.reader import probe
from makeavideo.media.writer import terminate_as_interrupt
from makeavideo.orders import Abilities
from test_cli import command, run, sentence

SMALL = ["--num-frames", "3", "--size", "16", "--steps", "1"]


def lines_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def made_in(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every video with its time: what is made again has another one."""
    files = [file for file in folder.rglob("*.*") if file.is_file() and not file.name.startswith(".")]
    videos = [file for file in files if file.name != "manifest.jsonl"]
    return {str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns) for file in videos}


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.csv", '\ufeffprompt,num-frames,loop\n"a cat, red",5,yes\n\na rocket,,\n'),
        (
            "a.jsonl",
            '{"prompt": "a cat, red", "num_frames": 5, "loop": true}\n\n{"prompt": "a rocket", "loop": null}\n',
        ),
    ],
)
def test_a_list_gives_the_options_and_the_command_the_rest(name, text, tmp_path):
    (tmp_path / name).write_text(text, encoding="utf-8")
    cat, rocket = read_list(tmp_path / name, {"num_frames": 7, "steps": 2})
    assert (cat.row.prompt, cat.row.num_frames, cat.row.loop, cat.row.steps) == ("a cat, red", 5, True, 2)
    assert (rocket.row.prompt, rocket.row.num_frames, rocket.row.loop) == ("a rocket", 7, False)
    assert cat.number == (2 if name == "a.csv" else 1) and rocket.number == cat.number + 2


@pytest.mark.parametrize("part", [";", "\t"])
def test_a_spreadsheets_own_way_with_columns(part, tmp_path):
    head, row = part.join(["Prompt", "Num-Frames", ""]), part.join(["a cat, asleep", "3", ""])
    (line,) = read_list(write(tmp_path / "a.csv", head, row), {})
    assert line.error is None and (line.row.prompt, line.row.num_frames) == ("a cat, asleep", 3)


def test_a_text_is_a_prompt_a_line(tmp_path):
    found = read_list(write(tmp_path / "a.txt", "a cat", "", "# 1, a dog"), {})
    assert [(line.number, line.row.prompt) for line in found] == [(1, "a cat"), (3, "# 1, a dog")]


HALF = '"a \\ud83d cat"'
"""Half a letter, as JSON can name it."""


@pytest.mark.parametrize(
    "said, error",
    [
        (f'"prompt": {HALF}', "prompt is no text, its letter 3 is none in UTF-8: write it in UTF-8."),
        (f'"prompt": "a", "output": {HALF}', "output is no text, its letter 3 is none in UTF-8: write it in UTF-8."),
        (f'"prompt": "a", "seed": {HALF}', "seed is no text, its letter 3 is none in UTF-8: write it in UTF-8."),
        ('"prompt": "a", "size": "abc"', "--size abc is not possible: write 256, or 256x144, width x height."),
        ('"prompt": "a", "size": {"w": 1}', "--size {'w': 1} is not possible: write 256, or 256x144, width x height."),
        ('"prompt": "a", "count": 0', "count 0 is not possible: it should be greater than or equal to 1."),
        ('"prompts": ["a"]', "prompts ['a'] is not possible: it should be a valid string."),
    ],
)
def test_what_is_wrong_with_a_line_is_one_sentence_and_kept_in_the_manifest(said, error, tmp_path):
    (line,) = read_list(write(tmp_path / "a.jsonl", f"{{{said}}}"), {})
    assert line.row is None and line.error == error
    manifest = Manifest(tmp_path)
    told = {"line": 1, "status": "failed", "error": line.error, "said": line.said}
    manifest.add(told)
    assert lines_of(tmp_path) == [told]
    manifest.settle([])
    assert lines_of(tmp_path) == [told]


def test_what_a_worker_says_is_whole():
    assert first_line(UserError("The disk is full: make room.")) == "The disk is full: make room."
    assert first_line(KeyError("x\ny")) == "KeyError: 'x\\ny'" and first_line(OSError()) == "OSError"


@pytest.mark.parametrize(
    "name, lines, words",
    [
        ("a.csv", ["prompt,stepz", "a cat,3"], "has the unknown column 'stepz': choose from prompt, "),
        ("a.csv", ["prompt,device", "a cat,cpu"], "unknown column 'device'"),
        ("a.jsonl", ['{"prompt": "a"}', '{"prompt": "a", "sede": 3}'], "unknown column 'sede' in line 2"),
        ("a.csv", ["a cat", "a dog"], "no column prompt"),
        ("a.csv", ["prompt,seed,seed", "a cat,1,2"], "the column 'seed' twice"),
        ("a.txt", ["  "], "is empty"),
        ("a.xlsx", ["a cat"], "must be .csv, .txt or .jsonl"),
    ],
)
def test_what_is_wrong_with_the_whole_list_is_one_sentence(name, lines, words, tiny_model, tmp_path):
    write(tmp_path / name, *lines)
    assert words in sentence(run("batch", tmp_path / name, tmp_path / "out", "--model", tiny_model))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options, words",
    [
        (["--size", "100"], "--size 100"),
        (["--size", "tall"], "--size tall is not possible: write 256, or 256x144"),
        (["--num-frames", "3", "--seconds", "2"], "choose one"),
        (["--format", "avi"], "--format avi is not possible: choose mp4"),
        (["--format", "gif", "--quality", "3"], "leave out --quality"),
        (["--workers", "2"], "add --ray local"),
        (["--ray", "nowhere"], "--ray nowhere is not possible"),
        (["--model", "nowhere"], "no model at nowhere"),
    ],
)
def test_what_is_wrong_with_the_command_is_one_sentence(options, words, tiny_model, tmp_path):
    model = [] if "--model" in options else ["--model", tiny_model]
    assert words in sentence(run("batch", write(tmp_path / "a.txt", "a cat"), tmp_path / "out", *model, *options))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name", ["/a.mp4", "../a.mp4", "a/../../b.mp4", ".a.mp4", "C:\\a.mp4", "frames", "a.avi", "a/", "b.mp4."]
)
def test_no_output_is_outside_of_the_folder(name):
    with pytest.raises(
        UserError,
        match=r"The output .* (is not possible: give a name below|has no ending of a video: choose \.mp4)",
    ):
        checked_name(name)
    assert checked_name("a/b.mp4") == "a/b.mp4"


@pytest.fixture(scope="module")
def plan_of(tiny_model, tmp_path_factory):
    """Makes a plan of the lines of a jsonl."""
    abilities, folder = Abilities.of(tiny_model), tmp_path_factory.mktemp("plans")

    def make(*rows: dict) -> Plan:
        plan = Plan(tiny_model, abilities, "0" * 16, folder, ".mp4", 0)
        for line in read_list(write(folder / "a.jsonl", *map(json.dumps, rows)), {}):
            plan.add(line)
        return plan

    return make


def test_what_a_line_gives_does_not_depend_on_other_lines(plan_of):
    one, two = {"prompt": "a cat"}, {"prompt": "a rocket", "size": 16}
    first = plan_of(one, one, two)
    again = plan_of(two, {"prompt": "a dog"}, one, one)
    assert first.jobs.keys() < again.jobs.keys()
    assert [job.order.seed for job in first.jobs.values()] == [0, 1, 0]
    assert all(name.startswith(("a-cat-", "a-rocket-")) for name in first.jobs)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_comes_before_or_after_a_video_and_its_line(number, plan_of, tmp_path, monkeypatch):
    plan = plan_of({"prompt": "a cat"})
    job = next(iter(plan.jobs.values()))

    def written(path: Path, data: bytes) -> None:
        path.write_bytes(data)
        signal.raise_signal(number)

    monkeypatch.setattr("makeavideo.batch.run.write_whole", written)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests' own processes may ignore it
    try:
        with Batch(plan, tmp_path / "out") as work, pytest.raises(KeyboardInterrupt), terminate_as_interrupt():
            work.take(Made(job, {}, 3, data=b"cat"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert work.counts.made == len(lines_of(tmp_path / "out")) == 1


def test_the_same_file_is_made_once_and_another_one_of_its_name_is_refused(plan_of):
    row = {"prompt": "a cat", "seed": 3, "output": "a.mp4"}
    plan = plan_of(row, row, {**row, "seed": 4}, {**row, "count": 2})
    assert list(plan.jobs) == ["a.mp4", "a-3.mp4", "a-4.mp4"] and plan.twice == 1
    assert [(one.line, one.error) for one in plan.broken] == [
        (3, "a.mp4 is the output of line 1 already: choose another name.")
    ]


@pytest.mark.parametrize(
    ("one", "other", "error"),
    [
        ("a.mp4", "a.mp4/b.mp4", "a.mp4 is the output of line 1, and no folder: choose another name."),
        ("a.mp4/c/b.mp4", "a.mp4", "a.mp4 is a folder of other lines' outputs: choose another name."),
        ("a.mp4", "ü" * 130 + ".mp4", "is longer than 255 bytes: choose a shorter one."),
    ],
)
def test_outputs_that_cannot_lie_side_by_side_are_refused_before_any_is_made(plan_of, one, other, error):
    plan = plan_of({"prompt": "a cat", "output": one}, {"prompt": "a dog", "output": other})
    assert list(plan.jobs) == [one]
    assert [broken.line for broken in plan.broken] == [2] and plan.broken[0].error.endswith(error)


@pytest.fixture(scope="module")
def made(tiny_model, tmp_path_factory) -> Path:
    """Folder of list.csv, and of out/, where three of its six lines came out."""
    folder = tmp_path_factory.mktemp("batch")
    write(
        folder / "list.csv",
        "prompt,prompts,seed,output,size,steps",
        "a red rocket,,5,one.mp4,,",
        "a cat,,5,,100,",
        ",,,,,",
        " ,,5,,,",
        ",story.yaml,7,sub/two.gif,64,2",
        "a cat,,x,,,",
        "a cat,,,,,",
    )
    write(folder / "story.yaml", "- {prompt: a cat, seconds: 0.5}", "- {prompt: a rocket, seconds: 0.5}")
    done = run("batch", folder / "list.csv", folder / "out", "--model", tiny_model, *SMALL)
    assert done.returncode == 1 and done.stdout == ""
    assert "3 made, 0 there already, 3 failed" in done.stderr
    return folder


def test_a_broken_line_is_a_line_of_the_manifest_and_the_rest_goes_on(made):
    found = lines_of(made / "out")
    assert [(told["line"], told["status"]) for told in found] == [
        *((2, "made"), (3, "failed"), (5, "failed"), (6, "made"), (7, "failed"), (8, "made"))
    ]
    errors = [told["error"] for told in found if told["status"] == "failed"]
    assert "--size 100" in errors[0] and "prompt is empty" in errors[1] and "seed 'x' is not possible" in errors[2]
    assert found[1]["said"] == {"prompt": "a cat", "seed": "5", "size": "100"}
    for told in found:
        if told["status"] == "made":
            file = made / "out" / told["file"]
            assert probe(file).recipe == told["recipe"] and file.stat().st_size == told["bytes"]
            assert (told["seed"], told["prompt"]) == (told["recipe"]["seed"], told["recipe"]["prompt"])


def test_the_same_bytes_as_generate(made, tiny_model, tmp_path):
    one, two, three = (made / "out" / told["file"] for told in lines_of(made / "out") if told["status"] == "made")
    for file, arguments in (
        (one, ["a red rocket", *SMALL, "--seed", "5"]),
        (two, ["--prompts", made / "story.yaml", "--size", "64", "--steps", "2", "--seed", "7"]),
        (three, ["a cat", *SMALL, "--seed", "0"]),
    ):
        target = tmp_path / file.name
        done = run("generate", *arguments, "-o", target, "--model", tiny_model, "--quiet")
        assert done.returncode == 0, done.stderr
        assert target.read_bytes() == file.read_bytes()


def test_started_again_it_makes_what_is_missing_and_nothing_twice(made, tiny_model):
    arguments = ["batch", made / "list.csv", made / "out", "--model", tiny_model, *SMALL]
    before = made_in(made / "out")
    assert "0 made, 3 there already" in run(*arguments).stderr
    assert made_in(made / "out") == before and len(lines_of(made / "out")) == 6
    (made / "out" / "one.mp4").unlink()
    assert "1 made, 2 there already" in run(*arguments).stderr
    after = made_in(made / "out")
    assert after["one.mp4"][0] == before.pop("one.mp4")[0] and before.items() <= after.items()
    # killed between a file and its line, and in the middle of a line
    manifest = made / "out" / "manifest.jsonl"
    manifest.write_text(
        "\n".join(line for line in manifest.read_text().splitlines() if "one.mp4" not in line) + '\n{"st'
    )
    assert "0 made, 3 there already" in run(*arguments).stderr
    assert made_in(made / "out") == after and [told["line"] for told in lines_of(made / "out")] == [2, 3, 5, 6, 7, 8]


def test_nothing_that_is_there_is_lost(tiny_model, tmp_path):
    """A file of the user's under the name, and one that was changed since."""
    out = tmp_path / "out"
    out.mkdir()
    write(out / "a.mp4", "mine")
    arguments = ["batch", write(tmp_path / "a.csv", "prompt,output", "a cat,a.mp4", "a cat,b.mp4"), out]
    arguments += ["--model", tiny_model, *SMALL]
    done = run(*arguments)
    assert done.returncode == 1 and "a.mp4 is there already and shows something else" in done.stderr
    write(out / "b.mp4", "changed")
    assert "b.mp4 is not as it was made" in run(*arguments).stderr
    done = run(*arguments, "--seed", "3")
    assert done.stderr.count("shows something else") == 2
    assert [(out / name).read_text() for name in ("a.mp4", "b.mp4")] == ["mine\n", "changed\n"]


def test_a_full_disk_ends_the_batch(tiny_model, tmp_path):
    """The next video would be made for nothing."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        done = run(
            "batch", write(tmp_path / "a.txt", "a cat", "a rocket"), tmp_path / "out", "--model", tiny_model, *SMALL
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot write" in sentence(done) and "file too large" in done.stderr
    assert made_in(tmp_path / "out") == {} and lines_of(tmp_path / "out") == []


def test_the_line_says_which_video_it_is(tiny_model, tmp_path):
    """At a terminal; what is made stands above it."""
    prompts = write(tmp_path / "a.txt", "a cat", "a rocket")
    told, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    arguments = command("batch", prompts, tmp_path / "out", "--model", tiny_model, *SMALL)
    process = subprocess.Popen(arguments, stderr=terminal, env=environment)
    os.close(terminal)
    raw = b""
    with contextlib.suppress(OSError), open(told, "rb", buffering=0) as reader:  # the end of a terminal is an error
        while part := reader.read(4096):
            raw += part
    assert process.wait(60) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw.decode())
    shown = [
        "1/2 Loading the model",
        "1/2 Making a small clip",
        "a-cat-0",
        "2/2 Making a small clip",
        "a-rocket-0",
        "2 made",
    ]
    places = [text.index(words) for words in shown]
    assert places == sorted(places)


def wait_for(condition, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_and_started_again(how, tiny_model, tmp_path):
    """And a second one beside it is refused."""
    out, prompts = tmp_path / "out", write(tmp_path / "a.txt", *["a cat", "a rocket"] * 4)
    arguments = ["batch", prompts, out, "--model", tiny_model, "--num-frames", "20", "--size", "64", "--steps", "2"]
    process = subprocess.Popen(command(*arguments), stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (out / "manifest.jsonl").exists() and len(made_in(out)) >= 2)
    assert "Another batch is at work" in sentence(run(*arguments))
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    left = made_in(out)
    assert 2 <= len(left) < 8
    if how == signal.SIGTERM:
        assert process.returncode == 2 and f"Stopped: {len(left)} of 8 videos are made" in said
        assert len(lines_of(out)) == len(left)
    done = run(*arguments)
    assert done.returncode == 0 and f"{8 - len(left)} made, {len(left)} there already" in done.stderr
    after = made_in(out)
    assert len(after) == 8 and left.items() <= after.items()
    assert sorted(told["line"] for told in lines_of(out)) == list(range(1, 9))
    assert {entry.name for entry in os.scandir(out)} == {*after, "manifest.jsonl", ".batch.lock"}
