"""manifest.jsonl, beside the videos: a line a video once it is whole, or a line that says why there is none."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..media.disk import HALVES, reason, temporary_in

NAME = "manifest.jsonl"


class Manifest:
    """The lines by file; those without one, of broken lines of the list, last.

    While the batch runs lines are appended, each on the disk before the next video begins: a process that is killed
    leaves at most a torn last line, which is passed by.

    Args:
        folder: of the videos.

    Raises:
        UserError: it cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.made: dict[str, dict[str, Any]] = {}
        try:
            text = self.path.read_text("utf-8", "replace") if self.path.exists() else ""
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {reason(error)}.") from error
        for line in text.split("\n"):
            with contextlib.suppress(ValueError, RecursionError):
                told = json.loads(line)
                if is_made(told):
                    self.made[told["file"]] = told
        self.failed: list[dict[str, Any]] = []

    def begin(self) -> None:
        """Write what holds of it, and nothing of what failed: that is tried again."""
        self._write(self.made.values())

    def add(self, told: dict[str, Any]) -> None:
        """A video that is made, or a line that failed."""
        if told["status"] == "made":
            self.made[told["file"]] = told
        else:
            self.failed.append(told)
        try:
            with open(self.path, "a", encoding="utf-8", errors=HALVES) as file:
                file.write(_line(told))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"Cannot write {self.path}: {reason(error)}.") from error

    def settle(self, names: Iterable[str]) -> None:
        """The lines in the order of the list whose files these are; before them those of other lists."""
        mine = set(names)
        others = [told for name, told in self.made.items() if name not in mine]
        own = [told for name, told in self.made.items() if name in mine]
        self._write([*others, *sorted([*own, *self.failed], key=lambda told: told["line"])])

    def _write(self, lines: Iterable[dict[str, Any]]) -> None:
        """All of it anew, or not at all."""
        try:
            temporary = temporary_in(self.path.parent)
            try:
                with open(temporary, "w", encoding="utf-8", errors=HALVES) as file:
                    file.writelines(map(_line, lines))
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, self.path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"Cannot write {self.path}: {reason(error)}.") from error


def is_made(told: Any) -> bool:
    """Whether a line of a manifest tells of a video, by its types: others may have written it."""
    kinds = {"file": str, "line": int}
    return (
        isinstance(told, dict)
        and told.get("status") == "made"
        and all(isinstance(told.get(name), kind) for name, kind in kinds.items())
    )


def _line(told: dict[str, Any]) -> str:
    return json.dumps(told, ensure_ascii=False) + "\n"
