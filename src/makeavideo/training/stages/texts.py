"""Texts as the stages see them: embeddings of the frozen text encoder."""

from collections import OrderedDict

import torch
from torch import Tensor

from ...encoders import MOST_TOKENS, embed_text, load_text_encoder

LIMIT = 2**28
"""Bytes of embeddings that are kept on the device: 175,000 texts of 384 numbers."""
TOGETHER = 8
"""Texts of a batch: few, as a batch of fewer takes as long."""


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
        fresh: dict[int, list[str]] = {}
        for text in dict.fromkeys(texts):
            if text not in self.known:
                tokens = self.tokenizer(text, truncation=True, max_length=MOST_TOKENS)["input_ids"]
                fresh.setdefault(len(tokens), []).append(text)
        for same in fresh.values():
            for start in range(0, len(same), TOGETHER):
                self.embed(same[start : start + TOGETHER])
        for text in texts:
            self.known.move_to_end(text)
        together = torch.stack([self.known[text] for text in texts])
        while len(self.known) > self.most:
            self.known.popitem(last=False)
        return together

    def embed(self, texts: list[str]) -> None:
        """At most TOGETHER texts of equally many tokens.

        Rounding depends on the shape of a batch, and a run that goes on knows none of the texts yet: so the shape
        follows from the text alone, and the rest of a batch is filled up. What else is in it makes no difference.
        """
        filled = texts + texts[:1] * (TOGETHER - len(texts))
        embeds = embed_text(self.tokenizer, self.encoder, filled)
        # cloned: else a text that stays keeps those of all its neighbours in memory
        self.known.update(zip(texts, (one.clone() for one in embeds), strict=False))
