"""Write moving pictures: mp4, webm, gif, webp, png.

At this border a clip is uint8 RGB of shape (frames, height, width, 3). Three promises hold for every format:

- a file appears under its name only when it is whole: it is made under a temporary name in the same folder;
- the same frames give the same bytes: no dates, fixed encoder threads, bit-exact containers;
- the file carries its recipe (JSON) where the format keeps comments, and `reader.read_recipe` brings it back.

What was made is not lost: a `VideoWriter` that is stopped, or whose disk gets full, leaves the frames so far as a file
that plays, under its name.

Neither PyAV nor Pillow is imported before it is needed: a command line that only prints its help stays quick.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np

from ..errors import UserError
from ..signals import handled
from .disk import FULL, Reserve, Target, reason, temporary_in
from .formats import FRAME_NAME, ONE_PICTURE, check_size, check_writable, ending_of, frame_rate
from .memory import array_of, frames_of
from .worker import Worker

__all__ = ["Terminated", "VideoWriter", "terminate_as_interrupt", "write_video"]


def write_video(
    path: str | os.PathLike[str],
    frames: Iterable[Any],
    fps: float,
    recipe: dict[str, Any] | None = None,
    quality: int | None = None,
) -> Path:
    """Write frames to a file whose ending names the format (see `FORMATS`).

    `frames` is consumed one by one, so memory does not grow with their number. If it raises, nothing is left behind
    and what stood under `path` before is still there.

    Args:
        path: where to; missing folders are created.
        frames: uint8 (height, width, 3) each, RGB, all of one size: an array, a list, a generator. Or any other kind of
            picture in memory (`media.memory`), such as the frames that a pipeline gives, also as a batch of one video.
        fps: frames a second. A gif keeps time in 1/100 s and a webp in 1/1000 s, right on average.
        recipe: what made the clip; any dict that JSON can hold.
        quality: of mp4, webm and webp, 1 (smallest file) to 100 (best); None: hardly to be told from the frames.

    Returns:
        The absolute path that was written.

    Raises:
        UserError: see `check_writable`; also when the disk is full, there are no frames, or those of several videos, or
            a frame is no picture (`memory.array_of`) or not of the first one's size.
    """
    frames = frames_of(frames)
    with VideoWriter(path, fps, recipe, keep_partial=False, quality=quality) as writer:
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

    def stop(number: int, frame: object) -> NoReturn:
        raise Terminated

    with handled(stop, signal.SIGTERM):
        yield


class VideoWriter:
    """Write a clip frame by frame; as a context manager: whole at the end, nothing left after an exception.

    With `keep_partial` two things leave the frames so far under the name, as a file that plays: being stopped
    (KeyboardInterrupt, SystemExit; see `terminate_as_interrupt` for SIGTERM), and a full disk, which is then the
    UserError of `write` or of the end and says how many frames there are. Room to finish in is reserved from the start.
    Where even that does not do (a quota, a limit on one file's size), the last two or three seconds are missing.

    The encoder runs on a thread of its own because Python raises KeyboardInterrupt in the main thread only: no packet
    is ever lost halfway.

    Args:
        path, fps, recipe, quality: see `write_video`. The path is checked here, before any frame is made.
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
        quality: int | None = None,
    ) -> None:
        self.path = check_writable(path, quality=quality)
        self._quality = quality
        self.num_frames = 0
        self.keep_partial = keep_partial
        self._shown = os.fspath(path)
        self._ending = ending_of(self._shown)
        self._rate = frame_rate(fps, self._ending)
        self.fps = float(fps)
        # ASCII, so that no format's idea of text encoding matters.
        try:
            self._recipe = None if recipe is None else json.dumps(recipe)
        except (TypeError, ValueError, RecursionError) as error:
            fault = "it is nested too deep" if isinstance(error, RecursionError) else error
            raise UserError(
                f"the recipe for {self._shown} cannot be written as JSON ({fault}): leave that out"
            ) from None
        self._size: tuple[int, int] | None = None
        self._sink: _Sink | None = None
        self._temporary: Path | None = None
        self._reserve = Reserve()
        self._worker = Worker()
        self._open = True  # becomes False on the worker only, so that an interrupted call cannot hide how it ended

    def write(self, frame: Any) -> None:
        """Append one frame, uint8 (height, width, 3) or as `memory.array_of` takes it.

        Raises as `write_video` does, and then the file is closed.
        """
        if not self._open:
            raise ValueError(f"{self._shown} is closed already")
        frame = array_of(frame)
        size = frame.shape[:2]
        if self._size is None:
            check_size(size, self._ending)
        before = self._size = self._size or size
        if size != before:
            first, other = (f"{width}x{height}" for height, width in (before, size))
            raise UserError(f"all frames must have the first one's size, {first} pixels, not {other}: give one size")
        if self._ending == ".png" and self.num_frames == 1:
            raise UserError(ONE_PICTURE.format(path=self._shown, n="several"))
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
            self._worker.run(job, *args)
        except OSError as error:  # FFmpeg's errors of this kind are OSErrors too
            raise UserError(f"cannot write {self._shown}: {reason(error)}") from error

    def _stop(self, job: Callable[[], None]) -> None:
        """Do this last `job`, unless the file is closed already."""

        def last() -> None:
            if self._open:
                self._open = False
                job()

        if self._open:
            self._run(last)

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
            if isinstance(error, OSError) and error.errno in FULL:
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
        self._temporary = temporary_in(place)
        if self.keep_partial and self._ending not in (".png", ""):  # pictures wait for nothing
            # An encoder holds back two or three seconds: 60 frames of two bits a pixel, more than most need
            self._reserve = Reserve(place, max(16 * size[0] * size[1], 2**18))
        target = Target(self._temporary, size, self._rate, self._recipe, self._reserve, self._quality)
        return _sink_of(self._ending, target)

    def _finish_if_any(self) -> None:
        if self.num_frames:
            self._finish()
        else:
            self._discard()

    def _finish(self) -> None:
        if self._sink is None or self._temporary is None:
            raise UserError(f"there are no frames to write to {self._shown}: give at least one")
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
                    if FRAME_NAME.fullmatch(entry.name):
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
                f"cannot write more to {self._shown}: {reason(full)}; its first {self.num_frames} frames "
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


def _sink_of(ending: str, target: Target) -> _Sink:
    """The format's writer; the libraries that it needs are imported here, at the first frame."""
    if ending == ".gif":
        from .gif import GifSink

        return GifSink(target)
    if ending == ".webp":
        from .webp import WebpSink

        return WebpSink(target)
    if ending in (".png", ""):
        from .stills import FolderSink, PngSink

        return FolderSink(target) if ending == "" else PngSink(target)
    from .containers import ContainerSink

    return ContainerSink(target, ending)


class _Sink(Protocol):
    """One format's writer."""

    def add(self, frame: np.ndarray) -> None:
        """Raises OSError when the disk is full and the reserve spent; only `finish` or `drop` may follow."""
        ...

    def finish(self) -> int:
        """Leave a whole file at the temporary path; how many frames it has, which is fewer if the disk is full."""
        ...

    def drop(self) -> None:
        """Let go of open files; the temporary path is removed by the caller."""
        ...
