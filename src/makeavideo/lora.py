"""LoRA on a network's spatial weights (2106.09685), by peft, as diffusers does it: another look, in megabytes."""

import warnings
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .additions import check_loras
from .errors import UserError, in_a_line
from .inflation import VideoUNet

LORA = "lora.safetensors"
"""What a run calls it."""
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj")
"""The projections of spatial attention, in all UNets of diffusers."""


def peft() -> Any:
    """The library. Raises UserError where it is not installed."""
    try:
        import peft as library
    except ImportError:
        raise UserError("LoRA needs peft: pip install 'makeavideo[lora]'.") from None
    return library


def add_lora(network: VideoUNet, rank: int) -> None:
    """A new LoRA, which changes nothing at first, in place; only it learns, and what is set to after this.

    Raises:
        UserError: peft is not installed.
    """
    network.add_adapter(peft().LoraConfig(r=rank, lora_alpha=rank, target_modules=list(TARGETS)), "trained")


def lora_weights(network: VideoUNet) -> dict[str, torch.nn.Parameter]:
    """By name; of all LoRAs that the network has."""
    return {name: weight for name, weight in network.named_parameters() if "lora_" in name}


def save_lora(network: VideoUNet, file: Path) -> None:
    """The LoRA that was trained, in half precision, as diffusers and peft name its weights."""
    weights = peft().get_peft_model_state_dict(network, adapter_name="trained")
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.half().cpu().contiguous() for name, weight in weights.items()}, file, {"format": "pt"})


def load_loras(network: VideoUNet, files: Sequence[tuple[str | PathLike[str], float]]) -> None:
    """Several LoRAs, each with its strength, in place; of none nothing changes.

    Raises:
        UserError: no such pairs, peft is not installed, no such file, or a LoRA for another network.
    """
    check_loras(files)
    if not files:
        return
    peft()
    names = [f"lora_{number}" for number in range(len(files))]
    for name, (file, _) in zip(names, files, strict=True):
        try:
            state = {key.removeprefix("unet."): weight for key, weight in load_file(file).items()}
        except (OSError, SafetensorError) as error:
            reason = in_a_line(error, 120)
            raise UserError(f"The LoRA {file} cannot be read ({reason}): check its name.") from None
        check_fits(network, state, file)
        bare: Any = None  # names without a prefix, which diffusers' annotation does not allow for
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several are meant
            network.load_lora_adapter(state, prefix=bare, adapter_name=name)
    network.set_adapters(names, [strength for _, strength in files])


def fuse_lora(network: VideoUNet, file: str | Path) -> None:
    """A LoRA becomes part of the weights, in place. Raises UserError as `load_loras`."""
    load_loras(network, [(file, 1.0)])
    network.fuse_lora()
    network.unload_lora()


def check_fits(network: VideoUNet, state: dict[str, torch.Tensor], file: str | PathLike[str]) -> None:
    """Raises UserError where a weight of the LoRA has no layer that it fits."""
    ends = {".lora_A.weight": 1, ".lora_B.weight": 0}
    modules = dict(network.named_modules())
    for name, weight in state.items():
        end = next((end for end in ends if name.endswith(end)), None)
        layer: Any = modules.get(name.removesuffix(end)) if end else None
        layer = getattr(layer, "base_layer", layer)
        if (
            end is None
            or not isinstance(layer, torch.nn.Linear)
            or weight.shape[ends[end]] != layer.weight.shape[ends[end]]
        ):
            raise UserError(
                f"The LoRA {file} is for another network ({name} fits nothing): take one that was made for it."
            )
    if not state:
        raise UserError(f"The LoRA {file} is empty: get it again.")
