"""F-up: frames between and after the given ones (section 3.3 of the paper), by a guess to correct or by diffusion."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...data.reader import to_pixels
from ...errors import UserError
from ...filling import Filling, FirstGuess, Masked, MaskedLatents
from ...flow import first_guess
from ...inflation import add_pixel_path, widen_input
from ...sampling import make_scheduler, sample
from ..batches import Complete
from ..datasets import unlabelled_clips
from ..losses import denoising_loss, diffuse
from ..masks import draw_masks
from ..networks import (
    all_parameters,
    in_frames,
    in_latents,
    load_codec,
    make_trainable,
    save_network,
    start_network,
    temporal_and_spatial,
)
from ..recipe import NoiseRecipe, Recipe
from .base import Companion
from .conditions import Conditioner, Conditions, told
from .sheets import SHEET_CLIPS, Sheet

SHIFT = 2.0
"""Of the noise levels that the paper's F-up is sampled at, as D_t's."""
PIXEL_CHANNELS = 48
"""Width of F-up's path at full resolution."""
SHEET_STEPS = 16


@dataclass(frozen=True)
class Gaps:
    """Which frames of a batch of clips F-up is given, "known" (batch, frames), and ours the "guess" from those.

    That is (batch, frames, 4, h, w), the unit of its correction last: optical flow, which runs on the processor.
    """

    filling: type[Filling]
    every_fifth: float

    def __call__(self, batch: dict, generator: torch.Generator) -> dict:
        clips, frames = batch["pixels"].shape[:2]
        batch["known"] = draw_masks(clips, frames, generator, self.every_fifth)
        if self.filling is FirstGuess:
            batch["guess"] = torch.cat(first_guess(to_pixels(batch["pixels"]), batch["known"]), 2)
        return batch


class InterpolatorStage:
    """Some frames of a clip -> the others: D_t with more input channels.

    What it sees, and what its answer means, is a `filling`: the paper's (`guess: none`, it starts as D_t) or ours
    (`guess: flow`, it starts as the first guess). It is told y_e and the frame rate, and is off by the velocity's
    squared error of the answer; of ours, which takes one step from t = 1, that is the answer's squared error.
    """

    def __init__(self, recipe: Recipe, device: torch.device):
        self.recipe, self.device = recipe, device
        self.companions: list[Companion] = []
        self.skipped: list[tuple[str, str]] = []
        self.filling: type[Filling] = filling_asked(recipe)
        self.complete: Complete | None = Gaps(self.filling, recipe.data.every_fifth)
        self.noised: Callable = from_nothing if self.filling.at_once else diffuse
        self.dataset = unlabelled_clips(recipe.data)
        self.network: Any = start(recipe, self.filling)
        make_trainable(self.network, recipe)
        if self.network.config.unet_class != "UNet2DConditionModel":
            raise UserError(f"The network of {recipe.stage} takes no image embedding: use UNet2DConditionModel.")
        self.codec = load_codec(recipe, self.network, device)
        self.conditioner = Conditioner(recipe, self.network, device)

    def parameter_groups(self) -> list[dict]:
        optim, network = self.recipe.optim, self.network
        if self.recipe.train == "temporal":
            return all_parameters(network, self.recipe)
        if self.filling is not FirstGuess:
            return temporal_and_spatial(network, self.recipe)
        path = {"params": list(network.pixel_path.parameters()), "lr": optim.learning_rate}
        if self.recipe.train == "path":
            return [path]
        pretrained = [p for name, p in network.named_parameters() if not name.startswith("pixel_path.")]
        return [path, {"params": pretrained, "lr": optim.learning_rate * optim.pretrained_scale}]

    def loss(self, network, batch: dict, generator: torch.Generator) -> Tensor:
        x = batch["pixels"]
        conditions = self.conditioner.some(x, batch["fps"], generator)
        x = in_latents(self.codec, x)
        shown = self.shown(x, batch["known"], batch.get("guess"))
        target = shown.target(x)
        x_t, t = self.noised(target, self.recipe.noise, generator)
        answer = predict(network, shown, x_t, t, conditions)
        return denoising_loss(answer, target, t, self.recipe.noise, prediction=self.network.config.prediction)

    def shown(self, x: Tensor, known: Tensor, guess: Tensor | None = None) -> Filling:
        """Clips (batch, frames, 3, h, w) of which only some frames are given, as `Gaps` says."""
        if self.filling is FirstGuess and guess is not None:
            return FirstGuess(x, known, (guess[:, :, :3], guess[:, :, 3:]))
        return self.filling(x, known)

    def contact_sheet(self, network):
        sheet = Sheet(self.dataset, SHEET_CLIPS, self.device, self.recipe.seed)
        conditions = self.conditioner.all(sheet.pixels, sheet.rates, sheet.generator)
        clips, frames = sheet.pixels.shape[:2]
        known = draw_masks(clips, frames, sheet.generator, self.recipe.data.every_fifth)
        shown = self.shown(in_latents(self.codec, sheet.pixels), known.to(self.device))

        def at(x_t, t):
            return predict(network, shown, x_t, t.expand(len(x_t)), conditions)

        noise, steps = shown.noise(sheet.generator, self.recipe.noise.shared), shown.steps(SHEET_STEPS)
        answer = sample(at, noise, make_scheduler(SHIFT), steps, levels=network.levels(steps))
        return sheet.pairs(in_frames(self.codec, shown.frames(answer)), moving=True)

    def export(self, folder) -> None:
        save_network(self.network, "interpolator", SHIFT, folder)


def filling_asked(recipe: Recipe) -> type[Filling]:
    """What F-up is to see of a clip: of latents there is no guess."""
    if recipe.codec is not None:
        return MaskedLatents
    return Masked if recipe.guess == "none" else FirstGuess


def predict(network, shown: Filling, x_t: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
    """F-up's answer at x_t."""
    return shown.answer(told(network, shown.seen(x_t), t, conditions))


def from_nothing(x: Tensor, noise: NoiseRecipe, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(x_t, t) of what is made in one step: at t = 1 there is noise alone, and its mean stands for a draw."""
    return torch.zeros_like(x), torch.ones(len(x), device=x.device)


def start(recipe: Recipe, filling: type[Filling]) -> Any:
    """D_t, or an F-up, with the input channels that the filling has.

    Raises:
        UserError: it is an F-up of the other kind.
    """
    network = as_interpolator(start_network(recipe), recipe, filling)
    return network.to(memory_format=torch.channels_last)


def as_interpolator(network: Any, recipe: Recipe, filling: type[Filling]) -> Any:
    """The same with the input channels that the filling has, in place. Raises UserError as `start`."""
    network.register_to_config(shared_noise=recipe.noise.shared, guidance=1.0, known_frames=False, frame_guidance=1.0)
    if network.config.extra_channels == 0:
        network = widen_input(network, filling.extra_channels)
        if filling is FirstGuess:
            names_the_answer(network)
            read_guess(add_pixel_path(network, PIXEL_CHANNELS))
    if filling is MaskedLatents and network.out_channels + 1 != filling.extra_channels:
        raise UserError(f"F-up works on latents of 4 channels, not {network.out_channels}: train it on frames.")
    if network.config.extra_channels != filling.extra_channels:
        raise UserError(
            f"The interpolator in {recipe.init_from} has {network.config.extra_channels} extra channels and "
            f"guess: {recipe.guess} needs {filling.extra_channels}: change guess, or start from a decoder."
        )
    if recipe.train == "path":
        network.requires_grad_(False).pixel_path.requires_grad_(True)
    return network


def names_the_answer(network: Any) -> None:
    """A correction is named as it is, also by a network that named noise or velocity; in place."""
    network.register_to_config(prediction="sample", schedule=None)
    network.parametrization = None


def read_guess(network: Any) -> None:
    """Let D_t's weights read the guess in place of the noisy frames, and add nothing to it at first; in place."""
    sizes = [network.config.space_to_depth**2 * channels for channels in (3, 3, FirstGuess.extra_channels - 3)]
    x_t, guess, _ = network.unet.conv_in.weight.data.split(sizes, 1)
    guess.copy_(x_t)
    x_t.zero_()
    for name, parameter in network.unet.conv_out.named_parameters():
        if name != "temporal.weight":
            nn.init.zeros_(parameter)
