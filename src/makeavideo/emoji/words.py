"""Names and keywords of every emoji, joined from the naming packages; some keywords are held out of all training."""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from .concepts import canonical_code, code_of, concept_group, has_skin_tone
from .packages import read_json
from .phrases import clean, phrase

FLAGS = 9
"""Emojibase's number of the group of flags."""
SHORTCODES = ("emojibase", "cldr", "emojibase-legacy", "joypixels")
ENGLISH = ("en", "en-001", "en-GB", "en-AU", "en-CA", "en-IN")


@dataclass(frozen=True)
class Concept:
    """What is known of one emoji in words; `held_out` are keywords that no training may see."""

    code: str
    label: str
    group: int | None
    keywords: tuple[str, ...]
    names: tuple[str, ...]
    held_out: tuple[str, ...] = ()

    def sidecar(self) -> bytes:
        """The caption file of one picture (UTF-8 JSON; its keys: docs/training.md)."""
        data: dict[str, Any] = {
            "label": self.label.lower(),
            "phrase": phrase(self.label, self.group),
            "names": list(self.names),
            "keywords": list(self.keywords),
            "group": concept_group(self.code),
            "concept": self.code,
        }
        if self.held_out:
            data["held_out_keywords"] = list(self.held_out)
        return json.dumps(data, ensure_ascii=False, indent=1).encode()


def runs_of_words(text: str) -> set[str]:
    """Every run of whole words in a text: "red apple pie" has six."""
    words = re.findall(r"[\w'-]+", text)
    return {" ".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)}


# ------------------------------------------------------------------------------------------------ held out


@functools.cache
def held_out_keywords() -> frozenset[str]:
    """The committed list of keywords that no training stage sees."""
    data = json.loads(resources.files("makeavideo.emoji").joinpath("held_out_keywords.json").read_text("utf-8"))
    return frozenset(data["keywords"])


def draw_held_out_keywords(concepts: Iterable[Concept], seed: int = 0) -> list[str]:
    """A tenth of the concepts' keywords, drawn by seed. This is how the committed list was made.

    A word that stands in some label is not drawn: labels are trained on, so it would not be new.
    """
    concepts = list(concepts)
    in_labels: set[str] = set().union(*(runs_of_words(concept.label.lower()) for concept in concepts))
    pool = sorted({word for concept in concepts for word in concept.keywords} - in_labels)
    return sorted(random.Random(f"{seed} keywords").sample(pool, len(pool) // 10))


def hold_out(concept: Concept, held_out: frozenset[str]) -> Concept:
    """The concept without held-out keywords; what contains one as whole words goes too."""

    def kept(words: Iterable[str]) -> tuple[str, ...]:
        return tuple(word for word in words if held_out.isdisjoint(runs_of_words(word)))

    lost = tuple(word for word in concept.keywords if word in held_out)
    return Concept(concept.code, concept.label, concept.group, kept(concept.keywords), kept(concept.names), lost)


# ----------------------------------------------------------------------------------------------- packages


class Words:
    """Names and keywords by code, in the order of the sources."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}
        self.keywords: dict[str, list[str]] = {}

    def add(self, code: str, names: Iterable[str] = (), keywords: Iterable[str] = ()) -> None:
        self.names.setdefault(code, []).extend(names)
        self.keywords.setdefault(code, []).extend(keywords)


def _gather(tarballs: dict[str, Path]) -> Words:
    words = Words()
    emojibase = tarballs["emojibase-data"]
    for emoji, entry in read_json(tarballs["unicode-emoji-json"], "data-by-emoji.json").items():
        words.add(code_of(emoji), [entry["name"]])
    for entry in read_json(emojibase, "en/data.json"):
        words.add(canonical_code(entry["hexcode"]), keywords=entry.get("tags", []))
    for emoji, (name, *keywords) in read_json(tarballs["emojilib"], "dist/emoji-en-US.json").items():
        words.add(code_of(emoji), [name], keywords)
    for kind in SHORTCODES:
        for code, short in read_json(emojibase, f"en/shortcodes/{kind}.json").items():
            words.add(canonical_code(code), [short] if isinstance(short, str) else short)
    if cldr := tarballs.get("cldr-annotations-full"):
        for language in ENGLISH:
            data = read_json(cldr, f"annotations/{language}/annotations.json")
            for emoji, entry in data["annotations"]["annotations"].items():
                words.add(code_of(emoji), entry.get("tts", []), entry.get("default", []))
    if mart := tarballs.get("@emoji-mart/data"):
        for entry in read_json(mart, "sets/15/all.json")["emojis"].values():
            words.add(canonical_code(entry["skins"][0]["unified"]), [entry["name"]], entry["keywords"])
    return words


def _plain(text: str) -> str:
    """Without typographic quotation marks."""
    return re.sub(
        "[\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}]",
        "",
        text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"),
    )


def _sayable(words: Iterable[str], flag: bool) -> list[str]:
    """Cleaned words without what nobody says: "umbrella2", a slip of the data, and the two letters of a country."""
    return [
        word
        for word in clean(map(_plain, words))
        if not re.search(r"[a-z]\d+$|undefined|^flag-", word) and not (flag and re.fullmatch(r"(flag )?[a-z]{2}", word))
    ]


def read_concepts(tarballs: dict[str, Path]) -> dict[str, Concept]:
    """Labels, names and keywords of every emoji without a skin tone, joined from the packages of names and words.

    Those of words may be left out. All keywords are there; :func:`hold_out` takes the held-out ones away.
    """
    words = _gather(tarballs)
    out = {}
    for entry in read_json(tarballs["emojibase-data"], "en/data.json"):
        code, group, label = canonical_code(entry["hexcode"]), entry.get("group"), _plain(entry["label"])
        if has_skin_tone(code):
            continue
        flag = group == FLAGS
        known = {label.lower(), phrase(label, group)}
        country = [f"{label[6:]} flag"] if label.startswith("flag: ") else []
        names = [name for name in _sayable([*country, *words.names.get(code, [])], flag) if name not in known]
        known.update(names)
        keywords = [word for word in _sayable(words.keywords.get(code, []), flag) if word not in known]
        out[code] = Concept(code, label, group, tuple(keywords), tuple(names))
    return out
