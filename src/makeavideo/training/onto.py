"""A cascade with what runs have learnt in it: of an adopted model most networks stay as they are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..adoption.card import retold
from ..errors import UserError
from ..loading import on_disk
from ..pipeline import MakeAVideoPipeline
from ..sampling import is_unclip, make_scheduler
from .assemble import PIXEL_NETWORKS
from .networks import left_additions, load_network, put_additions, written_whole
from .recipe import load_recipe
from .stages import super_resolution


def assemble_onto(model: str | Path, runs: Sequence[Path], folder: Path) -> Path:
    """Write a cascade as `model`, with the networks of these runs, into `folder`; half precision.

    A motion module or a LoRA becomes part of the decoder. A model card is kept, with its licence.

    Args:
        model: a cascade's folder, or an id of the hub.
        runs: outputs of finished runs of decoder-video, interpolator and super-resolution, in the order in which they
            are put in.

    Raises:
        UserError: no such cascade or run, two whole networks for one place, something that does not belong together,
            `folder` is not empty or cannot be written.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} holds something already: name another folder.")
    stages = [stage_of(run) for run in runs]
    base = on_disk(model)
    pipe: Any = MakeAVideoPipeline.from_pretrained(base, dtype=torch.float16)
    parts, whole = dict(pipe.components), dict[str, Path]()
    for run, stage in zip(runs, stages, strict=True):
        component, shift = PIXEL_NETWORKS[stage]
        final = run / "final"
        if component == "decoder" and left_additions(final):
            put_additions(parts["decoder"], final)
            continue
        if component in whole:
            raise UserError(f"{whole[component]} and {run} are both of {stage}: take one of them.")
        whole[component] = run
        load: Any = super_resolution.load_super_resolution if stage.startswith("sr-") else load_network
        parts[component] = load(final / component, f"{stage} network").half()
        if not is_unclip(parts[f"{component}_scheduler"]):  # of such a network it belongs to what it has learnt
            parts[f"{component}_scheduler"] = make_scheduler(shift)
    made: Any = MakeAVideoPipeline(**parts, sampling=pipe.config.sampling)
    with written_whole(folder, "free some space and assemble again") as partial:
        made.save_pretrained(partial, safe_serialization=True)
        if (card := base / "README.md").is_file():
            names = sorted({PIXEL_NETWORKS[stage][0] for stage in stages})
            (partial / "README.md").write_text(retold(card.read_text("utf-8"), names), "utf-8")
    return folder


def stage_of(run: Path) -> str:
    """What a finished run has trained. Raises UserError where it is not finished, or of no network of a cascade."""
    if not (run / "final").is_dir():
        raise UserError(f"There is no finished run in {run} (no final): train it to its end, or correct the path.")
    stage = load_recipe(run / "recipe.yaml").stage
    if stage not in PIXEL_NETWORKS:
        known = ", ".join(PIXEL_NETWORKS)
        raise UserError(f"{run} is a run of {stage}: only those of {known} can be put into a cascade that there is.")
    return stage
