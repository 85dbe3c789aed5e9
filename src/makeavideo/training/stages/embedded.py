"""Pictures as the prior sees them: their embeddings y_e, made once and kept in the run's folder."""

import hashlib
import json
import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ...data.images import CaptionedImages
from ...encoders import embed_images
from ...wordings import WordingTable
from ..preparing import prepared

BATCH = 64
KEPT = "embeddings.safetensors"
"""In the run's folder: a run that goes on does not look at the pictures again."""


class EmbeddedImages(torch.utils.data.Dataset):
    """(caption, y_e) pairs: the pictures are embedded once, since the prior never sees pixels.

    Args:
        folder: where the embeddings are kept for the next time; None: nowhere.
        tower: what the image tower is known by.
    """

    def __init__(self, images: CaptionedImages, image_encoder: nn.Module, folder: Path | None = None, tower: str = ""):
        self.images, self.files = images, images.files
        self.embeds: list[Tensor] = []
        self.indices: list[int] = []
        skipped: list[tuple[str, str]] = []
        note = note_of(images, tower)
        with PartialState().local_main_process_first():  # the others read what it has kept
            kept = None if folder is None else read_kept(folder / KEPT, note)
            if kept is not None:
                self.embeds, self.indices, skipped = kept
            else:
                self.embed(image_encoder, skipped)
                if folder is not None and PartialState().is_local_main_process:
                    keep(folder / KEPT, note, self.embeds, self.indices, skipped)
        self.passed_by = [*images.passed_by, *skipped]

    def embed(self, image_encoder: nn.Module, skipped: list[tuple[str, str]]) -> None:
        """All pictures."""
        count, device = len(self.images), next(image_encoder.parameters()).device
        starts = range(0, count, BATCH)
        for start in prepared(starts, "embedding the pictures, batches", len(starts)):
            samples = [self.images[(i, 0)] for i in range(start, min(start + BATCH, count))]
            pixels = torch.cat([s["pixels"] for s in samples]).to(device)
            with torch.no_grad():
                self.embeds.extend(embed_images(image_encoder, pixels).cpu())
            # a picture that could not be read was replaced by another one: its caption is that one's
            self.indices.extend(s["index"] for s in samples)
            skipped.extend(item for s in samples for item in s["skipped"])

    def __len__(self) -> int:
        return len(self.embeds)

    def __getitem__(self, key):
        index, seed = key[:2]
        caption, _ = self.images.draw_caption(self.indices[index], random.Random(seed))
        return {"caption": caption, "embeds": self.embeds[index], "skipped": []}

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each number of y_e, (1, image_embed_dim)."""
        embeds = torch.stack(self.embeds)
        return embeds.mean(0, True), embeds.std(0, keepdim=True)

    def table(self, embed: Callable) -> WordingTable:
        """What is said of the pictures, as P's table of known wordings."""
        said = [(one.phrases, one.names, one.keywords) for one in map(self.images.wordings, self.indices)]
        return WordingTable.of(said, torch.stack(self.embeds), embed)


def note_of(images: CaptionedImages, tower: str) -> str:
    """What the embeddings depend on: the files, how they are cut, the tower that looks at them."""
    digest = hashlib.blake2b(digest_size=16)
    for item in images.items:
        with suppress(OSError):
            stat = os.stat(item.media.path)
            digest.update(os.fsencode(f"{item.media} {item.media.offset} {stat.st_size} {stat.st_mtime_ns}\n"))
        for caption in item.captions:  # a picture without one is replaced
            with suppress(OSError):
                stat = os.stat(caption.path)
                digest.update(os.fsencode(f"{caption} {caption.offset} {stat.st_size} {stat.st_mtime_ns}\n"))
    cut = {"size": images.size, "crop": images.crop, "background": images.background}
    return json.dumps({"files": digest.hexdigest(), "tower": tower, **cut})


def keep(file: Path, note: str, embeds: list[Tensor], indices: list[int], skipped: list[tuple[str, str]]) -> None:
    """Whole or not at all; on a full disk not at all, and the next run embeds again."""
    partial = file.with_name(f"{file.name}.partial")
    tensors = {"embeds": torch.stack(embeds), "indices": torch.tensor(indices)}
    with suppress(OSError, SafetensorError):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, partial, {"note": note, "skipped": json.dumps(skipped)})
            os.replace(partial, file)
        finally:
            partial.unlink(missing_ok=True)


def read_kept(file: Path, note: str) -> Any:
    """(embeds, indices, skipped) of the same pictures by the same tower; None where there are none, or damaged ones."""
    try:
        with safe_open(file, "pt") as kept:
            told = kept.metadata() or {}
            embeds, indices = kept.get_tensor("embeds").clone(), kept.get_tensor("indices").tolist()
            skipped = [(str(path), str(reason)) for path, reason in json.loads(told["skipped"])]
            whole = told["note"] == note and len(embeds) == len(indices) and bool(embeds.isfinite().all())
            return (list(embeds), indices, skipped) if whole else None
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError):
        return None
