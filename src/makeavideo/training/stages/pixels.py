"""What the decoder, the interpolator and the super-resolution stages share: a video network and its noise."""

import inspect

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...inflation import VideoUNet, inflate
from ...sampling import add_noise, frame_noise, make_scheduler
from ..recipe import Recipe
from .base import Stage, captioned_images, load_folder, unlabelled_clips

SHEET_CLIPS = 8


def draw_levels(batch: int, mean: float, std: float, generator: torch.Generator) -> Tensor:
    return torch.sigmoid(mean + std * torch.randn(batch, generator=generator, device=generator.device))


def weighted_loss(x_hat: Tensor, x: Tensor, t: Tensor, floor: float, wanted: Tensor | None = None) -> Tensor:
    """|x_hat - x|^2 / max(t, floor)^2: the velocity's loss, written for a clean-picture network.

    t: (batch,), or one a frame, (batch, frames). wanted: 1 for the frames that count, (batch, frames); None: all.
    """
    error = (x_hat - x).square()
    if x.ndim == 2:
        return (error.mean(1) / t.clamp(min=floor).square()).mean()
    return frame_mean(error, 1 / per_frame_level(t, x).clamp(min=floor).square(), wanted)


def gradient_loss(x_hat: Tensor, x: Tensor, t: Tensor, floor: float, wanted: Tensor | None = None) -> Tensor:
    """L1 of the x- and y-gradients, the cheapest sharpener; only where less than 0.7 is noise (PixelGen, 2602.02493).

    At higher noise the clean picture is unknown, and the median of what it may be is no sharper than the mean.
    Arguments as those of `weighted_loss`.
    """
    off = x_hat - x
    level = per_frame_level(t, x)
    weight = (level < 0.7) / level.clamp(min=floor)
    return sum(frame_mean(off.diff(dim=axis).abs(), weight, wanted) for axis in (-1, -2))


def per_frame_level(t: Tensor, x: Tensor) -> Tensor:
    """Noise levels (batch, frames) of clips x from (batch,) or (batch, frames)."""
    return (t if t.ndim == 2 else t[:, None]).expand(x.shape[:2])


def frame_mean(error: Tensor, weight: Tensor, wanted: Tensor | None) -> Tensor:
    """Weighted mean over frames of an error (batch, frames, ...); weight and wanted (batch, frames)."""
    error = error.flatten(2).mean(2) * weight
    return error.mean() if wanted is None else (error * wanted).sum() / wanted.sum().clamp(min=1)


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
