"""What every stage has: a network, its data, its loss, its samples and its export (section 3 of the paper).

A stage knows nothing of optimisers, checkpoints or devices in the plural: that is the trainer's part.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ...data.clips import UnlabelledClips
from ...data.curriculum import FrameRateCurriculum
from ...data.images import CaptionedImages
from ...emoji.concepts import split
from ...errors import UserError
from ...quiet import quiet_libraries
from ..recipe import DataRecipe, Recipe


def load_folder(loader, folder: str | Path | None, what: str):
    """`loader.from_pretrained(folder)` with a sentence for a missing, damaged, pickled or wrong network."""
    if folder is None:
        raise UserError(f"The recipe names no {what}: add the folder that the stage before exported.")
    if not Path(folder).is_dir():
        raise UserError(f"There is no {what} at {folder}: train that stage first or correct the path in the recipe.")
    try:
        with quiet_libraries():
            return loader.from_pretrained(folder, use_safetensors=True)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"The {what} at {folder} cannot be loaded from safetensors: {reason}") from None


@dataclass(frozen=True)
class NotIn:
    """True for the keys outside of a set; unlike a closure it can be sent to the data loader's processes."""

    excluded: frozenset[str]

    def __call__(self, key: str) -> bool:
        return key not in self.excluded


def captioned_images(data: DataRecipe, captions: bool = True) -> CaptionedImages:
    include = NotIn(split().held_out_all) if data.split == "emoji" else None
    return CaptionedImages(
        data.roots,
        size=data.size,
        background=data.background,
        crop=data.crop,
        include=include,
        cache_bytes=int(data.cache_gb * 2**30),
        need_captions=captions,
    )


def unlabelled_clips(data: DataRecipe) -> UnlabelledClips:
    held_out = split().held_out_all | split().held_out_motion
    include = NotIn(held_out) if data.split == "emoji" else None
    return UnlabelledClips(
        data.roots,
        size=data.size,
        num_frames=data.num_frames,
        fps=FrameRateCurriculum(data.fps_low, data.fps_high, data.fps_beta_start, data.fps_beta_end),
        short=data.short,
        background=data.background,
        crop=data.crop,
        include=include,
        cache_bytes=int(data.cache_gb * 2**30),
    )


class Stage:
    """One network with its data and loss. `network` is what the optimiser changes; `batch` holds stacked samples."""

    network: nn.Module
    dataset: torch.utils.data.Dataset
    video = False

    def __init__(self, recipe: Recipe, device: torch.device):
        if not self.video and (recipe.temporal or recipe.train == "temporal"):
            key = "temporal" if recipe.temporal else "train"
            raise UserError(f"The network of {recipe.stage} has no temporal layers: take {key} out of the recipe.")
        if recipe.train == "temporal" and recipe.init_from is None:
            raise UserError("train: temporal would keep random spatial weights: add init_from, or set train to all.")
        if recipe.train == "path" and recipe.stage != "interpolator":
            raise UserError("train: path is for the interpolator, which has one: set train to all or temporal.")
        if recipe.train == "text" and (recipe.stage != "clip" or recipe.init_from is None):
            raise UserError(
                "train: text keeps the image tower of a stage clip: add init_from to that recipe, or take it out."
            )
        if recipe.train == "temporal" and recipe.stage == "interpolator":
            raise UserError("The interpolator's new input channels are spatial weights: set train to all.")
        self.recipe, self.device = recipe, device
        # what else learns and belongs into a checkpoint: objects with state_dict and load_state_dict
        self.companions: list = []
        # unreadable files that did not come with a batch; the trainer empties it
        self.skipped: list[tuple[str, str]] = []

    def parameter_groups(self) -> list[dict]:
        return [{"params": list(self.network.parameters()), "lr": self.recipe.optim.learning_rate}]

    def loss(self, network: nn.Module, batch: dict, generator: torch.Generator) -> Tensor:
        raise NotImplementedError

    def contact_sheet(self, network: nn.Module):
        """Samples of the present weights as a PIL image, or None where there is nothing to see."""
        return None

    def export(self, folder: Path) -> None:
        """Save the network in the diffusers layout, half precision."""
        raise NotImplementedError
