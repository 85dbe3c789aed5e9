"""The frozen text encoder C_x and the image tower: what turns words and pictures into vectors (section 3.1).

Only the prior ever sees what `embed_text` returns; every other network is conditioned on `embed_images`.
"""

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from safetensors import safe_open
from torch import Tensor, nn

from .errors import UserError
from .included import default_model
from .quiet import quiet_libraries

MOST_TOKENS = 128
"""Of a text; what is longer is cut off."""


class TextProjection(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Linear map from the text encoder's space to the image tower's, trained contrastively."""

    config: Any  # a FrozenDict, whose entries are attributes too

    @register_to_config
    def __init__(self, text_embed_dim: int = 384, image_embed_dim: int = 64):
        super().__init__()
        self.linear = nn.Linear(text_embed_dim, image_embed_dim, bias=False)

    def forward(self, text_embeds: Tensor) -> Tensor:
        """(b, text_embed_dim) -> unit vectors (b, image_embed_dim)."""
        return F.normalize(self.linear(text_embeds.to(self.dtype)).float(), dim=-1)


def load_text_encoder(folder: str | Path | None = None):
    """Tokenizer and text encoder from a transformers folder, or from that of a pipeline; without one, the included one.

    Returns (tokenizer, model), the model in float32, in evaluation mode and frozen.

    Raises:
        UserError: no such folder, or weights that are missing, damaged or pickled.
    """
    from transformers import AutoModel, AutoTokenizer

    folder = Path(folder) if folder else default_model()
    words = folder
    if (folder / "model_index.json").is_file():
        folder, words = folder / "text_encoder", folder / "tokenizer"
    if not (folder / "config.json").is_file():  # transformers would take the path for the name of a repository
        raise UserError(f"There is no text encoder at {folder} (no config.json): give a transformers folder.")
    try:
        with quiet_libraries():
            pooled: dict[str, Any] = {} if has_pooling_layer(folder) else {"add_pooling_layer": False}
            try:
                model = AutoModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **pooled)
            except TypeError:  # not of BERT's family: there is no pooling layer to leave out
                model = AutoModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(words)
    except Exception as error:  # whatever it is that a library stumbles over in a damaged file
        reason = str(error).split("\n")[0]
        raise UserError(
            f"The text encoder at {folder} cannot be loaded ({reason}): it needs model.safetensors and its tokenizer."
        ) from None
    return tokenizer, model.eval().requires_grad_(False)


def has_pooling_layer(folder: Path) -> bool:
    """Whether the weights have BERT's pooling layer; transformers would make one of random numbers."""
    files = sorted(folder.glob("*.safetensors"))
    return any("pooler." in name for file in files for name in safe_open(file, "pt").keys())  # noqa: SIM118


@torch.no_grad()
def embed_text(
    tokenizer, text_encoder: nn.Module, texts: list[str], device: torch.device | str | None = None
) -> Tensor:
    """Sentence embeddings: the mean over tokens, unit length, float32 (len(texts), text_embed_dim).

    Of a CLIPTextModelWithProjection its own embedding and the states of its tokens, as `prior` describes.

    device: where the encoder runs, if its weights lie elsewhere meanwhile (offloading).
    """
    device = next(text_encoder.parameters()).device if device is None else device
    if type(text_encoder).__name__ == "CLIPTextModelWithProjection":
        return embed_words(tokenizer, text_encoder, texts, device)
    tokens = tokenizer(texts, padding=True, truncation=True, max_length=MOST_TOKENS, return_tensors="pt").to(device)
    hidden = text_encoder(**tokens).last_hidden_state.float()
    mask = tokens["attention_mask"].unsqueeze(-1).float()
    return F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def embed_words(tokenizer, text_encoder: Any, texts: list[str], device: torch.device | str) -> Tensor:
    """(len(texts), 1 + tokens, d): CLIP's embedding, and the states of the tokens, zeros where there is none."""
    length = min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)
    tokens = tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt").to(device)
    said = text_encoder(tokens["input_ids"])
    states = said.last_hidden_state.float() * tokens["attention_mask"].unsqueeze(-1)
    return torch.cat([said.text_embeds.float()[:, None], states], 1)


def embed_images(image_encoder: Any, pixels: Tensor) -> Tensor:
    """Image embeddings y_e of pictures.

    Args:
        image_encoder: a transformers vision model with projection.
        pixels: (b, 3, h, w) in [-1, 1], any size; resized to what the tower was trained on, the middle square of them.

    Returns:
        (b, image_embed_dim), length sqrt(image_embed_dim), so that each number is of unit size. Of a tower whose config
        has `picture_mean` and `picture_std`, CLIP's, what it gives: such networks were trained on that.
    """
    size = image_encoder.config.image_size
    pixels = middle_square(pixels)
    if hasattr(image_encoder.config, "picture_mean"):
        return embed_as_clip(image_encoder, pixels)
    if pixels.shape[-2:] != (size, size):
        pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True, align_corners=False)
    embeds = image_encoder(pixel_values=pixels.to(image_encoder.dtype)).image_embeds.float()
    return F.normalize(embeds, dim=-1) * math.sqrt(embeds.shape[-1])


def middle_square(pixels: Tensor) -> Tensor:
    """What CLIP's own preparation leaves of pictures (..., h, w) that are not square: nothing is squeezed."""
    height, width = pixels.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[..., top : top + side, left : left + side]


def embed_as_clip(image_encoder: Any, pixels: Tensor) -> Tensor:
    """As CLIPImageProcessor prepares square pictures, and as long as CLIP makes them."""
    size, config = image_encoder.config.image_size, image_encoder.config
    if pixels.shape[-2:] != (size, size):
        pixels = F.interpolate(pixels, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)
    mean, std = (pixels.new_tensor(list(three)).view(3, 1, 1) for three in (config.picture_mean, config.picture_std))
    seen = ((pixels + 1) / 2 - mean) / std
    return image_encoder(pixel_values=seen.to(image_encoder.dtype)).image_embeds.float()
