"""A motion module: what inflation added to a 2-D network, and what it learnt, in a file of its own.

D_t's spatial weights may be somebody else's, and large; trained with `train: temporal` they stay as they are. What is
learnt is then the temporal weights alone (AnimateDiff's idea, 2307.04725), for one 2-D network: the file names it.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .additions import check_scale
from .errors import UserError, in_a_line
from .inflation import VideoUNet, add_motion, is_temporal
from .pseudo3d import TemporalConv

FORMAT = "makeavideo motion module 1"
MOTION_MODULE = "motion_module.safetensors"
"""What a run calls it."""
LEARNT = ("motion", "shared_noise", "guidance", "known_frames", "frame_guidance")
"""Fields of the network's config that come with what it learnt."""
STILL = {"shared_noise": 0.0, "guidance": 1.0, "known_frames": False, "frame_guidance": 1.0}
"""Those of a 2-D network."""


def spatial_hash(network: VideoUNet) -> str:
    """Knows a 2-D network again, in whatever precision it is loaded: of names, shapes and signs of its weights.

    Weights of an adapter (LoRA) beside it do not count.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, weight in sorted(plain_names(network)):
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        signs = torch.signbit(weight.detach().flatten()).cpu()
        signs = torch.nn.functional.pad(signs, (0, -len(signs) % 8)).unflatten(0, (-1, 8))
        packed = (signs * torch.tensor([1, 2, 4, 8, 16, 32, 64, 128])).sum(1).to(torch.uint8)
        digest.update(packed.numpy().tobytes())
    return digest.hexdigest()


def plain_names(network: VideoUNet) -> list[tuple[str, Tensor]]:
    """The spatial weights, by the names that they have without adapters."""
    named = ((name.replace(".base_layer.", "."), weight) for name, weight in network.named_parameters())
    return [(name, weight) for name, weight in named if not is_temporal(name) and "lora_" not in name]


def save_motion_module(network: VideoUNet, file: Path) -> None:
    """The temporal weights in half precision, as safetensors, with the hash of the spatial ones."""
    tensors = {name: weight.detach().half().cpu().contiguous() for name, weight in temporal_of(network).items()}
    learnt = {name: network.config[name] for name in LEARNT}
    told = {"format": FORMAT, "spatial": spatial_hash(network), "temporal": network.config.temporal}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file, {**told, "learnt": json.dumps(learnt)})


def temporal_of(network: VideoUNet) -> dict[str, Tensor]:
    return {name: weight for name, weight in network.named_parameters() if is_temporal(name)}


def load_motion_module(network: VideoUNet, file: str | Path, scale: float = 1.0) -> None:
    """Gives a D_t a motion module, in place of what it knows of motion.

    Args:
        scale: 1: as it was trained; 0: every frame by itself, as the 2-D network makes it; between and beyond, what
            begins as the identity or as zero goes as far on the way from there.

    Raises:
        UserError: no such file, no motion module, that of another network, or of another kind of temporal layers; an
            impossible scale.
    """
    check_scale(file, scale)
    told, tensors = read(Path(file))
    if told.get("temporal") != network.config.temporal:
        kinds = f"{told.get('temporal')}, and the network's {network.config.temporal}"
        raise UserError(f"The temporal layers of the motion module {file} are {kinds}: take one of the same kind.")
    if (own := spatial_hash(network)) != told.get("spatial"):
        raise UserError(
            f"The motion module {file} belongs to another network ({told.get('spatial')}, and this one is {own}): load "
            "the model that it was trained on."
        )
    learnt: dict[str, Any] = json.loads(told["learnt"])
    if learnt["motion"] is not None and network.config.motion is None:
        add_motion(network, learnt["motion"])
    weights = temporal_of(network)
    for name in sorted(weights.keys() ^ tensors.keys()):
        if name in weights and ".motion." in f".{name}":
            continue  # the network has learnt strength of motion, and the module knows nothing of it
        raise UserError(f"The motion module {file} has other weights than the network, {name} for one: get it again.")
    starts = identities(network)
    with torch.no_grad():
        for name, trained in tensors.items():
            if weights[name].shape != trained.shape:
                raise UserError(f"The motion module {file} has another shape at {name}: get it again.")
            target, trained = weights[name], trained.to(weights[name])
            target.copy_(torch.lerp(starts[name](target), trained, scale) if name in starts else trained)
    network.register_to_config(**{name: learnt[name] for name in LEARNT} | (STILL if scale == 0 else {}))


def identities(network: VideoUNet) -> dict[str, Any]:
    """Of each temporal weight that begins as the identity or as zero, what makes that of one."""

    def dirac(weight: Tensor) -> Tensor:
        return torch.nn.init.dirac_(torch.empty_like(weight, dtype=torch.float32)).to(weight)

    found: dict[str, Any] = {}
    for path, module in network.named_modules():
        if isinstance(module, TemporalConv):
            found |= {f"{path}.weight": dirac, f"{path}.bias": torch.zeros_like}
        elif path.endswith(("temporal.to_out", "temporal.linear_2")):
            found |= {f"{path}.{name}": torch.zeros_like for name, _ in module.named_parameters(recurse=False)}
    return found


def read(file: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """What a file says of itself, and its weights. Raises UserError where it is no motion module."""
    try:
        with safe_open(file, "pt") as opened:
            told = opened.metadata() or {}
            if told.get("format") != FORMAT:
                raise UserError(f"{file} is no motion module: train one with `train: temporal`.")
            return told, {name: opened.get_tensor(name) for name in list(opened.keys())}
    except (OSError, SafetensorError) as error:
        reason = "it is a folder" if Path(file).is_dir() else in_a_line(error, 120)
        raise UserError(f"The motion module {file} cannot be read ({reason}): check its name.") from None
