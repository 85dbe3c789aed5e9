"""What there is to look through for an index, parted among processes: shards, rows of lists, loose files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ..csv_text import NoTable
from ..errors import UserError, in_a_line
from .index import CAPTIONS, HIDDEN, USABLE, regular_files, samples_among, split_name
from .lists import LISTS, NO_PATH, read_rows
from .shards import filesystem, is_remote, joined, patiently

FILES = 4096
"""Loose files that are looked through at a time, or a few more: those of one name stay together."""
NO_ROWS = "a list without rows"
ROW_TAKEN = "a caption beside a file that a list names too, of which the list's row is taken"

Told = list[tuple[str, str]]
"""(path, reason) of what is passed by."""


@dataclass(frozen=True)
class Task:
    """What one process looks through at a time.

    place: a shard, a list, or the folder that loose files lie in.
    files: their paths below it, or as the list has them; None: it is a shard.
    sizes: bytes of each loose file.
    rows: what the list says of each file, as `lists.read_rows` has it.
    """

    place: str
    files: tuple[str, ...] | None = None
    sizes: tuple[int, ...] = ()
    rows: tuple[bytes, ...] | None = None


def tasks_of(roots: Sequence[str]) -> tuple[list[Task], Told]:
    """(what there is under all roots, each once and in a fixed order; what is passed by).

    Of a file that lies loose and stands in a list too, the list's row is taken.

    Raises:
        UserError: a root does not exist, is empty or cannot be reached; a list is wrong.
    """
    told: Told = []
    tasks: dict[Task, None] = {}
    loose: list[tuple[str, dict[str, int]]] = []
    for root in roots:
        top, sizes, alone = _files_under(root, told)
        loose.append((top, {}))
        for name, size in sizes.items():
            place, ending = f"{top}/{name}", name.lower().rpartition(".")[2]
            if ending == "tar":
                tasks[Task(place)] = None
            elif ending in LISTS:
                tasks |= dict.fromkeys(_rows_of(place, told, given=alone))
            else:
                loose[-1][1][name] = size
    named = {name for task in tasks for name in _named_by(task)}
    for top, sizes in loose:
        tasks |= dict.fromkeys(_loose(top, _less(top, sizes, named, told)))
    return list(tasks), told


Under = tuple[str, dict[str, int], bool]
"""(the folder that a root is or lies in, {path of a file below it: bytes} in order, whether the root is a file)."""


def _files_under(root: str, told: Told) -> Under:
    if not root:  # abspath would make the folder that one is in of it
        raise UserError("The name of a data folder is empty: give folders, .tar shards, .csv or .jsonl lists.")
    before = len(told)
    top, sizes, alone = _elsewhere(root, told) if is_remote(root) else _here(root, told)
    if not sizes and len(told) == before:
        there = "does not exist, is empty or cannot be reached" if is_remote(root) else "does not exist or is empty"
        raise UserError(f"{root} {there}: give folders, .tar shards, .csv or .jsonl lists.")
    return top, sizes, alone


def _here(root: str, told: Told) -> Under:
    """By the walk of the plain reader."""
    path = Path(os.path.abspath(os.path.expanduser(root)))
    top = str(path if path.is_dir() else path.parent).rstrip("/")
    found = regular_files(path, told) if os.path.lexists(path) else ()
    return top, {str(file)[len(top) + 1 :]: size for file, size in found}, not path.is_dir()


def _elsewhere(root: str, told: Told) -> Under:
    """By fsspec."""
    fs, path = filesystem(root)
    top = path.rstrip("/")
    try:
        if alone := patiently(lambda: fs.isfile(path)):
            top, found = path.rpartition("/")[0], {path: patiently(lambda: fs.size(path))}
        else:
            every = patiently(lambda: fs.find(path, detail=True))
            found = {name: every[name].get("size") for name in sorted(every)}
    except (FileNotFoundError, NotADirectoryError):
        alone, found = False, {}
    except Exception as error:
        raise UserError(f"{root} cannot be read ({in_a_line(error)}).") from None
    place = fs.unstrip_protocol(top)
    sizes = {name[len(top) + 1 :]: size or 0 for name, size in found.items()}
    return place, {name: sizes[name] for name in _plain(sizes, place, told)}, alone


def _plain(names: Iterable[str], place: str, told: Told) -> Iterator[str]:
    """Those that a walk through folders of this disk gives."""
    folders: dict[str, list[str]] = {}
    inside: dict[str, set[str]] = {}
    for name in names:
        parts = name.split("/")
        if hidden := next((count for count, part in enumerate(parts, 1) if part.startswith(".")), 0):
            if hidden < len(parts) or name.lower().rpartition(".")[2] in USABLE:
                told.append((f"{place}/{'/'.join(parts[:hidden])}", HIDDEN))
            continue
        folders.setdefault("/".join(parts[:-1]), []).append(parts[-1])
        for depth in range(len(parts) - 1):
            inside.setdefault("/".join(parts[:depth]), set()).add(parts[depth])
    for folder, files in sorted(folders.items()):
        yield from ("/".join(filter(None, (folder, name))) for name in samples_among(files, inside.get(folder, ())))


def _rows_of(url: str, told: Told, given: bool) -> list[Task]:
    """given: it is a root itself, so that it must be a list."""
    try:
        tasks = [Task(url, files, rows=rows) for files, rows in read_rows(url)]
        told += [] if tasks else [(url, NO_ROWS)]
        return tasks
    except NoTable:
        if given:
            raise
        told.append((url, NO_PATH))
        return []


def _named_by(task: Task) -> Iterator[str]:
    if task.rows is not None and task.files is not None:
        folder = task.place.rpartition("/")[0]
        for name in task.files:
            path = joined(folder, name)
            yield path if is_remote(path) else os.path.normpath(path)


def _less(top: str, sizes: dict[str, int], named: set[str], told: Told) -> dict[str, int]:
    """Loose files without those that lists name, and without what lies beside these."""
    if not named:
        return sizes
    stems, kept = {_key(path) for path in named}, {}
    for name, size in sizes.items():
        path = f"{top}/{name}"
        if path not in named and name.lower().rpartition(".")[2] in CAPTIONS and _key(path) in stems:
            told.append((path, ROW_TAKEN))
        elif path not in named:
            kept[name] = size
    return kept


def _key(path: str) -> tuple[str, str]:
    """What files share that belong together."""
    folder, _, name = path.rpartition("/")
    return folder, split_name(name)[0]


def _loose(top: str, sizes: dict[str, int]) -> Iterator[Task]:
    some: list[str] = []
    for _, together in groupby(sorted(sizes, key=lambda name: (_key(name), name)), _key):
        some += together
        if len(some) >= FILES:
            yield Task(top, tuple(some), tuple(sizes[name] for name in some))
            some = []
    if some:
        yield Task(top, tuple(some), tuple(sizes[name] for name in some))
