"""How deep something goes that somebody else wrote as JSON: looked at level by level, where recursion could end."""

import reprlib
from collections.abc import Iterator
from typing import Any


class OneLine(reprlib.Repr):
    """reprlib's own, on one line: arrays and tensors have several."""

    def repr(self, x: Any) -> str:
        said = super().repr(x)
        if "\n" not in said:
            return said
        said = " ".join(said.split())
        return said if len(said) <= self.maxother else f"{said[: self.maxother - 3]}..."


SHORT = OneLine()
"""For sentences that show what somebody wrote, which may be a megabyte."""
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother, SHORT.maxlong = 2, 80, 80, 40


def levels(value: Any) -> Iterator[list]:
    """The value; what lies in it, if it is a dict or list; what lies in that; and so on, as long as there is any."""
    level = [value]
    while level:
        yield level
        groups = [one for one in level if isinstance(one, dict | list)]
        level = [one for group in groups for one in (group.values() if isinstance(group, dict) else group)]
