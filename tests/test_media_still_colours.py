"""Stills whose colours are said as a video's are (png's cICP, avif), and tiffs of luma and chroma: against FFmpeg."""

import io
import struct
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from makeavideo import UserError
from makeavideo.media.inputs import read_picture
from makeavideo.media.pictures import load_picture
from makeavideo.media.reader import read_video
from makeavideo.media.shown import as_shown

WIDTH, HEIGHT = 64, 48
RAMP = np.linspace(0, 1, WIDTH)
PQ, HLG, BT2020, P3, SRGB = 16, 18, 9, 12, 13


def hdr_still(path: Path, transfer: int) -> Path:
    """A ramp of grey from left to right, written by FFmpeg."""
    png = path.suffix == ".png"
    kind = "rgb48be" if png else "yuv420p10le"
    options = {} if png else {"crf": "5"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png" if png else "libsvtav1", rate=1, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, kind
        frame = av.VideoFrame(WIDTH, HEIGHT, kind)
        planes = [np.repeat(65535 * RAMP, 3)] if png else [64 + 876 * RAMP, 512, 512]
        for plane, values in zip(frame.planes, planes, strict=True):
            pixels = np.zeros((plane.height, plane.line_size // 2), ">u2" if png else "<u2")
            pixels[:, : np.size(values) if png else plane.width] = np.round(values)
            plane.update(pixels.tobytes())
        for said in (stream.codec_context, frame):
            said.color_primaries, said.color_trc = BT2020, transfer
            said.colorspace, said.color_range = (0, 2) if png else (BT2020, 1)
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("ending", "transfer"), [(".png", HLG), (".avif", PQ)])
def test_high_dynamic_range_is_mapped_as_in_videos(tmp_path: Path, ending: str, transfer: int) -> None:
    """The same as FFmpeg's own reading of the file, mapped by what maps videos: a few of 256 levels apart."""
    path = hdr_still(tmp_path / f"still{ending}", transfer)
    with av.open(str(path)) as container:
        frame = next(iter(container.decode(video=0)))
    assert frame.color_trc == transfer
    expected = as_shown(frame, None, "rgb24").to_ndarray().astype(int)
    made = read_picture(path)
    assert np.abs(made - expected).max() <= 4
    assert np.abs(expected - np.array(Image.open(path).convert("RGB"))).max() > 20  # what Pillow alone gives
    assert (read_video(path).frames[0] == made).all()


def png_that_says(image: Image.Image, *numbers: int) -> io.BytesIO:
    chunks = PngInfo()
    chunks.add(b"cICP", bytes(numbers))
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=chunks)
    file.seek(0)
    return file


def test_wide_colours_keep_grey_and_what_is_usual_stays() -> None:
    grey = np.repeat(np.repeat(np.arange(256, dtype=np.uint8)[None], 4, 0)[..., None], 3, 2)
    for numbers in ((P3, SRGB, 0, 1), (1, SRGB, 0, 1)):
        assert (np.array(load_picture(png_that_says(Image.fromarray(grey), *numbers), (0, 0, 0))) == grey).all()
    red = Image.new("RGB", (8, 8), (200, 60, 60))
    made = np.array(load_picture(png_that_says(red, P3, SRGB, 0, 1), (0, 0, 0)))[0, 0].astype(int)
    assert np.abs(made - (218, 44, 53)).max() <= 3  # by the matrices of both spaces
    narrow = Image.fromarray((16 + grey.astype(int) * 219 // 255).astype(np.uint8))
    made = np.array(load_picture(png_that_says(narrow, P3, SRGB, 0, 0), (0, 0, 0)))
    assert np.abs(made.astype(int) - grey).max() <= 2


def test_transparency_and_grey_of_sixteen_bits() -> None:
    white = round(255 * 0.58)  # reference white of PQ, ITU-R BT.2408
    image = Image.new("RGBA", (8, 8), (white, white, white, 0))
    image.paste((white, white, white, 255), (0, 0, 4, 8))
    made = np.array(load_picture(png_that_says(image, BT2020, PQ, 0, 1), (9, 9, 9)))
    assert made[0, 0].min() >= 230 and (made[0, 7] == 9).all()
    deep = Image.fromarray(np.full((8, 8), 257 * white, np.uint16))
    assert np.array(load_picture(png_that_says(deep, BT2020, PQ, 0, 1), (0, 0, 0))).min() >= 230


def test_without_pyav_it_says_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hdr_still(tmp_path / "still.png", PQ)
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "makeavideo.media.shown")
    with pytest.raises(UserError, match="need PyAV: pip install av"):
        read_picture(path)


def chroma_tiff(rgb: np.ndarray, sub: tuple[int, int], order: str, orientation: int) -> bytes:
    """A tiff of luma and chroma without compression, as TIFF 6.0 has it in its section 21."""
    y, *chroma = np.moveaxis(np.array(Image.fromarray(rgb).convert("YCbCr")), -1, 0)
    height, width, (across, down) = *y.shape, sub
    grid = (height // down, down, width // across, across)
    units = [y.reshape(grid).transpose(0, 2, 1, 3).reshape(grid[0], grid[2], -1)]
    units += [part.reshape(grid).mean((1, 3), keepdims=True)[:, 0].round().astype(np.uint8) for part in chroma]
    data = np.concatenate(units, -1).tobytes()
    tags = [(256, [width]), (257, [height]), (258, [8, 8, 8]), (259, [1]), (262, [6]), (273, [0]), (274, [orientation])]
    tags += [(277, [3]), (278, [height]), (279, [len(data)]), (284, [1]), (530, list(sub)), (531, [1])]
    start = 8 + 2 + 12 * len(tags) + 4
    table = struct.pack(order + "H", len(tags))
    for tag, values in tags:
        values = [start + 6] if tag == 273 else values
        field = struct.pack(f"{order}{len(values)}H", *values).ljust(4, b"\0")
        table += struct.pack(order + "HHI", tag, 3, len(values))
        table += struct.pack(order + "I", start) if len(values) > 2 else field
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    return head + table + bytes(4) + struct.pack(order + "3H", 8, 8, 8) + data


@pytest.mark.parametrize(("sub", "order"), [((1, 1), "<"), ((2, 1), ">"), ((2, 2), "<")])
def test_a_tiff_of_luma_and_chroma(tmp_path: Path, sub: tuple[int, int], order: str) -> None:
    """It was called cut off, though it is whole."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    rgb = np.stack([x * 3.9, y * 5, 128 + 60 * np.sin(x / 9 + y / 7)], -1).astype(np.uint8)
    path = tmp_path / "a.tif"
    path.write_bytes(chroma_tiff(rgb, sub, order, 1))
    with av.open(str(path)) as container:
        frame = next(iter(container.decode(video=0)))
    frame.colorspace, frame.color_range = 5, 2
    elsewhere = frame.to_ndarray(format="rgb24").astype(int)
    made = read_picture(path)
    assert np.abs(made - elsewhere).mean() < 1.5 and np.abs(made.astype(int) - rgb).mean() < 3
    path.write_bytes(chroma_tiff(rgb, sub, order, 6))
    assert (read_picture(path) == np.rot90(made, -1)).all()
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match="cut off"):
        read_picture(path)
