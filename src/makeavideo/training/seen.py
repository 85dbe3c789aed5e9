"""What a run shows of itself beside the contact sheet: clips of fixed prompts, and the loss on clips held out."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..codec import decode
from ..data.report import named, printable
from ..errors import UserError
from ..figures import KEY_FRAMES
from ..model_files import codec_of
from ..sampling import to_uint8
from .batches import Batches, on_device
from .datasets import unlabelled_clips
from .networks import embedding_dim
from .processes import Share, place, told_by
from .recipe import PromptRecipe, Recipe
from .stages.conditions import Conditions
from .stages.decoder import drawn

RATE = 8.0
HELD_OUT_CLIPS = 16


class PromptClips:
    """A clip of each prompt, from the same noise each time: what changes is what was learnt.

    Each process makes some of them. Only the first one has the cascade, which embeds the prompts and decodes latents.

    Args:
        network: what is trained.

    Raises:
        UserError: no such cascade, one that reads no prompts, or one for another network.
    """

    def __init__(self, recipe: Recipe, prompts: PromptRecipe, network: Any, device: torch.device):
        self.recipe, self.network, self.device, self.codec = recipe, network, device, None
        told = self.read(prompts) if place()[0] == 0 else None
        y_e, channels, shape = told_by(0, told)
        self.share = Share(len(y_e))
        self.y_e = y_e[self.share.rows].to(device)
        self.shape = (len(self.y_e), KEY_FRAMES, channels, *shape)

    def read(self, prompts: PromptRecipe) -> tuple[torch.Tensor, int, list[int]]:
        """(y_e of each prompt, channels and sides of what D_t makes)."""
        from ..pipeline import MakeAVideoPipeline

        pipe: Any = MakeAVideoPipeline.load(prompts.model, dtype="float32", device="cpu")
        pipe.set_progress_bar_config(disable=True)
        self.check_fits(pipe, prompts.model)
        with torch.no_grad():
            y_e = pipe.embed_prompts(prompts.texts, torch.Generator().manual_seed(self.recipe.seed))
        self.codec = None if pipe.codec is None else pipe.codec.to(self.device)
        return y_e, pipe.decoder.out_channels, [side // pipe.shrinkage for side in self.recipe.data.shape]

    def check_fits(self, pipe: Any, name: str) -> None:
        """Raises UserError where the cascade's embeddings or latents are not those of the network that is trained."""
        side = 1 if self.recipe.codec is None else codec_of(Path(self.recipe.codec))[1]
        compared = {
            "embeddings of {} numbers": (pipe.prior.config.embedding_dim, embedding_dim(self.network.config)),
            "frames of {} channels": (pipe.decoder.out_channels, self.network.out_channels),
            "latents of {} pixels a side": (pipe.shrinkage, side),
        }
        for what, (theirs, ours) in compared.items():
            if theirs != ours:
                raise UserError(
                    f"prompts.model {name} works on {what.format(theirs)} and the network that is trained on "
                    f"{what.format(ours)}: name the cascade that it belongs to."
                )

    @torch.no_grad()
    def __call__(self, network: Any) -> np.ndarray | None:
        """uint8 (frames, height, width of all clips side by side, 3), RATE a second; None but of the first process."""
        generator, device = torch.Generator().manual_seed(self.recipe.seed + place()[0]), self.y_e.device
        rates = torch.full((len(self.y_e),), RATE, device=device)
        usual = torch.ones(len(self.y_e), device=device) if network.config.motion is not None else None
        dropped = torch.zeros(len(self.y_e), dtype=torch.bool, device=device)
        made = drawn(network, Conditions(self.y_e, dropped, rates, usual), self.shape, self.recipe, generator)
        made = self.share.joined(made)
        if place()[0] != 0:
            return None
        frames = made if self.codec is None else torch.cat(list(decode(self.codec, made)), 1)
        return np.concatenate(list(to_uint8(frames)), axis=2)


class HeldOutLoss:
    """The loss on clips that are not trained on, the same ones with the same noise each time; each process has some.

    Args:
        trained_on: paths of the clips that are.
        stage: whose loss it is.

    Raises:
        UserError: the clips cannot be read, or are trained on.
    """

    def __init__(self, recipe: Recipe, trained_on: Collection[str], stage: Any):
        clips = unlabelled_clips(recipe.data.model_copy(update={"roots": recipe.data.held_out, "buckets": []}))
        count = min(len(clips), HELD_OUT_CLIPS)
        parts = [range(start, min(start + recipe.batch_size, count)) for start in range(0, count, recipe.batch_size)]
        self.share = Share(len(parts))
        keys = [[(p * len(clips) // count, p, p / count) for p in part] for part in parts]
        batches = Batches(clips, keys, stage.complete)
        mine = [batches[row] for row in self.share.rows]
        known = named(trained_on)
        off = [printable(clips.items[index].media) for batch in mine for index in batch["index"].tolist()]
        if both := [path for path in off if path in known]:
            raise UserError(
                f"data.held_out names clips that are trained on too, as {both[0]}: take them out of data.roots."
            )
        self.batches = [on_device(batch, stage.device) for batch in mine]
        self.device, self.seed = stage.device, recipe.seed + place()[0]

    @torch.no_grad()
    def __call__(self, stage: Any, network: Any) -> float:
        generator = torch.Generator(self.device).manual_seed(self.seed)
        losses = torch.stack([stage.loss(network, batch, generator).float() for batch in self.batches])
        counts = losses.new_tensor([len(batch["pixels"]) for batch in self.batches])
        total, clips = self.share.joined(torch.stack([losses * counts, counts], 1)).sum(0).tolist()
        return total / clips
