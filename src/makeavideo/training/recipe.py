"""A recipe is all that a training run depends on: typed, and checked before anything is loaded."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)

from ..errors import UserError, words_of
from ..media.pictures import sides
from ..nesting import SHORT, levels
from ..yaml_text import NotYaml, parse_yaml

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


def _or_say(sentence: str) -> WrapValidator:
    """One sentence for all the ways in which a value can be of no kind that is meant."""

    def checked(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
        try:
            return check(value)
        except ValidationError:
            raise UserError(sentence) from None

    return WrapValidator(checked)


Shape = Annotated[tuple[PositiveInt, PositiveInt], _or_say("write [144, 256], height and width")]
Sides = Annotated[PositiveInt | Shape, _or_say("write 256, or [144, 256], height and width")]


Share = Annotated[float, Field(ge=0, lt=1)]
YEAR = 365 * 24 * 60.0
"""Minutes: longer ones do not fit where they are counted in whole milliseconds."""


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
    num_frames: int = Field(default=16, gt=0)
    fps_low: float = Field(default=1.0, gt=0)
    fps_high: float = Field(default=30.0, gt=0)
    fps_beta_start: tuple[float, float] = Field(
        default=(3.0, 1.0), description="Beta(a, b) at the start: high fps, little motion"
    )
    fps_beta_end: tuple[float, float] = Field(
        default=(1.0, 3.0), description="Beta(a, b) at the end: low fps, more motion"
    )
    short: Literal["loop", "skip"] = Field(default="loop", description="what to do with clips too short for the rate")
    stills: list[str] = Field(
        default=[], description="decoder-video: pictures trained on beside the clips, as single frames"
    )
    stills_per_step: int = Field(default=16, gt=0)
    known_frames: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="decoder-video: share of clips of which D_t is shown some frames as they are",
    )
    other_looks: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="decoder-video: share of those clips that look otherwise than they are: colours, place",
    )
    still_clips: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="decoder-video: share of clips that are one frame, many times: to stand still",
    )
    moved_stills: list[str] = Field(
        default=[], description="decoder-video: pictures that are moved about and bent, in the place of some clips"
    )
    moved_share: float = Field(
        default=0.25, ge=0, le=1, description="decoder-video: share of clips that are such pictures"
    )
    every_fifth: float = Field(
        default=0.67, ge=0, le=1, description="interpolator: share of clips of which every fifth frame is given"
    )
    cache_gb: float = Field(
        default=4.0, ge=0, description="memory for decoded frames, of a process and its workers together"
    )
    embeddings: str | None = Field(
        default=None, description="prior: folder that data embed has made of the index; none: embedded at the start"
    )
    shard_cache: str | None = Field(
        default=None, description="folder for whole shards of an index that lie elsewhere; none: read in place"
    )
    shard_cache_gb: float = Field(default=100.0, gt=0, description="the shards used last that are kept there")
    num_workers: int = Field(default=0, ge=0, description="processes that read and prepare batches; 0: this one does")
    prefetch: int = Field(default=2, gt=0, description="batches that each of them has ready")

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

    mean: float = 0.6
    std: float = Field(default=0.9, gt=0)
    weight_floor: float = Field(default=0.1, gt=0, le=1, description="the loss is |x_hat - x|^2 / max(t, floor)^2")
    shared: float = Field(
        default=0.0, ge=0, le=1, description="part of the noise that all frames of a clip share; 1 in super-resolution"
    )
    gradient: float = Field(default=0.0, ge=0, description="weight of the L1 loss of the pictures' x- and y-gradients")
    low_res_max: float = Field(default=0.3, ge=0, le=1, description="noise-conditioning augmentation: highest level")


class OptimRecipe(Strict):
    kind: Literal["adamw", "muon", "adamw8bit"] = Field(
        default="adamw",
        description="muon: hidden weights by Muon, embeddings, first and last layers by AdamW; adamw8bit: AdamW of "
        "bitsandbytes, whose state takes a quarter of the memory",
    )
    learning_rate: float = Field(default=6e-4, gt=0)
    pretrained_scale: float = Field(
        default=1.0,
        ge=0,
        description="learning rate of what is pretrained, as a part of the new layers': a video stage's",
    )
    weight_decay: float = Field(default=0.01, ge=0)
    betas: tuple[Share, Share] = (0.9, 0.99)
    warmup_steps: int = Field(default=100, ge=0)
    schedule: Literal["constant_with_warmup", "cosine", "linear"] = "cosine"
    max_grad_norm: float = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)


class SuperResolutionRecipe(Strict):
    """How a `SuperResolver` learns: the small frames that it sees, and its loss. The diffusion networks need none."""

    crops: int = Field(
        default=8, gt=0, description="crops that are cut from each picture or clip, once, into the run's folder"
    )
    blur: float = Field(
        default=0.8, ge=0, description="half of the small frames are blurred: largest deviation, small pixels"
    )
    noise: float = Field(default=0.1, ge=0, le=1, description="half of the small frames are noised: highest level")
    decoder: str | None = Field(default=None, description="folder of D, with image_encoder: see cleaned")
    super_resolution_low: str | None = Field(default=None, description="sr-high-image: folder of SR_l, see cleaned")
    cleaned: float = Field(
        default=0.5, ge=0, le=1, description="share of the small frames that are D's, or SR_l's, if named"
    )
    cleaned_variants: int = Field(default=2, gt=0, description="small frames that D cleans of each picture, once")
    cleaned_levels: tuple[Share, Share] = Field(
        default=(0.1, 0.5), description="noise that D cleans them of, in one step"
    )
    sharpen: float = Field(
        default=0.0, ge=0, description="unsharp masking of the large frames that are learnt, without halos"
    )
    gradient_weight: float = Field(
        default=1.0, ge=0, description="L1 of the differences of neighbours, beside that of pixels"
    )
    adversarial_weight: float = Field(default=0.0, ge=0, description="0: no discriminator")
    feature_weight: float = Field(default=1.0, ge=0, description="L1 of the discriminator's features, if there is one")
    discriminator_width: int = Field(default=32, gt=0)
    discriminator_learning_rate: float = Field(default=4e-4, gt=0)


class PromptRecipe(Strict):
    """Sentences of which D_t makes a clip each, from the same noise each time: what is learnt can be seen."""

    model: str = Field(description="folder of a cascade, whose prior reads them")
    texts: list[str] = Field(min_length=1)


class Recipe(Strict):
    """One stage's training run."""

    stage: StageName
    output: str = Field(description="folder for checkpoints, samples, logs and the trained network")
    data: DataRecipe
    steps: int = Field(gt=0, description="optimiser steps")
    batch_size: int = Field(gt=0, description="samples a process and forward pass")
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
    lora_rank: int = Field(
        default=0, ge=0, description="decoder: rank of a LoRA on the spatial weights; with train: lora or temporal"
    )
    codec: str | None = Field(
        default=None, description="decoder, interpolator: folder of the codec that latents are of"
    )
    pixel_channels: int = Field(
        default=0, ge=0, description="decoder: width of a path at full resolution to add beside the patches; 0: none"
    )
    motion: bool = Field(
        default=False, description="decoder-video: D_t is told the strength of motion beside the frame rate"
    )
    guidance: float = Field(
        default=1.0,
        ge=1,
        description="decoder: scale of the guidance that is trained in (model guidance, 2502.12154); 1: none",
    )
    guess: Literal["flow", "none"] = Field(
        default="flow",
        description="interpolator: flow: it corrects a guess along the optical flow; none: diffusion, the paper's",
    )
    noise: NoiseRecipe = NoiseRecipe()
    super_resolution: SuperResolutionRecipe = SuperResolutionRecipe()
    optim: OptimRecipe = OptimRecipe()
    gradient_accumulation: int = Field(default=1, gt=0)
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = Field(
        default="auto", description="auto: bf16 where the device computes in it, and no elsewhere"
    )
    gradient_checkpointing: bool = False
    compile: bool = False
    condition_dropout: float = Field(
        default=0.1, ge=0, le=1, description="chance that a condition is replaced by the null one"
    )
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    checkpoint_steps: int | None = Field(default=None, gt=0, description="also write a checkpoint every so many steps")
    checkpoints_kept: int = Field(default=2, gt=0, description="the newest ones; older ones are removed")
    shared_disk: bool = Field(
        default=True, description="false: machines share no disk, and each keeps checkpoints and results of its own"
    )
    shard: bool = Field(
        default=False,
        description="divide weights, gradients and the optimiser's state among the processes (FSDP2), for networks "
        "that one GPU does not hold",
    )
    timeout_minutes: float = Field(
        default=60.0,
        gt=0,
        le=YEAR,
        description="after which a process that waits for another one gives up (NCCL, gloo)",
    )
    trackers: list[str] = Field(
        default=["tensorboard"],
        description="where the log goes, by accelerate's names: tensorboard, wandb ...; []: nowhere",
    )
    prompts: PromptRecipe | None = Field(
        default=None, description="decoder-video: what is made of these, as a moving webp beside each contact sheet"
    )
    sample_every: int = Field(
        default=500, ge=0, description="steps between contact sheets, the last one at the end; 0: none"
    )
    log_every: int = Field(default=10, gt=0)

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
