"""What D, D_t and F-up are told of a clip: a picture's meaning, the frame rate, strength of motion (section 3.2)."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...encoders import embed_images
from ...figures import TIMESTEPS
from ...motion import clip_strength
from ..networks import check_tower, load_folder
from ..recipe import Recipe


@dataclass
class Conditions:
    """What the network is told of a batch of clips.

    y_e: image embeddings (batch, dim), zeros where they are `dropped`, (batch,).
    fps, motion: (batch,), 0 and -1 where not given; None: the network knows nothing of it.
    """

    y_e: Tensor
    dropped: Tensor
    fps: Tensor | None
    motion: Tensor | None = None

    def without_meaning(self, of: Tensor | None = None) -> "Conditions":
        """The same with no y_e: what guidance leads away from. of: (batch,), true for the clips that lose it."""
        none = torch.zeros_like(self.y_e)
        return replace(self, y_e=none if of is None else torch.where(of[:, None], none, self.y_e))


def drop(batch: int, chance: float, generator: torch.Generator, device: torch.device) -> Tensor:
    """(batch,) true where a condition is left out of a sample, so that it can be left out later."""
    return (torch.rand(batch, generator=generator, device=generator.device) < chance).to(device)


def drop_rates(fps: Tensor | None, chance: float, generator: torch.Generator, device: torch.device) -> Tensor | None:
    """Frame rates (batch,), 0 where they are dropped; None of pictures, which have none."""
    return None if fps is None else torch.where(drop(len(fps), chance, generator, device), 0.0, fps.float())


def told(network, x: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
    """The network's answer (batch, frames, 3, h, w) at noise levels t, float32."""
    given = {"encoder_hidden_states": None, "added_cond_kwargs": {"image_embeds": conditions.y_e}}
    return network(x, t * TIMESTEPS, fps=conditions.fps, motion=conditions.motion, **given).sample.float()


class Conditioner:
    """Finds out of clips (batch, frames, 3, h, w) in [-1, 1] what their network is told.

    UserError: the recipe names no image tower, or that of another network.

    usual_motion: `motion.usual_change` of the network that is told the strength of motion; None of another one.
    """

    def __init__(
        self, recipe: Recipe, network: Any, device: torch.device, usual_motion: tuple[float, float] | None = None
    ):
        from transformers import CLIPVisionModelWithProjection

        tower = load_folder(CLIPVisionModelWithProjection, recipe.image_encoder, "image encoder")
        check_tower(network, tower, recipe.image_encoder)
        half = torch.float32 if recipe.mixed_precision == "no" else torch.bfloat16
        self.image_encoder = tower.to(device, half).eval().requires_grad_(False)
        self.device, self.chance, self.usual_motion = device, recipe.condition_dropout, usual_motion

    @torch.no_grad()
    def embed_frame(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """y_e of one random frame of each clip (batch, dim)."""
        frame = torch.randint(x.shape[1], (x.shape[0],), generator=generator, device=generator.device).to(x.device)
        return embed_images(self.image_encoder, x[torch.arange(len(x), device=x.device), frame])

    def some(self, x: Tensor, fps: Tensor | None, generator: torch.Generator) -> Conditions:
        """For training: each of them dropped now and then. fps: (batch,), None of pictures."""
        y_e = self.embed_frame(x, generator)
        dropped = drop(len(x), self.chance, generator, self.device)
        y_e = torch.where(dropped[:, None], torch.zeros_like(y_e), y_e)
        rates = drop_rates(fps, self.chance, generator, self.device)
        motion = None
        if self.usual_motion is not None and fps is not None:
            motion = clip_strength(x, fps, self.usual_motion)
            motion = torch.where(drop(len(x), self.chance, generator, self.device), -1.0, motion)
        return Conditions(y_e, dropped, rates, motion)

    def all(self, x: Tensor, fps: Tensor | None, generator: torch.Generator) -> Conditions:
        """For samples: nothing dropped."""
        conditions = Conditions(self.embed_frame(x, generator), torch.zeros(len(x), dtype=torch.bool), fps)
        if self.usual_motion is not None and fps is not None:
            conditions.motion = clip_strength(x, fps, self.usual_motion)
        return conditions
