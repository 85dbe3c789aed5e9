"""Videos as people have them, made here by Pillow and PyAV."""

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from makeavideo import UserError
from makeavideo.media.inputs import open_video, sample_frames
from makeavideo.media.writer import write_video
from media_files import STEP, cut, grey_frames, indices, make_video, refused, write_av, write_sound

# Videos


KINDS = [".mp4", ".webm", ".mov", ".mkv", ".gif", ".webp", ".apng", ""]


@pytest.mark.parametrize("ending", KINDS)
def test_every_kind_at_its_own_rate_and_others(tmp_path: Path, ending: str) -> None:
    path = make_video(tmp_path / f"clip{ending}")
    video = open_video(path, 16)
    assert video.fps == 10 and video.num_frames == 40 and video.duration == pytest.approx(4, abs=0.01)
    frames = list(video)
    assert all(frame.shape == (16, 16, 3) and frame.dtype == np.uint8 and frame.flags.writeable for frame in frames)
    assert indices(frames) == list(range(40))
    assert indices(list(video)) == list(range(40))  # once more

    slow = open_video(path, 16, fps=5)
    assert slow.fps == 5 and slow.num_frames == 20 and indices(list(slow)) == list(range(0, 40, 2))
    fast = open_video(path, 16, fps=30)
    found = indices(list(fast))
    assert fast.num_frames == len(found) == 120
    assert all(abs(index - k / 3) <= 0.5 + 0.01 or index == 39 for k, index in enumerate(found))


def test_nearest_in_time_where_the_rate_varies(tmp_path: Path) -> None:
    times = [0, 40, 90, 400, 410, 1000, 1040, 1100, 1900, 1950]
    path = write_av(tmp_path / "a.mkv", grey_frames(len(times)), 30, "ffv1", times)
    own = open_video(path, 8)
    assert own.fps == pytest.approx(9 / 1.95, rel=0.01)  # the mean
    video = open_video(path, 8, fps=20)
    found = indices(list(video))
    expected = [int(np.abs(np.array(times) - 50 * k).argmin()) for k in range(video.num_frames)]
    assert found == expected and video.num_frames >= 39
    images = [Image.fromarray(frame) for frame in grey_frames(4)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=[100, 500, 200, 200])
    assert indices(list(open_video(tmp_path / "a.gif", 8, fps=10))) == [0, 1, 1, 1, 2, 2, 2, 2, 3, 3]


@pytest.mark.parametrize("ending", [".mp4", ".gif", ""])
def test_frames_spread_over_the_clip(tmp_path: Path, ending: str) -> None:
    path = make_video(tmp_path / f"clip{ending}")
    assert sample_frames(path, 4, 8).shape == (4, 8, 8, 3)
    assert indices(sample_frames(path, 40, 8)) == list(range(40))
    assert indices(sample_frames(path, 1, 8)) in ([19], [20])
    spread = indices(sample_frames(path, 8, 8))
    assert spread[0] == 2 and set(np.diff(spread)) == {5}
    many = indices(sample_frames(path, 100, 8))
    assert many == sorted(many) and set(many) == set(range(40))


def test_the_fit_of_videos(tmp_path: Path) -> None:
    thirds = np.zeros((4, 20, 60, 3), np.uint8)
    for i in range(3):
        thirds[:, :, 20 * i : 20 * (i + 1), i] = 255
    path = write_video(tmp_path / "clip", thirds, 10)
    assert all((frame[:, 3:7] == (0, 255, 0)).all() for frame in open_video(path, 10))
    for frame in open_video(path, 30, None, "pad", "#102030"):
        assert (frame[:10] == (16, 32, 48)).all() and [frame[15, x].argmax() for x in (3, 15, 26)] == [0, 1, 2]
    assert sample_frames(path, 2, 30, "pad", "#102030")[1, 0, 0].tolist() == [16, 32, 48]


@pytest.mark.parametrize("ending", [".mov", ".webp", ".gif", ".png"])
def test_transparent_videos(tmp_path: Path, ending: str) -> None:
    rgba = np.zeros((4, 32, 32, 4), np.uint8)
    rgba[:, :, 16:] = (200, 30, 60, 255)
    path = tmp_path / f"a{ending}"
    if ending == ".mov":
        write_av(path, rgba, codec="qtrle")
    else:
        images = [Image.fromarray(frame) for frame in rgba]
        for index, image in enumerate(images):
            image.putpixel((30, index), (0, 0, 0, 255))  # so that none is dropped
        options = {"lossless": True} if ending == ".webp" else {"disposal": 2} if ending == ".gif" else {}
        images[0].save(path, save_all=True, append_images=images[1:], duration=100, **options)
    frames = list(open_video(path, 32, background="#00ff00"))
    assert len(frames) == 4
    for frame in frames:
        assert (frame[:, :15] == (0, 255, 0)).all() and np.abs(frame[8:, 17:].astype(int) - (200, 30, 60)).max() <= 1


def test_deep_pictures_in_a_folder(tmp_path: Path) -> None:
    for index in range(3):
        Image.fromarray(np.full((8, 8), 257 * (8 + STEP * index), np.uint16)).save(tmp_path / f"{index}.png")
    assert indices(list(open_video(tmp_path, 8))) == [0, 1, 2]


def test_frames_come_one_by_one(tmp_path: Path) -> None:
    """A damaged end does not matter to who stops before it, and does to who does not."""
    folder = write_video(tmp_path / "clip", grey_frames(10), 10)
    video = open_video(folder, 8)
    (folder / "frame_00007.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    frames = iter(video)
    assert indices([next(frames) for _ in range(5)]) == list(range(5))
    with pytest.raises(UserError, match="cut off"):
        list(video)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory in Linux's units")
def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", (np.full((256, 256, 3), i % 256, np.uint8) for i in range(400)), 24)
    program = """
import sys
from makeavideo.media.inputs import open_video
def memory():  # resident, MiB
    return int(open("/proc/self/statm").read().split()[1]) * 4 // 1024
for index, frame in enumerate(open_video(sys.argv[1], 256)):
    if index in (60, 399):
        print(memory())
"""
    result = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    early, late = map(int, result.stdout.split())
    assert late - early < 16  # MiB; 340 frames are 64


def test_a_hole_that_the_decoder_covers_is_told(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), np.uint8), 12)
    with av.open(str(path)) as container:
        place = [packet.pos + packet.size for packet in container.demux(video=0) if packet.size][5]
    with path.open("rb+") as file:
        file.seek(place - 300)
        file.write(bytes(300))
    with pytest.raises(UserError, match="damaged"):
        list(open_video(path, 64))


def test_files_that_are_no_videos(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("This is not a video.\n" * 100)
    (tmp_path / "playlist.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.ts\n#EXT-X-ENDLIST\n")
    (tmp_path / "empty.webm").touch()
    (tmp_path / "folder").mkdir()
    write_sound(tmp_path / "sound.mp4")
    write_sound(tmp_path / "sound.wav")
    Image.new("RGB", (8, 8)).save(tmp_path / "still.jpg")
    Image.new("RGB", (8, 8)).save(tmp_path / "still.png")
    for ending in ("mp4", "webm", "gif", "webp"):
        cut(make_video(tmp_path / f"cut.{ending}"))
    for name, sentence in {
        "text.mp4": "is not a video that can be read",
        "playlist.mp4": "is not a video that can be read",
        "empty.webm": "is empty: copy",
        "folder": "holds no png pictures: give",
        "missing.mp4": "does not exist: check",
        "sound.mp4": "has no video stream, nothing but sound: give",
        "sound.wav": "has no video stream, nothing but sound: give",
        "still.jpg": "is a single picture, not a video",
        "still.png": "is a single picture, not a video",
        "cut.mp4": "cut off",
        "cut.webm": "cut off",
        "cut.gif": "cut off",
        "cut.webp": "cut off",
    }.items():
        refused(lambda name=name: open_video(tmp_path / name, 16), tmp_path / name, sentence)
        refused(lambda name=name: sample_frames(tmp_path / name, 2, 16), tmp_path / name, sentence)


def test_too_large_a_video_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", grey_frames(4), 10)
    monkeypatch.setattr("makeavideo.media.decoder.MAX_PIXELS", 32 * 32 - 1)
    refused(lambda: open_video(path, 16), path, "megapixels: make it smaller")
