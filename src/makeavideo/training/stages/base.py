"""What the trainer asks of a stage (section 3 of the paper).

A stage is composed of what it sees (its data and conditions), what it says (the target) and how far off it is (the
loss), and its file says all of it. None inherits from another; what several do alike are functions and small objects
that they call. A stage knows nothing of optimisers, checkpoints or devices in the plural: that is the trainer's part.
"""

from collections.abc import Collection, Sized
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL.Image import Image
from torch import Tensor

from ..batches import Complete


class KeyedData(Sized, Protocol):
    """Samples by key (index, seed, progress 0..1); a sample depends on nothing else, and names what was "skipped".

    Attributes:
        passed_by: (path, reason) of what is known from the start not to be used, or not as it is.
    """

    passed_by: list[tuple[str, str]]

    @property
    def files(self) -> Collection[str]:
        """The paths of the pictures or clips that the samples are made of."""
        ...

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
        complete: what its loss sees of a batch beside the samples; None: nothing.
        skipped: (path, reason) of unreadable files that did not come with a batch; the trainer empties it.
    """

    network: Any
    companions: list[Companion]
    complete: Complete | None
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
