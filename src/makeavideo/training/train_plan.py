"""Run a plan: every stage in order, what is finished left alone, the pipeline put together at the end.

A budget of hours becomes numbers of steps. The schedules of the learning rate and of the frame rates run over the
steps, and a run can only be resumed exactly, as if it had never stopped, when their number is known from its first step
on. So before a stage begins, its first steps are run for a moment and thrown away; how many fit into its minutes is
written into the run's recipe, and holds from then on, whatever the clock says. What a stage leaves of its minutes, or
takes beyond them, is shared among those after it.
"""

import gc
import json
import shutil
import time
from contextlib import suppress
from pathlib import Path

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState

from ..errors import UserError
from .assemble import assemble, missing_stages
from .checkpoints import checkpoints, replacing
from .plan import Job, Jobs, Wishes, check, is_plan, load_jobs
from .processes import begin_processes, lost_in_one_sentence, told_by
from .progress import PlanTable, Watch
from .recipe import Recipe, load_recipe
from .trainer import Stopped, train

TRIAL_SHARE = 0.05
"""Part of a stage's time that its trial may take."""
SPARE_SHARE = 0.03
"""Part of a stage's time that is kept for its checkpoints and samples."""
CLOCK = "time.json"


class Enough(Exception):
    """The trial has seen enough steps."""


class Trial(Watch):
    """Times the steps of a run that is thrown away; the first one warms up.

    Attributes:
        ready: seconds from the beginning to the first step.
        pace: seconds a step.
    """

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds, self.began, self.steps = seconds, time.monotonic(), 0
        self.ready = self.pace = 0.0

    def step(self, step: int) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # a GPU's steps are only asked for yet
        now = time.monotonic()
        if self.steps == 0:
            self.ready, self.first = now - self.began, now
        else:
            self.pace = (now - self.first) / self.steps
        self.steps += 1
        over = now - self.began > self.seconds and self.steps > 2
        if told_by(0, self.stop or over or self.steps > 200):
            raise Enough


def train_path(path: Path, wishes: Wishes, resume: bool = False) -> str:
    """Train one recipe (a file) or a plan (its folder, or the plan.yaml in it).

    Returns:
        A sentence about what was made; of several processes the first one's, and "" of the others.

    Raises:
        UserError: as `trainer.train` and `plan.check`.
    """
    check(path, wishes, resume)
    with lost_in_one_sentence():
        if is_plan(path):
            said = train_plan(load_jobs(path, wishes))
        else:
            said = f"trained: {train(load_recipe(path, wishes.overrides), resume)}"
    first = PartialState().is_main_process
    PartialState().destroy_process_group()  # NCCL complains of one that is left
    return said if first else ""


def train_plan(jobs: Jobs) -> str:
    """Run the selected stages that are not finished; assemble when all are.

    Raises:
        UserError: a stage fails or Ctrl-C was pressed; the same call goes on where it stopped.
    """
    state = begin_processes(max(job.recipe.timeout_minutes for job in jobs.stages))
    selected = [job for job in jobs.stages if job.selected]
    waiting = [job for job in selected if not job.finished]
    state.wait_for_everyone()  # all of them have looked before one of them changes anything
    jobs.runs.mkdir(parents=True, exist_ok=True)
    clock = Clock(jobs.runs / CLOCK)
    table = PlanTable([(job.name, job.minutes, job.finished) for job in selected], clock.used, jobs.hours)
    with table.shown(state.is_local_main_process):
        for job in waiting:
            table.begin(job.name)
            clock.start(job.name)
            try:
                recipe = job.recipe
                if jobs.hours is not None:
                    recipe = within(job, seconds_for(job, selected, jobs.hours, clock))
                train(recipe, resume=True, watch=table)
            except Stopped as stopped:
                where = str(stopped).partition(":")[0].lower()
                raise Stopped(f"{job.name} {where}: the same command goes on.") from None
            except UserError as error:
                raise UserError(f"{job.name}: {error}") from None
            finally:
                clock.stop(state.is_main_process)
                forget()
            table.done(job.name)
    return finish(jobs, state)


def finish(jobs: Jobs, state: PartialState) -> str:
    """Assemble when every stage is finished; what to say."""
    waiting = [job.name for job in jobs.stages if not job.finished]
    lacking = missing_stages([job.recipe.stage for job in jobs.stages])
    if waiting or lacking:
        reason = f"{', '.join(waiting)} not finished" if waiting else f"the plan has no {', '.join(lacking)}"
        return f"trained: {jobs.runs} (no pipeline yet: {reason})"
    if state.is_main_process:
        last: dict[str, str] = {job.recipe.stage: job.name for job in jobs.stages}
        clip = next(job.recipe for job in jobs.stages if job.name == last["clip"])
        assemble(jobs.runs, jobs.model, clip.text_encoder, last, jobs.sampling)
    state.wait_for_everyone()
    return f'trained: {jobs.model}; try it: make-a-video generate "..." --model {jobs.model}'


class Clock:
    """Seconds that each stage has taken so far, kept over interruptions."""

    def __init__(self, file: Path):
        self.file = file
        self.used: dict[str, float] = {}
        with suppress(OSError, ValueError, RecursionError, AttributeError):
            used = json.loads(file.read_text()).items()
            self.used = {name: float(seconds) for name, seconds in used if isinstance(seconds, int | float)}

    def start(self, name: str) -> None:
        self.name, self.before, self.began = name, self.used.get(name, 0.0), time.monotonic()

    def stop(self, write: bool) -> None:
        self.used[self.name] = self.before + time.monotonic() - self.began
        if write:
            with suppress(OSError), replacing(self.file) as partial:  # on a full disk the run itself has said so
                partial.write_text(json.dumps(self.used))


def seconds_for(job: Job, selected: list[Job], hours: float, clock: Clock) -> float:
    """This stage's part of what is left of the hours."""
    open_minutes = sum(other.minutes for other in selected if not other.finished)
    left = hours * 3600 - sum(clock.used.get(other.name, 0.0) for other in selected if other.finished)
    return max(left, 0.0) * job.minutes / open_minutes


def within(job: Job, seconds: float) -> Recipe:
    """The recipe with as many steps as fit; with those of the run that is begun, where there is one."""
    if job.begun is not None and checkpoints(job.output):
        return job.recipe.model_copy(update=steps_of(job.begun))
    began, trial = time.monotonic(), Trial(seconds * TRIAL_SHARE)
    # in the run's own folder, where a stage keeps what it makes of the data once; no checkpoint is written
    never = {"checkpoint_minutes": 1e9, "checkpoint_steps": None, "sample_every": 0}
    try:
        train(job.recipe.model_copy(update={**never, "steps": 10**6}), watch=trial)
    except Enough:
        pass
    finally:
        forget()
        PartialState().wait_for_everyone()
        shutil.rmtree(job.output / "logs", ignore_errors=True)
    if told_by(0, trial.stop):
        raise Stopped("Stopped before its first step:")
    left = seconds * (1 - SPARE_SHARE) - (time.monotonic() - began) - trial.ready
    steps = told_by(0, max(1, int(left / trial.pace)))
    every = max(1, round(job.recipe.sample_every * steps / job.recipe.steps)) if job.recipe.sample_every else 0
    optim = job.recipe.optim.model_copy(update={"warmup_steps": min(job.recipe.optim.warmup_steps, steps // 10)})
    return job.recipe.model_copy(update={"steps": steps, "sample_every": every, "optim": optim})


def steps_of(recipe: Recipe) -> dict:
    """The number of steps, and what hangs on it."""
    return {"steps": recipe.steps, "sample_every": recipe.sample_every, "optim": recipe.optim}


def forget() -> None:
    """A stage leaves nothing behind for the next one: no memory, and no precision, which accelerate sets once."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    AcceleratorState._reset_state()  # the processes' group stays, in PartialState
    GradientState._reset_state()
