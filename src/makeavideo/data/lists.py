"""Lists of files with what is said of them: .csv and .jsonl, a row a file."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

from .. import csv_text
from ..csv_text import NoTable
from ..errors import UserError, in_a_line
from .shards import filesystem, patiently

LISTS = {"csv", "jsonl"}
ROWS = 10_000
"""Files of a list that are looked through at a time."""
NO_PATH = "a list whose rows have no path"

Chunk = tuple[tuple[str, ...], tuple[bytes, ...]]
"""(paths, what is said of each: a line of JSON a row, with the keys of `wordings.read_wordings`)."""


def read_rows(url: str) -> Iterator[Chunk]:
    """The files of a list, at most ROWS at a time; rows that follow each other and name one file are of one sample.

    `path` names the file, below the list's folder or in full. Hugging Face's `file_name` and `text` do for `path` and
    `caption`.

    Raises:
        NoTable: its first row has no path.
        UserError: it cannot be read, or another row has no path or more cells than the head.
    """
    files: list[str] = []
    rows: list[bytes] = []
    refusal: type[UserError] = UserError if url.lower().endswith(".csv") else NoTable  # a csv says it in its head
    for number, row in _parsed(url):
        path = None if row is None else row.pop("path", None) or row.pop("file_name", None)
        if row is None or not path or not isinstance(path, str):
            wrong = "is no JSON object" if row is None else "has no path"
            raise refusal(f"Line {number} of {url} {wrong}: give each one a `path`, and a `caption`.")
        refusal, said = UserError, json.dumps(_said(row)).encode()
        if files and path == files[-1]:
            rows[-1] += b"\n" + said
            continue
        if len(files) == ROWS:
            yield tuple(files), tuple(rows)
            files, rows = [], []
        files.append(path)
        rows.append(said)
    if files:
        yield tuple(files), tuple(rows)


def _said(row: dict[str, Any]) -> dict[str, Any]:
    """What can be a wording, and so is not nested: a text, or a list of them."""
    if not row.get("caption") and not row.get("captions"):
        row["caption"] = row.pop("text", None)
    flat = {
        key: [text for text in value if isinstance(text, str)] if isinstance(value, list) else value
        for key, value in row.items()
        if not isinstance(value, dict)
    }
    return {key: value for key, value in flat.items() if value}


def _parsed(url: str) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """(line that the row begins in, as an editor counts; the row, None where it is no object)."""
    fs, name = filesystem(url)
    try:
        with patiently(lambda: fs.open(name, "rb")) as binary:
            text = io.TextIOWrapper(binary, "utf-8-sig", newline="")
            yield from _csv(text, url) if url.lower().endswith(".csv") else _jsonl(text)
    except UserError:
        raise
    except UnicodeDecodeError:
        raise UserError(f"The list {url} is not in UTF-8: save it as that.") from None
    except Exception as error:
        raise UserError(f"The list {url} cannot be read ({in_a_line(error)}).") from None


def _csv(text: io.TextIOWrapper, url: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, said, more in csv_text.read_rows(text, f"The list {url}", "path", "file_name"):
        if more:
            raise UserError(f"Line {number} of {url} has more cells than the head: put a text with commas in quotes.")
        yield number, said


def _jsonl(text: io.TextIOWrapper) -> Iterator[tuple[int, dict[str, Any] | None]]:
    for number, line in enumerate(text, 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            yield number, row if isinstance(row, dict) else None
