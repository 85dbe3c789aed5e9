"""Read and write moving pictures: mp4, webm, gif, webp, png (PyAV and Pillow only).

At this border a clip is uint8 RGB of shape (frames, height, width, 3). Three promises hold for every format:

- a file appears under its name only when it is whole: it is made under a temporary name in the same folder;
- the same frames give the same bytes: no dates, fixed encoder threads, bit-exact containers;
- the file carries its recipe (JSON) where the format keeps comments, and `read_recipe` brings it back.

What was made is not lost: a `VideoWriter` that is stopped, or whose disk gets full, leaves the frames so far as a file
that plays, under its name.

Neither PyAV nor Pillow is imported before it is needed: a command line that only prints its help stays quick.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import json
import math
import os
import re
import secrets
import shutil
import signal
import struct
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, NoReturn, Protocol

import numpy as np

from ..errors import UserError

if TYPE_CHECKING:
    import av
    import av.filter
    from PIL import Image

__all__ = [
    "FORMATS",
    "Terminated",
    "Video",
    "VideoInfo",
    "VideoWriter",
    "check_writable",
    "probe",
    "read_recipe",
    "read_video",
    "terminate_as_interrupt",
    "write_video",
]

FORMATS: dict[str, str] = {
    ".mp4": "H.264 video, plays everywhere",
    ".webm": "VP9 video",
    ".gif": "animated GIF, 256 colours",
    ".webp": "animated WebP",
    ".png": "one picture",
    "": "a folder of png pictures",
}
"""What can be written: ending -> description. The empty ending is a folder, frame_00000.png and so on."""

_MAX_FPS = {".gif": 50, ".webp": 90}  # browsers play shorter delays than these at 10 frames a second
_MAX_FPS_ANY = 240

# x264's bytes depend on its number of threads, so that is fixed. Without macroblock tree: its AVX-512 code gives
# different bytes from run to run on small pictures (seen at 64, 96, 112 and 192 pixels, x264 core 165).
_THREADS = 2
_ENCODERS: dict[str, list[tuple[str, dict[str, str]]]] = {
    ".mp4": [("libx264", {"crf": "18", "preset": "fast", "x264-params": "mbtree=0"})],
    ".webm": [
        ("libvpx-vp9", {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "7", "row-mt": "1"}),
        ("libsvtav1", {"crf": "28", "preset": "9"}),
    ],
}
# The file grows by whole pieces of a second, each flushed when it is done: it can be cut after any of them.
_CONTAINERS = {
    ".mp4": ("mp4", {"movflags": "+frag_keyframe+empty_moov+default_base_moof+delay_moov", "flush_packets": "1"}),
    ".webm": ("webm", {"cluster_time_limit": "1000", "flush_packets": "1"}),
}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

# swscale's bicubic | full chroma | accurate rounding: the default truncates and makes everything half a level darker.
_SCALER = 0x4 | 0x2000 | 0x40000
_BT709 = 1

_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_FRAME_NAME = re.compile(r"frame_\d+\.png")
_TEMPORARY = ".makeavideo-"

interrupt: ContextVar[Callable[[], None]] = ContextVar("interrupt", default=lambda: None)
"""Called at every step through a file that is read, which can take long: what it raises ends the reading."""

MAX_PIXELS = 64_000_000  # of one picture or frame to be read: larger ones are decompression bombs or mistakes
# Only these demuxers: a playlist that calls itself .mp4 must not make FFmpeg open other files or the network.
_DEMUXERS = "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,ogg,flv,asf,nut,ivf,yuv4mpegpipe,mp3,wav,flac,aac"


class Video(NamedTuple):
    """A clip in memory."""

    frames: np.ndarray
    """uint8 (frames, height, width, 3), RGB."""
    times: np.ndarray
    """float64 (frames,): when each frame is shown, in seconds after the first."""
    fps: float
    """Frames a second; the mean where the rate varies."""


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


# ---------------------------------------------------------------------------------------------------------------------
# Where to write


def check_writable(
    path: str | os.PathLike[str],
    *,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
    num_frames: int | None = None,
) -> Path:
    """Make sure, before any work is done, that a clip can be written to `path`; missing folders are created.

    Args:
        path: a file with one of the endings of `FORMATS`; without ending, or ending with a slash, a folder.
        fps: the frame rate, if known already.
        size: (height, width) in pixels, if known already.
        num_frames: how many frames there will be, if known already.

    Returns:
        The absolute path that will be written, links resolved.

    Raises:
        UserError: unknown ending, a folder where a file is asked or the reverse, a folder that cannot be written or
            holds other things, an impossible frame rate or size.
    """
    text = os.fspath(path)
    if not text or "\0" in text:
        raise UserError(f"the output path {text!r} is not a file name: give one such as video.mp4")
    ending = _ending(text)
    if fps is not None:
        _rate(fps, ending)
    if size is not None:
        _check_size(size, ending)
    if ending == ".png" and num_frames is not None and num_frames > 1:
        raise UserError(_ONE_PICTURE.format(path=text, n=num_frames))

    target = Path(os.path.realpath(text))
    try:
        is_folder, exists = target.is_dir(), os.path.lexists(target)
        if ending and is_folder:
            raise UserError(f"cannot write {text}: a folder of that name exists, choose another name")
        if not ending and exists and not is_folder:
            raise UserError(f"cannot write {text} as a folder of pictures: a file of that name exists, add an ending")
        if not ending and is_folder:
            others = [entry.name for entry in os.scandir(target) if not _FRAME_NAME.fullmatch(entry.name)]
            others = sorted(name for name in others if not name.startswith(_TEMPORARY))
            if others:
                raise UserError(
                    f"cannot write pictures to {text}: the folder holds other things ({others[0]}), choose an empty one"
                )
        place = target if is_folder else target.parent
        _check_folder(place, text)
    except OSError as error:  # such as a name that is too long
        raise UserError(f"cannot write {text}: {_reason(error)}") from error
    return target


def _check_folder(folder: Path, shown: str) -> None:
    """Create `folder` if it is missing and make sure that files can be made in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (
            "part of the path is a file" if isinstance(error, FileExistsError | NotADirectoryError) else _reason(error)
        )
        raise UserError(f"cannot write {shown}: the folder {folder} cannot be created, {reason}") from error
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=_TEMPORARY):
            pass
    except OSError as error:
        raise UserError(f"cannot write {shown}: the folder {folder} is not writable, {_reason(error)}") from error


_ONE_PICTURE = (
    "cannot write {n} frames to {path}: a .png holds one picture, use .mp4 or a folder (a name without ending)"
)


def _ending(text: str) -> str:
    """The key of FORMATS that `text` asks for."""
    if text.endswith(("/", os.sep)):
        return ""
    name = Path(text).name
    ending = Path(text).suffix.lower()
    known = ", ".join(key for key in FORMATS if key)
    if name.lower() in FORMATS and name:
        raise UserError(f"cannot write {text}: the name has nothing before its ending, write for example video{name}")
    if ending not in FORMATS or name.endswith("."):
        raise UserError(
            f"cannot write {text}: the ending {ending or '.'} is unknown, "
            f"use {known}, or no ending for a folder of png pictures"
        )
    return ending


def _rate(fps: float, ending: str) -> Fraction:
    """`fps` as a fraction; UserError where the format cannot hold it."""
    limit = _MAX_FPS.get(ending, _MAX_FPS_ANY)
    if not (math.isfinite(fps) and 0.01 <= fps <= limit):
        raise UserError(f"the frame rate is {fps}: it must lie between 0.01 and {limit} for {ending or 'pictures'}")
    return Fraction(fps).limit_denominator(1001)


def _check_size(size: tuple[int, int], ending: str) -> None:
    height, width = size
    if height < 1 or width < 1:
        raise UserError(f"the frames are {width}x{height} pixels: both sides must be at least 1")
    if ending in _ENCODERS and (height % 2 or width % 2):
        raise UserError(f"the frames are {width}x{height} pixels: {ending} needs even sides, use even sizes or .webp")


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)


# ---------------------------------------------------------------------------------------------------------------------
# Writing


def write_video(
    path: str | os.PathLike[str],
    frames: Iterable[np.ndarray],
    fps: float,
    recipe: dict[str, Any] | None = None,
) -> Path:
    """Write frames to a file whose ending names the format (see `FORMATS`).

    `frames` is consumed one by one, so memory does not grow with their number. If it raises, nothing is left behind
    and what stood under `path` before is still there.

    Args:
        path: where to; missing folders are created.
        frames: uint8 (height, width, 3) each, RGB, all of one size: an array, a list, a generator.
        fps: frames a second. A gif keeps time in 1/100 s and a webp in 1/1000 s, right on average.
        recipe: what made the clip; any dict that JSON can hold.

    Returns:
        The absolute path that was written.

    Raises:
        UserError: see `check_writable`; also when the disk is full.
        ValueError: no frames, or a frame that is not uint8 (height, width, 3) of the first one's size.
    """
    with VideoWriter(path, fps, recipe, keep_partial=False) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.path


class Terminated(KeyboardInterrupt):
    """SIGTERM, where `terminate_as_interrupt` makes an exception of it."""


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM raise `Terminated`, a KeyboardInterrupt, in the main thread; the old handler comes back at the end.

    A `VideoWriter` then keeps its frames as it does after Ctrl-C. In other threads, which cannot have signals, it does
    nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> NoReturn:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)  # None: not set from Python


class VideoWriter:
    """Write a clip frame by frame; as a context manager: whole at the end, nothing left after an exception.

    With `keep_partial` two things leave the frames so far under the name, as a file that plays: being stopped
    (KeyboardInterrupt, SystemExit; see `terminate_as_interrupt` for SIGTERM), and a full disk, which is then the
    UserError of `write` or of the end and says how many frames there are. Room to finish in is reserved from the start.
    Where even that does not do (a quota, a limit on one file's size), the last two or three seconds are missing.

    The encoder runs on a thread of its own because Python raises KeyboardInterrupt in the main thread only: no packet
    is ever lost halfway.

    Args:
        path, fps, recipe: see `write_video`. The path is checked here, before any frame is made.
        keep_partial: finish the file, not remove it, when it is stopped or the disk is full.

    Attributes:
        path: the absolute path that is written.
        num_frames: how many frames the file has, or will have when it is finished.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fps: float,
        recipe: dict[str, Any] | None = None,
        *,
        keep_partial: bool = True,
    ) -> None:
        self.path = check_writable(path, fps=fps)
        self.fps = fps
        self.num_frames = 0
        self.keep_partial = keep_partial
        self._shown = os.fspath(path)
        self._ending = _ending(self._shown)
        # ASCII, so that no format's idea of text encoding matters.
        self._recipe = None if recipe is None else json.dumps(recipe)
        self._size: tuple[int, int] | None = None
        self._sink: _Sink | None = None
        self._temporary: Path | None = None
        self._reserve = _Reserve()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="video-writer")
        self._open = True  # becomes False on the worker only, so that an interrupted call cannot hide how it ended

    def write(self, frame: np.ndarray) -> None:
        """Append one frame, uint8 (height, width, 3). Raises as `write_video` does, and then the file is closed."""
        if not self._open:
            raise ValueError(f"{self._shown} is closed already")
        frame = np.asarray(frame)
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"a frame must be uint8 (height, width, 3), not {frame.dtype} {frame.shape}")
        size = frame.shape[:2]
        if self._size is None:
            _check_size(size, self._ending)
            self._size = size
        if size != self._size:
            raise ValueError(f"all frames must have the first one's size {self._size}, not {size}")
        if self._ending == ".png" and self.num_frames == 1:
            raise UserError(_ONE_PICTURE.format(path=self._shown, n="several"))
        self._run(self._add, np.ascontiguousarray(frame))

    def close(self) -> Path:
        """Finish the file and give it its name; a second call does nothing. Returns the path."""
        self._stop(self._finish)
        return self.path

    def abort(self) -> None:
        """Drop what was written; a file that stood under the name before stays as it was."""
        self._stop(self._discard)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self.close()
        elif self.keep_partial and issubclass(kind, KeyboardInterrupt | SystemExit):
            self._stop(self._finish_if_any)
        else:
            self.abort()

    def _run(self, job: Callable[..., None], *args: Any) -> None:
        """Do `job` on the encoder's thread, in order; the disk's troubles become the user's."""
        try:
            self._worker.submit(job, *args).result()
        except OSError as error:  # FFmpeg's errors of this kind are OSErrors too
            raise UserError(f"cannot write {self._shown}: {_reason(error)}") from error

    def _stop(self, job: Callable[[], None]) -> None:
        """Do this last `job`, unless the file is closed already."""

        def last() -> None:
            if self._open:
                self._open = False
                job()

        if self._open:
            try:
                self._run(last)
            finally:
                self._worker.shutdown(wait=False)

    # What follows runs on the worker.

    def _add(self, frame: np.ndarray) -> None:
        if not self._open:  # an interrupted call ended it
            return
        try:
            if self._sink is None:
                self._sink = self._make_sink(frame.shape[:2])
            self._sink.add(frame)
            self.num_frames += 1
        except BaseException as error:
            if isinstance(error, OSError) and error.errno in _FULL:
                self._reserve.spend(error)
            if self._reserve.full is None or not (self.keep_partial and self.num_frames):
                self._open = False
                self._discard()
                # PyAV makes errors of its own of those that come from a file's write
                raise error if self._reserve.full is None else self._reserve.full  # noqa: B904
        if self._reserve.full is not None:  # if the frame went in, then into the room meant for the end
            self._open = False
            self._finish()

    def _make_sink(self, size: tuple[int, int]) -> _Sink:
        place = self.path if self.path.is_dir() else self.path.parent
        self._temporary = place / f"{_TEMPORARY}{secrets.token_hex(6)}"
        if self.keep_partial and self._ending not in (".png", ""):  # pictures wait for nothing
            # An encoder holds back two or three seconds: 60 frames of two bits a pixel, more than most need
            self._reserve = _Reserve(place, max(16 * size[0] * size[1], 2**18))
        make = {".gif": _GifSink, ".webp": _WebpSink, ".png": _PngSink, "": _FolderSink}
        sink = make.get(self._ending, functools.partial(_ContainerSink, self._ending))
        return sink(self._temporary, size, _rate(self.fps, self._ending), self._recipe, self._reserve)

    def _finish_if_any(self) -> None:
        if self.num_frames:
            self._finish()
        else:
            self._discard()

    def _finish(self) -> None:
        if self._sink is None or self._temporary is None:
            raise ValueError(f"no frames to write to {self._shown}")
        made, full = self.num_frames, self._reserve.full
        try:
            self.num_frames = self._sink.finish()
            if self.num_frames < made:
                full = self._reserve.full
            if full is not None and not (self.keep_partial and self.num_frames):
                raise full
            self._reserve.release()
            if self.path.is_dir():  # it may be a mount point, so its pictures are replaced, not the folder
                for entry in list(os.scandir(self.path)):
                    if _FRAME_NAME.fullmatch(entry.name):
                        os.unlink(entry.path)
                for name in sorted(os.listdir(self._temporary)):
                    os.rename(self._temporary / name, self.path / name)
                os.rmdir(self._temporary)
            else:
                os.replace(self._temporary, self.path)
        except BaseException:
            self._discard()
            raise
        if full is not None:
            seconds = self.num_frames / self.fps
            raise UserError(
                f"cannot write more to {self._shown}: {_reason(full)}; its first {self.num_frames} frames "
                f"({seconds:.1f} s) are kept in {self.path}, free some space and start again for the rest"
            ) from full

    def _discard(self) -> None:
        self._reserve.release()
        if self._sink is not None:
            with contextlib.suppress(Exception):
                self._sink.drop()
        if self._temporary is not None and os.path.lexists(self._temporary):
            if self._temporary.is_dir():
                shutil.rmtree(self._temporary, ignore_errors=True)
            else:
                self._temporary.unlink()


class _Reserve:
    """Room on the disk that is given back when it gets full, so that a file can be finished.

    An unnamed file: whatever happens to the process, none is left behind.
    """

    def __init__(self, folder: Path | None = None, size: int = 0) -> None:
        self.full: OSError | None = None
        """What said that the disk is full."""
        self.size = 0
        self._file: BinaryIO | None = None
        if folder is not None:
            with contextlib.suppress(OSError):  # then without
                size = min(size, shutil.disk_usage(folder).free // 8)
                self._file = tempfile.TemporaryFile(dir=folder, prefix=_TEMPORARY, buffering=0)  # noqa: SIM115
                self.size = self._file.write(os.urandom(size))  # what a file system can compress reserves nothing

    def spend(self, error: OSError) -> bool:
        """Note that the disk is full; True if this made room."""
        self.full = self.full or error
        return self.release()

    def release(self) -> bool:
        """Give the room back; True if there was any."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
        return file is not None


class _Output:
    """A file being written, which can be cut back to a place where it is sound once the disk is full.

    `write` spends the reserve before it fails; after it has failed it takes what comes and does nothing, because
    FFmpeg cannot be told to stop.
    """

    def __init__(self, file: BinaryIO, reserve: _Reserve) -> None:
        self._file, self._reserve = file, reserve  # the file is unbuffered
        self.failed = False
        self.marks: list[int] = []

    def write(self, data: bytes) -> int:
        if not self.failed:
            place = self._file.tell()
            try:
                self._write(data)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                if self._reserve.spend(error):
                    with contextlib.suppress(OSError):
                        self._file.seek(place)
                        self._write(data)
                        return len(data)
                self.failed = True
                raise
        return len(data)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()

    def mark(self) -> None:
        """The file could end here."""
        self.marks.append(self._file.tell())

    def cut(self, tail: bytes = b"") -> int:
        """After a failure: end the file at the last mark that leaves room for `tail`; how many marks that keeps."""
        while self.marks:
            self._file.truncate(self.marks[-1])
            self._file.seek(self.marks[-1])
            try:
                self._write(tail)
                return len(self.marks)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
            self.marks.pop()
        return 0

    def close(self) -> None:
        self._file.close()


class _Sink(Protocol):
    """One format's writer: made with (temporary path, (height, width), frame rate, recipe as JSON or None, reserve)."""

    def add(self, frame: np.ndarray) -> None:
        """Raises OSError when the disk is full and the reserve spent; only `finish` or `drop` may follow."""

    def finish(self) -> int:
        """Leave a whole file at the temporary path; how many frames it has, which is fewer if the disk is full."""

    def drop(self) -> None:
        """Let go of open files; the temporary path is removed by the caller."""


class _ContainerSink:
    """mp4 and webm, encoded by FFmpeg as yuv420p with BT.709 colours, and tagged so.

    An mp4 is written in fragments, which play without what comes after them, and at the end copied, packet by packet,
    into the usual kind with its index in front. Where there is no room for two, the fragments are the file.
    """

    def __init__(
        self,
        ending: str,
        path: Path,
        size: tuple[int, int],
        rate: Fraction,
        recipe: str | None,
        reserve: _Reserve,
    ) -> None:
        import av

        name, options = next(
            ((name, options) for name, options in _ENCODERS[ending] if name in av.codecs_available), (None, {})
        )
        if name is None:
            raise UserError(f"this PyAV cannot write {ending}: install the av package from PyPI, or use .gif or .webp")
        if name == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # it prints its settings to stderr otherwise
        muxer, muxer_options = _CONTAINERS[ending]
        self._path, self._recipe, self._reserve, self._copies = path, recipe, reserve, ending == ".mp4"
        self._output = _Output(open(path, "wb", buffering=0), reserve)  # noqa: SIM115 - closed in finish() or drop()
        options_all = {**muxer_options, "fflags": "+bitexact"}
        self._container = av.open(self._output, "w", format=muxer, options=options_all)
        if recipe is not None:
            self._container.metadata["comment"] = recipe
        self._stream = self._container.add_stream(name, rate=rate, options=options)
        self._stream.height, self._stream.width = size
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.thread_count = _THREADS
        context.gop_size = max(1, round(rate))  # so that a fragment is a second at most
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = 1  # 16..235
        self._rate = rate
        self._count = 0

    def add(self, frame: np.ndarray) -> None:
        import av

        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace=_BT709, dst_color_range=1, interpolation=_SCALER)
        picture.color_primaries = picture.color_trc = _BT709
        picture.pts, picture.time_base = self._count, 1 / self._rate
        self._count += 1
        self._mux(self._stream.encode(picture))

    def _mux(self, packets: list[av.Packet]) -> None:
        self._container.mux(packets)
        self._output.mark()  # FFmpeg writes a fragment or a cluster at once, when it is whole

    def finish(self) -> int:
        if not self._output.failed:
            try:
                self._mux(self._stream.encode(None))
                self._container.close()
            except Exception:
                if not self._output.failed:
                    raise
        if self._output.failed:
            self._output.cut()
            self.drop()
            try:
                return probe(self._path).num_frames
            except UserError:  # not even one piece was whole
                return 0
        self._output.close()
        if self._copies:
            self._reserve.release()
            self._copy_with_index_in_front()
        return self._count

    def _copy_with_index_in_front(self) -> None:
        import av

        copy = self._path.with_name(self._path.name + "-copy")
        options = {"movflags": "+faststart", "fflags": "+bitexact"}
        try:
            if shutil.disk_usage(copy.parent).free < 1.1 * self._path.stat().st_size + 2**16:
                return
            with (
                av.open(os.fspath(self._path)) as source,
                av.open(os.fspath(copy), "w", format="mp4", options=options) as target,
            ):
                if self._recipe is not None:
                    target.metadata["comment"] = self._recipe
                stream = target.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.size:
                        packet.stream = stream
                        target.mux(packet)
            os.replace(copy, self._path)
        except OSError as error:
            if error.errno not in _FULL:
                raise
        finally:
            copy.unlink(missing_ok=True)

    def drop(self) -> None:
        self._output.failed = True  # FFmpeg writes an ending that nobody wants
        with contextlib.suppress(Exception):
            self._container.close()
        self._output.close()


class _GifSink:
    """Animated GIF with one palette for the whole clip (FFmpeg's palettegen and paletteuse).

    The palette is known only after the last frame, so frames wait, losslessly compressed, in unnamed files on disk.
    There are several, so that the gif can grow on a full disk: each goes when its frames are in the gif.
    One palette and an ordered dither keep what stands still exactly still; error diffusion crawls.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], rate: Fraction, recipe: str | None, reserve: _Reserve
    ) -> None:
        import av.filter

        self._path, self._size, self._rate, self._recipe, self._reserve = path, size, rate, recipe, reserve
        self._count = 0
        self._waiting: list[BinaryIO] = []
        self._output: _Output | None = None  # the last of the waiting files
        self._counter = av.filter.Graph()
        self._colours = self._buffer(self._counter, *size)
        palettegen = self._counter.add("palettegen", "stats_mode=full")
        self._palette = self._counter.add("buffersink")
        self._colours.link_to(palettegen)
        palettegen.link_to(self._palette)
        self._counter.configure()

    @staticmethod
    def _buffer(graph: av.filter.Graph, height: int, width: int, format: str = "bgr0") -> Any:
        return graph.add_buffer(width=width, height=height, format=format, time_base=Fraction(1, 100))

    def _time(self, index: int) -> int:
        """When frame `index` starts, in 1/100 s."""
        return round(index * 100 / self._rate)

    def add(self, frame: np.ndarray) -> None:
        import av

        # The gif needs about as much room as its frames do here, so it can begin in the reserve. Ever larger files:
        # the system limits how many may be open.
        limit = (self._reserve.size or 2**22) << (len(self._waiting) // 64)
        if self._output is None or self._output.tell() > limit:
            self._close_store()
            self._open_store()
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="bgr0")
        picture.pts, picture.time_base = self._time(self._count), Fraction(1, 100)
        self._store.mux(self._stream.encode(picture))
        self._output.mark()
        self._count += 1
        self._colours.push(picture)
        with contextlib.suppress(av.error.BlockingIOError):
            self._palette.pull()  # nothing comes before the end, but only a pull makes the graph take its frames in

    def _open_store(self) -> None:
        import av

        file = tempfile.TemporaryFile(dir=self._path.parent, prefix=_TEMPORARY, buffering=0)  # noqa: SIM115
        self._waiting.append(file)
        self._output = _Output(file, self._reserve)
        self._store = av.open(self._output, "w", format="nut", options={"flush_packets": "1"})
        self._stream = self._store.add_stream("ffv1", rate=100)
        self._stream.height, self._stream.width = self._size
        self._stream.pix_fmt = "bgr0"

    def _close_store(self) -> None:
        if self._output is None:
            return
        try:
            self._store.mux(self._stream.encode(None))
            self._store.close()
        except Exception:
            if not self._output.failed:
                raise
        if self._output.failed:
            with contextlib.suppress(Exception):
                self._store.close()
            self._output.cut()

    def _stored(self) -> Iterator[av.VideoFrame]:
        """The frames that wait; a file is closed, and its room free, after its last frame."""
        import av

        index = 0
        while self._waiting:
            with self._waiting.pop(0) as file:
                file.seek(0)
                with contextlib.suppress(av.error.InvalidDataError), av.open(file, format="nut") as stored:
                    for picture in stored.decode(video=0):
                        picture.pts, picture.time_base = self._time(index), Fraction(1, 100)
                        yield picture
                        index += 1

    def finish(self) -> int:
        import av
        import av.filter

        self._close_store()
        self._colours.push(None)
        palette = self._palette.pull()
        palette.pts = 0

        graph = av.filter.Graph()
        pictures = self._buffer(graph, *self._size)
        colours = self._buffer(graph, palette.height, palette.width, palette.format.name)
        paletteuse = graph.add("paletteuse", "dither=bayer:bayer_scale=5")
        out = graph.add("buffersink")
        pictures.link_to(paletteuse, 0, 0)
        colours.link_to(paletteuse, 0, 1)
        paletteuse.link_to(out)
        graph.configure()

        last = self._time(self._count) - self._time(self._count - 1)
        options = {"loop": "0", "final_delay": str(last), "fflags": "+bitexact", "flush_packets": "1"}
        with open(self._path, "wb", buffering=0) as file:
            output = _Output(file, self._reserve)
            gif = av.open(_GifComment(output, self._recipe), "w", format="gif", options=options)
            stream = gif.add_stream("gif", rate=100)
            stream.height, stream.width = self._size
            stream.pix_fmt = "pal8"

            def drain() -> None:
                with contextlib.suppress(av.error.BlockingIOError, av.error.EOFError):
                    while True:
                        indexed = out.pull()
                        indexed.time_base = Fraction(1, 100)
                        gif.mux(stream.encode(indexed))
                        output.mark()

            try:
                colours.push(palette)
                colours.push(None)
                for picture in self._stored():
                    pictures.push(picture)
                    drain()
                pictures.push(None)
                drain()
                gif.mux(stream.encode(None))
                gif.close()
                return self._count
            except Exception:
                if not output.failed:
                    raise
            with contextlib.suppress(Exception):
                gif.close()
            return max(output.cut(b";") - 1, 0)  # FFmpeg writes a frame when it is given the next one

    def drop(self) -> None:
        if self._output is not None:
            self._output.failed = True
            with contextlib.suppress(Exception):
                self._store.close()
        for file in self._waiting:
            file.close()


class _GifComment:
    """Passes a GIF on and puts a comment extension before its first picture, which FFmpeg's GIF writer cannot."""

    def __init__(self, target: _Output, comment: str | None) -> None:
        self._target, self._comment = target, comment
        self._head = b""  # what came while it is not known where to put the comment

    def write(self, data: bytes) -> int:
        if self._comment is None:
            return self._target.write(data)
        self._head += data
        if len(self._head) >= 13:  # signature, screen size, flags, background, aspect
            place = 13 + (3 << ((self._head[10] & 7) + 1) if self._head[10] & 0x80 else 0)  # global palette
            if len(self._head) >= place + 19:
                # some readers want the loop extension to be the first
                place += 19 if self._head.startswith(b"\x21\xff\x0bNETSCAPE2.0", place) else 0
                text = self._comment.encode("ascii")
                blocks = (text[i : i + 255] for i in range(0, len(text), 255))
                extension = b"\x21\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"
                self._comment = None
                self._target.write(self._head[:place] + extension + self._head[place:])
        return len(data)


class _WebpSink:
    """Animated WebP: every frame encoded by Pillow, put into the container here (developers.google.com/speed/webp).

    libwebp's own animation encoder keeps the whole file in memory, and drops frames that equal the one before: a clip
    that stands still would lose its length. Here only the rectangle that changed is coded, so a still background stays
    exactly still, and every frame counts.
    """

    _QUALITY = 90

    def __init__(
        self, path: Path, size: tuple[int, int], rate: Fraction, recipe: str | None, reserve: _Reserve
    ) -> None:
        self._rate, self._recipe = rate, recipe
        self._count = 0
        self._before: np.ndarray | None = None
        height, width = size
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - closed in finish() or drop()
        self._output = _Output(self._file, reserve)
        flags = 0x02 | (0x08 if recipe is not None else 0)  # animation, EXIF
        head = _chunk(b"VP8X", bytes([flags, 0, 0, 0]) + _int24(width - 1) + _int24(height - 1))
        head += _chunk(b"ANIM", b"\xff\xff\xff\xff" + b"\0\0")  # white behind; loop for ever
        self._output.write(b"RIFF\0\0\0\0WEBP" + head)

    def _time(self, index: int) -> int:
        """When frame `index` starts, in 1/1000 s."""
        return round(index * 1000 / self._rate)

    def add(self, frame: np.ndarray) -> None:
        from PIL import Image

        top, left, bottom, right = _changed(self._before, frame)
        top, left = top & ~1, left & ~1  # the container counts offsets in twos
        picture = io.BytesIO()
        Image.fromarray(frame[top:bottom, left:right]).save(picture, "WEBP", quality=self._QUALITY, method=2)
        duration = self._time(self._count + 1) - self._time(self._count)
        place = _int24(left // 2) + _int24(top // 2) + _int24(right - left - 1) + _int24(bottom - top - 1)
        # 0x02: replace what is there. A single picture is RIFF, size, WEBP (12 bytes), then the chunk that is wanted.
        self._output.write(_chunk(b"ANMF", place + _int24(duration) + b"\x02" + picture.getvalue()[12:]))
        self._output.mark()
        self._before = frame.copy()
        self._count += 1

    def finish(self) -> int:
        end = b"" if self._recipe is None else _chunk(b"EXIF", _exif(self._recipe))
        try:
            self._output.write(end)
        except Exception:
            if not self._output.failed:
                raise
        count = self._output.cut(end) if self._output.failed else self._count
        size = self._file.tell()
        self._file.seek(4)
        self._file.write(struct.pack("<I", size - 8))
        self._file.close()
        return count

    def drop(self) -> None:
        self._file.close()


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _int24(value: int) -> bytes:
    return value.to_bytes(3, "little")


def _changed(before: np.ndarray | None, frame: np.ndarray) -> tuple[int, int, int, int]:
    """The rectangle (top, left, bottom, right) outside which the frames agree; one pixel if they agree everywhere."""
    if before is None:
        return 0, 0, frame.shape[0], frame.shape[1]
    differs = (before != frame).any(axis=2)
    if not differs.any():
        return 0, 0, 1, 1
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _exif(comment: str) -> bytes:
    from PIL import Image

    exif = Image.Exif()
    exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = b"ASCII\0\0\0" + comment.encode("ascii")
    return exif.tobytes().removeprefix(b"Exif\0\0")


class _PngSink:
    """One picture."""

    def __init__(
        self, path: Path, size: tuple[int, int], rate: Fraction, recipe: str | None, reserve: _Reserve
    ) -> None:
        self._path, self._rate, self._recipe = path, rate, recipe

    def add(self, frame: np.ndarray) -> None:
        _save_png(self._path, frame, {"Comment": self._recipe})

    def finish(self) -> int:
        return 1

    def drop(self) -> None:
        pass


class _FolderSink:
    """A folder of pictures; the first one carries the recipe and the frame rate."""

    def __init__(
        self, path: Path, size: tuple[int, int], rate: Fraction, recipe: str | None, reserve: _Reserve
    ) -> None:
        self._path, self._rate, self._recipe = path, rate, recipe
        self._count = 0
        path.mkdir()

    def add(self, frame: np.ndarray) -> None:
        notes = {"Comment": self._recipe, "fps": str(self._rate)} if self._count == 0 else {}
        path = self._path / f"frame_{self._count:05d}.png"
        try:
            _save_png(path, frame, notes)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self._count += 1

    def finish(self) -> int:
        return self._count

    def drop(self) -> None:
        pass


def _save_png(path: Path, frame: np.ndarray, notes: dict[str, str | None]) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, value in notes.items():
        if value is not None:
            info.add_text(key, value)
    Image.fromarray(frame).save(path, "PNG", pnginfo=info)


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def read_video(path: str | os.PathLike[str], *, background: str = "#ffffff", max_frames: int | None = None) -> Video:
    """Read a whole clip: mp4, webm, mov, mkv and what else FFmpeg knows; gif, webp, png, apng, jpg; a folder of png.

    The kind is found from the content, not the name. Transparent pixels are composed on `background` (a colour as
    Pillow understands it). A picture that the camera marked as turned is turned upright.

    Args:
        max_frames: stop after so many.

    Raises:
        UserError: no such file, not a video, no picture in it, cut off or damaged.
    """
    frames, times = [], []
    with open_clip(path) as clip:
        for frame, time in clip.frames(parse_background(background)):
            frames.append(frame)
            times.append(time)
            if max_frames is not None and len(frames) >= max_frames:
                break
        if not frames:
            raise UserError(f"{os.fspath(path)} holds no frames")
        if any(frame.shape != frames[0].shape for frame in frames):
            raise UserError(f"{os.fspath(path)} holds frames of several sizes, make them equal first")
        seconds = np.array(times, dtype=np.float64)
        return Video(np.stack(frames), seconds - seconds[0], clip.fps(len(frames), float(seconds[-1] - seconds[0])))


def read_recipe(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The recipe that `write_video` put into the file, or None if it carries none. Raises as `read_video` does."""
    with open_clip(path) as clip:
        return clip.recipe()


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Size, length, codec and recipe of a clip, without decoding a video's frames. Raises as `read_video` does."""
    with open_clip(path) as clip:
        return clip.info()


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
        problem = (
            f"cannot be read: {_reason(error)}" if error.errno else "is cut off or damaged: get a whole copy of it"
        )
        raise UserError(f"{text} {problem}") from error


def _natural(path: Path) -> list[Any]:
    """Sort key: frame_2 before frame_10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def parse_background(name: str) -> tuple[int, int, int]:
    """A colour as Pillow understands it ("#ffffff", "white") -> red, green, blue, 0..255; UserError if it is none."""
    from PIL import ImageColor

    try:
        return ImageColor.getrgb(name)[:3]
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"the background {name!r} is not a colour: write it like #ffffff or white") from error


class TooManyPixels(Exception):
    """A picture of more than MAX_PIXELS; the message says so."""

    def __init__(self) -> None:
        super().__init__(f"more than {MAX_PIXELS // 1_000_000} megapixels")


def open_image(file: str | BinaryIO) -> Image.Image:
    """Pillow's Image.open, which decodes nothing yet; TooManyPixels from what the header says."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is stricter
        try:
            image = Image.open(file)
        except Image.DecompressionBombError as error:
            raise TooManyPixels from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise TooManyPixels
    return image


def to_rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Any Pillow mode as 8-bit RGB: alpha composed on the background, deeper grey scaled down."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        grey = np.nan_to_num(np.asarray(image).astype(np.float32 if image.mode == "F" else np.float64))
        # The depth of a file that arrives as I or F is not known: the smallest usual one that holds its values.
        usual = [65535.0] if image.mode.startswith("I;16") else [255.0, 65535.0, 2.0**31 - 1]
        usual = [1.0, *usual] if image.mode == "F" else usual
        peak = next((value for value in usual if grey.max() <= value), usual[-1])
        levels = Image.fromarray((grey * (255.0 / peak)).round().clip(0, 255).astype(np.uint8)).convert("RGB")
        clear = image.info.get("transparency")  # the one level that is transparent
        if isinstance(clear, int):
            levels.paste(background, mask=Image.fromarray(np.uint8(255) * (grey == clear)))
        return levels
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, background)
        canvas.paste(image, mask=image.getchannel("A"))
        return canvas
    return image.convert("RGB")


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
                picture = frame.reformat(format="rgba" if alpha else "rgb24", interpolation=_SCALER).to_ndarray()
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
        comment = self._image.getexif().get_ifd(_EXIF_IFD).get(_USER_COMMENT, b"")
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
