"""Interlaced, turned and mirrored videos: what comes out is what FFmpeg's own filters give."""

from fractions import Fraction
from pathlib import Path

import av
import av.filter
import numpy as np
import pytest

from makeavideo.media.inputs import open_video, shape_of_video
from makeavideo.media.reader import probe, read_video
from makeavideo.media.shown import as_shown

HEIGHT, WIDTH, COUNT = 48, 64, 24


def bars(moment: float) -> np.ndarray:
    """A soft bar that moves to the right, four pixels a frame."""
    x = np.arange(WIDTH)[None, :, None] - (4 * moment) % WIDTH
    return np.broadcast_to(255 / (1 + np.exp(-(4 - np.abs(x)) * 2)), (HEIGHT, WIDTH, 3)).astype(np.uint8)


def woven(index: int) -> np.ndarray:
    """Two fields: the even lines of one moment, the odd ones of half a frame later."""
    frame = bars(index).copy()
    frame[1::2] = bars(index + 0.5)[1::2]
    return frame


def write_turned(path: Path, frames: list[np.ndarray], turn: dict | None = None, **options: str) -> Path:
    mpeg2 = path.suffix in (".mpg", ".ts")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video" if mpeg2 else "libx264", rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        if mpeg2:
            stream.bit_rate = 4_000_000
        if turn:
            stream.set_display_rotation(**turn)
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def interlaced(path: Path) -> Path:
    options = {"flags": "+ilme+ildct"} if path.suffix in (".mpg", ".ts") else {"x264-params": "tff=1", "crf": "8"}
    return write_turned(path, [woven(index) for index in range(COUNT)], **options, g="8")


def filtered(path: Path, *filters: tuple[str, str]) -> np.ndarray:
    """The frames of a file through filters of FFmpeg's, then to RGB as all frames are."""
    found = []
    with av.open(str(path)) as container:
        graph = av.filter.Graph()
        source = graph.add_buffer(template=container.streams.video[0], time_base=Fraction(1, 25))
        graph.link_nodes(source, *(graph.add(*one) for one in filters), graph.add("buffersink")).configure()
        for frame in [*container.decode(video=0), None]:
            graph.vpush(frame)
            while True:
                try:
                    found.append(as_shown(graph.vpull(), None, "rgb24").to_ndarray())
                except (av.error.BlockingIOError, av.error.EOFError):
                    break
    return np.stack(found)


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".ts", ".mpg"])
def test_interlaced_frames_are_whole(tmp_path: Path, ending: str) -> None:
    path = interlaced(tmp_path / f"a{ending}")
    video = read_video(path)
    assert (video.frames == filtered(path, ("bwdif", "mode=send_frame:deint=interlaced"))).all()
    assert np.allclose(np.diff(video.times), 0.04, atol=0.002) and len(video.frames) == COUNT
    with av.open(str(path)) as container:
        combed = np.stack([as_shown(frame, None, "rgb24").to_ndarray() for frame in container.decode(video=0)])

    def combs(frames: np.ndarray) -> float:
        return float(np.abs(np.diff(frames.astype(int), axis=1)).mean())

    assert combs(video.frames[2:-2]) < combs(combed) / 4


@pytest.mark.parametrize("ending", [".mp4", ".ts"])
def test_a_frame_is_the_same_however_it_is_reached(tmp_path: Path, ending: str) -> None:
    path = interlaced(tmp_path / f"a{ending}")
    whole = read_video(path).frames
    video = open_video(path, (HEIGHT, WIDTH))
    for index in (0, 7, 8, 16, 17, COUNT - 1):
        assert (next(iter(video.at([index / 25]))) == whole[index]).all()


def test_what_is_not_interlaced_is_left_alone(tmp_path: Path) -> None:
    path = write_turned(tmp_path / "a.mp4", [woven(index) for index in range(4)])  # combs that nothing marks
    with av.open(str(path)) as container:
        stored = np.stack([as_shown(frame, None, "rgb24").to_ndarray() for frame in container.decode(video=0)])
    assert (read_video(path).frames == stored).all()


CORNERS = np.zeros((32, 48, 3), np.uint8)
CORNERS[:8, :8], CORNERS[:8, -8:], CORNERS[-8:, :8] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
AS_FFMPEG_DOES = {  # its program's configure_input_video_filter, by quarter turn and mirroring
    (0, False, True): [("vflip", "")],
    (0, True, False): [("hflip", "")],
    (90, False, False): [("transpose", "cclock")],
    (180, False, False): [("hflip", ""), ("vflip", "")],
    (270, False, False): [("transpose", "clock")],
    (90, True, False): [("transpose", "cclock"), ("hflip", "")],
    (270, True, False): [("transpose", "clock"), ("hflip", "")],
    (90, False, True): [("transpose", "cclock"), ("vflip", "")],
}


@pytest.mark.parametrize("ending", [".mp4", ".mov"])
@pytest.mark.parametrize("turn", AS_FFMPEG_DOES)
def test_turned_and_mirrored(tmp_path: Path, ending: str, turn: tuple[int, bool, bool]) -> None:
    degrees, hflip, vflip = turn
    said = {"degrees": degrees, "hflip": hflip, "vflip": vflip}
    path = write_turned(tmp_path / f"a{ending}", [CORNERS] * 3, said, crf="8")
    (frame, *_) = read_video(path).frames
    expected = filtered(path, *AS_FFMPEG_DOES[turn])[0]
    assert np.abs(frame.astype(int) - expected).mean() < 2  # colours at edges, which have half the detail
    found = probe(path)
    assert frame.shape[:2] == shape_of_video(path) == (found.height, found.width)
