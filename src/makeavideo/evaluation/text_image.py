"""Networks that put texts and frames in one space: what CLIPSIM and retrieval compare by."""

import hashlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..encoders import TextProjection, embed_images, embed_text, load_text_encoder
from ..errors import UserError
from .features import channels_first, hash_of, load_processor, load_transformers


class TextImageNetwork:
    """Texts and frames in one space: what CLIPSIM and retrieval compare."""

    name: str
    weights: str

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """Unit vectors, float32 (n, dim)."""
        raise NotImplementedError

    def embed_frames(self, frames: np.ndarray) -> np.ndarray:
        """uint8 (n, h, w, 3) -> unit vectors, float32 (n, dim)."""
        raise NotImplementedError


class Clip(TextImageNetwork):
    """Any transformers CLIP folder (arXiv 2103.00020) with its tokenizer and image processor."""

    def __init__(self, folder: str | Path):
        from transformers import AutoModel, AutoTokenizer

        self.network = load_transformers(AutoModel, folder, "CLIP")
        if not hasattr(self.network, "get_text_features"):
            raise UserError(f"{folder} holds a {self.network.config.model_type}, which has no text side: give a CLIP.")
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError) as error:
            reason = str(error).split("\n")[0]
            raise UserError(f"The CLIP at {folder} has no tokenizer ({reason}): add its files.") from None
        self.processor, self.weights = load_processor(folder), hash_of(folder)
        self.name = f"{self.network.config.model_type} {Path(folder).resolve().name}"

    @torch.no_grad()
    def embed_texts(self, texts: list[str]) -> np.ndarray:
        longest = self.network.config.text_config.max_position_embeddings
        tokens = self.tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        tokens.pop("token_type_ids", None)
        return unit(self.network.get_text_features(**tokens))

    @torch.no_grad()
    def embed_frames(self, frames: np.ndarray) -> np.ndarray:
        pixels = self.processor(list(frames), return_tensors="pt")["pixel_values"]
        return unit(self.network.get_image_features(pixel_values=pixels))


class CascadeClip(TextImageNetwork):
    """Text encoder, projection and image tower of a cascade's own folder.

    A stand-in where no CLIP can be had. It shares weights with the generator that it judges, which was trained to
    please it: such figures say whether the video shows what the prior asked for, and flatter the cascade.
    """

    def __init__(self, folder: str | Path):
        from transformers import CLIPVisionModelWithProjection

        folder = Path(folder)
        self.tokenizer, self.text_encoder = load_text_encoder(folder)
        self.projection = load_transformers(TextProjection, folder / "text_projection", "text projection").float()
        self.tower = load_transformers(CLIPVisionModelWithProjection, folder / "image_encoder", "image tower").float()
        digest = hash_of(folder / "text_projection") + hash_of(folder / "image_encoder")
        self.weights = hashlib.blake2b(digest.encode()).hexdigest()[:16]
        self.name = f"the image tower of {folder.resolve().name}, which shares weights with its generator"

    @torch.no_grad()
    def embed_texts(self, texts: list[str]) -> np.ndarray:
        return self.projection(embed_text(self.tokenizer, self.text_encoder, texts)).numpy()

    @torch.no_grad()
    def embed_frames(self, frames: np.ndarray) -> np.ndarray:
        return unit(embed_images(self.tower, channels_first(frames[None])[0].float() / 127.5 - 1))


def unit(embeds) -> np.ndarray:
    """Unit vectors; transformers gives a tensor or an output that holds it, by version."""
    embeds = embeds if isinstance(embeds, Tensor) else embeds.pooler_output
    return F.normalize(embeds.float(), dim=-1).numpy()


def text_image_network(spec: str | Path) -> TextImageNetwork:
    """A CLIP folder, or a cascade's folder (model_index.json). Raises UserError."""
    return CascadeClip(spec) if (Path(spec) / "model_index.json").is_file() else Clip(spec)
