"""From lines to jobs: what each video is, how long a file of it is called, and by what it is known again."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import UserError
from ..media.formats import check_quality, frame_rate
from ..nesting import SHORT
from ..orders import Abilities, Additions, Order, Story, asked, read_story
from ..settings import Settings
from .rows import Line, Row

ENDINGS = (".mp4", ".webm", ".gif", ".webp", ".png")
"""Of one file each; a folder of pictures is not made here."""
LONGEST_NAME = 255
"""Bytes of a file's name, or a folder's, on the usual disks."""


@dataclass(frozen=True)
class Job:
    """One video of a batch, whole: a worker needs nothing else but the model."""

    line: int
    """Of the list."""
    name: str
    """File in the folder of the videos, with / between folders."""
    order: Order
    quality: int | None
    recipe: dict[str, Any]
    """As JSON has it, without the circumstances of a machine."""

    @property
    def prompt(self) -> str | Story:
        return self.order.what["prompt"]

    @property
    def key(self) -> str:
        """Knows the video again: of everything that it depends on, and its ending."""
        return key_of(self.recipe, self.quality, PurePosixPath(self.name).suffix)


@dataclass(frozen=True)
class Broken:
    """A line of which no video can be made."""

    line: int
    said: dict[str, Any]
    error: str


def settled(row: Row, seconds: float | None, abilities: Abilities, ending: str) -> tuple[dict[str, Any], Settings]:
    """The pipeline's options and settings of a row that is `seconds` long.

    Raises:
        UserError: an impossible one.
    """
    check_quality(row.quality, ending)
    options = asked(row.num_frames, seconds, row.fps, row.size, row.steps, row.guidance, row.motion, row.loop, row.fast)
    settings = abilities.settle(options, row.fast)
    frame_rate(settings.fps, ending)
    return options, settings


def check_defaults(row: Row, abilities: Abilities, ending: str) -> None:
    """Raises UserError where what the command says of all lines is impossible: not in each of them."""
    if ending not in ENDINGS:
        raise UserError(f"--format {ending[1:]} is not possible: choose {', '.join(one[1:] for one in ENDINGS)}.")
    settled(row, row.seconds, abilities, ending)


def key_of(recipe: dict[str, Any], quality: int | None, ending: str) -> str:
    told = json.dumps([recipe, quality, ending], sort_keys=True)
    return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()


class Plan:
    """The jobs of a list.

    A line without a seed gets the base seed, and a further one that says the same the next seed: what a line gives does
    not depend on the lines around it that say something else. Where two lines ask for the very same file, it is made
    once.

    Args:
        folder: the model's, `abilities` what it can, `weights` the hash of it.
        beside: the folder of the list, from which stories are read.
        ending: of files that the list does not name.
        seed: the base.
        additions: on top of the model's weights.
    """

    def __init__(
        self,
        folder: Path,
        abilities: Abilities,
        weights: str,
        beside: Path,
        ending: str,
        seed: int,
        additions: Additions | None = None,
    ) -> None:
        self.additions = additions or Additions()
        self._added = self.additions.recipe()
        self.model, self.abilities, self.weights = folder.name, abilities, weights
        self.beside, self.ending, self.seed = beside, ending, seed
        self.jobs: dict[str, Job] = {}
        """By name, in the order of the list."""
        self.broken: list[Broken] = []
        self.twice = 0
        """Lines, or counts of them, that ask for what another one asks for."""
        self._said: Counter[str] = Counter()
        self._folders: set[str] = set()

    def add(self, line: Line) -> None:
        """Its jobs, or the line as a broken one."""
        try:
            if line.row is None:
                raise UserError(line.error or "")
            jobs = list(self._jobs_of(line.number, line.row))
            for job in jobs:
                self._check_name(job)
        except UserError as error:
            self.broken.append(Broken(line.number, line.said, str(error)))
            return
        self.twice += sum(job.name in self.jobs for job in jobs)
        self.jobs |= {job.name: job for job in jobs if job.name not in self.jobs}

    def _check_name(self, job: Job) -> None:
        other = self.jobs.get(job.name, job)
        if other.key != job.key:
            raise UserError(f"{job.name} is the output of line {other.line} already: choose another name.")
        place = PurePosixPath(job.name)
        if taken := next((str(one) for one in place.parents if str(one) in self.jobs), None):
            line = self.jobs[taken].line
            raise UserError(f"{taken} is the output of line {line}, and no folder: choose another name.")
        if job.name in self._folders:
            raise UserError(f"{job.name} is a folder of other lines' outputs: choose another name.")
        if any(len(os.fsencode(part)) > LONGEST_NAME for part in place.parts):
            said = SHORT.repr(job.name)
            raise UserError(f"The output {said} is longer than {LONGEST_NAME} bytes: choose a shorter one.")
        self._folders |= {str(one) for one in place.parents}

    def _jobs_of(self, number: int, row: Row) -> Iterator[Job]:
        output = None if row.output is None else checked_name(row.output)
        ending = self.ending if output is None else PurePosixPath(output).suffix.lower()
        prompt: str | Story = row.prompt or ""
        seconds = row.seconds
        if row.prompts is not None:
            prompt = read_story(self.beside / row.prompts)
            seconds = sum(length for _, length in prompt)
        options, settings = settled(row, seconds, self.abilities, ending)
        if ending == ".png" and settings.num_frames > 1:
            raise UserError(f"A .png holds one picture, not {settings.num_frames} frames: choose another format.")
        what = {"prompt": prompt, "negative_prompt": row.negative}
        parts = 1 if isinstance(prompt, str) else len(prompt)
        for seed in self._seeds(row, json.dumps([what, options, row.quality, output])):
            order = Order("generate", what, options, settings, seed, parts)
            recipe = json.loads(json.dumps({**order.recipe(self.model, self.weights), **self._added}))
            key = key_of(recipe, row.quality, ending)
            yield Job(number, self._name(output, prompt, row, seed, key), order, row.quality, recipe)

    def _seeds(self, row: Row, said: str) -> range:
        if row.seed is not None:
            return range(row.seed, row.seed + row.count)
        first = self.seed + self._said[said]
        self._said[said] += row.count
        return range(first, first + row.count)

    def _name(self, output: str | None, prompt: str | Story, row: Row, seed: int, key: str) -> str:
        if output is None:
            text = prompt if isinstance(prompt, str) else " ".join(part for part, _ in prompt)
            words = re.sub(r"[\W_]+", "-", text.lower()).strip("-")[:40].strip("-") or "video"
            return f"{words}-{seed}-{key[:8]}{self.ending}"
        path = PurePosixPath(output)
        return str(path.with_name(f"{path.stem}-{seed}{path.suffix}")) if row.count > 1 else output


def checked_name(output: str) -> str:
    """The name of a file below the folder of the videos, with / between folders.

    Raises:
        UserError: a place outside of it, a hidden file, an ending that cannot be written.
    """
    path = PurePosixPath(output.replace("\\", "/"))
    if path.is_absolute() or ":" in output or "\0" in output or any(part.startswith(".") for part in path.parts):
        raise UserError(f"The output {output!r} is not possible: give a name below the folder of the videos.")
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"The output {output!r} has no ending of a video: choose {', '.join(ENDINGS)}.")
    return str(path)
