"""The paper's zero-shot protocols on folders of the right shape, with the count reduced."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from makeavideo.errors import UserError
from makeavideo.evaluation import classifiers, features, protocols, text_image
from makeavideo.media.reader import read_recipe, read_video
from makeavideo.media.writer import write_video
from tiny_evaluation import TinyC3D, TinyI3D, TinyInception, moving_clip, scripted

CLASSES = {"Archery": 3, "Biking": 2, "YoYo": 1}


def write_avi(path: Path, frames: np.ndarray) -> None:
    """UCF-101 is avi; `write_video` does not write that, and readers go by content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = write_video(path.with_suffix(".mp4"), frames, 25)
    written.rename(path)


@pytest.fixture(scope="module")
def ucf101(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "UCF-101"
    lines = []
    for label, (name, count) in enumerate(CLASSES.items(), 1):
        for number in range(count + 1):  # one more, which is not on the training list
            file = f"{name}/v_{name}_g{number + 1:02d}_c01.avi"
            write_avi(root / file, moving_clip(10 * label + number, 20, 32))
            if number < count:
                lines.append(f"{file} {label}")
    lists = root.parent / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "trainlist01.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def msrvtt(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("msrvtt")
    videos = [{"video_id": f"video{n}", "split": "test" if n >= 2 else "train"} for n in range(5)]
    sentences = [
        {"video_id": f"video{n}", "caption": f"disc {n} {part}", "sen_id": 10 * n + part}
        for n in range(5)
        for part in range(2)
    ]
    (root / "videodatainfo.json").write_text(json.dumps({"videos": videos, "sentences": sentences}))
    for n in range(5):
        write_video(root / "videos" / f"video{n}.mp4", moving_clip(n, 12, 32), 25)
    return root


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    root = tmp_path_factory.mktemp("networks")
    for name, module in (("i3d", TinyI3D()), ("c3d", TinyC3D()), ("inception", TinyInception())):
        scripted(module, root / f"{name}.pt")
    return root


class Generator:
    """Clips that depend on the sentence and the seed; it remembers what it was asked for."""

    def __init__(self, fail_after: int | None = None):
        self.calls: list[tuple[list[str], int]] = []
        self.fail_after = fail_after

    def __call__(self, prompts: list[str], seed: int) -> np.ndarray:
        if self.fail_after is not None and len(self.calls) >= self.fail_after:
            raise KeyboardInterrupt
        self.calls.append((prompts, seed))
        return np.stack([moving_clip(seed * 100 + row + len(prompt), 16, 32) for row, prompt in enumerate(prompts)])


class Words(text_image.TextImageNetwork):
    name, weights = "words", "0" * 16

    def embed_texts(self, texts):
        vectors = np.array([[len(text), text.count("1") + 1] for text in texts], np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def embed_frames(self, frames):
        vectors = frames.reshape(len(frames), -1, 3).mean(1)[:, :2].astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_sentences_name_every_class_once():
    sentences = protocols.ucf101_sentences()
    assert len(sentences) == len(set(sentences.values())) == 101
    assert all(3 <= len(sentence.split()) <= 15 for sentence in sentences.values())
    with protocols.SENTENCES.open(newline="") as file:
        assert len(list(csv.reader(file))) == 102


def test_shares_follow_the_classes():
    classes = [name for name, count in CLASSES.items() for _ in range(count)]
    assert protocols.shares(classes, 6) == CLASSES
    found = protocols.shares(classes, 10_000)
    assert sum(found.values()) == 10_000
    assert found == {"Archery": 5000, "Biking": 3333, "YoYo": 1667}


def test_ucf101(ucf101, networks, tmp_path):
    generate = Generator()
    i3d, c3d = (features.I3D(networks / "i3d.pt", True), classifiers.ClipClassifier(networks / "c3d.pt", True))
    arguments = (ucf101, tmp_path, generate, i3d, c3d)
    score, distance = protocols.ucf101(*arguments, count=12, draws=5, batch_size=5)
    files = sorted(tmp_path.rglob("*.mp4"))
    assert Counter(path.parent.name for path in files) == {"Archery": 6, "Biking": 4, "YoYo": 2}
    assert read_recipe(tmp_path / "YoYo" / "00001.mp4")["prompt"] == protocols.ucf101_sentences()["YoYo"]
    assert score.measure == "UCF-101 zero-shot: Inception Score, clip classifier"
    assert distance.measure == "UCF-101 zero-shot: FVD"
    # the six videos of the training list, not the nine of the folder
    assert (distance.counts["real clips"], distance.counts["made clips"]) == (6, 12)
    assert distance.settings["real"] == "training list"
    assert score.counts["videos made in this run"] == 12
    again = protocols.ucf101(*arguments, count=12, draws=5, batch_size=5)
    assert again[1].values == distance.values and again[0].counts["videos made in this run"] == 0
    assert len(generate.calls) == 3


def test_ucf101_without_list_takes_all_videos_and_says_so(ucf101):
    data = protocols.Ucf101(ucf101, split=2)
    assert data.training_list() is None and len(data.train_videos()) == 9


def test_a_run_that_was_cut_off_goes_on(ucf101, tmp_path):
    sentences = protocols.ucf101_sentences()
    whole, parts = (
        protocols.ucf101_tasks(protocols.Ucf101(ucf101), sentences, tmp_path / name, 7) for name in ("whole", "parts")
    )
    protocols.make_videos(whole, Generator(), 3, 2, 8)
    with pytest.raises(KeyboardInterrupt):
        protocols.make_videos(parts, Generator(fail_after=2), 3, 2, 8)
    assert sum(task.path.exists() for task in parts) == 4
    parts[1].path.unlink()
    assert protocols.make_videos(parts, Generator(), 3, 2, 8) == 4
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(read_video(one.path).frames, read_video(other.path).frames)
    with pytest.raises(UserError, match="another sentence, seed or batch size"):
        protocols.make_videos(parts, Generator(), 4, 2, 8)


def test_msrvtt(msrvtt, networks, tmp_path):
    generate = Generator()
    inception = features.Inception(networks / "inception.pt", True)
    arguments = (msrvtt / "videodatainfo.json", msrvtt / "videos", tmp_path, generate, inception)
    distance, likeness = protocols.msrvtt(*arguments, Words(), frames=4, draws=5, batch_size=4)
    # two captions of each of the three test videos
    assert sorted(path.stem for path in tmp_path.glob("*.mp4")) == ["20", "21", "30", "31", "40", "41"]
    assert read_recipe(tmp_path / "31.mp4")["prompt"] == "disc 3 1"
    assert (distance.measure, likeness.measure) == ("MSR-VTT zero-shot: FID", "MSR-VTT zero-shot: CLIPSIM")
    assert (distance.counts["real videos"], distance.counts["made videos"]) == (3, 6)
    assert likeness.counts["videos"] == 6 and 0 < likeness.values["cosine"].value <= 1
    fewer = protocols.msrvtt(*arguments[:2], tmp_path / "fewer", *arguments[3:], Words(), count=2, frames=2, draws=0)
    assert fewer[1].counts["videos"] == 2


def test_other_folders_are_refused(ucf101, msrvtt, tmp_path):
    (tmp_path / "table.json").write_text("{}")
    table = msrvtt / "videodatainfo.json"
    for call, message in (
        (lambda: protocols.Ucf101(tmp_path).train_videos(), "no UCF-101"),
        (lambda: protocols.ucf101_tasks(protocols.Ucf101(ucf101), {"YoYo": "x"}, tmp_path, 3), "no sentence"),
        (lambda: protocols.MsrVtt(tmp_path / "table.json", tmp_path).captions(), "no MSR-VTT json"),
        (lambda: protocols.MsrVtt(table, tmp_path, "validate").captions(), "no caption of the split"),
        (lambda: protocols.MsrVtt(table, tmp_path).real_videos(), r"holds no video2\.mp4"),
    ):
        with pytest.raises(UserError, match=message):
            call()

    def wrong(prompts, seed):
        return np.zeros((len(prompts), 4, 8, 8, 3), np.float32)

    with pytest.raises(UserError, match="uint8"):
        protocols.make_videos([protocols.Task(tmp_path / "a.mp4", "a")], wrong, 0, 1, 8)


def test_the_papers_table_is_data():
    table = json.loads((protocols.SENTENCES.parent / "paper_results.json").read_text())
    for name, measures in (("MSR-VTT", ("FID", "CLIPSIM")), ("UCF-101", ("IS", "FVD"))):
        rows = table["tables"][name]["rows"]
        ours = [row for row in rows if row["method"] == "makeavideo (this repository)"]
        assert len(ours) == 1 and ours[0]["why_empty"] and all(ours[0][measure] is None for measure in measures)
        assert any(row["method"] == "Make-A-Video" and row[measures[0]] for row in rows)
        assert all(set(measures) <= set(row) for row in rows)


def test_the_command_makes_videos_by_a_cascade(ucf101, networks, tmp_path, monkeypatch):
    from makeavideo.cli import evaluate
    from tiny_evaluation import run

    monkeypatch.setattr(evaluate, "generator_of", lambda *_: Generator())
    shared = ("--trust", "--count", 6, "--bootstrap", 0, "--batch-size", 3)
    found = run(
        "ucf101", ucf101, tmp_path, "--network", networks / "i3d.pt", "--classifier", networks / "c3d.pt", *shared
    )
    assert [result["measure"].split(": ")[1] for result in found] == ["Inception Score, clip classifier", "FVD"]


def test_generator_of_a_cascade(tiny_model):
    from makeavideo.cli.evaluate import generator_of
    from makeavideo.orders import Additions

    generate = generator_of(tiny_model, 3, None, 8.0, 2, 1.0, Additions())
    videos = generate(["a cat", "a red rocket"], 5)
    assert videos.dtype == np.uint8 and videos.shape == (2, 3, 16, 16, 3)
    np.testing.assert_array_equal(videos, generate(["a cat", "a red rocket"], 5))
