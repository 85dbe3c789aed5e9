"""What a 2-D network is told of an image embedding y_e, where it is not y_e itself, and what stands for none.

The text-to-image networks that D_t can begin as were told more than y_e: the words once more, or how much noise y_e
bears. A `Conditioning` keeps what of that is constant here (the words are those of an empty prompt), so that D_t takes
`image_embeds` alone, in training and sampling. It is a part of `VideoUNet`, saved with it.
"""

from typing import Any

import torch
from torch import Tensor, nn

from .errors import UserError


class Conditioning(nn.Module):
    """y_e as it is, as Kandinsky 2.2 takes it, with a null embedding of its own.

    Args:
        dim: of y_e.
    """

    kind = "embedding"
    null: Tensor
    """(dim,), in place of y_e where there is none."""

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
        return self.told(added.pop("image_embeds"), given, added)

    def told(self, y_e: Tensor, given: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
        return {**given, "added_cond_kwargs": {**added, "image_embeds": y_e}}


KINDS: dict[str, type[Conditioning]] = {kind.kind: kind for kind in (Conditioning,)}


def conditioning_of(config: dict[str, Any]) -> Conditioning:
    """From the config of a saved network. Raises UserError where it names no kind that there is."""
    values = dict(config)
    kind = values.pop("kind", None)
    if kind not in KINDS:
        raise UserError(f"conditioning.kind is {kind!r}: use one of {', '.join(KINDS)}")
    return KINDS[kind](**values)
