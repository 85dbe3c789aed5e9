"""`make-a-video data embed`: y_e of every picture of an index and the embeddings of its captions, once, to disk.

Processes do not speak to each other: each takes every so many-th chunk, as `accelerate launch` numbers them.
"""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from ..data.embeddings import Embeddings, Shape, fingerprint
from ..data.images import CaptionedImages
from ..data.indexed import is_index
from ..data.reader import to_pixels
from ..data.report import SkipReport
from ..data.shards import ShardCache
from ..encoders import embed_images, embed_text, load_text_encoder
from ..errors import UserError
from .batches import collate, ignore_interrupts, in_one_sentence
from .networks import load_folder, of_weights


@dataclass(frozen=True)
class Wanted:
    """What is embedded, and by which networks.

    size: pixels of the pictures, as the decoder makes them; captions: of each picture, drawn as in training.
    batch: pictures at a time; readers: processes that read them, beside each process that embeds.
    """

    index: str
    image_encoder: str
    text_encoder: str | None = None
    size: int = 64
    captions: int = 1
    background: str = "#ffffff"
    batch: int = 256
    readers: int = 2
    shards: ShardCache | None = None


class Captioned(torch.utils.data.Dataset):
    """The pictures of an index in order, each with its drawn captions; by index."""

    def __init__(self, images: CaptionedImages, captions: int):
        self.images, self.captions = images, captions

    def __getitem__(self, index: int) -> dict:
        sample = self.images.sample((index, 0))
        drawn = [self.images.draw_caption(index, random.Random(f"{index} {k}"))[0] for k in range(self.captions)]
        # one that cannot be read is replaced by another one, which has a place of its own
        return {"pixels": sample["pixels"], "captions": drawn, "here": sample["index"] == index,
                "skipped": sample["skipped"]}  # fmt: skip


def this_process() -> tuple[int, int, torch.device]:
    """(number, of how many, device), as `accelerate launch` or torchrun tells it."""
    rank, world, local = (
        int(os.environ.get(name, one)) for name, one in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    return rank, world, torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")


@torch.no_grad()
def embed(
    wanted: Wanted, out: Path, tell: Callable[[int, int], None] = lambda done, total: None
) -> tuple[int, SkipReport]:
    """Fill the chunks of a folder of embeddings that are missing and fall to this process.

    Args:
        tell: called as tell(samples done, all of this process).

    Returns:
        (samples embedded, the pictures that could not be).

    Raises:
        UserError: no index, a network is missing, or the folder holds other embeddings.
    """
    from transformers import CLIPVisionModelWithProjection

    if not is_index(wanted.index):
        raise UserError(f"{wanted.index} is no index: make one by make-a-video data index.")
    rank, world, device = this_process()
    tower = load_folder(CLIPVisionModelWithProjection, wanted.image_encoder, "image encoder").to(device).eval()
    tokenizer, text_encoder = load_text_encoder(wanted.text_encoder)
    text_encoder.to(device)
    if type(text_encoder).__name__ == "CLIPTextModelWithProjection":
        raise UserError("A text encoder whose prior sees the words one by one has no single embedding to store.")
    images = CaptionedImages(
        wanted.index, wanted.size, wanted.background, cache_bytes=0, need_captions=False, shards=wanted.shards
    )
    dims = tower.config.projection_dim, text_encoder.config.hidden_size
    shape = Shape(
        *(len(images), wanted.captions, *dims, wanted.size),
        data=fingerprint(wanted.index),
        background="#{:02x}{:02x}{:02x}".format(*images.background),
        image_encoder=of_weights(tower),
        text_encoder=of_weights(text_encoder),
    )
    stored = Embeddings.begin(out, shape)
    chunks, report = list(stored.chunks(rank, world)), SkipReport()
    total, done = sum(end - start for start, end in chunks), 0
    report.add(images.passed_by)
    tell(done, total)
    for start, end in chunks:
        images_made = np.zeros((end - start, dims[0]), np.float16)
        texts = np.zeros((end - start, wanted.captions, dims[1]), np.float16)
        at = 0
        for batch in in_one_sentence(batches(images, wanted, start, end)):
            report.add(batch["skipped"])
            here = batch["here"].numpy()
            y_e = embed_images(tower, to_pixels(batch["pixels"].to(device))[:, 0]).cpu().numpy()
            images_made[at : at + len(here)] = y_e * here[:, None]
            said = [embed_text(tokenizer, text_encoder, list(drawn)).cpu().numpy() for drawn in batch["captions"]]
            empty = [[not text for text in drawn] for drawn in batch["captions"]]
            texts[at : at + len(here)] = np.where(np.array(empty)[..., None], 0, said).swapaxes(0, 1)
            at += len(here)
            done += len(here)
            tell(done, total)
        stored.fill(start, images_made, texts)
    return done, report


def batches(images: CaptionedImages, wanted: Wanted, start: int, end: int) -> DataLoader:
    return DataLoader(
        Captioned(images, wanted.captions),
        batch_size=wanted.batch,
        sampler=range(start, end),
        collate_fn=collate,
        num_workers=wanted.readers,
        worker_init_fn=ignore_interrupts,
    )
