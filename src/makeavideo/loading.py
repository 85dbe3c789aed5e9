"""A pipeline's folder: checked and loaded for the machine at hand, and told apart from others by its weights."""

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from inspect import signature
from os import PathLike
from pathlib import Path
from typing import Any, Self

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from safetensors import SafetensorError

from .additions import check_loras, check_scale
from .config_types import check_types
from .errors import UserError, in_a_line
from .inflation import VideoUNet
from .lora import load_loras
from .machine import PlacedPipeline, dtype_of, dtypes_of, usable_device
from .model_files import (
    SCHEDULERS,
    Index,
    check_model,
    check_variant,
    damaged,
    let_others_read,
    read_json,
    tensors_of,
    variant_in,
)
from .motion_module import load_motion_module
from .nesting import SHORT
from .quiet import quiet_libraries
from .sampling import check_scheduler, is_unclip
from .tryout import check_words, load_tokenizer, run_once, try_out

LOGGER = logging.getLogger("diffusers.pipelines.pipeline_utils")
"""Where diffusers tells the same of components that it loads itself."""


MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
OPTIONS = (
    "device_map",
    "disable_mmap",
    "local_files_only",
    "low_cpu_mem_usage",
    "max_memory",
    "offload_folder",
    "offload_state_dict",
    "quantization_config",
    "use_safetensors",
)
"""Of diffusers' `from_pretrained`, those that mean something for a folder on disk."""


def weights_hash(folder: str | Path) -> str:
    """First 16 hexadecimal digits of a hash over all weights of a pipeline folder."""
    digest = hashlib.blake2b()
    for file in sorted(Path(folder).rglob("*.safetensors")):
        digest.update(os.fsencode(file.relative_to(folder)))
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


LOOKED_AT = ContextVar("LOOKED_AT", default=False)
"""Whether the files of the folder that is being loaded are known to be whole."""


class CheckedPipeline(PlacedPipeline):
    """A pipeline of diffusers that comes from a folder on disk, and from there only if every file of it is whole."""

    card: Callable[[str], str] | None = None
    """The model card for a folder of that name, where the weights are known to be derived from others."""

    @classmethod
    def load(
        cls,
        folder: str | PathLike[str],
        *,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        offload: str | None = None,
        variant: str | None = None,
        motion_module: str | PathLike[str] | None = None,
        motion_module_scale: float = 1.0,
        loras: Sequence[tuple[str | PathLike[str], float]] = (),
    ) -> Self:
        """Ready to run.

        Args:
            folder: on disk, or else the id of a repository on the Hugging Face hub, which is then downloaded.
            dtype: of the networks that make pixels; the small ones stay in float32. None: the one that is fast here.
            device: None: a CUDA GPU where there is one, the processor otherwise.
            offload: "model" or "sequential" keeps the networks in the processor's memory while they do not run.
            variant: of the weights' files, such as "fp16".
            motion_module, motion_module_scale: what D_t knows of motion, see `motion_module.load_motion_module`.
            loras: files of LoRAs for D_t, with a strength each.

        Raises:
            UserError: as `from_pretrained`; also a device that is not there, or nothing to download; a motion module
                or a LoRA of another network.
        """
        check_scale(motion_module, motion_module_scale)
        check_loras(loras)
        device = usable_device(device, offload)
        if dtype is None:
            quick = device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
            dtype = torch.bfloat16 if quick else torch.float32
        fast = dtype_of(dtype)
        exact = dict.fromkeys(("text_encoder", "text_projection", "image_encoder", "prior", "wordings"), torch.float32)
        pipe = cls.from_pretrained(on_disk(folder), dtype={"default": fast, **exact}, variant=variant)
        if motion_module is not None:
            load_motion_module(pipe.decoder, str(motion_module), motion_module_scale)
        load_loras(pipe.decoder, loras)
        for name in ("decoder", "interpolator", *(f"super_resolution_{one}" for one in ("low", "low_last", "high"))):
            if (network := getattr(pipe, name)) is not None:
                network.to(memory_format=torch.channels_last)
        if offload == "model":
            pipe.enable_model_cpu_offload(device=device)
        elif offload == "sequential":
            pipe.enable_sequential_cpu_offload(device=device)
        return pipe if offload else pipe.to(device)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike[str], **options: Any) -> Self:
        """As diffusers' own, but nothing is downloaded, and no weight is ever a random number.

        Args:
            pretrained_model_name_or_path: the folder.
            options: `dtype`, one for all networks or a dict by component, with "default", float32 where nothing is
                said; `variant`, of the weights' files; components, and `sampling`, in place of the folder's. With
                others of diffusers' (`OPTIONS`), it is diffusers that reads what has been looked at.

        Raises:
            UserError: no such folder, no pipeline in it, a file that is missing, damaged or of something else, weights
                that are pickled, not those of the network, or no numbers; an impossible number in its config; an
                option that there is not, or that is impossible.
        """
        folder, variant = named_folder(pretrained_model_name_or_path), options.get("variant")
        parts = [name for name in signature(cls.__init__).parameters if name != "self"]
        for name in options.keys() - {"dtype", "torch_dtype", "variant", *OPTIONS, *parts}:
            raise UserError(f"There is no option {name!r} here: choose from dtype, variant, {', '.join(parts)}.")
        dtypes = dtypes_of(options.pop("dtype", options.pop("torch_dtype", None)), parts[:-1])
        for name in options.keys() & {*parts[:-1]}:
            check_part(name, options[name])
        index = {name: entry for name, entry in check_model(folder, variant).items() if name not in options}
        if options.keys() <= {"variant", *parts}:
            options.pop("variant", None)
            options |= load_components(folder, index, dtypes, variant)
            read = []
        else:
            options["dtype"] = dtypes
            read = check_components(folder, index, variant)
        token = LOOKED_AT.set(True)
        try:
            with quiet_libraries():
                pipe = super().from_pretrained(folder, **{**options, "use_safetensors": True, "local_files_only": True})
        except UserError as error:
            raise UserError(f"The model at {folder} cannot be run: {error}") from None
        finally:
            LOOKED_AT.reset(token)
        for name in read:
            check_finite(getattr(pipe, name), folder / name)
        return pipe

    def save_pretrained(self, save_directory: str | PathLike[str], **options: Any) -> None:  # type: ignore[override]
        """As diffusers' own, with the model card, README.md, where there is one.

        Raises:
            UserError: it cannot be written, or not so: no pickles are.
        """
        folder = named_folder(save_directory)
        check_variant(options.get("variant"))
        if not options.get("safe_serialization", True):
            raise UserError("Weights are written as safetensors, and pickles are read by nobody: leave out the option.")
        try:
            super().save_pretrained(folder, **options)
            for name in self.components:
                let_others_read(folder / name)
            if self.card is not None:
                (folder / "README.md").write_text(self.card(folder.resolve().name), "utf-8")
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or in_a_line(error)
            raise UserError(f"The model cannot be written to {folder} ({reason}): choose another place.") from error
        except (ValueError, TypeError) as error:
            raise UserError(f"The model cannot be written so ({in_a_line(error)}): correct the options.") from error

    def register_to_config(self, **values: Any) -> None:
        """As diffusers' own, and the last step of `DiffusionPipeline.from_pretrained`, which has looked at no file.

        Raises:
            UserError: as `from_pretrained`.
        """
        folder = values.get("_name_or_path")
        if folder is not None and not LOOKED_AT.get():
            folder = Path(folder)
            variant = variant_in(folder)
            for name in check_components(folder, check_model(folder, variant), variant):
                check_finite(getattr(self, name), folder / name)
        super().register_to_config(**values)


def named_folder(name: str | PathLike[str]) -> Path:
    """Raises UserError where it is no name."""
    if not isinstance(name, str | PathLike) or name == "":
        raise UserError(f"The model {SHORT.repr(name)} is no folder's name: give one, such as models/emoji.")
    return Path(name)


def on_disk(name: str | PathLike[str], files: Sequence[str] = MODEL_FILES) -> Path:
    """The folder, or these files of what the hub has under this id. Raises UserError where there is neither."""
    folder = named_folder(name)
    if folder.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)):
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        with quiet_libraries():
            return Path(snapshot_download(str(name), allow_patterns=list(files)))
    except LocalEntryNotFoundError:  # it asked nobody, or got no answer
        raise UserError(
            f"There is no folder {name}, and the Hugging Face hub cannot be reached for it: go online, or copy it here "
            "from where it has been downloaded, and give that folder."
        ) from None
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise UserError(f"There is no folder {name}, and the hub gives no such model ({reason}): check it.") from None


def load_components(
    folder: Path, index: Index, dtypes: Mapping[str, torch.dtype], variant: str | None = None
) -> dict[str, Any]:
    """The components of a folder that `check_model` has looked at, each by its library.

    Args:
        dtypes: of the networks, by name; "default" of the others.
        variant: of the weights' files.

    Raises:
        UserError: a component that its files do not give whole: it never gets random numbers in place of weights.
    """
    components: dict[str, Any] = {}
    for name, entry in index.items():
        if entry is None:
            continue
        component = class_of(folder, name, *entry)
        dtype = dtypes.get(name, dtypes.get("default", torch.float32))
        with named(folder / name):
            components[name] = load_component(component, folder / name, dtype, variant)
            LOGGER.info(f"Loaded {name} as {component.__name__} from `{name}` subfolder of {folder}.")
    if "tokenizer" in components and "text_encoder" in components:
        check_words(folder / "tokenizer", components["tokenizer"], components["text_encoder"].config.vocab_size)
    return components


@contextmanager
def named(folder: Path) -> Iterator[None]:
    """Around what reads a component: what a library stumbles over becomes a sentence, a UserError, about its file."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) and str(folder) in str(error):
            raise
        reason = in_a_line(error)
        config = "scheduler_config.json" if folder.name in SCHEDULERS else "config.json"
        try:
            damaged(folder if folder.name == "tokenizer" else folder / config, reason.rstrip("."))
        except UserError as sentence:
            raise sentence from error


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Around a check of what a file says: its sentence, which says what to do, begins with the file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def bases_of(name: str) -> tuple[type, ...]:
    """What a component can be."""
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    if name in SCHEDULERS:
        return (SchedulerMixin,)
    if name == "tokenizer":
        return (PreTrainedTokenizerBase,)
    return (VideoUNet,) if name in ("decoder", "interpolator") else (ModelMixin, PreTrainedModel)


def check_part(name: str, part: Any) -> None:
    """Raises UserError where something cannot be a component; None can, what needs it is then refused in use."""
    if not isinstance(part, (*bases_of(name), type(None))):
        kinds = " or ".join(kind.__name__ for kind in bases_of(name))
        raise UserError(f"A {type(part).__name__} cannot be the {name}: give a {kinds}, or None.")


def class_of(folder: Path, name: str, library: str, kind: str) -> Any:
    """The class of a component, one of those that can stand there."""
    found = getattr(import_module(library), kind, None)
    if not isinstance(found, type) or not issubclass(found, bases_of(name)):
        damaged(folder / "model_index.json", f"{library} has no {kind} that can be the {name}")
    return found


def load_component(component: Any, folder: Path, dtype: torch.dtype, variant: str | None) -> Any:
    """One component. Raises UserError, and whatever its library raises."""
    if issubclass(component, SchedulerMixin):
        scheduler: Any = component.from_pretrained(folder)
        try_out(type(scheduler).from_config(scheduler.config))
        if not is_unclip(scheduler):
            with naming(folder / "scheduler_config.json"):
                check_scheduler(scheduler)
        return scheduler
    if not hasattr(component, "state_dict"):
        return load_tokenizer(component, folder)
    check_tensors(component, folder, variant)
    options = {"dtype": dtype, "use_safetensors": True, "local_files_only": True, "variant": variant}
    with quiet_libraries():
        network, told = component.from_pretrained(folder, output_loading_info=True, **options)
        missing, unexpected = (
            sorted(key for key in told[kind] or () if not (folder.name == "text_encoder" and "pooler" in key))
            for kind in ("missing_keys", "unexpected_keys")  # a pooling layer is not used
        )
        compare(weights_of(folder), missing, unexpected)
    check_finite(network, folder)
    return network


def check_components(folder: Path, index: Index, variant: str | None) -> list[str]:
    """The networks of a folder, which have the tensors that their files hold. Raises UserError."""
    networks = []
    for name, entry in index.items():
        component = class_of(folder, name, *entry) if entry is not None else None
        if hasattr(component, "state_dict"):
            with named(folder / name):
                check_tensors(component, folder / name, variant)
            networks.append(name)
    return networks


def check_finite(network: Any, folder: Path) -> None:
    """Raises UserError where a weight is no number."""
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not tensor.float().isfinite().all():
            damaged(weights_of(folder), f"{name} holds numbers that are none (NaN or infinite)")


def check_tensors(component: Any, folder: Path, variant: str | None) -> None:
    """The network that the config describes has the tensors that the file holds, and no others, and can run.

    It is made without memory for its weights: a config of absurd sizes costs nothing. transformers gives some tensors
    other names while it reads, so of its networks the shapes alone are compared here.
    """
    of_diffusers: bool = issubclass(component, ModelMixin)
    made: Any = component
    with quiet_libraries(), torch.device("meta"):
        if of_diffusers:
            check_types(component, folder)
            network = made.from_config(read_json(folder / "config.json"))
        else:
            network = component(component.config_class.from_pretrained(folder, local_files_only=True))
    wanted = network.state_dict()
    found = tensors_of(folder, variant)
    if of_diffusers:
        compare(weights_of(folder), sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys()))
    both = sorted(wanted.keys() & found.keys())
    for name in both:
        if wanted[name].is_floating_point() and "F" not in found[name]["dtype"]:
            damaged(weights_of(folder), f"{name} holds whole numbers, which are no weights")
    for name in both:
        if tuple(wanted[name].shape) != tuple(found[name]["shape"]):
            damaged(weights_of(folder), f"its weights have another shape than its config.json says, {name} for one")
    run_once(network)


def compare(file: Path, missing: list[str], unexpected: list[str]) -> None:
    """Raises UserError where weights are not those of their network."""
    if missing:
        damaged(file, f"it lacks weights, {missing[0]} for one")
    if unexpected:
        damaged(file, f"it has weights that its config.json has no place for, {unexpected[0]} for one")


def weights_of(folder: Path) -> Path:
    """The file to name in a sentence about a component's weights."""
    files = sorted(folder.glob("*.safetensors"))
    return files[0] if len(files) == 1 else folder
