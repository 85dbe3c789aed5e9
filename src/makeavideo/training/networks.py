"""The networks that stages begin with, which of their weights learn, and how they are kept."""

import hashlib
import inspect
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from ..codec import CLASSES, decode, encode
from ..config_numbers import fault_in
from ..errors import UserError
from ..inflation import VideoUNet, inflate, is_temporal
from ..loading import load_component
from ..lora import LORA, add_lora, fuse_lora, lora_weights, save_lora
from ..model_files import check_component, let_others_read
from ..motion_module import MOTION_MODULE, load_motion_module, save_motion_module
from ..quiet import quiet_libraries
from ..sampling import make_scheduler
from ..tryout import run_once
from .recipe import Recipe, load_recipe


def load_folder(loader: Any, folder: str | Path | None, what: str) -> Any:
    """`loader.from_pretrained(folder)`, in float32, looked at as a model's parts are before they make videos.

    Raises:
        UserError: a network that is missing, damaged, pickled, another one, or of weights that are no numbers.
    """
    if folder is None:
        raise UserError(f"The recipe names no {what}: add the folder that the stage before exported.")
    if not Path(folder).is_dir():
        raise UserError(f"There is no {what} at {folder}: train that stage first or correct the path in the recipe.")
    try:
        check_component(Path(folder))
        return load_component(loader, Path(folder), torch.float32, None)
    except Exception as error:  # whatever it is that a library stumbles over in a damaged file
        if isinstance(error, UserError) and str(folder) in str(error):
            raise
        reason = str(error).split("\n")[0]
        raise UserError(f"The {what} at {folder} cannot be loaded from safetensors: {reason}") from None


def load_network(folder: str | Path, what: str) -> Any:
    """A video network. Where a run left only what it learnt beside weights that stayed, it is made whole.

    folder: of the network, such as <output>/final/decoder, also where that run left no such folder.

    Raises:
        UserError: as `load_folder`; what the run left, or began with, is missing or does not belong together.
    """
    begun = began_with(folder)
    if begun is None or begun.init_from is None:
        return load_folder(VideoUNet, folder, what)
    final = Path(folder).parent
    network = load_network(begun.init_from, f"network that {final.parent} began with").float()
    if begun.video and network.config.temporal == "none":
        network = inflate(network, begun.temporal or "pseudo3d")
    return put_additions(network, final)


def began_with(folder: str | Path) -> Recipe | None:
    """Of a network's folder: the recipe of the run that left only what it learnt beside its `init_from`; None: none.

    Raises:
        UserError: that recipe names no network.
    """
    final = Path(folder).parent
    if Path(folder).name != "decoder" or Path(folder).is_dir() or not left_additions(final):
        return None
    begun = load_recipe(final.parent / "recipe.yaml")
    if begun.init_from is None:
        raise UserError(f"{final} holds what was learnt beside a network, and its recipe.yaml names none: train again.")
    return begun


def whole_network(folder: str | Path) -> Path:
    """The folder of the network itself, also where a run left only what it learnt beside it."""
    begun = began_with(folder)
    return Path(folder) if begun is None or begun.init_from is None else whole_network(begun.init_from)


def left_additions(final: Path) -> bool:
    """Whether a run saved only what it learnt beside weights that stayed: see `save_additions`."""
    return any((final / name).is_file() for name in (MOTION_MODULE, LORA))


def put_additions(network: Any, final: Path) -> Any:
    """A network with what a run learnt beside it, of which a LoRA becomes part of its weights; in place."""
    if (final / MOTION_MODULE).is_file():
        load_motion_module(network, final / MOTION_MODULE)
    if (final / LORA).is_file():
        fuse_lora(network, final / LORA)
    return network


def build(network_class: Any, config: dict) -> Any:
    """A network from the recipe's `network`, with a sentence for what its class does not know."""
    unknown = sorted(config.keys() - inspect.signature(network_class.__init__).parameters.keys())
    if unknown:
        raise UserError(
            f"The recipe has the unknown key network.{unknown[0]}: {network_class.__name__} has no such argument."
        )
    if (fault := fault_in(config)) is not None:
        raise UserError(f"The recipe's network cannot be used, {fault}: correct its keys.")
    try:
        return network_class(**config)
    except Exception as error:  # whatever a library stumbles over, a division by zero among it
        reason = str(error).split("\n")[0]
        raise UserError(f"The recipe's network does not make a {network_class.__name__}: {reason}") from None


def build_unet(recipe: Recipe, in_channels: int = 3) -> VideoUNet:
    """A 2-D network from scratch, each frame by itself. `network`: {class, space_to_depth, ...diffusers' arguments}."""
    import diffusers

    config = dict(recipe.network)
    name, space_to_depth = config.pop("class", "UNet2DModel"), config.pop("space_to_depth", 1)
    if name not in ("UNet2DModel", "UNet2DConditionModel"):
        raise UserError(f"The recipe's network.class is {name}: use UNet2DModel or UNet2DConditionModel.")
    if not isinstance(space_to_depth, int) or space_to_depth < 1:
        raise UserError(f"The recipe's network.space_to_depth is {space_to_depth!r}: use a whole number from 1 up.")
    for key, channels in (("in_channels", in_channels), ("out_channels", 3)):
        if config.get(key, channels) != channels:
            raise UserError(f"The recipe's network.{key} is {config[key]}: {recipe.stage} needs {channels}.")
        config[key] = channels * space_to_depth**2
    kind = getattr(diffusers, name)
    with torch.device("meta"):
        tried = inflate(build(kind, config), temporal="none", space_to_depth=space_to_depth)
    try:
        run_once(tried)
    except UserError as error:
        raise UserError(f"The recipe's network cannot be used, {error}: correct its keys.") from None
    return inflate(build(kind, config), temporal="none", space_to_depth=space_to_depth)


def start_network(recipe: Recipe, in_channels: int = 3) -> VideoUNet:
    """The diffusion network that a stage begins with: `init_from`, or one from scratch; inflated for clips.

    Args:
        in_channels: of a network from scratch, in pixels.

    Raises:
        UserError: no such network, or its temporal layers are of another kind than the recipe asks for.
    """
    network: Any
    if recipe.init_from is None:
        network = build_unet(recipe, in_channels)
    else:
        network = load_network(recipe.init_from, "network to start from").float()
    if network.out_channels != 3 and recipe.codec is None:
        raise UserError(f"The network in {recipe.init_from} makes latents: add codec, the folder of what they are of.")
    has, wanted = network.config.temporal, recipe.temporal
    if recipe.video and has == "none":
        network = inflate(network, wanted or "pseudo3d")
    elif wanted not in (None, has):
        raise UserError(
            f"The network in {recipe.init_from} has temporal layers of the kind {has} and the recipe asks for "
            f"{wanted}: start from a 2-D network, or take temporal out of the recipe."
        )
    return network.to(memory_format=torch.channels_last)


def codec_class(folder: str) -> Any:
    """Of the codec in a folder, whose config.json names it. Raises UserError where there is none."""
    import diffusers

    try:
        kind = json.loads((Path(folder) / "config.json").read_text())["_class_name"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"There is no codec at {folder} (config.json names none): correct the path.") from None
    if kind not in CLASSES:
        raise UserError(f"A {kind} cannot be the codec: use one of {', '.join(CLASSES)}.")
    return getattr(diffusers, kind)


def in_latents(codec: Any, x: Tensor) -> Tensor:
    """What a network works on, of frames (batch, frames, 3, h, w)."""
    if codec is None:
        return x
    with torch.no_grad():
        return encode(codec, x)


@torch.no_grad()
def in_frames(codec: Any, made: Tensor) -> Tensor:
    """The frames that a network's samples are."""
    return made if codec is None else torch.cat(list(decode(codec, made)), 1)


def embedding_dim(config: Any) -> int:
    """Length of the image embeddings that a network of this config is told."""
    return int((config.conditioning or {}).get("dim") or config.unet_config["encoder_hid_dim"])


def check_tower(network: VideoUNet, tower: Any, folder: str | None) -> None:
    """Raises UserError where the embeddings of an image tower are not those that a network is told."""
    config = network.config
    takes = (config.conditioning or {}).get("dim") or config.unet_config.get("encoder_hid_dim")
    if takes != tower.config.projection_dim:
        raise UserError(
            f"The image encoder {folder} gives {tower.config.projection_dim} numbers, and the network takes {takes}: "
            "name the one that it belongs to, or set network.encoder_hid_dim."
        )


def load_codec(recipe: Recipe, network: VideoUNet, device: torch.device) -> Any:
    """The codec that the recipe names, frozen; None: it names none.

    Raises:
        UserError: no such codec, or one of other latents than the network makes.
    """
    if recipe.codec is None:
        return None
    codec = load_folder(codec_class(recipe.codec), recipe.codec, "codec")
    if codec.config.latent_channels != network.out_channels:
        raise UserError(
            f"The codec in {recipe.codec} makes latents of {codec.config.latent_channels} channels and the network "
            f"{network.out_channels}: take the codec that belongs to it."
        )
    return codec.to(device).eval().requires_grad_(False)


def make_trainable(network: Any, recipe: Recipe) -> None:
    """Freeze what the recipe keeps, and recompute in the backward pass where it says so; in place."""
    if recipe.lora_rank:
        add_lora(network, recipe.lora_rank)  # all else stays from here
    if recipe.train == "temporal":
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(is_temporal(name) or "lora_" in name or is_new(name, recipe))
    if recipe.gradient_checkpointing:
        network.enable_gradient_checkpointing()


def is_new(name: str, recipe: Recipe) -> bool:
    """Whether the weight of this name is one of F-up's own: where it sees more than D_t, and says something else."""
    parts = ("conv_in", "conv_out", "pixel_path", "pixel_modulation")
    return recipe.stage == "interpolator" and name.startswith(tuple(f"{part}." for part in parts))


def all_parameters(network: Any, recipe: Recipe) -> list[dict]:
    """One parameter group, of all weights that learn."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    return [{"params": parameters, "lr": recipe.optim.learning_rate}]


def temporal_and_spatial(network: Any, recipe: Recipe) -> list[dict]:
    """Parameter groups of a video network: what inflation added, and what is pretrained, at `pretrained_scale`."""
    optim = recipe.optim
    temporal = {"params": list(network.temporal_parameters()), "lr": optim.learning_rate}
    if recipe.lora_rank:
        learnt = list(lora_weights(network).values())
        return [{"params": learnt, "lr": optim.learning_rate}, *([temporal] if recipe.train == "temporal" else [])]
    if recipe.train == "temporal":
        return [temporal]
    rate = optim.learning_rate * optim.pretrained_scale
    return [temporal, {"params": list(network.spatial_parameters()), "lr": rate}]


def save_network(network: Any, component: str, shift: float, folder: Path) -> None:
    """The network in half precision and the scheduler that it is sampled with, in the diffusers layout.

    Args:
        component: the network's name in a pipeline.
        shift: of the noise levels, see `sampling.make_scheduler`.
    """
    network.half().save_pretrained(folder / component)
    make_scheduler(shift).save_pretrained(folder / f"{component}_scheduler")


def save_additions(network: Any, recipe: Recipe, folder: Path) -> None:
    """What was learnt beside weights that stayed: `motion_module.safetensors`, `lora.safetensors`, or both."""
    if recipe.train == "temporal":
        save_motion_module(network, folder / MOTION_MODULE)
    if recipe.lora_rank:
        save_lora(network, folder / LORA)


@contextmanager
def written_whole(folder: Path, remedy: str) -> Iterator[Path]:
    """A temporary folder to save networks into; it takes the place of `folder` when whole.

    remedy: what to do if it cannot be written.

    Raises:
        UserError: it cannot be written; what was in `folder` before is as it was.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with quiet_libraries():
            yield partial
        forget_places(partial)
        let_others_read(partial)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f"{folder} cannot be written ({why(error)}): {remedy}.") from None
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def why(error: OSError | SafetensorError) -> str:
    """The system's reason why a file cannot be written; safetensors hides it in its text."""
    hidden = re.search(r"I/O error: (.*) \(os error", str(error))
    return hidden[1] if hidden else getattr(error, "strerror", None) or str(error)


def forget_places(folder: Path) -> None:
    """Take out of every configuration in a folder where its network was loaded from, in place.

    diffusers and transformers write that down, `_name_or_path`: a path of the machine that trained it.
    """
    for file in sorted(folder.rglob("*.json")):
        values = json.loads(file.read_text("utf-8"))
        kept = without_places(values)
        if kept != values:
            file.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", "utf-8")


def without_places(value: Any) -> Any:
    """JSON values without the paths that something was loaded from, at any depth."""
    if isinstance(value, dict):
        places = [key for key in ("_name_or_path", "name_or_path") if isinstance(value.get(key), str)]
        return {key: without_places(item) for key, item in value.items() if key not in places}
    return [without_places(item) for item in value] if isinstance(value, list) else value


def of_weights(network: Any) -> str:
    """A hash of a network's weights."""
    digest = hashlib.blake2b(digest_size=8)
    for name, weight in sorted(network.state_dict().items()):
        digest.update(name.encode() + weight.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()
