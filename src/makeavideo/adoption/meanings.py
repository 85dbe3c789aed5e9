"""C_x, P and the image tower of a pipeline with an unCLIP prior, taken as they are."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .adopted import millions
from .source import Source, load, open_source, table_of

COMBINED = {
    "prior": "prior_prior",
    "prior_scheduler": "prior_scheduler",
    "text_encoder": "prior_text_encoder",
    "tokenizer": "prior_tokenizer",
    "image_encoder": "prior_image_encoder",
    "processor": "prior_image_processor",
}
PARTS: dict[str, dict[str, str]] = {
    "KandinskyV22PriorPipeline": {"image_encoder": "image_encoder", "processor": "image_processor"},
    **dict.fromkeys(("KandinskyV22CombinedPipeline", "KandinskyV22Img2ImgCombinedPipeline"), COMBINED),
    "UnCLIPPipeline": {"prior_scheduler": "prior_scheduler"},
    "StableUnCLIPPipeline": {
        "prior_scheduler": "prior_scheduler",
        "text_encoder": "prior_text_encoder",
        "tokenizer": "prior_tokenizer",
    },
}
"""Pipelines that have a prior, and what they call its parts, where not as `USUAL`."""
USUAL = {"prior": "prior", "prior_scheduler": "scheduler", "text_encoder": "text_encoder", "tokenizer": "tokenizer"}
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
"""Of the pictures that CLIP was trained on: its processor's, where a pipeline has none of its own."""
SAMPLING = {"prior_candidates": 1, "prior_steps": 25, "prior_guidance_scale": 4.0, "still_candidates": 1}
"""As diffusers' pipelines draw: one embedding, one picture."""


@dataclass
class Meanings:
    """What words and pictures mean in a cascade.

    parts: components, from words and pictures to y_e; the image encoder may be None.
    prior, tower: where they are from.
    """

    parts: dict[str, Any]
    prior: Source
    tower: Source | None

    @property
    def dim(self) -> int:
        """Of y_e."""
        return int(self.parts["prior"].config.embedding_dim)

    def described(self) -> list[str]:
        """What was found, a sentence each."""
        names = {"text_encoder": ("text encoder", self.prior), "prior": ("prior", self.prior)}
        names |= {} if self.tower is None else {"image_encoder": ("image tower", self.tower)}
        return [f"{what}: {millions(self.parts[key])}, from {where.name}" for key, (what, where) in names.items()]


def meanings_of(source: Source, prior: str | None, image_encoder: str | None, dtype: torch.dtype) -> Meanings:
    """C_x, P and the image tower: the one that is named, the pipeline's own, or that of the prior's, if there is any.

    Raises:
        UserError: there is no prior, something of it cannot be read, or the tower's embeddings are of another length.
    """
    from diffusers.models.transformers.prior_transformer import PriorTransformer
    from transformers import CLIPTextModelWithProjection

    of_prior = prior_source(source, prior)
    names = {**USUAL, **PARTS[of_prior.kind]}
    network = of_prior.network(names["prior"], PriorTransformer, dtype)
    text = of_prior.network(names["text_encoder"], CLIPTextModelWithProjection, dtype)
    if text.config.hidden_size != text.config.projection_dim:
        raise UserError(f"{of_prior.name} cannot be adopted: its text encoder's states and embeddings differ in size.")
    tower: Any = None
    where: Source | None = None
    if image_encoder is not None:
        tower, where = tower_alone(image_encoder, dtype)
    elif "image_encoder" in source.index:
        tower, where = tower_of(source, "image_encoder", "feature_extractor", dtype), source
    elif names.get("image_encoder") in of_prior.index:
        tower, where = tower_of(of_prior, names["image_encoder"], names["processor"], dtype), of_prior
    makes = network.config.embedding_dim
    if where is not None and tower.config.projection_dim != makes:
        raise UserError(
            f"The image tower of {where.name} makes embeddings of {tower.config.projection_dim} numbers, and the prior "
            f"of {of_prior.name} makes {makes}: name the CLIP that belongs to it with --image-encoder."
        )
    parts = {
        "tokenizer": of_prior.tokenizer(names["tokenizer"]),
        "text_encoder": text,
        "text_projection": None,
        "image_encoder": tower,
        "prior": network,
        "prior_scheduler": scheduler_of(of_prior, names["prior_scheduler"]),
    }
    return Meanings(parts, of_prior, where)


def scheduler_of(source: Source, part: str) -> Any:
    """The prior's, as an UnCLIPScheduler. Raises UserError where it cannot be one."""
    from diffusers.schedulers.scheduling_unclip import UnCLIPScheduler

    values = source.config(part, "scheduler_config.json")
    known = ("num_train_timesteps", "clip_sample", "clip_sample_range", "beta_schedule")
    if values.get("prediction_type") != "sample" or values.get("beta_schedule") not in (None, "squaredcos_cap_v2"):
        raise UserError(f"{source.name} cannot be adopted: its prior is no unCLIP prior of clean embeddings.")
    fields = {key: values[key] for key in known if key in values}
    return UnCLIPScheduler(prediction_type="sample", variance_type="fixed_small_log", **fields)


def tower_of(source: Source, part: str, processor: str, dtype: torch.dtype) -> Any:
    """The image tower, which knows how its pictures are prepared (`encoders.embed_images`)."""
    from transformers import CLIPVisionModelWithProjection

    tower = source.network(part, CLIPVisionModelWithProjection, dtype)
    prepared = source.config(processor, "preprocessor_config.json") if processor in source.index else {}
    return with_preparation(tower, prepared)


def with_preparation(tower: Any, prepared: dict[str, Any]) -> Any:
    tower.config.picture_mean = prepared.get("image_mean", CLIP_MEAN)
    tower.config.picture_std = prepared.get("image_std", CLIP_STD)
    return tower


def tower_alone(name: str, dtype: torch.dtype) -> tuple[Any, Source]:
    """The image tower of a CLIP model of transformers: a folder, or an id of the hub."""
    from transformers import CLIPVisionModelWithProjection

    from ..loading import on_disk

    folder = on_disk(name, ["*.json", "*.safetensors", "README.md"])
    if not (folder / "config.json").is_file():
        raise UserError(f"There is no image encoder at {name} (no config.json): give CLIP's folder or id.")
    tower = with_preparation(load(CLIPVisionModelWithProjection, folder, name, dtype), {})
    return tower, Source(name, folder, type(tower).__name__, {}, table_of(folder / "README.md"))


def null_picture(tower: Any) -> Tensor:
    """(d,), the tower's embedding of zeros, which Kandinsky's guidance leads away from."""
    side = tower.config.image_size
    with torch.no_grad():
        return tower(torch.zeros(1, 3, side, side, dtype=tower.dtype)).image_embeds[0]


def prior_source(source: Source, prior: str | None) -> Source:
    """Where the prior is: in the pipeline, in what was named, or in what the pipeline's card names.

    Raises:
        UserError: nowhere.
    """
    if prior is not None:
        found = open_source(prior)
        if found.kind not in PARTS:
            raise UserError(f"{prior} has no prior that can be adopted: it is a {found.kind}.")
        return found
    if source.kind in PARTS:
        return source
    named = source.card.get("prior")
    named = named[0] if isinstance(named, list) and named else named
    if not named:
        raise UserError(
            f"{source.name} has no prior, which makes image embeddings of words: name the folder or hub id of one with "
            "--prior (kandinsky-community/kandinsky-2-2-prior, kakaobrain/karlo-v1-alpha)."
        )
    return prior_source(source, str(named))
