"""One training loop for every stage, on accelerate.

All randomness of step k is a function of (seed, k, process): the order of samples, their augmentation, noise and
dropout. A checkpoint therefore holds only weights, optimiser, schedule and average, and resuming is exact.
"""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, gather_object
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch.utils.data import DataLoader, default_collate

from ..data.reader import SkipReport, to_pixels
from ..errors import UserError
from ..quiet import quiet_libraries
from .optimizer import make_optimizer
from .progress import RunBar, Watch
from .recipe import Recipe, load_recipe
from .stages import STAGES, Stage

CHECKPOINTS_KEPT = 2


class Stopped(UserError):
    """Ctrl-C was pressed; the run has a checkpoint of its last step."""


def fold_seed(*numbers: int) -> int:
    """One well-mixed seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


class StepKeys:
    """Batches of (index, seed, progress) keys from micro-step `start` on, in a fresh order of the data every epoch."""

    def __init__(self, recipe: Recipe, length: int, start: int, rank: int, world: int):
        self.recipe, self.length, self.start, self.rank, self.world = recipe, length, start, rank, world

    def __len__(self) -> int:
        return self.recipe.steps * self.recipe.gradient_accumulation - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int, float]]]:
        total = self.recipe.steps * self.recipe.gradient_accumulation
        epoch, order = -1, None
        for micro_step in range(self.start, total):
            first = (micro_step * self.world + self.rank) * self.recipe.batch_size
            keys = []
            for position in range(first, first + self.recipe.batch_size):
                if position // self.length != epoch:
                    epoch = position // self.length
                    order = np.random.default_rng([self.recipe.seed, epoch]).permutation(self.length)
                seed = fold_seed(self.recipe.seed, position)
                keys.append((int(order[position % self.length]), seed, micro_step / total))
            yield keys


def collate(samples: list[dict]) -> dict:
    """Stack the samples; lists of skipped files are joined."""
    skipped = [item for sample in samples for item in sample.pop("skipped")]
    if isinstance(samples[0].get("pixels"), np.ndarray):
        pixels = torch.from_numpy(np.stack([sample.pop("pixels") for sample in samples]))
        return {**default_collate(samples), "pixels": pixels, "skipped": skipped}
    return {**default_collate(samples), "skipped": skipped}


def on_device(batch: dict, device: torch.device) -> dict:
    """The batch where the network is; pictures, which come as bytes, become numbers there."""
    batch = {k: v.to(device, non_blocking=True) if torch.is_tensor(v) else v for k, v in batch.items()}
    if torch.is_tensor(batch.get("pixels")) and batch["pixels"].dtype == torch.uint8:
        batch["pixels"] = to_pixels(batch["pixels"])
    return batch


def ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal: the trainer ends its step, and needs the readers until then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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


class Averaged:
    """Exponential moving average of the trained weights; `with average:` the network has them."""

    def __init__(self, stage: Stage, decay: float):
        self.parameters = [p for p in stage.network.parameters() if p.requires_grad]
        self.ema = EMAModel(self.parameters, decay=decay, use_ema_warmup=True, power=0.75, foreach=True)

    def __enter__(self):
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)

    def __exit__(self, *_):
        self.ema.restore(self.parameters)


def load_checkpoint(accelerator: Accelerator, folder: Path, average: Averaged, optimizer, schedule) -> int:
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
            stage starts from is missing, the run was begun with other weights to train, or the loss is no longer a
            number. Stopped: Ctrl-C or SIGTERM, after the step in hand and a checkpoint.
    """
    output = Path(recipe.output)
    if checkpoints(output) and not resume:
        raise UserError(f"{output} already holds a run: add --resume to continue it, or choose another output.")
    if checkpoints(output):
        begun = load_recipe(output / "recipe.yaml")
        for key in ("temporal", "train"):  # they decide which weights there are, and which the optimiser knows
            before, now = (getattr(r, key) or "none" for r in (begun, recipe))
            if before != now:
                raise UserError(f"{output} was begun with {key} {before}, not {now}: keep it or choose another output.")
    if recipe.mixed_precision == "fp16" and not torch.cuda.is_available():
        raise UserError("mixed_precision fp16 needs a GPU: use bf16 or no.")
    accelerator = Accelerator(
        mixed_precision=recipe.mixed_precision,
        gradient_accumulation_steps=recipe.gradient_accumulation,
        log_with="tensorboard",
        project_config=ProjectConfiguration(project_dir=str(output), logging_dir=str(output / "logs")),
        step_scheduler_with_optimizer=False,
    )
    torch.manual_seed(recipe.seed)  # the initial weights
    stage = STAGES[recipe.stage](recipe, accelerator.device)
    stage.network.to(accelerator.device).train()
    optim = recipe.optim
    fused = accelerator.device.type in ("cpu", "cuda")
    optimizer = make_optimizer(stage.network, stage.parameter_groups(), optim, fused)
    schedule = get_scheduler(
        optim.schedule, optimizer, num_warmup_steps=optim.warmup_steps, num_training_steps=recipe.steps
    )
    network, optimizer, schedule = accelerator.prepare(stage.network, optimizer, schedule)
    stage.network = accelerator.unwrap_model(network)
    average = Averaged(stage, optim.ema_decay)
    average.ema.to(accelerator.device)
    accelerator.register_for_checkpointing(average.ema, *stage.companions)
    compiled = torch.compile(network) if recipe.compile else network

    if accelerator.is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        (output / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    step = 0
    if resume and checkpoints(output):
        step = load_checkpoint(accelerator, checkpoints(output)[-1], average, optimizer, schedule)
    accelerator.wait_for_everyone()
    accelerator.init_trackers("train")

    keys = StepKeys(
        recipe,
        len(stage.dataset),
        step * recipe.gradient_accumulation,
        accelerator.process_index,
        accelerator.num_processes,
    )
    workers = recipe.data.num_workers
    loader = DataLoader(
        stage.dataset, batch_sampler=keys, collate_fn=collate, num_workers=workers, worker_init_fn=ignore_interrupts
    )
    report = SkipReport()
    watch = watch or RunBar()
    saved = logged = time.monotonic()
    losses: list[torch.Tensor] = []
    norm = torch.zeros(())
    epoch_length = max(1, len(stage.dataset) // (recipe.batch_size * accelerator.num_processes))
    with watch.follow(recipe, step, accelerator.is_local_main_process):
        for micro_step, batch in enumerate(loader, step * recipe.gradient_accumulation):
            report.add(batch.pop("skipped"))
            batch = on_device(batch, accelerator.device)
            seed = fold_seed(recipe.seed, micro_step, accelerator.process_index, 1)
            generator = torch.Generator(accelerator.device).manual_seed(seed)  # drawn where it is used
            torch.manual_seed(seed)  # what a network draws by itself: its dropout
            with accelerator.accumulate(network):
                loss = stage.loss(compiled, batch, generator)
                accelerator.backward(loss)
                losses.append(loss.detach())
                if accelerator.sync_gradients:
                    norm = accelerator.clip_grad_norm_(network.parameters(), optim.max_grad_norm)
                optimizer.step()
                if accelerator.sync_gradients:
                    schedule.step()
                    average.ema.step(average.parameters)
                optimizer.zero_grad()
            report.add(stage.skipped)
            stage.skipped.clear()
            if (micro_step + 1) % epoch_length == 0:
                tell_skipped(accelerator, report, watch.console)
            if not accelerator.sync_gradients:
                continue
            step += 1
            watch.step(step)
            stop = watch.stop
            due = stop or time.monotonic() - saved > recipe.checkpoint_minutes * 60
            if accelerator.num_processes > 1:  # all of them or none
                asked = torch.tensor([float(due), float(stop)], device=accelerator.device)
                due, stop = (accelerator.reduce(asked, "sum") > 0).tolist()
            due = due or step == recipe.steps or bool(recipe.checkpoint_steps and step % recipe.checkpoint_steps == 0)
            log = step % recipe.log_every == 0
            if log or due:
                loss_value = accelerator.reduce(torch.stack(losses).mean(), "mean").item()
                # a gradient that overflows is no harm in fp16: the scaler leaves that step out
                whole = recipe.mixed_precision == "fp16" or bool(torch.isfinite(norm))
                if not (np.isfinite(loss_value) and whole):
                    what = "loss" if not np.isfinite(loss_value) else "gradient"
                    value = loss_value if what == "loss" else norm.item()
                    raise UserError(
                        f"The {what} of {recipe.stage} is {value} at step {step}: lower optim.learning_rate and "
                        f"--resume from {output / 'checkpoints'}."
                    )
            if log:
                now = time.monotonic()
                samples = len(losses) * recipe.batch_size * accelerator.num_processes
                rate = samples / (now - logged)
                losses, logged = [], now
                rates = {"loss": loss_value, "samples/s": rate, "learning rate": schedule.get_last_lr()[0]}
                rates["gradient norm"] = float(norm)
                accelerator.log(rates, step=step)
                watch.log(step, loss_value, rate)
            before = time.monotonic()
            if due:
                save_checkpoint(accelerator, output, step)
                saved = time.monotonic()
            if stop and step < recipe.steps:
                accelerator.end_training()
                raise Stopped(f"Stopped at step {step} of {recipe.steps}: add --resume to go on.")
            if recipe.sample_every and (step % recipe.sample_every == 0 or step == recipe.steps):
                write_samples(accelerator, stage, average, output / "samples" / f"step-{step:08d}.png")
            logged += time.monotonic() - before  # not training: samples/s leaves it out
        tell_skipped(accelerator, report, watch.console, again=True)
    if accelerator.is_main_process:
        export(stage, average, output)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return output / "final"


def tell_skipped(accelerator: Accelerator, report: SkipReport, console, again: bool = False) -> None:
    """Name the files that could not be read, of all processes; only if there are new ones, or `again`."""
    if accelerator.num_processes > 1:
        report.add(gather_object(list(report)))
    if accelerator.is_main_process and (report.fresh or again) and len(report):
        console.print(report.text(), markup=False, highlight=False, soft_wrap=True)


def write_samples(accelerator: Accelerator, stage: Stage, average: Averaged, path: Path) -> None:
    """The contact sheet of the averaged weights, by the first process on its own."""
    if accelerator.is_main_process:
        stage.network.eval()
        with average:
            sheet = stage.contact_sheet(stage.network)
        stage.network.train()
        if sheet is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            sheet.save(path)
    accelerator.wait_for_everyone()


def export(stage: Stage, average: Averaged, output: Path) -> None:
    """The averaged weights in half precision, written whole or not at all."""
    average.ema.copy_to(average.parameters)
    partial, final = output / "final.partial", output / "final"
    shutil.rmtree(partial, ignore_errors=True)
    with quiet_libraries():
        stage.export(partial)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(partial, final)
