"""Pictures, clips and shards for the tests of the readers. The grey level of a frame tells its index."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

STEP = 4  # grey levels between frames: more than lossy coding changes


def grey(index: int, width: int = 32, height: int = 32) -> np.ndarray:
    return np.full((height, width, 3), 8 + STEP * index, np.uint8)


def write_video(path, count=40, fps=30, codec="libx264", pixel_format="yuv420p", pts=None, size=(32, 32), options=None):
    """pts: presentation times in milliseconds, for a variable rate."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options={"crf": "1"} if "x264" in codec or "vp" in codec else {})
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        if pts is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(grey(i % 61, *size), format="rgb24")
            frame.pts = i if pts is None else pts[i]
            frame.time_base = Fraction(1, fps) if pts is None else Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_animation(path, count=40, durations=40, alpha=False, **options):
    frames = [Image.fromarray(grey(i)) for i in range(count)]
    if alpha:
        for frame in frames:
            frame.putalpha(Image.fromarray(np.repeat([[255] * 16 + [0] * 16], 32, 0).astype(np.uint8)))
    save = {} if path.suffix == ".gif" else {"lossless": True} if path.suffix == ".webp" else {"format": "PNG"}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0, **save, **options)
    return path


def write_audio(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def picture(path, color=(200, 30, 30), caption="a picture", size=(40, 40), **options):
    Image.new("RGB", size, color).save(path, **options)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)
    return path


def levels(sample) -> list[float]:
    """0..255 grey of each frame's left quarter."""
    pixels = sample["pixels"]
    return ((pixels[:, :, :, : pixels.shape[-1] // 4].mean((1, 2, 3)) + 1) * 127.5).tolist()


def indices(sample) -> list[int]:
    return [round((level - 8) / STEP) for level in levels(sample)]


def cut_file(path, keep):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def make_clips(folder: Path) -> Path:
    """Seven clips of 40 frames, one of each format."""
    write_video(folder / "h264.mp4")
    write_video(folder / "vp9.webm", codec="libvpx-vp9")
    write_video(folder / "quick.mov", codec="mjpeg", pixel_format="yuvj420p")
    write_video(folder / "ffv1.mkv", codec="ffv1")
    write_animation(folder / "anim.gif")
    write_animation(folder / "anim.webp", alpha=True)
    write_animation(folder / "anim.apng")
    return folder


def same(a: dict, b: dict) -> bool:
    """Whether two samples are alike, bit for bit."""
    return torch.equal(a["pixels"], b["pixels"]) and all(a[k] == b[k] for k in a if k != "pixels")
