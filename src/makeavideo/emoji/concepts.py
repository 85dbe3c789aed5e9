"""Emoji as concepts: one spelling of a code, groups of variants, and the committed split into train and held-out."""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Iterable
from importlib import resources

from ..data.split import Split, parse_split

SKIN_TONES = frozenset({"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"})


def canonical_code(name: str) -> str:
    """The one spelling of an emoji's code points: lower-case hexadecimal of at least four digits joined by dashes.

    Packages disagree (``23-fe0f-20e3``, ``0023-FE0F-20E3``; underscores and a missing end tag in the flags of
    England, Scotland and Wales), so the variation selector fe0f is left out and the end tag is put back.
    """
    parts = [part.zfill(4) for part in re.split("[-_]", name.lower())]
    parts = [part for part in parts if part != "fe0f"]
    if "e0067" in parts and parts[-1] != "e007f":
        parts.append("e007f")
    return "-".join(parts)


def code_of(emoji: str) -> str:
    """The canonical code of an emoji given as text."""
    return canonical_code("-".join(f"{ord(character):x}" for character in emoji))


def has_skin_tone(code: str) -> bool:
    """Whether any of the code points is one of the five skin-tone modifiers."""
    return not SKIN_TONES.isdisjoint(code.split("-"))


# Emoji that show the same thing on another person but do not share a base code point.
_SAME = (
    {"1f468", "1f469", "1f9d1"},  # man, woman, person
    {"1f466", "1f467", "1f9d2"},  # boy, girl, child
    {"1f474", "1f475", "1f9d3"},  # older people
    {"1f934", "1f478", "1fac5"},  # prince, princess, person with crown
    {"1f385", "1f936", "1f9d1-200d-1f384"},  # Santa, Mrs, Mx Claus
    {"1f57a", "1f483"},  # dancing
    {"1f930", "1fac3", "1fac4"},  # pregnant
    {"1f46b", "1f46c", "1f46d", "1f9d1-200d-1f91d-200d-1f9d1"},  # holding hands
    {"1f935", "1f470"},  # tuxedo and veil
)
_PERSON = {code: min(same) for same in _SAME for code in same}


def concept_group(code: str) -> str:
    """A name shared by all gender, direction and family variants of one emoji; a group falls on one side of the split.

    Otherwise "woman astronaut" in training would give away the held-out "man astronaut".
    """
    if code in _PERSON:
        return _PERSON[code]
    parts = [p for p in code.split("-") if p not in SKIN_TONES and p not in {"2640", "2642", "27a1"}]
    while parts and parts[-1] == "200d":
        parts.pop()
    parts = [p for i, p in enumerate(parts) if p != "200d" or parts[i + 1] != "200d"]
    people = sum(p in {"1f466", "1f467", "1f468", "1f469", "1f9d1", "1f9d2"} for p in parts)
    if people >= 2 and "2764" in parts:
        return "1f48f" if "1f48b" in parts else "1f491"
    if code == "1f46a" or (people >= 2 and "1f91d" not in parts):
        return "1f46a"
    joined = "-".join(_PERSON.get(p, p) if "-" not in _PERSON.get(p, p) else p for p in parts)
    return _PERSON.get(joined, joined)


@functools.cache
def split() -> Split:
    """The committed split: 5 % of all concepts in no training stage, 10 % of the animated ones as stills only.

    Both sets hold canonical codes (file stems). Recipes name a copy of the file, recipes/emoji/split.json.
    """
    return parse_split(json.loads(resources.files("makeavideo.emoji").joinpath("split.json").read_text("utf-8")))


def draw_split(concepts: Iterable[str], animated: Iterable[str], seed: int = 0) -> Split:
    """Draw a split: a pure function of the codes and the seed. Whole groups (:func:`concept_group`) are held out.

    This is how the committed file was made; it is not drawn again at run time, so that a new package version cannot
    move a concept from held-out to training.
    """
    concepts, animated = sorted(set(concepts)), set(animated)

    def draw(pool: list[str], wanted: int, salt: str) -> set[str]:
        groups: dict[str, list[str]] = {}
        for code in pool:
            groups.setdefault(concept_group(code), []).append(code)
        names = sorted(groups)
        random.Random(f"{seed} {salt}").shuffle(names)
        chosen: set[str] = set()
        for name in names:
            if len(chosen) + len(groups[name]) <= wanted:
                chosen.update(groups[name])
        return chosen

    held_out_all = draw(concepts, round(0.05 * len(concepts)), "all")
    rest = [code for code in concepts if code in animated and code not in held_out_all]
    held_out_motion = draw(rest, round(0.10 * len(animated)), "motion")
    return Split(frozenset(held_out_all), frozenset(held_out_motion))
