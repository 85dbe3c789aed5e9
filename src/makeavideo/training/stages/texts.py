"""Texts as the stages see them: embeddings of the frozen text encoder."""

from collections import OrderedDict

import torch
from torch import Tensor

from ...encoders import embed_text, load_text_encoder

LIMIT = 2**28
"""Bytes of embeddings that are kept on the device: 175,000 texts of 384 numbers."""


class TextCache:
    """Sentence embeddings of the frozen text encoder; those used last are kept.

    limit: bytes of them.
    """

    def __init__(self, folder: str | None, device: torch.device, limit: int = LIMIT):
        self.tokenizer, self.encoder = load_text_encoder(folder)
        self.encoder.to(device)
        self.known: OrderedDict[str, Tensor] = OrderedDict()
        self.most = limit // (4 * self.encoder.config.hidden_size)

    def __call__(self, texts: list[str]) -> Tensor:
        new = sorted({text for text in texts if text not in self.known})
        for start in range(0, len(new), 256):
            part = new[start : start + 256]
            # each in memory of its own: a view would keep those that were embedded with it
            made = [row.clone() for row in embed_text(self.tokenizer, self.encoder, part)]
            self.known.update(zip(part, made, strict=True))
        for text in texts:
            self.known.move_to_end(text)
        together = torch.stack([self.known[text] for text in texts])
        while len(self.known) > self.most:
            self.known.popitem(last=False)
        return together
