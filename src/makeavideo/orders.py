"""One video that is asked for: from the words of a command to frames and their recipe, wherever they are made."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from .errors import UserError
from .settings import Settings

if TYPE_CHECKING:  # torch takes seconds, and what is impossible is refused at once
    import numpy as np

    from .work import Watcher

DTYPES = ("float32", "bfloat16", "float16")
OFFLOADS = ("model", "sequential")


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
        if self.device is not None and not re.fullmatch(r"[a-z]+(:\d+)?", self.device):
            raise UserError(f"--device {self.device} is not possible: choose cpu, cuda, cuda:1, mps ...")


@dataclass(frozen=True)
class Abilities:
    """What a model can be asked for, from its files alone."""

    sizes: tuple[int, ...]
    """Pixels a side that it can stop at."""
    motion: bool
    """Whether it was trained with a strength of motion."""
    fills: bool
    """Whether it has an F-up."""

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Raises UserError as `model_files.check_model` does."""
        from .model_files import check_model, knows_motion, sizes_of

        index = check_model(folder)
        return cls(sizes_of(folder, index), knows_motion(folder), index["interpolator"] is not None)

    def settle(self, options: dict[str, Any], fast: bool) -> Settings:
        """The options, settled; `fast` is the smallest size, if none is asked for, which it writes into them.

        Raises:
            UserError: as `settings.settle`.
        """
        from .settings import settle

        if fast:
            options.setdefault("size", self.sizes[0])
        return settle(options, self.sizes, self.motion, self.fills)  # type: ignore[arg-type]


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
        """What the file says of itself, but for the circumstances of the machine (`loading.circumstances`)."""
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

    def __init__(self, folder: Path, machine: Machine) -> None:
        from .loading import weights_hash
        from .work import WatchedPipeline

        self.folder, self.weights = folder, weights_hash(folder)
        self.pipe = WatchedPipeline.load(folder, dtype=machine.dtype, device=machine.device, offload=machine.offload)
        self.pipe.set_progress_bar_config(disable=True)

    def recipe(self, order: Order) -> dict[str, Any]:
        """All that the bytes of a file depend on, and where they were made."""
        from .loading import circumstances

        return {**order.recipe(self.folder.name, self.weights), **circumstances(self.pipe)}

    def frames(self, order: Order, call: Callable[..., Any], watcher: Watcher | None = None) -> Iterator[np.ndarray]:
        """The frames as they come, uint8 (a few, size, size, 3).

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
    size: int | None,
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
    import yaml

    try:
        parts = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        raise UserError(f"The story {path} cannot be read: give a YAML file.") from None
    shape = f"The story {path} is not a list of parts: write `- {{prompt: a rocket, seconds: 3}}`, a line a part."
    if not isinstance(parts, list) or not parts:
        raise UserError(shape)
    story = []
    for part in parts:
        if not isinstance(part, dict) or set(part) != {"prompt", "seconds"}:
            raise UserError(shape)
        prompt, seconds = part["prompt"], part["seconds"]
        if not isinstance(prompt, str) or not prompt.strip():
            raise UserError(f"A prompt of the story {path} is empty: say in a few words what to show.")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
            raise UserError(f"The story {path} gives {prompt!r} {seconds!r} seconds: use a number above 0.")
        story.append((prompt, float(seconds)))
    return story
