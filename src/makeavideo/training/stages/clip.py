"""The image tower and the projection of texts into its space (CLIP; what section 3.1 takes as given)."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...encoders import TextProjection, embed_text, load_text_encoder
from ...errors import UserError
from ..recipe import Recipe
from .base import Stage, captioned_images, load_folder

VIEW_TEMPERATURE = 0.1


class ImageTextNetwork(nn.Module):
    def __init__(self, vision: nn.Module, text: TextProjection):
        super().__init__()
        self.vision, self.text = vision, text
        self.log_scale = nn.Parameter(torch.tensor(2.659))  # exp: 1 / 0.07, as CLIP starts

    def forward(self, pixels: Tensor, text_embeds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image = F.normalize(self.vision(pixel_values=pixels).image_embeds.float(), dim=-1)
        return image, self.text(text_embeds), self.log_scale.exp().clamp(max=100)


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


class ClipStage(Stage):
    """Image tower and text projection, contrastive (CLIP; what section 3.1 takes as given)."""

    def __init__(self, recipe: Recipe, device: torch.device):
        super().__init__(recipe, device)
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        self.dataset = captioned_images(recipe.data)
        self.embed_text = TextCache(recipe.text_encoder, device)
        if recipe.init_from:
            start = Path(recipe.init_from)
            vision = load_folder(CLIPVisionModelWithProjection, start / "image_encoder", "image encoder")
            text = load_folder(TextProjection, start / "text_projection", "text projection")
        else:
            config = CLIPVisionConfig(image_size=recipe.data.crop or recipe.data.size, **recipe.network)
            vision = CLIPVisionModelWithProjection(config)
            text = TextProjection(self.embed_text.encoder.config.hidden_size, config.projection_dim)
        size, dim = recipe.data.crop or recipe.data.size, self.embed_text.encoder.config.hidden_size
        if vision.config.image_size != size:
            raise UserError(
                f"The image encoder in {recipe.init_from} sees {vision.config.image_size} pixels a side and the data "
                f"has {size}: set data.size to {vision.config.image_size}."
            )
        if text.config.text_embed_dim != dim:
            raise UserError(
                f"The text projection in {recipe.init_from} expects {text.config.text_embed_dim} numbers a text and "
                f"the text encoder gives {dim}: set text_encoder to the one that it was trained with."
            )
        self.network = ImageTextNetwork(vision.float(), text.float())
        self.network.vision.requires_grad_(recipe.train != "text")

    def parameter_groups(self):
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        return [{"params": parameters, "lr": self.recipe.optim.learning_rate}]

    def loss(self, network, batch, generator):
        """Picture against text, and one view of a picture against another (SLIP): few captions tell twins apart."""
        pixels, text = batch["pixels"][:, 0], self.embed_text(batch["caption"])
        if self.recipe.train == "text":
            image, text, scale = network(pixels, text)
            return contrast(scale * image @ text.T, self.right_texts(batch))
        image, text, scale = network(torch.cat([augment(pixels, generator) for _ in range(2)]), text)
        one, other = image.chunk(2)
        keys = batch["key"]
        same = torch.tensor([[a == b for b in keys] for a in keys], device=image.device).float()
        return contrast(scale * one @ text.T, self.right_texts(batch)) + contrast(
            one @ other.T / VIEW_TEMPERATURE, same
        )

    def right_texts(self, batch) -> Tensor:
        """(pictures, captions) 1 where the caption is right: its own, and what is made of words said of the picture."""
        said = [set(self.dataset.wordings(int(index)).all) for index in batch["index"]]
        drawn = [set(words.split("\n")) for words in batch["words"]]
        pictures = list(zip(batch["key"], said, strict=True))
        captions = list(zip(batch["key"], drawn, strict=True))
        right = [[float(key == other or words <= known) for other, words in captions] for key, known in pictures]
        return torch.tensor(right, device=batch["pixels"].device)

    def export(self, folder):
        self.network.vision.half().save_pretrained(folder / "image_encoder")
        self.network.text.half().save_pretrained(folder / "text_projection")
