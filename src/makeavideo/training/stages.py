"""What each stage learns: its network, its data, its loss and its samples (section 3 of the paper).

A stage knows nothing of optimisers, checkpoints or devices in the plural: that is the trainer's part.
"""

import inspect
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from ..data.clips import UnlabelledClips
from ..data.curriculum import FrameRateCurriculum
from ..data.emoji import split
from ..data.images import CaptionedImages
from ..encoders import TextProjection, embed_images, embed_text, load_text_encoder
from ..errors import UserError
from ..flow import EXTRA_CHANNELS, LARGEST_CORRECTION, first_guess, seen_by_interpolator
from ..inflate import VideoUNet, add_pixel_path, inflate, widen_input
from ..sampling import (
    TIMESTEPS,
    add_noise,
    frame_noise,
    guide,
    make_scheduler,
    sample,
    to_uint8,
    upsample,
)
from ..timeline import FRAME_SKIP
from .recipe import DataRecipe, Recipe

SHEET_CLIPS = 8
PIXEL_CHANNELS = 48
"""Width of F-up's path at full resolution."""
VIEW_TEMPERATURE = 0.1


def load_folder(loader, folder: str | Path | None, what: str):
    """`loader.from_pretrained(folder)` with a sentence for a missing, damaged, pickled or wrong network."""
    if folder is None:
        raise UserError(f"The recipe names no {what}: add the folder that the stage before exported.")
    if not Path(folder).is_dir():
        raise UserError(f"There is no {what} at {folder}: train that stage first or correct the path in the recipe.")
    try:
        return loader.from_pretrained(folder, use_safetensors=True)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"The {what} at {folder} cannot be loaded from safetensors: {reason}") from None


@dataclass(frozen=True)
class NotIn:
    """True for the keys outside of a set; unlike a closure it can be sent to the data loader's processes."""

    excluded: frozenset[str]

    def __call__(self, key: str) -> bool:
        return key not in self.excluded


def captioned_images(data: DataRecipe, captions: bool = True) -> CaptionedImages:
    include = NotIn(split().held_out_all) if data.split == "emoji" else None
    return CaptionedImages(
        data.roots,
        size=data.size,
        background=data.background,
        crop=data.crop,
        include=include,
        cache_bytes=int(data.cache_gb * 2**30),
        need_captions=captions,
    )


def unlabelled_clips(data: DataRecipe) -> UnlabelledClips:
    held_out = split().held_out_all | split().held_out_motion
    include = NotIn(held_out) if data.split == "emoji" else None
    return UnlabelledClips(
        data.roots,
        size=data.size,
        num_frames=data.num_frames,
        fps=FrameRateCurriculum(data.fps_low, data.fps_high, data.fps_beta_start, data.fps_beta_end),
        short=data.short,
        background=data.background,
        crop=data.crop,
        include=include,
        cache_bytes=int(data.cache_gb * 2**30),
    )


class Stage:
    """One network with its data and loss. `network` is what the optimiser changes; `batch` holds stacked samples."""

    network: nn.Module
    dataset: torch.utils.data.Dataset
    video = False

    def __init__(self, recipe: Recipe, device: torch.device):
        if not self.video and (recipe.temporal or recipe.train == "temporal"):
            key = "temporal" if recipe.temporal else "train"
            raise UserError(f"The network of {recipe.stage} has no temporal layers: take {key} out of the recipe.")
        if recipe.train == "temporal" and recipe.init_from is None:
            raise UserError("train: temporal would keep random spatial weights: add init_from, or set train to all.")
        if recipe.train == "path" and recipe.stage != "interpolator":
            raise UserError("train: path is for the interpolator, which has one: set train to all or temporal.")
        if recipe.train == "temporal" and recipe.stage == "interpolator":
            raise UserError("The interpolator's new input channels are spatial weights: set train to all.")
        self.recipe, self.device = recipe, device
        # unreadable files that did not come with a batch; the trainer empties it
        self.skipped: list[tuple[str, str]] = []

    def parameter_groups(self) -> list[dict]:
        return [{"params": list(self.network.parameters()), "lr": self.recipe.optim.learning_rate}]

    def loss(self, network: nn.Module, batch: dict, generator: torch.Generator) -> Tensor:
        raise NotImplementedError

    def contact_sheet(self, network: nn.Module):
        """Samples of the present weights as a PIL image, or None where there is nothing to see."""
        return None

    def export(self, folder: Path) -> None:
        """Save the network in the diffusers layout, half precision."""
        raise NotImplementedError


class ImageTextNetwork(nn.Module):
    def __init__(self, vision: nn.Module, text: TextProjection):
        super().__init__()
        self.vision, self.text = vision, text
        self.log_scale = nn.Parameter(torch.tensor(2.659))  # exp: 1 / 0.07, as CLIP starts

    def forward(self, pixels: Tensor, text_embeds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image = F.normalize(self.vision(pixel_values=pixels).image_embeds.float(), dim=-1)
        return image, self.text(text_embeds), self.log_scale.exp().clamp(max=100)


class TextCache:
    """Sentence embeddings of the frozen text encoder, each text encoded once."""

    def __init__(self, folder: str | None, device: torch.device):
        self.tokenizer, self.encoder = load_text_encoder(folder)
        self.encoder.to(device)
        self.known: dict[str, Tensor] = {}

    def __call__(self, texts: list[str]) -> Tensor:
        new = sorted({text for text in texts if text not in self.known})
        for start in range(0, len(new), 256):
            part = new[start : start + 256]
            self.known.update(zip(part, embed_text(self.tokenizer, self.encoder, part), strict=True))
        return torch.stack([self.known[text] for text in texts])


def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Random zoom, shift and colour gain (batch, 3, h, w): the tower must not tell pictures by their frame."""
    batch, device = pixels.shape[0], pixels.device
    zoom, dx, dy = torch.rand(3, batch, generator=generator, device=generator.device).to(device)
    scale = 0.85 + 0.4 * zoom  # above 1: the picture shrinks, its border repeats
    theta = torch.zeros(batch, 2, 3, device=device)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, 0, 2], theta[:, 1, 2] = 0.2 * (dx - 0.5), 0.2 * (dy - 0.5)
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    moved = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    gain = torch.rand(batch, 3, 1, 1, generator=generator, device=generator.device).to(device)
    return ((moved - 1) * (0.9 + 0.2 * gain) + 1).clamp(-1, 1)


def contrast(logits: Tensor, target: Tensor) -> Tensor:
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


class ClipStage(Stage):
    """Image tower and text projection, contrastive (CLIP; what section 3.1 takes as given)."""

    def __init__(self, recipe: Recipe, device: torch.device):
        super().__init__(recipe, device)
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        self.dataset = captioned_images(recipe.data)
        self.embed_text = TextCache(recipe.text_encoder, device)
        if recipe.init_from:
            start = Path(recipe.init_from)
            vision = load_folder(CLIPVisionModelWithProjection, start / "image_encoder", "image encoder")
            text = load_folder(TextProjection, start / "text_projection", "text projection")
        else:
            config = CLIPVisionConfig(image_size=recipe.data.crop or recipe.data.size, **recipe.network)
            vision = CLIPVisionModelWithProjection(config)
            text = TextProjection(self.embed_text.encoder.config.hidden_size, config.projection_dim)
        size, dim = recipe.data.crop or recipe.data.size, self.embed_text.encoder.config.hidden_size
        if vision.config.image_size != size:
            raise UserError(
                f"The image encoder in {recipe.init_from} sees {vision.config.image_size} pixels a side and the data "
                f"has {size}: set data.size to {vision.config.image_size}."
            )
        if text.config.text_embed_dim != dim:
            raise UserError(
                f"The text projection in {recipe.init_from} expects {text.config.text_embed_dim} numbers a text and "
                f"the text encoder gives {dim}: set text_encoder to the one that it was trained with."
            )
        self.network = ImageTextNetwork(vision.float(), text.float())

    def loss(self, network, batch, generator):
        """Picture against text, and one view of a picture against another (SLIP): few captions tell twins apart."""
        views = torch.cat([augment(batch["pixels"][:, 0], generator) for _ in range(2)])
        image, text, scale = network(views, self.embed_text(batch["caption"]))
        one, other = image.chunk(2)
        # several pictures of one concept in a batch are all right answers, so the target is shared among them
        same = torch.tensor([[a == b for b in batch["key"]] for a in batch["key"]], device=image.device).float()
        target = same / same.sum(1, keepdim=True)
        return contrast(scale * one @ text.T, target) + contrast(one @ other.T / VIEW_TEMPERATURE, target)

    def export(self, folder):
        self.network.vision.half().save_pretrained(folder / "image_encoder")
        self.network.text.half().save_pretrained(folder / "text_projection")


class EmbeddedImages(torch.utils.data.Dataset):
    """(caption, y_e) pairs: the pictures are embedded once, since the prior never sees pixels."""

    def __init__(self, images: CaptionedImages, image_encoder: nn.Module):
        self.images = images
        self.embeds, self.indices, self.skipped = [], [], []
        device = next(image_encoder.parameters()).device
        for start in range(0, len(images), 64):
            samples = [images[(i, 0)] for i in range(start, min(start + 64, len(images)))]
            pixels = torch.cat([s["pixels"] for s in samples]).to(device)
            with torch.no_grad():
                self.embeds.extend(embed_images(image_encoder, pixels).cpu())
            # a picture that could not be read was replaced by another one: its caption is that one's
            self.indices.extend(s["index"] for s in samples)
            self.skipped.extend(item for s in samples for item in s["skipped"])

    def __len__(self) -> int:
        return len(self.embeds)

    def __getitem__(self, key):
        index, seed = key[:2]
        captions = self.images.captions(self.indices[index])
        # the first caption is the label: half of the draws, since it is what names the concept
        choice = 0 if seed % 2 else (seed // 2) % len(captions)
        return {"caption": captions[choice], "embeds": self.embeds[index], "skipped": self.skipped}


class PriorStage(Stage):
    """P: text embedding -> image embedding, a diffusion of vectors that predicts the clean one (section 3.1)."""

    def __init__(self, recipe: Recipe, device: torch.device):
        super().__init__(recipe, device)
        from diffusers import PriorTransformer
        from transformers import CLIPVisionModelWithProjection

        tower = load_folder(CLIPVisionModelWithProjection, recipe.image_encoder, "image encoder").to(device)
        self.dataset = EmbeddedImages(captioned_images(recipe.data), tower.eval())
        if len(self.dataset) < 2:
            raise UserError(f"{', '.join(recipe.data.roots)} holds a single picture: the prior needs two or more.")
        self.embed_text = TextCache(recipe.text_encoder, device)
        config = {
            "embedding_dim": tower.config.projection_dim,
            "embedding_proj_dim": self.embed_text.encoder.config.hidden_size,
            "num_embeddings": 0,
            "encoder_hid_proj_type": None,
        }
        self.network = build(PriorTransformer, {**recipe.network, **config})
        embeds = torch.stack(self.dataset.embeds)
        # kept in the network's own (untrained) statistics, as unCLIP does, so that the diffusion sees unit variance
        self.network.clip_mean.data, self.network.clip_std.data = embeds.mean(0, True), embeds.std(0, keepdim=True)
        self.network.clip_mean.requires_grad_(False)
        self.network.clip_std.requires_grad_(False)

    def parameter_groups(self):
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        return [{"params": parameters, "lr": self.recipe.optim.learning_rate}]

    def loss(self, network, batch, generator):
        noise_recipe = self.recipe.noise
        text = self.embed_text(batch["caption"])
        x = (batch["embeds"] - self.network.clip_mean) / self.network.clip_std
        draws = torch.rand(x.shape[0], generator=generator, device=generator.device).to(x.device)
        text = torch.where((draws < self.recipe.condition_dropout)[:, None], torch.zeros_like(text), text)
        t = draw_levels(x.shape[0], noise_recipe.mean, noise_recipe.std, generator).to(x.device)
        noise = frame_noise(x.shape, generator).to(x.device)
        x_hat = network(add_noise(x, noise, t), t * TIMESTEPS, proj_embedding=text).predicted_image_embedding
        return weighted_loss(x_hat.float(), x, t, noise_recipe.weight_floor)

    def export(self, folder):
        self.network.half().save_pretrained(folder / "prior")


def draw_levels(batch: int, mean: float, std: float, generator: torch.Generator) -> Tensor:
    return torch.sigmoid(mean + std * torch.randn(batch, generator=generator, device=generator.device))


def weighted_loss(x_hat: Tensor, x: Tensor, t: Tensor, floor: float) -> Tensor:
    """|x_hat - x|^2 / max(t, floor)^2: the velocity's loss, written for a clean-picture network."""
    error = (x_hat - x).square().flatten(1).mean(1)
    return (error / t.clamp(min=floor).square()).mean()


def build(network_class, config: dict) -> nn.Module:
    """A network from the recipe's `network`, with a sentence for what its class does not know."""
    unknown = sorted(config.keys() - inspect.signature(network_class.__init__).parameters.keys())
    if unknown:
        raise UserError(
            f"The recipe has the unknown key network.{unknown[0]}: {network_class.__name__} has no such argument."
        )
    try:
        return network_class(**config)
    except (TypeError, ValueError, AttributeError, NotImplementedError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"The recipe's network does not make a {network_class.__name__}: {reason}") from None


def build_unet(recipe: Recipe, in_channels: int = 3) -> VideoUNet:
    """A 2-D network from scratch, each frame by itself. `network`: {class, space_to_depth, ...diffusers' arguments}."""
    import diffusers

    config = dict(recipe.network)
    name, space_to_depth = config.pop("class", "UNet2DModel"), config.pop("space_to_depth", 1)
    if name not in ("UNet2DModel", "UNet2DConditionModel"):
        raise UserError(f"The recipe's network.class is {name}: use UNet2DModel or UNet2DConditionModel.")
    if not isinstance(space_to_depth, int) or space_to_depth < 1:
        raise UserError(f"The recipe's network.space_to_depth is {space_to_depth!r}: use a whole number from 1 up.")
    for key, channels in (("in_channels", in_channels), ("out_channels", 3)):
        if config.get(key, channels) != channels:
            raise UserError(f"The recipe's network.{key} is {config[key]}: {recipe.stage} needs {channels}.")
        config[key] = channels * space_to_depth**2
    return inflate(build(getattr(diffusers, name), config), temporal="none", space_to_depth=space_to_depth)


class PixelStage(Stage):
    """What the decoder, the interpolator and the super-resolution stages share: a video network and its noise."""

    in_channels = 3  # of a network from scratch, in pixels

    def __init__(self, recipe: Recipe, device: torch.device):
        super().__init__(recipe, device)
        self.dataset = unlabelled_clips(recipe.data) if self.video else captioned_images(recipe.data, captions=False)
        self.network = self.start()
        if recipe.train == "temporal":
            for parameter in self.network.spatial_parameters():
                parameter.requires_grad_(False)
        if recipe.gradient_checkpointing:
            self.network.enable_gradient_checkpointing()

    def start(self) -> VideoUNet:
        if self.recipe.init_from is None:
            network = build_unet(self.recipe, self.in_channels)
        else:
            network = load_folder(VideoUNet, self.recipe.init_from, "network to start from").float()
        has, wanted = network.config.temporal, self.recipe.temporal
        if self.video and has == "none":
            network = inflate(network, wanted or "pseudo3d")
        elif wanted not in (None, has):
            raise UserError(
                f"The network in {self.recipe.init_from} has temporal layers of the kind {has} and the recipe asks for "
                f"{wanted}: start from a 2-D network, or take temporal out of the recipe."
            )
        return network.to(memory_format=torch.channels_last)

    def parameter_groups(self):
        optim = self.recipe.optim
        if not self.video:
            return super().parameter_groups()
        temporal = {"params": list(self.network.temporal_parameters()), "lr": optim.learning_rate}
        if self.recipe.train == "temporal":
            return [temporal]
        rate = optim.learning_rate * optim.pretrained_scale
        return [temporal, {"params": list(self.network.spatial_parameters()), "lr": rate}]

    def diffuse(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        noise_recipe = self.recipe.noise
        t = draw_levels(x.shape[0], noise_recipe.mean, noise_recipe.std, generator).to(x.device)
        return add_noise(x, self.noise_like(x, generator), t), t

    def noise_like(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return frame_noise(x.shape, generator, self.recipe.noise.shared).to(x.device)

    def dropped(self, batch: int, generator: torch.Generator) -> Tensor:
        draws = torch.rand(batch, generator=generator, device=generator.device)
        return (draws < self.recipe.condition_dropout).to(self.device)

    def frame_rates(self, batch: dict, generator: torch.Generator) -> Tensor | None:
        """fps (batch,), 0 where it is dropped; None in the image stages."""
        if not self.video:
            return None
        return torch.where(self.dropped(len(batch["fps"]), generator), 0.0, batch["fps"].float())

    def export(self, folder):
        self.network.half().save_pretrained(folder / self.component)
        make_scheduler(self.shift).save_pretrained(folder / f"{self.component}_scheduler")


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
        from ..video import contact_sheet

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


class InterpolatorStage(DecoderVideoStage):
    """F-up (section 3.3): D_t with more input channels, the given frames, the mask and the unit of what it makes.

    In place of the frames that are not given it sees a guess from those that are (`flow.first_guess`), and makes what
    is to be added to it, in one step from t = 1. There the noise says nothing, and its mean is taken in place of a
    draw. D_t's weights read the guess where they read the noisy frames, and the last layer starts as zero: F-up starts
    as the guess.
    """

    component = "interpolator"
    sheet_steps, sheet_guidance = 1, 1.0

    def start(self):
        network = super().start()
        if network.config.extra_channels == 0:
            network = add_pixel_path(widen_input(network, EXTRA_CHANNELS), PIXEL_CHANNELS)
            weight = network.unet.conv_in.weight.data
            x_t, guess, _ = weight.split(
                [network.config.space_to_depth**2 * channels for channels in (3, 3, EXTRA_CHANNELS - 3)], 1
            )
            guess.copy_(x_t)
            x_t.zero_()
            for name, parameter in network.unet.conv_out.named_parameters():
                if name != "temporal.weight":
                    nn.init.zeros_(parameter)
        if self.recipe.train == "path":
            network.requires_grad_(False).pixel_path.requires_grad_(True)
        return network.to(memory_format=torch.channels_last)

    def parameter_groups(self):
        optim = self.recipe.optim
        path = {"params": list(self.network.pixel_path.parameters()), "lr": optim.learning_rate}
        if self.recipe.train == "path":
            return [path]
        pretrained = [p for name, p in self.network.named_parameters() if not name.startswith("pixel_path.")]
        return [path, {"params": pretrained, "lr": optim.learning_rate * optim.pretrained_scale}]

    def noise_like(self, x, generator):
        return torch.zeros_like(x)

    def diffuse(self, x, generator):
        return self.noise_like(x, generator), torch.ones(len(x), device=x.device)

    def target(self, batch, generator):
        pixels = batch["pixels"]
        mask = draw_masks(*pixels.shape[:2], generator, self.recipe.data.every_fifth).to(pixels.device)
        batch["guess"], batch["unit"] = first_guess(pixels, mask)
        batch["mask"] = mask[:, :, None, None, None].expand(-1, -1, 1, *pixels.shape[3:])
        correction = (pixels - batch["guess"]) / batch["unit"]
        return correction.clamp(-LARGEST_CORRECTION, LARGEST_CORRECTION)

    def frames(self, made, batch):
        return batch["guess"] + batch["unit"] * made

    def predict(self, network, x_t, t, y_e, fps, batch):
        seen = seen_by_interpolator(x_t, batch["guess"], batch["unit"], batch["mask"])
        return super().predict(network, seen, t, y_e, fps, batch).float() * (1 - batch["mask"])


def draw_masks(batch: int, num_frames: int, generator: torch.Generator, every_fifth: float) -> Tensor:
    """Which frames are given (batch, num_frames), 1 where they are.

    A share of the clips: every fifth frame (interpolation). The others: the first ones (extrapolation, image
    animation), some at both ends (joining, closing a loop), or any.
    """
    masks = torch.zeros(batch, num_frames)
    draws = torch.rand(batch, 5, generator=generator, device=generator.device).cpu()
    for row, (interpolate, kind, start, end, place) in zip(masks, draws.tolist(), strict=True):
        first, last = (1 + int(x**2 * num_frames / 2) for x in (start, end))
        if interpolate < every_fifth:
            row[::FRAME_SKIP] = 1
        elif kind < 0.5:
            row[:first] = 1
        elif kind < 0.8:
            row[:first] = row[-last:] = 1
        else:
            row[torch.randperm(num_frames, generator=torch.Generator().manual_seed(int(place * 2**31)))[:first]] = 1
    return masks


class SuperResolutionStage(PixelStage):
    """SR_l, SR_l_t and SR_h: small frames -> large frames (section 3.2), a residual over bilinear up-sampling.

    The small frames are noised (noise-conditioning augmentation); the network is told how much.
    """

    factor, shift = 4, 1.0
    in_channels = 6  # x_t and the small frames

    def degrade(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(low-resolution frames up-sampled again, augmentation level (batch,))."""
        size = x.shape[-1]
        low = F.interpolate(x.flatten(0, 1), scale_factor=1 / self.factor, mode="bilinear", antialias=True)
        low = low.unflatten(0, x.shape[:2])
        level = torch.rand(len(x), generator=generator, device=generator.device).to(x.device)
        level = level.square() * self.recipe.noise.low_res_max
        low = add_noise(low, frame_noise(low.shape, generator, self.recipe.noise.shared).to(x.device), level)
        return upsample(low, size), level

    def predict(self, network, x_t, t, up, level, fps):
        net = network(torch.cat([x_t, up], 2), t * TIMESTEPS, fps=fps, class_labels=level * TIMESTEPS)
        return up + net.sample.float()

    def loss(self, network, batch, generator):
        x = batch["pixels"]
        up, level = self.degrade(x, generator)
        fps = self.frame_rates(batch, generator)
        x_t, t = self.diffuse(x, generator)
        x_hat = self.predict(network, x_t, t, up, level, fps)
        return weighted_loss(x_hat, x, t, self.recipe.noise.weight_floor)

    def contact_sheet(self, network):
        from ..video import contact_sheet

        generator = torch.Generator().manual_seed(self.recipe.seed)
        samples = [self.dataset[(i * len(self.dataset) // SHEET_CLIPS, i, 1.0)] for i in range(SHEET_CLIPS)]
        x = torch.stack([s["pixels"] for s in samples]).to(self.device)[:, :4]
        fps = torch.tensor([float(s["fps"]) for s in samples], device=self.device) if self.video else None
        up, level = self.degrade(x, generator)

        def predict(x_t, t):
            return self.predict(network, x_t, t.expand(len(x_t)), up, level, fps)

        noise = frame_noise(x.shape, generator, shared=True).to(self.device)
        made = sample(predict, noise, make_scheduler(self.shift), 4)
        return contact_sheet(to_uint8(torch.cat([x[:, :1], up[:, :1], made[:, :1]], 1)), columns=3)


class SRLowImageStage(SuperResolutionStage):
    component = "super_resolution_low"


class SRLowVideoStage(SRLowImageStage):
    video = True


class SRHighImageStage(SuperResolutionStage):
    component, factor = "super_resolution_high", 3


STAGES: dict[str, type[Stage]] = {
    "clip": ClipStage,
    "prior": PriorStage,
    "decoder-image": DecoderStage,
    "decoder-video": DecoderVideoStage,
    "interpolator": InterpolatorStage,
    "sr-low-image": SRLowImageStage,
    "sr-low-video": SRLowVideoStage,
    "sr-high-image": SRHighImageStage,
}
