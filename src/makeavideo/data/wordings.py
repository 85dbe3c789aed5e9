"""What is said of a picture, and the captions that are drawn from it while training."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..media.pictures import Unreadable
from .index import Source

NAMED, KEYWORD = 0.4, 0.4
"""Shares of captions that are a label, phrase or name, and one keyword; the others are pairs."""
IN_UTF16 = "a caption in UTF-16, read as that"
IN_UTF32 = "a caption in UTF-32, read as that"
IN_CP1252 = "a caption that is not UTF-8, read as Windows-1252"
HALF = "a caption with half a letter, read with a mark in its place"
KEYS = ("captions", "caption", "label", "phrase", "phrases", "names", "keywords")
TEMPLATES = ("{}", "{}", "a picture of {}", "an image of {}", "a drawing of {}", "a video of {}", "an animation of {}")


@dataclass(frozen=True)
class Wordings:
    """All that is said of one picture, each once.

    phrases: whole descriptions: captions, label, phrases.
    names: other names of the same thing.
    keywords: single words or short phrases that have to do with it; other pictures may have them too.
    group: shared by pictures that show variants of one thing.
    concept: shared by pictures of one and the same thing; "": no other picture is of it.
    """

    phrases: tuple[str, ...]
    names: tuple[str, ...]
    keywords: tuple[str, ...]
    group: str
    concept: str = ""

    @property
    def all(self) -> tuple[str, ...]:
        return self.phrases + self.names + self.keywords


def _texts(data: dict[str, Any], *keys: str) -> list[str]:
    found: list[Any] = []
    for key in keys:
        value = data.get(key)
        found += value if isinstance(value, list) else [value]
    return [whole(value) for value in found if isinstance(value, str)]


def whole(text: str) -> str:
    """The text with U+FFFD for each half of a letter (lone surrogate), which JSON can escape and no encoding takes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def as_text(data: bytes) -> tuple[str, str | None]:
    """The text of a caption's file, and how it was read where that is not UTF-8.

    Raises:
        Unreadable: it is in none of these encodings.
    """
    try:
        if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
            return data.decode("utf-32"), IN_UTF32
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            return data.decode("utf-16", errors="replace"), IN_UTF16
        if b"\0" in data:  # no text has such a letter, and every Latin one of UTF-16 has such a half
            high, low = data[::2].count(0), data[1::2].count(0)
            return data.decode("utf-16-be" if high > low else "utf-16-le"), IN_UTF16
        return data.decode("utf-8-sig"), None
    except UnicodeDecodeError:
        pass
    try:
        if b"\0" in data:
            raise Unreadable("it is no text")
        return data.decode("cp1252"), IN_CP1252
    except UnicodeDecodeError:
        raise Unreadable("its encoding is not known: save it as UTF-8") from None


def has_half_letters(data: dict[str, Any]) -> bool:
    """Whether `whole` changes what is said under one of the keys that are read."""
    said = (data.get(key) for key in (*KEYS, "group", "concept"))
    texts = (text for value in said for text in (value if isinstance(value, list) else [value]))
    return any(isinstance(text, str) and whole(text) != text for text in texts)


def remarks(sources: Sequence[Source]) -> list[tuple[str, str]]:
    """(path, what is odd) of the files beside a picture that are not read, or not as UTF-8."""
    told = []
    for source in sources:
        try:
            text, odd = as_text(source.read())
        except Unreadable as error:
            told.append((str(source), f"a caption that cannot be read, {error}"))
            continue
        if source.extension == "json":
            try:
                data = json.loads(text)
                if not isinstance(data, dict):
                    odd = "captions that are no JSON object"
                elif not _texts(data, *KEYS) and all(one.extension == "json" for one in sources):
                    odd = f"a .json that has none of {', '.join(KEYS)}"
                elif has_half_letters(data):
                    odd = HALF
            except (ValueError, RecursionError):
                odd = "captions that are no JSON"
        told += [(str(source), odd)] if odd else []
    return told


def read_wordings(sources: Sequence[Source], own: str) -> Wordings:
    """From the .txt (one caption a line) and the .json beside a picture; `own` is the group where none is given.

    Keys of the .json, each a text or a list of texts: "captions" or "caption", "label", "phrase" or "phrases", "names",
    "keywords"; and "group" and "concept".
    """
    phrases: list[str] = []
    names: list[str] = []
    keywords: list[str] = []
    group, concept = own, ""
    for source in sources:
        try:
            text = as_text(source.read())[0]
        except Unreadable:
            continue
        if source.extension != "json":
            phrases += text.splitlines()
            continue
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(data, dict):
            phrases += _texts(data, "captions") or _texts(data, "caption")
            phrases += _texts(data, "label", "phrase", "phrases")
            names += _texts(data, "names")
            keywords += _texts(data, "keywords")
            group = (_texts(data, "group") or [group])[0]
            concept = (_texts(data, "concept") or [concept])[0]
    seen: set[str] = set()

    def fresh(found: Iterable[str]) -> tuple[str, ...]:
        plain = [" ".join(text.split()) for text in found]
        kept = tuple(dict.fromkeys(text for text in plain if text and text not in seen))
        seen.update(kept)
        return kept

    return Wordings(fresh(phrases), fresh(names), fresh(keywords), group, concept)


def groups_by_keyword(wordings: Iterable[Wordings]) -> Counter[str]:
    """Of how many groups of pictures each keyword is said."""
    groups = {(word, one.group) for one in wordings for word in one.keywords}
    return Counter(word for word, _ in groups)


class CaptionDraw:
    """Draws captions so that every word of the data comes to stand in one by itself.

    Of a picture with keywords 40 % of the captions are a label, phrase or name, 40 % one keyword in a template, and
    20 % pairs. A keyword is weighed by one over the number of groups that have it: "animal" says little of a cat. A
    picture without keywords has its captions, equally often.

    groups: how many groups have each keyword (`groups_by_keyword`).
    """

    def __init__(self, groups: Mapping[str, int]) -> None:
        self.groups = groups

    def __call__(self, wordings: Wordings, rng: random.Random) -> tuple[str, tuple[str, ...]]:
        """(caption, the wordings that it is made of)."""
        named = wordings.phrases + wordings.names
        if not wordings.keywords:
            caption = rng.choice(named or ("",))
            return caption, (caption,)
        weights = [1 / self.groups[word] for word in wordings.keywords]
        draw = rng.random() if named else NAMED + (1 - NAMED) * rng.random()
        if draw < NAMED:
            # the first one, its label, is half of them: it is what tells the picture from all others
            word = named[0] if rng.random() < 0.5 else rng.choice(named)
            return rng.choice(TEMPLATES).format(word), (word,)
        first = rng.choices(wordings.keywords, weights)[0]
        if draw < NAMED + KEYWORD or len(wordings.all) < 2:
            return rng.choice(TEMPLATES).format(first), (first,)
        second = rng.choice([word for word in wordings.all if word != first])
        return f"{first}, {second}", (first, second)
