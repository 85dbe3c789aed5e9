"""Which items no training may see: a file that names them by key."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError


@dataclass(frozen=True)
class Split:
    """Keys (file stems) that are held out of training. The two sets are disjoint where the file is well made."""

    held_out_all: frozenset[str]
    """Used in no training stage."""
    held_out_motion: frozenset[str]
    """Stills may be used, motion never."""

    @property
    def no_motion(self) -> frozenset[str]:
        """The keys whose motion may not be used."""
        return self.held_out_all | self.held_out_motion


def parse_split(data: Any) -> Split:
    """From the content of a split's file: {"held_out_all": [key, ...], "held_out_motion": [key, ...], ...}.

    Raises:
        ValueError: a list is missing, or holds something else than keys.
    """
    lists = [data.get(name) if isinstance(data, dict) else None for name in ("held_out_all", "held_out_motion")]
    for keys in lists:
        if not (isinstance(keys, list) and all(isinstance(key, str) for key in keys)):
            raise ValueError("it needs the lists held_out_all and held_out_motion, of file stems")
    return Split(*(frozenset(keys) for keys in lists if keys is not None))


def load_split(path: str | Path) -> Split:
    """Read a split's file.

    Raises:
        UserError: it does not exist, or is no split.
    """
    try:
        return parse_split(json.loads(Path(path).expanduser().read_text("utf-8")))
    except OSError as error:
        raise UserError(f"The split {path} cannot be read ({error.strerror}): correct data.split.") from None
    except ValueError as error:
        reason = "it is not JSON" if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)) else error
        raise UserError(f"The split {path} cannot be used ({reason}): correct data.split.") from None
