"""Where networks run, and in what precision: what somebody asked for is looked at before anything is loaded."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .errors import UserError
from .figures import DTYPES, OFFLOADS
from .nesting import SHORT


def dtype_of(asked: Any) -> torch.dtype:
    """The type of weights that is meant, torch's own or the name of one.

    Raises:
        UserError: it is none that networks can run in.
    """
    known = {name: getattr(torch, name) for name in DTYPES}
    found = known.get(asked.removeprefix("torch.")) if isinstance(asked, str) else asked
    if not isinstance(found, torch.dtype) or found not in known.values():
        raise UserError(f"The dtype {SHORT.repr(asked)} is not possible: choose {', '.join(DTYPES)}.")
    return found


def dtypes_of(asked: Any, components: Sequence[str]) -> dict[str, torch.dtype]:
    """By component, and "default" of the others; from one for all, or such a table. None: float32.

    Raises:
        UserError: as `dtype_of`; a component that there is not.
    """
    table = asked if isinstance(asked, Mapping) else {"default": torch.float32 if asked is None else asked}
    unknown = [name for name in table if name not in ("default", *components)]
    if unknown:
        raise UserError(
            f"The dtype of {SHORT.repr(unknown[0])} is given: choose from default, {', '.join(components)}."
        )
    return {name: dtype_of(one) for name, one in table.items()}


def usable_device(device: torch.device | str | None, offload: str | None = None) -> torch.device:
    """The device asked for, or the best one. Raises UserError where it cannot be used."""
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError):  # Assertion: without CUDA
        found = torch.device("meta")
    if found.type == "meta":  # where nothing is computed
        raise UserError(f"The device {str(device)[:80]} cannot be used here: choose another one, or leave it out.")
    if offload not in (None, *OFFLOADS):
        raise UserError(f"--offload {SHORT.repr(offload)} is not possible: choose {', '.join(OFFLOADS)}.")
    if offload is not None and found.type == "cpu":
        raise UserError("Offloading moves networks from a GPU, and none is used: leave out --offload.")
    return found
