"""The list of prompts: csv, txt or jsonl, a line a video, with the options of `generate`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ..csv_text import plain_name, read_rows
from ..errors import UserError, words_of
from ..nesting import SHORT
from ..prompts import check_prompt, check_text
from ..shapes import read_size

ENDINGS = (".csv", ".txt", ".jsonl")


def _text(value: Any) -> Any:
    """A number in JSON where words are meant is a prompt too: 1984."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Text = Annotated[str, BeforeValidator(_text)]


def _size(value: Any) -> Any:
    """As the recipe has it, however it was written: the same videos are known again by it."""
    found = read_size(value)
    return found if isinstance(found, int) else found.written


Written = Annotated[int | str, BeforeValidator(_size)]


class Row(BaseModel):
    """A line of the list: the options of `generate` by their names, with `_` or `-`, and where the video goes."""

    model_config = ConfigDict(extra="forbid")

    prompt: Text | None = None
    prompts: Text | None = None
    """A story's file, beside the list."""
    negative: Text | None = None
    output: Text | None = None
    """File in the folder of the videos; None: a name is made of what it shows."""
    seed: int | None = Field(None, ge=0, lt=2**63)
    count: int = Field(1, ge=1, le=1_000_000)
    num_frames: int | None = None
    seconds: float | None = None
    fps: float = 24.0
    size: Written | None = None
    steps: int | None = None
    guidance: float = 2.0
    motion: float | None = None
    loop: bool = False
    fast: bool = False
    quality: int | None = None


_LENGTHS = {"num_frames", "seconds", "prompts"}
"""Ways to say how long: a line's own goes before the list's."""


class Line(NamedTuple):
    """One line of the list: its number, as an editor counts, what it says, and the row; or what is wrong with it."""

    number: int
    said: dict[str, Any]
    row: Row | None
    error: str | None = None


def read_list(path: Path, defaults: dict[str, Any]) -> list[Line]:
    """The lines of a list, in order.

    Args:
        path: csv with a head of column names; txt, a prompt a line; jsonl, an object a line. UTF-8.
        defaults: for the options that a line, or its cell, leaves out.

    What is wrong with one line is that line's; what is wrong with all of them is raised.

    Raises:
        UserError: no such file, of another kind, empty, without head, an unknown column.
    """
    kind = path.suffix.lower()
    if kind not in ENDINGS:
        raise UserError(
            f"The list {path} must be {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}: give it one of these endings."
        )
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise UserError(f"The list {path} cannot be read: give a {kind} file in UTF-8.") from None
    reader = {".csv": _read_csv, ".txt": _read_text, ".jsonl": _read_jsonl}[kind]
    found = reader(text, path)
    if not found:
        raise UserError(f"The list {path} is empty: write a prompt a line.")
    for number, said, _ in found:
        if unknown := [name for name in said if name not in Row.model_fields]:
            known = ", ".join(Row.model_fields)
            where = "" if kind == ".csv" else f" in line {number}"
            raise UserError(f"The list {path} has the unknown column {unknown[0]!r}{where}: choose from {known}.")
    return [_checked(number, said, error, defaults) for number, said, error in found]


Found = list[tuple[int, dict[str, Any], str | None]]


def _read_csv(text: str, path: Path) -> Found:
    if not text.strip():
        return []
    wrong = "it has more cells than the head, put a text with commas in quotes"
    return [
        (number, {name: cell for name, cell in said.items() if cell.strip()}, wrong if more else None)
        for number, said, more in read_rows(io.StringIO(text, newline=""), f"The list {path}", "prompt", "prompts")
    ]


def _read_text(text: str, path: Path) -> Found:
    return [
        (number, {"prompt": line.strip()}, None) for number, line in enumerate(text.splitlines(), 1) if line.strip()
    ]


def _read_jsonl(text: str, path: Path) -> Found:
    found: Found = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            said = json.loads(line, object_pairs_hook=_once)
        except _Twice as error:
            found.append((number, {}, str(error)))
            continue
        except (ValueError, RecursionError):
            found.append((number, {}, "it is not JSON"))
            continue
        if isinstance(said, dict):
            found.append((number, {key: value for key, value in said.items() if value is not None}, None))
        else:
            found.append((number, {}, 'it is not an object: write {"prompt": "a rocket"}'))
    return found


class _Twice(ValueError):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of a JSON line; of a key that stands there twice, neither value is taken for what is meant."""
    said: dict[str, Any] = {}
    for name, value in pairs:
        if (name := plain_name(name)) in said:
            raise _Twice(f"it has the key {name[:80]!r} twice")
        said[name] = value
    return said


def _checked(number: int, said: dict[str, Any], error: str | None, defaults: dict[str, Any]) -> Line:
    if error is not None:
        return Line(number, said, None, f"This line cannot be read: {error}.")
    if _LENGTHS & said.keys():
        defaults = {name: value for name, value in defaults.items() if name not in _LENGTHS}
    try:
        row = as_row({**defaults, **said})
        if row.prompts is None:
            check_prompt(row.prompt)
        elif len(_LENGTHS & said.keys()) + bool(row.prompt) > 1:
            raise UserError("A story has its own prompts and length: leave out prompt, num_frames and seconds.")
    except UserError as refused:
        return Line(number, said, None, str(refused))
    return Line(number, said, row)


def as_row(values: dict[str, Any]) -> Row:
    """Raises UserError, one sentence about the first value that is not possible."""
    for name, value in values.items():  # half a letter, which JSON can name, is no text
        check_text(value if isinstance(value, str) else None, name)
    try:
        return Row.model_validate(values)
    except ValidationError as wrong:
        first = wrong.errors()[0]
        told = words_of(first)
        if first["type"] != "value_error":
            told = f"{first['loc'][0]} {SHORT.repr(first['input'])} is not possible: {told}."
        raise UserError(told) from None
