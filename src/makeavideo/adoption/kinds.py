"""Which text-to-image pipelines can become a cascade, and what is said of those that cannot."""

from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from . import kandinsky, karlo, stable_unclip
from .adopted import Adopted
from .source import Source, open_source

MODULES: tuple[Any, ...] = (kandinsky, karlo, stable_unclip)
KNOWN = "Kandinsky 2.2, Karlo (unCLIP) or Stable unCLIP"
INFLATE = "`makeavideo.inflate` makes its UNet a video network, to be trained with captions."


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
    raise UserError(f"{source} cannot be adopted: {what_it_is(opened)}")


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


def what_it_is(source: Source) -> str:
    """Of a pipeline that is none of ours to adopt: what it is, and what can be done."""
    kind = source.kind
    if kind == "MakeAVideoPipeline":
        return "it is a Make-A-Video model already: use it with --model."
    if "Prior" in kind and "prior" in source.index:
        return f"it is a prior alone ({kind}): give the decoder's pipeline, and this one with --prior."
    if any("Transformer" in network and network != "PriorTransformer" for network in source.index.values()):
        return f"it is a {kind}, whose network is a transformer, and only UNets can be inflated: start from {KNOWN}."
    if "unet" in source.index:
        name = f"DeepFloyd IF ({kind})" if kind.startswith("IF") else f"a {kind}"
        return f"it is {name}, whose decoder is told words and no image embedding: start from {KNOWN}. {INFLATE}"
    return f"it is a {kind}, of which nothing can be taken: start from {KNOWN}."
