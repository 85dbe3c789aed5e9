"""A recipe is all that a training run depends on: typed, and checked before anything is loaded."""

import json
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..errors import UserError, words_of
from ..media.pictures import sides
from ..nesting import SHORT, levels
from ..yaml_text import NotYaml, parse_yaml
from .quantities import (
    BetaParameter,
    Count,
    CountOrNone,
    FrameRate,
    Gigabytes,
    LearningRate,
    Minutes,
    Part,
    Scale,
    Shape,
    Share,
    Sides,
    Weight,
)

StageName = Literal[
    "clip",
    "prior",
    "decoder-image",
    "decoder-video",
    "interpolator",
    "sr-low-image",
    "sr-low-video",
    "sr-high-image",
]


VIDEO_STAGES = frozenset({"decoder-video", "interpolator", "sr-low-video"})
"""Those that learn from clips; the others learn from pictures."""


class Strict(BaseModel):
    # an empty text, as of a variable that is not set, would be the folder that one is in
    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False, str_min_length=1
    )


Model = TypeVar("Model", bound=Strict)


class DataRecipe(Strict):
    """Where the samples come from and how they are cut."""

    roots: list[str] = Field(
        description="folders of captioned images or of clips, or webdataset shards; or the index of a large set"
    )
    size: Sides = Field(description="pixels a side after resizing; [height, width] where they differ")
    crop: Sides | None = Field(
        default=None, description="of a random crop, in pixels, as the size is given; none: the whole picture"
    )
    buckets: list[Shape] = Field(
        default=[],
        description="decoder, interpolator: [height, width] each; a sample is cut to the one nearest in proportions, "
        "and a batch is of one of them; size is then that of what is shown and of data.held_out",
    )
    background: str = Field(default="#ffffff", description="colour that transparent pixels are composed on")
    held_out: list[str] = Field(
        default=[],
        description="decoder-video, interpolator: clips not trained on; the loss on them is logged with the samples",
    )
    split: str | None = Field(
        default=None, description="JSON file that names what is held out, by file stem: see recipes/emoji/split.json"
    )
    num_frames: Count = 16
    fps_low: FrameRate = 1.0
    fps_high: FrameRate = 30.0
    fps_beta_start: tuple[BetaParameter, BetaParameter] = Field(
        default=(3.0, 1.0), description="Beta(a, b) at the start: high fps, little motion"
    )
    fps_beta_end: tuple[BetaParameter, BetaParameter] = Field(
        default=(1.0, 3.0), description="Beta(a, b) at the end: low fps, more motion"
    )
    short: Literal["loop", "skip"] = Field(default="loop", description="what to do with clips too short for the rate")
    stills: list[str] = Field(
        default=[], description="decoder-video: pictures trained on beside the clips, as single frames"
    )
    stills_per_step: Count = 16
    known_frames: Part = Field(
        default=0.0,
        description="decoder-video: share of clips of which D_t is shown some frames as they are",
    )
    other_looks: Part = Field(
        default=0.0,
        description="decoder-video: share of those clips that look otherwise than they are: colours, place",
    )
    still_clips: Part = Field(
        default=0.0,
        description="decoder-video: share of clips that are one frame, many times: to stand still",
    )
    moved_stills: list[str] = Field(
        default=[], description="decoder-video: pictures that are moved about and bent, in the place of some clips"
    )
    moved_share: Part = Field(default=0.25, description="decoder-video: share of clips that are such pictures")
    every_fifth: Part = Field(
        default=0.67, description="interpolator: share of clips of which every fifth frame is given"
    )
    cache_gb: Gigabytes = Field(
        default=4.0, description="memory for decoded frames, of a process and its workers together"
    )
    embeddings: str | None = Field(
        default=None, description="prior: folder that data embed has made of the index; none: embedded at the start"
    )
    shard_cache: str | None = Field(
        default=None, description="folder for whole shards of an index that lie elsewhere; none: read in place"
    )
    shard_cache_gb: float = Field(default=100.0, gt=0, le=1e6, description="the shards used last that are kept there")
    num_workers: CountOrNone = Field(default=0, description="processes that read and prepare batches; 0: this one does")
    prefetch: Count = Field(default=2, description="batches that each of them has ready")

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of what is trained on."""
        return sides(self.crop or self.size)

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(height, width) of all batches that there can be."""
        return self.buckets or [self.shape]


class NoiseRecipe(Strict):
    """Noise levels t in (0, 1): x_t = (1 - t) x + t n, with t = sigmoid(mean + std N(0, 1))."""

    mean: float = Field(default=0.6, ge=-10, le=10)
    std: float = Field(default=0.9, gt=0, le=10)
    weight_floor: float = Field(default=0.1, ge=1e-4, le=1, description="the loss is |x_hat - x|^2 / max(t, floor)^2")
    shared: Part = Field(
        default=0.0, description="part of the noise that all frames of a clip share; 1 in super-resolution"
    )
    bridge: Part = Field(
        default=0.0,
        description="decoder-video: share of the clips with known frames that are learnt as they are made, on the way "
        "from those, noised (FrameBridge, 2410.15371)",
    )
    bridge_levels: tuple[Share, Share] = Field(default=(0.55, 0.9), description="how noised they are there")
    gradient: Weight = Field(default=0.0, description="weight of the L1 loss of the pictures' x- and y-gradients")
    low_res_max: Part = Field(default=0.3, description="noise-conditioning augmentation: highest level")


class OptimRecipe(Strict):
    kind: Literal["adamw", "muon", "adamw8bit"] = Field(
        default="adamw",
        description="muon: hidden weights by Muon, embeddings, first and last layers by AdamW; adamw8bit: AdamW of "
        "bitsandbytes, whose state takes a quarter of the memory",
    )
    learning_rate: LearningRate = 6e-4
    pretrained_scale: Scale = Field(
        default=1.0,
        description="learning rate of what is pretrained, as a part of the new layers': a video stage's",
    )
    weight_decay: Weight = 0.01
    betas: tuple[Share, Share] = (0.9, 0.99)
    warmup_steps: CountOrNone = 100
    schedule: Literal["constant_with_warmup", "cosine", "linear"] = "cosine"
    max_grad_norm: float = Field(default=1.0, ge=1e-6, le=1e9)
    ema_decay: Share = 0.999


class SuperResolutionRecipe(Strict):
    """How a `SuperResolver` learns: the small frames that it sees, and its loss. The diffusion networks need none."""

    crops: Count = Field(
        default=8, description="crops that are cut from each picture or clip, once, into the run's folder"
    )
    blur: Scale = Field(
        default=0.8, description="half of the small frames are blurred: largest deviation, small pixels"
    )
    noise: Part = Field(default=0.1, description="half of the small frames are noised: highest level")
    decoder: str | None = Field(default=None, description="folder of D, with image_encoder: see cleaned")
    super_resolution_low: str | None = Field(default=None, description="sr-high-image: folder of SR_l, see cleaned")
    cleaned: Part = Field(default=0.5, description="share of the small frames that are D's, or SR_l's, if named")
    cleaned_variants: Count = Field(default=2, description="small frames that D cleans of each picture, once")
    cleaned_levels: tuple[Share, Share] = Field(
        default=(0.1, 0.5), description="noise that D cleans them of, in one step"
    )
    sharpen: Scale = Field(
        default=0.0, description="unsharp masking of the large frames that are learnt, without halos"
    )
    gradient_weight: Weight = Field(
        default=1.0, description="L1 of the differences of neighbours, beside that of pixels"
    )
    adversarial_weight: Weight = Field(default=0.0, description="0: no discriminator")
    feature_weight: Weight = Field(default=1.0, description="L1 of the discriminator's features, if there is one")
    discriminator_width: Count = 32
    discriminator_learning_rate: LearningRate = 4e-4


class PromptRecipe(Strict):
    """Sentences of which D_t makes a clip each, from the same noise each time: what is learnt can be seen."""

    model: str = Field(description="folder of a cascade, whose prior reads them")
    texts: list[str] = Field(min_length=1)


class Recipe(Strict):
    """One stage's training run."""

    stage: StageName
    output: str = Field(description="folder for checkpoints, samples, logs and the trained network")
    data: DataRecipe
    steps: Count = Field(description="optimiser steps")
    batch_size: Count = Field(description="samples a process and forward pass")
    seed: int = Field(default=0, ge=0, lt=2**62)
    init_from: str | None = Field(
        default=None, description="folder of the network that this stage starts from; without network"
    )
    image_encoder: str | None = Field(default=None, description="folder of the trained image tower")
    text_encoder: str | None = Field(default=None, description="transformers folder; none: that of the included model")
    network: dict[str, Any] = Field(
        default_factory=dict, description="configuration of a network from scratch; without init_from"
    )
    temporal: Literal["pseudo3d", "attention"] | None = Field(
        default=None,
        description="what inflation adds: pseudo3d (the paper) or attention only; none: as init_from, or pseudo3d",
    )
    train: Literal["all", "temporal", "lora", "path", "text"] = Field(
        default="all",
        description="temporal: the spatial weights stay, of decoder-video a motion module is saved, and of the "
        "interpolator its first and last layers learn too; lora: all stay but a LoRA (decoder); path: all stay but "
        "F-up's path at full resolution; text: the image tower stays, so that image embeddings keep their meaning",
    )
    lora_rank: CountOrNone = Field(
        default=0, description="decoder: rank of a LoRA on the spatial weights; with train: lora or temporal"
    )
    codec: str | None = Field(
        default=None, description="decoder, interpolator: folder of the codec that latents are of"
    )
    pixel_channels: CountOrNone = Field(
        default=0, description="decoder: width of a path at full resolution to add beside the patches; 0: none"
    )
    motion: bool = Field(
        default=False, description="decoder-video: D_t is told the strength of motion beside the frame rate"
    )
    guidance: float = Field(
        default=1.0,
        ge=1,
        le=100,
        description="decoder: scale of the guidance that is trained in (model guidance, 2502.12154); 1: none",
    )
    frame_guidance: float = Field(
        default=1.0,
        ge=1,
        le=100,
        description="decoder-video: the same towards the one frame that D_t is shown, with data.known_frames; 1: none",
    )
    guess: Literal["flow", "none"] = Field(
        default="flow",
        description="interpolator: flow: it corrects a guess along the optical flow; none: diffusion, the paper's",
    )
    noise: NoiseRecipe = NoiseRecipe()
    super_resolution: SuperResolutionRecipe = SuperResolutionRecipe()
    optim: OptimRecipe = OptimRecipe()
    gradient_accumulation: Count = 1
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = Field(
        default="auto", description="auto: bf16 where the device computes in it, and no elsewhere"
    )
    gradient_checkpointing: bool = False
    compile: bool = False
    condition_dropout: Part = Field(default=0.1, description="chance that a condition is replaced by the null one")
    checkpoint_minutes: float = Field(default=5.0, gt=0, le=1e9)
    checkpoint_steps: Count | None = Field(default=None, description="also write a checkpoint every so many steps")
    checkpoints_kept: Count = Field(default=2, description="the newest ones; older ones are removed")
    shared_disk: bool = Field(
        default=True, description="false: machines share no disk, and each keeps checkpoints and results of its own"
    )
    shard: bool = Field(
        default=False,
        description="divide weights, gradients and the optimiser's state among the processes (FSDP2), for networks "
        "that one GPU does not hold",
    )
    timeout_minutes: Minutes = Field(
        default=60.0,
        description="after which a process that waits for another one gives up (NCCL, gloo)",
    )
    trackers: list[str] = Field(
        default=["tensorboard"],
        description="where the log goes, by accelerate's names: tensorboard, wandb ...; []: nowhere",
    )
    prompts: PromptRecipe | None = Field(
        default=None, description="decoder-video: what is made of these, as a moving webp beside each contact sheet"
    )
    sample_every: CountOrNone = Field(
        default=500, description="steps between contact sheets, the last one at the end; 0: none"
    )
    log_every: Count = 10

    @property
    def video(self) -> bool:
        """Whether it learns from clips."""
        return self.stage in VIDEO_STAGES

    @field_validator("mixed_precision", mode="before")
    @classmethod
    def no_is_a_word(cls, value: Any) -> Any:
        """YAML reads a bare `no` as false."""
        return "no" if value is False else value


def load_recipe(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Read a YAML recipe and apply `key=value` overrides (dots for nested keys).

    Raises:
        UserError: no such file, not YAML, an unknown key or a wrong type; the sentence names the key.
    """
    values = read_yaml(path, "recipe")
    for override in overrides:
        apply_override(values, override)
    return checked(Recipe, values, path, "recipe")


def read_yaml(path: str | Path, what: str) -> dict[str, Any]:
    """The keys of a YAML file; UserError where it cannot be read. `what`: what to call it."""
    path = Path(path)
    if path.is_fifo() and not path.is_relative_to("/dev"):  # where the shell's own pipes are; others may have no end
        raise UserError(f"The {what} {path} is a pipe, not a file: give the path of a .yaml file.")
    try:
        values = parse_yaml(path.read_text("utf-8"))
    except NotYaml as error:
        raise UserError(f"The {what} {path} cannot be used, {error}: mend that.") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise UserError(f"The {what} {path} cannot be read ({reason}): give the path of a .yaml file.") from None
    if not isinstance(values, dict):
        raise UserError(f"The {what} {path} is not a list of `key: value` lines: see recipes/ for examples.")
    return values


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set `key=value` in nested dicts, in place."""
    key, equals, value = override.partition("=")
    if not equals:
        raise UserError(f"--set {override} has no `=`: write --set key=value, for example --set steps=1000.")
    target = values
    *parents, last = key.split(".")
    for parent in parents:
        target = target.setdefault(parent, {})
        if not isinstance(target, dict):
            raise UserError(f"--set {key}: {parent} is not a group of keys.")
    try:
        target[last] = json.loads(value)  # JSON first: 1e-5 is a number there, and a word in YAML
    except (ValueError, RecursionError):
        target[last] = from_yaml(override, value)


def from_yaml(override: str, value: str) -> Any:
    try:
        return parse_yaml(value)
    except NotYaml as error:
        raise UserError(f"--set {override} has a value that cannot be used, {error}: put it in quotes.") from None


def checked(kind: type[Model], values: dict[str, Any], path: str | Path, what: str) -> Model:
    """The values as a `kind`; UserError with one sentence that names the first wrong key."""
    if any(isinstance(one, str) and "\0" in one for level in levels(values) for one in level):
        raise UserError(f"The {what} {path} has a text with a zero byte in it: remove that.")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        # a misspelt key explains a missing one
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            message = f"The {what} {path} has the unknown key {key}: remove it or correct its spelling."
        elif first["type"] == "missing":
            message = f"The {what} {path} lacks the key {key}: add it."
        else:
            wrong = f"a wrong value for {key} ({SHORT.repr(first['input'])}): {words_of(first)}"
            message = f"The {what} {path} has {wrong}."
        raise UserError(message) from None
