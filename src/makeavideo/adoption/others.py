"""What is said of what cannot be adopted: what it is, and what can be done with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..inflation import UNET_CLASSES, is_temporal
from ..model_files import header_of, read_config

KNOWN = "Kandinsky 2.2, Karlo (unCLIP) or Stable unCLIP"
INFLATE = "`makeavideo.inflate` makes its UNet a video network, to be trained with what it is told."
ADDITIONS = {
    "LoRA": "it is a LoRA, which changes the network that it was trained for. Load it into that pipeline with "
    "diffusers, fuse it (fuse_lora), save the pipeline, and adopt that one; one for an adopted network is for --lora.",
    "motion module": "it is a motion module, which is for --motion-module, beside the model that it was trained for.",
}
PICKLES = (".ckpt", ".bin", ".pt", ".pth")
LIKE_LORA = ("lora", "hada_", "lokr_")
"""In the names of their weights; LoHa and LoKr are of the same use."""


def values_of(file: Path) -> dict[str, Any] | None:
    """A json of names and values; None: there is none, or it is damaged."""
    try:
        return read_config(file)
    except UserError:
        return None


def of_pipeline(kind: str, index: Mapping[str, str], config: Mapping[str, Any], is_prior: bool) -> str:
    """Of a pipeline.

    Args:
        kind, index: its class, and those of its components.
        config: of its UNet.
        is_prior: whether its prior can be taken.
    """
    network = next((index[name] for name in ("transformer", "unet", "decoder") if name in index), None)
    if kind == "MakeAVideoPipeline":
        return "it is a Make-A-Video model already: use it with --model."
    if network is None and "prior" in index:
        todo = "give the decoder's pipeline, and this one with --prior" if is_prior else f"start from {KNOWN}"
        return f"it is a prior alone ({kind}){'' if is_prior else ' that nothing here fits'}: {todo}."
    name = f"DeepFloyd IF ({kind})" if kind.startswith("IF") else with_article(kind)
    if network is None:
        return f"it is {name}, of which nothing can be taken: start from {KNOWN}."
    if room_of(network) == "transformers":
        return f"it is {name}, whose network is a transformer, and only UNets can be inflated: start from {KNOWN}."
    if network not in UNET_CLASSES:
        return f"it is {name}, whose network, {with_article(network)}, cannot be inflated: start from {KNOWN}."
    return f"it is {name}, whose decoder is told {told(index, config)}: start from {KNOWN}. {INFLATE}"


def told(index: Mapping[str, str], config: Mapping[str, Any]) -> str:
    """What a UNet is told, by its config and by what its pipeline has beside it."""
    words = any(name.startswith(("text_encoder", "tokenizer")) for name in index)
    kinds = [str(config.get(key)) for key in ("addition_embed_type", "encoder_hid_dim_type")]
    if "text_proj" in index or any("image" in kind for kind in kinds):
        return f"{'words' if words else 'something else'} beside an image embedding"
    if words:
        return "words and no image embedding"
    return "pictures, and nothing makes of words what it takes" if "image_encoder" in index else "no words"


def with_article(kind: str) -> str:
    return f"an {kind}" if kind.startswith(("A", "E", "I", "O", "UnCLIP")) else f"a {kind}"


def room_of(kind: str) -> str | None:
    """Where diffusers has a network's class: unets, transformers, autoencoders ...; None: it has none of that name."""
    import diffusers

    try:
        found = getattr(diffusers, kind, None)
    except Exception:  # one that needs a library that is not installed
        return None
    parts = found.__module__.split(".") if isinstance(found, type) else []
    return parts[2] if parts[:2] == ["diffusers", "models"] else None


def addition_in(file: Path) -> str | None:
    """Which of ADDITIONS a file is, by the names of its tensors, or a pickle's own; None: none that can be seen."""
    if file.suffix in PICKLES:
        return "LoRA" if "lora" in file.name.lower() or file.name == "adapter_model.bin" else None
    try:
        names = header_of(file)
    except UserError:
        return None
    if any(part in name.lower() for name in names for part in LIKE_LORA):
        return "LoRA"
    return "motion module" if all(map(is_temporal, names)) else None


def of_folder(folder: Path, card: Mapping[str, Any]) -> str:
    """Of what is no pipeline's folder. card: what its model card says at the top."""
    if not folder.exists():
        return "there is no such folder, and it is no id of the Hugging Face hub."
    inside = [file for depth in ("*", "*/*") for file in folder.glob(depth) if file.is_file()]
    files = [folder] if folder.is_file() else inside
    kinds = {addition_in(file) for file in files if file.suffix in (".safetensors", *PICKLES)} - {None}
    tags = card.get("tags")
    if (folder / "adapter_config.json").is_file() or (isinstance(tags, list) and "lora" in tags):
        kinds.add("LoRA")
    if kinds:
        return ADDITIONS[min(map(str, kinds))]
    return of_file(folder) if folder.is_file() else of_network(folder)


def of_file(file: Path) -> str:
    """Of a single file that is no addition."""
    convert = "load it with diffusers' from_single_file and save it as a folder, and adopt that one."
    if file.suffix in PICKLES:
        return (
            f"it is a file of pickled weights, which can run code. If you trust it, and it is a whole model, {convert}"
        )
    if file.suffix != ".safetensors":
        return "it is no folder: give that of a diffusers pipeline."
    try:
        header_of(file)
    except UserError as error:
        return str(error)
    return f"it is a single file. If it is a whole model, {convert}"


def of_network(folder: Path) -> str:
    """Of a folder without model_index.json, which may be a network's."""
    if not (folder / "config.json").is_file():
        return "it has no model_index.json: give the folder of a diffusers pipeline."
    kind = (values_of(folder / "config.json") or {}).get("_class_name")
    if not isinstance(kind, str):
        return "it is a network alone: give the folder of a whole pipeline, with model_index.json."
    alone = f"it is {with_article(kind)} alone"
    if kind in UNET_CLASSES:
        return f"{alone}, without prior and encoders: `makeavideo.inflate` makes it a video network."
    room = room_of(kind)
    if room == "transformers" and kind != "PriorTransformer":
        return f"{alone}, a transformer, and only UNets can be inflated: start from {KNOWN}."
    if room == "unets":
        return f"{alone}, which cannot be inflated: start from {KNOWN}."
    return f"{alone}: give the folder of a whole pipeline, with model_index.json."
