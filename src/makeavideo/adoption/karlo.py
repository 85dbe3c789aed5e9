"""Karlo, an open unCLIP (DALL-E 2): the decoder is told an image embedding and a prompt, here always the empty one.

It makes frames of 64 pixels, and its two networks of super-resolution make them 256, the second in the last step.
"""

from typing import Any

import torch

from ..conditioning import WordlessUnclip
from ..encoders import embed_words
from ..figures import SR_LOW_FACTOR
from ..inflation import inflate
from .adopted import Adopted, millions
from .decoders import adopted_from, check_prior_fits, decoder_of, schedule_of
from .meanings import Meanings, meanings_of
from .source import Source

KINDS = ("UnCLIPPipeline",)
STEPS = 7
"""Of its super-resolution, as diffusers' pipeline takes them."""


def adopt(source: Source, prior: str | None, image_encoder: str | None, dtype: torch.dtype) -> Adopted:
    """Its image tower is CLIP's ViT-L/14, which it has not with it: `image_encoder` names it."""
    meanings = meanings_of(source, prior, image_encoder, dtype)
    conditioning = conditioning_of(source, meanings, dtype)
    decoder = decoder_of(source, "decoder", "decoder_scheduler", conditioning, dtype)
    found, missing = [], []
    enlargers = enlargers_of(source, decoder.config.unet_config["sample_size"], dtype)
    if enlargers:
        found.append(f"super-resolution: {millions(enlargers['super_resolution_low'])}, twice, from {source.name}")
        missing.append("SR_h: frames end at four times the decoder's size; train one on pictures for three times that")
    else:
        missing.append("super-resolution: what it has does not make frames four times as large; train SR on pictures")
    adopted = adopted_from(
        source,
        meanings,
        decoder,
        guidance=8.0,
        made="the decoder's words: those of an empty prompt; its null embedding is the learnt one",
        found=found,
        missing=missing,
    )
    adopted.components |= enlargers
    adopted.sampling |= {"super_resolution_steps": STEPS} if enlargers else {}
    return adopted


def enlargers_of(source: Source, size: int, dtype: torch.dtype) -> dict[str, Any]:
    """SR_l of two networks with its scheduler; empty where they make something else than frames SR_LOW_FACTOR as large.

    They are not inflated: each frame is enlarged by itself, until SR_l_t is trained from them (sr-low-video).
    """
    from diffusers.models.unets.unet_2d import UNet2DModel
    from diffusers.schedulers.scheduling_unclip import UnCLIPScheduler

    values = source.config("super_res_scheduler", "scheduler_config.json")
    networks: list[Any] = [source.network(part, UNet2DModel, dtype) for part in ("super_res_first", "super_res_last")]
    shapes = {(unet.config.in_channels, unet.config.out_channels, unet.config.sample_size) for unet in networks}
    noise = values.get("prediction_type", "epsilon") == "epsilon"
    if shapes != {(6, 3, size * SR_LOW_FACTOR)} or values.get("variance_type") == "learned_range" or not noise:
        return {}
    schedule = schedule_of({"_class_name": "UnCLIPScheduler", **values})
    first, last = (inflate(unet, "none", prediction="epsilon", schedule=schedule) for unet in networks)
    return {
        "super_resolution_low": first,
        "super_resolution_low_last": last,
        "super_resolution_low_scheduler": UnCLIPScheduler.from_config(values),
    }


@torch.no_grad()
def conditioning_of(source: Source, meanings: Meanings, dtype: torch.dtype) -> WordlessUnclip:
    """What the decoder is told beside y_e, of an empty prompt, computed once."""
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

    projection: Any = source.network("text_proj", UnCLIPTextProjModel, dtype)
    config, parts = projection.config, meanings.parts
    check_prior_fits(meanings, source, config.clip_embeddings_dim)
    words = embed_words(parts["tokenizer"], parts["text_encoder"], [""], "cpu")
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
