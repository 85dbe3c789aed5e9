"""Karlo, an open unCLIP (DALL-E 2): the decoder is told an image embedding and a prompt, here always the empty one.

It makes frames of 64 pixels. Its super-resolution is not taken: train SR_l_t, or take that of another cascade.
"""

from typing import Any

import torch

from ..conditioning import WordlessUnclip
from ..encoders import embed_words
from .adopted import Adopted
from .decoders import adopted_from, decoder_of
from .meanings import meanings_of, prior_source, tower_alone
from .source import Source

KINDS = ("UnCLIPPipeline",)


def adopt(source: Source, prior: str | None, image_encoder: str | None, dtype: torch.dtype) -> Adopted:
    """Its image tower is CLIP's ViT-L/14, which it has not with it: `image_encoder` names it."""
    from_prior = prior_source(source, prior)
    parts = meanings_of(from_prior, dtype)
    if image_encoder is not None:
        parts["image_encoder"] = tower_alone(image_encoder, dtype)
    conditioning = conditioning_of(source, parts, dtype)
    decoder = decoder_of(source, "decoder", "decoder_scheduler", conditioning, dtype)
    size = decoder.config.unet_config["sample_size"]
    return adopted_from(
        source,
        from_prior,
        parts,
        decoder,
        guidance=8.0,
        made="the decoder's words: those of an empty prompt; its null embedding is the learnt one",
        found=[f"image tower: {image_encoder}"] if image_encoder else [],
        missing=[f"super-resolution: frames stay at {size} pixels; Karlo's is not taken, train SR on pictures"],
    )


@torch.no_grad()
def conditioning_of(source: Source, parts: dict[str, Any], dtype: torch.dtype) -> WordlessUnclip:
    """What the decoder is told beside y_e, of an empty prompt, computed once."""
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

    projection: Any = source.network("text_proj", UnCLIPTextProjModel, dtype)
    words = embed_words(parts["tokenizer"], parts["text_encoder"], [""], "cpu")
    config = projection.config
    made = WordlessUnclip(
        config.clip_embeddings_dim,
        words.shape[1] - 1,
        config.clip_extra_context_tokens,
        config.time_embed_dim,
        config.cross_attention_dim,
    )
    made.projection.load_state_dict(projection.state_dict())
    made.null.copy_(projection.learned_classifier_free_guidance_embeddings)
    made.text.copy_(words[:, 0])
    made.states.copy_(words[:, 1:])
    made.mask[:, : config.clip_extra_context_tokens] = 1
    made.mask[:, config.clip_extra_context_tokens :] = words[:, 1:].ne(0).any(-1)
    return made
