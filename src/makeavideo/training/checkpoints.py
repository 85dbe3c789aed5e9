"""The state of a run on disk, and the average of its weights: whole or not at all, so that resuming is exact."""

import os
import shutil
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import nn

from ..quiet import quiet_libraries
from .networks import forget_places
from .stages import Stage

CHECKPOINTS_KEPT = 2


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


def checkpoints(output: Path) -> list[Path]:
    """Whole checkpoints, oldest first (a half-written one has another name)."""
    return sorted((output / "checkpoints").glob("step-*"))


def save_checkpoint(accelerator: Accelerator, output: Path, step: int) -> None:
    """Write under a temporary name, rename when whole, then drop all but the newest ones."""
    final = output / "checkpoints" / f"step-{step:08d}"
    partial = final.with_name(f"partial-{step:08d}")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)  # what a killed run left
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()  # every process has written its part
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        for old in checkpoints(output)[:-CHECKPOINTS_KEPT]:
            shutil.rmtree(old)
        for half in final.parent.glob("partial-*"):
            shutil.rmtree(half)
    accelerator.wait_for_everyone()


def load_checkpoint(accelerator: Accelerator, folder: Path, average: Averaged, optimizer: Any, schedule: Any) -> int:
    """Restore everything and return the step; for learning rate, decay and the like the present recipe holds."""
    groups = [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in optimizer.param_groups]
    base_lrs, decay = schedule.scheduler.base_lrs, average.ema.decay
    accelerator.load_state(str(folder))
    average.ema.to(accelerator.device)
    average.ema.decay = decay
    schedule.scheduler.base_lrs = base_lrs
    done = schedule.scheduler.last_epoch
    for group, now, base, factor in zip(
        optimizer.param_groups, groups, base_lrs, schedule.scheduler.lr_lambdas, strict=True
    ):
        group.update(now, lr=base * factor(done))
    return int(folder.name.removeprefix("step-"))


def export(stage: Stage, average: Averaged, output: Path) -> None:
    """The averaged weights in half precision, in `<output>/final`, written whole or not at all."""
    average.ema.copy_to(average.parameters)
    partial, final = output / "final.partial", output / "final"
    shutil.rmtree(partial, ignore_errors=True)
    with quiet_libraries():
        stage.export(partial)
    forget_places(partial)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(partial, final)
