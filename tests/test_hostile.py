"""What people, or files that they were given, can get wrong: one sentence each, each a kind that once was none."""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from makeavideo import UserError
from makeavideo.batch.manifest import Manifest
from makeavideo.batch.rows import read_list
from makeavideo.cli.main import LONGEST, main
from makeavideo.data.images import CaptionedImages
from makeavideo.evaluation.trust import check_trusted
from makeavideo.loading import weights_hash
from makeavideo.media.reader import read_video
from makeavideo.media.writer import write_video
from makeavideo.pipeline import MakeAVideoPipeline
from makeavideo.settings import length_of
from makeavideo.training.plan import Wishes, check
from makeavideo.training.recipe import load_recipe
from makeavideo.training.stages.embedded import note_of
from makeavideo.yaml_text import NotYaml, parse_yaml
from media_files import CLIP
from tiny_clips import picture

RECIPE = Path(__file__).parents[1] / "recipes/tiny/clip.yaml"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{now}: &{now} [{', '.join([f'*{before}'] * 9)}]\n" for before, now in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    {
        "steps: 1\nseed: 2\nsteps: 3": "has the key steps twice, near line 3",
        "a: {b: 1, b: 1}": "has the key b twice",
        "a: 2001-99-99": "a value that cannot be: month must be",
        f"a: {'9' * 5000}": "a value that cannot be: Exceeds the limit",
        "[" * 3000: "nested too deep",
        BOMB: "too large, with what its aliases stand for",
        "a: &a [*a]": "too large",
        "a: !!python/object/apply:os.system [ls]": "not valid YAML near line 1",
        "a: [": "not valid YAML near line",
    }.items(),
)
def test_yaml_that_says_nothing_clear(text: str, sentence: str) -> None:
    with pytest.raises(NotYaml, match=sentence):
        parse_yaml(text)


def test_yaml_that_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_yaml("") is None and parse_yaml("a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}") == {
        "a": {"b": 1},
        "c": {"b": 1},
        "d": {"b": 1, "e": 2},
    }
    monkeypatch.setattr("makeavideo.yaml_text.MOST", 50)
    assert len(parse_yaml("[" + "1, " * 49 + "]")) == 49
    with pytest.raises(NotYaml, match="too large"):
        parse_yaml("[" + "1, " * 50 + "]")


@pytest.mark.parametrize(
    ("override", "sentence"),
    {
        "steps=" + "[" * 2000: "cannot be used, it is nested too deep",
        "steps=" + "9" * 5000: "cannot be used, it has a value",
        "seed=2001-99-99": "cannot be used, it has a value",
        'output="a\\u0000b"': "a zero byte",
        'steps="' + "w" * 10**6 + '"': "wrong value for steps",
        "optim.learning_rate=.inf": "finite number",
        f"seed={2**64}": "less than",
    }.items(),
)
def test_values_of_recipes(override: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        load_recipe(RECIPE, [override])
    assert len(str(caught.value)) < 10_500


def test_data_that_is_not_there_is_refused_before_torch(tmp_path: Path) -> None:
    for root in ("nowhere", "~nosuchuser/x", "z" * 5000):
        with pytest.raises(UserError, match=r"data\.roots of .*clip\.yaml is .*, which does not exist"):
            check(RECIPE, Wishes(overrides=(f"data.roots={json.dumps([str(root)])}",)), resume=False)


def said_by(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, *words: str, code: int = 2) -> str:
    """What the command says beside its result."""
    monkeypatch.setattr(sys, "argv", ["make-a-video", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == code
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["train", "x" * 300],
        ["compare", "x" * 300, "y" * 300],
        ["compare", "report", "x" * 300],
        ["generate", "a dog", "-o", "a.mp4", "--lora", "x" * 300],
        ["batch", "list.txt", "x" * 300],
        ["evaluate", "fvd", "x" * 300, "y"],
    ],
    ids=lambda words: " ".join(words[:2])[:20],
)
def test_names_that_are_too_long(capsys, monkeypatch, tmp_path: Path, words: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("a dog\n")
    error = said_by(capsys, monkeypatch, *words)
    assert "x" * 300 in error and error.count("\n") == 1 and "Traceback" not in error


BYTES = os.fsdecode(b"b\xe4r")
"""A name as old disks have it: no text in UTF-8, and none that a terminal shows."""


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS makes no such names")
def test_names_that_are_no_text(capsys, monkeypatch, tmp_path: Path) -> None:
    """They are used where they can be, and are a sentence where they cannot."""
    folder = tmp_path / BYTES
    write_video(folder / f"{BYTES}.mp4", np.zeros((4, 32, 32, 3), np.uint8), 8)
    file = folder / "m.json"
    said_by(capsys, monkeypatch, "evaluate", "motion", str(folder), "--bootstrap", "0", "-o", str(file), code=0)
    assert BYTES in json.dumps(json.loads(file.read_text("utf-8")), ensure_ascii=False)
    picture(folder / f"{BYTES}.png")
    assert note_of(CaptionedImages(folder, 8), "tower")
    (folder / f"{BYTES}.safetensors").write_bytes(b"")
    assert len(weights_hash(folder)) == 16
    assert "is no text, its letter" in said_by(capsys, monkeypatch, "compare", str(folder), str(folder))
    (folder / "model_index.json").write_text("{}")
    said = said_by(capsys, monkeypatch, "generate", "a dog", "--model", str(folder), "-o", "a.mp4")
    assert said.count("\n") == 1 and "is no text, its letter" in said and "model's folder" in said


def test_a_megabyte_is_not_quoted_whole(capsys, monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "story.yaml").write_text(f"- {{prompt: {'a ' * 500_000}, seconds: -1}}\n")
    error = said_by(capsys, monkeypatch, "generate", "--prompts", str(tmp_path / "story.yaml"), "-o", "a.mp4")
    assert "use a number above 0" in error and len(error) < LONGEST + 100
    error = said_by(capsys, monkeypatch, "train", str(RECIPE), "--set", "steps=" + "[" * 2000)
    assert len(error) < LONGEST + 100 and "nested too deep" in error


@pytest.mark.parametrize(
    ("ending", "text", "sentence"),
    [
        (".csv", 'prompt\n"a dog\na cat\n', r"no csv \(the row of line 2: unexpected end of data"),
        (".csv", "prompt,num-frames,num_frames\na,1,2\n", "the column 'num_frames' twice"),
        (".jsonl", '{"prompt": "a", "prompt": "b"}\n', "has the key 'prompt' twice"),
        (".jsonl", '{"prompt": "a", "num-frames": 1, "num_frames": 2}\n', "has the key 'num_frames' twice"),
        (".jsonl", '{"prompt": "a", "seconds": "' + "w" * 10**6 + '"}\n', "seconds .* is not possible"),
    ],
)
def test_lists_of_prompts_that_say_two_things(tmp_path: Path, ending: str, text: str, sentence: str) -> None:
    file = tmp_path / f"list{ending}"
    file.write_text(text)
    if ending == ".csv":
        with pytest.raises(UserError, match=sentence):
            read_list(file, {})
        return
    (line,) = read_list(file, {})
    assert line.row is None and re.search(sentence, line.error or "") and len(line.error or "") < 300


def test_a_manifest_that_somebody_else_wrote(tmp_path: Path) -> None:
    lines = [{"status": "made", "file": "a.mp4"}, {"status": "made", "file": 7, "line": 1}, None, [], "made"]
    good = {"status": "made", "file": "b.mp4", "line": 2}
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(one) + "\n" for one in [*lines, good]))
    manifest = Manifest(tmp_path)
    assert manifest.made == {"b.mp4": good}
    manifest.settle(["a.mp4", "b.mp4"])


def test_a_damaged_picture_in_a_folder_of_frames_is_named(tmp_path: Path) -> None:
    for index in range(2):
        Image.fromarray(CLIP[index]).save(tmp_path / f"{index}.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes()[:100])
    with pytest.raises(UserError, match=r"2\.png is cut off, damaged or no picture"):
        read_video(tmp_path)


def test_longer_than_a_day() -> None:
    with pytest.raises(UserError, match="longer than a day"):
        length_of({"seconds": 1e9})
    assert length_of({"seconds": 3600.0}) == 86400
    for seconds in (float("inf"), float("nan"), 0.0):
        with pytest.raises(UserError, match=f"--seconds {seconds:g} is "):
            length_of({"seconds": seconds})


def test_a_network_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no network"):
        check_trusted(tmp_path / "none.pt", True)
    check_trusted("emoji", False)


def test_what_programs_give_to_the_writer_and_to_load(tmp_path: Path) -> None:
    for shape, sentence in (((0, 8, 8, 3), "there are no frames to write"), ((2, 0, 8, 3), "has the shape")):
        with pytest.raises(UserError, match=sentence):
            write_video(tmp_path / "a.mp4", np.zeros(shape, np.uint8), 8)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="The model None is no folder's name"):
        MakeAVideoPipeline.load(None)  # type: ignore[arg-type]
