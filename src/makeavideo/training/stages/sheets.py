"""Contact sheets of what a stage makes beside what is real."""

from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from ...sampling import to_uint8

SHEET_CLIPS = 8


def samples_of(dataset: Any, count: int, device: torch.device, seeds: bool = False) -> tuple[Tensor, Tensor | None]:
    """(pixels (count, frames, 3, h, w), frame rates (count,) or None of pictures), from all over the data.

    seeds: each sample is drawn with a seed of its own.
    """
    keys = [(i * len(dataset) // count, i if seeds else 0, 1.0) for i in range(count)]
    samples = [dataset[key] for key in keys]
    x = torch.stack([sample["pixels"] for sample in samples]).to(device)
    if "fps" not in samples[0]:
        return x, None
    return x, torch.tensor([float(sample["fps"]) for sample in samples], device=device)


def pairs(real: Tensor, made: Tensor, moving: bool) -> Image:
    """Real and made clips in turn, a row each; or pictures, clips of one frame, that are not `moving`."""
    from ...media.contact_sheet import contact_sheet

    both = to_uint8(torch.stack([real, made], 1).flatten(0, 1))
    return contact_sheet(both if moving else list(both[:, 0]), columns=16)
