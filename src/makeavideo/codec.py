"""Frames as latents and back, by the codec of diffusers that a latent text-to-image network was trained on.

Only a few frames go through it at a time, so that memory does not grow with the length of a video.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .errors import UserError

FRAMES_AT_ONCE = 4
CLASSES = ("VQModel", "AutoencoderKL")


def check_codec(codec: Any) -> None:
    """Raises UserError where it is of another kind."""
    if codec is not None and type(codec).__name__ not in CLASSES:
        raise UserError(f"a {type(codec).__name__} cannot be the codec: use one of {', '.join(CLASSES)}")


def parts(frames: Tensor) -> Iterator[Tensor]:
    """A few frames at a time of (b, f, ...), all clips together."""
    return iter(frames.split(max(1, FRAMES_AT_ONCE // len(frames)), 1))


def encode(codec: Any, frames: Tensor) -> Tensor:
    """(b, f, 3, h, w) in [-1, 1] -> latents (b, f, c, h / shrinkage, w / shrinkage), of the size D_t was trained on.

    Of a variational codec the mean is taken, so that the same frame gives the same latents.
    """
    return torch.cat([encode_part(codec, part) for part in parts(frames)], 1)


def encode_part(codec: Any, frames: Tensor) -> Tensor:
    pictures = frames.flatten(0, 1).to(codec.dtype)
    if type(codec).__name__ == "VQModel":  # Kandinsky's latents are taken as they are, before quantisation
        return codec.encode(pictures).latents.float().unflatten(0, frames.shape[:2])
    found = codec.encode(pictures).latent_dist.mode().float()
    config = codec.config
    return ((found - (config.get("shift_factor") or 0)) * config.scaling_factor).unflatten(0, frames.shape[:2])


def decode(codec: Any, latents: Tensor) -> Iterator[Tensor]:
    """Latents (b, f, c, h, w) -> frames in [-1, 1], a few (b, some, 3, ...) at a time."""
    for part in parts(latents):
        flat = part.flatten(0, 1)
        if type(codec).__name__ == "VQModel":
            made = codec.decode(flat.to(codec.dtype), force_not_quantize=True).sample
        else:
            config = codec.config
            shifted = flat / config.scaling_factor + (config.get("shift_factor") or 0)
            made = codec.decode(shifted.to(codec.dtype)).sample
        yield made.float().clamp(-1, 1).unflatten(0, part.shape[:2])
