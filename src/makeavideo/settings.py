"""What is asked of a use: the options that all five take, their defaults, and which of them are possible."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, TypedDict

from .errors import UserError
from .figures import CALLBACK_TENSORS, KEY_FRAMES, MAX_FRAMES, TIMESTEPS
from .kinds import is_number, is_whole
from .nesting import SHORT
from .prompts import check_text
from .shapes import FACTORS, Shape, Shapes, Size, read_size

if TYPE_CHECKING:  # torch takes seconds, and what is impossible is refused at once
    from .media.pictures import Fit
    from .sampling import Generators

OUTPUT_TYPES = ("pil", "np", "pt", "stream", "latent")


def is_yes_or_no(value: Any) -> bool:
    return isinstance(value, bool)


def are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)


KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("num_frames", "num_inference_steps"), (is_whole, "a whole number")),
    **dict.fromkeys(("seconds", "fps", "guidance_scale", "motion"), (is_number, "a number")),
    **dict.fromkeys(("loop", "return_dict"), (is_yes_or_no, "True or False")),
    "callback_on_step_end": (callable, "a function"),
    "callback_on_step_end_tensor_inputs": (are_texts, f"a list of {' and '.join(CALLBACK_TENSORS)}"),
}
"""Of options: what tells whether something is of their kind, and what that is called."""
MAY_BE_NONE = ("num_frames", "seconds", "motion", "callback_on_step_end")


class VideoOptions(TypedDict, total=False):
    """What every use takes.

    num_frames: length of the result; 76 if neither it nor `seconds` is given (16 without an F-up). Memory does not grow
        with it.
    seconds: the length in seconds instead.
    fps: frames a second of the result, 1 to 60; a lower rate means more motion from frame to frame.
    size: pixels of the longest side, which says where to stop in the cascade (one of `sizes`; None: the largest); or
        another shape, "256x144" (width x height) or (144, 256).
    num_inference_steps: of D_t; the other stages need fewer.
    guidance_scale: of D_t; 1 turns guidance off.
    motion: how much moves, from 0 (still) to 2; 1 is usual. Only models that were trained with it take it.
    loop: the last frame passes into the first one.
    generator: a seeded CPU generator makes the result repeatable; a list has one for each video of a batch, which is
        then the same as alone.
    output_type: "pil", "np", "pt", "stream" or "latent", see `MakeAVideoOutput`.
    return_dict: False gives a tuple.
    callback_on_step_end: called after each step of each stage as in diffusers, (pipeline, step, timestep, tensors);
        `pipeline.stage` and `pipeline.num_timesteps` tell where it is. "latents" that it returns are gone on from, and
        `pipeline._interrupt = True` ends this stage, and the later ones after a step each.
    callback_on_step_end_tensor_inputs: which tensors it is given: "latents", what the scheduler works on, and
        "sample", what it has made by then.
    """

    num_frames: int | None
    seconds: float | None
    fps: float
    size: Size | None
    num_inference_steps: int
    guidance_scale: float
    motion: float | None
    loop: bool
    generator: Generators
    output_type: str
    return_dict: bool
    callback_on_step_end: Callable | None
    callback_on_step_end_tensor_inputs: Sequence[str]


DAY = 24 * 3600
"""Seconds: a longer video is a mistake of typing, and what is kept of each frame would not fit into memory."""


@dataclass
class Settings:
    """`VideoOptions` with their defaults, once `settle` has found them possible."""

    num_frames: int
    shape: Shape
    made: Shape
    """What the networks make, which is then fitted into the shape: the same one, but for `SamplingConfig.any_shape`."""
    stage: int
    """Of the cascade, after which it stops: 0 after D_t, 1 after SR_l_t, 2 after SR_h."""
    fps: float = 24.0
    num_inference_steps: int = 16
    guidance_scale: float = 2.0
    motion: float | None = None
    loop: bool = False
    generator: Generators = None
    output_type: str = "pil"
    return_dict: bool = True
    callback_on_step_end: Callable | None = None
    callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",)

    @property
    def size(self) -> int | str:
        """As people write it: 256, or 256x144."""
        return self.shape.written

    @property
    def small(self) -> Shape:
        """Of its frames at the size of D_t, in pixels."""
        return Shape(*(side // FACTORS[self.stage] for side in self.made))

    @property
    def super_resolution_steps(self) -> tuple[int, int]:
        """Steps of SR_l_t and of SR_h, where they diffuse: both have an easier task than D_t."""
        return max(1, self.num_inference_steps // 4), max(1, self.num_inference_steps // 8)


def takes_options(use: Callable) -> Callable:
    """For a method with `**options: Unpack[VideoOptions]`: its signature names them all, and no other is taken."""
    own = inspect.signature(use)
    usual = {one.name: one.default for one in fields(Settings) if one.default is not MISSING}
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=usual.get(name), annotation=kind)
        for name, kind in VideoOptions.__annotations__.items()
    ]
    first = [one for one in own.parameters.values() if one.kind != inspect.Parameter.VAR_KEYWORD]
    names = [one.name for one in (*first, *options)]

    @functools.wraps(use)
    def checked(*args: Any, **given: Any) -> Any:
        for name in given:
            if name not in names:
                raise UserError(f"There is no option {name!r} here: choose from {', '.join(names[1:])}.")
        return use(*args, **given)

    checked.__signature__ = own.replace(parameters=[*first, *options])  # type: ignore[attr-defined]
    return checked


def settle(options: VideoOptions, shapes: Shapes, knows_motion: bool, fills: bool = True) -> Settings:
    """The options with defaults filled in and the number of frames settled.

    Args:
        shapes: that the cascade can make.
        knows_motion: whether D_t was trained with a strength of motion.
        fills: whether there is an F-up; without one D_t's own frames are all.

    Raises:
        UserError: an impossible number.
    """
    check_kinds(options)
    rest: Any = {name: value for name, value in options.items() if name not in ("num_frames", "seconds", "size")}
    length = length_of(options, MAX_FRAMES if fills else KEY_FRAMES)
    shape, stage = shapes.settle(options.get("size"))
    s = Settings(length, shape, shapes.made(shape, stage), stage, **rest)
    if s.loop and s.num_frames < 3:
        raise UserError(f"A loop of {s.num_frames} frames is not possible: choose 3 or more.")
    if not 1 <= s.num_inference_steps <= TIMESTEPS:
        raise UserError(f"--steps {s.num_inference_steps} is not possible: choose from 1 to {TIMESTEPS}.")
    if not 0 <= s.guidance_scale <= 100:
        raise UserError(f"--guidance {s.guidance_scale:g} is not possible: choose from 0 to 100; 1 is off.")
    if s.motion is not None and not knows_motion:
        raise UserError("This model was not trained with a strength of motion: leave out --motion.")
    if s.motion is not None and not 0 <= s.motion <= 2:
        raise UserError(f"--motion {s.motion:g} is not possible: choose from 0 (still) to 2.")
    s.motion = 1.0 if s.motion is None and knows_motion else s.motion
    if not fills and s.num_frames > KEY_FRAMES:
        raise UserError(f"This model has no F-up network: choose at most {KEY_FRAMES} frames, not {s.num_frames}.")
    if not (isinstance(s.output_type, str) and s.output_type in OUTPUT_TYPES):
        raise UserError(f"output_type {SHORT.repr(s.output_type)} is not possible: choose {', '.join(OUTPUT_TYPES)}.")
    unknown = set(s.callback_on_step_end_tensor_inputs) - set(CALLBACK_TENSORS)
    if unknown:
        known = ", ".join(CALLBACK_TENSORS)
        raise UserError(f"A callback cannot be given {', '.join(sorted(unknown))}: choose from {known}.")
    return s


def check_kinds(options: VideoOptions) -> None:
    """Raises UserError where an option is of another type than it should be."""
    for name, (is_one, what) in KINDS.items():
        given: Any = options.get(name)
        if not is_one(given) and name in options and not (given is None and name in MAY_BE_NONE):
            raise UserError(f"{name} {SHORT.repr(given)} is not possible: give {what}.")


def keep_shape(options: VideoOptions, fit: Fit, shapes: Shapes, given: Callable[[], tuple[int, int]]) -> Fit:
    """What `fit` comes to: where a video is to keep the shape of what it is made of, that becomes its size.

    Args:
        options: the size is written into them; before, it is the longest side (None: the largest).
        given: (height, width) of what it is made of.

    Raises:
        UserError: a size that is a shape already, or proportions that cannot be kept.
    """
    if not (isinstance(fit, str) and fit == "keep"):  # whoever fits says what else there is
        return fit
    size = shapes.sizes[-1] if options.get("size") is None else read_size(options.get("size"))
    if not isinstance(size, int):
        raise UserError("--fit keep takes the shape from what is given: give --size one number, the longest side.")
    own = Shape(*given())
    shapes.check_proportion(own, f"--fit keep is not possible with {own.written} pixels", ": choose --fit crop or pad")
    options["size"] = shapes.like(size, *own).written
    return "crop"


def check_interpolation(s: Settings) -> None:
    """Raises UserError where F-up cannot make so many frames between two pictures."""
    ways = 2 if s.loop else 1
    if not 3 <= s.num_frames <= MAX_FRAMES * ways:
        raise UserError(
            f"Interpolation makes 3 to {MAX_FRAMES * ways} frames, not {s.num_frames}: "
            "choose another length, or a lower --fps."
        )


def check_given(seconds: float) -> None:
    """Raises UserError where a video that is to be gone on from lasts so long: all its frames are written again."""
    if seconds > DAY:
        raise UserError(f"The video lasts {seconds / 3600:,.0f} hours, and at most 24 are extended: cut a part out.")


def check_mixed(prompt: Any, weight: Any) -> None:
    """Raises UserError where what is mixed in is no text (it may be blank, or None), or cannot be so much."""
    check_text(prompt)
    if not is_number(weight) or not 0 <= weight <= 1:
        raise UserError(f"--prompt-weight {SHORT.repr(weight)} is not possible: choose from 0 to 1.")


def length_of(options: VideoOptions, usual: int = MAX_FRAMES) -> int:
    """Frames of the result; `usual` where nothing is said.

    Raises:
        UserError: two lengths, or an impossible one.
    """
    num_frames, seconds = options.get("num_frames"), options.get("seconds")
    fps = options.get("fps", Settings.fps)
    if seconds is not None:
        if num_frames is not None:
            raise UserError("Both --seconds and --num-frames are given: choose one of them.")
        if not seconds > 0 or not math.isfinite(seconds):
            raise UserError(f"--seconds {seconds:g} is not possible: choose more than 0.")
        if seconds > DAY:
            raise UserError(
                f"--seconds {seconds:g} is longer than a day: choose fewer, and extend the video by others."
            )
    if not 1 <= fps <= 60:
        raise UserError(f"--fps {fps:g} is not possible: choose from 1 to 60 frames a second.")
    if num_frames is None:
        num_frames = usual if seconds is None else max(1, round(seconds * fps))
    if num_frames < 1:
        raise UserError(f"--num-frames {num_frames} is not possible: choose 1 or more.")
    if num_frames > DAY * fps:
        raise UserError(f"{num_frames:,} frames are longer than a day: choose fewer, and extend the video by others.")
    return num_frames
