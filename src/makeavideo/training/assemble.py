"""From a folder of trained stages to a pipeline folder."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from ..encoders import TextProjection, load_text_encoder
from ..pipeline import MakeAVideoPipeline
from ..sampling import make_scheduler
from ..wordings import WordingTable
from .networks import load_folder, load_network, written_whole
from .stages import decoder, interpolator, super_resolution

PIXEL_NETWORKS = {
    "decoder-video": ("decoder", decoder.SHIFT),
    "interpolator": ("interpolator", interpolator.SHIFT),
    "sr-low-video": ("super_resolution_low", super_resolution.SHIFT),
    "sr-high-image": ("super_resolution_high", super_resolution.SHIFT),
}
"""What a pipeline calls the network of each stage that makes frames, and the shift of its scheduler."""


def missing_stages(stages: Iterable[str]) -> list[str]:
    """What a pipeline needs and these stages do not make."""
    return sorted({"clip", "prior", *PIXEL_NETWORKS} - set(stages))


def newest(runs: Path, stage: str, last: dict[str, str] | None = None) -> Path:
    """What a stage left: that of the run in `last`, or of `<stage>-text` or `<stage>-finish`, later runs of it."""
    if last is not None:
        return runs / last[stage] / "final"
    later = [runs / f"{stage}{ending}" / "final" for ending in ("-text", "-finish")]
    return next((folder for folder in later if folder.is_dir()), runs / stage / "final")


def assemble(
    runs: Path,
    folder: Path,
    text_encoder: str | None = None,
    last: dict[str, str] | None = None,
    sampling: dict[str, Any] | None = None,
) -> Path:
    """Join the networks that the stages left in `runs/<stage>/final` as a pipeline in `folder`, half precision.

    Written under a temporary name and renamed when whole.

    Args:
        last: the run of each stage to take, where a plan says so.
        sampling: fields of `SamplingConfig`.

    Raises:
        UserError: a stage has not been trained yet, or the pipeline cannot be written.
    """
    from diffusers.models.transformers.prior_transformer import PriorTransformer
    from transformers import CLIPVisionModelWithProjection

    clip = newest(runs, "clip", last)
    modules = {
        "text_projection": load_folder(TextProjection, clip / "text_projection", "text projection"),
        "image_encoder": load_folder(CLIPVisionModelWithProjection, clip / "image_encoder", "image encoder"),
        "prior": load_folder(PriorTransformer, newest(runs, "prior", last) / "prior", "prior"),
        "prior_scheduler": make_scheduler(),
    }
    if (table := newest(runs, "prior", last) / "wordings").is_dir():  # a prior of a very large set has none
        modules["wordings"] = load_folder(WordingTable, table, "table of wordings")
    for name, (component, shift) in PIXEL_NETWORKS.items():
        trained, what = newest(runs, name, last) / component, f"{name} network"
        if name.startswith("sr-"):
            modules[component] = super_resolution.load_super_resolution(trained, what)
        else:
            modules[component] = load_network(trained, what)
        modules[f"{component}_scheduler"] = make_scheduler(shift)
    for module in modules.values():
        if isinstance(module, torch.nn.Module):
            module.half()
    tokenizer, text = load_text_encoder(text_encoder)
    pipe: Any = MakeAVideoPipeline(tokenizer, text.half(), **modules, sampling=sampling)
    with written_whole(folder, "free some space and assemble again") as partial:
        pipe.save_pretrained(partial, safe_serialization=True)
    return folder
