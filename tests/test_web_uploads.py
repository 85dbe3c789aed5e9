"""The studio's gallery and uploads: files of people, of which nothing is believed."""

import json
import os
import re
import struct
import time

import numpy as np
import pytest
from PIL import Image

from makeavideo.errors import UserError
from makeavideo.media.reader import probe, read_recipe
from makeavideo.web import gallery as gallery_module
from makeavideo.web import html
from makeavideo.web import uploads as uploads_module
from makeavideo.web.gallery import Gallery
from makeavideo.web.uploads import (
    INCOMING_SECONDS,
    KEPT_PIXELS,
    MAX_BYTES,
    Source,
)
from studio_page import MARKUP, clip


def test_the_gallery_is_its_folder_newest_first(gallery, tmp_path):
    for i, label in enumerate(("a red apple", "<b>markup</b>/../x", "")):
        path = clip(gallery.new_path(label), recipe={"use": "generate", "prompt": label})
        os.utime(path, (1000 + i, 1000 + i))
    (gallery.folder / "note.txt").write_text("not a video")
    (gallery.folder / "broken.mp4").write_text("not a video either")
    outside_file = clip(tmp_path / "outside.mp4")
    (gallery.folder / "link.mp4").symlink_to(outside_file)
    names = [item.name for item in Gallery(gallery.folder).items()]
    assert [re.sub(r"^\d+-\d+-|-[0-9a-f]{6}\.mp4$", "", name) for name in names] == [
        "video",
        "b-markup-b-x",
        "a-red-apple",
    ]
    for name in ("link.mp4", "../outside.mp4", "note.txt", str(outside_file), "uploads", "", None, "a\0.mp4"):
        with pytest.raises(UserError, match="not in the gallery"):
            gallery.path(name)


def test_downloads_of_every_format_keep_frames_and_recipe(gallery):
    recipe = {"use": "generate", "prompt": MARKUP, "seed": 3}
    name = clip(gallery.new_path("x"), 12, recipe, fps=60).name
    for ending in ("mp4", "webm", "gif", "webp"):
        file = gallery.download(name, ending)
        assert read_recipe(file) == recipe
        assert abs(probe(file).duration - 0.2) < 0.05
    assert gallery.download(name, "gif").stat().st_mtime_ns == gallery.download(name, "gif").stat().st_mtime_ns
    with pytest.raises(UserError, match="choose one of them"):
        gallery.download(name, "exe")
    assert len(gallery.items()) == 1


def test_uploads_are_what_they_hold_and_not_what_they_are_called(uploads, tmp_path):
    picture = uploads.incoming / "holiday.txt"
    Image.new("RGB", (40, 30), "red").save(picture, "PNG")
    kept = uploads.accept(picture, "picture")
    assert kept.shown == "holiday.txt" and re.fullmatch("[0-9a-f]{32}", kept.name)
    assert uploads.shown(kept.name)[1] == "image/png"
    film = clip(uploads.incoming / "film.mp4").rename(uploads.incoming / "film.png")
    content = film.read_bytes()
    assert uploads.shown(uploads.accept(film, "video").name)[1] == "video/mp4"
    assert not film.exists(), "it is kept once"
    film.write_bytes(content)
    with pytest.raises(UserError, match=r"film\.png is a video, not a picture") as caught:
        uploads.accept(film, "picture")
    assert str(tmp_path) not in str(caught.value)
    text = uploads.incoming / "text.png"
    text.write_text("no picture")
    for kind in ("picture", "video"):
        with pytest.raises(UserError, match=r"text\.png"):
            uploads.accept(text, kind)


def test_uploads_are_bounded(uploads):
    large = uploads.incoming / "large.png"
    with open(large, "wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(UserError, match="larger than 50 MB"):
        uploads.accept(large, "picture")
    bomb = uploads.incoming / "bomb.png"
    Image.new("1", (9000, 9000)).save(bomb)
    with pytest.raises(UserError, match="more than 64"):
        uploads.accept(bomb, "picture")
    slow = uploads.incoming / "slow.mp4"
    clip(slow, 61, fps=1)
    with pytest.raises(UserError, match="at most 60 seconds"):
        uploads.accept(slow, "video")


def test_large_pictures_are_kept_smaller_and_others_as_they_are(uploads, monkeypatch):
    assert KEPT_PIXELS > 10**6
    monkeypatch.setattr(uploads_module, "KEPT_PIXELS", 40_000)
    large = uploads.incoming / "large.png"
    Image.new("L", (1600, 400), 90).save(large)
    with Image.open(uploads.path(uploads.accept(large, "picture"))) as kept:
        assert 0.99 * 40_000 < kept.width * kept.height < 1.01 * 40_000
        assert abs(kept.width / kept.height - 4) < 0.01 and kept.getpixel((9, 9)) == (90, 90, 90)
    small = uploads.incoming / "small.png"
    Image.new("RGBA", (40, 30)).save(small)
    content = small.read_bytes()
    assert uploads.path(uploads.accept(small, "picture")).read_bytes() == content


def test_only_uploaded_files_are_accepted(uploads, gallery, tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    link = uploads.incoming / "link.png"
    link.symlink_to(secret)
    sly = [
        secret,
        link,
        uploads.incoming / "../../../secret.png",
        f"file://{secret}",
        "http://127.0.0.1/x.png",
        None,
        7,
    ]
    for path in sly:
        with pytest.raises(UserError, match="not an uploaded file"):
            uploads.accept(path, "picture")
    (uploads.folder / ("a" * 32)).symlink_to(secret)
    for name in ("a" * 32, "../" * 3 + "secret.png", str(secret)):
        assert not uploads.has(Source("upload", name, "x"))


def test_the_oldest_uploads_make_room(uploads, monkeypatch):
    dots = [uploads.keep_frame(np.full((8, 8, 3), i, np.uint8), f"{i}.png") for i in range(3)]
    for i, dot in enumerate(dots):
        os.utime(uploads.path(dot), (1000 + i, 1000 + i))
    monkeypatch.setattr(uploads_module, "MAX_TOTAL_BYTES", 2 * uploads.path(dots[0]).stat().st_size + 20)
    last = uploads.keep_frame(np.full((8, 8, 3), 9, np.uint8), "9.png")
    assert [uploads.has(dot) for dot in (*dots, last)] == [False, False, True, True]


def test_what_waits_is_bounded_in_size_and_age(uploads, tmp_path, monkeypatch):
    def wait_for(name: str, age: float, size: int = 10):
        """As Gradio keeps an upload."""
        file = uploads.incoming / f"folder-{name}" / name
        file.parent.mkdir()
        file.write_bytes(bytes(size))
        for one in (file, file.parent):
            os.utime(one, (time.time() - age, time.time() - age))
        return file

    secret = tmp_path / "secret"
    secret.write_text("kept")
    late = wait_for("late", INCOMING_SECONDS + 9)
    files = [wait_for(str(age), age) for age in (300, 200, 100)]
    (uploads.incoming / "link").symlink_to(secret)
    monkeypatch.setattr(uploads_module, "MAX_INCOMING_BYTES", 25 + len(str(secret)))
    uploads.tidy_incoming()
    assert [one.exists() for one in (late, *files)] == [False, False, True, True]
    uploads.tidy_incoming()  # an empty folder goes when it has been one for as long
    assert files[1].exists() and secret.read_text() == "kept"
    uploads.incoming.rename(tmp_path / "elsewhere")
    uploads.tidy_incoming()


def test_an_animation_is_bounded_by_all_its_frames_and_by_time(uploads, monkeypatch):
    bomb = uploads.incoming / "bomb.gif"  # a large screen, on which every frame is one dot
    dot = b"\x2c" + struct.pack("<4HB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    bomb.write_bytes(b"GIF89a" + struct.pack("<2H3B", 8000, 8000, 0x80, 0, 0) + bytes(6) + 32 * dot + b";")
    with pytest.raises(UserError, match=r"bomb\.gif has more than 2000 megapixels"):
        uploads.accept(bomb, "video")
    small = uploads.incoming / "small.webp"
    clip(small)
    content = small.read_bytes()
    monkeypatch.setattr(uploads_module, "LOOK_SECONDS", -1.0)
    with pytest.raises(UserError, match=r"small\.webp takes too long to read"):
        uploads.accept(small, "video")
    monkeypatch.undo()
    monkeypatch.setattr("makeavideo.media.animations.MAX_SECONDS", -1.0)
    with pytest.raises(UserError, match=r"small\.webp takes too long to read"):
        uploads.accept(small, "video")
    monkeypatch.undo()
    small.write_bytes(content)
    assert uploads.accept(small, "video").shown == "small.webp"


DOT = b"\x2c" + struct.pack("<4HB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
PIECES = b"\x21\xfe" + 4000 * (b"\xff" + 255 * b"a") + b"\0"


@pytest.mark.parametrize(
    ("kind", "content"),
    [("picture", PIECES + DOT), ("video", PIECES + DOT), ("video", DOT + PIECES + DOT), ("video", 20_000 * DOT)],
    ids=["comment of a picture", "comment", "comment between frames", "frames"],
)
def test_a_look_at_a_gif_can_end_wherever_it_is(kind, content, uploads, monkeypatch):
    slow = uploads.incoming / "slow.gif"
    slow.write_bytes(b"GIF89a" + struct.pack("<2H3B", 1, 1, 0x80, 0, 0) + bytes(6) + content + b";")
    monkeypatch.setattr(uploads_module, "LOOK_SECONDS", 0.001)
    with pytest.raises(UserError, match=r"slow\.gif takes too long to read"):
        uploads.accept(slow, kind)


def deep(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


HOSTILE = {
    "deep": deep(100_000),
    "less-deep": deep(900),
    "lists": '{"a": ' + "[" * 5000 + "]" * 5000 + "}",
    "long": json.dumps({"prompt": "x" * 2**20}),
    "digits": '{"seed": ' + "9" * 10_000 + "}",
    "wide": '{"seed": 99999999999999999999, "fps": NaN, "prompt": "half \\ud800", "size": [1], "\\udfff": 1e999}',
    "wrong": '{"use": ["generate"], "prompt": 5, "seed": {"a": 1}, "num_frames": "many", "loop": []}',
}
"""What somebody may write where a recipe belongs."""


@pytest.mark.parametrize("ending", ["mp4", "webm", "gif", "webp", "png"])
def test_metadata_is_read_with_a_bound_on_its_depth_and_size(ending, tmp_path, monkeypatch):
    for name, text in HOSTILE.items():
        monkeypatch.setattr("makeavideo.media.writer.json.dumps", lambda *_, text=text, **__: text)
        file = clip(tmp_path / f"{name}.{ending}", 1 if ending == "png" else 2, recipe={"x": 1})
        monkeypatch.undo()
        found = probe(file)
        assert found.width == 64 and (found.recipe is None) == (name not in ("wide", "wrong")), name
        assert read_recipe(file) == found.recipe or name == "wide"


def test_one_bad_file_never_hides_the_others(gallery, monkeypatch):
    good = clip(gallery.new_path("good"), recipe={"use": "generate", "prompt": "good"})
    for name, text in HOSTILE.items():
        monkeypatch.setattr("makeavideo.media.writer.json.dumps", lambda *_, text=text, **__: text)
        clip(gallery.folder / f"{name}.mp4", 2, recipe={"x": 1})
        monkeypatch.undo()
    clip(gallery.folder / "moved.gif").rename(gallery.folder / "animation.mp4")
    (gallery.folder / "folder.mp4").mkdir()
    read = gallery_module.probe

    def probe_or_fail(path):
        if path.name == "worst.mp4":
            raise MemoryError
        return read(path)

    monkeypatch.setattr(gallery_module, "probe", probe_or_fail)
    clip(gallery.folder / "worst.mp4")
    items = {item.name: item for item in gallery.items()}
    assert items.keys() == {good.name, "animation.mp4", *(f"{name}.mp4" for name in HOSTILE)}
    page = html.gallery(list(items.values()), 12)
    assert page.encode() and page.count("<article") == len(items)
    # what is sent to clients is what JSON can hold
    sent = json.dumps([item.recipe for item in items.values()], allow_nan=False, ensure_ascii=False).encode()
    assert json.loads(sent) and items["wide.mp4"].recipe["seed"] == "99999999999999999999"
