"""D on pictures and D_t on clips: from an image embedding to frames (sections 3.1 and 3.2 of the paper)."""

import torch
from torch import Tensor

from ...encoders import embed_images
from ...errors import UserError
from ...sampling import TIMESTEPS, guide, make_scheduler, sample, to_uint8
from ..recipe import Recipe
from .base import captioned_images, load_folder
from .pixels import SHEET_CLIPS, PixelStage, weighted_loss


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

    @torch.no_grad()
    def embed_frame(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """y_e of one random frame of each clip (batch, dim)."""
        frame = torch.randint(x.shape[1], (x.shape[0],), generator=generator, device=generator.device).to(x.device)
        return embed_images(self.image_encoder, x[torch.arange(len(x), device=x.device), frame])

    def loss(self, network, batch, generator):
        x = batch["pixels"]
        y_e = self.embed_frame(x, generator)
        y_e = torch.where(self.dropped(len(x), generator)[:, None], torch.zeros_like(y_e), y_e)
        fps = self.frame_rates(batch, generator)
        target = self.target(batch, generator)
        x_t, t = self.diffuse(target, generator)
        x_hat = self.predict(network, x_t, t, y_e, fps, batch)
        return weighted_loss(x_hat.float(), target, t, self.recipe.noise.weight_floor)

    def target(self, batch, generator) -> Tensor:
        """What the network is to say: the clean frames."""
        return batch["pixels"]

    def frames(self, made, batch) -> Tensor:
        """The frames that a sampled target means."""
        return made

    def predict(self, network, x_t, t, y_e, fps, batch):
        conditions = {"encoder_hidden_states": None, "added_cond_kwargs": {"image_embeds": y_e}}
        return network(x_t, t * TIMESTEPS, fps=fps, **conditions).sample

    def contact_sheet(self, network):
        from ...video import contact_sheet

        generator = torch.Generator().manual_seed(self.recipe.seed)
        count = 64 if not self.video else SHEET_CLIPS
        samples = [self.dataset[(i * len(self.dataset) // count, 0, 1.0)] for i in range(count)]
        x = torch.stack([s["pixels"] for s in samples]).to(self.device)
        fps = torch.tensor([float(s["fps"]) for s in samples], device=self.device) if self.video else None
        y_e = self.embed_frame(x, generator)
        batch = {"pixels": x}
        self.target(batch, generator)

        def predict(x_t, t):
            t = t.expand(len(x_t))
            known = self.predict(network, x_t, t, y_e, fps, batch)
            null = self.predict(network, x_t, t, torch.zeros_like(y_e), fps, batch)
            return guide(known.float(), null.float(), self.sheet_guidance)

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
        loss = super().loss(network, batch, generator)
        if self.stills is None:
            return loss
        count = self.recipe.data.stills_per_step
        chosen = torch.randint(len(self.stills), (count,), generator=generator, device=generator.device)
        samples = [self.stills[(int(index), 0)] for index in chosen]
        self.skipped += [item for sample in samples for item in sample["skipped"]]
        pixels = torch.stack([sample["pixels"] for sample in samples]).to(self.device)
        stills = {"pixels": pixels, "fps": torch.zeros(count, device=self.device)}
        share = count / (count + batch["pixels"].shape[:2].numel())
        return torch.lerp(loss, super().loss(network, stills, generator), share)
