"""D on pictures and D_t on clips: from an image embedding to frames (sections 3.1 and 3.2 of the paper)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...data.images import CaptionedImages
from ...data.reader import to_pixels
from ...errors import UserError
from ...inflation import VideoUNet, add_motion, add_pixel_path
from ...motion import change, usual_change
from ...sampling import Generators, frame_noise, guide, make_scheduler, sample
from ..batches import Complete, collate
from ..datasets import captioned_images, unlabelled_clips
from ..looks import other_looks
from ..losses import denoising_loss, diffuse
from ..masks import draw_masks
from ..moved import moved
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


@dataclass(frozen=True)
class Company:
    """What a batch of clips has beside it: pictures that it is learnt with, and which frames D_t is shown as they are.

    Attributes:
        images, count: pictures, and how many go with a batch: "stills", uint8 (count, 1, h, w, 3).
        moving: pictures that may take a clip's place: "moving", uint8 (batch, 1, 2 h, 2 w, 3).
        known_frames: share of the clips of which D_t is shown some: "known" (batch, frames), 1 where it is.
    """

    images: CaptionedImages | None
    count: int
    moving: CaptionedImages | None
    known_frames: float

    def __call__(self, batch: dict, generator: torch.Generator) -> dict:
        clips, frames = batch["pixels"].shape[:2]
        if self.known_frames and frames > 1:
            shown = torch.rand(clips, generator=generator) < self.known_frames
            batch["known"] = draw_masks(clips, frames, generator) * shown[:, None]
        for name, images, count in (("stills", self.images, self.count), ("moving", self.moving, clips)):
            if images is not None:
                chosen = torch.randint(len(images), (count,), generator=generator).tolist()
                if images.buckets is not None:
                    chosen = images.buckets.alike(chosen)
                pictures = collate(images.__getitems__([(index, 0) for index in chosen]))
                batch[name] = pictures["pixels"]
                batch["skipped"] += pictures["skipped"]
        return batch


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
        usual_motion = self.network.config.motion if recipe.motion else None
        self.conditioner = Conditioner(recipe, self.network, device, usual_motion)
        data = recipe.data
        twice = tuple(2 * side for side in data.shape)
        stills = self.pictures(data.stills, {})
        moving = self.pictures(data.moved_stills, {"size": twice, "crop": None, "buckets": []})
        self.complete: Complete | None = Company(stills, data.stills_per_step, moving, data.known_frames)

    def pictures(self, roots: list[str], shape: dict[str, Any]) -> CaptionedImages | None:
        """Those that clips are learnt with, if any."""
        if not self.recipe.video or not roots:
            return None
        images = captioned_images(self.recipe.data.model_copy(update={"roots": roots, **shape}), captions=False)
        self.skipped += images.passed_by
        return images

    def parameter_groups(self) -> list[dict]:
        return (temporal_and_spatial if self.recipe.video else all_parameters)(self.network, self.recipe)

    def loss(self, network, batch: dict, generator: torch.Generator) -> Tensor:
        data = self.recipe.data
        x, fps = batch["pixels"], batch["fps"] if self.recipe.video else None
        if self.recipe.video and data.still_clips:
            x = torch.where(self.some_of(x, data.still_clips, generator), x[:, :1], x)
        if "moving" in batch:
            pictures = to_pixels(batch["moving"])[:, 0]
            bent = moved(pictures, batch["fps"], x.shape[1], generator)
            x = torch.where(self.some_of(x, data.moved_share, generator), bent, x)
        loss = self.clip_loss(network, x, fps, generator, batch.get("known"))
        if "stills" not in batch:
            return loss
        stills = to_pixels(batch["stills"])
        of_stills = self.clip_loss(network, stills, torch.zeros(len(stills), device=self.device), generator)
        return torch.lerp(loss, of_stills, len(stills) / (len(stills) + x.shape[:2].numel()))

    def some_of(self, x: Tensor, share: float, generator: torch.Generator) -> Tensor:
        """(batch, 1, 1, 1, 1), true for this share of the clips."""
        draws = torch.rand(len(x), generator=generator, device=generator.device).to(self.device)
        return (draws < share)[:, None, None, None, None]

    def clip_loss(
        self, network, x: Tensor, fps: Tensor | None, generator: torch.Generator, known: Tensor | None = None
    ) -> Tensor:
        """Of clips (batch, frames, 3, h, w) at these frame rates (batch,), None of pictures.

        known: (batch, frames), 1 where D_t is shown a frame as it is.
        """
        wanted, seen = None, x
        if known is not None:
            wanted = 1 - known
            if self.recipe.data.other_looks:
                x, seen = self.other_looks(x, wanted, generator)
        conditions = self.conditioner.some(seen, fps, generator)
        x = in_latents(self.codec, x)
        noised, level = diffuse(x, self.recipe.noise, generator, known)
        x_t, t = noised, level
        if wanted is not None:
            # each frame has a noise level of its own, and that of a known one is 0 (Diffusion Forcing, 2407.01392)
            x_t = torch.lerp(x, noised, wanted[:, :, None, None, None])
            t = level[:, None] * wanted
        x_hat = told(network, x_t, t, conditions)
        target = x
        if max(self.recipe.guidance, self.recipe.frame_guidance) > 1:
            # whatever is known: processes that share a network call it together
            shown = torch.zeros_like(level) if wanted is None else (1 - wanted).sum(1)
            target = self.guided(network, x, x_hat.detach(), noised, level, conditions, shown)
        return denoising_loss(x_hat, target, t, self.recipe.noise, wanted, self.network.config.prediction)

    def other_looks(self, x: Tensor, wanted: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The clips, some of those with known frames changed, and the clips that y_e is taken from.

        Half of the y_e are still of the unchanged clip: where the two disagree the known frame is right.
        """
        draws = torch.rand(2, len(x), generator=generator, device=generator.device).to(self.device)
        chosen = (draws[0] < self.recipe.data.other_looks) & (wanted < 1).any(1)
        changed = torch.where(chosen[:, None, None, None, None], other_looks(x, generator), x)
        return changed, torch.where((draws[1] < 0.5)[:, None, None, None, None], changed, x)

    @torch.no_grad()
    def guided(
        self, network, x: Tensor, x_hat: Tensor, noised: Tensor, level: Tensor, conditions: Conditions, shown: Tensor
    ) -> Tensor:
        """Model guidance (2502.12154): the target, moved on from what the network would say if it knew less.

        With w = 1 - 1 / guidance the network's answer settles at guidance times the way from that one. A clip of which
        D_t is shown nothing is led away from what it says without y_e, one of which it is shown one frame from what it
        says where all frames are noised alike: y_e is less than what is shown, and would lead away from it. Of several
        frames windows are continued, over which guidance would add up.

        shown: (batch,), how many frames D_t is shown.
        """
        free = shown == 0
        null = told(network, noised, level, conditions.without_meaning(free))
        scale = torch.where(free, self.recipe.guidance, torch.where(shown == 1, self.recipe.frame_guidance, 1.0))
        scale = torch.where(free & conditions.dropped, 1.0, scale)
        return x + (1 - 1 / scale)[:, None, None, None, None] * (x_hat - null)

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
        shared_noise=recipe.noise.shared,
        guidance=recipe.guidance,
        known_frames=recipe.data.known_frames > 0,
        frame_guidance=recipe.frame_guidance,
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
