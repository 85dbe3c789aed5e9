"""Animated GIF, by FFmpeg's palettegen and paletteuse."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import av.filter
import numpy as np

from .disk import TEMPORARY, Output, Reserve


class GifSink:
    """Animated GIF with one palette for the whole clip (FFmpeg's palettegen and paletteuse).

    The palette is known only after the last frame, so frames wait, losslessly compressed, in unnamed files on disk.
    There are several, so that the gif can grow on a full disk: each goes when its frames are in the gif.
    One palette and an ordered dither keep what stands still exactly still; error diffusion crawls.
    """

    def __init__(self, path: Path, size: tuple[int, int], rate: Fraction, recipe: str | None, reserve: Reserve) -> None:
        self._path, self._size, self._rate, self._recipe, self._reserve = path, size, rate, recipe, reserve
        self._count = 0
        self._waiting: list[BinaryIO] = []
        self._output: Output | None = None  # the last of the waiting files
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
        file = tempfile.TemporaryFile(dir=self._path.parent, prefix=TEMPORARY, buffering=0)  # noqa: SIM115
        self._waiting.append(file)
        self._output = Output(file, self._reserve)
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
            output = Output(file, self._reserve)
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

    def __init__(self, target: Output, comment: str | None) -> None:
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
