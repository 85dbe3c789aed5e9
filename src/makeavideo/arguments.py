"""What a program gives to a pipeline beside options: prompts, embeddings, noise, generators; else a sentence."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .errors import UserError
from .kinds import is_number
from .nesting import SHORT
from .prompts import TODO, check_prompt
from .sampling import Generators


def check_vectors(name: str, vectors: Tensor | None, *shape: int) -> None:
    """Embeddings are (b, *shape)."""
    check_tensor(name, vectors)
    if vectors is not None and (tuple(vectors.shape[1:]) != shape or not len(vectors)):
        wanted = ", ".join(map(str, shape))
        raise UserError(f"{name} has the shape {tuple(vectors.shape)}: this model's are (batch, {wanted}).")


def check_pictures(pictures: Any) -> None:
    """(b, 3, h, w), one pixel or more each."""
    check_tensor("pictures", pictures)
    shape = () if pictures is None else tuple(pictures.shape)
    if len(shape) != 4 or shape[1] != 3 or 0 in shape:
        raise UserError(f"pictures has the shape {shape}: give (batch, 3, height, width), in [-1, 1].")


def check_tensor(name: str, tensor: Any) -> None:
    """Raises UserError where it is none, or holds what is no number: the video would be black, in silence."""
    if tensor is None:
        return
    if not torch.is_tensor(tensor):
        raise UserError(f"{name} is of the type {type(tensor).__name__}: give a tensor of torch.")
    if tensor.is_meta or tensor.layout != torch.strided or not tensor.is_floating_point():
        kind = f"{tensor.dtype}, {tensor.layout}, on {tensor.device}".replace("torch.", "")
        raise UserError(f"{name} is a tensor of another kind ({kind}): give a dense one of floating-point numbers.")
    if not torch.isfinite(tensor).all():
        raise UserError(f"{name} holds what is no number (NaN or infinite): give numbers.")


def check_generators(generator: Generators, count: int) -> None:
    """Of several there has to be one for each of `count` videos."""
    several = list(generator) if isinstance(generator, list | tuple) else [generator]
    if not all(one is None or isinstance(one, torch.Generator) for one in several):
        raise UserError(f"The generator {SHORT.repr(generator)} is not possible: give a torch.Generator, or a list.")
    if isinstance(generator, Sequence) and len(generator) != count:
        raise UserError(f"{len(generator)} generators are given for {count} videos: give one, or one for each.")


def is_given(what: Any) -> bool:
    """Whether a text, or a list of them, says anything."""
    return what is not None and not (isinstance(what, str | list | tuple) and not what)


def check_one(**given: Any) -> None:
    """Raises UserError where more than one of these, by their names, is given."""
    if sum(map(is_given, given.values())) > 1:
        *names, last = given
        raise UserError(f"More than one of {', '.join(names)} and {last} is given: choose one of them.")


def texts_of(texts: Any, what: str = "The prompt", todo: str = TODO) -> list[str]:
    """A text, or several, as a list. Raises UserError where one is blank, or none."""
    several = list(texts) if isinstance(texts, list | tuple) else [texts]
    for text in several or [""]:
        check_prompt(text, what, todo)
    return several


def parts_of(prompt: str | Sequence[str] | Sequence[tuple[str, float]]) -> tuple[list[str], list[float]]:
    """The texts of a prompt and, if it is a story, the seconds of each part; no seconds if it is none.

    Raises:
        UserError: it is neither, or a part of it is no text, or blank.
    """
    story = [part for part in prompt if isinstance(part, list | tuple)] if isinstance(prompt, list | tuple) else []
    if not story:
        return texts_of(prompt), []
    if len(story) != len(prompt) or any(len(part) != 2 or not is_seconds(part[1]) for part in story):
        raise UserError("Every part of a story is a pair (prompt, seconds), with more than 0 seconds.")
    return texts_of([text for text, _ in story]), [float(seconds) for _, seconds in story]


def is_seconds(value: Any) -> bool:
    return is_number(value) and 0 < value < math.inf
