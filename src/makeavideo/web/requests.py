"""What a person asks for: one of the five uses with its settings, to and from the recipe that a file carries."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..errors import UserError
from .uploads import Kind, Source, Uploads

__all__ = ["INPUTS", "USES", "Request", "from_recipe"]

USES = ("generate", "animate", "interpolate", "vary", "extend")

INPUTS: dict[str, dict[str, Kind]] = {
    "generate": {},
    "animate": {"image": "picture"},
    "interpolate": {"first": "picture", "last": "picture"},
    "vary": {"video": "video"},
    "extend": {"video": "video"},
}
"""Use -> name of the input in recipes -> what it is."""

MAX_PROMPT = 500
MAX_SECONDS = 30.0
MAX_NEW_FRAMES = 720
MAX_STEPS = 100
"""Bounds of one job, because all wait for it."""


@dataclass(frozen=True)
class Request:
    """A video that somebody wants; `options` and `call` are what the pipeline gets.

    fps: None: the video's own, only for `extend`.
    size: pixels a side; None: the largest.
    """

    use: str
    seed: int
    inputs: dict[str, Source] = field(default_factory=dict)
    prompt: str = ""
    negative_prompt: str = ""
    prompt_weight: float = 0.3
    fit: str = "crop"
    num_frames: int = 76
    fps: float = 24.0
    size: int | None = None
    num_inference_steps: int = 16
    guidance_scale: float = 2.0
    loop: bool = False

    @property
    def label(self) -> str:
        """A few words for the name of the file."""
        return self.prompt or f"{self.use} {' '.join(os.path.splitext(one.shown)[0] for one in self.inputs.values())}"

    def checked(self) -> Request:
        """The request itself, if it is possible.

        Raises:
            UserError: one sentence about what is not.
        """
        if self.use == "generate" and not self.prompt.strip():
            raise UserError("The prompt is empty: say in a few words what the video should show.")
        for text in (self.prompt, self.negative_prompt):
            if len(text) > MAX_PROMPT:
                raise UserError(f"The prompt has {len(text)} characters: use at most {MAX_PROMPT}.")
        for name, kind in INPUTS[self.use].items():
            if name not in self.inputs:
                which = f"{name} {kind}" if name in ("first", "last") else kind
                raise UserError(f"The {which} is missing: upload one, or take one from the gallery.")
        if not (math.isfinite(self.fps) and 1 <= self.fps <= 60):
            raise UserError("The frame rate must lie between 1 and 60 frames a second.")
        if not 1 <= self.num_frames <= MAX_NEW_FRAMES:
            raise UserError(f"The length is {self.num_frames} frames: choose 1 to {MAX_NEW_FRAMES}.")
        if not 1 <= self.num_inference_steps <= MAX_STEPS:
            raise UserError(f"The steps must lie between 1 and {MAX_STEPS}.")
        if not 1 <= self.guidance_scale <= 20:
            raise UserError("The guidance must lie between 1 and 20.")
        if not 0 <= self.prompt_weight <= 1:
            raise UserError("The weight of the words must lie between 0 and 1.")
        if self.fit not in ("crop", "pad"):
            raise UserError("Pictures that are not square can be cut (crop) or padded (pad).")
        if not 0 <= self.seed < 2**63:
            raise UserError("The seed must be a whole number from 0 on.")
        return self

    def options(self) -> dict[str, Any]:
        """For the pipeline, without the generator."""
        names = ("num_frames", "fps", "num_inference_steps", "guidance_scale", "loop")
        options = {name: getattr(self, name) for name in names}
        return options if self.size is None else {**options, "size": self.size}

    def call(self, pipe: Any, uploads: Uploads, **options: Any) -> Any:
        paths = [uploads.path(self.inputs[name]) for name in INPUTS[self.use]]
        words = (self.prompt.strip() or None, self.prompt_weight)
        if self.use == "generate":
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
        for name in ("num_frames", "fps", "size", "num_inference_steps", "guidance_scale", "loop"):
            recipe[name] = getattr(settings, name)
        recipe |= {"model": model, "weights": weights}
        if self.inputs:
            recipe["studio"] = {name: asdict(source) for name, source in self.inputs.items()}
        return recipe


def from_recipe(recipe: dict[str, Any] | None, uploads: Uploads) -> tuple[Request, list[str]]:
    """The request that makes a file again, and the names of its inputs that are not in this studio.

    A recipe comes from a file that anybody may have written: nothing in it is believed.

    Raises:
        UserError: there is no recipe, or none that this page could follow.
    """
    if not isinstance(recipe, dict) or recipe.get("use") not in USES:
        raise UserError("This file carries no settings of a video: choose one that was made here and not changed.")
    use = recipe["use"]
    if not isinstance(recipe.get("prompt") or "", str):
        raise UserError("This file tells a story of several prompts: make it again on the command line.")
    request = Request(use, 0)
    for name, kind in (
        ("seed", int),
        ("prompt", str),
        ("negative_prompt", str),
        ("prompt_weight", float),
        ("fit", str),
        ("num_frames", int),
        ("fps", float),
        ("size", int),
        ("num_inference_steps", int),
        ("guidance_scale", float),
        ("loop", bool),
    ):
        value = recipe.get(name)
        if value is None:
            continue
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise UserError(f"The settings in this file are damaged ({name}): choose another file.")
        request = replace(request, **{name: value})
    inputs, missing = {}, []
    studio = recipe.get("studio") if isinstance(recipe.get("studio"), dict) else {}
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
