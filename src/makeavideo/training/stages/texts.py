"""Texts as the stages see them: embeddings of the frozen text encoder."""

import torch
from torch import Tensor

from ...encoders import embed_text, load_text_encoder


class TextCache:
    """Sentence embeddings of the frozen text encoder, each text encoded once."""

    def __init__(self, folder: str | None, device: torch.device):
        self.tokenizer, self.encoder = load_text_encoder(folder)
        self.encoder.to(device)
        self.known: dict[str, Tensor] = {}

    def __call__(self, texts: list[str]) -> Tensor:
        # one by one: rounding depends on what else is in a batch, and a run that goes on knows none of them yet
        for text in dict.fromkeys(texts):
            if text not in self.known:
                self.known[text] = embed_text(self.tokenizer, self.encoder, [text])[0]
        return torch.stack([self.known[text] for text in texts])
