"""How a stage of the cascade is run, and what whoever watches a pipeline is told of it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor

from .arguments import check_tensor
from .decoding import Start
from .errors import UserError
from .figures import CALLBACK_TENSORS
from .nesting import SHORT
from .sampling import OnStep, sample, steps_of


class SteppedPipeline(DiffusionPipeline):
    """A pipeline of several stages with a bar each, and diffusers' callback after every step of every stage."""

    config: Any  # a FrozenDict, whose entries are attributes too
    _callback: Callable | None = None
    _callback_gets: Sequence[str] = ("latents",)
    _callback_tensor_inputs = CALLBACK_TENSORS
    _interrupt = False
    _stage = ""
    _num_timesteps = 0
    _guidance_scale = 1.0

    @property
    def stage(self) -> str:
        """What is being run: prior, still, decoder, extrapolate, interpolator, super_resolution_low or _high."""
        return self._stage

    @property
    def num_timesteps(self) -> int:
        """Steps of this stage."""
        return self._num_timesteps

    @property
    def guidance_scale(self) -> float:
        """D_t's; a callback may change `_guidance_scale` until the stage ends."""
        return self._guidance_scale

    @property
    def interrupt(self) -> bool:
        """Whether `_interrupt` was set, which ends a video early."""
        return self._interrupt

    def run(
        self,
        stage: str,
        predict: Callable[[Tensor, Tensor], Tensor],
        noise: Tensor,
        scheduler: Any,
        steps: int,
        start: Start | None = None,
        shown: Callable[[Tensor], Tensor] = lambda x_hat: x_hat,
        levels: Sequence[float] | None = None,
    ) -> Tensor:
        """One stage of the cascade from noise to sample (`sampling.sample`), with progress bar and callback.

        start: what to begin with; its mask is up to `predict`.
        shown: what the callback is shown of a prediction.
        levels: as in `sampling.sample`.

        Raises:
            UserError: as `numbers`.
        """
        begin: dict[str, Any] = {} if start is None else {"start": start.frames, "strength": start.strength}
        total = steps if start is None else steps_of(steps, start.strength)
        with self.steps_shown(stage, total, shown) as on_step:
            made = sample(predict, noise, scheduler, steps, on_step, levels=levels, **begin)
        return self.numbers(made, "decoder" if stage in ("still", "extrapolate") else stage)

    def numbers(self, made: Tensor, what: str) -> Tensor:
        """What a part of the model made, if it is numbers: what is none would be shown as black.

        Raises:
            UserError: NaN or infinite ones, of damaged weights, or of a precision that is too small for them.
        """
        if made.isfinite().all():
            return made
        part = getattr(getattr(self, what, None), "config", None)  # a component knows its own folder
        place = getattr(part, "_name_or_path", None) or self.config.get("_name_or_path") or "this model"
        raise UserError(
            f"The {what} of {place} makes what is no number (NaN or infinite): load it with dtype float32, or, where "
            "that changes nothing, download it again."
        )

    @contextmanager
    def steps_shown(self, stage: str, total: int, shown: Callable[[Tensor], Tensor] = lambda x: x) -> Iterator[OnStep]:
        """A progress bar of a stage; what it gives is told of every step, and tells the callback."""
        self._stage, self._num_timesteps = stage, total
        with self.stage_bar(stage, total) as bar:

            def on_step(step: int, timestep: Tensor, x_t: Tensor, x_hat: Tensor) -> Tensor | None:
                bar.update()
                return self.notify(stage, step, timestep, x_t, shown(x_hat))

            yield on_step

    def stage_bar(self, stage: str, total: int) -> Any:
        """diffusers' bar, which bears the stage's name."""
        self.set_progress_bar_config(**{**getattr(self, "_progress_bar_config", {}), "desc": stage.replace("_", " ")})
        pipeline: Any = self  # a decorator of torch hides the method's type
        return pipeline.progress_bar(total=total)

    def notify(self, stage: str, step: int, timestep: Any, latents: Tensor, sample: Tensor) -> Tensor | None:
        """The callback's due, after a step of a stage; the latents to go on from, or None to stop.

        Raises:
            UserError: the callback gives what is no dict, or latents of another shape, or that are no numbers.
        """
        if self._callback is not None:
            tensors = {"latents": latents, "sample": sample}
            given = {name: tensors[name] for name in self._callback_gets}
            answer = self._callback(self, step, timestep, given)
            if not isinstance(answer, dict | None):
                raise UserError(f"callback_on_step_end gave {SHORT.repr(answer)}: return a dict, or None.")
            changed = (answer or {}).get("latents")
            check_tensor("What callback_on_step_end gave as latents", changed)
            if changed is not None and changed.shape != latents.shape:
                shapes = f"{tuple(changed.shape)}: return {tuple(latents.shape)}"
                raise UserError(f"What callback_on_step_end gave as latents has the shape {shapes}.")
            latents = latents if changed is None else changed.to(latents)
        return None if self._interrupt else latents
