"""Checkpoints as they were until November 2026, accelerate's: read with `weights_only`, so that they run nothing."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from .saved_state import Damaged

NAME = "custom_checkpoint_{}.pkl"


def read_old(folder: Path) -> dict[str, Any]:
    """The parts of a checkpoint, named as `checkpoints.Kept` names them.

    Raises:
        Damaged: a file is missing, damaged, or holds anything but numbers and tensors.
    """
    try:
        model = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise Damaged(f"{folder / 'model.safetensors'} is missing or damaged") from error
    average = unpickled(folder / NAME.format(0))
    parts: dict[str, Any] = {
        "model": {name.removeprefix("module."): tensor for name, tensor in model.items()},
        "optimizer": unpickled(folder / "optimizer.bin"),
        "average": average,
    }
    count = 1
    while (folder / NAME.format(count)).is_file():
        parts[f"companion-{count - 1}"] = unpickled(folder / NAME.format(count))
        count += 1
    if (folder / "scaler.pt").is_file():
        parts["scaler"] = unpickled(folder / "scaler.pt")
    return parts


def unpickled(file: Path) -> Any:
    """What a file of torch holds, if that is numbers and tensors."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of a pickle that is refused all the same
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise Damaged(f"{file} holds more than numbers, which could run commands: it was not opened") from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, AttributeError, TypeError, IndexError) as error:
        raise Damaged(f"{file} is missing or damaged") from error
