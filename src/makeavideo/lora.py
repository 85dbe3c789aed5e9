"""LoRA on a network's spatial weights (2106.09685), by peft, as diffusers does it: another look, in megabytes."""

import warnings
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from .additions import check_loras
from .errors import UserError, in_a_line
from .inflation import VideoUNet
from .model_files import header_of, read_config
from .quiet import quiet_libraries

LORA = "lora.safetensors"
"""What a run calls it."""
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj")
"""The projections of spatial attention, in all UNets of diffusers."""
UNET, OF_PEFT = "unet", "base_model.model."
"""What stands before the names of layers: in diffusers' files, and in peft's."""
ENDS = {"A.weight": 1, "B.weight": 0}
"""Of a LoRA's two matrices, and which of their sides is that of the layer."""
TEXT_ENCODERS = ("text_encoder", "lora_te")
NO_WORDS = "and the decoder alone takes one: train it on the UNet alone."
OTHER_KINDS = {
    "dora_scale": "DoRA",
    "lora_magnitude": "DoRA",
    "lora_b.bias": "LoRA with biases",
    "hada_": "LoHa",
    "lokr_": "LoKr",
}
"""Adapters that change a layer in another way, by what their weights are called."""
FUSE = (
    "load it into the pipeline that was adopted with its own library, fuse it, save the pipeline, and adopt that one."
)


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
        UserError: no such pairs, peft is not installed, no such file, or one that cannot be put onto this network as it
            is.
    """
    check_loras(files)
    if not files:
        return
    peft()
    names = [f"lora_{number}" for number in range(len(files))]
    for name, (file, _) in zip(names, files, strict=True):
        state, how = read(Path(file))
        check_fits(network, state, file)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several are meant
                network.load_lora_adapter(prefixed(state), prefix=UNET, adapter_name=name, **how)
        except Exception as error:  # what it says of itself is not true, or of a later peft
            raise UserError(f"The LoRA {file} cannot be loaded ({in_a_line(error, 120)}): save it anew.") from None
    network.train(network.training)  # a LoRA's dropout, too
    network.set_adapters(names, [strength for _, strength in files])


def fuse_lora(network: VideoUNet, file: str | Path) -> None:
    """A LoRA becomes part of the weights, in place. Raises UserError as `load_loras`."""
    load_loras(network, [(file, 1.0)])
    network.fuse_lora()
    network.unload_lora()


def read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A LoRA's weights by peft's names, and what `load_lora_adapter` has to know of its strength.

    That is in the file's header where diffusers saved it, in a file beside it where peft did, in weights named `alpha`
    where kohya's scripts did.

    Raises:
        UserError: it cannot be read, or is of another kind.
    """
    from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin
    from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft

    check_kind(file)
    try:
        with quiet_libraries():
            read_by_diffusers: Any = StableDiffusionLoraLoaderMixin.lora_state_dict
            found, alphas, told = read_by_diffusers(str(file), use_safetensors=True, return_lora_metadata=True)
    except Exception as error:
        raise UserError(f"The LoRA {file} cannot be read ({in_a_line(error, 120)}): check its name.") from None
    if any(name.startswith(OF_PEFT) for name in found):
        told = read_config(file.with_name("adapter_config.json"))
    state = {
        name.removeprefix(OF_PEFT).removeprefix(f"{UNET}."): weight
        for name, weight in convert_unet_state_dict_to_peft(found).items()
    }
    told = {name.removeprefix(f"{UNET}."): value for name, value in (told or {}).items()}
    return state, {"metadata": prefixed(told)} if told else {"network_alphas": alphas}


def prefixed(values: dict[str, Any]) -> dict[str, Any]:
    return {f"{UNET}.{name}": value for name, value in values.items()}


def check_kind(file: Path) -> None:
    """Raises UserError where the names of a file's weights are of what cannot be put beside a network's layers."""
    for name in header_of(file):
        other = next((kind for part, kind in OTHER_KINDS.items() if part in name.lower()), None)
        if other is not None:
            raise UserError(f"The LoRA {file} is a {other} ({name[:80]}), which cannot be added here: {FUSE}")
        if name.startswith(TEXT_ENCODERS):
            raise UserError(f"The LoRA {file} changes a text encoder too ({name[:80]}), {NO_WORDS}")


def check_fits(network: VideoUNet, state: dict[str, Tensor], file: str | PathLike[str]) -> None:
    """Raises UserError where a weight of the LoRA has no layer that it fits, or no other half, or is no number."""
    modules = dict(network.named_modules())
    for name, weight in state.items():
        path, _, end = name.partition(".lora_")
        layer: Any = modules.get(path)
        layer = getattr(layer, "base_layer", layer)
        if isinstance(layer, torch.nn.Conv2d) and weight.ndim == 4:
            raise UserError(f"The LoRA {file} changes a convolution ({path}), which cannot be added here: {FUSE}")
        fits = isinstance(layer, torch.nn.Linear) and end in ENDS
        if not fits or weight.ndim != 2 or weight.shape[ENDS[end]] != layer.weight.shape[ENDS[end]]:
            raise UserError(
                f"The LoRA {file} is for another network ({name} fits nothing): take one that was made for it."
            )
        other = state.get(f"{path}.lora_{'AB'[ENDS[end]]}.weight")
        if other is None or other.shape[ENDS[end]] != weight.shape[1 - ENDS[end]] or not weight.isfinite().all():
            raise UserError(f"The LoRA {file} is damaged at {name}: get it again.")
