"""D on pictures and D_t on clips: from an image embedding to frames (sections 3.1 and 3.2 of the paper)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.images import CaptionedImages
from ...data.reader import to_pixels
from ...errors import UserError
from ...inflation import VideoUNet, add_motion, add_pixel_path
from ...motion import change, usual_change
from ...sampling import Generators, frame_noise, guide, make_scheduler, sample
from ..datasets import captioned_images, unlabelled_clips
from ..looks import other_looks
from ..losses import denoising_loss, diffuse
from ..masks import draw_masks
from ..networks import (
    all_parameters,
    in_frames,
    in_latents,
    load_codec,
    make_trainable,
    save_additions,
    save_network,
    start_network,
    temporal_and_spatial,
)
from ..recipe import Recipe
from .base import Companion
from .conditions import Conditioner, Conditions, told
from .sheets import SHEET_CLIPS, Sheet

SHIFT = 2.0
"""Of the noise levels that D is sampled at, towards more noise."""
MEASURED_CLIPS = 96
"""Clips from which the usual motion is taken."""
SHEET_PICTURES, SHEET_STEPS, SHEET_GUIDANCE = 64, 16, 2.0


class DecoderStage:
    """The image embedding of one frame -> all frames, by diffusion.

    It sees noisy frames, some of them clean where known frames are learnt, and is told y_e, the frame rate and the
    strength of motion. It says the clean frames, or those moved on by model guidance. It is off by the velocity's
    squared error and, if asked for, by the edges'.

    On clips it learns from stills too, as clips of one frame, so that it forgets nothing that never moves.
    """

    def __init__(self, recipe: Recipe, device: torch.device):
        self.recipe, self.device = recipe, device
        self.companions: list[Companion] = []
        self.skipped: list[tuple[str, str]] = []
        self.dataset: Any = unlabelled_clips(recipe.data) if recipe.video else captioned_images(recipe.data, False)
        self.network = start(recipe, self.dataset)
        make_trainable(self.network, recipe)
        if self.network.config.unet_class != "UNet2DConditionModel":
            raise UserError(f"The network of {recipe.stage} takes no image embedding: use UNet2DConditionModel.")
        self.codec = load_codec(recipe, self.network, device)
        self.conditioner = Conditioner(recipe, device, self.network.config.motion if recipe.motion else None)
        self.stills: CaptionedImages | None = None
        if recipe.video and recipe.data.stills:
            stills = recipe.data.model_copy(update={"roots": recipe.data.stills})
            self.stills = captioned_images(stills, captions=False)
            self.skipped += self.stills.passed_by

    def parameter_groups(self) -> list[dict]:
        return (temporal_and_spatial if self.recipe.video else all_parameters)(self.network, self.recipe)

    def loss(self, network, batch: dict, generator: torch.Generator) -> Tensor:
        data = self.recipe.data
        x, fps = batch["pixels"], batch["fps"] if self.recipe.video else None
        if self.recipe.video and data.still_clips:
            draws = torch.rand(len(x), generator=generator, device=generator.device).to(self.device)
            x = torch.where((draws < data.still_clips)[:, None, None, None, None], x[:, :1], x)
        loss = self.clip_loss(network, x, fps, generator)
        if self.stills is None:
            return loss
        stills = self.draw_stills(self.stills, generator)
        of_stills = self.clip_loss(network, stills, torch.zeros(len(stills), device=self.device), generator)
        return torch.lerp(loss, of_stills, len(stills) / (len(stills) + x.shape[:2].numel()))

    def clip_loss(self, network, x: Tensor, fps: Tensor | None, generator: torch.Generator) -> Tensor:
        """Of clips (batch, frames, 3, h, w) at these frame rates (batch,), None of pictures."""
        wanted, seen = None, x
        if self.recipe.data.known_frames and x.shape[1] > 1:
            wanted = 1 - self.known_frames(x.shape[0], x.shape[1], generator)
            if self.recipe.data.other_looks:
                x, seen = self.other_looks(x, wanted, generator)
        conditions = self.conditioner.some(seen, fps, generator)
        x = in_latents(self.codec, x)
        x_t, t = diffuse(x, self.recipe.noise, generator)
        if wanted is not None:
            # each frame has a noise level of its own, and that of a known one is 0 (Diffusion Forcing, 2407.01392)
            x_t = torch.lerp(x, x_t, wanted[:, :, None, None, None])
            t = t[:, None] * wanted
        x_hat = told(network, x_t, t, conditions)
        target = x if self.recipe.guidance == 1 else self.guided(network, x, x_hat.detach(), x_t, t, conditions)
        return denoising_loss(x_hat, target, t, self.recipe.noise, wanted, self.network.config.prediction)

    def known_frames(self, batch: int, num_frames: int, generator: torch.Generator) -> Tensor:
        """(batch, frames), 1 where D_t is shown a frame as it is."""
        shown = torch.rand(batch, generator=generator, device=generator.device) < self.recipe.data.known_frames
        return (draw_masks(batch, num_frames, generator) * shown.cpu()[:, None]).to(self.device)

    def other_looks(self, x: Tensor, wanted: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The clips, some of those with known frames changed, and the clips that y_e is taken from.

        Half of the y_e are still of the unchanged clip: where the two disagree the known frame is right.
        """
        draws = torch.rand(2, len(x), generator=generator, device=generator.device).to(self.device)
        chosen = (draws[0] < self.recipe.data.other_looks) & (wanted < 1).any(1)
        changed = torch.where(chosen[:, None, None, None, None], other_looks(x, generator), x)
        return changed, torch.where((draws[1] < 0.5)[:, None, None, None, None], changed, x)

    @torch.no_grad()
    def guided(self, network, x: Tensor, x_hat: Tensor, x_t: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """Model guidance (2502.12154): the target, moved on from what the network would say without y_e.

        With w = 1 - 1 / guidance the network's answer settles at guidance times the way from the null one.
        """
        null = told(network, x_t, t, conditions.without_meaning())
        moved = x + (1 - 1 / self.recipe.guidance) * (x_hat - null)
        return torch.where(conditions.dropped[:, None, None, None, None], x, moved)

    def draw_stills(self, images: CaptionedImages, generator: torch.Generator) -> Tensor:
        """Pictures as clips of one frame, (stills_per_step, 1, 3, h, w)."""
        count = self.recipe.data.stills_per_step
        chosen = torch.randint(len(images), (count,), generator=generator, device=generator.device)
        indices = chosen.tolist() if images.buckets is None else images.buckets.alike(chosen.tolist())
        samples = images.__getitems__([(index, 0) for index in indices])
        self.skipped += [item for sample in samples for item in sample["skipped"]]
        # bytes travel, and become numbers on the device
        return to_pixels(torch.from_numpy(np.stack([sample["pixels"] for sample in samples])).to(self.device))

    def contact_sheet(self, network):
        count = SHEET_CLIPS if self.recipe.video else SHEET_PICTURES
        sheet = Sheet(self.dataset, count, self.device, self.recipe.seed)
        conditions = self.conditioner.all(sheet.pixels, sheet.rates, sheet.generator)
        shape = in_latents(self.codec, sheet.pixels).shape
        made = drawn(network, conditions, shape, self.recipe, sheet.generator)
        return sheet.pairs(in_frames(self.codec, made), self.recipe.video)

    def export(self, folder) -> None:
        if self.recipe.lora_rank or (self.recipe.video and self.recipe.train == "temporal"):
            save_additions(self.network, self.recipe, folder)
        else:
            save_network(self.network, "decoder", SHIFT, folder)


def drawn(network: Any, conditions: Conditions, shape: Sequence[int], recipe: Recipe, generator: Generators) -> Tensor:
    """What the network makes of noise (batch, frames, channels, h, w), with guidance as in use."""
    scale = SHEET_GUIDANCE / recipe.guidance

    def predict(x_t, t):
        known = told(network, x_t, t.expand(len(x_t)), conditions)
        if scale == 1:
            return known
        return guide(known, told(network, x_t, t.expand(len(x_t)), conditions.without_meaning()), scale)

    noise = frame_noise(tuple(shape), generator, recipe.noise.shared).to(conditions.y_e.device)
    return sample(predict, noise, make_scheduler(SHIFT), SHEET_STEPS, levels=network.levels(SHEET_STEPS))


def start(recipe: Recipe, dataset: Any) -> VideoUNet:
    """The network, with the parts that the recipe adds to it, and its settings in its configuration."""
    network: Any = start_network(recipe)
    if recipe.pixel_channels and not network.config.pixel_channels:
        add_pixel_path(network, recipe.pixel_channels, modulated=True)
    if recipe.motion and network.config.motion is None:
        add_motion(network, measured_motion(dataset))
    note_shape(network, recipe)
    network.register_to_config(
        shared_noise=recipe.noise.shared, guidance=recipe.guidance, known_frames=recipe.data.known_frames > 0
    )
    return network.to(memory_format=torch.channels_last)


def note_shape(network: Any, recipe: Recipe) -> None:
    """A decoder that learns from frames of another shape says so: its cascade makes those where none is asked for."""
    if recipe.data.crop is not None or recipe.codec is not None or recipe.train != "all":
        return
    height, width = (side // network.config.space_to_depth for side in recipe.data.shape)
    own = network.config.unet_config["sample_size"]
    if (height, width) != ((own, own) if isinstance(own, int) else tuple(own or ())):
        shape = height if height == width else [height, width]
        network.register_to_config(unet_config={**network.config.unet_config, "sample_size": shape})


def measured_motion(clips: Any) -> tuple[float, float]:
    """What a motion strength of 1 means in these clips, from some of them at the rates that are trained on."""
    count = min(MEASURED_CLIPS, len(clips))
    samples = [clips[(i * len(clips) // count, i, i / count)] for i in range(count)]
    changes = [float(change(sample["pixels"][None])) for sample in samples]
    return usual_change(changes, [float(sample["fps"]) for sample in samples])
