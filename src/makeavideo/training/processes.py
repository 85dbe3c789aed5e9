"""What the processes of a run share: a timeout, rows of work, numbers, and what only one of them has read."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list, parse_flag_from_env
from torch import Tensor

from ..errors import UserError
from .saved_state import put_together, taken_apart

LAUNCHER = os.getppid()


def begin_processes(minutes: float) -> PartialState:
    """The group of processes, where there are several; they wait so long for each other, NCCL's too.

    It is made once: a group that is there already keeps its own time.
    """
    handler = InitProcessGroupKwargs(timeout=timedelta(minutes=minutes))
    # without a GPU PartialState makes a group only where it is told of it, as Accelerator does
    return PartialState(parse_flag_from_env("ACCELERATE_USE_CPU"), **handler.to_kwargs())


def launched() -> bool:
    """Whether torchrun, which accelerate launch is too, started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def launcher_is_lost() -> bool:
    """Whether the launcher was killed: its processes live on, and nothing ends them."""
    return launched() and os.getppid() != LAUNCHER


@contextmanager
def lost_in_one_sentence() -> Iterator[None]:
    """Around the training: UserError where another process is lost, or does not answer in time."""
    try:
        yield
    except RuntimeError as error:
        if place()[1] == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise UserError(
            "Another process of the training was lost, or did not answer within timeout_minutes: what it said is the "
            "reason. The same command goes on; of a recipe with --resume."
        ) from None


def place() -> tuple[int, int]:
    """(number of this process, how many there are)."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


@dataclass(frozen=True)
class Share:
    """The part of `count` rows that this process makes: all processes have equally many, the last ones some again.

    Equally many, so that a network whose weights are divided among them is asked by all at once.
    """

    count: int

    @property
    def rows(self) -> list[int]:
        rank, world = place()
        each = -(-self.count // world)
        return [row % self.count for row in range(rank * each, (rank + 1) * each)]

    def joined(self, mine: Tensor) -> Tensor:
        """All rows (count, ...), of this process's (len(rows), ...): in all processes, which must all ask."""
        return gathered(mine)[: self.count]


def gathered(mine: Tensor) -> Tensor:
    """(n * processes, ...) of every process's (n, ...), in their order; gradients find their way back."""
    return mine if place()[1] == 1 else _Gathered.apply(mine)  # type: ignore[return-value]


class _Gathered(torch.autograd.Function):
    """torch's own, in torch.distributed.nn, is on its way out, and what takes its place is private."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        parts = mine.new_empty(len(mine) * place()[1], *mine.shape[1:])
        dist.all_gather(list(parts.chunk(place()[1])), mine.contiguous())
        return parts

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        mine = gradient.new_empty(len(gradient) // place()[1], *gradient.shape[1:])
        dist.reduce_scatter(mine, list(gradient.contiguous().chunk(place()[1])))
        return mine


def gathered_objects(mine: Any) -> list:
    """Every process's object, in their order."""
    if place()[1] == 1:
        return [mine]
    objects: list = [None] * place()[1]
    dist.all_gather_object(objects, mine)
    return objects


def told_by(reader: int, value: Any) -> Any:
    """The value of one process, in all of them."""
    values = [value]
    if place()[1] > 1:
        broadcast_object_list(values, from_process=reader)
    return values[0]


def handed_on(reader: int, state: Any, device: torch.device) -> Any:
    """A nested state with its tensors, which one process has, in all of them; on the processor, through `device`."""
    if place()[1] == 1:
        return state
    tensors: dict[str, Tensor] = {}
    mine = place()[0] == reader
    structure = taken_apart(state, "", tensors) if mine else None
    shapes = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    structure, shapes = told_by(reader, (structure, shapes))
    for name, (shape, dtype) in shapes.items():
        moved = tensors[name].to(device) if mine else torch.empty(shape, dtype=dtype, device=device)
        dist.broadcast(moved, reader)
        tensors[name] = moved.cpu()
    return put_together(structure, tensors)
