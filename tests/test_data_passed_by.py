"""Nothing is passed over in silence: what can be used is used, the rest is named."""

import os
import re
import tarfile
from pathlib import Path

import av
import pytest
from PIL import Image

from makeavideo import UserError
from makeavideo.data.clips import UnlabelledClips
from makeavideo.data.curriculum import FrameRateCurriculum
from makeavideo.data.images import CaptionedImages
from makeavideo.data.index import CLIPS, HEIC, PICTURES, SAME_STEM, list_items
from makeavideo.data.indexing import build_index
from makeavideo.data.report import SkipReport
from makeavideo.evaluation.videos import ENDINGS
from makeavideo.training.alike import Said
from tiny_clips import picture, write_animation, write_video


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


KINDS = {
    "a.ts": ("mpeg2video", (176, 144)),
    "a.mts": ("mpeg2video", (176, 144)),
    "a.wmv": ("wmv2", (176, 144)),
    "a.3gp": ("h263", (176, 144)),
    "a.mpg": ("mpeg1video", (176, 144)),
    "a.flv": ("flv", (176, 144)),
    "a.ogv": ("libtheora", (176, 144)),
}


@pytest.mark.parametrize("name", KINDS)
def test_clips_of_every_kind_that_is_taken_can_be_read(tmp_path, name):
    codec, size = KINDS[name]
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    write_video(tmp_path / name, 25, 25, codec, size=size)
    sample = UnlabelledClips(tmp_path, 16, num_frames=8, fps=25.0)[0, 0]
    assert sample["pixels"].shape == (8, 3, 16, 16) and not sample["skipped"]


def test_the_page_names_every_ending():
    page = (Path(__file__).parents[1] / "docs" / "own-data.md").read_text()
    pictures, clips = (page[page.index(f"- **{kind}**") :].split("Endings: ")[1] for kind in ("Pictures", "Clips"))
    assert set(re.findall(r"\w+", pictures.split(".")[0])) == PICTURES
    assert set(re.findall(r"\w+", clips.split(".")[0])) - {"and", "animated"} == CLIPS
    assert all(ending in page for ending in HEIC)
    assert {ending[1:] for ending in ENDINGS} == CLIPS  # what is measured


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


@pytest.mark.parametrize("key", ["caption", "captions", "keywords", "concept"])
def test_half_a_letter_of_json_is_mended_and_named(tmp_path, key):
    """The escape of a lone surrogate, as a text that was cut through an emoji has it: no encoding takes it."""
    data = tmp_path / "data"
    data.mkdir()
    picture(data / "a.png", caption=None)
    said = '["a \\ud83d cat", "a \\ud83d\\ude00 face"]'
    (data / "a.json").write_text(f'{{"label": "it", "{key}": {said}}}')
    build_index([str(data)], tmp_path / "set.index")
    for images in (CaptionedImages(data, 8), CaptionedImages(tmp_path / "set.index", 8)):
        told = images.wordings(0)
        assert "a \ufffd cat" in (*told.all, told.concept)
        assert key == "concept" or "a \U0001f600 face" in told.all
        Said.of([told], list(told.all)[:1], [0])
        report = SkipReport()
        report.add([*images.passed_by, *images[0, 0]["skipped"]])
        assert report.text(images.files) == (
            f"Used 1 file all the same: {data}/a.json (a caption with half a letter, read with a mark in its place)."
        )


def test_short_clips_are_counted(tmp_path):
    for number in range(20):
        write_animation(tmp_path / f"{number:02}.webp", 40 if number < 2 else 4, 40)
    clips = UnlabelledClips(tmp_path, 8, num_frames=16, fps=24.0, short="skip")
    report = SkipReport()
    for number in range(40):
        report.add(clips[number % 20, number]["skipped"])
    assert len(report) == 18
    sentence = "18 of 20 clips were never used (18 too short for 16 frames at 24 a second): "
    text = report.text(clips.files, "clips", limit=2)
    assert text.startswith(sentence) and text.endswith(
        "/03.webp (too short for 16 frames at 24 a second); and 16 more."
    )
    report.write(tmp_path / "skipped.txt")
    lines = (tmp_path / "skipped.txt").read_text().splitlines()
    assert lines[0] == f"too short for 16 frames at 24 a second\t{tmp_path}/02.webp" and len(lines) == 18
    again = SkipReport()
    again.read(tmp_path / "skipped.txt")
    assert again.reasons == report.reasons


def test_a_clip_too_short_for_some_of_the_rates_is_not_called_unused(tmp_path):
    write_animation(tmp_path / "long.webp", 60, 50)
    write_animation(tmp_path / "middle.webp", 20, 50)
    write_animation(tmp_path / "short.webp", 4, 50)
    rates = FrameRateCurriculum(2.0, 20.0, (1.0, 1.0), (1.0, 1.0))
    clips = UnlabelledClips(tmp_path, 8, num_frames=6, fps=rates, short="skip")
    report = SkipReport()
    for number in range(30):
        report.add(clips[number % 3, number]["skipped"])
    assert report.text(clips.files, "clips") == (
        f"1 of 3 clips was never used: {tmp_path}/short.webp (too short for 6 frames at 20 a second). "
        f"Used 1 file all the same: {tmp_path}/middle.webp (too short for some of the rates)."
    )


def test_one_name_in_two_folders_or_shards_is_two_pictures_and_twice_in_one_is_named(tmp_path):
    for folder, words in (("one", "a cat"), ("two", "a rocket")):
        (tmp_path / folder).mkdir()
        picture(tmp_path / folder / "0001.png", caption=words)
        with tarfile.open(tmp_path / f"{folder}.tar", "w") as tar:
            for path in sorted((tmp_path / folder).iterdir()):
                tar.add(path, arcname=path.name)
    picture(tmp_path / "one" / "0001.jpg", caption="a cat")
    for roots in ([tmp_path / "one", tmp_path / "two"], [tmp_path / "one.tar", tmp_path / "two.tar"]):
        images = CaptionedImages(roots, 8)
        assert images.passed_by == ([(str(tmp_path / "one/0001.png"), SAME_STEM)] if roots[0].is_dir() else [])
        assert images.captions(len(images) - 1) == ["a rocket"] and images.captions(0) == ["a cat"]
        assert images.wordings(0).group != images.wordings(len(images) - 1).group
    report = SkipReport()
    report.add(CaptionedImages(tmp_path / "one", 8).passed_by)
    assert report.text((), "pictures").startswith("Used 1 file all the same")
    assert CaptionedImages([tmp_path / "one", tmp_path / "two.tar"], 8).keys == ["0001"] * 3


def test_a_folder_given_twice_is_read_once(tmp_path):
    picture(tmp_path / "a.png")
    images = CaptionedImages([tmp_path, tmp_path / "a.png", tmp_path / "a.txt"], 8)
    assert len(images) == 1 and len(images.passed_by) == 2
    assert {reason for _, reason in images.passed_by} == {"a file of a folder or shard that is given twice"}


def test_names_without_an_ending_and_links_to_nothing_are_named(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "IMG_0001").write_bytes((tmp_path / "a.png").read_bytes())
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    os.mkfifo(tmp_path / "pipe.png")
    with tarfile.open(tmp_path / "c.tar", "w") as tar:
        tar.add(tmp_path / "IMG_0001", arcname="IMG_0002")
    reasons = {path.rpartition("/")[2]: reason for path, reason in CaptionedImages(tmp_path, 8).passed_by}
    assert reasons == {
        "IMG_0001": "a file whose name has no ending",
        "IMG_0002": "a file whose name has no ending",
        "b.png": "a link to nothing",
        "pipe.png": "not a regular file",
    }


def test_where_nothing_is_usable_the_sentence_says_what_there_is(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.heic").write_bytes(b"x")
    with pytest.raises(UserError, match=r"no usable file \(3 HEIC, which cannot be read here: save it as jpg or png\)"):
        CaptionedImages(tmp_path, 8)


def test_names_that_no_terminal_can_print_do_not_end_a_run(tmp_path):
    report = SkipReport()
    report.add([("bär\n\udcff.png", "empty file")])
    assert report.text() == "Skipped 1 file: bär\\n\\udcff.png (empty file)."
    report.write(tmp_path / "skipped.txt")
    assert len((tmp_path / "skipped.txt").read_text("utf-8").splitlines()) == 1


def test_captions_in_other_encodings(tmp_path):
    """What can be told is read, what cannot is named and not trained on as letters that nobody wrote."""
    said = {
        "utf32.txt": "ein grüner Kürbis".encode("utf-32"),
        "little.txt": "une fusée décolle".encode("utf-16-le"),
        "big.txt": "une fusée décolle".encode("utf-16-be"),
        "mark.json": b"\xef\xbb\xbf" + '{"caption": "ein grüner Kürbis"}'.encode(),
        "japanese.txt": "赤いロケット".encode("shift-jis"),
        "binary.txt": bytes(range(256)),
        "other.json": b'{"width": 512, "height": 512}',
    }
    for name, data in said.items():
        (tmp_path / name).write_bytes(data)
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name.partition('.')[0]}.png")
    images = CaptionedImages(tmp_path, 8)
    words = {images.items[place].stem: images.captions(place) for place in range(len(images))}
    assert words["utf32"] == words["mark"] == ["ein grüner Kürbis"]
    assert words["little"] == words["big"] == ["une fusée décolle"]
    assert not words["japanese"] and not words["binary"] and not words["other"]
    told = {path.rpartition("/")[2]: reason for place in range(len(images)) for path, reason in images.remarks(place)}
    assert "its encoding is not known: save it as UTF-8" in told["japanese.txt"] and "no text" in told["binary.txt"]
    assert told["utf32.txt"] == "a caption in UTF-32, read as that" and "UTF-16" in told["big.txt"]
    assert told["other.json"].startswith("a .json that has none of captions, caption") and len(told) == 6


def test_linked_and_hidden_folders(tmp_path):
    """Links are followed, once and never round in circles; what is hidden is named."""
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    (tmp_path / "set" / ".hidden").mkdir(parents=True)
    picture(tmp_path / "disk" / "deep" / "a.png")
    picture(tmp_path / "set" / "b.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "set" / ".c.png")
    (tmp_path / "set" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "up").symlink_to(tmp_path / "set")
    items, told = list_items(tmp_path / "set", PICTURES)
    assert [item.key for item in items] == ["b", "linked/deep/a"]
    reasons = {path.rpartition("/")[2]: reason for path, reason in told}
    assert reasons.pop("up") == "a link to a folder that is there already"
    assert reasons == dict.fromkeys((".hidden", ".c.png"), "hidden: its name begins with a dot")


def test_a_shard_with_links_or_hidden_files_says_so(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    os.link(tmp_path / "a.png", tmp_path / "b.png")
    (tmp_path / ".c.png").write_bytes((tmp_path / "a.png").read_bytes())
    with tarfile.open(tmp_path / "a.tar", "w") as tar:  # the second name of a file becomes a link in it
        tar.add(tmp_path / "a.png", arcname="a.png")
        tar.add(tmp_path / "b.png", arcname="b.png")
        tar.add(tmp_path / ".c.png", arcname="x/.c.png")
    items, told = list_items(tmp_path / "a.tar", PICTURES)
    shard = str(tmp_path / "a.tar")
    links = (shard, "a shard with links, which are not followed")
    assert len(items) == 1 and told == [links, (f"{shard}/x/.c.png", "hidden: its name begins with a dot")]
