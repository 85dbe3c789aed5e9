"""mp4 and webm, by FFmpeg."""

from __future__ import annotations

import contextlib
import os
import shutil

import av
import numpy as np

from ..errors import UserError
from .disk import FULL, Output, Target
from .pictures import SCALER, SCALER_THREADS
from .reader import probe

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
_WORST = {"libx264": 51, "libvpx-vp9": 63, "libsvtav1": 63}  # crf, of which 0 is the best
# The file grows by whole pieces of a second, each flushed when it is done: it can be cut after any of them.
_CONTAINERS = {
    ".mp4": ("mp4", {"movflags": "+frag_keyframe+empty_moov+default_base_moof+delay_moov", "flush_packets": "1"}),
    ".webm": ("webm", {"cluster_time_limit": "1000", "flush_packets": "1"}),
}

BT709 = 1


class ContainerSink:
    """mp4 and webm, encoded by FFmpeg as yuv420p with BT.709 colours, and tagged so.

    An mp4 is written in fragments, which play without what comes after them, and at the end copied, packet by packet,
    into the usual kind with its index in front, which FFmpeg does alone (hybrid_fragmented) only with the index at the
    end. Where there is no room for two, the fragments are the file.
    """

    def __init__(self, target: Target, ending: str) -> None:
        name, options = next(
            ((name, options) for name, options in _ENCODERS[ending] if name in av.codecs_available), (None, {})
        )
        if name is None:
            raise UserError(f"this PyAV cannot write {ending}: install the av package from PyPI, or use .gif or .webp")
        if target.quality is not None:
            options = {**options, "crf": str(round(_WORST[name] * (1 - target.quality / 100)))}
        if name == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # it prints its settings to stderr otherwise
        muxer, muxer_options = _CONTAINERS[ending]
        self._target, self._copies = target, ending == ".mp4"
        self._output = Output(open(target.path, "wb", buffering=0), target.reserve)  # noqa: SIM115 - closed in finish() or drop()
        options_all = {**muxer_options, "fflags": "+bitexact"}
        self._container = av.open(self._output, "w", format=muxer, options=options_all)
        if target.recipe is not None:
            self._container.metadata["comment"] = target.recipe
        stream = self._container.add_stream(name, rate=target.rate, options=options)
        assert isinstance(stream, av.VideoStream)
        self._stream = stream
        self._stream.height, self._stream.width = target.size
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.thread_count = _THREADS
        context.gop_size = max(1, round(target.rate))  # so that a fragment is a second at most
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = 1  # 16..235
        self._count = 0

    def add(self, frame: np.ndarray) -> None:
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture = picture.reformat(
            format="yuv420p", dst_colorspace=BT709, dst_color_range=1, interpolation=SCALER, threads=SCALER_THREADS
        )
        picture.color_primaries = picture.color_trc = BT709
        picture.pts, picture.time_base = self._count, 1 / self._target.rate
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
                return probe(self._target.path).num_frames
            except UserError:  # not even one piece was whole
                return 0
        self._output.close()
        if self._copies:
            self._target.reserve.release()
            self._copy_with_index_in_front()
        return self._count

    def _copy_with_index_in_front(self) -> None:
        copy = self._target.path.with_name(self._target.path.name + "-copy")
        options = {"movflags": "+faststart", "fflags": "+bitexact"}
        try:
            if shutil.disk_usage(copy.parent).free < 1.1 * self._target.path.stat().st_size + 2**16:
                return
            with (
                av.open(os.fspath(self._target.path)) as source,
                av.open(os.fspath(copy), "w", format="mp4", options=options) as target,
            ):
                if self._target.recipe is not None:
                    target.metadata["comment"] = self._target.recipe
                stream = target.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.size:
                        packet.stream = stream
                        target.mux(packet)
            os.replace(copy, self._target.path)
        except OSError as error:
            if error.errno not in FULL:
                raise
        finally:
            copy.unlink(missing_ok=True)

    def drop(self) -> None:
        self._output.failed = True  # FFmpeg writes an ending that nobody wants
        with contextlib.suppress(Exception):
            self._container.close()
        self._output.close()
