"""Where networks run, and in what precision: what somebody asked for is looked at before anything is loaded."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils.torch_utils import get_device

from .errors import UserError
from .figures import DTYPES, OFFLOADS
from .nesting import SHORT
from .quiet import quiet_casts


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


def circumstances(pipe: Any) -> dict[str, Any]:
    """What a video's bytes depend on beside seed, settings and weights: for its recipe."""
    precision = str(pipe.decoder.dtype).removeprefix("torch.")
    return {"dtype": precision, "device": pipe.device.type, "threads": torch.get_num_threads()}


class PlacedPipeline(DiffusionPipeline):
    """A pipeline of diffusers that is moved, and whose networks are, only to where they can run."""

    def enable_model_cpu_offload(self, gpu_id: int | None = None, device: torch.device | str | None = None) -> None:
        """As diffusers' own. Raises UserError where there is no such device, or none but the processor."""
        super().enable_model_cpu_offload(gpu_id, usable_device(device or get_device(), "model"))

    def enable_sequential_cpu_offload(
        self, gpu_id: int | None = None, device: torch.device | str | None = None
    ) -> None:
        """As diffusers' own. Raises UserError where there is no such device, or none but the processor."""
        super().enable_sequential_cpu_offload(gpu_id, usable_device(device or get_device(), "sequential"))

    def to(self, *where: Any, **options: Any) -> Self:
        """As diffusers' own: a device, a dtype, or both, each by its name too.

        Raises:
            UserError: one that there is not.
        """
        device, dtype = options.pop("device", None), options.pop("dtype", None)
        for one in where:
            if isinstance(one, torch.dtype) or str(one) in DTYPES:
                dtype = one
            elif one is not None:
                device = one
        device = None if device is None else usable_device(device)
        with quiet_casts():
            return super().to(device=device, dtype=None if dtype is None else dtype_of(dtype), **options)
