"""One stage on its way: its network with what changes the weights, and what has been seen of it so far, on accelerate.

`trainer.train` is the loop that calls it.
"""

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import ProjectConfiguration

from ..data.report import LIMIT, SkipReport
from ..errors import UserError
from ..quiet import quiet_event_writer
from .batches import StepKeys, in_one_sentence, make_loader, noise_seed, on_device
from .checkpoints import (
    Averaged,
    Kept,
    checkpoints,
    export,
    keep_recipe,
    load_checkpoint,
    remove_partial,
    replacing,
    save_checkpoint,
)
from .networks import why
from .optimizer import make_optimizer, make_schedule, tell_jump
from .processes import begin_processes, gathered_objects, launcher_is_lost, told_by
from .progress import Watch
from .recipe import Recipe, load_recipe
from .seen import RATE, HeldOutLoss, PromptClips
from .sharded import shard
from .stages import make_stage

SKIPPED = "skipped.txt"
"""In a run's folder: what of the data is not used, or not as it is."""


def known_trackers(recipe: Recipe) -> Any:
    """The trackers that the recipe names, for accelerate. Raises UserError where one is unknown or not installed."""
    usable = sorted(str(name) for name in get_available_trackers())
    for name in recipe.trackers:
        if name not in usable:
            raise UserError(f"The tracker {name} cannot be used: pip install it, or choose from {', '.join(usable)}.")
    return recipe.trackers or None


class Run:
    """A stage, what changes its weights, and what has been seen of it so far.

    Attributes:
        step: optimiser steps done.
        losses: of the batches since the last line of the log; mean_loss: their mean, of all processes, when last asked.
        norm: of the last gradient.
        writes: this process writes what the run keeps: the first one, or the first one of each machine.
        plain: where the network is divided among the processes, one that is not, to export the weights in.
        saved, logged: when the last checkpoint was written, and the last line of the log, `time.monotonic`.
    """

    def __init__(self, recipe: Recipe, watch: Watch):
        self.recipe, self.watch, self.output = recipe, watch, Path(recipe.output)
        begin_processes(recipe.timeout_minutes)
        self.accelerator = accelerator = Accelerator(
            mixed_precision=recipe.mixed_precision,
            gradient_accumulation_steps=recipe.gradient_accumulation,
            log_with=known_trackers(recipe),
            project_config=ProjectConfiguration(project_dir=str(self.output), logging_dir=str(self.output / "logs")),
            step_scheduler_with_optimizer=False,
        )
        self.writes = accelerator.is_main_process if recipe.shared_disk else accelerator.is_local_main_process
        torch.manual_seed(recipe.seed)  # the initial weights
        with watch.preparing(recipe.stage, accelerator.is_local_main_process):
            self.stage = stage = make_stage(recipe, accelerator.device)
        stage.network.to(accelerator.device).train()
        self.plain: Any = None
        self.prepare(stage)
        self.average = Averaged(stage.network, recipe.optim.ema_decay)
        self.average.ema.to(accelerator.device)
        scaler = accelerator.scaler
        self.kept = Kept(stage.network, self.optimizer, self.schedule, self.average, stage.companions, scaler)
        self.kept.newest = recipe.checkpoints_kept
        self.compiled: Any = torch.compile(self.network) if recipe.compile else self.network
        self.prompts = self.held_out = None
        if recipe.sample_every:
            if recipe.prompts is not None:
                self.prompts = PromptClips(recipe, recipe.prompts, stage.network, accelerator.device)
            self.held_out = HeldOutLoss(recipe, stage.dataset.files, stage) if recipe.data.held_out else None
        self.step = 0
        self.report = SkipReport()
        self.report.add(stage.dataset.passed_by)
        self.take_skipped()
        self.told: set[str] = set()
        self.losses: list[torch.Tensor] = []
        self.mean_loss = 0.0
        self.norm: Any = torch.zeros(())
        self.saved = self.logged = time.monotonic()

    def prepare(self, stage: Any) -> None:
        """The network with its optimiser on accelerate: the same in all processes, or divided among them."""
        accelerator, recipe = self.accelerator, self.recipe
        divided = recipe.shard and accelerator.num_processes > 1
        if divided:
            self.plain = copy.deepcopy(stage.network).cpu()
            # accelerate's own FSDP2 takes GPUs only; what is wanted of it here is the precision of the network's calls
            self.network = accelerator.prepare_model(stage.network, evaluation_mode=True)
            shard(stage.network, accelerator.device)
        fused, half = accelerator.device.type in ("cpu", "cuda"), accelerator.mixed_precision == "bf16"
        optimizer = make_optimizer(stage.network, stage.parameter_groups(), recipe.optim, fused, half)
        if not divided:
            self.network = accelerator.prepare(stage.network)
        self.optimizer, self.schedule = accelerator.prepare(optimizer, make_schedule(optimizer, recipe))
        stage.network = accelerator.unwrap_model(self.network)

    def start(self, resume: bool) -> None:
        """From the newest checkpoint where there is one to resume; the recipe is kept beside it."""
        file, begun = self.output / "recipe.yaml", None
        resume = resume and any(gathered_objects(bool(checkpoints(self.output))))
        if resume:
            begun = load_recipe(file) if checkpoints(self.output) and file.is_file() else None
            begun = next(filter(None, gathered_objects(begun)), None)
        self.accelerator.wait_for_everyone()  # all have read it before it is written anew
        if self.writes:
            remove_partial(self.output)
            keep_recipe(self.recipe, self.output)
        if resume:
            self.step, problems = load_checkpoint(self.output, self.kept, self.accelerator.device)
            self.report.read(self.output / SKIPPED)
            for problem in problems:
                self.say(problem)
            if begun is not None and (jump := tell_jump(begun, self.recipe, self.step)):
                self.say(jump)
        self.accelerator.wait_for_everyone()
        self.begin_log()
        self.tell_skipped()

    def begin_log(self) -> None:
        """Open the log, at the start and when there is space again."""
        if self.recipe.trackers and not self.accelerator.trackers:
            with self.on_a_full_disk("The log was not written"), self.log_writer():
                self.accelerator.init_trackers("train")

    @contextmanager
    def log_writer(self) -> Iterator[None]:
        """Around what writes the log: its writer ends with its first error, and is of no use after it."""
        try:
            yield
        except OSError:
            self.accelerator.trackers.clear()
            raise

    def say(self, sentence: str) -> None:
        """A line about the run, by its first process."""
        if self.accelerator.is_main_process:
            self.watch.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While this lasts the progress is shown, and Ctrl-C asks for a stop."""
        self.saved = self.logged = time.monotonic()
        with quiet_event_writer(), self.watch.follow(self.recipe, self.step, self.accelerator.is_local_main_process):
            yield

    def batches(self) -> Iterator[tuple[int, dict]]:
        """(micro-step, batch) of all that is left of the run."""
        accelerator = self.accelerator
        first = self.step * self.recipe.gradient_accumulation
        rank, world = accelerator.process_index, accelerator.num_processes
        dataset: Any = self.stage.dataset
        length, orders = len(dataset), getattr(dataset, "order", None)
        data = self.recipe.data
        if data.buckets:
            length, orders = dataset.in_batches(self.recipe.batch_size)
        keys = StepKeys(self.recipe, length, first, rank, world, orders)
        loader = make_loader(dataset, keys, data.num_workers, data.prefetch, self.stage.complete)
        return enumerate(in_one_sentence(loader), first)

    def learn(self, micro_step: int, batch: dict) -> bool:
        """One batch forwards and backwards; whether the weights have moved: a step is done."""
        accelerator = self.accelerator
        self.report.add(batch.pop("skipped"))
        batch = on_device(batch, accelerator.device)
        seed = noise_seed(self.recipe, micro_step, accelerator.process_index, accelerator.num_processes)
        generator = torch.Generator(accelerator.device).manual_seed(seed)  # drawn where it is used
        torch.manual_seed(seed)  # what a network draws by itself: its dropout
        with accelerator.accumulate(self.network):
            loss = self.stage.loss(self.compiled, batch, generator)
            accelerator.backward(loss)
            self.losses.append(loss.detach())
            if accelerator.sync_gradients:
                parameters = self.network.parameters()
                norm: Any = accelerator.clip_grad_norm_(parameters, self.recipe.optim.max_grad_norm)
                self.norm = norm if self.plain is None else norm.full_tensor()
            self.optimizer.step()
            if accelerator.sync_gradients:
                self.schedule.step()
                self.average.update()
            self.optimizer.zero_grad()
        self.take_skipped()
        epoch = max(1, len(self.stage.dataset) // (self.recipe.batch_size * accelerator.num_processes))
        if (micro_step + 1) % epoch == 0:
            self.tell_skipped()
        if accelerator.sync_gradients:
            self.step += 1
            self.watch.step(self.step)
        return accelerator.sync_gradients

    def due(self) -> tuple[bool, bool]:
        """(whether a checkpoint is due, whether a stop was asked for), the same in all processes."""
        recipe, stop = self.recipe, self.watch.stop or launcher_is_lost()
        due = stop or time.monotonic() - self.saved > recipe.checkpoint_minutes * 60
        if self.accelerator.num_processes > 1:  # all of them or none
            asked = torch.tensor([float(due), float(stop)], device=self.accelerator.device)
            total: Any = self.accelerator.reduce(asked, "sum")
            due, stop = (total > 0).tolist()
        every = recipe.checkpoint_steps
        return due or self.step == recipe.steps or bool(every and self.step % every == 0), stop

    def refuse_nonsense(self) -> None:
        """UserError if the loss or the gradient is no longer a number: before it is logged or saved."""
        mean: Any = self.accelerator.reduce(torch.stack(self.losses).mean(), "mean")
        self.mean_loss = mean.item()
        # a gradient that overflows is no harm in fp16: the scaler leaves that step out
        whole = self.recipe.mixed_precision == "fp16" or bool(torch.isfinite(self.norm))
        if not (np.isfinite(self.mean_loss) and whole):
            lost = not np.isfinite(self.mean_loss)
            what, value = ("loss", self.mean_loss) if lost else ("gradient", self.norm.item())
            again = f"--resume from {self.output / 'checkpoints'}" if checkpoints(self.output) else "start again"
            raise UserError(
                f"The {what} of {self.recipe.stage} is {value} at step {self.step}: "
                f"lower optim.learning_rate and {again}."
            )

    def log(self) -> None:
        """A line about the batches since the last one."""
        now = time.monotonic()
        rate = len(self.losses) * self.recipe.batch_size * self.accelerator.num_processes / (now - self.logged)
        self.losses, self.logged = [], now
        rates = {"loss": self.mean_loss, "samples/s": rate, "learning rate": self.schedule.get_last_lr()[0]}
        with self.on_a_full_disk(f"The log of step {self.step} was not written"), self.log_writer():
            self.accelerator.log({**rates, "gradient norm": float(self.norm)}, step=self.step)
        self.watch.log(self.step, self.mean_loss, rate)

    @contextmanager
    def not_training(self) -> Iterator[None]:
        """The time that this takes is left out of samples/s."""
        before = time.monotonic()
        yield
        self.logged += time.monotonic() - before

    @contextmanager
    def on_a_full_disk(self, lost: str) -> Iterator[None]:
        """What cannot be written is said, of a log only once, and the training goes on."""
        try:
            yield
        except OSError as error:
            what = lost.partition(" of step")[0]
            if what not in self.told or "checkpoint" in what:
                self.told.add(what)
                self.say(f"{lost} to {self.output} ({why(error)}): free some space; the training goes on.")

    def checkpoint(self) -> bool:
        """Whether it could be written; if not it is tried again when the next one is due."""
        written = False
        with self.not_training(), self.on_a_full_disk(f"The checkpoint of step {self.step} was not written"):
            save_checkpoint(self.output, self.kept, self.step, self.writes)
            written = True
            self.begin_log()
        self.saved = time.monotonic()
        return written

    def samples_due(self) -> bool:
        """Whether this step is one of which samples are made."""
        every = self.recipe.sample_every
        return bool(every) and self.step > 0 and (self.step % every == 0 or self.step == self.recipe.steps)

    def samples_lack(self) -> bool:
        """Whether the run was ended between a checkpoint and the samples of its step."""
        last = self.sample_path.with_suffix(".webp" if self.recipe.prompts else ".png")
        return self.samples_due() and not told_by(0, last.exists())

    @property
    def sample_path(self) -> Path:
        return self.output / "samples" / f"step-{self.step:08d}.png"

    def samples(self) -> None:
        """The contact sheet of the averaged weights: each process makes a part of it, the first one keeps it."""
        with self.not_training():
            network = self.stage.network.eval()
            with self.average, self.accelerator.autocast():
                sheet = self.stage.contact_sheet(network)
                clips = None if self.prompts is None else self.prompts(network)
                off = None if self.held_out is None else self.held_out(self.stage, network)
            network.train()
            if not self.accelerator.is_main_process:
                return
            with self.on_a_full_disk(f"The samples of step {self.step} were not written"):
                self.keep_samples(self.sample_path, sheet, clips)
            if off is not None:
                self.say(f"step {self.step}: loss on clips held out {off:.4f}")
                with self.on_a_full_disk(f"The log of step {self.step} was not written"), self.log_writer():
                    self.accelerator.log({"held-out loss": off}, step=self.step)

    @staticmethod
    def keep_samples(path: Path, sheet: Any, clips: np.ndarray | None) -> None:
        """A contact sheet and, beside it, a moving webp of the prompts."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if sheet is not None:
            with replacing(path) as partial:
                sheet.save(partial, format="PNG")
        if clips is not None:
            from ..media.writer import write_video

            write_video(path.with_suffix(".webp"), clips, RATE)

    def take_skipped(self) -> None:
        """What the stage read by itself, without a batch."""
        self.report.add(self.stage.skipped)
        self.stage.skipped.clear()

    def tell_skipped(self, again: bool = False) -> None:
        """Name what is not used, or not as it is, of all processes; only if there is something new, or `again`."""
        if self.accelerator.num_processes > 1:
            self.report.add([skipped for one in gathered_objects(list(self.report)) for skipped in one])
        if (self.report.fresh or again) and len(self.report):
            text = self.report.text(self.stage.dataset.files, "clips" if self.recipe.video else "pictures")
            file = self.output / SKIPPED
            self.say(f"{text} All of them: {file}" if len(self.report) > LIMIT else text)
            if self.writes:
                with self.on_a_full_disk("The list of skipped files was not written"), replacing(file) as partial:
                    self.report.write(partial)

    def finish(self) -> Path:
        """Export the averaged weights."""
        export(self.stage, self.average, self.output, self.plain, self.writes)
        self.accelerator.wait_for_everyone()
        self.end()
        return self.output / "final"

    def end(self) -> None:
        """Close the log. The group of processes stays: another stage may follow."""
        with self.on_a_full_disk("The end of the log was not written"), self.log_writer():
            for tracker in self.accelerator.trackers:
                tracker.finish()
        self.accelerator.trackers.clear()
