"""P: from a text's embedding to a picture's (section 3.1 of the paper)."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import UserError
from ...figures import TIMESTEPS
from ...loading import weights_hash
from ...sampling import add_noise, frame_noise
from ..batches import Complete
from ..datasets import captioned_images
from ..losses import draw_levels, weighted_loss
from ..networks import all_parameters, build, load_folder
from ..recipe import Recipe
from .base import Companion
from .conditions import drop
from .embedded import EmbeddedImages
from .stored import StoredEmbeddings
from .texts import TextCache


class PriorStage:
    """P: text embedding -> image embedding, a diffusion of vectors (section 3.1).

    It sees a noisy image embedding and is told the text's, says the clean one, and is off by the velocity's squared
    error. Beside the network it exports the table of all wordings of its data, `wordings`; of a set whose embeddings
    are on disk (`data.embeddings`) there is none, it would be as large as the set.
    """

    complete: Complete | None = None

    def __init__(self, recipe: Recipe, device: torch.device):
        self.recipe, self.device = recipe, device
        self.companions: list[Companion] = []
        self.skipped: list[tuple[str, str]] = []
        from diffusers.models.transformers.prior_transformer import PriorTransformer
        from transformers import CLIPVisionModelWithProjection

        tower_at = CLIPVisionModelWithProjection, recipe.image_encoder, "image encoder"
        self.dataset: EmbeddedImages | StoredEmbeddings
        if recipe.data.embeddings is not None:
            self.dataset = StoredEmbeddings(captioned_images(recipe.data, captions=False), recipe.data.embeddings)
            if recipe.image_encoder is not None:  # not needed, but it says that these are another one's
                self.dataset.check_made_by(load_folder(*tower_at))
            image_dim, text_dim = self.dataset.stored.shape.image_dim, self.dataset.stored.shape.text_dim
        else:
            tower = load_folder(*tower_at).to(device)
            known = Path(recipe.output), weights_hash(str(recipe.image_encoder))
            self.dataset = EmbeddedImages(captioned_images(recipe.data), tower.eval(), *known)
            self.embed_text = TextCache(recipe.text_encoder, device)
            image_dim, text_dim = tower.config.projection_dim, self.embed_text.encoder.config.hidden_size
        if len(self.dataset) < 2:
            raise UserError(f"{', '.join(recipe.data.roots)} holds a single picture: the prior needs two or more.")
        config = {
            "embedding_dim": image_dim,
            "embedding_proj_dim": text_dim,
            "num_embeddings": 0,
            "encoder_hid_proj_type": None,
        }
        self.network: Any = build(PriorTransformer, {**recipe.network, **config})
        # kept in the network's own (untrained) statistics, as unCLIP does, so that the diffusion sees unit variance
        self.network.clip_mean.data, self.network.clip_std.data = self.dataset.statistics()
        self.network.clip_mean.requires_grad_(False)
        self.network.clip_std.requires_grad_(False)

    def parameter_groups(self) -> list[dict]:
        return all_parameters(self.network, self.recipe)

    def loss(self, network, batch: dict, generator: torch.Generator) -> Tensor:
        text = batch["text"] if "text" in batch else self.embed_text(batch["caption"])
        x = (batch["embeds"] - self.network.clip_mean) / self.network.clip_std
        dropped = drop(len(x), self.recipe.condition_dropout, generator, x.device)
        text = torch.where(dropped[:, None], torch.zeros_like(text), text)
        t = draw_levels(x.shape[0], self.recipe.noise, generator).to(x.device)
        noise = frame_noise(x.shape, generator).to(x.device)
        x_hat = network(add_noise(x, noise, t), t * TIMESTEPS, proj_embedding=text).predicted_image_embedding
        return weighted_loss(x_hat.float(), x, t, self.recipe.noise.weight_floor)

    def contact_sheet(self, network) -> None:
        return None

    def export(self, folder) -> None:
        self.network.half().save_pretrained(folder / "prior")
        if isinstance(self.dataset, EmbeddedImages):
            self.dataset.table(self.embed_text).half().save_pretrained(folder / "wordings")
