"""What the tests of media/ share: clips to write, files of every kind, and questions about them.

Imports no torch: processes that are killed import it too.
"""

import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from makeavideo import UserError
from makeavideo.media.writer import write_video

ENDINGS = [".mp4", ".webm", ".gif", ".webp", ""]
MIN_PSNR = {".mp4": 36, ".webm": 36, ".gif": 33, ".webp": 36, "": 99}
RECIPE = {"prompt": "une fusée 🚀 décolle\n«日本»", "seed": 7, "settings": {"steps": 30, "guidance": 4.5}, "none": None}


def make_clip(num_frames: int = 12, size: int = 64) -> np.ndarray:
    """A soft coloured disc that crosses a white ground: uint8 (num_frames, size, size, 3)."""
    y, x = np.mgrid[0:size, 0:size] / size
    frames = []
    for i in range(num_frames):
        centre = 0.25 + 0.5 * i / max(num_frames - 1, 1)
        inside = 1 / (1 + np.exp(((x - centre) ** 2 + (y - 0.5) ** 2 - 0.04) * 200))[..., None]
        colour = np.stack([0.9 - 0.5 * x, 0.2 + 0.6 * y, 0.3 + 0 * x], axis=-1)
        frames.append(np.round(255 * (inside * colour + 1 - inside)).astype(np.uint8))
    return np.stack(frames)


CLIP = make_clip()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(np.float64) - b) ** 2)
    return 10 * np.log10(255**2 / max(error, 1e-10))


def decode_elsewhere(path: Path) -> np.ndarray:
    """The frames by another way than ours: ffmpeg if there is one, else FFmpeg's defaults through PyAV."""
    if shutil.which("ffmpeg"):
        command = [
            "ffmpeg",
            "-v",
            "error",
            "-i",
            path,
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
            "-fps_mode",
            "passthrough",
        ]
        raw = subprocess.run([*command, "-"], check=True, capture_output=True).stdout
        return np.frombuffer(raw, np.uint8).reshape(-1, *CLIP.shape[1:])
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def content(path: Path) -> bytes | dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(path.iterdir())} if path.is_dir() else path.read_bytes()


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def boxes(data: bytes) -> list[str]:
    found, place = [], 0
    while place < len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        found.append(name.decode())
        place += length
    return found


def picture_of(index: int, size: int = 64) -> np.ndarray:
    """A frame whose grey level and shifting grain tell its index."""
    grain = np.random.default_rng(index).integers(-12, 13, (size, size, 3))
    return np.clip(20 + index * 7 % 200 + grain, 0, 255).astype(np.uint8)


def write_kind(path: Path, codec: str, pix_fmt: str, frames: np.ndarray, fps: int = 10, **options: str) -> Path:
    """A file by PyAV alone; RGBA frames keep their transparency if `pix_fmt` can."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pix_fmt
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgba" if frame.shape[2] == 4 else "rgb24")
            container.mux(stream.encode(picture.reformat(format=pix_fmt)))
        container.mux(stream.encode(None))
    return path


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


def make_video(path: Path, count: int = 40, fps: int = 10) -> Path:
    frames = grey_frames(count)
    if path.suffix == ".apng":
        images = [Image.fromarray(frame) for frame in frames]
        images[0].save(path, "PNG", save_all=True, append_images=images[1:], duration=1000 // fps)
        return path
    if path.suffix in (".mov", ".mkv"):
        return write_av(path, frames, fps)
    return write_video(path, frames, fps)
