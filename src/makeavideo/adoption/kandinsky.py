"""Kandinsky 2.2: the decoder is told an image embedding alone, as ours is; it makes latents of a MoVQ."""

import torch

from ..conditioning import Conditioning
from ..errors import UserError
from .adopted import Adopted
from .decoders import adopted_from, check_prior_fits, decoder_of
from .meanings import meanings_of, null_picture
from .source import Source

KINDS = (
    "KandinskyV22Pipeline",
    "KandinskyV22CombinedPipeline",
    "KandinskyV22Img2ImgPipeline",
    "KandinskyV22Img2ImgCombinedPipeline",
)
"""Of pictures from pictures too: it is the same decoder."""


def adopt(source: Source, prior: str | None, image_encoder: str | None, dtype: torch.dtype) -> Adopted:
    """Its prior's pipeline is `prior`, or what its model card names. The null embedding is that of a black picture."""
    from diffusers.models.autoencoders.vq_model import VQModel

    meanings = None if image_encoder is not None else meanings_of(source, prior, None, dtype)
    if meanings is None or meanings.tower is None:
        raise UserError(
            f"{source.name} cannot be adopted so: Kandinsky's image tower belongs to its prior; name only "
            "kandinsky-community/kandinsky-2-2-prior, or its folder, with --prior."
        )
    conditioning = Conditioning(meanings.dim)
    conditioning.null.copy_(null_picture(meanings.parts["image_encoder"]))
    decoder = decoder_of(source, "unet", "scheduler", conditioning, dtype)
    check_prior_fits(meanings, source, decoder.config.unet_config["encoder_hid_dim"])
    codec = source.network("movq", VQModel, dtype)
    made = "null embedding: the image tower's of a black picture"
    return adopted_from(source, meanings, decoder, guidance=4.0, made=made, codec=codec)
