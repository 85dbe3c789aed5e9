"""300 prompts to compare video generators by: 60 in each of the paper's five categories (section 4.1).

Such a list is what the paper's human evaluation uses. This one, `prompts-300.csv`, was written from scratch for this
project and is dedicated to the public domain under CC0 1.0 (the code around it stays Apache-2.0). It varies in length
(2 to 24 words), motion (stills, slow, fast, moving camera, time lapse) and composition (one subject, several, whole
scenes, styles). The 50 marked `emoji`, ten in each category, ask for things that exist as emoji.
"""

import csv
from importlib import resources
from typing import NamedTuple

from ..errors import UserError

CATEGORIES = ("animals", "fantasy", "people", "nature and scenes", "food and beverages")


class Prompt(NamedTuple):
    """One line of the list."""

    id: str
    """Short and unique, good as the name of a video file: animals-01."""
    category: str
    prompt: str
    emoji: bool
    """Whether networks trained on emoji can be expected to know it."""


def load_prompts(category: str | None = None, emoji_only: bool = False) -> list[Prompt]:
    """The prompts in the order of the file.

    Args:
        category: one of `CATEGORIES`; without it, all of them.
        emoji_only: only the 50 that emoji can express.

    Raises:
        UserError: an unknown category.
    """
    if category is not None and category not in CATEGORIES:
        raise UserError(f"There is no category {category!r} of prompts: use one of {', '.join(CATEGORIES)}.")
    text = resources.files("makeavideo.votes").joinpath("prompts-300.csv").read_text("utf-8")
    rows = csv.DictReader(text.splitlines())
    prompts = [Prompt(row["id"], row["category"], row["prompt"], row["emoji"] == "1") for row in rows]
    return [one for one in prompts if category in (None, one.category) and (one.emoji or not emoji_only)]
