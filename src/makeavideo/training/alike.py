"""Which captions are right for which pictures, among all that the processes of a run have in a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from ..data.wordings import Wordings


@lru_cache(2**17)
def number_of(text: str) -> int:
    """64 bits that stand for a text, the same in every process."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


@dataclass
class Said:
    """What is said of some pictures, in numbers.

    things: what each shows (pictures,). captions: the words that each one's caption is made of (pictures, words), some
    twice where there are fewer. words, owners: all that is said, and of which picture, (all words,).
    """

    things: np.ndarray
    captions: np.ndarray
    words: np.ndarray
    owners: np.ndarray

    @classmethod
    def of(cls, known: Sequence[Wordings], captions: Sequence[str], indices: Sequence[int]) -> Said:
        """known: all that is said of the pictures; captions: the words of each one's caption, a line each."""
        things = [number_of(one.concept or f"\n{index}") for one, index in zip(known, indices, strict=True)]
        drawn = [[number_of(word) for word in caption.split("\n")] for caption in captions]
        longest = max(map(len, drawn))
        drawn = [words + [words[0]] * (longest - len(words)) for words in drawn]
        words = [number_of(word) for one in known for word in one.all]
        owners = np.repeat(np.arange(len(known)), [len(one.all) for one in known])
        return cls(np.array(things, np.int64), np.array(drawn, np.int64), np.array(words, np.int64), owners)

    @classmethod
    def joined(cls, parts: list[Said]) -> Said:
        """Those of all processes, in their order."""
        longest = max(part.captions.shape[1] for part in parts)
        captions = [np.pad(p.captions, ((0, 0), (0, longest - p.captions.shape[1])), "edge") for p in parts]
        before = np.cumsum([0, *(len(part.things) for part in parts)])
        owners = [part.owners + first for part, first in zip(parts, before, strict=False)]
        things, words = ([getattr(part, name) for part in parts] for name in ("things", "words"))
        return cls(*map(np.concatenate, (things, captions, words, owners)))


def same_thing(pictures: Said, others: Said) -> np.ndarray:
    """(pictures, others), true where two pictures show one thing.

    They do if they are the same one or their data gives them one concept, as twins of two artists; names say nothing:
    there are many 0001.
    """
    return pictures.things[:, None] == others.things


def right_captions(pictures: Said, others: Said) -> np.ndarray:
    """(pictures, others), true where the caption of the other is right for the picture.

    Right are the captions of the same thing, and what is made of words that are all said of the picture.
    """
    distinct, places = np.unique(others.captions, return_inverse=True)
    at = np.minimum(np.searchsorted(distinct, pictures.words), len(distinct) - 1)
    met = distinct[at] == pictures.words
    has = np.zeros((len(pictures.things), len(distinct)), bool)
    has[pictures.owners[met], at[met]] = True
    right = np.ones((len(pictures.things), len(others.things)), bool)
    for words in places.reshape(others.captions.shape).T:
        right &= has[:, words]
    return right | same_thing(pictures, others)
