"""Kandinsky 2.2: the decoder is told an image embedding alone, as ours is; it makes latents of a MoVQ."""

import torch

from ..conditioning import Conditioning
from ..errors import UserError
from .adopted import Adopted
from .decoders import adopted_from, check_prior_fits, decoder_of
from .meanings import meanings_of, null_picture, prior_source
from .source import Source

KINDS = ("KandinskyV22Pipeline", "KandinskyV22CombinedPipeline")


def adopt(source: Source, prior: str | None, image_encoder: str | None, dtype: torch.dtype) -> Adopted:
    """Its prior's pipeline is `prior`, or what its model card names. The null embedding is that of a black picture."""
    from diffusers.models.autoencoders.vq_model import VQModel

    from_prior = prior_source(source, prior)
    parts = meanings_of(from_prior, dtype)
    tower = parts["image_encoder"]
    if image_encoder is not None or tower is None:
        raise UserError(
            f"{source.name} cannot be adopted so: Kandinsky's image tower belongs to its prior; name only "
            "kandinsky-community/kandinsky-2-2-prior, or its folder, with --prior."
        )
    dim = parts["prior"].config.embedding_dim
    conditioning = Conditioning(dim)
    conditioning.null.copy_(null_picture(tower))
    decoder = decoder_of(source, "unet", "scheduler", conditioning, dtype)
    check_prior_fits(from_prior, dim, source, decoder.config.unet_config["encoder_hid_dim"])
    codec = source.network("movq", VQModel, dtype)
    made = "null embedding: the image tower's of a black picture"
    return adopted_from(source, from_prior, parts, decoder, guidance=4.0, made=made, codec=codec)
