"""What a person asks for: one of the five uses with its settings, to and from the recipe that a file carries."""

from __future__ import annotations

import math
import os
import re
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..errors import UserError
from ..media.inputs import shape_of, shape_of_video
from ..prompts import check_prompt, check_text
from ..settings import keep_shape
from ..shapes import Shapes, read_size
from .uploads import Kind, Source, Uploads

__all__ = ["INPUTS", "USES", "Request", "as_written", "from_recipe", "one_line", "typed", "written"]

USES = ("generate", "animate", "interpolate", "vary", "extend")

INPUTS: dict[str, dict[str, Kind]] = {
    "generate": {},
    "animate": {"image": "picture"},
    "interpolate": {"first": "picture", "last": "picture"},
    "vary": {"video": "video"},
    "extend": {"video": "video"},
}
"""Use -> name of the input in recipes -> what it is."""

_SETTINGS: dict[str, type] = {
    "seed": int,
    "prompt": str,
    "negative_prompt": str,
    "prompt_weight": float,
    "fit": str,
    "num_frames": int,
    "fps": float,
    "size": object,
    "num_inference_steps": int,
    "guidance_scale": float,
    "motion": float,
    "loop": bool,
}
_KINDS = {int: "a whole number", str: "a text", float: "a number", bool: "true or false"}

Story = tuple[tuple[str, float], ...]
"""(prompt, seconds) each; one passes into the next."""

MAX_PROMPT = 500
MAX_PARTS = 20
MIN_SECONDS, MAX_SECONDS = 0.05, 30.0
MAX_NEW_FRAMES = 720
MAX_STEPS = 100
"""Bounds of one job, because all wait for it."""

_TIMED = re.compile(r"(.*)\|\s*(\d{1,4}(?:\.\d+)?)\s*(?:s|seconds?)?")
"""A line of a story that says how long it lasts."""


@dataclass(frozen=True)
class Request:
    """A video that somebody wants; `options` and `call` are what the pipeline gets.

    prompt: a sentence, or, to generate, a story, whose parts say how long it lasts.
    size: pixels of the longest side, or a shape, "256x144"; None: the largest.
    """

    use: str
    seed: int
    inputs: dict[str, Source] = field(default_factory=dict)
    prompt: str | Story = ""
    negative_prompt: str = ""
    prompt_weight: float = 0.3
    fit: str = "crop"
    num_frames: int = 76
    fps: float = 24.0
    size: int | str | None = None
    num_inference_steps: int = 16
    guidance_scale: float = 2.0
    motion: float | None = None
    loop: bool = False

    @property
    def label(self) -> str:
        """A few words for the name of the file."""
        inputs = " ".join(os.path.splitext(one.shown)[0] for one in self.inputs.values())
        return one_line(self.prompt) or f"{self.use} {inputs}"

    @property
    def sentence(self) -> str:
        """Empty for a story."""
        return self.prompt if isinstance(self.prompt, str) else ""

    @property
    def story(self) -> Story:
        """Empty for a prompt of one sentence."""
        return () if isinstance(self.prompt, str) else self.prompt

    @property
    def seconds(self) -> float:
        """How long the video is, or what is added to one."""
        return sum(seconds for _, seconds in self.story) or self.num_frames / self.fps

    def checked(self) -> Request:
        """The request itself, if it is possible.

        Raises:
            UserError: one sentence about what is not.
        """
        prompts = [self.prompt] if isinstance(self.prompt, str) else [text for text, _ in self.prompt]
        for text in prompts if self.use == "generate" else ():
            check_prompt(text)
        for text in (*prompts, self.negative_prompt):
            check_text(text)
            if len(text) > MAX_PROMPT:
                raise UserError(f"The prompt has {len(text)} characters: use at most {MAX_PROMPT}.")
        if len(prompts) > MAX_PARTS:
            raise UserError(f"The story has {len(prompts)} parts: use at most {MAX_PARTS}.")
        if not all(MIN_SECONDS <= seconds <= MAX_SECONDS for _, seconds in self.story):
            raise UserError(f"Every part of a story lasts {MIN_SECONDS} to {MAX_SECONDS:.0f} seconds.")
        for name, kind in INPUTS[self.use].items():
            if name not in self.inputs:
                which = f"{name} {kind}" if name in ("first", "last") else kind
                raise UserError(f"The {which} is missing: upload one, or take one from the gallery.")
        if not (math.isfinite(self.fps) and 1 <= self.fps <= 60):
            raise UserError("The frame rate must lie between 1 and 60 frames a second.")
        if self.seconds > MAX_SECONDS:
            raise UserError(f"The length is {self.seconds:.4g} seconds: choose at most {MAX_SECONDS:.0f}.")
        frames = round(self.seconds * self.fps) if self.story else self.num_frames
        if not 1 <= frames <= MAX_NEW_FRAMES:
            raise UserError(f"The length is {frames} frames: choose 1 to {MAX_NEW_FRAMES}.")
        if not 1 <= self.num_inference_steps <= MAX_STEPS:
            raise UserError(f"The steps must lie between 1 and {MAX_STEPS}.")
        if not 1 <= self.guidance_scale <= 20:
            raise UserError("The guidance must lie between 1 and 20.")
        if self.motion is not None and not 0 <= self.motion <= 2:
            raise UserError("The strength of motion must lie between 0 and 2.")
        if not 0 <= self.prompt_weight <= 1:
            raise UserError("The weight of the words must lie between 0 and 1.")
        if self.fit not in ("crop", "pad", "keep"):
            raise UserError("What is of another shape can be cut (crop), padded (pad), or keep its shape (keep).")
        if not 0 <= self.seed < 2**63:
            raise UserError("The seed must be a whole number from 0 on.")
        return self

    def options(self) -> dict[str, Any]:
        """For the pipeline, without the generator."""
        length = "seconds" if self.story else "num_frames"
        names = (length, "fps", "num_inference_steps", "guidance_scale", "motion", "loop")
        options = {name: getattr(self, name) for name in names}
        return options if self.size is None else {**options, "size": self.size}

    def shaped(self, uploads: Uploads, shapes: Shapes) -> Request:
        """The same, with the shape of what it is made of where that is to be kept.

        Raises:
            UserError: see `settings.keep_shape`.
        """
        if self.fit != "keep" or not INPUTS[self.use]:
            return self
        name, kind = next(iter(INPUTS[self.use].items()))
        path, options = uploads.path(self.inputs[name]), self.options()
        keep_shape(options, "keep", shapes, lambda: (shape_of if kind == "picture" else shape_of_video)(path))  # type: ignore[arg-type]
        return replace(self, size=options["size"], fit="crop")

    def call(self, pipe: Any, uploads: Uploads, **options: Any) -> Any:
        paths = [uploads.path(self.inputs[name]) for name in INPUTS[self.use]]
        words = (self.prompt or None, self.prompt_weight)
        if self.use == "generate":
            if self.story:
                options.pop("seconds")  # the pipeline adds them up itself
            return pipe(self.prompt, self.negative_prompt.strip() or None, **options)
        if self.use in ("animate", "extend"):
            return getattr(pipe, self.use)(*paths, *words, self.fit, **options)
        return getattr(pipe, self.use)(*paths, self.fit, **options)

    def without_paths(self, error: UserError, uploads: Uploads) -> UserError:
        """The error by the names that the person knows: paths on the server are nobody's business."""
        message = str(error)
        for source in self.inputs.values():
            if uploads.has(source):
                message = message.replace(str(uploads.path(source)), source.shown)
        return UserError(message)

    def recipe(self, settings: Any, model: str, weights: str) -> dict[str, Any]:
        """As the command line writes it, and where this studio finds the inputs again."""
        recipe: dict[str, Any] = {"use": self.use}
        recipe |= {name: self.inputs[name].shown for name in INPUTS[self.use]}
        if self.use in ("generate", "animate", "extend"):
            recipe["prompt"] = self.prompt or None
        if self.use == "generate":
            recipe["negative_prompt"] = self.negative_prompt or None
        if self.use in ("animate", "extend"):
            recipe["prompt_weight"] = self.prompt_weight
        if self.use != "generate":
            recipe["fit"] = self.fit
        recipe["seed"] = self.seed
        for name in ("num_frames", "fps", "size", "num_inference_steps", "guidance_scale", "motion", "loop"):
            recipe[name] = getattr(settings, name)
        recipe |= {"model": model, "weights": weights}
        if self.inputs:
            recipe["studio"] = {name: asdict(source) for name, source in self.inputs.items()}
        return recipe


def typed(name: str, value: Any) -> Any:
    """A setting that somebody wrote, as the type that it has in `Request`.

    Raises:
        UserError: it is of another type.
    """
    kind = _SETTINGS[name]
    if name == "size":
        if type(value) not in (int, float, str, list):
            raise UserError(f"size is {str(value)[:40]!r}: give a number, or a shape such as 256x144.")
        size = read_size(int(value) if type(value) is float and value.is_integer() else value)
        return size if isinstance(size, int) else size.written
    if kind is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    if kind is int and type(value) is float and value.is_integer() and abs(value) < 2**53:
        return int(value)  # JSON knows one kind of number
    if type(value) is not kind:
        raise UserError(f"{name} is {str(value)[:40]!r}: give {_KINDS[kind]}.")
    return value


def from_recipe(recipe: dict[str, Any] | None, uploads: Uploads) -> tuple[Request, list[str]]:
    """The request that makes a file again, and the names of its inputs that are not in this studio.

    A recipe comes from a file that anybody may have written: nothing in it is believed.

    Raises:
        UserError: there is no recipe, or none that this page could follow.
    """
    if not isinstance(recipe, dict) or recipe.get("use") not in USES:
        raise UserError("This file carries no settings of a video: choose one that was made here and not changed.")
    use = recipe["use"]
    request = Request(use, 0)
    if use == "generate" and isinstance(recipe.get("prompt"), list):
        request = replace(request, prompt=_story_of(recipe["prompt"]))
        recipe = {**recipe, "prompt": None}
    for name in _SETTINGS:
        value = recipe.get(name)
        if value is None:
            continue
        try:
            changed: dict[str, Any] = {name: typed(name, value)}
        except UserError:
            raise UserError(f"The settings in this file are damaged ({name}): choose another file.") from None
        request = replace(request, **changed)
    inputs, missing = {}, []
    studio = recipe.get("studio")
    studio = studio if isinstance(studio, dict) else {}
    for name in INPUTS[use]:
        kept = studio.get(name)
        fields = ("where", "name", "shown")
        if isinstance(kept, dict) and all(isinstance(kept.get(one), str) for one in fields):
            source = Source(*(kept[one] for one in fields))
            if source.where in ("upload", "gallery") and uploads.has(source):
                inputs[name] = source
                continue
        missing.append(str(recipe.get(name) or name)[:80])
    request = replace(request, inputs=inputs)
    # what is missing can still be uploaded; all else must be possible
    stand_in = Source("upload", "", "")
    replace(request, inputs=dict.fromkeys(INPUTS[use], stand_in)).checked()
    return request, missing


def _story_of(parts: list[Any]) -> Story:
    """The story of a recipe, as `Request` has it."""
    story = []
    for part in parts:
        text: Any = None
        seconds: Any = None
        if isinstance(part, list) and len(part) == 2:
            text, seconds = part
        if not isinstance(text, str) or type(seconds) not in (int, float) or not abs(seconds) < 2**53:
            raise UserError("The settings in this file are damaged (prompt): choose another file.")
        story.append((text, float(seconds)))
    return tuple(story)


def one_line(prompt: Any) -> str:
    """The prompt of a recipe, in which anything may stand, for a title; "" where it has none."""
    if isinstance(prompt, str):
        return prompt
    parts = prompt if isinstance(prompt, list | tuple) else []
    texts = (part[0] for part in parts if isinstance(part, list | tuple) and part)
    return ", then ".join(text for text in texts if isinstance(text, str))


def as_written(request: Request) -> Request:
    """The request, its prompt read as people write it: several lines are a story, "| 3 s" at the end is their length.

    A line that does not say its length has that of the request.
    """
    if request.use != "generate" or not math.isfinite(request.fps) or not request.fps > 0:
        return request  # `checked` will say what is wrong
    parts = []
    for line in filter(None, map(str.strip, request.sentence.splitlines())):
        timed = _TIMED.fullmatch(line)
        parts.append((timed[1].strip(), float(timed[2])) if timed else (line, request.seconds))
    if len(parts) > 1:
        return replace(request, prompt=tuple(parts))
    if parts and parts[0][1] != request.seconds:
        request = replace(request, num_frames=max(1, round(parts[0][1] * request.fps)))
    return replace(request, prompt=parts[0][0] if parts else "")


def written(request: Request) -> str:
    """The prompt as `as_written` reads it back."""
    parts = request.story
    if not parts:
        plain = " ".join(request.sentence.splitlines())
        if not _TIMED.fullmatch(plain):
            return plain
        parts = ((plain, request.seconds),)
    lines = (" ".join(text.splitlines()) for text, _ in parts)
    times = (repr(seconds).removesuffix(".0") for _, seconds in parts)
    return "\n".join(f"{line} | {time} s" for line, time in zip(lines, times, strict=True))
