"""Which text-to-image pipelines can become a cascade, and what is said of those that cannot."""

from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from . import kandinsky, karlo, stable_unclip
from .adopted import Adopted
from .meanings import PARTS
from .others import of_pipeline, values_of
from .source import open_source

MODULES: tuple[Any, ...] = (kandinsky, karlo, stable_unclip)


def adopt(
    source: str | Path,
    prior: str | None = None,
    image_encoder: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Adopted:
    """The parts of a cascade from a text-to-image pipeline.

    Args:
        source: a folder in diffusers' layout, or an id of the Hugging Face hub.
        prior: the same, of the pipeline that holds the prior; None: `source` holds it, or names it in its model card.
        image_encoder: CLIP's folder or id, for a pipeline without an image tower.
        dtype: of all networks, in memory and in the folder that they are saved to.

    Raises:
        UserError: nothing that can be adopted; the sentence says what it is, and what can be done.
    """
    opened = open_source(source)
    for module in MODULES:
        if opened.kind in module.KINDS:
            adopted = module.adopt(opened, prior, image_encoder, dtype)
            adopted.missing += missing_of(adopted)
            return adopted
    config = values_of(opened.folder / ("unet" if "unet" in opened.index else "decoder") / "config.json") or {}
    what = of_pipeline(opened.kind, opened.index, config, is_prior=opened.kind in PARTS)
    raise UserError(f"{source} cannot be adopted: {what}")


def missing_of(adopted: Adopted) -> list[str]:
    """What the cascade has not, and how to get it."""
    lacking = [
        "motion: frames agree in meaning alone, until the decoder has learnt it (recipes/adopt/motion-module.yaml)",
        "F-up: a video has at most 16 frames, and animate, interpolate and extend need one "
        "(recipes/adopt/interpolator.yaml)",
    ]
    if adopted.components["image_encoder"] is None:
        lacking.append("image tower: no animate, interpolate, vary or extend; name CLIP's with --image-encoder")
    for source in adopted.sources:
        if source.licence is None:
            lacking.append(f"licence: {source.name} names none in its model card; look it up before you pass it on")
    return lacking
