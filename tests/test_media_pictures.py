"""Pictures as people have them, made here by Pillow."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from makeavideo import UserError
from makeavideo.media.inputs import open_video, read_picture, sample_frames
from makeavideo.media.reader import read_video
from makeavideo.media.writer import write_video
from media_files import cut, grey_frames, indices, refused, write_av

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


def profile_of(gamma: float, space: bytes = b"RGB ", name: bytes = b"not sRGB") -> bytes:
    """An ICC profile with this gamma, and sRGB's colours where it has any."""
    number = lambda value: struct.pack(">i", round(value * 65536))  # noqa: E731
    xyz = lambda *values: b"XYZ \0\0\0\0" + b"".join(map(number, values))  # noqa: E731
    curve = b"curv" + bytes(4) + struct.pack(">IHH", 1, round(gamma * 256), 0)
    said = b"desc" + bytes(4) + struct.pack(">I", len(name) + 1) + name + bytes(79)
    parts = {b"desc": said, b"wtpt": xyz(0.9642, 1, 0.8249)}
    if space == b"RGB ":
        parts |= {b"rXYZ": xyz(0.4361, 0.2225, 0.0139), b"gXYZ": xyz(0.3851, 0.7169, 0.0971)}
        parts |= {b"bXYZ": xyz(0.1431, 0.0606, 0.7141), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    else:
        parts[b"kTRC"] = curve
    table, body, start = b"", b"", 132 + 12 * len(parts)
    for key, part in parts.items():
        table += key + struct.pack(">II", start + len(body), len(part))
        body += part + bytes(-len(part) % 4)
    head = struct.pack(">I", start + len(body)) + b"lcms\2\x40\0\0mntr" + space + b"XYZ " + bytes(12) + b"acsp"
    head = (head + bytes(28) + b"".join(map(number, (0.9642, 1, 0.8249)))).ljust(128, b"\0")
    return head + struct.pack(">I", len(parts)) + table + body


LIGHT = round(255 * 0.2140)  # of level 128 in sRGB: what a profile of gamma 1 has there


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA"])
def test_profiles_of_all_kinds_of_pictures(tmp_path: Path, mode: str) -> None:
    """They were used for RGB and CMYK only, and not where their names hold sRGB somewhere."""
    image = Image.new("L", (8, 8), LIGHT).convert(mode)
    grey = mode in ("L", "LA")
    if mode.endswith("A"):
        image.putalpha(Image.new("L", (8, 8), 128))
    image.save(tmp_path / "a.png", icc_profile=profile_of(1.0, b"GRAY" if grey else b"RGB "))
    expected = (128 * 128 + 127 * 255) / 255 if mode.endswith("A") else 128
    assert np.abs(read_picture(tmp_path / "a.png").astype(int) - expected).max() <= 2
    assert np.abs(read_video(tmp_path / "a.png").frames[0].astype(int) - expected).max() <= 2
    image.save(tmp_path / "b.png", icc_profile=profile_of(1.0, b"GRAY" if grey else b"RGB ", b"sRGB"))
    assert read_picture(tmp_path / "b.png")[0, 0, 0] != read_picture(tmp_path / "a.png")[0, 0, 0]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_a_gamma_of_its_own(tmp_path: Path, mode: str) -> None:
    """As browsers show a png with the chunk gAMA; one that is nearly the usual is the usual."""
    for gamma, expected in ((1.0, 128), (0.45455, 56), (0.46, 56), (0.0, 56)):
        chunks = PngInfo()
        chunks.add(b"gAMA", struct.pack(">I", round(gamma * 100_000)))
        Image.new("L", (8, 8), 56).convert(mode).save(tmp_path / "a.png", pnginfo=chunks)
        assert np.abs(read_picture(tmp_path / "a.png").astype(int) - expected).max() <= 1


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
