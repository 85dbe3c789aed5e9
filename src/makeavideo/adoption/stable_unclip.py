"""Stable unCLIP: Stable Diffusion told a noised image embedding, here without noise, and a prompt, here the empty one.

It makes latents of an AutoencoderKL. The pipelines with a prior of their own are taken whole; those that vary pictures
have an image tower and need the prior of another one, with the same CLIP.
"""

from typing import Any

import torch

from ..conditioning import NoisedEmbedding
from .adopted import Adopted
from .decoders import adopted_from, check_prior_fits, decoder_of
from .meanings import meanings_of
from .source import Source

KINDS = ("StableUnCLIPPipeline", "StableUnCLIPImg2ImgPipeline")


def adopt(source: Source, prior: str | None, image_encoder: str | None, dtype: torch.dtype) -> Adopted:
    """Karlo's prior fits the small ones, whose image tower is CLIP's ViT-L/14."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    meanings = meanings_of(source, prior, image_encoder, dtype)
    decoder = decoder_of(source, "unet", "scheduler", conditioning_of(source, meanings.dim, dtype), dtype)
    takes = decoder.config.unet_config["projection_class_embeddings_input_dim"] or 0
    check_prior_fits(meanings, source, takes, times=2)  # y_e and what its noise level becomes
    codec = source.network("vae", AutoencoderKL, dtype)
    made = "the decoder's words: those of an empty prompt; its null embedding is zeros"
    return adopted_from(source, meanings, decoder, guidance=10.0, made=made, codec=codec)


@torch.no_grad()
def conditioning_of(source: Source, dim: int, dtype: torch.dtype) -> NoisedEmbedding:
    """What the decoder is told beside y_e: the states of an empty prompt, computed once."""
    from transformers import CLIPTextModel

    tokenizer, encoder = source.tokenizer("tokenizer"), source.network("text_encoder", CLIPTextModel, dtype)
    length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    tokens = tokenizer([""], padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    told: dict[str, Any] = {"input_ids": tokens["input_ids"]}
    if getattr(encoder.config, "use_attention_mask", False):
        told["attention_mask"] = tokens["attention_mask"]
    states = encoder(**told).last_hidden_state
    made = NoisedEmbedding(dim, states.shape[1], states.shape[2])
    made.states.copy_(states)
    return made
