"""What a program gives to a pipeline beside options: prompts, embeddings, noise, generators; else a sentence."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .errors import UserError
from .nesting import SHORT
from .sampling import Generators


def check_vectors(name: str, vectors: Tensor | None, *shape: int) -> None:
    """Embeddings are (b, *shape)."""
    check_tensor(name, vectors)
    if vectors is not None and (tuple(vectors.shape[1:]) != shape or not len(vectors)):
        wanted = ", ".join(map(str, shape))
        raise UserError(f"{name} has the shape {tuple(vectors.shape)}: this model's are (batch, {wanted}).")


def check_tensor(name: str, tensor: Any) -> None:
    """Raises UserError where it is none, or holds what is no number: the video would be black, in silence."""
    if tensor is not None and not torch.is_tensor(tensor):
        raise UserError(f"{name} is of the type {type(tensor).__name__}: give a tensor of torch.")
    if tensor is not None and not torch.isfinite(tensor).all():
        raise UserError(f"{name} holds what is no number (NaN or infinite): give numbers.")


def check_generators(generator: Generators, count: int) -> None:
    """Of several there has to be one for each of `count` videos."""
    several = list(generator) if isinstance(generator, list | tuple) else [generator]
    if not all(one is None or isinstance(one, torch.Generator) for one in several):
        raise UserError(f"The generator {SHORT.repr(generator)} is not possible: give a torch.Generator, or a list.")
    if isinstance(generator, Sequence) and len(generator) != count:
        raise UserError(f"{len(generator)} generators are given for {count} videos: give one, or one for each.")


def parts_of(prompt: str | list[str] | Sequence[tuple[str, float]]) -> tuple[list[str], list[float]]:
    """The texts of a prompt and, if it is a story, the seconds of each part; no seconds if it is none."""
    if isinstance(prompt, str):
        return [prompt], []
    if not isinstance(prompt, list | tuple) or not all(isinstance(part, str | list | tuple) for part in prompt):
        raise UserError(
            f"The prompt {SHORT.repr(prompt)} is no text: give one, a list, or (prompt, seconds) of a story."
        )
    plain = [part for part in prompt if isinstance(part, str)]
    story = [part for part in prompt if not isinstance(part, str)]
    if not story:
        return plain, []
    if plain or any(len(part) != 2 or not part[1] > 0 for part in story):
        raise UserError("Every part of a story is a pair (prompt, seconds), with more than 0 seconds.")
    return [text for text, _ in story], [seconds for _, seconds in story]
