"""The image tower and the projection of texts into its space (CLIP; what section 3.1 takes as given)."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...encoders import TextProjection
from ...errors import UserError
from ..datasets import captioned_images
from ..networks import all_parameters, load_folder
from ..recipe import Recipe
from .base import Companion
from .texts import TextCache

VIEW_TEMPERATURE = 0.1


class ImageTextNetwork(nn.Module):
    def __init__(self, vision: Any, text: TextProjection):
        super().__init__()
        self.vision: Any = vision
        self.text = text
        self.log_scale = nn.Parameter(torch.tensor(2.659))  # exp: 1 / 0.07, as CLIP starts

    def forward(self, pixels: Tensor, text_embeds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image = F.normalize(self.vision(pixel_values=pixels).image_embeds.float(), dim=-1)
        return image, self.text(text_embeds), self.log_scale.exp().clamp(max=100)


def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Random zoom, shift and colour gain (batch, 3, h, w): the tower must not tell pictures by their frame."""
    batch, device = pixels.shape[0], pixels.device
    zoom, dx, dy = torch.rand(3, batch, generator=generator, device=generator.device).to(device)
    scale = 0.85 + 0.4 * zoom  # above 1: the picture shrinks, its border repeats
    theta = torch.zeros(batch, 2, 3, device=device)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, 0, 2], theta[:, 1, 2] = 0.2 * (dx - 0.5), 0.2 * (dy - 0.5)
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    moved = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    gain = torch.rand(batch, 3, 1, 1, generator=generator, device=generator.device).to(device)
    return ((moved - 1) * (0.9 + 0.2 * gain) + 1).clamp(-1, 1)


def contrast(logits: Tensor, right: Tensor) -> Tensor:
    """Cross-entropy in both directions; where several answers are right, (rows, columns) 1, the target is shared."""
    along, across = (answers / answers.sum(1, keepdim=True) for answers in (right, right.T))
    return (F.cross_entropy(logits, along) + F.cross_entropy(logits.T, across)) / 2


class ClipStage:
    """Image tower and text projection, contrastive (CLIP; what section 3.1 takes as given).

    It sees two views of each picture and a caption, says where they lie in one space, and is off by the cross-entropy
    of telling which belong together.
    """

    def __init__(self, recipe: Recipe, device: torch.device):
        self.recipe, self.device = recipe, device
        self.companions: list[Companion] = []
        self.skipped: list[tuple[str, str]] = []
        self.dataset = captioned_images(recipe.data)
        self.embed_text = TextCache(recipe.text_encoder, device)
        self.network = start(recipe, self.embed_text.encoder.config.hidden_size)

    def parameter_groups(self) -> list[dict]:
        return all_parameters(self.network, self.recipe)

    def loss(self, network, batch: dict, generator: torch.Generator) -> Tensor:
        """Picture against text, and one view of a picture against another (SLIP): few captions tell twins apart."""
        pixels, text = batch["pixels"][:, 0], self.embed_text(batch["caption"])
        same, right = self.alike(batch)
        if self.recipe.train == "text":
            image, text, scale = network(pixels, text)
            return contrast(scale * image @ text.T, right)
        image, text, scale = network(torch.cat([augment(pixels, generator) for _ in range(2)]), text)
        one, other = image.chunk(2)
        return contrast(scale * one @ text.T, right) + contrast(one @ other.T / VIEW_TEMPERATURE, same)

    def alike(self, batch: dict) -> tuple[Tensor, Tensor]:
        """(1 where two pictures show one thing, 1 where a caption is right for a picture), (pictures, pictures) each.

        Two pictures show one thing if they are the same one or their data gives them one concept, as twins of two
        artists; names say nothing: there are many 0001. Right are the captions of the same thing, and what is made of
        words said of the picture.
        """
        said = [self.dataset.wordings(int(index)) for index in batch["index"]]
        shown = [known.concept or int(index) for known, index in zip(said, batch["index"], strict=True)]
        numbers: dict[str | int, int] = {}
        same = torch.tensor([numbers.setdefault(one, len(numbers)) for one in shown])
        same = same[:, None] == same
        having: dict[str, set[int]] = {}
        for place, known in enumerate(said):
            for word in known.all:
                having.setdefault(word, set()).add(place)
        right = same.clone()
        for place, words in enumerate(batch["words"]):
            right[list(set.intersection(*(having.get(word, set()) for word in words.split("\n")))), place] = True
        device = batch["pixels"].device
        return same.float().to(device), right.float().to(device)

    def contact_sheet(self, network) -> None:
        return None

    def export(self, folder) -> None:
        self.network.vision.half().save_pretrained(folder / "image_encoder")
        self.network.text.half().save_pretrained(folder / "text_projection")


def start(recipe: Recipe, text_dim: int) -> ImageTextNetwork:
    """The two networks of `init_from`, or new ones; the tower stays as it is with `train: text`.

    text_dim: numbers that the text encoder makes of a text.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    size = recipe.data.crop or recipe.data.size
    if recipe.init_from:
        folder = Path(recipe.init_from)
        vision = load_folder(CLIPVisionModelWithProjection, folder / "image_encoder", "image encoder")
        text = load_folder(TextProjection, folder / "text_projection", "text projection")
    else:
        config = CLIPVisionConfig(image_size=size, **recipe.network)
        vision = CLIPVisionModelWithProjection(config)
        text = TextProjection(text_dim, config.projection_dim)
    if vision.config.image_size != size:
        raise UserError(
            f"The image encoder in {recipe.init_from} sees {vision.config.image_size} pixels a side and the data "
            f"has {size}: set data.size to {vision.config.image_size}."
        )
    if text.config.text_embed_dim != text_dim:
        raise UserError(
            f"The text projection in {recipe.init_from} expects {text.config.text_embed_dim} numbers a text and "
            f"the text encoder gives {text_dim}: set text_encoder to the one that it was trained with."
        )
    network = ImageTextNetwork(vision.float(), text.float())
    network.vision.requires_grad_(recipe.train != "text")
    return network
