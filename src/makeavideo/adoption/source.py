"""A text-to-image pipeline of diffusers, in a folder or on the hub, as a place to load parts from: safetensors only."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import UserError, in_a_line
from ..loading import check_finite, on_disk
from ..quiet import quiet_libraries
from .others import of_folder, values_of

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
        values = values_of(path)
        if values is None:
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
    index, card = folder / "model_index.json", table_of(folder / "README.md")
    if not index.is_file():
        raise UserError(f"{name} cannot be adopted: {of_folder(folder, card)}")
    values = values_of(index)
    kind = (values or {}).get("_class_name")
    if values is None or not isinstance(kind, str):
        raise UserError(f"{name} cannot be adopted ({index} is damaged): get it again.")
    lists = {key: entry for key, entry in values.items() if isinstance(entry, list) and len(entry) == 2}
    parts = {key: entry[1] for key, entry in lists.items() if isinstance(entry[1], str)}
    return Source(str(name), folder, kind, parts, card)


def table_of(file: Path) -> dict[str, Any]:
    """The table at the top of a model card; empty where there is none."""
    from huggingface_hub import ModelCard

    try:
        return ModelCard.load(file, ignore_metadata_errors=True).data.to_dict()
    except Exception:  # no file, no table, no yaml: nothing is known then
        return {}
