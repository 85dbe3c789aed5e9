"""A decoded frame as players show it: its shape, its colours, its range of brightness."""

from __future__ import annotations

import threading
from collections import OrderedDict
from fractions import Fraction

import av
from av.video.reformatter import VideoReformatter

from .code_points import CodePoints
from .pictures import MAX_PIXELS, SCALER, SCALER_THREADS, Unreadable

BT709, BT601, UNSPECIFIED, SRGB, YCGCO = 1, 5, 2, 13, 8
OTHER_COLOURS = "its colours are coded as YCgCo"
_STRANGEST = 8  # times as wide as high: beyond this a pixel's shape is damage, not intent
_KEPT = 4
_local = threading.local()


def as_shown(frame: av.VideoFrame, pixel_shape: Fraction | None, layout: str) -> av.VideoFrame:
    """The frame in the pixel layout "rgb24" or "rgba", with square pixels, in BT.709 colours of standard range.

    pixel_shape: width over height of one stored pixel; None or 0: square. The width is scaled, as FFmpeg's player does.

    Where the file does not say which matrix its colours are in, it is BT.709 from 577 lines or 1,280 columns on, and
    BT.601 below, as mpv has it. PQ and HLG are mapped to standard range, and wide colours to BT.709's, by libswscale.

    Raises:
        Unreadable: YCgCo, which libswscale does not know.
    """
    if frame.colorspace == YCGCO:
        raise Unreadable(OTHER_COLOURS)
    width, height = shown_width(frame.width, frame.height, pixel_shape), frame.height
    if not CodePoints(frame.color_primaries, frame.color_trc).usual:
        key = (frame.width, frame.height, frame.format.name, width, layout, frame.color_trc, frame.color_primaries)
        curve = SRGB if frame.color_trc == SRGB else BT709  # sRGB's stays
        aim = {"dst_colorspace": BT709, "dst_color_primaries": BT709, "dst_color_trc": curve}
        return _reformatter(key).reformat(
            frame, width, height, layout, interpolation=SCALER, threads=SCALER_THREADS, **aim
        )
    matrix = None
    if frame.colorspace == UNSPECIFIED:
        matrix = BT709 if frame.width >= 1280 or frame.height > 576 else BT601
    return frame.reformat(width, height, layout, src_colorspace=matrix, interpolation=SCALER, threads=SCALER_THREADS)


def shown_width(width: int, height: int, pixel_shape: Fraction | None) -> int:
    """How many square pixels wide a stored frame is shown; a shape that must be damage is passed over."""
    if not pixel_shape or not Fraction(1, _STRANGEST) <= pixel_shape <= _STRANGEST:
        return width
    shown = max(1, round(width * pixel_shape))
    return width if shown * height > MAX_PIXELS else shown


def _reformatter(key: tuple) -> VideoReformatter:
    """One for frames of a kind: libswscale needs seconds to prepare such a mapping, and then little for a frame."""
    kept: OrderedDict[tuple, VideoReformatter] = _local.__dict__.setdefault("kept", OrderedDict())
    if key not in kept:
        kept[key] = VideoReformatter()
        while len(kept) > _KEPT:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]
