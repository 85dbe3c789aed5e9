"""Lists of files with what is said of them: .csv and .jsonl, a row a file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator

from ..errors import UserError, in_a_line
from .shards import filesystem, patiently

LISTS = {"csv", "jsonl"}
ROWS = 10_000
"""Rows that are looked through at a time."""

Chunk = tuple[tuple[str, ...], tuple[bytes, ...]]
"""(paths, JSON of what is said of each: the keys of `wordings.read_wordings`)."""


def read_rows(url: str) -> Iterator[Chunk]:
    """The rows of a list, at most ROWS at a time. `path` names the file, below the list's folder or in full.

    Raises:
        UserError: it cannot be read, or a row has no path.
    """
    fs, name = filesystem(url)
    files: list[str] = []
    rows: list[bytes] = []
    try:
        with patiently(lambda: fs.open(name, "rb")) as binary:
            text = io.TextIOWrapper(binary, "utf-8-sig", newline="")
            parse = _csv if url.lower().endswith(".csv") else _jsonl
            for number, row in parse(text):
                path = row.pop("path", None) if isinstance(row, dict) else None
                if not isinstance(path, str) or not path:
                    raise UserError(f"Row {number} of {url} has no path: give each row a `path`, and a `caption`.")
                files.append(path)
                rows.append(json.dumps({key: value for key, value in row.items() if value}).encode())
                if len(files) == ROWS:
                    yield tuple(files), tuple(rows)
                    files, rows = [], []
    except (OSError, ValueError, csv.Error) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"The list {url} cannot be read ({in_a_line(error)}).") from None
    if files:
        yield tuple(files), tuple(rows)


def _csv(text: io.TextIOWrapper) -> Iterator[tuple[int, dict]]:
    for number, row in enumerate(csv.DictReader(text), 2):
        yield number, {key: value for key, value in row.items() if isinstance(key, str)}


def _jsonl(text: io.TextIOWrapper) -> Iterator[tuple[int, dict]]:
    for number, line in enumerate(text, 1):
        if line.strip():
            yield number, json.loads(line)
