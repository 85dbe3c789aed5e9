"""Which files of two folders form pairs, and for which prompt they were made.

A is always the first folder, B the second.
"""

from pathlib import Path
from typing import NamedTuple

from ..csv_text import read_table
from ..errors import UserError
from ..media.reader import read_recipe
from ..prompts import check_text

ENDINGS = (".mp4", ".webm", ".gif", ".webp")


class Pair(NamedTuple):
    """Two videos for one prompt."""

    name: str
    """The stem that both files share."""
    prompt: str
    a: Path
    b: Path


def find_pairs(folder_a: Path, folder_b: Path, prompts: Path | None = None) -> list[Pair]:
    """The files of the same stem in both folders, by name.

    The prompt comes from `prompts` (a CSV with columns id and prompt, the id being the stem), else from the recipe in
    the files, else from the stem.

    Raises:
        UserError: a missing folder or CSV, two videos of one stem in a folder, no pairs, recipes of different prompts,
            a name that is no text.
    """
    videos_a, videos_b = _videos(folder_a), _videos(folder_b)
    names = sorted(videos_a.keys() & videos_b.keys())
    if not names:
        raise UserError(f"{folder_a} and {folder_b} share no videos: give both files of a pair the same name.")
    given = _read_prompts(prompts) if prompts else {}
    return [
        Pair(name, given.get(name) or _prompt(videos_a[name], videos_b[name]), videos_a[name], videos_b[name])
        for name in names
    ]


def _videos(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}: give two folders of videos.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in ENDINGS and path.is_file():
            check_text(str(path), f"The name of {path}")  # the votes are kept under it
            if path.stem in found:
                raise UserError(
                    f"{found[path.stem]} and {path} have the same name before the ending: keep one of them."
                )
            found[path.stem] = path
    return found


def _read_prompts(path: Path) -> dict[str, str]:
    return {name: row["prompt"].strip() for name, row in read_table(path, "id", "prompt").items()}


def _prompt(a: Path, b: Path) -> str:
    """What the recipes of both files say, or the stem in words."""
    found = {str(prompt).strip() for path in (a, b) if (prompt := (read_recipe(path) or {}).get("prompt"))}
    if len(found) > 1:
        raise UserError(f"{a} and {b} were made from different prompts: only videos of one prompt can be compared.")
    return found.pop() if found else " ".join(a.stem.replace("_", " ").replace("-", " ").split())
