"""(text, y_e) pairs that `make-a-video data embed` has made once for all."""

import random
from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from ...data.embeddings import Embeddings
from ...data.images import CaptionedImages
from ...data.indexed import IndexedItems
from ...data.order import Order
from ...errors import UserError
from ..networks import of_weights

RUNS, RUN = 256, 64
"""Embeddings of a large set from which their mean and spread are taken: so many runs of so many neighbours."""


class StoredEmbeddings(torch.utils.data.Dataset):
    """(text embedding, y_e) pairs from disk, by index; nothing of them lies in memory.

    Samples without embeddings, and those that the split holds out, are replaced as a picture that cannot be read is.

    Raises:
        UserError: the embeddings are not whole, or of other data.
    """

    def __init__(self, images: CaptionedImages, folder: str):
        self.images, self.stored = images, Embeddings(folder)
        if not isinstance(images.items, IndexedItems):
            raise UserError(f"The embeddings in {folder} belong to an index: name it, alone, in data.roots.")
        self.stored.check_of(images.items.folder)
        self.stored.check_whole()
        self.passed_by = images.passed_by

    def check_made_by(self, image_encoder: torch.nn.Module) -> None:
        """Raises UserError where another image tower made them: P would learn to speak to that one."""
        if self.stored.shape.image_encoder != of_weights(image_encoder):
            folder = self.stored.folder
            raise UserError(
                f"The embeddings in {folder} are another image_encoder's: make them again, or name that one."
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def files(self) -> Collection[str]:
        return self.images.files

    def order(self, seed: int, epoch: int) -> Order:
        return self.images.order(seed, epoch)

    def __getitem__(self, key):
        index, rng = int(key[0]), random.Random(key[1])
        for _ in range(1000):
            pair = self._pair(index, rng)
            if pair is not None:
                return {"text": pair[0], "embeds": pair[1], "skipped": []}
            index = rng.randrange(len(self))
        raise UserError(f"Hardly any picture has embeddings in {self.stored.folder}: look at what was skipped there.")

    def _pair(self, index: int, rng: random.Random) -> tuple[Tensor, Tensor] | None:
        image = self.stored.images[index].astype(np.float32)
        text = self.stored.texts[index, rng.randrange(self.stored.shape.captions)].astype(np.float32)
        wanted = self.images.wanted
        if not (image.any() and text.any()) or (wanted is not None and not wanted(self.images.items[index].stem)):
            return None
        return torch.from_numpy(text), torch.from_numpy(image)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """As those of `EmbeddedImages`, of RUNS from all over the set."""
        starts = np.linspace(0, max(0, len(self) - RUN), RUNS).astype(int)
        places = np.unique(np.minimum(starts[:, None] + np.arange(RUN), len(self) - 1))
        embeds = self.stored.images[places].astype(np.float32)
        embeds = torch.from_numpy(embeds[embeds.any(1)])
        return embeds.mean(0, True), embeds.std(0, keepdim=True)
