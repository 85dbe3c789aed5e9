"""The image tower and the projection of texts into its space (CLIP; what section 3.1 takes as given)."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...encoders import TextProjection
from ...errors import UserError
from ..alike import Said, right_captions, same_thing
from ..batches import Complete
from ..datasets import captioned_images
from ..networks import all_parameters, load_folder
from ..processes import gathered, gathered_objects
from ..recipe import Recipe
from .base import Companion
from .texts import TextCache

VIEWS = 10.0
"""Scale of the views' cosines: one over their temperature."""


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


def contrast(one: Tensor, others: Tensor, right: Tensor, scale: Tensor | float) -> Tensor:
    """Cross-entropy of telling which of `others` (m, dim) belongs to each of `one` (n, dim).

    right: (n, m), 1 where an answer is right; several share the target.
    """
    return F.cross_entropy(scale * one @ others.T, right / right.sum(1, keepdim=True))


class ClipStage:
    """Image tower and text projection, contrastive (CLIP; what section 3.1 takes as given).

    It sees two views of each picture and a caption, says where they lie in one space, and is off by the cross-entropy
    of telling which belong together, among all pictures and captions that the processes have in this step.
    """

    complete: Complete | None = None

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
        """Picture against text, and one view of a picture against another (SLIP): few captions tell twins apart.

        Each process has its own rows of the table of all: the mean over the processes, which averages their gradients
        too, is the loss of one process with the whole batch.
        """
        pixels, text = batch["pixels"][:, 0], self.embed_text(batch["caption"])
        same, right, told = self.alike(batch)
        if self.recipe.train == "text":
            image, text, scale = network(pixels, text)
            one, other = image, None
        else:
            image, text, scale = network(torch.cat([augment(pixels, generator) for _ in range(2)]), text)
            one, other = image.chunk(2)
        ones, texts = gathered(one), gathered(text)
        loss = (contrast(one, texts, right, scale) + contrast(text, ones, told, scale)) / 2
        if other is None:
            return loss
        others = gathered(other)
        return loss + (contrast(one, others, same, VIEWS) + contrast(other, ones, same, VIEWS)) / 2

    def alike(self, batch: dict) -> tuple[Tensor, Tensor, Tensor]:
        """1 where something belongs together, (pictures of this process, of all) each.

        Pictures that show the same thing; pictures and the captions that are right for them; captions, and the
        pictures that they are right for.
        """
        said = [self.dataset.wordings(int(index)) for index in batch["index"]]
        mine = Said.of(said, batch["words"], batch["index"].tolist())
        everyone = Said.joined(gathered_objects(mine))
        tables = same_thing(mine, everyone), right_captions(mine, everyone), right_captions(everyone, mine).T
        same, right, told = (torch.from_numpy(table).to(batch["pixels"].device).float() for table in tables)
        return same, right, told

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
