"""The order of the data: every sample of a run, its seed and its place in the curriculum follow from the recipe.

All randomness of a batch is a function of (seed, its number among the batches of all processes), so a run that goes on
is the same run, also on another number of processes that make as many batches a step.
"""

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from ..data.order import Order, ShuffledOrder
from ..data.reader import to_pixels
from ..errors import UserError
from .recipe import Recipe

Key = tuple[int, int, float]
"""What a sample is asked for with: index, seed, progress of the run (0..1)."""

Complete = Callable[[dict, torch.Generator], dict]
"""Adds to a batch what takes no network: the processes that read do it, so that the training need not wait.

The batch is as `collate` stacks it, its pictures bytes; the generator is the batch's own. It can be pickled.
"""


def fold_seed(*numbers: int) -> int:
    """One well-mixed seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def noise_seed(recipe: Recipe, micro_step: int, rank: int, world: int) -> int:
    """Of all that is drawn for a batch: of its number among those of all processes, whichever process has it."""
    return fold_seed(recipe.seed, micro_step * world + rank, 0, 1)


class StepKeys(Sequence[list[Key]]):
    """Batches of keys from micro-step `start` on, in a fresh order of the data every epoch.

    A sample and its seed follow from its position among those of all processes, its place in the curriculum from the
    step: two processes, or one that accumulates two batches a step, learn the same.

    Args:
        length: of the data set.
        rank, world: number of this process, and of all: each has every `world`-th batch.
        orders: of an epoch, from (seed, epoch); None: all is shuffled.
    """

    def __init__(
        self,
        recipe: Recipe,
        length: int,
        start: int,
        rank: int,
        world: int,
        orders: Callable[[int, int], Order] | None = None,
    ):
        self.recipe, self.length, self.start, self.rank, self.world = recipe, length, start, rank, world
        self.orders = orders or partial(ShuffledOrder, length)
        self.total = recipe.steps * recipe.gradient_accumulation
        self.epoch = -1
        self.order: Order | None = None

    def __len__(self) -> int:
        return self.total - self.start

    def __getitem__(self, number: int) -> list[Key]:  # type: ignore[override]
        """The keys of a batch, counted from `start`."""
        micro_step = range(self.start, self.total)[number]
        first = (micro_step * self.world + self.rank) * self.recipe.batch_size
        step = micro_step // self.recipe.gradient_accumulation
        keys: list[Key] = []
        for position in range(first, first + self.recipe.batch_size):
            if self.order is None or position // self.length != self.epoch:
                self.epoch = position // self.length
                self.order = self.orders(self.recipe.seed, self.epoch)
            seed = fold_seed(self.recipe.seed, position)
            keys.append((self.order(position % self.length), seed, step / self.recipe.steps))
        return keys


class Batches(Dataset):
    """A data set's batches, by their number: the process that is asked for one makes all of it, its keys too.

    complete: what a stage adds to a batch, if anything.
    """

    def __init__(self, dataset: Any, keys: Sequence[list[Key]], complete: Complete | None = None):
        self.dataset, self.keys, self.complete = dataset, keys, complete

    def __getitem__(self, number: int) -> dict:
        keys = self.keys[number]
        read = getattr(self.dataset, "__getitems__", None)
        batch = collate(read(keys) if read else [self.dataset[key] for key in keys])
        if self.complete is None:
            return batch
        # of the samples' own seeds: the same draws in whichever process, however many there are
        generator = torch.Generator().manual_seed(fold_seed(*(key[1] for key in keys)))
        return self.complete(batch, generator)


def make_loader(
    dataset: Any, keys: Sequence[list[Key]], workers: int, prefetch: int = 2, complete: Complete | None = None
) -> DataLoader:
    """Batches of a data set in this order, made by so many processes beside this one.

    prefetch: batches that each of them has ready. Where there is a GPU they lie in pinned memory, from which they are
    copied while it computes. complete: as of `Batches`.
    """
    return DataLoader(
        Batches(dataset, keys, complete),
        sampler=range(len(keys)),
        batch_size=None,
        collate_fn=InOnePiece,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=ignore_interrupts,
    )


def in_one_sentence(batches: Iterable[dict]) -> Iterator[dict]:
    """The batches; what a reading process raises, which torch hands on as its whole stack, is a sentence again."""
    try:
        yield from batches
    except UserError as error:
        raise UserError(str(error).rpartition("UserError: ")[2].strip()) from None


class InOnePiece(dict):
    """A batch whose tensors are handed to another process as one, where it is a plain dict again.

    For each tensor that they hand on two processes open a connection, which costs the one that trains a millisecond.
    """

    def __reduce__(self) -> tuple:
        tensors = {name: value for name, value in self.items() if torch.is_tensor(value) and value.is_contiguous()}
        # those of the largest numbers first: then each begins at a multiple of the size of its own
        places = sorted(tensors, key=lambda name: tensors[name].element_size(), reverse=True)
        joined = torch.cat(
            [torch.empty(0, dtype=torch.uint8), *(tensors[name].flatten().view(torch.uint8) for name in places)]
        )
        kinds = [(name, tensors[name].dtype, tensors[name].shape) for name in places]
        return in_pieces, ({name: None if name in tensors else value for name, value in self.items()}, joined, kinds)


def in_pieces(batch: dict, joined: Tensor, kinds: list[tuple[str, torch.dtype, torch.Size]]) -> dict:
    """The batch that was `InOnePiece`: its tensors are views of the one that came."""
    sizes = [shape.numel() * kind.itemsize for _, kind, shape in kinds]
    for (name, kind, shape), piece in zip(kinds, joined.split(sizes), strict=True):
        batch[name] = piece.view(kind).view(shape)
    return batch


def ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal: the trainer ends its step, and needs the readers until then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def collate(samples: list[dict]) -> dict:
    """Stack the samples; lists of skipped files are joined."""
    skipped = [item for sample in samples for item in sample.pop("skipped")]
    if isinstance(samples[0].get("pixels"), np.ndarray):
        pixels = torch.from_numpy(np.stack([sample.pop("pixels") for sample in samples]))
        return {**default_collate(samples), "pixels": pixels, "skipped": skipped}
    return {**default_collate(samples), "skipped": skipped}


def on_device(batch: dict, device: torch.device) -> dict:
    """The batch where the network is; pictures, which come as bytes, become numbers there."""
    batch = {k: v.to(device, non_blocking=True) if torch.is_tensor(v) else v for k, v in batch.items()}
    if torch.is_tensor(batch.get("pixels")) and batch["pixels"].dtype == torch.uint8:
        batch["pixels"] = to_pixels(batch["pixels"])
    return batch
