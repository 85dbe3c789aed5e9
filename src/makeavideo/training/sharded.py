"""Weights, gradients and the optimiser's state divided among the processes (torch's FSDP2), for `shard` of a recipe.

Every process keeps a part of each weight, and has whole ones only of the block that it is computing: a network may be
larger than a GPU. A checkpoint holds whole weights, so that a run may go on with another number of processes, or none
of this.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from .processes import place


def shard(network: nn.Module, device: torch.device) -> None:
    """Divide a network that is the same in all processes, block by block; in place, its parameters are new objects."""
    # FSDP2 cuts along the first dimension of contiguous weights; channels-last ones it does not take
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    # it warns of views that are changed in place: nothing does that, and a copied network learns the same
    warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
    mesh = init_device_mesh(device.type, (place()[1],))
    for block in outermost_blocks(network):
        fully_shard(block, mesh=mesh)
    # else torch keeps the outermost weights whole after a call: those of a call without gradients, for the samples of
    # the averaged weights, would be the next step's
    fully_shard(network, mesh=mesh, reshard_after_forward=True)


def outermost_blocks(module: nn.Module) -> list[nn.Module]:
    """The members of the outermost lists of modules: a UNet's down, middle and up blocks."""
    found: list[nn.Module] = []
    for child in module.children():
        members = list(child) if isinstance(child, nn.ModuleList) else outermost_blocks(child)
        found += [member for member in members if member is not None]  # diffusers: in place of an attention
    return found


def own_part(weight: Tensor) -> Tensor:
    """What this process has of a weight, in the same memory; the weight itself where it is not divided."""
    if not isinstance(weight, DTensor):
        return weight
    part: Any = weight.detach()
    return part.to_local().requires_grad_(weight.requires_grad)


def whole(value: Any, keep: bool = True) -> Any:
    """A nested state with whole tensors on the processor in place of divided ones; all processes must ask.

    keep: this process wants them; else they are let go one by one, and its result holds none.
    """
    if isinstance(value, DTensor):
        full = value.full_tensor()
        return full.cpu() if keep else None
    if isinstance(value, dict):
        return {key: whole(item, keep) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(whole(item, keep) for item in value)
    return value


def put_back(parts: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """What `own_part` is to weights, the other way: parts of this process, divided as the weights are."""
    return [
        DTensor.from_local(part, like.device_mesh, like.placements, shape=like.shape, stride=like.stride())
        if isinstance(like, DTensor)
        else part
        for part, like in zip(parts, weights, strict=True)
    ]


def divided(full: Any, like: Tensor) -> Any:
    """A whole tensor, which all processes have, as `like` is: divided, or as it came; what is none stays."""
    if not isinstance(full, Tensor) or not isinstance(like, DTensor) or full.shape != like.shape:
        return full
    full = full.to(like.device).contiguous()
    return distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=None)
