"""What a 2-D network is told of an image embedding y_e, where it is not y_e itself, and what stands for none.

The text-to-image networks that D_t can begin as were told more than y_e: the words once more, or how much noise y_e
bears. A `Conditioning` keeps what of that is constant here (the words are those of an empty prompt), so that D_t takes
`image_embeds` alone, in training and sampling. It is a part of `VideoUNet`, saved with it.
"""

from typing import Any

import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn

from .errors import UserError


class Conditioning(nn.Module):
    """y_e as it is, as Kandinsky 2.2 takes it, with a null embedding of its own.

    Args:
        dim: of y_e.
    """

    kind = "embedding"
    null: Tensor
    """(dim,), in place of y_e that are zeros, which everywhere here say that there is none."""

    def __init__(self, dim: int):
        super().__init__()
        self.config: dict[str, Any] = {"kind": self.kind, "dim": dim}
        self.register_buffer("null", torch.zeros(dim))

    def forward(self, conditions: dict[str, Any]) -> dict[str, Any]:
        """What the 2-D network takes, from what `VideoUNet` is given; y_e (b, dim) or, one a frame, (b f, dim)."""
        given = dict(conditions)
        added = dict(given.pop("added_cond_kwargs", None) or {})
        if "image_embeds" not in added:
            raise UserError("this network is told image embeddings: give added_cond_kwargs={'image_embeds': ...}")
        y_e = added.pop("image_embeds")
        nothing = y_e.eq(0).all(-1, keepdim=True)
        return self.told(torch.where(nothing, self.null.to(y_e), y_e), given, added)

    def told(self, y_e: Tensor, given: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
        return {**given, "added_cond_kwargs": {**added, "image_embeds": y_e}}


class WordlessUnclip(Conditioning):
    """As Karlo's decoder, which is told y_e and the prompt: here the prompt is always the empty one.

    Args:
        dim: of y_e, and of what the text encoder makes.
        tokens: states of words.
        context_tokens, time_embed_dim, cross_attention_dim: of diffusers' UnCLIPTextProjModel, which makes context
            tokens and a class embedding of both.
    """

    kind = "wordless_unclip"
    text: Tensor
    states: Tensor
    mask: Tensor

    def __init__(self, dim: int, tokens: int, context_tokens: int, time_embed_dim: int, cross_attention_dim: int):
        from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

        super().__init__(dim)
        sizes = {"time_embed_dim": time_embed_dim, "cross_attention_dim": cross_attention_dim}
        self.config |= {"tokens": tokens, "context_tokens": context_tokens, **sizes}
        self.projection = UnCLIPTextProjModel(
            clip_extra_context_tokens=context_tokens, clip_embeddings_dim=dim, **sizes
        )
        self.register_buffer("text", torch.zeros(1, dim))
        self.register_buffer("states", torch.zeros(1, tokens, dim))
        self.register_buffer("mask", torch.zeros(1, context_tokens + tokens))

    def told(self, y_e: Tensor, given: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
        rows = len(y_e)
        states, labels = self.projection(
            image_embeddings=y_e.to(self.text),
            prompt_embeds=self.text.expand(rows, -1),
            text_encoder_hidden_states=self.states.expand(rows, -1, -1),
            do_classifier_free_guidance=False,
        )
        told = {"encoder_hidden_states": states, "class_labels": labels, "attention_mask": self.mask.expand(rows, -1)}
        return {**given, **told}


class NoisedEmbedding(Conditioning):
    """As Stable unCLIP's decoder, which is told a noised y_e with its noise level, and the prompt.

    Here y_e bears no noise, so that level is 0, and the prompt is the empty one. Nothing at all is zeros.

    Args:
        dim: of y_e.
        tokens, cross_attention_dim: of the states of the empty prompt.
    """

    kind = "noised_embedding"
    states: Tensor

    def __init__(self, dim: int, tokens: int, cross_attention_dim: int):
        super().__init__(dim)
        self.config |= {"tokens": tokens, "cross_attention_dim": cross_attention_dim}
        self.register_buffer("states", torch.zeros(1, tokens, cross_attention_dim))

    def told(self, y_e: Tensor, given: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
        rows, dim = y_e.shape
        level = get_timestep_embedding(y_e.new_zeros(rows), dim, flip_sin_to_cos=True, downscale_freq_shift=0)
        labels = torch.cat([y_e, level * y_e.ne(0).any(-1, keepdim=True)], 1).to(self.states)
        return {**given, "encoder_hidden_states": self.states.expand(rows, -1, -1), "class_labels": labels}


KINDS: dict[str, type[Conditioning]] = {kind.kind: kind for kind in (Conditioning, WordlessUnclip, NoisedEmbedding)}


def conditioning_of(config: dict[str, Any]) -> Conditioning:
    """From the config of a saved network. Raises UserError where it names no kind that there is."""
    values = dict(config)
    kind = values.pop("kind", None)
    if kind not in KINDS:
        raise UserError(f"conditioning.kind is {kind!r}: use one of {', '.join(KINDS)}")
    return KINDS[kind](**values)
