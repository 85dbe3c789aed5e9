"""One training loop for every stage; `Run` has its parts.

A checkpoint holds only weights, optimiser and average: all else of step k follows from the recipe and k
(`batches`), so resuming is exact.
"""

from pathlib import Path
from typing import Literal

import torch

from ..errors import UserError
from .checkpoints import checkpoints, step_of
from .progress import RunBar, Watch
from .recipe import Recipe, load_recipe
from .run import Run


class Stopped(UserError):
    """Ctrl-C was pressed; the run has a checkpoint of its last step."""


def train(recipe: Recipe, resume: bool = False, watch: Watch | None = None) -> Path:
    """Train one stage to its end and export it.

    Args:
        recipe: a checked recipe.
        resume: continue from the newest whole checkpoint in `recipe.output` (from the start if there is none).
        watch: shows the progress; None: a bar.

    Returns:
        The folder with the exported network, `<output>/final`.

    Raises:
        UserError: the output folder holds another run and `resume` is off, the data cannot be read, a network that the
            stage starts from is missing, the run was begun with other weights to train or is past the recipe's steps,
            or the loss is no longer a number. Stopped: Ctrl-C or SIGTERM, after the step in hand and a checkpoint.
    """
    check_output(recipe, resume)
    if recipe.mixed_precision == "auto":
        precision: Literal["bf16", "no"] = "bf16" if computes_in_bf16() else "no"
        recipe = recipe.model_copy(update={"mixed_precision": precision})
    run = Run(recipe, watch or RunBar())
    run.start(resume)
    with run.watched():
        if run.samples_lack():
            run.samples()
        for micro_step, batch in run.batches():
            if not run.learn(micro_step, batch):
                continue  # gradients of more batches belong to this step
            due, stop = run.due()
            log = run.step % recipe.log_every == 0
            if log or due:
                run.refuse_nonsense()
            if log:
                run.log()
            written = run.checkpoint() if due else False
            if stop and run.step < recipe.steps:
                run.end()
                if not written:
                    raise Stopped(f"Stopped at step {run.step} of {recipe.steps}, without a checkpoint of it.")
                raise Stopped(f"Stopped at step {run.step} of {recipe.steps}: add --resume to go on.")
            if run.samples_due():
                run.samples()
        run.tell_skipped(again=True)
    return run.finish()


def computes_in_bf16() -> bool:
    """Whether the device that is trained on has bf16 instructions: without them bf16 is several times slower."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def check_output(recipe: Recipe, resume: bool) -> None:
    """Refuse to overwrite a run, or to go on with other weights or past its end, before anything is loaded."""
    output = Path(recipe.output)
    written = checkpoints(output)
    if written and not resume:
        raise UserError(f"{output} already holds a run: add --resume to continue it, or choose another output.")
    if written:
        if step_of(written[-1]) > recipe.steps:
            raise UserError(
                f"{written[-1]} is past the {recipe.steps} steps asked for: ask for more, or another output."
            )
        begun = load_recipe(output / "recipe.yaml")
        for key in ("temporal", "train"):  # they decide which weights there are, and which the optimiser knows
            before, now = (getattr(r, key) or "none" for r in (begun, recipe))
            if before != now:
                raise UserError(f"{output} was begun with {key} {before}, not {now}: keep it or choose another output.")
    if recipe.mixed_precision == "fp16" and not torch.cuda.is_available():
        raise UserError("mixed_precision fp16 needs a GPU: use auto, bf16 or no.")
