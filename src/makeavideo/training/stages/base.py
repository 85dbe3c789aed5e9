"""What the trainer asks of a stage (section 3 of the paper).

A stage is composed of what it sees (its data and conditions), what it says (the target) and how far off it is (the
loss), and its file says all of it. None inherits from another; what several do alike are functions and small objects
that they call. A stage knows nothing of optimisers, checkpoints or devices in the plural: that is the trainer's part.
"""

from collections.abc import Sized
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL.Image import Image
from torch import Tensor

from ...errors import UserError
from ..recipe import Recipe


class KeyedData(Sized, Protocol):
    """Samples by key (index, seed, progress 0..1); a sample depends on nothing else, and names what was "skipped"."""

    def __getitem__(self, key: Any, /) -> dict: ...


class Companion(Protocol):
    """What learns beside the network and belongs into a checkpoint."""

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict, /) -> None: ...


class Stage(Protocol):
    """One network with its data and its loss.

    Attributes:
        network: what the optimiser changes.
        companions: what else belongs into a checkpoint.
        skipped: (path, reason) of unreadable files that did not come with a batch; the trainer empties it.
    """

    network: Any
    companions: list[Companion]
    skipped: list[tuple[str, str]]

    @property
    def dataset(self) -> KeyedData:
        """Where its samples come from; the trainer stacks them to batches."""
        ...

    def parameter_groups(self) -> list[dict]:
        """The weights that learn, with a learning rate "lr" each, as torch's optimisers take them."""
        ...

    def loss(self, network: Any, batch: dict, generator: torch.Generator) -> Tensor:
        """How far off the network is on a batch; the same generator, the same loss. `network` may be compiled."""
        ...

    def contact_sheet(self, network: Any) -> Image | None:
        """Samples of the present weights as a picture, or None where there is nothing to see."""
        ...

    def export(self, folder: Path) -> None:
        """Save the network in the diffusers layout, half precision."""
        ...


def check_trainable(recipe: Recipe) -> None:
    """Refuse what a stage cannot train, before anything is loaded.

    Raises:
        UserError: with what to change in the recipe.
    """
    if not recipe.video and (recipe.temporal or recipe.train == "temporal"):
        key = "temporal" if recipe.temporal else "train"
        raise UserError(f"The network of {recipe.stage} has no temporal layers: take {key} out of the recipe.")
    if recipe.stage == "prior" and recipe.init_from is not None:
        raise UserError("The prior always begins from scratch: take init_from out of the recipe.")
    if recipe.train == "temporal" and recipe.init_from is None:
        raise UserError("train: temporal would keep random spatial weights: add init_from, or set train to all.")
    if recipe.train == "path" and recipe.stage != "interpolator":
        raise UserError("train: path is for the interpolator, which has one: set train to all or temporal.")
    if recipe.train == "path" and recipe.guess == "none":
        raise UserError("train: path needs the path of guess: flow, the paper's F-up has none: set train to all.")
    if recipe.train == "text" and (recipe.stage != "clip" or recipe.init_from is None):
        raise UserError(
            "train: text keeps the image tower of a stage clip: add init_from to that recipe, or take it out."
        )
    if recipe.train == "temporal" and recipe.stage == "interpolator":
        raise UserError("The interpolator's new input channels are spatial weights: set train to all.")
