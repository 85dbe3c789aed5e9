"""Known wordings and their pictures: P by looking up, exact for every wording that the data has."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from .sampling import Generators, generator_list

TEMPERATURE = 0.05
"""Of the softmax over cosines to the known wordings."""
NEARLY_AS_LIKELY = 0.8
"""Pictures at least this likely, in parts of the likeliest one, are drawn among."""


class WordingTable(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Text embeddings of all wordings of a data set, and the image embeddings of the pictures that they belong to.

    A text gives each wording a probability, softmax(cosine / temperature), and each picture the sum over its wordings'
    shares. P's image embedding is that of a likely picture, so it is always one that the decoder has been trained on.

    Buffers: texts (wordings, text_embed_dim), unit vectors; pictures (pictures, image_embed_dim), each y_e; owners
    (2, pairs): wording and picture of every pair.
    """

    config: Any  # a FrozenDict, whose entries are attributes too

    @register_to_config
    def __init__(
        self,
        num_wordings: int = 1,
        num_pictures: int = 1,
        num_pairs: int = 1,
        text_embed_dim: int = 384,
        image_embed_dim: int = 64,
        temperature: float = TEMPERATURE,
    ):
        super().__init__()
        self.register_buffer("texts", torch.zeros(num_wordings, text_embed_dim))
        self.register_buffer("pictures", torch.zeros(num_pictures, image_embed_dim))
        self.register_buffer("owners", torch.zeros(2, num_pairs, dtype=torch.int32))

    @classmethod
    def of(cls, said: Sequence[Sequence[Iterable[str]]], pictures: Tensor, embed: Callable) -> "WordingTable":
        """The table of pictures.

        Args:
            said: for each picture its wordings in ranks, the closest first (its label, its other names, its keywords).
                A wording belongs to the pictures of which it is closest: "cat" to the cat and not to every whisker.
            pictures: their y_e, (n, image_embed_dim).
            embed: from a list of texts to unit vectors.
        """
        owners: dict[str, tuple[int, dict[int, None]]] = {}
        for rank in range(max(len(ranks) for ranks in said)):
            for picture, ranks in enumerate(said):
                for word in ranks[rank] if rank < len(ranks) else ():
                    if owners.setdefault(word, (rank, {}))[0] == rank:
                        owners[word][1][picture] = None
        pairs = [(place, picture) for place, (_, owning) in enumerate(owners.values()) for picture in owning]
        texts = embed(list(owners)).cpu()
        table = cls(len(owners), len(pictures), len(pairs), texts.shape[1], pictures.shape[1])
        table.texts, table.pictures = texts, pictures.cpu()
        table.owners = torch.tensor(pairs, dtype=torch.int32).T.contiguous()
        return table

    def forward(self, text_embeds: Tensor) -> Tensor:
        """(b, text_embed_dim) -> probability of each picture (b, pictures)."""
        wording, picture = self.owners.long()
        likeness = text_embeds.to(self.texts).float() @ self.texts.float().T  # half precision would blur the softmax
        likely = F.softmax(likeness / self.config.temperature, -1)
        shares = likely / torch.bincount(wording, minlength=len(self.texts))
        empty = torch.zeros(len(text_embeds), len(self.pictures), device=likely.device)
        return empty.index_add(1, picture, shares[:, wording])

    def draw(self, text_embeds: Tensor, generator: Generators = None) -> Tensor:
        """y_e (b, image_embed_dim) of a picture for each text: the likeliest, or one nearly as likely."""
        likely = self(text_embeds)
        likely[likely < NEARLY_AS_LIKELY * likely.amax(1, keepdim=True)] = 0
        generators = generator_list(generator)
        chosen = [
            torch.multinomial(part.to("cpu" if one is None else one.device), 1, generator=one)[:, 0].cpu()
            for part, one in zip(likely.chunk(len(generators)), generators, strict=True)
        ]
        return self.pictures[torch.cat(chosen).to(self.pictures.device)].float()
