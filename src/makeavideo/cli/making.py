"""What the five uses share on the command line: from the options to a file."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..included import default_model
from ..orders import Abilities, Additions, Machine, Model, Order
from .options import console
from .progress import ProgressLine


class Command:
    """What the five uses share: check the output, load the cascade, stream the frames to the file.

    Everything that can be refused is refused before the cascade is loaded or the file is touched. Ctrl-C, SIGTERM and a
    full disk leave a playable file of the frames so far.

    Args:
        options: see `orders.asked`.
        fast: the smallest size, if none is asked for.
        count: of videos; where there are several, each name has its seed.
        keep: (height, width) of what is given, where the video is to have its shape.
        given: frames that exist already.
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
        keep: Callable[[], tuple[int, int]] | None = None,
        additions: Additions | None = None,
        given: int = 0,
    ):
        from ..media.formats import check_writable

        seed = seed if seed is not None else int.from_bytes(os.urandom(4), "big")
        self.outputs = {seed: output}
        if count > 1:
            seeded = {one: f"{output.stem}-{one}{output.suffix}" for one in range(seed, seed + count)}
            self.outputs = {one: output.with_name(name) for one, name in seeded.items()}
        # what is not there yet differs in its seed alone: to look at 100,000 names took a minute
        names = [*self.outputs.values()]
        looked_at = [names[0], *(one for one in names[1:] if one == names[-1] or os.path.lexists(one))]
        for one in looked_at:
            check_writable(one, quality=quality)
        self.options, self.machine, self.quality, self.quiet = options, machine, quality, quiet
        self.folder = model or default_model()
        self.settings = Abilities.of(self.folder).settle(self.options, fast, keep)
        for one in looked_at:
            check_writable(
                one, fps=self.settings.fps, size=self.settings.shape, num_frames=given + self.settings.num_frames
            )
        self.started = time.monotonic()
        self.model: Model | None = None
        self.additions, self.given = additions, given

    def run(self, use: str, call: Callable[..., Any], what: dict[str, Any], parts: int = 1) -> None:
        """`call(pipe, **options)` makes a video; `what` it is made of goes into the file.

        parts: of a story.
        """
        for seed, output in self.outputs.items():
            order = Order(use, what, self.options, self.settings, seed, parts)
            with ProgressLine(console, self.quiet) as line:
                made = self.make(order, output, line, call)
            if not self.quiet:
                seconds, shape = time.monotonic() - self.started, self.settings.shape
                said = f"{output}: {made} frames of {shape.width}x{shape.height}"
                console.print(f"{said}, seed {seed}, {seconds:.1f} s", highlight=False, soft_wrap=True)
            self.started = time.monotonic()

    def make(self, order: Order, output: Path, line: ProgressLine, call: Callable[..., Any]) -> int:
        """The file; returns its number of frames. The cascade is loaded once for all of them."""
        from ..media.writer import VideoWriter, terminate_as_interrupt

        if self.model is None:
            self.model = Model(self.folder, self.machine, self.additions)
        line.begin(order, self.model.pipe, self.given)
        recipe = self.model.recipe(order)
        with terminate_as_interrupt():
            try:
                with VideoWriter(output, self.settings.fps, recipe, quality=self.quality) as writer:
                    for frames in self.model.frames(order, call, line):
                        for frame in frames:
                            writer.write(frame)
                        line.on_written(writer.num_frames)
            except KeyboardInterrupt:
                made = writer.num_frames
                kept = f"{output} holds the first {made} frames" if made else "nothing was made yet"
                raise UserError(f"Stopped: {kept}.") from None
        return writer.num_frames
