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
        new = sorted({text for text in texts if text not in self.known})
        for start in range(0, len(new), 256):
            part = new[start : start + 256]
            self.known.update(zip(part, embed_text(self.tokenizer, self.encoder, part), strict=True))
        return torch.stack([self.known[text] for text in texts])
