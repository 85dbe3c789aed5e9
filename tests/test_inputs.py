"""Pictures and videos as people have them, made here by Pillow and PyAV."""

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageCms

from makeavideo import UserError
from makeavideo.media.inputs import open_video, read_picture, sample_frames
from makeavideo.media.writer import write_video

STEP = 5  # grey levels between frames: more than lossy coding changes


def grey_frames(count: int, width: int = 32, height: int = 32) -> np.ndarray:
    """The grey level of a frame tells its index."""
    return np.stack([np.full((height, width, 3), 8 + STEP * i, np.uint8) for i in range(count)])


def indices(frames: np.ndarray | list[np.ndarray]) -> list[int]:
    return [round((float(frame.mean()) - 8) / STEP) for frame in frames]


def write_av(
    path: Path, frames: np.ndarray, fps: int = 10, codec: str = "libx264", times: list[int] | None = None
) -> Path:
    """times: presentation times in milliseconds, for a variable rate."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options={"crf": "1"} if codec == "libx264" else {})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "argb" if codec == "qtrle" else "yuv420p"
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba" if pixels.shape[2] == 4 else "rgb24")
            frame.pts = index if times is None else times[index]
            frame.time_base = Fraction(1, fps) if times is None else Fraction(1, 1000)
            container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        container.mux(stream.encode(None))
    return path


def write_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le" if path.suffix == ".wav" else "aac", rate=16000)
        kind = ("s16", np.int16) if path.suffix == ".wav" else ("fltp", np.float32)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16000), kind[1]), format=kind[0], layout="mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    return path


def cut(path: Path, part: float = 0.6) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    return path


def refused(call: Callable[[], object], path: Path | str, sentence: str) -> None:
    """One sentence that names the file, and says what to do after a colon or a comma."""
    with pytest.raises(UserError, match=sentence) as caught:
        call()
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and len(message) < 250 + len(str(path))
    assert ":" in message.replace(str(path), "")


# Pictures


def test_the_fit(tmp_path: Path) -> None:
    """Red, green, blue thirds: a crop shows the green one, a pad all three and the background."""
    thirds = np.zeros((20, 60, 3), np.uint8)
    for i in range(3):
        thirds[:, 20 * i : 20 * (i + 1), i] = 255
    Image.fromarray(thirds).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), thirds)
    crop = read_picture(str(tmp_path / "a.png"), 10)
    assert crop.shape == (10, 10, 3) and crop.dtype == np.uint8 and crop.flags.writeable
    assert (crop[:, 3:7] == (0, 255, 0)).all()
    pad = read_picture(tmp_path / "a.png", 30, "pad", "#102030")
    assert pad.shape == (30, 30, 3)
    assert (pad[:10] == (16, 32, 48)).all() and (pad[20:] == (16, 32, 48)).all()
    assert [pad[15, x].argmax() for x in (3, 15, 26)] == [0, 1, 2]
    assert read_picture(tmp_path / "a.png", 20).shape == (20, 20, 3)  # the short side needs no scaling


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (333, 7), (64, 64)])
@pytest.mark.parametrize("size", [1, 17, 64])
def test_odd_sizes(tmp_path: Path, fit: str, shape: tuple[int, int], size: int) -> None:
    Image.new("RGB", shape, (9, 99, 199)).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png", size, fit)
    assert picture.shape == (size, size, 3)
    assert (np.abs(picture.astype(int) - (9, 99, 199)).max(axis=2) <= 1).any()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_turned_by_the_camera(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16], upright[8:, :16], upright[:8, 16:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    turn = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(turn(upright))).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), upright)


@pytest.mark.parametrize(
    ("mode", "ending"),
    [("RGBA", ".png"), ("LA", ".png"), ("P", ".png"), ("RGBA", ".webp"), ("RGBA", ".gif"), ("LA", ".tif")],
)
def test_transparency_is_composed_before_resizing(tmp_path: Path, mode: str, ending: str) -> None:
    """White on clear black: resizing first would draw a dark rim."""
    rgba = np.zeros((40, 40, 4), np.uint8)
    rgba[:, 10:30] = 255
    image = Image.fromarray(rgba)
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    image.save(tmp_path / f"a{ending}", **({"lossless": True} if ending == ".webp" else {}))
    picture = read_picture(tmp_path / f"a{ending}", 15)
    assert picture.min() == 255
    blue = read_picture(tmp_path / f"a{ending}", 40, background="blue")
    assert (blue[:, :9] == (0, 0, 255)).all() and (blue[:, 11:29] == 255).all()


@pytest.mark.parametrize(("mode", "ending"), [("I;16", ".png"), ("I;16", ".tif"), ("I", ".tif"), ("F", ".tif")])
def test_deep_grey_is_scaled_not_clipped(tmp_path: Path, mode: str, ending: str) -> None:
    ramp = np.linspace(0, 65535, 256).round()[None].repeat(4, 0)
    image = {
        "I;16": lambda: Image.fromarray(ramp.astype(np.uint16)),
        "I": lambda: Image.fromarray(ramp.astype(np.int32)),
        "F": lambda: Image.fromarray((ramp / 65535).astype(np.float32)),
    }[mode]()
    assert image.mode == mode
    image.save(tmp_path / f"a{ending}")
    picture = read_picture(tmp_path / f"a{ending}")
    assert (picture[0] == np.arange(256)[:, None]).all()


def test_deep_grey_with_a_transparent_level(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1000, 65535]], np.uint16)).save(tmp_path / "a.png", transparency=1000)
    assert read_picture(tmp_path / "a.png", background="#ff0000").tolist() == [[[0] * 3, [255, 0, 0], [255] * 3]]


def test_grey_and_bits(tmp_path: Path) -> None:
    Image.new("L", (5, 5), 77).save(tmp_path / "grey.jpg", quality=100)
    assert np.abs(read_picture(tmp_path / "grey.jpg").astype(int) - 77).max() <= 1
    bits = np.arange(25).reshape(5, 5) % 2 == 0
    Image.fromarray(bits).save(tmp_path / "bits.png")
    assert ((read_picture(tmp_path / "bits.png") == 255).all(axis=2) == bits).all()


def test_print_colours(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red, green, blue = read_picture(tmp_path / "a.jpg")[4, 4].astype(int)
    assert red > 220 and green < 60 and blue < 60


def test_a_colour_profile_is_used(tmp_path: Path) -> None:
    """A profile with red and blue exchanged stands for any that is not sRGB; a damaged one is ignored."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for index in range(int.from_bytes(profile[128:132], "big")):
        place = 132 + 12 * index
        name = bytes(profile[place : place + 4])
        profile[place : place + 4] = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(name, name)
    renamed = (
        bytes(profile)
        .replace("sRGB".encode("utf-16-be"), "none".encode("utf-16-be"))
        .replace(b"sRGB built", b"none built")
    )
    image = Image.new("RGB", (8, 8), (255, 0, 0))
    image.save(tmp_path / "a.png", icc_profile=renamed)
    assert read_picture(tmp_path / "a.png")[0, 0].argmax() == 2
    image.save(tmp_path / "b.png", icc_profile=b"not a profile" * 20)
    assert read_picture(tmp_path / "b.png")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("ending", [".gif", ".webp", ".png"])
def test_the_first_frame_of_an_animation(tmp_path: Path, ending: str) -> None:
    images = [Image.fromarray(frame) for frame in grey_frames(4)]
    images[0].save(tmp_path / f"a{ending}", save_all=True, append_images=images[1:], duration=100)
    assert indices([read_picture(tmp_path / f"a{ending}")]) == [0]


def test_too_large_a_picture_is_refused_from_its_header(tmp_path: Path) -> None:
    for side in (8001, 20000):
        path = tmp_path / f"{side}.png"
        head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        rest = struct.pack(">I", 100) + b"IDAT" + bytes(104)  # no pixels, so that decoding would be another error
        path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\r" + head + struct.pack(">I", zlib.crc32(head)) + rest)
        refused(lambda path=path: read_picture(path, 8), path, "more than 64 megapixels: make it")
        refused(lambda path=path: open_video(path, 8), path, "more than 64 megapixels: make it")


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    for ending in ("png", "jpg", "webp", "bmp", "gif"):
        noise.save(tmp_path / f"cut.{ending}")
        cut(tmp_path / f"cut.{ending}")
    (tmp_path / "text.png").write_text("This is not a picture.\n" * 30)
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (tmp_path / "drawing.eps").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    )
    write_av(tmp_path / "clip.mp4", grey_frames(4))
    for name, sentence in {
        "cut.png": "cut off",
        "cut.jpg": "cut off",
        "cut.webp": "cut off|not a picture",
        "cut.bmp": "cut off",
        "cut.gif": "cut off",
        "text.png": "is not a picture that can be read: give a png",
        "empty.png": "is empty: copy or download",
        "folder.png": "is a folder, not a picture",
        "missing.png": "does not exist: check",
        "photo.heic": "is a HEIC picture, .* save it as jpg",
        "drawing.eps": "is not a picture that can be read",
        "clip.mp4": "is a video, not a picture",
    }.items():
        for size in (None, 16):
            refused(lambda name=name, size=size: read_picture(tmp_path / name, size), tmp_path / name, sentence)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have names on POSIX only")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    refused(lambda: read_picture(tmp_path / "pipe.png"), tmp_path / "pipe.png", "is not a file: give")
    refused(lambda: open_video(tmp_path / "pipe.png", 8), tmp_path / "pipe.png", "is not a file: give")


def test_wrong_arguments(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    write_video(tmp_path / "a.gif", grey_frames(4), 10)
    for arguments, sentence in (
        ({"size": 0}, "size is 0"),
        ({"fit": "stretch"}, "it must be crop or pad"),
        ({"background": "bleu"}, "is not a colour"),
        ({"background": None}, "is not a colour"),
    ):
        with pytest.raises(UserError, match=sentence):
            read_picture(tmp_path / "a.png", **arguments)
        with pytest.raises(UserError, match=sentence):
            open_video(tmp_path / "a.gif", **{"size": 8, **arguments})
    for fps in (0, -1, float("nan"), 1e9):
        with pytest.raises(UserError, match="frame rate is"):
            open_video(tmp_path / "a.gif", 8, fps=fps)
    with pytest.raises(UserError, match="at least 1"):
        sample_frames(tmp_path / "a.gif", 0, 8)


# Videos


def make_video(path: Path, count: int = 40, fps: int = 10) -> Path:
    frames = grey_frames(count)
    if path.suffix == ".apng":
        images = [Image.fromarray(frame) for frame in frames]
        images[0].save(path, "PNG", save_all=True, append_images=images[1:], duration=1000 // fps)
        return path
    if path.suffix in (".mov", ".mkv"):
        return write_av(path, frames, fps)
    return write_video(path, frames, fps)


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
