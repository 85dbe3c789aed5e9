"""What of the data is not used, or not as it is: counted by kind and named, in one paragraph and in a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Set
from pathlib import Path

from .index import SAME_STEM
from .wordings import HALF, IN_CP1252, IN_UTF16, IN_UTF32

NOT_AT_EVERY_RATE = "too short for some of the rates"
RENAMED = "a name that its folder has twice, packed with _ behind it"
USED = {SAME_STEM, IN_UTF16, IN_UTF32, IN_CP1252, HALF, NOT_AT_EVERY_RATE, RENAMED}
"""What is odd about files that are used all the same."""
LIMIT = 20
"""Files that a sentence names; the others are counted."""


class SkipReport:
    """Collects (path, reason) pairs, each path once."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self.fresh = False  # something was added since the last text()

    def add(self, skipped: Iterable[tuple[str, str]]) -> None:
        """Those that it does not have yet."""
        for path, reason in skipped:
            if printable(path) not in self.reasons:
                self.reasons[printable(path)] = str(reason)
                self.fresh = True

    def __len__(self) -> int:
        return len(self.reasons)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(sorted(self.reasons.items()))

    def text(self, files: Collection[str] = (), what: str = "files", limit: int = LIMIT) -> str:
        """One paragraph that names at most `limit` files of a kind; the empty string if there is nothing to say.

        files: the paths of all samples, `printable` if they are a Set: it says how many of them were never used.
        what: what to call them.
        """
        self.fresh = False
        samples = named(files)
        used = [(path, reason) for path, reason in self if reason in USED]
        others = [(path, reason) for path, reason in self if reason not in USED]
        never = [one for one in others if one[0] in samples]
        passed = [one for one in others if one[0] not in samples]
        were = "was" if len(never) == 1 else "were"
        sentences = [
            listed(f"{len(never):,} of {len(samples):,} {what} {were} never used", never, limit),
            listed(f"Skipped {number_of(passed)}", passed, limit),
            listed(f"Used {number_of(used)} all the same", used, limit),
        ]
        return " ".join(filter(None, sentences))

    def write(self, file: Path) -> None:
        """All of it, a line each: the reason, a tab, the path."""
        file.write_text("".join(sorted(f"{reason}\t{path}\n" for path, reason in self.reasons.items())), "utf-8")

    def read(self, file: Path) -> None:
        """Add what `write` wrote; nothing where there is no such file."""
        if file.is_file():
            lines = (line.partition("\t") for line in file.read_text("utf-8", "replace").splitlines())
            self.add((path, reason) for reason, tab, path in lines if tab)

    __str__ = text


def listed(head: str, found: list[tuple[str, str]], limit: int) -> str:
    """A sentence that counts (path, reason) pairs by reason and names the first; the empty string for none."""
    if not found:
        return ""
    counts = Counter(reason for _, reason in found).most_common()
    kinds = f" ({', '.join(f'{count:,} {reason}' for reason, count in counts)})" if len(counts) < len(found) else ""
    more = f"; and {len(found) - limit:,} more" if len(found) > limit else ""
    return f"{head}{kinds}: {'; '.join(f'{path} ({reason})' for path, reason in found[:limit])}{more}."


def named(files: Collection[str]) -> Set[str]:
    """The paths of samples as reports name them; those of an index, a Set, are so already."""
    return files if isinstance(files, Set) else {printable(file) for file in files}


def number_of(found: Collection) -> str:
    return f"{len(found):,} file{'' if len(found) == 1 else 's'}"


def printable(text: object) -> str:
    """On one line, and in any encoding: names of files may hold anything."""
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in plain)
