"""Clips that others wrote, and files that are none."""

import io
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from makeavideo import UserError
from makeavideo.media.pictures import to_rgb
from makeavideo.media.reader import probe, read_recipe, read_video
from makeavideo.media.writer import write_video
from media_files import CLIP, ENDINGS, RECIPE, make_clip, psnr, write_kind


def half_transparent() -> np.ndarray:
    rgba = np.zeros((4, 64, 64, 4), dtype=np.uint8)
    rgba[:, :, 16:48] = (200, 30, 60, 255)
    rgba[:, :, 48:] = (0, 0, 255, 0)
    return rgba


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mov", "qtrle", "argb"),
        ("a.mov", "png", "rgba"),
        ("a.mkv", "ffv1", "bgra"),
        ("a.webm", "libvpx-vp9", "yuva420p"),
    ],
)
def test_transparency_in_videos(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    path = write_kind(tmp_path / name, codec, pix_fmt, half_transparent())
    clip = read_video(path, background="#00ff00")
    assert clip.frames.shape == (4, 64, 64, 3) and clip.fps == 10
    close = 12 if codec == "libvpx-vp9" else 1
    assert np.abs(clip.frames[:, :, 2:12].astype(int) - (0, 255, 0)).max() <= close
    assert np.abs(clip.frames[:, :, 52:].astype(int) - (0, 255, 0)).max() <= close
    assert np.abs(clip.frames[:, :, 22:42].astype(int) - (200, 30, 60)).max() <= close


@pytest.mark.parametrize("ending", [".gif", ".webp", ".png"])
def test_transparency_in_pictures(tmp_path: Path, ending: str) -> None:
    images = [Image.fromarray(frame) for frame in half_transparent()[:2]]
    images[1].putpixel((20, 20), (0, 0, 0, 255))  # so that the second frame is not dropped
    options = {"lossless": True} if ending == ".webp" else {"disposal": 2} if ending == ".gif" else {}
    path = tmp_path / f"a{ending}"
    images[0].save(path, save_all=True, append_images=images[1:], duration=100, **options)
    clip = read_video(path, background="blue")
    assert clip.frames.shape == (2, 64, 64, 3) and clip.fps == 10
    assert (clip.frames[:, :, :16] == (0, 0, 255)).all() and (clip.frames[:, :, 48:] == (0, 0, 255)).all()
    assert (clip.frames[0, :, 16:48] == (200, 30, 60)).all()
    with pytest.raises(UserError, match="is not a colour"):
        read_video(path, background="bleu")


def test_half_transparency_is_composed_exactly() -> None:
    alpha = np.arange(256, dtype=np.uint8)
    rgba = np.stack([np.full(256, 10, np.uint8)] * 3 + [alpha], axis=-1)[None]
    exact = 10 * (alpha / 255) + 250 * (1 - alpha / 255)
    assert np.abs(np.asarray(to_rgb(Image.fromarray(rgba), (250, 250, 250)))[0, :, 0] - exact).max() <= 0.5 + 1e-9


def test_uneven_times(tmp_path: Path) -> None:
    images = [Image.fromarray(frame) for frame in CLIP[:4]]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=[100, 200, 0, 40])
    clip = read_video(tmp_path / "a.gif")
    assert clip.times.tolist() == pytest.approx([0, 0.1, 0.3, 0.4])  # no delay is played as 0.1 s
    assert clip.fps == pytest.approx(4 / 0.44)

    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=1000)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        for frame, ms in zip(CLIP, [0, 40, 90, 400], strict=False):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p")
            picture.pts, picture.time_base = ms, Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    assert read_video(tmp_path / "a.mkv").times.tolist() == pytest.approx([0, 0.04, 0.09, 0.4])


def test_max_frames(tmp_path: Path) -> None:
    for ending in ENDINGS:
        path = write_video(tmp_path / f"clip{ending}", CLIP, 24)
        assert len(read_video(path, max_frames=5).frames) == 5


def test_turned_by_the_camera(tmp_path: Path) -> None:
    """A telephone held upright stores a lying picture and a matrix: x' = -y, y' = x, a quarter turn clockwise."""
    path = write_video(tmp_path / "clip.mp4", CLIP[:, :32], 24)
    data = path.read_bytes()
    straight = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    place = data.index(straight, data.index(b"tkhd"))
    path.write_bytes(data[:place] + turned + data[place + 36 :])
    frames = read_video(path).frames
    assert frames.shape == (12, 64, 32, 3)
    assert psnr(frames, np.rot90(CLIP[:, :32], -1, axes=(1, 2))) > 30


def test_content_counts_not_the_name(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.webp", CLIP, 24, RECIPE).rename(tmp_path / "clip.mp4")
    assert probe(path).codec == "webp" and len(read_video(path).frames) == len(CLIP)


def test_files_that_are_no_videos(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("This is not a video.\n" * 100)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "subtitles.mp4").write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    for name, sentence in {
        "text.mp4": "is not a video that can be read",
        "empty.mp4": "is empty",
        "folder": "holds no png pictures",
        "subtitles.mp4": "is not a video that can be read",
        "sound.mp4": "has no video stream",
        "missing.mp4": "does not exist",
    }.items():
        for reader in (read_video, probe, read_recipe):
            with pytest.raises(UserError, match=sentence) as caught:
                reader(tmp_path / name)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", [".mp4", ".webm", ".gif", ".webp", ".png"])
def test_cut_off_files(tmp_path: Path, ending: str) -> None:
    path = write_video(tmp_path / f"clip{ending}", CLIP if ending != ".png" else CLIP[:1], 24)
    data = path.read_bytes()
    for part in (0.02, 0.3, 0.7, 0.97):
        path.write_bytes(data[: int(len(data) * part)])
        for reader in (read_video, probe):
            with pytest.raises(UserError, match="cut off"):
                reader(path)


@pytest.mark.parametrize("ending", [".mp4", ".webm"])
def test_files_cut_between_two_frames(tmp_path: Path, ending: str) -> None:
    """FFmpeg alone ends there as if nothing were missing."""
    path = write_video(tmp_path / f"clip{ending}", make_clip(48), 24)
    with av.open(str(path)) as container:
        ends = sorted(packet.pos + packet.size for packet in container.demux(video=0) if packet.size)
    path.write_bytes(path.read_bytes()[: ends[30]])
    for reader in (read_video, probe):
        with pytest.raises(UserError, match="cut off: its end is missing"):
            reader(path)


def test_mkv_of_unknown_length_is_whole(tmp_path: Path) -> None:
    """A live recording does not say how long it is."""
    stream = io.BytesIO()
    stream.seekable = lambda: False
    with av.open(stream, "w", format="matroska", options={"live": "1"}) as container:
        track = container.add_stream("ffv1", rate=10)
        track.height, track.width, track.pix_fmt = 64, 64, "yuv420p"
        for frame in CLIP:
            container.mux(track.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p")))
        container.mux(track.encode(None))
    (tmp_path / "a.mkv").write_bytes(stream.getvalue())
    assert len(read_video(tmp_path / "a.mkv").frames) == len(CLIP)
