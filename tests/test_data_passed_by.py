"""Nothing is passed over in silence: what can be used is used, the rest is named."""

import tarfile

import pytest
from PIL import Image

from makeavideo.data.clips import UnlabelledClips
from makeavideo.data.images import CaptionedImages
from makeavideo.data.index import CLIPS, PICTURES, list_items
from makeavideo.data.reader import SkipReport
from tiny_clips import picture, write_animation


def test_names_with_dots_are_clips_in_a_shard_too(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("plain", "clip.v2", "Recording 2024-01-01 at 10.30.15"):
        write_animation(folder / f"{name}.webp", 4)
    with tarfile.open(tmp_path / "clips.tar", "w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, arcname=path.name)
    for root in (folder, tmp_path / "clips.tar"):
        items, told = list_items(root, CLIPS)
        assert {item.key for item in items} == {"plain", "clip.v2", "Recording 2024-01-01 at 10.30.15"} and not told


def test_kinds_that_the_decoder_knows_are_taken_and_others_named(tmp_path):
    for name in ("a.mp4", "b.ts", "c.wmv", "d.3gp", "e.mpg", "f.flv", "g.jpg", "h.heic", "i.psd"):
        (tmp_path / name).write_bytes(b"x")
    Image.new("RGB", (8, 8)).save(tmp_path / "j.avif")
    items, told = list_items(tmp_path, CLIPS)
    assert [item.media.extension for item in items] == ["mp4", "ts", "wmv", "3gp", "mpg", "flv", "avif"]
    reasons = {path.rpartition("/")[2]: reason for path, reason in told}
    assert reasons["g.jpg"] == "a picture beside clips" and reasons["i.psd"] == "a file of another kind, .psd"
    assert "save it as jpg or png" in reasons["h.heic"] and len(reasons) == 3
    assert [item.media.extension for item in list_items(tmp_path, PICTURES)[0]] == ["jpg", "avif"]


def test_captions_without_a_picture_and_names_twice_in_a_shard(tmp_path):
    for folder, words in (("one", "first"), ("two", "second")):
        (tmp_path / folder).mkdir()
        picture(tmp_path / folder / "a.png", caption=words)
    (tmp_path / "one" / "alone.txt").write_text("of nothing")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for path in sorted(tmp_path.glob("*/*")):
            tar.add(path, arcname=path.name)
    items, told = list_items(tmp_path / "a.tar", PICTURES)
    assert len(items) == 1 and len(items[0].captions) == 1
    assert sorted(reason for _, reason in told) == [
        "a caption without a picture",
        *["a name that its shard holds twice"] * 2,
    ]
    images = CaptionedImages(tmp_path / "a.tar", 8)
    assert images[0, 0]["caption"] == "first" and images.passed_by == told


@pytest.mark.parametrize("encoding, odd", [("utf-16", "UTF-16"), ("cp1252", "Windows-1252"), ("utf-8", None)])
def test_captions_in_another_encoding_are_read_and_named(tmp_path, encoding, odd):
    picture(tmp_path / "a.png", caption=None)
    (tmp_path / "a.txt").write_bytes("ein grüner Bär".encode(encoding))
    images = CaptionedImages(tmp_path, 8)
    sample = images[0, 0]
    assert sample["caption"] == "ein grüner Bär"
    assert [odd in reason for _, reason in sample["skipped"]] == ([True] if odd else [])
    assert not images[0, 1]["skipped"]  # told once


def test_short_clips_are_counted(tmp_path):
    for number in range(4):
        write_animation(tmp_path / f"{number}.webp", 40 if number == 0 else 4, 40)
    clips = UnlabelledClips(tmp_path, 8, num_frames=16, fps=24.0, short="skip")
    report = SkipReport()
    for number in range(8):
        report.add(clips[number % 4, number]["skipped"])
    assert len(report) == 3
    assert report.text(limit=2).startswith("Skipped 3 files (3 too short for 16 frames at 24 a second): ")
    report.write(tmp_path / "skipped.txt")
    lines = (tmp_path / "skipped.txt").read_text().splitlines()
    assert lines[0] == f"too short for 16 frames at 24 a second\t{tmp_path}/1.webp" and len(lines) == 3
