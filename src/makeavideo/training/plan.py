"""A plan trains a whole cascade: which recipes of a folder, in which order, what each starts from, how long.

`plan.yaml` in a folder of recipes:

    runs: runs/emoji              # a folder for each run
    model: runs/emoji-model       # the pipeline that they make
    sampling: {sink: true}        # how it is run, where not as usual
    stages:
      - recipe: clip              # clip.yaml beside the plan
        minutes: 5                # its share of --hours; without --hours the recipe's steps count
      - recipe: decoder-image
        from: {image_encoder: clip/image_encoder}    # key of the recipe: run, and what it exported
        minutes: 30

It is typed, and refused with one sentence before anything is loaded.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from ..errors import UserError
from ..sampling_config import SamplingConfig
from .recipe import Recipe, Strict, checked, load_recipe, read_yaml
from .refusals import check_trainable

PLAN_FILE = "plan.yaml"


class PlanStage(Strict):
    """One run: a recipe, and what it takes from runs before it."""

    recipe: str = Field(
        min_length=1, description="name of a recipe in the plan's folder, without .yaml; the run's name"
    )
    sources: dict[str, str] = Field({}, alias="from", description="key of the recipe: run or run/exported folder")
    minutes: float = Field(gt=0, description="weight in a budget of hours; about what it takes, to guess the time left")


class Plan(Strict):
    runs: str = Field(description="folder of the runs, each under its recipe's name")
    model: str = Field(description="folder of the pipeline that the runs make")
    sampling: dict[str, Any] = Field({}, description="how the pipeline is run, fields of SamplingConfig")
    stages: list[PlanStage] = Field(min_length=1)


@dataclass(frozen=True)
class Wishes:
    """What the command line may say about a plan.

    overrides: key=value for every stage, or STAGE:key=value for one.
    hours: to be shared out among the stages; None: each recipe's steps.
    only, start: the stages to run, or the first of them; the others have to be finished where they are needed.
    pictures, clips: folders or shards in place of the recipes' data.
    output: where the pipeline goes; the runs go beside it.
    """

    overrides: tuple[str, ...] = ()
    hours: float | None = None
    only: tuple[str, ...] = ()
    start: str | None = None
    pictures: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()
    output: str | None = None


@dataclass(frozen=True)
class Job:
    """A stage that is ready to run. begun: the recipe of its run so far, if there is one."""

    name: str
    recipe: Recipe
    minutes: float
    selected: bool
    needs: frozenset[str] = field(default_factory=frozenset)
    begun: Recipe | None = None

    @property
    def output(self) -> Path:
        return Path(self.recipe.output)

    @property
    def finished(self) -> bool:
        return (self.output / "final").is_dir()


@dataclass(frozen=True)
class Jobs:
    """A whole plan, checked: `stages` in order, the folder of the runs and that of the pipeline, and how it is run."""

    stages: list[Job]
    runs: Path
    model: Path
    hours: float | None
    sampling: dict[str, Any]


def is_plan(path: Path) -> bool:
    return path.is_dir() or path.name == PLAN_FILE


def check(path: Path, wishes: Wishes, resume: bool) -> None:
    """Refuse what can be refused before anything is imported that takes seconds."""
    if is_plan(path):
        if resume:
            raise UserError("A plan goes on by itself: leave out --resume.")
        load_jobs(path, wishes)
        return
    if replace(wishes, overrides=()) != Wishes():
        raise UserError(f"{path} is one recipe: give the folder of a plan, or only --set and --resume.")
    recipe = load_recipe(path, wishes.overrides)
    check_trainable(recipe)
    check_data(recipe, str(path))


def load_jobs(folder: Path, wishes: Wishes) -> Jobs:
    """Read a plan and its recipes, and check all that can be checked without loading anything.

    Raises:
        UserError: a wrong key, type, order or name in the plan, a wrong recipe, data that does not exist, a run that
            was begun with other data or another network, a stage that needs one which is neither finished nor to run.
    """
    path = folder / PLAN_FILE if folder.is_dir() else folder
    plan = checked(Plan, read_yaml(path, "plan"), path, "plan")
    try:
        SamplingConfig.of(plan.sampling)
    except UserError as error:
        raise UserError(f"The plan {path}: {error}") from None
    runs, model = Path(plan.runs), Path(plan.model)
    if wishes.output is not None:
        model = Path(wishes.output) if Path(wishes.output).name else Path(wishes.output).absolute()  # "." has no name
        runs = model.with_name(f"{model.name}-runs")
    elif wishes.pictures or wishes.clips:
        raise UserError("--pictures and --clips make another model than the plan's own: name it, -o my-model.")
    if model.exists() and not (model / "model_index.json").is_file() and (model.is_file() or any(model.iterdir())):
        raise UserError(f"{model} holds something else than a pipeline, which would replace it: choose another -o.")
    if wishes.hours is not None and not 0 < wishes.hours < float("inf"):
        raise UserError(f"--hours {wishes.hours}: it must be above 0.")
    names = [stage.recipe for stage in plan.stages]
    selected = select(names, wishes, path)
    for override in wishes.overrides:
        target, colon, key = override.partition("=")[0].rpartition(":")
        if key == "output":
            raise UserError(f"--set {override}: the folders of a plan's runs are the plan's; use -o for another model.")
        if colon and target not in names:
            raise UserError(f"--set {override}: the plan has no stage {target}; it has {', '.join(names)}.")
    jobs: list[Job] = []
    for stage in plan.stages:
        recipe = stage_recipe(plan, stage, path, [job.name for job in jobs], runs, wishes)
        needs = frozenset(source.partition("/")[0] for source in stage.sources.values())
        job = Job(stage.recipe, recipe, stage.minutes, stage.recipe in selected, needs, begun(recipe))
        jobs.append(job)
    by_name = {job.name: job for job in jobs}
    for job in jobs:
        if not job.selected or job.finished:
            continue
        for need in sorted(job.needs):
            if not (by_name[need].selected or by_name[need].finished):
                raise UserError(f"{job.name} starts from {need}, which is not finished: run {need} as well.")
        check_data(job.recipe, job.name)
        try:
            check_trainable(job.recipe)
        except UserError as error:
            raise UserError(f"{job.name}: {error}") from None
    return Jobs(jobs, runs, model, wishes.hours, plan.sampling)


def select(names: list[str], wishes: Wishes, path: Path) -> set[str]:
    """The stages to run."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError(f"The plan {path} has the stage {twice} twice: a run has one name, copy the recipe.")
    if wishes.only and wishes.start:
        raise UserError("--only and --from exclude each other: name the stages, or the first one.")
    for name in (*wishes.only, *([wishes.start] if wishes.start else [])):
        if name not in names:
            raise UserError(f"The plan {path} has no stage {name}: it has {', '.join(names)}.")
    if wishes.start:
        return set(names[names.index(wishes.start) :])
    return set(wishes.only or names)


def stage_recipe(plan: Plan, stage: PlanStage, path: Path, before: list[str], runs: Path, wishes: Wishes) -> Recipe:
    """The recipe as this plan runs it: its folder, what it starts from, the data and settings of the command line."""
    file = path.parent / f"{stage.recipe}.yaml"
    plain = load_recipe(file)
    changes: dict[str, object] = {"output": str(runs / stage.recipe)}
    for key, source in stage.sources.items():
        name, _, exported = source.partition("/")
        if name not in before:
            raise UserError(f"The plan {path} starts {stage.recipe} from {name}, which does not come before it.")
        changes[key] = str(runs / name / "final" / exported)
    for key, value in flat(plain.model_dump()):
        if key != "output" and key not in changes and isinstance(value, str) and Path(value).is_relative_to(plan.runs):
            raise UserError(f"{file} has {key}: {value}: say in {path} which run that is, under `from`.")
    own = wishes.clips if plain.video else wishes.pictures
    if wishes.pictures or wishes.clips:
        changes["data.split"] = None
    if own:
        changes["data.roots"] = list(own)
    for key in ("stills", "moved_stills"):
        if wishes.pictures and getattr(plain.data, key):
            changes[f"data.{key}"] = list(wishes.pictures)
    overrides = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    for override in wishes.overrides:
        target, colon, key = override.partition("=")[0].rpartition(":")
        if not colon or target == stage.recipe:
            overrides.append(key + override.removeprefix(target + colon + key))
    return load_recipe(file, overrides)


def flat(values: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """(dotted key, value) of nested dicts."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def begun(recipe: Recipe) -> Recipe | None:
    """The recipe of the run that is in this one's folder; UserError if it is of other data or another network."""
    file = Path(recipe.output) / "recipe.yaml"
    if not file.is_file():
        return None
    old = load_recipe(file)
    for what, now, then in (
        ("stage", recipe.stage, old.stage),
        ("data.roots", recipe.data.roots, old.data.roots),
        ("data.size", recipe.data.size, old.data.size),
        ("network", recipe.network, old.network),
    ):
        if now != then:
            raise UserError(f"{recipe.output} was begun with {what} {then}, not {now}: choose another folder (-o).")
    return old


def check_data(recipe: Recipe, name: str) -> None:
    """A plan of hours must not end at its sixth stage for a folder that was never there."""
    for key in ("roots", "stills", "moved_stills"):
        for root in getattr(recipe.data, key):
            if not os.path.exists(os.path.expanduser(root)):
                raise UserError(f"data.{key} of {name} is {root}, which does not exist: give an existing folder.")
    split = recipe.data.split
    if split is not None and not os.path.isfile(os.path.expanduser(split)):
        raise UserError(f"data.split of {name} is {split}, which does not exist: give an existing file.")
