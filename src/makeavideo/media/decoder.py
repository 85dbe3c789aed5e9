"""Clips in containers (mp4, webm, mov, mkv, avi ...) by PyAV: packets first, then only the frames that are needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, BinaryIO

import av
import av.container
import av.stream
import numpy as np
from av.error import FFmpegError
from PIL import Image

from .clip import Clock, Colour, VideoInfo, parse_recipe
from .fields import whole_frames
from .patience import interrupt
from .pictures import MAX_PIXELS, TooManyPixels, Unreadable, to_rgb
from .shown import as_shown, shown_width
from .upright import Turn, turn_of

# Only these demuxers: a playlist that calls itself .mp4 must not make FFmpeg open other files or the network. Those of
# sound are there so that sound can be called by its name.
_DEMUXERS = "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,ogg,flv,asf,nut,ivf,yuv4mpegpipe,mp3,wav,flac,aac"
_INDEXED = ("mov", "matroska", "avi")  # in these a seek lands where it should, and a track says how long it is
_PROGRESSIVE = (0, 1)  # or not known
_WORTH_A_LEAP = 16  # frames that need not be decoded


class Container:
    """One file of FFmpeg's; its first video stream that is not the cover picture of a song. Needs `close`."""

    by_index = True

    def __init__(self, file: BinaryIO, threads: int = 0) -> None:
        self._file, self._threads = file, threads
        self._container = self._open()
        self._stream = self._pick()
        self._unit = self._stream.time_base or Fraction(1)
        self._indexed = self._container.format.name.startswith(_INDEXED)
        self._clock: Clock | None = None
        self._turns: dict[int, Turn] = {}

    def close(self) -> None:
        self._container.close()

    def _open(self) -> av.container.InputContainer:
        self._file.seek(0)
        self._fresh = True
        try:
            options = {"format_whitelist": _DEMUXERS}
            return av.open(self._file, "r", metadata_errors="replace", options=options)
        except FFmpegError as error:
            raise Unreadable("not a video") from error

    def _pick(self) -> av.VideoStream:
        cover = av.stream.Disposition.attached_pic
        streams = [stream for stream in self._container.streams.video if not stream.disposition & cover]
        if not streams:
            raise Unreadable("no video track" if self._container.streams.audio else "not a video")
        context = streams[0].codec_context
        if context is None:
            raise Unreadable("unknown codec")
        if context.width * context.height > MAX_PIXELS:
            raise TooManyPixels
        return streams[0]

    def _rewind(self) -> None:
        """Open the file anew: decoders keep nothing of what was before, and not every kind can seek to its start."""
        if not self._fresh:
            self._container.close()
            self._container = self._open()
            self._stream = self._pick()

    def _packets(self) -> Iterator[av.Packet]:
        self._fresh = False
        for packet in self._container.demux(self._stream):
            interrupt.get()()
            if packet.is_corrupt and not packet.is_discard:
                raise Unreadable("truncated")
            yield packet

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Frames in the order they are shown, from where the file stands; interlaced ones are whole."""
        return whole_frames(self._stored(), self._unit)

    def _stored(self) -> Iterator[av.VideoFrame]:
        context = self._stream.codec_context
        with contextlib.suppress(RuntimeError):  # after a leap it is open already
            context.thread_type, context.thread_count = "AUTO", self._threads
        library = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(context.name)
        if library and self._stream.metadata.get("alpha_mode", "") == "1":
            with contextlib.suppress(FFmpegError, ValueError):  # FFmpeg's own decoder ignores transparency
                created = av.CodecContext.create(library, "r")
                assert isinstance(created, av.VideoCodecContext)
                created.thread_count = self._threads
                context = created
        begun = False  # before that frames may lack those that they are made from, where a file was cut
        for packet in self._packets():
            for frame in context.decode(packet if packet.size else None):
                if begun and frame.is_corrupt:  # the decoder has covered it with what is beside
                    raise Unreadable("it is damaged")
                begun = begun or not frame.is_corrupt
                yield frame

    def frames(self, background: Colour) -> Iterator[tuple[np.ndarray, float]]:
        self._rewind()
        rate, first = self._stream.average_rate, None
        for count, frame in enumerate(self._decoded()):
            time = frame.pts * self._unit if frame.pts is not None else count / (rate or 24)
            first = time if first is None else first
            yield self._picture(frame, background), float(time - first)

    def clock(self) -> Clock:
        if self._clock is None:
            self._clock = self._look_through()
        return self._clock

    def _look_through(self) -> Clock:
        self._rewind()
        shown: dict[int, tuple[int, bool]] = {}
        exact = True
        for packet in self._packets():
            if packet.size and not packet.is_discard:  # an edit may hide some
                exact = exact and packet.pts is not None
                place = packet.pts if packet.pts is not None else packet.dts
                if place is None:
                    place = round(len(shown) / (self._stream.average_rate or 24) / self._unit)
                shown[place] = (packet.duration or 0, packet.is_keyframe)
        if not shown:
            raise Unreadable("no frames")
        places = sorted(shown)
        times = np.array([float((place - places[0]) * self._unit) for place in places])
        last = float(shown[places[-1]][0] * self._unit)
        if last <= 0 and len(places) > 1:  # the file does not say how long its last frame is shown
            last = float(np.median(np.diff(times)))
        elif last <= 0:
            last = float(1 / self._stream.average_rate) if self._stream.average_rate else 0.0
        duration = float(times[-1]) + last
        if self._promised() > duration * 1.02 + 0.25:
            raise Unreadable("truncated")
        keys = np.array([place for place in places if shown[place][1]])
        return Clock(times, duration, np.array(places) if exact else None, keys)

    def _promised(self) -> float:
        """Seconds that the header says this track lasts (0 if it does not): more than there is means a cut file."""
        if not self._indexed:
            return 0.0
        if self._stream.duration:
            return float(self._stream.duration * self._unit)
        try:
            hours, minutes, seconds = self._stream.metadata.get("DURATION", "").split(":")
            start = float((self._stream.start_time or 0) * self._unit)
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds) - max(start, 0.0)
        except ValueError:
            return 0.0

    def at(self, clock: Clock, wanted: Sequence[int], background: Colour) -> Iterator[np.ndarray]:
        picture, made = np.empty(0), -1
        for index, frame in self._shown(clock, wanted):
            if index != made:
                picture, made = self._picture(frame, background), index
            yield picture

    def _shown(self, clock: Clock, wanted: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        """(index, frame) for every index wanted. Decoding leaps to a key frame where that spares it many frames."""
        self._rewind()
        frames = self._timed(clock)
        before: av.VideoFrame | None = None
        frame: av.VideoFrame | None = None
        place, pts = 0, np.arange(len(clock.times)) if clock.pts is None else clock.pts
        done, leaps = 0, self._indexed and clock.pts is not None
        interlaced = self._stream.codec_context.field_order not in _PROGRESSIVE
        for index in wanted:
            # The frame before an interlaced one says what is between its lines
            leap = _key_before(clock, done, max(index - interlaced, 0)) if leaps else None
            if leap is not None:
                self._container.seek(leap, stream=self._stream, backward=True)
                frames, before, frame = self._timed(clock), None, None
            while frame is None or place < pts[index]:
                following, now = next(frames, (None, 0))
                if following is None:
                    break
                if leap is not None and frame is None and now > pts[index]:
                    leap, leaps = None, False  # an index that points too late: from the start, and no more leaps
                    self._rewind()
                    frames = self._timed(clock)
                    continue
                before, frame, place = frame, following, now
            # At most one frame may be missing at the end (an encoder's trailing packet); more is a damaged file.
            if frame is None or (place < pts[index] and len(pts) - index > 1 + len(pts) // 50):
                raise Unreadable("truncated")
            # A packet that shows nothing (an edit, a hidden frame) leaves a gap: the frame before it stays.
            yield index, before if place > pts[index] and before is not None else frame
            done = index

    def _timed(self, clock: Clock) -> Iterator[tuple[av.VideoFrame, int]]:
        """Frames, each with when it is shown: as `clock.pts`, or counted where that is None."""
        for count, frame in enumerate(self._decoded()):
            if clock.pts is None:
                yield frame, count
            elif frame.pts is not None:
                yield frame, frame.pts

    def _picture(self, frame: av.VideoFrame, background: Colour) -> np.ndarray:
        """uint8 (height, width, 3) as it is shown, transparent colours composed on the background, upright."""
        alpha = any(component.is_alpha for component in frame.format.components) or frame.format.name.startswith("pal")
        picture = as_shown(frame, self._stream.sample_aspect_ratio, "rgba" if alpha else "rgb24").to_ndarray()
        if alpha:
            picture = np.asarray(to_rgb(Image.fromarray(picture), background))
        return self._turn(frame).of(picture)

    def _turn(self, frame: av.VideoFrame) -> Turn:
        """Looked up once for a rotation: a frame whose side data was looked at holds itself, and would stay."""
        rotation = frame.rotation
        if rotation not in self._turns:
            self._turns[rotation] = turn_of(frame)
        return self._turns[rotation]

    def fps(self, count: int, span: float) -> float:
        rate = float(self._stream.average_rate or 0)
        # It is exact where the rate is constant, and often a guess where it varies
        if span > 0 and not abs(span * rate - (count - 1)) <= max(0.1, 0.02 * (count - 1)):
            return (count - 1) / span
        return rate

    def shape(self) -> tuple[int, int]:
        self._rewind()
        for frame in self._stored():  # only decoding tells how it is turned
            width = shown_width(frame.width, frame.height, self._stream.sample_aspect_ratio)
            return (width, frame.height) if self._turn(frame).transposed else (frame.height, width)
        raise Unreadable("no frames")

    def is_still(self) -> bool:
        return len(self.clock().times) == 1

    def info(self) -> VideoInfo:
        clock, (height, width) = self.clock(), self.shape()
        count = len(clock.times)
        fps = self.fps(count, float(clock.times[-1]))
        return VideoInfo(width, height, count, fps, clock.duration, self._stream.codec_context.name, self.recipe())

    def recipe(self) -> dict[str, Any] | None:
        tags = {key.lower(): value for key, value in self._container.metadata.items()}
        return parse_recipe(tags.get("comment"))


def _key_before(clock: Clock, done: int, index: int) -> int | None:
    """When the last key frame up to `index` is shown, if decoding has not come near it yet."""
    if clock.pts is None or clock.keys is None:
        return None
    found = int(np.searchsorted(clock.keys, clock.pts[index], side="right")) - 1
    if found < 0 or np.searchsorted(clock.pts, clock.keys[found]) - done <= _WORTH_A_LEAP:
        return None
    return int(clock.keys[found])
