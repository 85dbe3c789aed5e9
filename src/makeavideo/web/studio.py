"""The studio without its page: what the page and the API both call."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..media.inputs import open_video
from ..media.patience import within
from ..media.reader import probe, read_recipe
from ..orders import Additions
from .examples import Examples
from .gallery import Gallery, Item
from .jobs import Job, Jobs
from .maker import Maker
from .requests import Request, from_recipe
from .uploads import LOOK_SECONDS, Source, Uploads

__all__ = ["QUEUE", "Studio", "new_seed"]

QUEUE = 8
"""Videos that may wait."""
_LOOK = 0.2
"""Seconds between two looks at a job."""


def new_seed() -> int:
    """Of a size that people can note down."""
    return secrets.randbelow(10**6)


class Studio:
    """Gallery, uploads, queue and model.

    Args:
        model: folder of the pipeline.
        gallery: folder of what was made; the uploads go to `uploads` in it.
        queue: how many videos may wait.
        additions: on top of the model's weights.

    Raises:
        UserError: no such model, or a gallery that cannot be written.
    """

    def __init__(self, model: Path, gallery: Path, queue: int = QUEUE, additions: Additions | None = None) -> None:
        self.gallery = Gallery(gallery)
        self.uploads = Uploads(self.gallery.folder / "uploads", self.gallery)
        self.examples = Examples(self.uploads)
        self.maker = Maker(model, self.gallery, self.uploads, additions)
        self.jobs = Jobs(self.maker.make, queue)

    def submit(self, request: Request, client: str) -> Job:
        """Queue a request of a client, if it is possible.

        Raises:
            UserError: one sentence about what is not.
        """
        request.checked()
        for source in request.inputs.values():
            self.uploads.path(source)
        request = request.shaped(self.uploads, self.maker.shapes)
        self.maker.check(request)
        return self.jobs.submit(request.use, request, client)

    async def watch(self, job: Job) -> AsyncIterator[tuple[int, int]]:
        """(place in the queue, version of the preview) whenever something has changed, and once when all is over."""
        before: Any = None
        while not job.over:
            place = self.jobs.position(job)
            now = (place, job.version, job.stage, round(100 * job.share), job.state)
            if now != before:
                before = now
                yield place, job.version
            await asyncio.sleep(_LOOK)
        yield 0, job.version

    def rate(self, source: Source) -> float:
        """Frames a second of a video, within what can be made."""
        return min(60.0, max(1.0, probe(self.uploads.path(source)).fps))

    def frame(self, name: str, seconds: float) -> Source:
        """A frame of a video of the gallery, as an upload."""
        item = self.gallery.find(name)
        clip = open_video(self.gallery.path(name), (item.info.height, item.info.width))
        wanted = int(min(max(0.0, seconds), item.info.duration) * clip.fps + 1e-3)
        frame = next(clip.at([min(wanted, clip.num_frames - 1) / clip.fps]))
        return self.uploads.keep_frame(frame, f"{item.name[:-4][:50]} {seconds:.2f} s.png")

    def restore(self, file: Path, shown: str) -> tuple[Request, list[str]]:
        """The settings that a file carries.

        Raises:
            UserError: none, or none that can be followed.
        """
        try:
            with within(LOOK_SECONDS):
                recipe = read_recipe(file)
        except UserError:
            raise UserError(f"{shown} is not a video that was made here: drop an mp4, webm, gif or webp.") from None
        request, missing = from_recipe(recipe, self.uploads)
        try:
            self.maker.check(request)
        except UserError:  # of another model
            request = replace(request, size=self.maker.sizes[-1])
            self.maker.check(request)
        return request, missing

    def newest(self) -> list[Item]:
        return self.gallery.items()
