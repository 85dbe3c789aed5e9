"""Clips in containers, by PyAV: the one part of the readers that needs it."""

from __future__ import annotations

from collections.abc import Sequence

import av
import numpy as np
from PIL import Image

from ..media.pictures import MAX_PIXELS, Unreadable, to_rgb, to_square, unreadable
from .decode import Clock, clock_of
from .index import Source

# Only these demuxers: a playlist that calls itself .mp4 must not make ffmpeg open other files or the network.
DEMUXERS = "mov,matroska,webm,avi,mpegts,mpeg,ogg,flv,asf"


class Video:
    """mp4, mov, webm, mkv, avi by PyAV. The packets are listed first, so that only the frames needed are decoded."""

    def __init__(self, source: Source, size: int, background: tuple[int, int, int]) -> None:
        self.source, self.size, self.background = source, size, background

    def _open(self, file):
        try:
            return av.open(file, mode="r", options={"format_whitelist": DEMUXERS}, metadata_errors="replace")
        except av.error.FFmpegError as error:
            raise Unreadable("not a video") from error

    def clock(self) -> tuple[Clock, np.ndarray]:
        """(clock, presentation times in the stream's unit) from the packets, without decoding."""
        try:
            with self.source.open() as file, self._open(file) as container:
                stream = self._stream(container)
                shown = {}
                for packet in container.demux(stream):
                    if packet.pts is not None and not packet.is_discard:
                        if packet.is_corrupt:
                            raise Unreadable("truncated")
                        shown[packet.pts] = packet.duration
                if len(shown) < 2:
                    raise Unreadable("only one frame" if shown else "no frames")
                pts = np.array(sorted(shown))
                clock = clock_of([float(p * stream.time_base) for p in pts], float(shown[pts[-1]] * stream.time_base))
                if self._promised(stream) > clock.duration * 1.02 + 0.25 or stream.frames > 1.02 * len(pts) + 2:
                    raise Unreadable("truncated")
                return clock, pts
        except Exception as error:
            raise unreadable(error) from error

    @staticmethod
    def _stream(container):
        videos = [s for s in container.streams.video if not int(s.disposition) & 0x400]  # 0x400: a cover picture
        if not videos:
            raise Unreadable("no video track" if container.streams.audio else "not a video")
        stream = videos[0]
        if stream.codec_context is None:
            raise Unreadable("unknown codec")
        if stream.codec_context.width * stream.codec_context.height > MAX_PIXELS:
            raise Unreadable("more than 64 megapixels")
        return stream

    @staticmethod
    def _promised(stream) -> float:
        """Seconds that the header says this track lasts (0 if it does not): more than there is means a cut file."""
        if stream.duration:
            return float(stream.duration * stream.time_base)
        try:
            hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
            start = float((stream.start_time or 0) * stream.time_base)
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds) - max(start, 0.0)
        except ValueError:
            return 0.0

    def frames(self, pts: np.ndarray, wanted: Sequence[int] | None = None, seek: bool = True) -> np.ndarray:
        """uint8 (len(wanted), size, size, 3): those frames (ascending indices into pts), or all of them."""
        wanted = list(range(len(pts))) if wanted is None else list(wanted)
        out: dict[int, np.ndarray] = {}
        targets = [int(pts[i]) for i in wanted]
        position = 0
        last = None
        try:
            with self.source.open() as file, self._open(file) as container:
                stream = self._stream(container)
                # One thread: a decoder with threads hangs a forked DataLoader worker that inherits and frees it.
                stream.codec_context.thread_count = 1
                if seek and wanted[0] > 0:
                    container.seek(targets[0], stream=stream, backward=True)
                for frame in self._decode(container, stream):
                    if frame.pts is None:
                        continue
                    if last is None and frame.pts > targets[0] and seek and wanted[0] > 0:
                        return self.frames(pts, wanted, seek=False)  # an index that points too late
                    # A packet that shows nothing (an edit, a hidden frame) leaves a gap: the frame before it stays.
                    while position < len(targets) and targets[position] < frame.pts and last is not None:
                        out[position] = self._picture(last)
                        position += 1
                    while position < len(targets) and targets[position] <= frame.pts:
                        out[position] = self._picture(frame)
                        position += 1
                    last = frame
                    if position == len(targets):
                        break
            # At most one frame may be missing at the end (an encoder's trailing packet); more is a damaged file.
            if last is None or (position < len(targets) and len(pts) - wanted[position] > 1 + len(pts) // 50):
                raise Unreadable("truncated")
            while position < len(targets):
                out[position] = self._picture(last)
                position += 1
        except Exception as error:
            raise unreadable(error) from error
        return np.stack([out[i] for i in range(len(targets))])

    @staticmethod
    def _decode(container, stream):
        name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.name)
        if stream.metadata.get("alpha_mode") != "1" or name is None:
            yield from container.decode(stream)
            return
        # ffmpeg's own VP8 and VP9 decoders drop the alpha channel; libvpx's keep it.
        context = av.CodecContext.create(name, "r")
        context.thread_count = 1
        for packet in container.demux(stream):
            yield from context.decode(packet if packet.pts is not None else None)

    def _picture(self, frame) -> np.ndarray:
        alpha = any(component.is_alpha for component in frame.format.components)
        if alpha or frame.format.name.startswith(("pal", "rgba", "bgra", "argb", "abgr")):
            image = to_rgb(Image.fromarray(frame.to_ndarray(format="rgba")), self.background)
        else:
            image = Image.fromarray(frame.to_ndarray(format="rgb24"))
        turn = getattr(frame, "rotation", 0)
        return to_square(image.rotate(turn, expand=True) if turn else image, self.size)
