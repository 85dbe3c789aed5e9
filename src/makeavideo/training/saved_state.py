"""Nested states (dicts, lists, numbers, tensors) as safetensors, their structure as JSON: a file that can run nothing.

torch's own files are pickles, and a run's folder is data that people hand on.
"""

import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

STRUCTURE = "structure"


class Damaged(Exception):
    """A file of a checkpoint is not what was written, or not of this run; the message names it."""


def write_state(state: Any, file: Path) -> str:
    """Write a state and return the SHA-256 of the file; OSError if it cannot be written."""
    tensors: dict[str, torch.Tensor] = {}
    structure = json.dumps(taken_apart(state, "", tensors))
    try:
        save_file(tensors, file, {STRUCTURE: structure})
    except SafetensorError as error:  # it hides the system's error in its text
        raise OSError(str(error)) from error
    return on_disk(file)


def on_disk(file: Path) -> str:
    """SHA-256 of a file that has reached the disk."""
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_state(file: Path, digest: str) -> Any:
    """What `write_state` wrote.

    Raises:
        Damaged: the file is missing, is not the one with this SHA-256, or its numbers are none.
    """
    if not file.is_file():
        raise Damaged(f"{file} is missing")
    try:
        with file.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
                raise Damaged(f"{file} is damaged: it is not what was written")
        with safe_open(file, "pt") as opened:
            # copied: they are views of the mapped file, and whoever cuts it later would end the process (SIGBUS)
            tensors = {name: opened.get_tensor(name).clone() for name in list(opened.keys())}
            if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
                raise Damaged(f"{file} holds numbers that are none (NaN) or infinite")
            return put_together(json.loads((opened.metadata() or {})[STRUCTURE]), tensors)
    except OSError as error:
        raise Damaged(f"{file} cannot be read ({error.strerror})") from error
    except (SafetensorError, ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
        raise Damaged(f"{file} holds no state of a run") from error  # RecursionError is a RuntimeError


def taken_apart(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """The JSON of a state's structure; its tensors are put into `tensors`, by their place in it."""
    if isinstance(value, torch.Tensor):
        kept = value.detach().to("cpu", copy=True)
        # channels-last weights stay so: another layout may be added up in another order
        stride = kept.stride() if is_dense(kept.shape, kept.stride()) else kept.contiguous().stride()
        tensors[name] = kept.contiguous()
        return {"tensor": name, "stride": stride}
    join = f"{name}." if name else ""
    if isinstance(value, dict):
        return {"dict": [[key, taken_apart(item, f"{join}{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [taken_apart(item, f"{join}{place}", tensors) for place, item in enumerate(value)]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}, which a checkpoint does not hold")


def put_together(structure: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """The inverse of `taken_apart`."""
    if not isinstance(structure, dict):
        return structure
    if "tensor" in structure:
        tensor, stride = tensors[structure["tensor"]], structure["stride"]
        if tensor.is_contiguous() and list(tensor.stride()) == stride:
            return tensor
        if not is_dense(tensor.shape, stride):
            raise ValueError("strides with gaps")
        return torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype).copy_(tensor)
    if "dict" in structure:
        return {key: put_together(item, tensors) for key, item in structure["dict"]}
    items = [put_together(item, tensors) for item in structure["tuple" if "tuple" in structure else "list"]]
    return tuple(items) if "tuple" in structure else items


def is_dense(shape: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether a tensor with these strides fills its memory, without gaps."""
    last = sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    return all(step >= 0 for step in stride) and last + 1 == math.prod(shape)
