"""What D_t is asked for: how it is run, and the frames that it begins with."""

from dataclasses import dataclass

from torch import Tensor

from .sampling import Generators


@dataclass(frozen=True)
class Decoding:
    """How D_t is run.

    fps: frames a second; 0 if it does not matter.
    steps: evaluations of the network.
    guidance_scale: 1 turns guidance off.
    motion: strength of motion, 0 to 2, 1 the usual one; None if it does not matter, or D_t knows nothing of it.
    frame_shape: (channels, height, width) of a frame as D_t works on it; None: as it was trained.
    frame_guidance: scale of the guidance towards a kept frame that it sees; None: what is trained in.
    negative: y_e (1, d) or (b, d) to steer away from; None: from what D_t makes of no embedding at all.
    """

    fps: float
    steps: int
    guidance_scale: float
    motion: float | None = None
    generator: Generators = None
    frame_shape: tuple[int, int, int] | None = None
    frame_guidance: float | None = None
    negative: Tensor | None = None


@dataclass(frozen=True)
class Start:
    """Frames that D_t begins with.

    frames: (b, f, 3, h, w).
    strength: the part of the steps, the last ones, that are run on them after noise has been added (SDEdit).
    mask: (b, f), 1 where a frame is kept as it is; the others are made to go with it. None: none is kept.
    """

    frames: Tensor
    strength: float = 1.0
    mask: Tensor | None = None
