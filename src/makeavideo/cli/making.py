"""What the five uses share on the command line: from the options to a file."""

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..included import default_model
from .options import console
from .progress import ProgressLine

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


class Command:
    """What the five uses share: check the output, load the cascade, stream the frames to the file.

    Everything that can be refused is refused before the cascade is loaded or the file is touched. Ctrl-C, SIGTERM and a
    full disk leave a playable file of the frames so far.

    Args:
        options: see `asked`.
        fast: the smallest size, if none is asked for.
        count: of videos; where there are several, each name has its seed.
    """

    def __init__(
        self,
        output: Path,
        model: Path | None,
        seed: int | None,
        options: dict[str, Any],
        fast: bool,
        machine: Machine,
        quality: int | None,
        quiet: bool,
        count: int = 1,
    ):
        from ..media.formats import check_writable
        from ..model_files import check_model, knows_motion, sizes_of
        from ..settings import settle

        seed = seed if seed is not None else int.from_bytes(os.urandom(4), "big")
        self.outputs = {seed: output}
        if count > 1:
            names = {one: f"{output.stem}-{one}{output.suffix}" for one in range(seed, seed + count)}
            self.outputs = {one: output.with_name(name) for one, name in names.items()}
        for one in self.outputs.values():
            check_writable(one, fps=options.get("fps"), quality=quality)
        self.options, self.machine, self.quality, self.quiet = options, machine, quality, quiet
        self.folder = model or default_model()
        index = check_model(self.folder)
        sizes, fills = sizes_of(self.folder, index), index["interpolator"] is not None
        if fast:
            self.options.setdefault("size", sizes[0])
        self.settings = settle(self.options, sizes, knows_motion(self.folder), fills)  # type: ignore[arg-type]
        self.started = time.monotonic()
        self.pipe: Any = None
        self.weights = ""

    def load(self):
        """The cascade, without progress bars of its own; once for all videos."""
        from ..loading import weights_hash
        from ..work import WatchedPipeline

        if self.pipe is None:
            how, self.weights = self.machine, weights_hash(self.folder)
            self.pipe = WatchedPipeline.load(self.folder, dtype=how.dtype, device=how.device, offload=how.offload)
            self.pipe.set_progress_bar_config(disable=True)
        return self.pipe

    def run(self, use: str, call, recipe: dict, given: int = 0, parts: int = 1) -> None:
        """`call(pipe, **options)` makes a video; `recipe` goes into the file.

        given: frames that exist already. parts: of a story.
        """
        for seed, output in self.outputs.items():
            with ProgressLine(console, self.quiet) as line:
                made = self.make(seed, output, line, use, call, recipe, given, parts)
            if not self.quiet:
                seconds, size = time.monotonic() - self.started, self.settings.size
                what = f"{output}: {made} frames of {size}x{size}"
                console.print(f"{what}, seed {seed}, {seconds:.1f} s", highlight=False, soft_wrap=True)
            self.started = time.monotonic()

    def make(self, seed: int, output: Path, line: ProgressLine, use: str, call, recipe: dict, given: int, parts: int):
        """The file; returns its number of frames."""
        import torch

        from ..loading import circumstances
        from ..media.writer import VideoWriter, terminate_as_interrupt
        from ..sampling import to_uint8
        from ..work import Work

        pipe, settings = self.load(), self.settings
        generator = torch.Generator().manual_seed(seed)
        recipe = {
            "use": use,
            **recipe,
            "seed": seed,
            "num_frames": settings.num_frames,
            "fps": settings.fps,
            "size": settings.size,
            "num_inference_steps": settings.num_inference_steps,
            "guidance_scale": settings.guidance_scale,
            "motion": settings.motion,
            "loop": settings.loop,
            "model": self.folder.name,
            "weights": self.weights,
            **circumstances(pipe),
        }
        line.begin(Work(use, settings, pipe, parts), settings.num_frames + given)
        pipe.watcher = line
        chunks = call(pipe, **self.options, generator=generator, output_type="stream").frames
        with terminate_as_interrupt():
            try:
                with VideoWriter(output, settings.fps, recipe, quality=self.quality) as writer:
                    for chunk in chunks:
                        for frame in to_uint8(chunk)[0]:
                            writer.write(frame)
                        line.on_written(writer.num_frames)
            except KeyboardInterrupt:
                made = writer.num_frames
                kept = f"{output} holds the first {made} frames" if made else "nothing was made yet"
                raise UserError(f"Stopped: {kept}.") from None
        return writer.num_frames
