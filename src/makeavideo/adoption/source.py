"""A text-to-image pipeline of diffusers, in a folder or on the hub, as a place to load parts from: safetensors only."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import UserError, in_a_line
from ..inflation import is_temporal
from ..loading import check_finite, on_disk
from ..model_files import header_of
from ..quiet import quiet_libraries

FILES = [
    "model_index.json",
    "*/*.json",
    "*/*.safetensors",
    "*/*.txt",
    "README.md",
    "adapter_*.json",
    "*lora*.safetensors",
]
"""Of a repository on the hub: no single file of all weights at the top, no pickles."""


@dataclass(frozen=True)
class Source:
    """A pipeline's folder.

    name: as it was given.
    kind: the class that model_index.json names.
    index: component -> class, those that are there.
    card: what its model card says at the top: licence, prior ...
    """

    name: str
    folder: Path
    kind: str
    index: dict[str, str]
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def licence(self) -> str | None:
        """As the model card names it; None: it names none."""
        found = self.card.get("license_name") or self.card.get("license")
        return str(found) if found else None

    def config(self, part: str, file: str = "config.json") -> dict[str, Any]:
        """A part's json. Raises UserError where there is none."""
        path = self.folder / part / file
        try:
            values = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            values = None
        if not isinstance(values, dict):
            raise UserError(f"{self.name} cannot be adopted ({path} is missing, or no json): get it again.")
        return values

    def network(self, part: str, kind: Any, dtype: torch.dtype) -> Any:
        """A part's network, frozen, in evaluation mode.

        Raises:
            UserError: it lacks, is pickled, or is of another kind; weights that lack or are no numbers.
        """
        folder = self.folder / part
        if part not in self.index:
            raise UserError(f"{self.name} cannot be adopted: a {self.kind} without a {part}.")
        if not (folder / "config.json").is_file():
            raise UserError(f"{self.name} cannot be adopted ({folder} has no config.json): get it again.")
        return load(kind, folder, self.name, dtype)

    def tokenizer(self, part: str) -> Any:
        """Raises UserError where it cannot be read."""
        from transformers import CLIPTokenizer

        try:
            with quiet_libraries():
                return CLIPTokenizer.from_pretrained(self.folder / part, local_files_only=True)
        except Exception as error:
            fault = f"{self.folder / part}: {in_a_line(error).rstrip('.')}"
            raise UserError(f"{self.name} cannot be adopted ({fault}): get it again.") from None


def load(kind: Any, folder: Path, name: str, dtype: torch.dtype) -> nn.Module:
    """A network of diffusers or transformers. Arguments and errors as those of `Source.network`."""
    files = [file.name for file in folder.glob("*.safetensors")]
    if not files:
        raise UserError(
            f"{name} cannot be adopted: {folder} holds no .safetensors, and pickled weights can run code. Where you "
            "trust them, convert them with diffusers: load the pipeline with use_safetensors=False and save it anew."
        )
    variant = {"variant": "fp16"} if all(".fp16." in file for file in files) else {}
    try:
        with quiet_libraries():
            network, told = kind.from_pretrained(
                str(folder),
                dtype=dtype,
                use_safetensors=True,
                output_loading_info=True,
                local_files_only=True,
                **variant,
            )
    except Exception as error:
        raise UserError(f"{name} cannot be adopted ({folder}: {in_a_line(error).rstrip('.')}): get it again.") from None
    missing = sorted(key for key in told["missing_keys"] or () if "position_ids" not in key)
    if missing:
        raise UserError(f"{name} cannot be adopted ({folder} lacks weights, {missing[0]} for one): get it again.")
    check_finite(network, folder)
    return network.eval().requires_grad_(False)


def open_source(name: str | Path) -> Source:
    """A folder, or what the hub has under this id.

    Raises:
        UserError: there is neither, or no pipeline in it; the sentence says what it is instead.
    """
    folder = on_disk(name, FILES)
    index = folder / "model_index.json"
    if not index.is_file():
        raise UserError(f"{name} cannot be adopted: {what_it_is(folder)}")
    try:
        values = json.loads(index.read_text("utf-8"))
        parts = {key: entry[1] for key, entry in values.items() if isinstance(entry, list) and entry[1]}
        kind = str(values["_class_name"])
    except (ValueError, KeyError, IndexError, AttributeError):
        raise UserError(f"{name} cannot be adopted ({index} is damaged): get it again.") from None
    return Source(str(name), folder, kind, parts, card_of(folder / "README.md"))


def card_of(file: Path) -> dict[str, Any]:
    """The table at the top of a model card; empty where there is none."""
    from huggingface_hub import ModelCard

    try:
        return ModelCard.load(file, ignore_metadata_errors=True).data.to_dict()
    except Exception:  # no file, no table, no yaml: nothing is known then
        return {}


ADDITIONS = {
    "LoRA": "it is a LoRA, which changes the network that it was trained for. Load it into that pipeline with "
    "diffusers, fuse it (fuse_lora), save the pipeline, and adopt that one; one that was trained here is for --lora.",
    "motion module": "it is a motion module, which is for --motion-module, beside the model that it was trained for.",
}


def addition_in(file: Path) -> str | None:
    """Which of ADDITIONS a safetensors file is, by the names of its tensors; None: none, or nothing to be read."""
    try:
        names = header_of(file)
    except UserError:
        return None
    if any("lora" in name.lower() for name in names):
        return "LoRA"
    return "motion module" if all(map(is_temporal, names)) else None


def what_it_is(folder: Path) -> str:
    """Of what is no pipeline's folder, and what can be done."""
    files = [folder] if folder.is_file() else sorted(folder.glob("*.safetensors"))
    kinds = {kind for file in files if (kind := addition_in(file))}
    kinds |= {"LoRA"} if (folder / "adapter_config.json").is_file() else set()
    if kinds:
        return ADDITIONS[min(kinds)]
    if folder.is_file():
        return (
            "it is a single file. Load it with diffusers' from_single_file and save it as a folder, and adopt that one."
        )
    if not folder.is_dir():
        return "there is no such folder, and it is no id of the Hugging Face hub."
    config = folder / "config.json"
    try:
        kind = json.loads(config.read_text("utf-8")).get("_class_name") if config.is_file() else None
    except ValueError:
        kind = None
    if kind and kind.startswith("UNet"):
        return f"it is a {kind} alone, without prior and encoders: `makeavideo.inflate` makes it a video network."
    if kind or config.is_file():
        return f"it is {kind or 'a network'} alone: give the folder of a whole pipeline, with model_index.json."
    return "it has no model_index.json: give the folder of a diffusers pipeline."
