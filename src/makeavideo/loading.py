"""A pipeline's folder: checked and loaded for the machine at hand, and told apart from others by its weights."""

import hashlib
from pathlib import Path
from typing import TypeVar

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from .errors import UserError
from .quiet import quiet_libraries

Pipeline = TypeVar("Pipeline", bound=DiffusionPipeline)


def weights_hash(folder: str | Path) -> str:
    """First 16 hexadecimal digits of a hash over all weights of a pipeline folder."""
    digest = hashlib.blake2b()
    for file in sorted(Path(folder).rglob("*.safetensors")):
        digest.update(file.relative_to(folder).as_posix().encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def load_pipeline(kind: type[Pipeline], folder: str | Path) -> Pipeline:
    """`from_pretrained` from a folder on disk, on the best device and in the precision that it is fast in.

    Raises:
        UserError: no such folder, no pipeline in it, weights missing or pickled, an impossible number in its config.
    """
    folder = Path(folder)
    if not (folder / "model_index.json").is_file():
        raise UserError(
            f"There is no model at {folder} (no model_index.json): give the folder of a MakeAVideoPipeline."
        )
    pickles = [p for ending in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in folder.rglob(ending)]
    if pickles and not any(folder.rglob("*.safetensors")):
        raise UserError(f"The weights {pickles[0]} are pickled, which can run code: convert them to .safetensors.")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    fast = torch.bfloat16 if device == "cuda" or torch.cpu._is_avx512_bf16_supported() else torch.float32
    exact = dict.fromkeys(("text_encoder", "text_projection", "image_encoder", "prior", "wordings"), torch.float32)
    try:
        with quiet_libraries():
            pipe = kind.from_pretrained(folder, dtype={"default": fast, **exact}, use_safetensors=True)
    except UserError as error:
        raise UserError(f"The model at {folder} cannot be run: {error}") from None
    except (OSError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"The model at {folder} cannot be loaded ({reason}): download it again.") from None
    for network in (pipe.decoder, pipe.interpolator, pipe.super_resolution_low, pipe.super_resolution_high):
        network.to(memory_format=torch.channels_last)
    return pipe.to(device)
