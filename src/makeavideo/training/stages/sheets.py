"""Contact sheets of what a stage makes beside what is real."""

from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from ...sampling import to_uint8
from ..processes import Share, place

SHEET_CLIPS = 8


class Sheet:
    """Some of the data, of which each process makes its share.

    Attributes:
        pixels: real ones (rows, frames, 3, h, w); rates: frames a second (rows,), None of pictures.
        generator: of what this process draws.
    """

    def __init__(self, dataset: Any, count: int, device: torch.device, seed: int, seeds: bool = False):
        """count: samples in all processes, from all over the data. seeds: each is drawn with a seed of its own."""
        self.share = Share(count)
        dataset = getattr(dataset, "in_one_shape", dataset)
        keys = [(i * len(dataset) // count, i if seeds else 0, 1.0) for i in self.share.rows]
        samples = [dataset[key] for key in keys]
        self.pixels = torch.stack([sample["pixels"] for sample in samples]).to(device)
        self.rates: Tensor | None = None
        if "fps" in samples[0]:
            self.rates = torch.tensor([float(sample["fps"]) for sample in samples], device=device)
        self.generator = torch.Generator().manual_seed(seed + place()[0])

    def rows(self, frames: Tensor) -> np.ndarray:
        """uint8 (count, frames, h, w, 3) of all processes, of this one's frames."""
        return to_uint8(self.share.joined(frames))

    def pairs(self, made: Tensor, moving: bool) -> Image:
        """Real and made clips in turn, a row each; or pictures, clips of one frame, that are not `moving`."""
        from ...media.contact_sheet import contact_sheet

        both = np.stack([self.rows(self.pixels), self.rows(made)], 1)
        both = both.reshape(-1, *both.shape[2:])
        return contact_sheet(both if moving else list(both[:, 0]), columns=16)
