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

import torch
import yaml
from diffusers.training_utils import EMAModel
from torch import nn

from ..errors import UserError
from .networks import why, written_whole
from .processes import gathered_objects, handed_on, told_by
from .processes import place as place_of_process
from .recipe import Recipe
from .saved_state import Damaged, on_disk, read_state, write_state
from .sharded import divided, own_part, put_back, whole
from .stages import Stage
from .stages.base import Companion

CONTENTS = "checkpoint.json"
EIGHT_BITS = "__bnb_optimizer_quant_state__"
"""What bitsandbytes calls a weight's state, in eight bits or, of small ones, in 32."""
"""Names the files of a checkpoint with the SHA-256 of each."""


class Averaged:
    """Exponential moving average of the trained weights; `with average:` the network has them.

    Attributes:
        weights: those that learn; parameters: what this process has of them.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.weights = [p for p in network.parameters() if p.requires_grad]
        self.parameters: list[Any] = [own_part(weight) for weight in self.weights]
        self.ema = EMAModel(self.parameters, decay=decay, use_ema_warmup=True, power=0.75, foreach=True)

    def update(self) -> None:
        """After every step."""
        self.ema.step(self.parameters)

    def state(self) -> dict[str, Any]:
        shadows = put_back(self.ema.shadow_params, self.weights)
        return {"optimization_step": self.ema.optimization_step, "shadow_params": shadows}

    def restore(self, state: dict[str, Any]) -> None:
        """What `state` gave, its tensors whole."""
        self.ema.optimization_step = state["optimization_step"]
        news = (own_part(divided(*both)) for both in zip(state["shadow_params"], self.weights, strict=True))
        pairs = zip(news, self.ema.shadow_params, strict=True)
        self.ema.shadow_params = [new.detach().to(old.device, old.dtype) for new, old in pairs]

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

    def parts(self, keep: bool = True) -> dict[str, Any]:
        """Name of each part -> its state, whole. All processes must ask; keep: this one wants them."""
        parts = {
            "model": whole(learning(self.network), keep),
            "optimizer": whole(self.optimizer.state_dict(), keep),
            "average": whole(self.average.state(), keep),
        }
        states = (one.state_dict() for one in self.companions)
        parts |= dict(zip(self.companion_names(), states, strict=True))
        return parts | ({"scaler": self.scaler.state_dict()} if self.scaler is not None else {})

    def companion_names(self) -> list[str]:
        return [f"companion-{number}" for number in range(len(self.companions))]

    def restore(self, parts: dict[str, Any], step: int) -> None:
        """Take over the state of `step`; for learning rate, decay and the like the present recipe holds.

        Raises:
            Damaged: it is of another network, optimiser or stage.
        """
        for name in {"model", "optimizer", "average", *self.companion_names()} - parts.keys():
            raise Damaged(f"the part {name} is missing")
        self.check(parts, step)
        try:
            own = learning(self.network)
            model = {name: divided(value, own[name]) for name, value in parts["model"].items()}
            self.network.load_state_dict(model, strict=False)  # `check` has seen that it is whole
            self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": self.divided_state(parts)})
            for name, companion in zip(self.companion_names(), self.companions, strict=True):
                companion.load_state_dict(parts[name])
            if self.scaler is not None and parts.get("scaler"):
                self.scaler.load_state_dict(parts["scaler"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise Damaged("it is of another network or another recipe") from error
        self.average.restore(parts["average"])
        self.set_schedule(step)

    def divided_state(self, parts: dict[str, Any]) -> dict:
        """The optimiser's state of each weight, as this process has the weight."""
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        states = parts["optimizer"]["state"].items()
        return {
            number: {key: divided(value, weights[number]) for key, value in state.items()} for number, state in states
        }

    def check(self, parts: dict[str, Any], step: int) -> None:
        """Damaged, if the tensors of weights, optimiser and average are not those of this run and step."""
        own = learning(self.network)
        try:
            model, optimizer, average = (parts[name] for name in ("model", "optimizer", "average"))
            groups = [len(group["params"]) for group in optimizer["param_groups"]]
            fits = model.keys() == own.keys() and [kind(model[key]) for key in own] == list(map(kind, own.values()))
            fits &= list(map(kind, average["shadow_params"])) == list(map(kind, self.average.weights))
            fits &= type(average["optimization_step"]) is int and average["optimization_step"] == step
            fits &= fits_optimizer(self.optimizer, groups, optimizer)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
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


def kind(tensor: torch.Tensor) -> tuple[torch.Size, torch.dtype]:
    """In what a saved tensor has to be like the one whose place it takes: others would be cast without a word."""
    return tensor.shape, tensor.dtype


def fits_optimizer(optimizer: Any, groups: list[int], saved: dict) -> bool:
    """Whether a state is one of this optimiser: the same groups, and of each weight what its kind keeps."""
    if groups != [len(group["params"]) for group in optimizer.param_groups]:
        return False
    rules = [group for group in optimizer.param_groups for _ in group["params"]]
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for number, state in saved["state"].items():
        if EIGHT_BITS in state:  # bitsandbytes packs them in its own way
            if state.keys() != {"step", EIGHT_BITS}:
                return False
            continue
        names = {"momentum"} if rules[number].get("muon") else {"exp_avg", "exp_avg_sq"}
        if state.keys() != names | {"step"} or not 0 <= state["step"].item() < float("inf"):
            return False
        if state["step"].shape or any(kind(state[name]) != kind(weights[number]) for name in names):
            return False
        if "exp_avg_sq" in state and (state["exp_avg_sq"] < 0).any():  # the mean of squares
            return False
    return True


def checkpoints(output: Path) -> list[Path]:
    """Whole checkpoints, oldest first (a half-written one has another name)."""
    found = (output / "checkpoints").glob("step-*")
    return sorted((f for f in found if re.fullmatch(r"step-\d{8,}", f.name, re.ASCII) and f.is_dir()), key=step_of)


def step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def save_checkpoint(output: Path, kept: Kept, step: int, writes: bool) -> None:
    """Write under a temporary name, rename when whole, then drop all but the newest ones. All processes must ask.

    writes: this process does; all have the same weights. OSError, in all of them: it could not be written, and those
    before it are as they were.
    """
    parts, problem = kept.parts(writes), None
    if writes:
        try:
            write_checkpoint(output, parts, step, kept.newest)
        except OSError as error:
            remove_partial(output)
            problem = why(error)
    if problems := [one for one in gathered_objects(problem) if one is not None]:
        raise OSError(problems[0])


def write_checkpoint(output: Path, parts: dict[str, Any], step: int, newest: int) -> None:
    final = folder_of(output, step)
    partial = final.with_name(f"partial-{step:08d}")
    remove_partial(output)
    partial.mkdir(parents=True)
    digests = {name: write_state(state, partial / f"{name}.safetensors") for name, state in parts.items()}
    (partial / CONTENTS).write_text(json.dumps({"format": 1, "parts": digests}, indent=1))
    on_disk(partial / CONTENTS)
    remove(final)
    os.replace(partial, final)
    for old in checkpoints(output)[:-newest]:
        remove(old)


def remove(folder: Path) -> None:
    """A checkpoint, if it is there; of a link to one only the link."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def folder_of(output: Path, step: int) -> Path:
    return output / "checkpoints" / f"step-{step:08d}"


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


def load_checkpoint(output: Path, kept: Kept, device: torch.device) -> tuple[int, list[str]]:
    """Restore the newest checkpoint that is whole; (its step, a sentence about each newer one, which is set aside).

    The process that has the newest one reads it, and hands on what it has read: the others need not see its disk.

    Raises:
        UserError: there are checkpoints, and none of them can be used.
    """
    problems: list[str] = []
    mine = [step_of(folder) for folder in checkpoints(output)[::-1]]
    all_steps = gathered_objects(mine)
    reader = max(range(len(all_steps)), key=lambda rank: (all_steps[rank][:1], -rank))
    for step in all_steps[reader]:
        folder, parts, problem = folder_of(output, step), None, None
        try:
            parts = read_parts(folder) if place_of_process()[0] == reader else None
        except Damaged as damage:
            problem = str(damage)
        problem = told_by(reader, problem)
        if problem is None:
            try:
                kept.restore(handed_on(reader, parts, device), step)
            except Damaged as damage:
                problem = str(damage)
        if problem is not None:
            problems.append(problem if str(folder) in problem else f"{folder} cannot be used: {problem}")
            continue
        if place_of_process()[0] == reader:
            for other in all_steps[reader][: len(problems)]:
                set_aside(folder_of(output, other))
        return step, [f"{problem}; going on from {folder.name}." for problem in problems]
    raise UserError(f"{problems[0]}, and there is no other checkpoint to go on from: begin again with another output.")


def set_aside(folder: Path) -> None:
    aside = folder.with_name(f"damaged-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(folder, aside)


def read_parts(folder: Path) -> dict[str, Any]:
    """The parts of a checkpoint, whole as they were written; Damaged otherwise."""
    file = folder / CONTENTS
    try:
        if file.is_fifo():  # it would be waited for for ever
            raise OSError
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


def export(stage: Stage, average: Averaged, output: Path, plain: nn.Module | None, writes: bool) -> None:
    """The averaged weights in half precision, in `<output>/final`, written whole or not at all.

    plain: of a network that is divided among processes, which must all ask, one that is not. writes: this one does.

    Raises:
        UserError: they cannot be written; an export of before is as it was.
    """
    average.ema.copy_to(average.parameters)
    if plain is not None:
        state = whole(stage.network.state_dict(), writes)
        if writes:
            plain.load_state_dict(state)
            stage.network = plain
    if writes:
        with written_whole(output / "final", "free some space and --resume") as partial:
            stage.export(partial)
