"""Frames that were recorded as two fields, one after the other (interlaced: television, DV), made whole ones."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
import av.filter
from av.error import BlockingIOError, EOFError, FFmpegError

# A frame out for a frame in; those that are not marked pass as they are. FFmpeg's best filter without a network.
_FILTER, _HOW = "bwdif", "mode=send_frame:parity=auto:deint=interlaced"


def whole_frames(frames: Iterator[av.VideoFrame], unit: Fraction) -> Iterator[av.VideoFrame]:
    """The frames, those marked as interlaced without combs, as FFmpeg's bwdif gives them; times stay in `unit`.

    A frame comes out when its next one went in, which the filter looks at too.
    """
    graph, shape = None, None
    for frame in frames:
        now = (frame.width, frame.height, frame.format.name)
        if graph is not None and now != shape:
            yield from _pushed(graph, None, unit)
            graph = None
        if graph is None and frame.interlaced_frame:
            graph, shape = _graph(frame, unit), now
        if graph is None:
            yield frame
        else:
            frame.time_base = unit
            yield from _pushed(graph, frame, unit)
    if graph is not None:
        yield from _pushed(graph, None, unit)


def _graph(frame: av.VideoFrame, unit: Fraction) -> av.filter.Graph | None:
    """None for frames that are too small for the filter."""
    graph = av.filter.Graph()
    graph.threads = 1  # as many as decode: see `data.decode`
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=unit)
    graph.link_nodes(source, graph.add(_FILTER, _HOW), graph.add("buffersink"))
    try:
        graph.configure()
    except FFmpegError:
        return None
    return graph


def _pushed(graph: av.filter.Graph, frame: av.VideoFrame | None, unit: Fraction) -> Iterator[av.VideoFrame]:
    graph.vpush(frame)
    while True:
        try:
            made = graph.vpull()
        except (BlockingIOError, EOFError):
            return
        if made.pts is not None and made.time_base:
            made.pts = round(made.pts * made.time_base / unit)
            made.time_base = unit
        yield made
