"""How much memory training D_t or F-up takes, counted on torch's device without memory: nothing is loaded or computed.

What is counted are bytes of tensors: weights, gradients, the optimiser's state, the average, and what a step keeps for
its backward pass. Beside these a GPU holds what kernels work in and what is between tensors, here taken as a tenth.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from ..errors import UserError
from ..figures import TIMESTEPS
from ..inflation import VideoUNet, inflate
from ..model_files import codec_of, read_config
from .networks import codec_class, embedding_dim, make_trainable, whole_network
from .recipe import Recipe
from .refusals import check_trainable
from .stages.interpolator import as_interpolator, filling_asked

GIB = 2**30
AROUND = 1.1
PEAK, UTILISATION = 989e12, 0.35
"""Operations a second of an H100 in bf16, and the part of them that is assumed to be reached."""
STATE = {"adamw": 8.0, "muon": 8.0, "adamw8bit": 2.0}
"""Bytes of an optimiser's state for each number that learns; muon's hidden weights take half of that."""


@dataclass
class Counted:
    """In bytes; `learns` and `stays` are numbers of weights of the network, `beside` the image tower and the codec.

    operations: of the network in a step, forwards and back.
    """

    learns: int
    stays: int
    weights: float
    gradients: float
    state: float
    average: float
    activations: float
    beside: float
    operations: float

    @property
    def total(self) -> float:
        return (self.weights + self.gradients + self.state + self.average + self.activations + self.beside) * AROUND

    def lines(self) -> list[str]:
        """For people."""
        parts = ("weights", "gradients", "state", "average", "activations", "beside")
        names = {"state": "optimiser", "activations": "a step's activations", "beside": "image tower, codec"}
        rows = [f"{names.get(part, part):22}{getattr(self, part) / GIB:7.2f} GiB" for part in parts]
        head = f"{self.learns / 1e6:,.1f} million weights learn, {self.stays / 1e6:,.1f} million stay"
        seconds = self.operations / PEAK / UTILISATION
        speed = f"{seconds:.2g} s at {UTILISATION:.0%} of {PEAK / 1e12:.0f} TFLOP/s (an H100's bf16)"
        return [
            head,
            *rows,
            f"{'all, and a tenth':22}{self.total / GIB:7.2f} GiB, counted, not measured",
            f"{'operations of a step':22}{self.operations / 1e12:7.2f} TFLOP: {speed}, counted, not measured",
        ]


def count(recipe: Recipe) -> Counted:
    """Of a step of decoder-video or interpolator that starts from a network on disk, of which its config.json is read.

    Raises:
        UserError: another stage, no such network, or a recipe that cannot be trained.
    """
    check_trainable(recipe)
    if recipe.stage not in ("decoder-video", "interpolator") or recipe.init_from is None:
        raise UserError("Memory is counted of decoder-video or interpolator with init_from: give such a recipe.")
    config = read_config(whole_network(recipe.init_from) / "config.json")
    with torch.device("meta"):
        network: Any = VideoUNet.from_config(config)
        if network.config.temporal == "none":
            network = inflate(network, recipe.temporal or "pseudo3d")
        if recipe.stage == "interpolator":
            as_interpolator(network, recipe, filling_asked(recipe))
    make_trainable(network, recipe)
    learns = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    every = sum(weight.numel() for weight in network.parameters())
    half = 2 if recipe.mixed_precision in ("auto", "bf16", "fp16") else 4
    step = Step(network)
    if recipe.gradient_checkpointing:
        network.enable_gradient_checkpointing(step.recomputed)
    step.run(recipe)
    return Counted(
        learns=learns,
        stays=every - learns,
        weights=4.0 * every,
        gradients=4.0 * learns,
        state=STATE[recipe.optim.kind] * learns,
        average=4.0 * learns,
        activations=float(half) * (step.kept + step.largest),
        beside=beside(recipe, half),
        operations=float(step.operations),
    )


def beside(recipe: Recipe, half: int) -> float:
    """Bytes of the frozen networks that a step asks, from their configs: the image tower, and the codec if named."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    if recipe.image_encoder is None:
        raise UserError("The recipe names no image_encoder: add the folder of the image tower.")
    tower = CLIPVisionConfig(**read_config(Path(recipe.image_encoder) / "config.json"))
    with torch.device("meta"):
        total = half * numbers_of(CLIPVisionModelWithProjection(tower))
        if recipe.codec is not None:
            kind, config = codec_class(recipe.codec), read_config(Path(recipe.codec) / "config.json")
            total += 4 * numbers_of(kind.from_config(config))
    return float(total)


def numbers_of(network: Any) -> int:
    return sum(weight.numel() for weight in network.parameters())


class Step:
    """A step of a network without memory, and how many numbers it keeps for the way back.

    Attributes:
        kept: numbers that are kept until the way back comes to them.
        largest: of the parts that are computed anew on the way back, what the largest one keeps meanwhile.
        operations: forwards and back; where parts are computed anew, twice forwards.
    """

    def __init__(self, network: Any):
        self.network, self.kept, self.largest, self.operations = network, 0, 0, 0
        self.weights = {id(weight) for weight in network.parameters()}
        self.inner: int | None = None
        self.seen: dict[int, Any] = {}

    def keep(self, tensor: Tensor) -> Tensor:
        """Counts what shares its memory once; weights are counted elsewhere."""
        storage = tensor.untyped_storage()
        if id(tensor) not in self.weights and storage._cdata not in self.seen:
            self.seen[storage._cdata] = storage  # held, so that no other one gets its address
            numbers = storage.nbytes() // tensor.element_size()
            if self.inner is None:
                self.kept += numbers
            else:
                self.inner += numbers
        return tensor

    def recomputed(self, function: Any, *args: Any) -> Any:
        """In place of torch's checkpointing: of such a part what it was given is kept, and all else made anew."""
        for given in args:
            if isinstance(given, Tensor):
                self.keep(given)
        self.inner = 0
        made = function(*args)
        self.largest, self.inner = max(self.largest, self.inner), None
        return made

    def run(self, recipe: Recipe) -> None:
        """Forwards and back, on clips as the recipe's, of its largest shape."""
        config, frames, batch = self.network.config, recipe.data.num_frames, recipe.batch_size
        height, width = max(recipe.data.shapes, key=math.prod)
        if recipe.codec is not None:
            side = codec_of(Path(recipe.codec))[1]
            height, width = height // side, width // side
        dim = embedding_dim(config)
        with torch.device("meta"), saved_tensors_hooks(self.keep, lambda tensor: tensor):
            x = torch.empty(batch, frames, self.network.out_channels + config.extra_channels, height, width)
            told = {"image_embeds": torch.empty(batch, dim)}
            times, rates = torch.empty(batch) * TIMESTEPS, torch.empty(batch)
            with FlopCounterMode(display=False) as forwards:
                made = self.network(x, times, fps=rates, added_cond_kwargs=told).sample
            with FlopCounterMode(display=False) as backwards:
                made.sum().backward()
        forth = forwards.get_total_flops() * (2 if recipe.gradient_checkpointing else 1)
        self.operations = forth + backwards.get_total_flops()
