"""How much work a video is and how much of it is done: what the command line and the page show while it is made."""

import time
from typing import Any, Protocol

from torch import Tensor

from .cascade import Cascade
from .figures import KEY_FRAMES
from .pipeline import MakeAVideoPipeline
from .settings import Settings
from .timeline import frame_skip

__all__ = ["WatchedPipeline", "Watcher", "Work"]

STAGES = {
    "prior": "Understanding the words",
    "still": "Choosing a picture",
    "decoder": "Making a small clip",
    "extrapolate": "Going on",
    "interpolator": "Making it move smoothly",
    "super_resolution_low": "Adding detail",
    "super_resolution_high": "Making it large",
}
"""What the stages that the pipeline tells of are called before people."""
COST = {
    "still": 0.10,
    "decoder": 0.085,
    "extrapolate": 0.085,
    "interpolator": 0.052,
    "super_resolution_low": 0.13,
    "super_resolution_high": 0.41,
}
"""Seconds that a frame takes for a step of the pipeline, relative to each other; the clock does the rest.

Measured as the processor's time between two calls of a `Watcher`, with the included weights, float32, one thread,
guidance 2: 20 frames at 4 a second, 64 -> 256 -> 768 pixels, 8 steps. No SR_l_t that diffuses is included; its number
is that of an earlier one.
"""
COST_AT_ONCE = {"super_resolution_low": 0.04, "super_resolution_high": 0.2}
"""The same for super-resolution networks that take one step (`SuperResolver`); no such SR_h is included."""
DECODER_STAGES = ("still", "decoder", "extrapolate")
"""What D_t does; with guidance it runs twice a step."""


class Watcher(Protocol):
    """Whoever wants to know how far a video is."""

    def on_stage(self, stage: str) -> None:
        """A stage begins."""

    def on_step(self, stage: str, step: int, sample: Tensor) -> None:
        """A step of it is done, on this sample (b, f, ...)."""


class WatchedPipeline(MakeAVideoPipeline):
    """The pipeline, which tells `watcher` how far it is.

    Not by `callback_on_step_end`: that tells of no beginning, and whoever asks meanwhile what is possible
    (`settings`) would take it away.
    """

    watcher: Watcher | None = None

    def stage_bar(self, stage: str, total: int):
        if self.watcher is not None:
            self.watcher.on_stage(stage)
        return super().stage_bar(stage, total)

    def notify(self, stage: str, step: int, timestep: Any, latents: Tensor, sample: Tensor) -> Tensor | None:
        if self.watcher is not None:
            self.watcher.on_step(stage, step, sample)
        return super().notify(stage, step, timestep, latents, sample)


class Work:
    """What is done of a video and what is left, from what `WatchedPipeline` tells.

    Args:
        use: generate, animate, interpolate, vary or extend.
        settings: the pipeline's, with the length settled.
        model: that does it.
        parts: of a story.
    """

    def __init__(self, use: str, settings: Settings, model: Cascade, parts: int = 1):
        self.settings, self.model = settings, model
        self.total, self.done, self.stage = amount_of_work(use, settings, model, parts), 0.0, ""
        self.started = time.monotonic()

    def begin(self, stage: str) -> None:
        """A stage begins; `stage` is what it is called before people."""
        self.stage = STAGES[stage]

    def step(self, stage: str, sample: Tensor) -> None:
        """A step of a stage is done, on this sample (b, f, ...)."""
        if stage in COST:
            self.done += sample.shape[0] * sample.shape[1] * cost(stage, self.settings, self.model)

    @property
    def share(self) -> float:
        """What is done of all, 0 to 0.99: the whole is an estimate, and the file is not closed yet."""
        return min(0.99, self.done / self.total)

    @property
    def seconds_left(self) -> float | None:
        """None as long as too little is done to tell."""
        passed = time.monotonic() - self.started
        return passed * (1 - self.share) / self.share if self.share > 0.02 else None


def cost(stage: str, s: Settings, model: Cascade) -> float:
    """Of what the pipeline calls a step, for one frame."""
    if stage in model.at_once:
        return COST_AT_ONCE[stage]
    if stage in DECODER_STAGES and s.guidance_scale == model.decoder.config.guidance:  # no second evaluation
        return COST[stage] / 2
    if stage == "super_resolution_high":  # it tells of all steps at once
        return COST[stage] * s.super_resolution_steps[1]
    return COST[stage]


def amount_of_work(use: str, s: Settings, model: Cascade, parts: int = 1) -> float:
    """How much there is to do, in the units of COST; right to some per cent, for the progress bar.

    model, parts: as in `Work`.
    """
    how = model.sampling
    skip = frame_skip(s.num_frames, s.fps)
    keys = -(-s.num_frames // skip) + 1
    first = min(keys, KEY_FRAMES * parts) if use in ("generate", "vary") else 1
    decode = s.num_inference_steps * cost("decoder", s, model)
    grow = how.grow_strength_at(s.fps / skip, s.motion) * decode
    mend = cost("interpolator", s, model) + how.refine_strength * decode
    window = KEY_FRAMES * (grow if model.decoder.config.known_frames else mend)
    work = 0.0
    if use in ("generate", "vary"):
        work += parts * how.still_candidates * decode + first * grow
    if keys > first + 1:
        windows = -(-(keys - first) // (KEY_FRAMES - how.context))
        work += windows * window
    work += (parts - 1) * window
    if skip > 1:
        stretches = -(-s.num_frames // (KEY_FRAMES - 1))
        work += stretches * KEY_FRAMES * cost("interpolator", s, model)
    if s.stage > 0:
        low = "super_resolution_low"
        steps = 1 if low in model.at_once else how.super_resolution_steps or s.super_resolution_steps[0]
        shared = how.super_resolution_overlap / how.super_resolution_frames
        work += (1 + shared) * s.num_frames * steps * cost(low, s, model)
    if s.stage > 1:
        work += s.num_frames * cost("super_resolution_high", s, model)
    return max(work, 0.01)
