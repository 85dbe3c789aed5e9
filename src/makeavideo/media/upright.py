"""How a container says that its frames are turned and mirrored: FFmpeg's display matrix."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple, cast

import av
import numpy as np
from av.sidedata.sidedata import Type


class Turn(NamedTuple):
    """First x and y change places, then what is left is mirrored."""

    transposed: bool = False
    left_right: bool = False
    upside_down: bool = False

    def of(self, picture: np.ndarray) -> np.ndarray:
        """A picture (height, width, channels) as it is shown."""
        picture = picture.swapaxes(0, 1) if self.transposed else picture
        return np.ascontiguousarray(picture[:: -1 if self.upside_down else 1, :: -1 if self.left_right else 1])


def turn_of(frame: av.VideoFrame) -> Turn:
    """To the nearest quarter; x' = a x + c y, y' = b x + d y."""
    data: Any = cast(Any, frame.side_data).get(Type.DISPLAYMATRIX)  # its stub says text
    if data is None or data.buffer_size < 20:
        return Turn()
    a, b, _, c, d = struct.unpack_from("=5i", bytes(data))
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Turn(True, c < 0, b < 0)
    return Turn(False, a < 0, d < 0)
