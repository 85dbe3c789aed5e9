"""(text, y_e) pairs, all that the prior sees: embedded here and now, or by `make-a-video data embed` once for all."""

import random
import sys
from collections.abc import Callable, Collection

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from ..data.embeddings import Embeddings
from ..data.images import CaptionedImages
from ..data.order import Order
from ..encoders import embed_images
from ..errors import UserError
from ..wordings import WordingTable

RUNS, RUN = 256, 64
"""Embeddings of a large set from which their mean and spread are taken: so many runs of so many neighbours."""


class EmbeddedImages(torch.utils.data.Dataset):
    """(caption, y_e) pairs: the pictures are embedded once, since the prior never sees pixels."""

    def __init__(self, images: CaptionedImages, image_encoder: nn.Module):
        self.images, self.files = images, images.files
        self.embeds: list[Tensor] = []
        self.indices: list[int] = []
        self.passed_by = list(images.passed_by)
        device = next(image_encoder.parameters()).device
        starts = range(0, len(images), 64)
        shown = sys.stderr.isatty() and len(starts) > 1
        for start in track(starts, "embedding the pictures", disable=not shown, console=Console(stderr=True)):
            samples = [images[(i, 0)] for i in range(start, min(start + 64, len(images)))]
            pixels = torch.cat([s["pixels"] for s in samples]).to(device)
            with torch.no_grad():
                self.embeds.extend(embed_images(image_encoder, pixels).cpu())
            # a picture that could not be read was replaced by another one: its caption is that one's
            self.indices.extend(s["index"] for s in samples)
            self.passed_by.extend(item for s in samples for item in s["skipped"])

    def __len__(self) -> int:
        return len(self.embeds)

    def __getitem__(self, key):
        index, seed = key[:2]
        caption, _ = self.images.draw_caption(self.indices[index], random.Random(seed))
        return {"caption": caption, "embeds": self.embeds[index], "skipped": []}

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each number of y_e, (1, image_embed_dim)."""
        embeds = torch.stack(self.embeds)
        return embeds.mean(0, True), embeds.std(0, keepdim=True)

    def table(self, embed: Callable) -> WordingTable:
        """What is said of the pictures, as P's table of known wordings."""
        said = [(one.phrases, one.names, one.keywords) for one in map(self.images.wordings, self.indices)]
        return WordingTable.of(said, torch.stack(self.embeds), embed)


class StoredEmbeddings(torch.utils.data.Dataset):
    """(text embedding, y_e) pairs from disk, by index; nothing of them lies in memory.

    Samples without embeddings, and those that the split holds out, are replaced as a picture that cannot be read is.

    Raises:
        UserError: the embeddings are not whole, or of other data.
    """

    def __init__(self, images: CaptionedImages, folder: str):
        self.images, self.stored = images, Embeddings(folder)
        self.stored.check_whole(len(images))
        self.passed_by = images.passed_by

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
