"""Where a clip can be written, said before any work."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from makeavideo import UserError
from makeavideo.media import disk
from makeavideo.media.formats import FORMATS, check_writable
from makeavideo.media.reader import probe, read_video
from makeavideo.media.writer import write_video
from media_files import CLIP, ENDINGS, names

# Where to write


def test_check_writable_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("x")
    for path, sentence in {
        "": "is not a file name",
        tmp_path / "clip.avi": r"the ending \.avi is unknown, use \.mp4, \.webm, \.gif, \.webp, \.png",
        tmp_path / "v1.5": r"the ending \.5 is unknown",
        tmp_path / ".mp4": "nothing before its ending",
        tmp_path / "folder.mp4": "a folder of that name exists",
        tmp_path / "file": "a file of that name exists",
        f"{tmp_path}/file/": "a file of that name exists",
        tmp_path / "file" / "clip.mp4": "part of the path is a file",
        tmp_path / "mine": r"holds other things \(diary\.txt\)",
        tmp_path / ("n" * 300 + ".mp4"): "file name too long",
    }.items():
        with pytest.raises(UserError, match=sentence) as caught:
            check_writable(path)
        assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["file", "folder.mp4", "mine"]
    assert all(ending in FORMATS for ending in ENDINGS)


def test_check_writable_in_a_folder_that_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(disk.tempfile, "TemporaryFile", refuse)  # the tests may run as root, who may write anywhere
    with pytest.raises(UserError, match="is not writable, permission denied"):
        check_writable(tmp_path / "clip.mp4")


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 51])
def test_impossible_frame_rates(tmp_path: Path, fps: float) -> None:
    with pytest.raises(UserError, match=r"frame rate is .* between 0\.01 and 50 for \.gif"):
        write_video(tmp_path / "clip.gif", CLIP, fps)
    assert names(tmp_path) == []


@pytest.mark.parametrize("fps", ["x", None, True, [24], 10**400, 1j])
def test_frame_rates_that_are_no_numbers(tmp_path: Path, fps) -> None:
    with pytest.raises(UserError, match=r"frame rate is .* between 0\.01 and 240 for \.mp4"):
        write_video(tmp_path / "clip.mp4", CLIP, fps)
    assert names(tmp_path) == []


def test_what_a_program_gives_wrongly_is_one_sentence(tmp_path: Path) -> None:
    for quality in ("x", 50.5, True, 0):
        with pytest.raises(UserError, match=r"--quality .* is not possible"):
            write_video(tmp_path / "clip.mp4", CLIP, 24, quality=quality)
    for path in (None, 5, b"clip.mp4", "a\0b"):
        with pytest.raises(UserError, match="is not a file name: give one such as"):
            write_video(path, CLIP, 24)
    recipe: dict = {}
    for _ in range(5000):
        recipe = {"a": recipe}
    with pytest.raises(UserError, match=r"cannot be written as JSON \(it is nested too deep\)"):
        write_video(tmp_path / "clip.mp4", CLIP, 24, recipe)
    assert names(tmp_path) == []
    write_video(tmp_path / "clip.webp", CLIP[:2], np.float32(24), quality=np.int64(50))
    assert probe(tmp_path / "clip.webp").num_frames == 2


def test_what_is_known_beforehand_is_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one picture"):
        check_writable(tmp_path / "clip.png", num_frames=2)
    with pytest.raises(UserError, match=r"64x63 pixels: \.mp4 needs even sides"):
        check_writable(tmp_path / "clip.mp4", size=(63, 64))
    assert check_writable(tmp_path / "clip.MP4", size=(64, 64), num_frames=2, fps=24) == tmp_path / "clip.MP4"


def test_missing_folders_are_created(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a" / "b" / "clip.webp", CLIP[:2], 24)
    assert names(path.parent) == ["clip.webp"]


def test_relative_names_and_colons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_video("a:b 100%d.mp4", CLIP[:2], 24)
    assert names(tmp_path) == ["a:b 100%d.mp4"]
    assert probe("a:b 100%d.mp4").num_frames == 2


def test_folders_of_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    write_video(f"{folder}/", CLIP, 8)  # an empty one that exists
    assert len(names(folder)) == len(CLIP)
    write_video(folder, CLIP[:3], 8)  # a shorter clip leaves none of the longer one's pictures
    assert names(folder) == ["frame_00000.png", "frame_00001.png", "frame_00002.png"]
    assert read_video(folder).fps == 8
    with_dot = write_video(f"{tmp_path}/v1/", CLIP[:1], 8)
    assert names(with_dot) == ["frame_00000.png"]
    assert names(tmp_path) == ["frames", "v1"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_links_and_permissions(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real" / "clip.webp", tmp_path / "link.webp")
    write_video(tmp_path / "link.webp", CLIP[:2], 24)
    assert (tmp_path / "link.webp").is_symlink() and names(tmp_path / "real") == ["clip.webp"]
    (tmp_path / "plain").write_text("x")  # has the permissions that new files get
    assert (tmp_path / "real" / "clip.webp").stat().st_mode == (tmp_path / "plain").stat().st_mode
