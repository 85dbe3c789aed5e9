"""D on pictures and D_t on clips: from an image embedding to frames (sections 3.1 and 3.2 of the paper)."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...data.reader import to_pixels
from ...encoders import embed_images
from ...errors import UserError
from ...inflation import VideoUNet, add_motion, add_pixel_path
from ...motion import change, clip_strength, usual_change
from ...sampling import TIMESTEPS, guide, make_scheduler, sample, to_uint8
from ..masks import draw_masks
from ..recipe import Recipe
from .base import captioned_images, load_folder
from .pixels import SHEET_CLIPS, PixelStage, gradient_loss, weighted_loss

MEASURED_CLIPS = 96
"""Clips from which the usual motion is taken."""


@dataclass
class Conditions:
    """What D_t is told of a batch of clips.

    y_e: image embeddings (batch, dim), zeros where they are `dropped`, (batch,).
    fps, motion: (batch,), 0 and -1 where not given; None: the network knows nothing of it.
    """

    y_e: Tensor
    dropped: Tensor
    fps: Tensor | None
    motion: Tensor | None = None

    def without_meaning(self) -> "Conditions":
        """The same with no y_e: what guidance leads away from."""
        return replace(self, y_e=torch.zeros_like(self.y_e))


class DecoderStage(PixelStage):
    """D on pictures, or D_t on clips: the image embedding -> frames (sections 3.1 and 3.2)."""

    component, shift = "decoder", 2.0
    sheet_steps, sheet_guidance = 16, 2.0

    def __init__(self, recipe: Recipe, device: torch.device):
        from transformers import CLIPVisionModelWithProjection

        super().__init__(recipe, device)
        if self.network.config.unet_class != "UNet2DConditionModel":
            raise UserError(f"The network of {recipe.stage} takes no image embedding: use UNet2DConditionModel.")
        tower = load_folder(CLIPVisionModelWithProjection, recipe.image_encoder, "image encoder")
        half = torch.float32 if recipe.mixed_precision == "no" else torch.bfloat16
        self.image_encoder = tower.to(device, half).eval().requires_grad_(False)

    def start(self) -> VideoUNet:
        network, recipe = super().start(), self.recipe
        if recipe.pixel_channels and not network.config.pixel_channels:
            add_pixel_path(network, recipe.pixel_channels, modulated=True)
        if recipe.motion and network.config.motion is None:
            add_motion(network, self.usual_change())
        network.register_to_config(
            shared_noise=recipe.noise.shared, guidance=recipe.guidance, known_frames=recipe.data.known_frames > 0
        )
        return network.to(memory_format=torch.channels_last)

    def usual_change(self) -> tuple[float, float]:
        """What a motion strength of 1 means in these clips, from some of them at the rates that are trained on."""
        count = min(MEASURED_CLIPS, len(self.dataset))
        samples = [self.dataset[(i * len(self.dataset) // count, i, i / count)] for i in range(count)]
        changes = [float(change(sample["pixels"][None])) for sample in samples]
        return usual_change(changes, [float(sample["fps"]) for sample in samples])

    @torch.no_grad()
    def embed_frame(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """y_e of one random frame of each clip (batch, dim)."""
        frame = torch.randint(x.shape[1], (x.shape[0],), generator=generator, device=generator.device).to(x.device)
        return embed_images(self.image_encoder, x[torch.arange(len(x), device=x.device), frame])

    def conditions(self, batch: dict, generator: torch.Generator) -> Conditions:
        """What the network is told of the clips, each thing dropped now and then, so that it can be left out later."""
        x = batch["pixels"]
        y_e = self.embed_frame(x, generator)
        dropped = self.dropped(len(x), generator)
        y_e = torch.where(dropped[:, None], torch.zeros_like(y_e), y_e)
        fps = self.frame_rates(batch, generator)
        motion = None
        if self.network.config.motion is not None and self.recipe.motion:
            motion = clip_strength(x, batch["fps"], self.network.config.motion)
            motion = torch.where(self.dropped(len(x), generator), -1.0, motion)
        return Conditions(y_e, dropped, fps, motion)

    def loss(self, network, batch, generator):
        noise = self.recipe.noise
        conditions = self.conditions(batch, generator)
        target = self.target(batch, generator)
        x_t, t = self.diffuse(target, generator)
        wanted = None
        if self.recipe.data.known_frames and target.shape[1] > 1:
            wanted = 1 - self.known_frames(*target.shape[:2], generator)
            # each frame has a noise level of its own, and that of a known one is 0 (Diffusion Forcing, 2407.01392)
            x_t = torch.lerp(target, x_t, wanted[:, :, None, None, None])
            t = t[:, None] * wanted
        x_hat = self.predict(network, x_t, t, conditions, batch)
        if self.recipe.guidance > 1:
            target = self.guided(network, target, x_hat.detach(), x_t, t, conditions, batch)
        loss = weighted_loss(x_hat, target, t, noise.weight_floor, wanted)
        if noise.gradient:
            loss = loss + noise.gradient * gradient_loss(x_hat, target, t, noise.weight_floor, wanted)
        return loss

    def known_frames(self, batch: int, num_frames: int, generator: torch.Generator) -> Tensor:
        """(batch, frames), 1 where D_t is shown a frame as it is."""
        shown = torch.rand(batch, generator=generator, device=generator.device) < self.recipe.data.known_frames
        return (draw_masks(batch, num_frames, generator) * shown.cpu()[:, None]).to(self.device)

    @torch.no_grad()
    def guided(self, network, x, x_hat, x_t, t, conditions: Conditions, batch) -> Tensor:
        """Model guidance (2502.12154): the target, moved on from what the network would say without y_e.

        With w = 1 - 1 / guidance the network's answer settles at guidance times the way from the null one.
        """
        null = self.predict(network, x_t, t, conditions.without_meaning(), batch)
        moved = x + (1 - 1 / self.recipe.guidance) * (x_hat - null)
        return torch.where(conditions.dropped[:, None, None, None, None], x, moved)

    def target(self, batch, generator) -> Tensor:
        """What the network is to say: the clean frames."""
        return batch["pixels"]

    def frames(self, made, batch) -> Tensor:
        """The frames that a sampled target means."""
        return made

    def predict(self, network, x_t, t, conditions: Conditions, batch) -> Tensor:
        given = {"encoder_hidden_states": None, "added_cond_kwargs": {"image_embeds": conditions.y_e}}
        made = network(x_t, t * TIMESTEPS, fps=conditions.fps, motion=conditions.motion, **given)
        return made.sample.float()

    def contact_sheet(self, network):
        from ...media.contact_sheet import contact_sheet

        generator = torch.Generator().manual_seed(self.recipe.seed)
        count = 64 if not self.video else SHEET_CLIPS
        samples = [self.dataset[(i * len(self.dataset) // count, 0, 1.0)] for i in range(count)]
        x = torch.stack([s["pixels"] for s in samples]).to(self.device)
        fps = torch.tensor([float(s["fps"]) for s in samples], device=self.device) if self.video else None
        told = Conditions(self.embed_frame(x, generator), torch.zeros(len(x), dtype=torch.bool), fps)
        if self.recipe.motion:
            told.motion = clip_strength(x, fps, self.network.config.motion)
        batch = {"pixels": x}
        self.target(batch, generator)

        def predict(x_t, t):
            t = t.expand(len(x_t))
            known = self.predict(network, x_t, t, told, batch)
            scale = self.sheet_guidance / self.recipe.guidance
            return (
                known
                if scale == 1
                else guide(known, self.predict(network, x_t, t, told.without_meaning(), batch), scale)
            )

        noise = self.noise_like(x, generator)
        made = self.frames(sample(predict, noise, make_scheduler(self.shift), self.sheet_steps), batch)
        real_and_made = to_uint8(torch.stack([x, made], 1).flatten(0, 1))
        return contact_sheet(real_and_made if self.video else list(real_and_made[:, 0]), columns=16)


class DecoderVideoStage(DecoderStage):
    """D_t on clips and, so that it forgets nothing that never moves, on stills as clips of one frame."""

    video = True

    def __init__(self, recipe: Recipe, device: torch.device):
        super().__init__(recipe, device)
        stills = recipe.data.model_copy(update={"roots": recipe.data.stills})
        self.stills = captioned_images(stills, captions=False) if recipe.data.stills else None

    def loss(self, network, batch, generator):
        if self.recipe.data.still_clips:
            draws = torch.rand(len(batch["pixels"]), generator=generator, device=generator.device).to(self.device)
            stands = (draws < self.recipe.data.still_clips)[:, None, None, None, None]
            batch["pixels"] = torch.where(stands, batch["pixels"][:, :1], batch["pixels"])
        loss = super().loss(network, batch, generator)
        if self.stills is None:
            return loss
        count = self.recipe.data.stills_per_step
        chosen = torch.randint(len(self.stills), (count,), generator=generator, device=generator.device)
        samples = self.stills.__getitems__([(index, 0) for index in chosen.tolist()])
        self.skipped += [item for sample in samples for item in sample["skipped"]]
        # bytes travel, and become numbers on the device
        pixels = torch.from_numpy(np.stack([sample["pixels"] for sample in samples])).to(self.device)
        stills = {"pixels": to_pixels(pixels), "fps": torch.zeros(count, device=self.device)}
        share = count / (count + batch["pixels"].shape[:2].numel())
        return torch.lerp(loss, super().loss(network, stills, generator), share)
