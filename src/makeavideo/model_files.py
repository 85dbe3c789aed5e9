"""A model's folder as files: what can be seen of damage, and of what the model can do, before anything heavy is loaded.

Every json is parsed, with a bound on its size and depth, and every safetensors header is read and held against the
length of its file. It takes milliseconds, and neither torch nor diffusers.
"""

import json
import math
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from .config_numbers import fault_in, numbers_in
from .errors import UserError
from .figures import shrinkage
from .kinds import is_whole
from .nesting import SHORT, levels
from .prompts import check_text
from .shapes import LARGEST as LARGEST_SIDE
from .shapes import Shapes, shapes_from

NETWORKS = (
    "text_projection",
    "image_encoder",
    "prior",
    "decoder",
    "interpolator",
    "super_resolution_low",
    "super_resolution_high",
)
SCHEDULERS = tuple(f"{name}_scheduler" for name in NETWORKS[2:])
EXTRAS = ("tokenizer", "text_encoder", "wordings", "codec", "super_resolution_low_last")
"""Without the first two there are no prompts."""
PAIRS = (("tokenizer", "text_encoder"), *((name, f"{name}_scheduler") for name in NETWORKS[4:]))
"""May lack, but only both together: F-up and super-resolution, as the text encoder."""
LEFT_OUT = ("text_projection", "image_encoder")
"""May lack where the file says so: CLIP needs no projection, and prompts no image tower."""
LIBRARIES = (
    "diffusers",
    "transformers",
    *(f"makeavideo.{module}" for module in ("encoders", "inflation", "super_resolution", "wordings")),
)
"""Where a component's class may come from: nothing else is imported because a file says so."""

DEPTH = 64
"""Levels of nested json that are read: real files have less than ten."""
JSON_BYTES, HEADER_BYTES = 64 * 2**20, 100 * 2**20
TRAIN_TIMESTEPS = 100_000
"""A scheduler keeps a few numbers for each."""
BITS = {"BOOL": 8, "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8}
BITS |= {"F8_E4M3": 8, "F8_E5M2": 8}
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")

Index = dict[str, tuple[str, str] | None]
"""Component -> library and class, of model_index.json; None: there is none."""
Tensors = dict[str, dict[str, Any]]
"""Name -> what the file's header says of the tensor: shape, dtype, data_offsets."""


def damaged(file: Path, fault: str, remedy: str = "download it again") -> NoReturn:
    """Raises the sentence of a file of a model that cannot be used."""
    raise UserError(f"The model cannot be loaded ({file}: {fault}): {remedy}.")


def check_model(folder: Path, variant: str | None = None) -> Index:
    """Looks at every file of a pipeline's folder, and says what components it has.

    variant: of the weights' files, such as "fp16"; None: those that name none.

    Raises:
        UserError: no such folder, no pipeline in it, pickled weights, a file that is missing or damaged, or no weights
            of this variant.
    """
    check_variant(variant)
    check_text(str(folder), f"The model's folder {folder}")  # safetensors opens no other
    if not os.path.lexists(folder / "model_index.json"):
        raise UserError(
            f"There is no model at {folder} (no model_index.json): give the folder of a MakeAVideoPipeline, such as "
            "models/emoji of the project's repository, run `pip install makeavideo[emoji]`, or train one with "
            "`make-a-video train`."
        )
    index = read_index(folder / "model_index.json")
    for name, entry in index.items():
        if entry is not None:
            check_component(folder / name, variant)
    if index["tokenizer"] is not None and not any(any((folder / "tokenizer").glob(name)) for name in VOCABULARIES):
        damaged(folder / "tokenizer" / "tokenizer.json", "the file is missing")
    shapes_of(folder, index)
    check_fit(folder, index)
    return index


def check_variant(variant: Any) -> None:
    """Raises UserError where it is no name of one."""
    if variant is not None and not (isinstance(variant, str) and variant):
        raise UserError(f"The variant {SHORT.repr(variant)} is not possible: give its name, such as fp16, or none.")


def read_index(file: Path) -> Index:
    """model_index.json. Raises UserError where a component lacks, or is of a library that has none of ours."""
    values = read_config(file)
    if not isinstance(values.get("_class_name"), str):
        damaged(file, "it names no class of a pipeline")
    if not isinstance(values.get("sampling", {}), dict | None):
        damaged(file, "`sampling` is no table of names and numbers")
    index: Index = {}
    optional = {*EXTRAS[2:], *chain(*PAIRS)}
    for name in (*NETWORKS, *SCHEDULERS, *EXTRAS):
        entry = values.get(name)
        if entry is None or entry == [None, None]:
            if name not in optional and not (name in LEFT_OUT and entry is not None):
                damaged(file, f"it has no {name}", "give the folder of a MakeAVideoPipeline, or download it again")
            index[name] = None
            continue
        if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(part, str) and part for part in entry):
            damaged(file, f"{name} is no pair of library and class")
        if entry[0] not in LIBRARIES:
            damaged(file, f"{name} is of {entry[0]!r}, from which nothing is loaded", "use a model that you trust")
        index[name] = (entry[0], entry[1])
    for one, other in PAIRS:
        if (index[one] is None) != (index[other] is None):
            damaged(file, f"of {one} and {other} it has one, without the other")
    return index


def check_component(folder: Path, variant: str | None = None) -> None:
    """All files of a component that will be read: config, weights of the variant, words."""
    name = folder.name
    scheduler, tokenizer = name in SCHEDULERS, name == "tokenizer"
    config = folder / (
        "scheduler_config.json" if scheduler else "tokenizer_config.json" if tokenizer else "config.json"
    )
    for file in sorted({config, *folder.glob("*.json")}):
        read_json(file)
    for file in sorted(folder.glob("*.txt")):
        read_text(file)
    values = read_config(config)
    if scheduler:
        steps = values.get("num_train_timesteps", 1000)
        if not is_whole(steps) or not 1 <= steps <= TRAIN_TIMESTEPS:
            damaged(config, f"num_train_timesteps is {str(steps)[:40]}, not a number from 1 to {TRAIN_TIMESTEPS:,}")
        if (fault := fault_in(values, network=False)) is not None:
            damaged(config, fault)
    elif not tokenizer:
        if values.get("quantization_config") is not None:
            damaged(config, "its weights are quantized", "save it with weights in floating point")
        if (adapter := folder / "adapter_config.json").exists():  # it would name another model to be read instead
            damaged(adapter, "an adapter beside the weights is not read", "merge it into them, or remove the file")
        check_numbers(config, values, len(tensors_of(folder, variant)))


def check_numbers(config: Path, values: dict[str, Any], tensors: int) -> None:
    """A network of n layers has n tensors at least: a config with more of them would be built for hours."""
    if (fault := fault_in(values)) is not None:
        damaged(config, fault)
    for key, value in numbers_in(values):
        if ("layers" in key or key == "depth") and value > tensors:
            damaged(config, f"{key} is {value}, but the weights are {tensors} tensors")


def check_fit(folder: Path, index: Index) -> None:
    """What one network gives the next one takes: parts of several models do not. Raises UserError."""
    parts = [name for name in (*NETWORKS, *EXTRAS[1:3], EXTRAS[4]) if index[name] is not None]
    configs = {name: read_config(folder / name / "config.json") for name in parts}
    text, picture = ("text_encoder", "hidden_size"), ("image_encoder", "projection_dim")
    pixels = {name: 3 for name in NETWORKS}
    if index["codec"] is not None:
        pixels |= dict.fromkeys(("decoder", "interpolator"), codec_of(folder / "codec")[0])
    takes = {"text_embed_dim": text, "embedding_proj_dim": text, "image_embed_dim": picture, "embedding_dim": picture}
    for name, values in configs.items():
        file, unet, patch = folder / name / "config.json", values.get("unet_config"), values.get("space_to_depth", 1)
        inner = unet if isinstance(unet, dict) else {}
        for key, (giver, given) in {**takes, "encoder_hid_dim": picture}.items():
            value, other = {**values, **inner}.get(key), configs.get(giver, {}).get(given)
            if None not in (value, other) and value != other:
                says = f"{given} in {folder / giver / 'config.json'} is {str(other)[:40]}"
                damaged(file, f"{key} is {str(value)[:40]}, but {says}")
        channels = inner.get("out_channels")
        if channels is not None and is_whole(patch) and channels != pixels.get(name, 3) * patch**2:
            damaged(file, f"out_channels is {str(channels)[:40]}, which are no pictures at a space_to_depth of {patch}")


def codec_of(folder: Path) -> tuple[int, int]:
    """Of a codec's folder: channels of its latents, and pixels along each side of one. Raises UserError."""
    file = folder / "config.json"
    values = read_config(file)
    channels: Any = values.get("latent_channels")
    blocks = values.get("block_out_channels")
    if not is_whole(channels) or not isinstance(blocks, list) or not 1 <= len(blocks) <= 8:
        damaged(file, "latent_channels is no whole number, or block_out_channels no list of 1 to 8")
    return channels, shrinkage(blocks)


def shapes_of(folder: Path, index: Index) -> Shapes:
    """What shapes of frames the cascade makes, as `Cascade.shapes`. Raises UserError."""
    pixels = ("decoder", "interpolator", "super_resolution_low", "super_resolution_high")
    configs = {name: read_config(folder / name / "config.json") for name in pixels if index[name] is not None}
    file, unet = folder / "decoder" / "config.json", configs["decoder"].get("unet_config")
    side: Any = unet.get("sample_size") if isinstance(unet, dict) else None
    sides, patch = side if isinstance(side, list) else [side, side], configs["decoder"].get("space_to_depth", 1)
    if len(sides) != 2 or not all(is_whole(number) and number >= 1 for number in (*sides, patch)):
        damaged(file, "unet_config.sample_size and space_to_depth are no whole numbers from 1 up")
    shrink = 1 if index["codec"] is None else codec_of(folder / "codec")[1]
    if max(sides) * patch * shrink > LARGEST_SIDE:
        asks = f"{max(sides) * patch * shrink} pixels a side, more than {LARGEST_SIDE}"
        damaged(file, f"it asks for pictures of {asks}")
    for name, config in configs.items():
        check_grain(folder / name / "config.json", config)
    sampling = read_config(folder / "model_index.json").get("sampling") or {}
    return shapes_from(configs, shrink, sampling.get("any_shape") is not False)


def check_grain(file: Path, config: dict[str, Any]) -> None:
    """Raises UserError where a network does not say what its frames' sides are multiples of."""
    unet = config.get("unet_config")
    if "unet_config" not in config:
        numbers: tuple[Any, ...] = (config.setdefault("patch", 1),)
    else:
        blocks = unet.get("block_out_channels") if isinstance(unet, dict) else None
        if not isinstance(blocks, list) or not 1 <= len(blocks) <= 16:
            damaged(file, "unet_config.block_out_channels is no list of 1 to 16")
        config.setdefault("unet_class", None)
        numbers = (config.setdefault("space_to_depth", 1),)
    if not all(is_whole(number) and 1 <= number <= LARGEST_SIDE for number in numbers):
        damaged(file, "space_to_depth or patch is no whole number from 1 up")


def knows_motion(folder: Path) -> bool:
    """Whether D_t was trained with a strength of motion. Raises UserError."""
    return read_config(folder / "decoder" / "config.json").get("motion") is not None


# ---------------------------------------------------------------------------------------------------------------------
# Files


@contextmanager
def opened(file: Path) -> Iterator[BinaryIO]:
    """A file to be read. Raises UserError where it is none (a pipe would be waited for without end), or unreadable."""
    if not file.is_file():
        damaged(file, "it is no file, or a link to nothing" if os.path.lexists(file) else "the file is missing")
    try:
        with open(file, "rb") as stream:
            yield stream
    except OSError as error:
        damaged(file, f"it cannot be read, {error.strerror or error}")


def read_bytes(file: Path, most: int, of: str) -> bytes:
    """A small file. Raises UserError where it is missing, empty, too large, or a pointer of Git LFS."""
    with opened(file) as stream:
        data = stream.read(most + 1)
        size = max(len(data), os.fstat(stream.fileno()).st_size)
    if data.startswith(b"version https://git-lfs"):
        damaged(file, "it is a pointer of Git LFS, not the file itself", "fetch the files with `git lfs pull`")
    if not data.strip():
        damaged(file, "the file is empty")
    if size > most:
        damaged(file, f"{size:,} bytes are too many for {of}")
    return data


def read_text(file: Path) -> str:
    """A text in UTF-8. Raises UserError."""
    try:
        return read_bytes(file, JSON_BYTES, "a list of words").decode()
    except UnicodeDecodeError:
        damaged(file, "it is no text in UTF-8")


def read_json(file: Path) -> Any:
    """A json of bounded size and depth. Raises UserError."""
    return parsed(file, read_bytes(file, JSON_BYTES, "a json"))


def read_config(file: Path) -> dict[str, Any]:
    """A json with names and values. Raises UserError."""
    values = read_json(file)
    if not isinstance(values, dict):
        damaged(file, "it is no json of names and values")
    return values


def parsed(file: Path, data: bytes) -> Any:
    """The json that a file holds."""
    try:
        values = json.loads(data.decode())  # as the libraries do, which take no byte order mark
    except RecursionError:
        damaged(file, f"it is nested more than {DEPTH} levels deep")
    except ValueError:  # no json, no UTF-8, a number of thousands of digits
        damaged(file, "it is no json, or cut off")
    if next(islice(levels(values), DEPTH, None), None):
        damaged(file, f"it is nested more than {DEPTH} levels deep")
    return values


def variant_of(file: Path) -> str | None:
    """What a file of weights says between its name, or number, and its ending: "fp16" of model.fp16.safetensors."""
    parts = re.sub(r"-\d{5}-of-\d{5}", "", file.name).split(".")
    return parts[1] if len(parts) > 2 else None


def variant_in(folder: Path) -> str | None:
    """The variant of a model that has only one; None where there are files that name none."""
    found = {variant_of(file) or "" for file in folder.rglob("*.safetensors")}
    return min(found, default="") or None


def weights_in(folder: Path, variant: str | None = None) -> list[Path]:
    """The safetensors files of a component, of one variant. Raises UserError where there are none."""
    files = sorted(folder.glob("*.safetensors"))
    found = [file for file in files if variant_of(file) == variant]
    if files and not found:
        other = variant_of(files[0])
        if other is None:  # as diffusers says it, so that who looks for its words finds them
            asked = f"You are trying to load the model files of the `variant={variant}`"
            raise UserError(f"{asked}, of which {folder} has none: leave out the variant.")
        damaged(folder, f"its weights are of the variant {other}", f"load it with variant={other!r}")
    pickles = [file for ending in ("*.bin", "*.pt", "*.pth", "*.ckpt") for file in sorted(folder.glob(ending))]
    if pickles and not found:
        raise UserError(f"The weights {pickles[0]} are pickled, which can run code: convert them to .safetensors.")
    if not found:
        damaged(folder, "its weights, a file .safetensors, are missing")
    return found


def tensors_of(folder: Path, variant: str | None = None) -> Tensors:
    """The tensors of all safetensors files in a component's folder, of one variant. Raises UserError."""
    headers = {file.name: header_of(file) for file in weights_in(folder, variant)}
    for file in folder.glob(f"*.safetensors.index{f'.{variant}' if variant else ''}.json"):
        check_shards(file, headers)
    return {name: entry for header in headers.values() for name, entry in header.items()}


def check_shards(index: Path, headers: dict[str, Tensors]) -> None:
    """What the index of weights in several files says of them. Raises UserError where it is not so."""
    values = read_config(index)
    shards = values.get("weight_map")
    if not isinstance(shards, dict) or not isinstance(values.get("metadata"), dict):
        damaged(index, "it has no tables `weight_map` and `metadata`")
    for name, shard in shards.items():
        if name not in headers.get(str(shard), ()):
            damaged(index, f"{name[:80]} is not in {str(shard)[:80]}, as it says")


def header_of(file: Path) -> Tensors:
    """The tensors of a safetensors file, which is as long as its header says. Raises UserError."""
    with opened(file) as stream:
        size = os.fstat(stream.fileno()).st_size
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(HEADER_BYTES, size - 8):
            read_bytes(file, size, "weights")  # empty, or a pointer: said so
            damaged(file, "it is no safetensors file, or cut off")
        header = parsed(file, stream.read(length))
    if not isinstance(header, dict):
        damaged(file, "its header is no table of tensors")
    told = header.get("__metadata__") or {}
    if not isinstance(told, dict) or not all(isinstance(text, str) for text in told.values()):
        damaged(file, "its __metadata__ is no table of texts")
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    places = sorted(place_of(file, name, entry) for name, entry in entries.items())
    if any(end != start for (_, end), (start, _) in pairwise([(0, 0), *places, (size - 8 - length, 0)])):
        damaged(file, "its tensors do not fill it: it is cut off, or has bytes too many")
    if not entries:
        damaged(file, "it holds no tensors")
    return entries


def place_of(file: Path, name: str, entry: Any) -> tuple[int, int]:
    """Where a tensor begins and ends, which fits its type and shape."""
    values = entry if isinstance(entry, dict) else {}
    kind, shape, place = (values.get(key) for key in ("dtype", "shape", "data_offsets"))
    if (
        not isinstance(kind, str)
        or kind not in BITS
        or not all(isinstance(part, list) and all(is_whole(n) and n >= 0 for n in part) for part in (shape, place))
        or len(place) != 2  # type: ignore[arg-type]
        or (place[1] - place[0]) * 8 != math.prod(shape) * BITS[kind]  # type: ignore[index,arg-type]
    ):
        damaged(file, f"its header is damaged at {name[:80]}")
    return place[0], place[1]  # type: ignore[index]


def let_others_read(folder: Path) -> None:
    """The weights in a folder that was written get the rights that the umask gives to any file.

    safetensors 0.8.0 leaves them to their owner alone (its issue 782): a model of one was no model to a colleague.
    """
    umask = os.umask(0o077)  # to read it is to set it
    os.umask(umask)
    for file in folder.rglob("*.safetensors"):
        with suppress(OSError):  # a disk that knows no rights
            file.chmod(0o666 & ~umask)
