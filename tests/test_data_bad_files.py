"""Files that cannot be read are replaced and named."""

import random

import numpy as np
import pytest
from PIL import Image

from makeavideo import UserError
from makeavideo.data.clips import UnlabelledClips
from makeavideo.data.images import CaptionedImages
from makeavideo.data.report import SkipReport
from tiny_clips import cut_file, picture, same, write_animation, write_audio, write_video


def make_bad_clips(folder):
    noise = random.Random(0).randbytes
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "empty.gif").write_bytes(b"")
    (folder / "noise.mp4").write_bytes(noise(5000))
    (folder / "noise.webp").write_bytes(noise(5000))
    (folder / "text.webm").write_text("this is no video\n" * 50)
    (folder / "playlist.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://192.0.2.1/a.ts\n")
    (folder / "concat.mp4").write_text("ffconcat version 1.0\nfile good.mp4\n")
    write_audio(folder / "audio.mp4")
    write_video(folder / "single.mp4", count=1)
    write_animation(folder / "single.webp", 1)
    write_animation(folder / "single.gif", 1)
    cut_file(write_video(folder / "cut.mp4"), 0.5)  # its index, at the end, is gone
    cut_file(write_video(folder / "cutfast.mp4", options={"movflags": "faststart"}), 0.6)  # index kept, data gone
    cut_file(write_video(folder / "cut.webm", codec="libvpx-vp9"), 0.5)
    cut_file(write_animation(folder / "cut.webp"), 0.5)
    cut_file(write_animation(folder / "cut.gif"), 0.5)
    cut_file(write_animation(folder / "cut.apng"), 0.5)
    return sorted(p for p in folder.iterdir())


def test_bad_clips_are_replaced_and_named(tmp_path, monkeypatch):
    bad = make_bad_clips(tmp_path)
    write_video(tmp_path / "good.mp4", count=40)
    clips = UnlabelledClips(tmp_path, 16, 4, 30)
    assert len(clips) == len(bad) + 1
    report = SkipReport()
    for i in range(len(clips)):
        sample = clips[i, i]
        assert sample["key"] == "good"
        report.add(sample["skipped"])
    assert [path for path, _ in report] == [str(p) for p in bad]
    reasons = {path.rpartition("/")[2]: reason for path, reason in report}
    assert reasons["empty.mp4"] == reasons["empty.gif"] == "empty file"
    assert reasons["audio.mp4"] == "no video track"
    assert reasons["single.mp4"] == reasons["single.webp"] == reasons["single.gif"] == "only one frame"
    assert reasons["text.webm"] == reasons["playlist.mp4"] == reasons["noise.mp4"] == "not a video"
    assert all(len(r) < 100 and "\n" not in r for r in reasons.values())
    # remembered: nothing is opened again, and the samples stay the same
    before = [clips[i, i] for i in range(len(clips))]
    monkeypatch.setattr("makeavideo.data.index.Source.open", None)
    monkeypatch.setattr("makeavideo.data.index.Source.read", None)
    assert all(same(clips[i, i], before[i]) for i in range(len(clips)))


def test_replacements_do_not_depend_on_what_was_read_before(tmp_path):
    make_bad_clips(tmp_path)
    for name in "abcd":
        write_animation(tmp_path / f"{name}.gif", 8)
    fresh = lambda: UnlabelledClips(tmp_path, 16, 4, 30)  # noqa: E731
    keys = [(i, 50 + i) for i in range(0, len(fresh()), 3)]
    used = fresh()
    for key in keys[::-1]:
        used[key]
    assert all(same(used[key], fresh()[key]) for key in keys)


def test_bad_pictures_are_replaced_and_named(tmp_path):
    (tmp_path / "text.png").write_text("not a picture at all")
    (tmp_path / "empty.jpg").write_bytes(b"")
    for kind in ("png", "jpg", "webp"):
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"cut{kind}.{kind}")
        cut_file(tmp_path / f"cut{kind}.{kind}", 0.5)
    Image.new("1", (8100, 8100)).save(tmp_path / "bomb.png")
    Image.new("1", (20000, 20000)).save(tmp_path / "huge.png")
    for path in list(tmp_path.iterdir()):
        path.with_suffix(".txt").write_text("x")
    picture(tmp_path / "silent.png", caption=None)
    picture(tmp_path / "blank.png", caption="\n \n")
    picture(tmp_path / "badjson.png", caption=None)
    (tmp_path / "badjson.json").write_text("{")
    picture(tmp_path / "listjson.png", caption=None)
    (tmp_path / "listjson.json").write_text('{"caption": 3}')
    picture(tmp_path / "zgood.png")
    images = CaptionedImages(tmp_path, 16)
    report = SkipReport()
    for i in range(len(images)):
        sample = images[i, i]
        assert (sample["key"], sample["caption"]) == ("zgood", "a picture")
        report.add(sample["skipped"])
    reasons = {path.rpartition("/")[2]: reason for path, reason in report}
    assert len(reasons) == len(images) - 1 == 11
    assert reasons["text.png"] == "not a picture" and reasons["empty.jpg"] == "empty file"
    assert reasons["bomb.png"] == reasons["huge.png"] == "more than 64 megapixels"
    assert {reasons[f"{n}.png"] for n in ("silent", "blank", "badjson", "listjson")} == {"no caption"}


def test_a_file_deleted_meanwhile_is_replaced(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    images = CaptionedImages(tmp_path, 8)
    (tmp_path / "a.png").unlink()
    sample = images[0, 0]
    assert sample["key"] == "b" and sample["skipped"] == [(str(tmp_path / "a.png"), "No such file or directory")]


def test_nothing_readable_is_a_user_error(tmp_path):
    make_bad_clips(tmp_path)
    with pytest.raises(UserError, match=r"can be read") as error:
        UnlabelledClips(tmp_path, 16)[3, 1]
    assert str(tmp_path) in str(error.value) and "audio.mp4: no video track" in str(error.value)


def test_wrong_folders_and_settings_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        CaptionedImages(tmp_path / "none", 8)
    with pytest.raises(UserError, match="no usable file"):
        CaptionedImages(tmp_path, 8)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "._a.mp4").write_text("x")
    with pytest.raises(UserError, match="no usable file"):
        UnlabelledClips(tmp_path, 8)
    write_animation(tmp_path / "a.gif", 4)
    for wrong in (
        {"background": "blu"},
        {"crop": 9},
        {"short": "cut"},
        {"num_frames": 0},
        {"fps": 0},
        {"frame_skip": 0},
    ):
        with pytest.raises(UserError):
            UnlabelledClips(tmp_path, 8, **wrong)


def test_skip_report_names_each_file_once():
    report = SkipReport()
    assert report.text() == "" and len(report) == 0 and not report.fresh
    report.add([("b.mp4", "no video track"), ("a.mp4", "empty file")])
    report.add([("b.mp4", "no video track")])
    assert report.fresh and len(report) == 2
    assert report.text() == "Skipped 2 files: a.mp4 (empty file); b.mp4 (no video track)."
    assert not report.fresh
    report.add([(f"c{i}", "x") for i in range(30)])
    assert report.text(limit=2).endswith("b.mp4 (no video track); and 30 more.")
