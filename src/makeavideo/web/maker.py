"""One job of the queue: from a request to a file in the gallery, watched while it is made, and stopped when asked."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..errors import UserError
from ..figures import KEY_FRAMES, MAX_FRAMES
from ..loading import weights_hash
from ..machine import circumstances
from ..media.patience import interrupt
from ..media.writer import VideoWriter, write_video
from ..orders import Additions
from ..sampling import to_uint8
from ..settings import Settings
from ..shapes import Shape, Shapes
from ..timeline import frame_skip
from ..work import WatchedPipeline, Work
from .gallery import Gallery
from .jobs import Job, Stopped
from .requests import Request
from .uploads import Uploads

__all__ = ["Maker"]

MOST_PIXELS = 4
"""Times those of a model's largest frames that a frame may have here: twice as high and wide, or four times as wide.
One request would otherwise take the memory that all share; whoever uses the command line has the machine to himself."""
_PREVIEW_SIDE = 256
_BEFORE = 48
"""Frames of a video that is continued, its last ones, with which the preview begins."""
_PREVIEW_PAUSE = 10
"""Times as long as encoding a preview took, until the next one."""


class StudioPipeline(WatchedPipeline):
    """The pipeline, with a look at the small frames on their way to super-resolution."""

    watcher: Attempt | None

    def between(self, keys: Iterator, s: Settings, skip: int, last_gap: int) -> Iterator[Tensor]:
        attempt = self.watcher
        if attempt is None:
            return super().between(keys, s, skip, last_gap)
        return attempt.watch_smooth(super().between(attempt.watch_keys(keys), s, skip, last_gap))


def shrink(frames: np.ndarray, shape: Shape) -> list[np.ndarray]:
    """uint8 (frames, height, width, 3) -> that many of this shape."""
    if frames.shape[1:3] == shape:
        return list(frames)
    size = (shape.width, shape.height)
    return [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR)) for frame in frames]


def look_of(shape: Shape) -> Shape:
    """A preview's: as large as can be shown quickly, with even sides, which mp4 needs."""
    scale = min(1.0, _PREVIEW_SIDE / max(shape))
    return Shape(*(max(2, 2 * round(side * scale / 2)) for side in shape))


@dataclass
class Attempt:
    """What there is of a video so far, in the versions that it goes through; frames are uint8 (height, width, 3)."""

    job: Job
    settings: Settings
    work: Work
    continues: bool = False
    """It continues a video, whose frames come first."""
    sketch: list[np.ndarray] = field(default_factory=list)
    keys: list[np.ndarray] = field(default_factory=list)
    smooth: list[np.ndarray] = field(default_factory=list)
    large: list[np.ndarray] = field(default_factory=list)
    """As far as it is finished, for the preview: at most _PREVIEW_SIDE pixels a side."""
    given: list[np.ndarray] = field(default_factory=list)
    """The frames of a video that is continued, small."""
    before: list[np.ndarray] = field(default_factory=list)
    """The last of them, as `large`."""
    _next_preview: float = 0.0
    _shown: str = ""
    _keys_begun: bool = False
    _sketched: list[np.ndarray] = field(default_factory=list)

    @property
    def key_rate(self) -> float:
        return self.settings.fps / frame_skip(self.settings.num_frames, self.settings.fps)

    # What the pipeline tells

    def on_stage(self, stage: str) -> None:
        self.work.begin(stage)
        self.job.stage = self.work.stage

    def on_step(self, stage: str, step: int, sample: Tensor) -> None:
        self.job.check()
        self.work.step(stage, sample)
        self.job.share, self.job.seconds_left = self.work.share, self.work.seconds_left
        if stage == "decoder" and self.shows(sample):
            if step == 0:  # of a story, the parts follow each other
                self._sketched = self.sketch
            self.sketch = self._sketched + list(to_uint8(sample)[0])
            self.show()

    def shows(self, chunk: Tensor) -> bool:
        """Whether it is frames and not latents, which would need the codec twice."""
        return self.work.model.codec is None

    def watch_keys(self, keys: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        self._keys_begun = True
        for number, (chunk, y_e) in enumerate(keys):
            # when a video is continued, its last frame is the first key frame
            new = chunk[:, 1:] if number == 0 and self.given else chunk
            self.keys += list(to_uint8(new)[0]) if self.shows(new) else []
            self.show()
            yield chunk, y_e

    def watch_smooth(self, chunks: Iterator[Tensor]) -> Iterator[Tensor]:
        for number, chunk in enumerate(chunks):
            if self.shows(chunk):
                self.smooth += list(to_uint8(chunk)[0])[1 if number == 0 and self.given else 0 :]
            self.show()
            yield chunk

    def add_large(self, frames: np.ndarray) -> None:
        """uint8 (frames, height, width, 3), the next ones of the finished video."""
        looks = shrink(frames, look_of(self.settings.shape))
        if self.continues and not self._keys_begun:  # the video itself, which is not news
            self.given += shrink(frames, self.settings.small)
            self.before = [*self.before, *looks][-_BEFORE:]
            return
        self.large += looks
        self.show()

    # What people see, and what is kept

    def small(self) -> tuple[list[np.ndarray], float, str]:
        """The best small version of what is new: its frames, frames a second, and name."""
        room = self.settings.num_frames
        if len(self.smooth) > 1 or (self.smooth and not self.keys):
            return self.smooth[:room], self.settings.fps, "smooth"
        few, name = (self.keys, "first") if len(self.keys) > 1 or not self.sketch else (self.sketch, "sketch")
        if not self.given:
            return list(few), self.key_rate, name
        skip = round(self.settings.fps / self.key_rate)
        return [frame for frame in few for _ in range(skip)][:room], self.settings.fps, name

    def large_is_best(self) -> bool:
        """The large version is kept once it has half of the frames that the small one has."""
        made = len(self.large)
        return made > 0 and (self.settings.stage == 0 or 2 * made >= min(len(self.smooth), self.settings.num_frames))

    def show(self) -> None:
        """A new preview, every frame in its best version: at once if it is a better one, otherwise now and then."""
        if self.large:
            rest = self.smooth[len(self.large) : self.settings.num_frames]
            more = shrink(np.stack(rest), look_of(self.settings.shape)) if rest else []
            before, new, fps, name = self.before, self.large + more, self.settings.fps, "large"
        else:
            before, (new, fps, name) = self.given[-_BEFORE:], self.small()
        too_few = not new or len(before) + len(new) < 2
        if too_few or (name == self._shown and time.monotonic() < self._next_preview):
            return
        started = time.monotonic()
        self.job.show(self.encoded(before + new, fps), name)
        self._shown = name
        self._next_preview = time.monotonic() + max(1.0, _PREVIEW_PAUSE * (time.monotonic() - started))

    def encoded(self, frames: list[np.ndarray], fps: float) -> bytes:
        """The bytes of an mp4."""

        def until_stop() -> Iterator[np.ndarray]:
            for frame in frames:
                self.job.check()
                yield frame

        with tempfile.TemporaryDirectory() as folder:
            return write_video(Path(folder) / "preview.mp4", until_stop(), fps).read_bytes()


class Maker:
    """Makes the videos of the queue, one after the other, with one model.

    Args:
        model: folder of the pipeline.
        additions: on top of its weights.
    """

    def __init__(self, model: Path, gallery: Gallery, uploads: Uploads, additions: Additions | None = None) -> None:
        self.gallery, self.uploads, self.model = gallery, uploads, model
        self.additions = additions or Additions()
        self.added = self.additions.recipe()
        self.pipe = StudioPipeline.load(model, **self.additions.options())
        self.pipe.set_progress_bar_config(disable=True)
        self.weights = weights_hash(model)
        self._job: Job | None = None
        # A step of a network may take many seconds: Stop is looked at before every layer.
        for network in self.pipe.components.values():
            if isinstance(network, nn.Module):
                for module in network.modules():
                    module.register_forward_pre_hook(lambda *_: self._check())

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.pipe.sizes

    @property
    def usual_size(self) -> int:
        """Pixels of the longest side where nobody has chosen: the second stage's, the larger ones take long."""
        return self.sizes[:2][-1]

    @property
    def usual_frames(self) -> int:
        """Of a video whose length nobody has chosen: as many as one pass of the networks makes."""
        return MAX_FRAMES if self.pipe.interpolator is not None else KEY_FRAMES

    @property
    def shapes(self) -> Shapes:
        return self.pipe.shapes

    @property
    def knows_motion(self) -> bool:
        """Whether the model takes a strength of motion."""
        return self.pipe.decoder.config.motion is not None

    def _check(self) -> None:
        if self._job is not None:
            self._job.check()

    def check(self, request: Request) -> Settings:
        """Raises UserError for what cannot be made, before it waits in the queue."""
        settings, largest = self.pipe.settings(**request.options()), self.shapes.settle(None)[0]
        made = max(settings.shape, settings.made, key=lambda shape: shape.side)  # what the networks make may be wider
        if made.side**2 > MOST_PIXELS * largest.side**2 + 1e-6:
            told = f"takes frames of {made.width}x{made.height}, too large to be made here"
            raise UserError(f"The size {settings.size} {told}: choose a smaller one, or one nearer to a square.")
        return settings

    def make(self, job: Job) -> str | None:
        """The work of `Jobs`: a file in the gallery, and its name."""
        request: Request = job.request
        settings = self.check(request)
        job.stage = "Starting"
        work = Work(request.use, settings, self.pipe, len(request.story) or 1)
        attempt = Attempt(job, settings, work)
        attempt.continues = request.use == "extend"
        generator = torch.Generator().manual_seed(request.seed)
        path = self.gallery.new_path(request.label)
        recipe = {**request.recipe(settings, self.model.name, self.weights), **self.added}
        recipe |= circumstances(self.pipe)
        self._job, self.pipe.watcher = job, attempt
        reading = interrupt.set(job.check)
        writer = VideoWriter(path, settings.fps, recipe, keep_partial=False)
        try:
            options = {**request.options(), "generator": generator, "output_type": "stream"}
            chunks = request.call(self.pipe, self.uploads, **options).frames
            for chunk in chunks:
                frames = to_uint8(chunk)[0]
                for frame in frames:
                    writer.write(frame)
                attempt.add_large(frames)
                job.check()
            writer.close()
        except Stopped:
            if attempt.large_is_best():
                writer.close()
                return path.name
            writer.abort()
            frames, fps, _ = attempt.small()
            if not frames:
                return None
            write_video(path, attempt.given + frames, fps, recipe)
        except UserError as error:
            writer.abort()
            raise request.without_paths(error, self.uploads) from None
        except BaseException:
            writer.abort()
            raise
        finally:
            interrupt.reset(reading)
            self._job = self.pipe.watcher = None
        job.share = 1.0
        return path.name
