"""How a model's networks are run, as far as no request says it: numbers that belong to the model and are saved with it.

They stand under `sampling` in model_index.json. A model that was trained in another way may want others:

    pipe = MakeAVideoPipeline.from_pretrained(folder, sampling={"still_candidates": 8})
    pipe.save_pretrained(other_folder)
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from .errors import UserError
from .figures import KEY_FRAMES, STRONGEST_MOTION
from .kinds import is_number, is_whole
from .nesting import SHORT

LIMITS = {
    "candidates": (1, 1024),
    "steps": (1, 1000),
    "some steps": (0, 1000),
    "scale": (0.0, 100.0),
    "power": (0.0, 4.0),
    "strength": (0.0, 1.0),
    "context": (1, KEY_FRAMES - 1),
    "transition": (0, KEY_FRAMES - 1),
    "frames": (1, 1024),
}
"""Smallest and largest number of each kind; a kind whose limits are whole numbers takes only those."""
KINDS = {
    "prior_candidates": "candidates",
    "prior_steps": "steps",
    "prior_guidance_scale": "scale",
    "still_candidates": "candidates",
    "grow_strength": "strength",
    "grow_strength_per_octave": "strength",
    "grow_strength_min": "strength",
    "grow_strength_max": "strength",
    "grow_motion": "scale",
    "grow_motion_power": "power",
    "continue_motion": "scale",
    "frame_guidance": "scale",
    "refine_strength": "strength",
    "context": "context",
    "transition": "transition",
    "super_resolution_steps": "some steps",
    "super_resolution_frames": "frames",
    "super_resolution_overlap": "frames",
}


@dataclass(frozen=True)
class SamplingConfig:
    """Candidates, strengths and overlaps. A strength is the part of D_t's steps that is run (SDEdit).

    prior_candidates: image embeddings that P's diffusion draws for a prompt; the one nearest to the text is kept
        (unCLIP draws two).
    prior_steps, prior_guidance_scale: of that diffusion.
    still_candidates: pictures that D_t draws before a clip; the clip grows from the one most like the image embedding.
    grow_strength: makes a clip of that picture at 8 key frames a second.
    grow_strength_per_octave: as much more at half the rate or twice the motion, where frames differ more, and less at
        twice the rate or half the motion; within grow_strength_min and grow_strength_max.
    grow_motion, grow_motion_power: what D_t is told then is grow_motion * strength of motion ^ grow_motion_power, up to
        the largest that it has learnt; a picture that is begun with holds motion back, and D_t answers to more with
        less than as much.
    continue_motion: in the place of grow_motion where D_t goes on from frames that move; too much, and a long video
        loses its subject.
    frame_guidance: scale of D_t's guidance towards the picture that a clip begins with, away from what it says without
        it; 1 turns it off. Parts keep their shape, and less moves.
    refine_strength: mends what F-up extrapolated.
    context: key frames that a window sees of what exists when it continues a video.
    sink: whether it sees the first frame of what it continues too, and goes back towards it, so that a subject that
        stays does not drift; not for scenes that change.
    transition: key frames that are made anew where one segment passes into the next, or a loop closes; and over which
        F-up's frames pass into D_t's.
    super_resolution_steps: of SR_l_t, where it diffuses; 0: a quarter of D_t's.
    super_resolution_frames: frames that SR_l_t enlarges together, beside those that it shares with the stretch before.
    super_resolution_overlap: frames that two stretches share; there one passes into the other.
    any_shape: whether D_t is asked for frames of any shape. False where it knows things at one scale: then it makes
        frames as short as those that it was trained on (of words, its very own shape), which are fitted into others.

    Raises:
        UserError: an impossible number.
    """

    prior_candidates: int = 4
    prior_steps: int = 16
    prior_guidance_scale: float = 2.0
    still_candidates: int = 4
    grow_strength: float = 0.75
    grow_strength_per_octave: float = 0.05
    grow_strength_min: float = 0.6
    grow_strength_max: float = 0.9
    grow_motion: float = 1.25
    grow_motion_power: float = 1.7
    continue_motion: float = 1.25
    frame_guidance: float = 1.0
    refine_strength: float = 0.75
    context: int = 6
    sink: bool = False
    transition: int = 4
    super_resolution_steps: int = 0
    super_resolution_frames: int = 16
    super_resolution_overlap: int = 4
    any_shape: bool = True

    def __post_init__(self) -> None:
        for name, kind in KINDS.items():
            check(name, getattr(self, name), *LIMITS[kind])
        for name in ("sink", "any_shape"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"sampling.{name} {getattr(self, name)!r} is not possible: choose true or false.")
        if self.context + self.transition > KEY_FRAMES:
            raise UserError(
                f"sampling.context {self.context} and sampling.transition {self.transition} are not possible: together "
                f"they have to fit into a window of {KEY_FRAMES} frames."
            )
        if self.super_resolution_overlap > self.super_resolution_frames:
            raise UserError(
                f"sampling.super_resolution_overlap {self.super_resolution_overlap} is not possible: choose at most "
                f"super_resolution_frames, {self.super_resolution_frames}."
            )
        if self.grow_strength_min > self.grow_strength_max:
            raise UserError(
                f"sampling.grow_strength_min {self.grow_strength_min:g} is not possible: choose at most "
                f"grow_strength_max, {self.grow_strength_max:g}."
            )

    @classmethod
    def of(cls, values: Mapping[str, Any] | None) -> Self:
        """From the config of a saved pipeline, or a part of it; what is not named is as usual.

        Raises:
            UserError: an impossible number, or a name that is unknown.
        """
        if not isinstance(values, Mapping | None):
            raise UserError(
                f"sampling {SHORT.repr(values)} is no table of names and numbers: give one, or leave it out."
            )
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values or {}) - set(known))
        if unknown:
            raise UserError(f"sampling.{unknown[0]} is unknown: there are {', '.join(known)}.")
        return cls(**(values or {}))

    def as_dict(self) -> dict[str, int | float]:
        """For the config of a saved pipeline."""
        return asdict(self)

    def told_motion(self, motion: float, goes_on: bool = False) -> float:
        """What D_t is told of this strength of motion where it begins with a picture, or goes on from several."""
        factor = self.continue_motion if goes_on else self.grow_motion
        return min(STRONGEST_MOTION, factor * motion**self.grow_motion_power)

    def grow_strength_at(self, fps: float, motion: float | None = None) -> float:
        """The strength that makes a clip of a picture at this rate of key frames and this strength of motion."""
        motion = 1.0 if motion is None else max(motion, 1e-3)
        strength = self.grow_strength + self.grow_strength_per_octave * math.log2(8 * motion / fps)
        return min(self.grow_strength_max, max(self.grow_strength_min, strength))


def check(name: str, value: Any, low: float, high: float) -> None:
    """Raises UserError where the value is no number from `low` to `high`, or no whole one though they are."""
    is_one, what = (is_whole, "a whole number") if isinstance(low, int) else (is_number, "a number")
    if not is_one(value) or not low <= value <= high:
        raise UserError(f"sampling.{name} {SHORT.repr(value)} is not possible: choose {what} from {low:g} to {high:g}.")
