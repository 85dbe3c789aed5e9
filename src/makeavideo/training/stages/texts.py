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
        # one by one: rounding depends on what else is in a batch, and a run that goes on knows none of them yet
        for text in dict.fromkeys(texts):
            if text not in self.known:
                self.known[text] = embed_text(self.tokenizer, self.encoder, [text])[0]
            self.known.move_to_end(text)
        together = torch.stack([self.known[text] for text in texts])
        while len(self.known) > self.most:
            self.known.popitem(last=False)
        return together
