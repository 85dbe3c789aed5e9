"""Tables that people write as CSV: a line of column names, then a row a line; nothing is lost without a word."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest
from os import PathLike

from .errors import UserError

DELIMITERS = ",;\t"
"""Spreadsheets part cells by semicolons where numbers have commas."""

Row = tuple[int, dict[str, str], bool]
"""Line that it begins in, as an editor counts; what it says by column; whether it has more cells than the head."""


class NoTable(UserError):
    """Some other table, or log: it has none of the columns that are wanted."""


def plain_name(name: str) -> str:
    """A column as people write it, Num-Frames, by its name here, num_frames."""
    return name.strip().lower().replace("-", "_")


def read_rows(lines: Iterable[str], what: str, *wanted: str) -> Iterator[Row]:
    """The rows that say anything: spreadsheets leave empty ones.

    Args:
        lines: with their ends as they are.
        what: it is called in a sentence, such as "The list prompts.csv".
        wanted: columns, one of which there has to be.

    Raises:
        NoTable: there is none of them.
        UserError: it is no csv, or has a column twice.
    """
    lines = iter(lines)
    first = next(lines, "")
    number = 1
    try:
        delimiter = max(DELIMITERS, key=lambda one: len({*_names([first], one)} & {*wanted}))
        reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
        head = [plain_name(name) for name in next(reader, [])]
        if not {*head} & {*wanted}:
            raise NoTable(
                f"{what} has no column {wanted[0]}: begin it with a line of column names, separated by commas."
            )
        if twice := {name for name in head if name and head.count(name) > 1}:
            raise UserError(f"{what} has the column {min(twice)!r} twice: take one of them out.")
        number = reader.line_num + 1
        for cells in reader:
            said = {name: cell for name, cell in zip_longest(head, cells[: len(head)], fillvalue="") if name}
            more = any(cell.strip() for place, cell in enumerate(cells) if place >= len(head) or not head[place])
            if more or any(cell.strip() for cell in said.values()):
                yield number, said, more
            number = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{what} is no csv (the row of line {number}: {error}): mend that row.") from None


def _names(lines: list[str], delimiter: str) -> list[str]:
    return [plain_name(name) for name in next(csv.reader(lines, delimiter=delimiter), [])]


def read_table(path: str | PathLike[str], key: str, *columns: str) -> dict[str, dict[str, str]]:
    """The rows of a file in UTF-8, by what stands in the column `key`.

    columns: that it has to have beside that one.

    Raises:
        UserError: no such file, no text or csv, no such columns, no rows; a row with too many cells, or two of one key.
    """
    what = f"The table {path}"
    rows: dict[str, dict[str, str]] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            for number, said, more in read_rows(file, what, key):
                if lacks := [name for name in columns if name not in said]:
                    raise UserError(f"{what} has no column {lacks[0]}: it needs {key} and {lacks[0]}.")
                if more:
                    raise UserError(f"Line {number} of {path} has more cells than the head: put a text in quotes.")
                if said[key] in rows:
                    raise UserError(f"{what} has two rows of {said[key]!r}: take one of them out.")
                rows[said[key]] = said
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not in UTF-8"
        raise UserError(f"{what} cannot be read ({reason}): give a csv file.") from None
    if not rows:
        raise UserError(f"{what} has no rows: give a csv with a heading and a row for each {key}.")
    return rows
