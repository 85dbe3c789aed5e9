"""Animated GIF, by FFmpeg's palettegen and paletteuse."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from typing import BinaryIO

import av
import av.error
import numpy as np
from av.error import BlockingIOError as NothingYet
from av.error import EOFError as NothingMore
from av.error import InvalidDataError
from av.filter import Graph
from av.filter.context import FilterContext

from .disk import TEMPORARY, Output, Target
from .pictures import SCALER_THREADS


class GifSink:
    """Animated GIF with one palette for the whole clip (FFmpeg's palettegen and paletteuse).

    The palette is known only after the last frame. In one graph FFmpeg would keep all frames in memory; here they wait,
    losslessly compressed, in unnamed files on disk. There are several, so that the gif can grow on a full disk: each
    goes when its frames are in the gif.
    One palette and an ordered dither keep what stands still exactly still; error diffusion crawls.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._count = 0
        self._waiting: list[BinaryIO] = []
        self._output: Output | None = None  # the last of the waiting files
        self._counter = counter = Graph()  # its parts do not keep it alive
        self._colours, self._palette = _buffer(counter, *target.size), counter.add("buffersink")
        counter.link_nodes(self._colours, counter.add("palettegen", "stats_mode=full"), self._palette).configure()

    def _time(self, index: int) -> int:
        """When frame `index` starts, in 1/100 s."""
        return round(index * 100 / self._target.rate)

    def add(self, frame: np.ndarray) -> None:
        # The gif needs about as much room as its frames do here, so it can begin in the reserve. Ever larger files:
        # the system limits how many may be open.
        limit = (self._target.reserve.size or 2**22) << (len(self._waiting) // 64)
        output = self._output
        if output is None or output.tell() > limit:
            self._close_store()
            output = self._open_store()
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="bgr0", threads=SCALER_THREADS)
        picture.pts, picture.time_base = self._time(self._count), Fraction(1, 100)
        self._store.mux(self._stream.encode(picture))
        output.mark()
        self._count += 1
        self._colours.push(picture)
        with contextlib.suppress(NothingYet):
            self._palette.pull()  # nothing comes before the end, but only a pull makes the graph take its frames in

    def _open_store(self) -> Output:
        file = tempfile.TemporaryFile(dir=self._target.path.parent, prefix=TEMPORARY, buffering=0)  # noqa: SIM115
        self._waiting.append(file)
        self._output = Output(file, self._target.reserve)
        self._store = av.open(self._output, "w", format="nut", options={"flush_packets": "1"})
        self._stream = self._store.add_stream("ffv1", rate=100)
        self._stream.height, self._stream.width = self._target.size
        self._stream.pix_fmt = "bgr0"
        return self._output

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
                with contextlib.suppress(InvalidDataError), av.open(file, "r", format="nut") as stored:
                    for picture in stored.decode(video=0):
                        picture.pts, picture.time_base = self._time(index), Fraction(1, 100)
                        yield picture
                        index += 1

    def finish(self) -> int:
        self._close_store()
        self._colours.push(None)
        palette = self._palette.pull()
        assert isinstance(palette, av.VideoFrame)
        palette.pts = 0

        graph = Graph()
        pictures, colours = _buffer(graph, *self._target.size), _buffer(graph, palette.height, palette.width, palette)
        paletteuse, out = graph.add("paletteuse", "dither=bayer:bayer_scale=5"), graph.add("buffersink")
        colours.link_to(paletteuse, 0, 1)
        graph.link_nodes(pictures, paletteuse, out).configure()

        last = self._time(self._count) - self._time(self._count - 1)
        options = {"loop": "0", "final_delay": str(last), "fflags": "+bitexact", "flush_packets": "1"}
        with open(self._target.path, "wb", buffering=0) as file:
            output = Output(file, self._target.reserve)
            gif = av.open(_GifComment(output, self._target.recipe), "w", format="gif", options=options)
            stream = gif.add_stream("gif", rate=100)
            stream.height, stream.width = self._target.size
            stream.pix_fmt = "pal8"

            def drain() -> None:
                with contextlib.suppress(NothingYet, NothingMore):
                    while True:
                        indexed = out.pull()
                        assert isinstance(indexed, av.VideoFrame)
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


def _buffer(graph: Graph, height: int, width: int, like: av.VideoFrame | None = None) -> FilterContext:
    kind = av.VideoFormat("bgr0") if like is None else like.format
    return graph.add_buffer(width=width, height=height, format=kind, time_base=Fraction(1, 100))


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
