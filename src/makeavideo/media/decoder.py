"""Files of moving pictures, opened by what they hold: containers by PyAV, animations by Pillow, folders of png.

A clip's frames come one by one, uint8 RGB (height, width, 3).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from ..errors import UserError
from .disk import reason
from .pictures import EXIF_IFD, MAX_PIXELS, SCALER, USER_COMMENT, TooManyPixels, open_image, to_rgb

if TYPE_CHECKING:
    import av
    from PIL import Image

interrupt: ContextVar[Callable[[], None]] = ContextVar("interrupt", default=lambda: None)
"""Called at every step through a file that is read, which can take long: what it raises ends the reading."""

# Only these demuxers: a playlist that calls itself .mp4 must not make FFmpeg open other files or the network.
_DEMUXERS = "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,ogg,flv,asf,nut,ivf,yuv4mpegpipe,mp3,wav,flac,aac"


class VideoInfo(NamedTuple):
    """What `probe` finds out about a file; width and height in pixels as stored, before any turning."""

    width: int
    height: int
    num_frames: int
    fps: float
    duration: float
    """Seconds."""
    codec: str
    recipe: dict[str, Any] | None


class _Clip(Protocol):
    """A file open for reading."""

    def frames(self, background: tuple[int, int, int]) -> Iterator[tuple[np.ndarray, float]]: ...

    def fps(self, count: int, span: float) -> float:
        """Frames a second, where `count` frames were read whose first and last times are `span` seconds apart."""

    def info(self) -> VideoInfo: ...

    def recipe(self) -> dict[str, Any] | None: ...


@contextlib.contextmanager
def open_clip(path: str | os.PathLike[str]) -> Iterator[_Clip]:
    """Open by content; the libraries' errors become one sentence."""
    import av
    from PIL import UnidentifiedImageError

    text = os.fspath(path)
    try:
        if os.path.isdir(text):
            pictures = sorted(Path(text).glob("*.png"), key=_natural)
            if not pictures:
                raise UserError(f"the folder {text} holds no png pictures: give a video, or a folder of its frames")
            yield _FolderClip(pictures)
            return
        if os.path.exists(text) and not os.path.isfile(text):  # reading a pipe could last for ever
            raise UserError(f"{text} is not a file: give a video file, or a folder of its frames as png")
        with open(text, "rb") as file:
            head = file.read(16)
            size = os.fstat(file.fileno()).st_size
            # FFmpeg ends a cut-off file without complaint where it can
            if _declared_size(file, size) > size:
                raise UserError(f"{text} is cut off: its end is missing, copy or download it again")
        if not head:
            raise UserError(f"{text} is empty: copy or download it again")
        if head.startswith((b"GIF8", b"\x89PNG", b"\xff\xd8\xff")) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
            with open_image(text) as image:
                yield _PictureClip(image)
            return
        # An absolute path: FFmpeg would take "a:b.mp4" for an address.
        with av.open(
            os.path.abspath(text), metadata_errors="replace", options={"format_whitelist": _DEMUXERS}
        ) as container:
            yield _ContainerClip(container, text)
    except FileNotFoundError as error:
        raise UserError(f"{text} does not exist: check its name") from error
    except TooManyPixels as error:
        raise UserError(f"{text} has {error}: make it smaller first") from error
    except UserError:
        raise
    except (
        av.error.FFmpegError,
        UnidentifiedImageError,
        SyntaxError,  # what Pillow raises for a broken png
        EOFError,
        ValueError,
        struct.error,
    ) as error:
        raise UserError(f"{text} is not a video that can be read: it is cut off, damaged or of another kind") from error
    except OSError as error:
        # Pillow's errors about content carry no number, the system's do
        problem = f"cannot be read: {reason(error)}" if error.errno else "is cut off or damaged: get a whole copy of it"
        raise UserError(f"{text} {problem}") from error


def _natural(path: Path) -> list[Any]:
    """Sort key: frame_2 before frame_10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def _parse_recipe(text: str | bytes | None) -> dict[str, Any] | None:
    """A comment that is a JSON object is a recipe; any other comment is somebody else's."""
    try:
        value = json.loads(text or "")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


class _ContainerClip:
    """What FFmpeg reads."""

    def __init__(self, container: av.container.InputContainer, shown: str) -> None:
        import av

        cover = av.stream.Disposition.attached_pic  # the picture of an audio file
        streams = [stream for stream in container.streams.video if not stream.disposition & cover]
        if not streams:
            sound = " but sound" if container.streams.audio else ""
            raise UserError(f"{shown} has no video stream, nothing{sound}: give a file with moving pictures")
        self._container, self._stream, self._shown = container, streams[0], shown
        context = streams[0].codec_context
        if context is None:
            raise UserError(f"{shown} is coded in a way that FFmpeg does not know: convert it to mp4 first")
        if context.width * context.height > MAX_PIXELS:
            raise TooManyPixels

    def _packets(self) -> Iterator[av.Packet]:
        for packet in self._container.demux(self._stream):
            interrupt.get()()
            if packet.is_corrupt:
                raise UserError(f"{self._shown} is cut off or damaged: get a whole copy of it")
            yield packet

    def frames(self, background: tuple[int, int, int]) -> Iterator[tuple[np.ndarray, float]]:
        import av
        from PIL import Image

        context = self._stream.codec_context
        context.thread_type = "AUTO"
        library = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(context.name)
        if library and self._stream.metadata.get("alpha_mode", "") == "1":
            with contextlib.suppress(av.error.FFmpegError, ValueError):  # FFmpeg's own decoder ignores transparency
                context = av.CodecContext.create(library, "r")
        rate = self._stream.average_rate
        count = 0
        for packet in self._packets():
            for frame in context.decode(packet if packet.size else None):
                alpha = any(component.is_alpha for component in frame.format.components)
                picture = frame.reformat(format="rgba" if alpha else "rgb24", interpolation=SCALER).to_ndarray()
                if alpha:
                    picture = np.asarray(to_rgb(Image.fromarray(picture), background))
                if turn := round(getattr(frame, "rotation", 0) / 90) % 4:
                    picture = np.ascontiguousarray(np.rot90(picture, turn))
                time = frame.pts * self._stream.time_base if frame.pts is not None else count / (rate or 24)
                yield picture, float(time)
                count += 1

    def fps(self, count: int, span: float) -> float:
        rate = float(self._stream.average_rate or 0)
        # It is exact where the rate is constant, and often a guess where it varies
        if span > 0 and not abs(span * rate - (count - 1)) <= max(0.1, 0.02 * (count - 1)):
            return (count - 1) / span
        return rate

    def info(self) -> VideoInfo:
        context = self._stream.codec_context
        times, lengths = [], []
        for packet in self._packets():
            if packet.size and not packet.is_discard:  # an edit may hide some
                times.append(packet.pts if packet.pts is not None else packet.dts or 0)
                lengths.append(packet.duration or 0)
        if not times:
            raise UserError(f"{self._shown} holds no frames")
        span = float((max(times) - min(times)) * self._stream.time_base)
        fps = self.fps(len(times), span)
        # the last frame is shown for its own duration; where the file does not say, for as long as the others
        last = float(lengths[times.index(max(times))] * self._stream.time_base) or (1 / fps if fps else 0.0)
        return VideoInfo(context.width, context.height, len(times), fps, span + last, context.name, self.recipe())

    def recipe(self) -> dict[str, Any] | None:
        tags = {key.lower(): value for key, value in self._container.metadata.items()}
        return _parse_recipe(tags.get("comment"))


def _declared_size(file: io.BufferedReader, size: int) -> int:
    """How long an mp4/mov or mkv/webm file says it is, from its outermost boxes, in bytes; 0 for other kinds."""
    file.seek(0)
    head = file.read(12)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        place = 0
        while place + 8 <= size:
            file.seek(place)
            length, _, large = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
            length = large if length == 1 else length
            if length < 8:  # 0: up to the end of the file
                return size
            place += length
        return place
    if head.startswith(b"\x1a\x45\xdf\xa3"):  # EBML: a header, then one Segment with everything in it
        file.seek(4)
        length, _ = _ebml_length(file)
        file.seek(length, os.SEEK_CUR)
        if file.read(4) == b"\x18\x53\x80\x67":
            length, known = _ebml_length(file)
            return file.tell() + length if known else size
    return 0


def _ebml_length(file: io.BufferedReader) -> tuple[int, bool]:
    """A Matroska element's length, and whether it is known (a live recording's is not)."""
    first = (file.read(1) or b"\0")[0]
    extra = 8 - first.bit_length()
    value = int.from_bytes(bytes([first & (0x7F >> extra)]) + file.read(extra), "big") if first else 0
    return value, bool(first) and value != (1 << 7 * (extra + 1)) - 1


class _PictureClip:
    """What Pillow reads: gif, webp, png, apng, jpg."""

    def __init__(self, image: Image.Image) -> None:
        self._image = image
        self._kind = (image.format or "").lower()
        self._delays: list[int] = []  # milliseconds, filled while reading

    def _steps(self) -> Iterator[Image.Image]:
        """Every frame, loaded; its delay is appended to self._delays."""
        image = self._image
        count = getattr(image, "n_frames", 1)
        # The still picture of an animated png that is not part of the animation
        first = 1 if count > 1 and image.info.get("default_image") else 0
        self._delays = []
        for index in range(first, count):
            interrupt.get()()
            image.seek(index)
            image.load()
            delay = round(image.info.get("duration", 0) or 0)
            self._delays.append(delay if delay > 10 or count == 1 else 100)  # as browsers play it
            yield image

    def frames(self, background: tuple[int, int, int]) -> Iterator[tuple[np.ndarray, float]]:
        from PIL import ImageOps

        elapsed = 0
        for image in self._steps():
            image = ImageOps.exif_transpose(image) if len(self._delays) == 1 else image
            yield np.asarray(to_rgb(image, background)), elapsed / 1000
            elapsed += self._delays[-1]

    def fps(self, count: int, span: float) -> float:
        return _rate_of_delays(self._delays[:count], 10 if self._kind == "gif" else 1)

    def info(self) -> VideoInfo:
        for _ in self._steps():
            pass
        width, height = self._image.size
        fps = _rate_of_delays(self._delays, 10 if self._kind == "gif" else 1)
        return VideoInfo(width, height, len(self._delays), fps, sum(self._delays) / 1000, self._kind, self.recipe())

    def recipe(self) -> dict[str, Any] | None:
        if self._kind == "png":
            return _parse_recipe(self._image.text.get("Comment"))
        if self._kind == "gif":
            return _parse_recipe(self._image.info.get("comment"))
        comment = self._image.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT, b"")
        return _parse_recipe(comment.removeprefix(b"ASCII\0\0\0")) if isinstance(comment, bytes) else None


def _rate_of_delays(delays: Sequence[int], tick: int) -> float:
    """Frames a second from delays in milliseconds that were rounded to `tick` ms; 0 for a picture without delay.

    24 a second is 4, 4, 5, 4, 4, 4 ... hundredths in a gif: so the whole rate that rounds to these delays, if any does.
    """
    total = sum(delays)
    if not total:
        return 0.0
    mean = len(delays) * 1000 / total
    whole = round(mean)
    ends = np.cumsum(delays)
    if whole and all(abs(end - (i + 1) * 1000 / whole) <= tick / 2 + 1e-6 for i, end in enumerate(ends)):
        return float(whole)
    return mean


class _FolderClip:
    """A folder of png pictures, in natural order of their names; 24 a second unless the first one says otherwise."""

    def __init__(self, pictures: list[Path]) -> None:
        self._pictures = pictures
        with open_image(os.fspath(pictures[0])) as image:
            image.load()
            self._size, text = image.size, getattr(image, "text", {})
        self._comment = text.get("Comment")
        try:
            self._fps = float(Fraction(text.get("fps", "24"))) or 24.0
        except (ValueError, ZeroDivisionError):
            self._fps = 24.0

    def frames(self, background: tuple[int, int, int]) -> Iterator[tuple[np.ndarray, float]]:
        for index, path in enumerate(self._pictures):
            with open_image(os.fspath(path)) as image:
                yield np.asarray(to_rgb(image, background)), index / self._fps

    def fps(self, count: int, span: float) -> float:
        return self._fps

    def info(self) -> VideoInfo:
        count = len(self._pictures)
        return VideoInfo(*self._size, count, self._fps, count / self._fps, "png", self.recipe())

    def recipe(self) -> dict[str, Any] | None:
        return _parse_recipe(self._comment)
