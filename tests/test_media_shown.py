"""Frames come out as players show them: compared with FFmpeg's own filters, and with what standards say."""

import multiprocessing
from fractions import Fraction

import av
import av.filter
import numpy as np
import pytest

from makeavideo.data.clips import UnlabelledClips
from makeavideo.media.inputs import open_video, shape_of_video
from makeavideo.media.pictures import Unreadable
from makeavideo.media.reader import read_video
from makeavideo.media.shown import as_shown

WHITE_OF_HLG, WHITE_OF_PQ = 0.75, 0.58
"""Signal of reference white, ITU-R BT.2408."""


def coded(planes, size=(64, 48), kind="yuv420p", matrix=2, primaries=2, transfer=2, full=False) -> av.VideoFrame:
    """A frame whose planes are these numbers, or arrays."""
    frame = av.VideoFrame(*size, kind)
    number = np.uint16 if "10" in kind else np.uint8
    for plane, values in zip(frame.planes, planes, strict=True):
        pixels = np.zeros((plane.height, plane.line_size // np.dtype(number).itemsize), number)
        pixels[:, : plane.width] = values
        plane.update(pixels.tobytes())
    frame.colorspace, frame.color_primaries, frame.color_trc = matrix, primaries, transfer
    frame.color_range = 2 if full else 1
    return frame


def filtered(frame: av.VideoFrame, arguments: str) -> np.ndarray:
    """The frame through FFmpeg's scale filter, rgb24."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format.name, time_base=Fraction(1, 24)
    )
    parts = [graph.add("scale", arguments), graph.add("format", "rgb24"), graph.add("buffersink")]
    for before, after in zip([source, *parts], parts, strict=False):
        before.link_to(after)
    graph.configure()
    frame.pts, frame.time_base = 0, Fraction(1, 24)
    graph.push(frame)
    return graph.pull().to_ndarray()


def write(path, frames, rate=24, pixel_shape=None):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "4"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        if pixel_shape:
            stream.codec_context.sample_aspect_ratio = pixel_shape
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def disc(width, height, across, along):
    """A black ellipse in the middle of white, `across` by `along` pixels."""
    y, x = np.mgrid[:height, :width]
    inside = ((x - width / 2) / (across / 2)) ** 2 + ((y - height / 2) / (along / 2)) ** 2 < 1
    return np.repeat(np.where(inside, 0, 255)[..., None], 3, 2).astype(np.uint8)


def extent(frame):
    dark = frame.mean(-1) < 128
    return int(dark.any(0).sum()), int(dark.any(1).sum())


@pytest.mark.parametrize(("pixel_shape", "width"), [(Fraction(2), 32), (Fraction(1, 2), 128), (Fraction(16, 11), 44)])
def test_pixels_that_are_not_square(tmp_path, pixel_shape, width):
    """A circle is round, in the whole picture as in the square that networks see."""
    stored = disc(width * 2, 96, 60 / float(pixel_shape), 60)
    path = write(tmp_path / "clip.mp4", [stored] * 4, pixel_shape=pixel_shape)
    (frame, *_) = read_video(path).frames
    assert frame.shape == (96, round(2 * width * pixel_shape), 3) and shape_of_video(path) == frame.shape[:2]
    assert all(abs(side - 60) <= 2 for side in extent(frame))
    small = next(iter(open_video(path, 64)))
    trained = UnlabelledClips(path, 64, num_frames=2, fps=12.0)[(0, 1)]["pixels"][0].permute(1, 2, 0).numpy()
    for square in (small, (trained + 1) * 127.5):
        across, along = extent(square)
        assert abs(across - along) <= 2 and abs(along - 60 * 64 / 96) <= 2
    shown = filtered(next(iter(av.open(str(path)).decode(video=0))), f"iw*{pixel_shape}:ih:flags=bicubic")
    assert np.abs(frame.astype(int) - shown).mean() < 2  # of its edges, which both make soft in their own way


def test_a_pixel_shape_that_is_damage_is_passed_over():
    frame = coded([100, 128, 128])
    assert as_shown(frame, Fraction(1000), "rgb24").width == as_shown(frame, Fraction(0), "rgb24").width == 64


COLOURS = [(90, 90, 200), (150, 90, 190), (60, 180, 110), (200, 120, 130)]


@pytest.mark.parametrize("planes", COLOURS)
@pytest.mark.parametrize(("matrix", "name"), [(1, "bt709"), (5, "bt601"), (6, "smpte170m"), (9, "bt2020nc")])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
def test_colours_as_the_file_says(planes, matrix, name, full):
    made = as_shown(coded(planes, matrix=matrix, full=full), None, "rgb24").to_ndarray()
    reference = coded(planes)  # says nothing: the filter is told
    shown = filtered(reference, f"in_color_matrix={name}:in_range={'full' if full else 'limited'}:out_range=full")
    assert np.abs(made.astype(int) - shown).max() <= 2


def test_colours_that_the_scaler_does_not_know_are_told_as_such():
    with pytest.raises(Unreadable, match="YCgCo"):
        as_shown(coded(COLOURS[0], matrix=8), None, "rgb24")


@pytest.mark.parametrize(("size", "name"), [((720, 576), "bt601"), ((1280, 720), "bt709"), ((1280, 544), "bt709")])
def test_colours_as_players_assume(size, name):
    made = as_shown(coded(COLOURS[0], size), None, "rgb24").to_ndarray()
    shown = filtered(coded(COLOURS[0], size), f"in_color_matrix={name}")
    other = filtered(coded(COLOURS[0], size), f"in_color_matrix={'bt601' if name == 'bt709' else 'bt709'}")
    assert np.abs(made.astype(int) - shown).max() <= 2 < np.abs(made.astype(int) - other).max()


@pytest.mark.parametrize(("transfer", "white"), [(18, WHITE_OF_HLG), (16, WHITE_OF_PQ)], ids=["hlg", "pq"])
def test_high_dynamic_range_is_mapped(transfer, white):
    """A ramp of grey stays grey and rises; reference white is white, and it was 191 and 148."""
    levels = np.linspace(0, 1, 64)
    frame = coded([np.round(64 + 876 * levels), 512, 512], kind="yuv420p10le", matrix=9, primaries=9, transfer=transfer)
    made = as_shown(frame, None, "rgb24").to_ndarray()[0].astype(int)
    assert np.abs(made - made.mean(1, keepdims=True)).max() <= 2
    grey = made.mean(1)
    assert (np.diff(grey) >= -1).all() and grey[0] <= 2 and grey[levels >= white].min() >= 230
    assert 90 < grey[np.abs(levels - 2 / 3 * white).argmin()] < 200  # what is darker is not burnt out


def test_wide_colours_are_not_paled():
    """BT.709's own red, coded in BT.2020, comes back; read as BT.709 it would be pale."""
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    red = np.array([200.0, 40.0, 40.0])
    encode, decode = (lambda x: x ** (1 / 2.4)), (lambda v: v**2.4)  # of displays, BT.1886
    r, g, b = encode(to_2020 @ decode(red / 255))
    luma = 0.2627 * r + 0.6780 * g + 0.0593 * b
    planes = [16 + 219 * luma, 128 + 224 * (b - luma) / 1.8814, 128 + 224 * (r - luma) / 1.4746]
    frame = coded([round(float(x)) for x in planes], matrix=9, primaries=9, transfer=14)
    made = as_shown(frame, None, "rgb24").to_ndarray()[0, 0].astype(int)
    assert np.abs(made - red).max() <= 8
    frame.color_primaries = 1
    assert np.abs(as_shown(frame, None, "rgb24").to_ndarray()[0, 0].astype(int) - red).max() > 20


def test_mapping_is_prepared_once(tmp_path):
    """libswscale needs seconds for the first frame of a kind."""
    import time

    spent = []
    for level in (300, 400, 500, 600):
        start = time.process_time()
        as_shown(coded([level, 512, 512], (66, 50), "yuv420p10le", 9, 9, 18), None, "rgb24")
        spent.append(time.process_time() - start)
    assert max(spent[1:]) < spent[0] / 4


def test_a_forked_process_lets_go_of_a_scaler():
    """With threads of its own it would wait for those that the fork does not have, as a data reader did."""
    kept = [av.VideoFrame(640, 480, "yuv420p")]
    as_shown(kept[0], Fraction(4, 3), "rgb24")
    process = multiprocessing.get_context("fork").Process(target=kept.clear)
    process.start()
    process.join(60)
    assert process.exitcode == 0
