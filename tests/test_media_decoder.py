"""One decoder for use and for training: the frames of any index are those that come when all are decoded in order."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from makeavideo.data.decode import decode
from makeavideo.media import decoder
from makeavideo.media.clip import Clock, open_by_content
from makeavideo.media.inputs import sample_frames
from makeavideo.media.pictures import SCALER, Unreadable
from makeavideo.media.reader import probe, read_video

WHITE = (255, 255, 255)
CONTAINERS = {
    "a.mp4": ("libx264", {"g": "20", "bf": "3"}),
    "a.mov": ("mjpeg", {}),
    "a.mkv": ("libx264", {"g": "60"}),
    "a.avi": ("mpeg4", {"g": "15", "bf": "2"}),
    "a.ts": ("libx264", {"g": "20"}),
    "a.flv": ("libx264", {"g": "20"}),
    "a.mpg": ("mpeg2video", {"bf": "2"}),
    "a.wmv": ("wmv2", {}),
    "a.webm": ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "10"}),
}


def make(path: Path, count: int = 60) -> Path:
    codec, options = CONTAINERS[path.name]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = 32, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for i in range(count):
            level = np.random.default_rng(i).integers(0, 16, (32, 48, 3)) + 3 * i
            frame = av.VideoFrame.from_ndarray(level.astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", CONTAINERS)
def test_frames_by_index_are_those_in_order(tmp_path: Path, name: str) -> None:
    with open(make(tmp_path / name), "rb") as file, open_by_content(file) as clip:
        clock = clip.clock()
        frames = [frame for frame, _ in clip.frames(WHITE)]
        assert len(frames) == len(clock.times) == 60 and clock.duration == pytest.approx(2.4, abs=0.05)
        for wanted in ([0], [59], [5, 6, 30, 30, 58], [44, 45], list(range(60))):
            for frame, index in zip(clip.at(clock, wanted, WHITE), wanted, strict=True):
                np.testing.assert_array_equal(frame, frames[index], err_msg=f"{index} of {wanted}")


def test_only_the_frames_that_are_needed_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the key frame before each: 19 frames apart here."""
    path = make(tmp_path / "a.mp4", 200)
    decoded = []
    real = decoder.Container._decoded
    monkeypatch.setattr(
        decoder.Container, "_decoded", lambda self: (decoded.append(1) or frame for frame in real(self))
    )
    with open(path, "rb") as file, open_by_content(file) as clip:
        assert len(list(clip.at(clip.clock(), [21, 101, 102, 182], WHITE))) == 4
    assert len(decoded) < 30


def test_an_index_that_points_too_late_costs_time_not_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(make(tmp_path / "a.mp4", 100), "rb") as file, open_by_content(file) as clip:
        clock = clip.clock()
        expected = list(clip.at(clock, [30, 70], WHITE))
        late = Clock(clock.times, clock.duration, clock.pts, clock.keys)
        monkeypatch.setattr(decoder, "_key_before", lambda clock, done, index: int(clock.pts[85]))
        np.testing.assert_array_equal(list(clip.at(late, [30, 70], WHITE)), expected)


def test_use_and_training_see_the_same(tmp_path: Path) -> None:
    """Colours too: training was half a level darker, by FFmpeg's quick conversion."""
    path = make(tmp_path / "a.mp4")
    np.testing.assert_array_equal(decode(path, 16)[0][[14, 44]], sample_frames(path, 2, 16))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0)).reformat(format="rgb24", interpolation=SCALER)
        np.testing.assert_array_equal(frame.to_ndarray(), read_video(path).frames[0])


def test_kinds_are_known_by_content(tmp_path: Path) -> None:
    """avif is Pillow's in both uses; a name that says something else does not matter."""
    images = [Image.new("RGBA", (32, 32), (50 * i, 0, 0, 128)) for i in range(4)]
    images[0].save(tmp_path / "a.avif", save_all=True, append_images=images[1:], duration=100, quality=95)
    assert probe(tmp_path / "a.avif")[2:6] == (4, 10.0, 0.4, "avif")
    make(tmp_path / "a.mp4").rename(tmp_path / "b.gif")
    frames, times, _ = decode(tmp_path / "b.gif", 8)
    assert frames.shape == (60, 8, 8, 3) and times[1] == pytest.approx(0.04)


def test_files_that_were_cut(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv", "a.avi"):
        data = make(tmp_path / name).read_bytes()
        with pytest.raises(Unreadable), open_by_content(io.BytesIO(data[: len(data) * 6 // 10])) as clip:
            list(clip.at(clip.clock(), range(60), WHITE))
