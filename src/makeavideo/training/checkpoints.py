"""The state of a run on disk, and the average of its weights: whole or not at all, so that resuming is exact."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from diffusers.training_utils import EMAModel
from torch import nn

from ..errors import UserError
from .networks import why, written_whole
from .recipe import Recipe
from .saved_state import Damaged, on_disk, read_state, write_state
from .stages import Stage
from .stages.base import Companion

CONTENTS = "checkpoint.json"
"""Names the files of a checkpoint with the SHA-256 of each."""


class Averaged:
    """Exponential moving average of the trained weights; `with average:` the network has them."""

    def __init__(self, network: nn.Module, decay: float):
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.ema = EMAModel(self.parameters, decay=decay, use_ema_warmup=True, power=0.75, foreach=True)

    def update(self) -> None:
        """After every step."""
        self.ema.step(self.parameters)

    def __enter__(self) -> None:
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)

    def __exit__(self, *_: object) -> None:
        self.ema.restore(self.parameters)


@dataclass
class Kept:
    """What a checkpoint holds. All else, the random numbers too, follows from the recipe and the step."""

    network: nn.Module
    optimizer: Any
    schedule: Any
    average: Averaged
    companions: list[Companion]
    scaler: Any = None
    newest: int = 2
    """Checkpoints that are kept."""

    def parts(self) -> dict[str, Any]:
        """Name of each part -> its state."""
        ema = self.average.ema
        parts = {
            "model": learning(self.network),
            "optimizer": self.optimizer.state_dict(),
            "average": {"optimization_step": ema.optimization_step, "shadow_params": ema.shadow_params},
        }
        parts |= {f"companion-{place}": one.state_dict() for place, one in enumerate(self.companions)}
        return parts | ({"scaler": self.scaler.state_dict()} if self.scaler is not None else {})

    def restore(self, parts: dict[str, Any], step: int) -> None:
        """Take over the state of `step`; for learning rate, decay and the like the present recipe holds.

        Raises:
            Damaged: it is of another network, optimiser or stage.
        """
        for name in self.parts().keys() - parts.keys() - {"scaler"}:
            raise Damaged(f"the part {name} is missing")
        self.check(parts)
        try:
            self.network.load_state_dict(parts["model"], strict=False)  # `check` has seen that it is whole
            own = self.optimizer.state_dict()
            self.optimizer.load_state_dict({**own, "state": parts["optimizer"]["state"]})
            for place, companion in enumerate(self.companions):
                companion.load_state_dict(parts[f"companion-{place}"])
            if self.scaler is not None and parts.get("scaler"):
                self.scaler.load_state_dict(parts["scaler"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise Damaged("it is of another network or another recipe") from error
        ema, shadows = self.average.ema, parts["average"]["shadow_params"]
        ema.optimization_step = parts["average"]["optimization_step"]
        ema.shadow_params = [new.to(old.device, old.dtype) for new, old in zip(shadows, ema.shadow_params, strict=True)]
        self.set_schedule(step)

    def check(self, parts: dict[str, Any]) -> None:
        """Damaged, if the tensors of weights, optimiser and average are not those of this run."""
        own, shapes = learning(self.network), lambda tensors: [tuple(tensor.shape) for tensor in tensors]
        try:
            model, optimizer, average = (parts[name] for name in ("model", "optimizer", "average"))
            groups = [len(group["params"]) for group in optimizer["param_groups"]]
            fits = model.keys() == own.keys() and all(model[key].shape == own[key].shape for key in own)
            fits &= shapes(average["shadow_params"]) == shapes(self.average.parameters)
            fits &= type(average["optimization_step"]) is int and fits_optimizer(self.optimizer, groups, optimizer)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise Damaged("it holds something else than the state of a run") from error
        if not fits:
            raise Damaged("it is of another network or another recipe")

    def set_schedule(self, step: int) -> None:
        """The learning rates of this step: the schedule is a function of it."""
        schedule = self.schedule.scheduler
        schedule.last_epoch, schedule._step_count = step, step + 1
        rates = zip(self.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True)
        for group, base, factor in rates:
            group["lr"] = base * factor(step)
        schedule._last_lr = [group["lr"] for group in self.optimizer.param_groups]


def learning(network: nn.Module) -> dict[str, Any]:
    """The state of a network without the weights that stay as they are: those are in the network it began with."""
    frozen = {name for name, weight in network.named_parameters() if not weight.requires_grad}
    return {name: value for name, value in network.state_dict().items() if name not in frozen}


def fits_optimizer(optimizer: Any, groups: list[int], saved: dict) -> bool:
    """Whether a state is one of this optimiser: the same groups, and of each weight what its kind keeps."""
    if groups != [len(group["params"]) for group in optimizer.param_groups]:
        return False
    rules = [group for group in optimizer.param_groups for _ in group["params"]]
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for place, state in saved["state"].items():
        if "state1" in state:  # bitsandbytes packs them in its own way
            continue
        names = {"momentum"} if rules[place].get("muon") else {"exp_avg", "exp_avg_sq"}
        if state.keys() != names | {"step"} or any(state[name].shape != weights[place].shape for name in names):
            return False
    return True


def checkpoints(output: Path) -> list[Path]:
    """Whole checkpoints, oldest first (a half-written one has another name)."""
    found = (output / "checkpoints").glob("step-*")
    return sorted((f for f in found if f.name.removeprefix("step-").isdecimal() and f.is_dir()), key=step_of)


def step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def save_checkpoint(accelerator: Accelerator, output: Path, kept: Kept, step: int) -> None:
    """Write under a temporary name, rename when whole, then drop all but the newest ones.

    The first process writes: all have the same weights. OSError, in all of them: it could not be written, and those
    before it are as they were.
    """
    problem: list[str | None] = [None]
    if accelerator.is_main_process:
        try:
            write_checkpoint(output, kept, step)
        except OSError as error:
            remove_partial(output)
            problem = [why(error)]
    if accelerator.num_processes > 1:
        broadcast_object_list(problem)
    if problem[0] is not None:
        raise OSError(problem[0])


def write_checkpoint(output: Path, kept: Kept, step: int) -> None:
    final = output / "checkpoints" / f"step-{step:08d}"
    partial = final.with_name(f"partial-{step:08d}")
    remove_partial(output)
    partial.mkdir(parents=True)
    parts = {name: write_state(state, partial / f"{name}.safetensors") for name, state in kept.parts().items()}
    (partial / CONTENTS).write_text(json.dumps({"format": 1, "parts": parts}, indent=1))
    on_disk(partial / CONTENTS)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(partial, final)
    for old in checkpoints(output)[: -kept.newest]:
        shutil.rmtree(old)


def remove_partial(output: Path) -> None:
    """What a killed run had begun to write."""
    for pattern in ("checkpoints/partial-*", "*.partial", "samples/*.partial"):
        for half in output.glob(pattern):
            if half.is_dir():
                shutil.rmtree(half, ignore_errors=True)
            else:
                half.unlink(missing_ok=True)


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A temporary name to write to: it takes the place of `file` when whole, and is removed otherwise."""
    partial = file.with_name(f"{file.name}.partial")
    try:
        yield partial
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(accelerator: Accelerator, output: Path, kept: Kept) -> tuple[int, list[str]]:
    """Restore the newest checkpoint that is whole; (its step, a sentence about each newer one, which is set aside).

    Raises:
        UserError: there are checkpoints, and none of them can be used.
    """
    problems: list[str] = []
    found = checkpoints(output)[::-1]
    for folder in found:
        try:
            kept.restore(read_parts(folder), step_of(folder))
        except Damaged as damage:
            what = str(damage) if str(folder) in str(damage) else f"{folder} cannot be used: {damage}"
            problems.append(what)
            continue
        accelerator.wait_for_everyone()  # all have read before one of them renames
        if accelerator.is_main_process:
            for other in found[: len(problems)]:
                aside = other.with_name(f"damaged-{other.name}")
                shutil.rmtree(aside, ignore_errors=True)
                os.replace(other, aside)
        return step_of(folder), [f"{problem}; going on from {folder.name}." for problem in problems]
    raise UserError(f"{problems[0]}, and there is no other checkpoint to go on from: begin again with another output.")


def read_parts(folder: Path) -> dict[str, Any]:
    """The parts of a checkpoint, whole as they were written; Damaged otherwise."""
    file = folder / CONTENTS
    try:
        parts = json.loads(file.read_text("utf-8"))["parts"]
        named = {name: str(parts[name]) for name in parts if re.fullmatch(r"[a-z]+(-\d+)?", name)}
    except OSError:
        raise Damaged(f"{file} is missing or cannot be read") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Damaged(f"{file} is damaged") from None
    return {name: read_state(folder / f"{name}.safetensors", digest) for name, digest in named.items()}


def keep_recipe(recipe: Recipe, output: Path) -> None:
    """The recipe beside its run, whole or not at all; UserError if the folder cannot be written."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with replacing(output / "recipe.yaml") as partial:
            partial.write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    except OSError as error:
        raise UserError(
            f"{output} cannot be written ({why(error)}): free some space or choose another output."
        ) from None


def export(stage: Stage, average: Averaged, output: Path) -> None:
    """The averaged weights in half precision, in `<output>/final`, written whole or not at all.

    Raises:
        UserError: they cannot be written; an export of before is as it was.
    """
    average.ema.copy_to(average.parameters)
    with written_whole(output / "final", "free some space and --resume") as partial:
        stage.export(partial)
