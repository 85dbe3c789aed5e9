"""What each stage learns, a file for each network of the cascade (section 3 of the paper)."""

from collections.abc import Callable

import torch

from ..recipe import Recipe
from ..refusals import check_trainable
from .base import Stage
from .clip import ClipStage
from .decoder import DecoderStage
from .interpolator import InterpolatorStage
from .prior import PriorStage
from .super_resolution import super_resolution_stage

__all__ = ["STAGES", "Stage", "make_stage"]

STAGES: dict[str, Callable[[Recipe, torch.device], Stage]] = {
    "clip": ClipStage,
    "prior": PriorStage,
    "decoder-image": DecoderStage,
    "decoder-video": DecoderStage,
    "interpolator": InterpolatorStage,
    "sr-low-image": super_resolution_stage,
    "sr-low-video": super_resolution_stage,
    "sr-high-image": super_resolution_stage,
}


def make_stage(recipe: Recipe, device: torch.device) -> Stage:
    """The stage of a recipe, its network and data loaded.

    Raises:
        UserError: it cannot be trained so, the data cannot be read, or a network that it starts from is missing.
    """
    check_trainable(recipe)
    return STAGES[recipe.stage](recipe, device)
