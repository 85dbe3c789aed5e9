"""What is put on top of a model, a motion module and LoRAs: what is asked of them, looked at before anything is loaded.

No torch here.
"""

from os import PathLike
from typing import Any

from .errors import UserError
from .kinds import check_number
from .nesting import SHORT


def check_scale(module: str | PathLike[str] | None, scale: Any) -> None:
    """Raises UserError where a motion module cannot go so far, or there is none."""
    check_number("--motion-module-scale", scale)
    if module is None and scale != 1:
        raise UserError(f"--motion-module-scale {scale:g} has nothing to scale: give --motion-module, or leave it out.")


def check_loras(loras: Any) -> None:
    """Raises UserError where they are no list of (file, strength)."""
    pairs = isinstance(loras, list | tuple) and all(isinstance(one, list | tuple) and len(one) == 2 for one in loras)
    if not pairs or not all(isinstance(file, str | PathLike) for file, _ in loras):
        raise UserError(f"The LoRAs {SHORT.repr(loras)} are no list of pairs: give [('look.safetensors', 0.8)].")
    for file, strength in loras:
        check_number(f"The strength of the LoRA {file}", strength)
