"""What the five uses share on the command line: from the options to a file."""

import os
import time
from pathlib import Path

from ..errors import UserError
from ..included import default_model
from .options import console
from .progress import ProgressLine


class Command:
    """What the five uses share: check the output, load the cascade, stream the frames to the file.

    Everything that can be refused is refused before the cascade is loaded or the file is touched. Ctrl-C, SIGTERM and a
    full disk leave a playable file of the frames so far.
    """

    def __init__(
        self,
        output: Path,
        model: Path | None,
        seed: int | None,
        num_frames: int | None,
        seconds: float | None,
        fps: float | None,
        size: int | None,
        steps: int | None,
        guidance: float,
        motion: float | None,
        loop: bool,
        fast: bool,
        quiet: bool,
    ):
        from ..media.formats import check_writable
        from ..model_files import check_model, knows_motion, sizes_of
        from ..settings import settle

        if fps is None:
            check_writable(output)
        else:
            check_writable(output, fps=fps)
        self.output, self.quiet = output, quiet
        self.folder = model or default_model()
        self.seed = seed if seed is not None else int.from_bytes(os.urandom(4), "big")
        if fast and num_frames is None and seconds is None:
            num_frames = 16
        self.options = {
            "num_inference_steps": (8 if fast else 16) if steps is None else steps,
            "guidance_scale": guidance,
            "loop": loop,
        }
        given = {"num_frames": num_frames, "seconds": seconds, "fps": fps, "size": size, "motion": motion}
        self.options |= {key: value for key, value in given.items() if value is not None}
        index = check_model(self.folder)
        sizes, fills = sizes_of(self.folder, index), index["interpolator"] is not None
        if fast:
            self.options.setdefault("size", sizes[0])
        self.settings = settle(self.options, sizes, knows_motion(self.folder), fills)  # type: ignore[arg-type]
        self.started = time.monotonic()

    def load(self):
        """The cascade, without progress bars of its own."""
        from ..work import WatchedPipeline

        pipe = WatchedPipeline.load(self.folder)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def run(self, use: str, call, recipe: dict, given: int = 0, parts: int = 1) -> None:
        """`call(pipe, **options)` makes the video; `recipe` goes into the file.

        given: frames that exist already. parts: of a story.
        """
        with ProgressLine(console, self.quiet) as line:
            made, settings = self.make(line, use, call, recipe, given, parts)
        if not self.quiet:
            seconds, size = time.monotonic() - self.started, settings.size
            what = f"{self.output}: {made} frames of {size}x{size}"
            console.print(f"{what}, seed {self.seed}, {seconds:.1f} s", highlight=False, soft_wrap=True)

    def make(self, line: ProgressLine, use: str, call, recipe: dict, given: int, parts: int):
        """The file; returns its number of frames and the pipeline's settings."""
        import torch

        from ..loading import weights_hash
        from ..media.writer import VideoWriter, terminate_as_interrupt
        from ..sampling import to_uint8
        from ..work import Work

        pipe = self.load()
        settings = pipe.settings(**self.options)
        generator = torch.Generator().manual_seed(self.seed)
        recipe = {
            "use": use,
            **recipe,
            "seed": self.seed,
            "num_frames": settings.num_frames,
            "fps": settings.fps,
            "size": settings.size,
            "num_inference_steps": settings.num_inference_steps,
            "guidance_scale": settings.guidance_scale,
            "motion": settings.motion,
            "loop": settings.loop,
            "model": self.folder.name,
            "weights": weights_hash(self.folder),
        }
        line.begin(Work(use, settings, pipe, parts), settings.num_frames + given)
        pipe.watcher = line
        chunks = call(pipe, **self.options, generator=generator, output_type="stream").frames
        with terminate_as_interrupt():
            try:
                with VideoWriter(self.output, settings.fps, recipe, keep_partial=True) as writer:
                    for chunk in chunks:
                        for frame in to_uint8(chunk)[0]:
                            writer.write(frame)
                        line.on_written(writer.num_frames)
            except KeyboardInterrupt:
                made = writer.num_frames
                kept = f"{self.output} holds the first {made} frames" if made else "nothing was made yet"
                raise UserError(f"Stopped: {kept}.") from None
        return writer.num_frames, settings
