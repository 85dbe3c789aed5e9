"""One video that is asked for: from the words of a command to frames and their recipe, wherever they are made."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from .additions import check_loras, check_scale
from .errors import UserError
from .figures import DTYPES, OFFLOADS
from .nesting import SHORT
from .prompts import check_prompt
from .settings import Settings
from .shapes import Shapes, Size

if TYPE_CHECKING:  # torch takes seconds, and what is impossible is refused at once
    import numpy as np

    from .work import Watcher


@dataclass(frozen=True)
class Machine:
    """Where a cascade runs, and in what precision; None: as is best.

    Raises:
        UserError: a name that is none.
    """

    dtype: str | None = None
    device: str | None = None
    offload: str | None = None

    def __post_init__(self) -> None:
        if self.dtype not in (None, *DTYPES):
            raise UserError(f"--dtype {self.dtype} is not possible: choose {', '.join(DTYPES)}.")
        if self.offload not in (None, *OFFLOADS):
            raise UserError(f"--offload {self.offload} is not possible: choose {', '.join(OFFLOADS)}.")
        if self.device is not None and not re.fullmatch(r"(cpu|cuda|mps|xpu|npu|hpu|mtia|xla)(:\d+)?", self.device):
            raise UserError(f"--device {self.device} is not possible: choose cpu, cuda, cuda:1, mps ...")


@dataclass(frozen=True)
class Additions:
    """What is put on top of a cascade's weights: a motion module with its scale, and LoRAs with a strength each.

    Raises:
        UserError: no such file, or no safetensors; an impossible scale or strength.
    """

    motion_module: Path | None = None
    motion_module_scale: float = 1.0
    loras: tuple[tuple[Path, float], ...] = ()

    def __post_init__(self) -> None:
        from .model_files import header_of

        check_scale(self.motion_module, self.motion_module_scale)
        check_loras(self.loras)
        for file, _ in self.files():
            if file.is_dir():
                inside = next(iter(sorted(file.glob("*.safetensors"))), None)
                todo = (
                    "and holds no .safetensors: check its name" if inside is None else f"name the file in it, {inside}"
                )
                raise UserError(f"{file} is a folder: {todo}.")
            if not file.is_file():
                raise UserError(f"There is no file {file}: check its name.")
            header_of(file)

    @classmethod
    def read(cls, motion_module: Path | None, scale: float, loras: Sequence[str] | None) -> Self:
        """As the command line has them; a LoRA is FILE or FILE:STRENGTH."""
        return cls(motion_module, scale, tuple(map(with_strength, loras or ())))

    def files(self) -> list[tuple[Path, float]]:
        """Each with its strength."""
        module = [] if self.motion_module is None else [(self.motion_module, self.motion_module_scale)]
        return [*module, *self.loras]

    def options(self) -> dict[str, Any]:
        """Of `MakeAVideoPipeline.load`."""
        scale = self.motion_module_scale
        return {"motion_module": self.motion_module, "motion_module_scale": scale, "loras": self.loras}

    def resolved(self) -> Additions:
        """With whole paths, for a process that works elsewhere."""
        module = None if self.motion_module is None else self.motion_module.resolve()
        loras = tuple((file.resolve(), strength) for file, strength in self.loras)
        return Additions(module, self.motion_module_scale, loras)

    def told(self) -> list[str]:
        """For people: each file, with its strength."""
        return [f"{file.name} ({strength:g})" for file, strength in self.files()]

    def recipe(self) -> dict[str, Any]:
        """For a video's recipe: names, hashes of the files, strengths; nothing where there is none."""
        told: dict[str, Any] = {}
        if self.motion_module is not None:
            told["motion_module"] = [*named(self.motion_module), self.motion_module_scale]
        if self.loras:
            told["lora"] = [[*named(file), strength] for file, strength in self.loras]
        return told


def with_strength(text: str) -> tuple[Path, float]:
    """FILE or FILE:STRENGTH. Raises UserError where what follows the colon is no number."""
    file, _, number = text.rpartition(":")
    if not file or Path(text).exists() or re.search(r"[/\\]", number):  # C:\look.safetensors
        return Path(text), 1.0
    try:
        return Path(file), float(number)
    except ValueError:
        raise UserError(f"--lora {text} is not possible: write FILE or FILE:0.8.") from None


def named(file: Path) -> tuple[str, str]:
    """A file's name and the first digits of its hash."""
    return file.name, hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Abilities:
    """What a model can be asked for, from its files alone."""

    shapes: Shapes
    """What frames it makes."""
    motion: bool
    """Whether it was trained with a strength of motion."""
    fills: bool
    """Whether it has an F-up."""

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Raises UserError as `model_files.check_model` does."""
        from .model_files import check_model, knows_motion, shapes_of

        index = check_model(folder)
        return cls(shapes_of(folder, index), knows_motion(folder), index["interpolator"] is not None)

    def settle(
        self, options: dict[str, Any], fast: bool, keep: Callable[[], tuple[int, int]] | None = None
    ) -> Settings:
        """The options, settled.

        Args:
            fast: the smallest size, if none is asked for; it is written into the options.
            keep: (height, width) of what the video is to have the shape of; it is written into them too.

        Raises:
            UserError: as `settings.settle` and `settings.keep_shape`.
        """
        from .settings import keep_shape, settle

        if fast:
            options.setdefault("size", self.shapes.sizes[0])
        if keep is not None:
            keep_shape(options, "keep", self.shapes, keep)  # type: ignore[arg-type]
        return settle(options, self.shapes, self.motion, self.fills)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Order:
    """One video, but for the model that makes it.

    use: generate, animate, interpolate, vary or extend.
    what: it is made of, as the recipe says it.
    options, settings: the pipeline's, and what becomes of them.
    parts: of a story.
    """

    use: str
    what: dict[str, Any]
    options: dict[str, Any]
    settings: Settings
    seed: int
    parts: int = 1

    def recipe(self, model: str, weights: str) -> dict[str, Any]:
        """What the file says of itself, but for the circumstances of the machine (`machine.circumstances`)."""
        settings = self.settings
        return {
            "use": self.use,
            **self.what,
            "seed": self.seed,
            "num_frames": settings.num_frames,
            "fps": settings.fps,
            "size": settings.size,
            "num_inference_steps": settings.num_inference_steps,
            "guidance_scale": settings.guidance_scale,
            "motion": settings.motion,
            "loop": settings.loop,
            "model": model,
            "weights": weights,
        }


class Model:
    """A cascade, loaded, without progress bars of its own.

    Raises:
        UserError: as `MakeAVideoPipeline.load`.
    """

    def __init__(self, folder: Path, machine: Machine, additions: Additions | None = None) -> None:
        from .loading import weights_hash
        from .work import WatchedPipeline

        self.folder, self.weights = folder, weights_hash(folder)
        self.additions = additions or Additions()
        self.pipe = WatchedPipeline.load(
            folder,
            dtype=machine.dtype,
            device=machine.device,
            offload=machine.offload,
            **self.additions.options(),
        )
        self.pipe.set_progress_bar_config(disable=True)

    def recipe(self, order: Order) -> dict[str, Any]:
        """All that the bytes of a file depend on, and where they were made."""
        from .machine import circumstances

        made = {**order.recipe(self.folder.name, self.weights), **self.additions.recipe()}
        return {**made, **circumstances(self.pipe)}

    def frames(self, order: Order, call: Callable[..., Any], watcher: Watcher | None = None) -> Iterator[np.ndarray]:
        """The frames as they come, uint8 (a few, height, width, 3).

        Args:
            call: call(pipe, **options) makes the video.
            watcher: is told how far it is.
        """
        import torch

        from .sampling import to_uint8

        self.pipe.watcher = watcher
        generator = torch.Generator().manual_seed(order.seed)
        for chunk in call(self.pipe, **order.options, generator=generator, output_type="stream").frames:
            yield to_uint8(chunk)[0]


Story = list[tuple[str, float]]


def generate(prompt: str | Story, negative: str | None) -> Callable[..., Any]:
    """The `call` of `Model.frames` that makes a video from a sentence, or from a story of (prompt, seconds)."""

    def call(pipe: Any, **options: Any) -> Any:
        if not isinstance(prompt, str):
            options.pop("seconds")  # the parts say how long they are
        return pipe(prompt, negative, **options)

    return call


def asked(
    num_frames: int | None,
    seconds: float | None,
    fps: float | None,
    size: Size | None,
    steps: int | None,
    guidance: float,
    motion: float | None,
    loop: bool,
    fast: bool,
) -> dict[str, Any]:
    """The pipeline's options from those of the command."""
    if fast and num_frames is None and seconds is None:
        num_frames = 16
    options = {
        "num_inference_steps": (8 if fast else 16) if steps is None else steps,
        "guidance_scale": guidance,
        "loop": loop,
    }
    given = {"num_frames": num_frames, "seconds": seconds, "fps": fps, "size": size, "motion": motion}
    return options | {key: value for key, value in given.items() if value is not None}


def read_story(path: Path) -> Story:
    """A YAML list of {prompt: ..., seconds: ...}.

    Raises:
        UserError: no such file, not YAML, or not such a list.
    """
    from .yaml_text import NotYaml, parse_yaml

    try:
        parts = parse_yaml(path.read_text("utf-8"))
    except NotYaml as error:
        raise UserError(f"The story {path} cannot be read, {error}: mend that.") from None
    except (OSError, ValueError):
        raise UserError(f"The story {path} cannot be read: give a YAML file.") from None
    shape = f"The story {path} is not a list of parts: write `- {{prompt: a rocket, seconds: 3}}`, a line a part."
    if not isinstance(parts, list) or not parts:
        raise UserError(shape)
    story = []
    for part in parts:
        if not isinstance(part, dict) or set(part) != {"prompt", "seconds"}:
            raise UserError(shape)
        prompt, seconds = part["prompt"], part["seconds"]
        check_prompt(prompt, f"A prompt of the story {path}", "say in a few words what to show")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
            raise UserError(
                f"The story {path} gives {SHORT.repr(prompt)} {SHORT.repr(seconds)} seconds: use a number above 0."
            )
        story.append((prompt, float(seconds)))
    return story
