"""The five uses over HTTP: named endpoints of Gradio's API, for curl and gradio_client. See docs/web.md."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr
from gradio.events import api as api_endpoint

from ..errors import UserError
from .jobs import Job
from .requests import INPUTS, Request, as_written, typed
from .studio import Studio, new_seed
from .uploads import Kind, Source

__all__ = ["add_endpoints"]

Size = int | str | list[int] | None
"""Pixels of the longest side, "256x144", or [height, width]; None: the page's own; 0: the largest."""
_COMMON = ("num_frames", "fps", "size", "loop", "motion", "num_inference_steps")
"""What all uses take."""


def source_of(studio: Studio, value: Any, kind: Kind) -> Source | None:
    """An input as a client gives it: an uploaded file (gradio_client's `handle_file`) or the name of a gallery item."""
    if value is not None and not isinstance(value, dict | str):
        raise UserError(f"The {kind} is {str(value)[:40]!r}: give an uploaded file, or the name of a gallery item.")
    if isinstance(value, dict):
        name = value.get("orig_name")
        return studio.uploads.accept(value.get("path"), kind, name if isinstance(name, str) else None)
    if isinstance(value, str) and value:
        if kind == "picture":
            return studio.frame(value, 0)
        return Source("gallery", studio.gallery.find(value).name, value)
    return None


def add_endpoints(studio: Studio) -> None:
    """Inside `gr.Blocks`: one endpoint a use, and stop, status and gallery."""
    api = Api(studio)
    uses = (api.generate, api.animate, api.interpolate, api.vary, api.extend)
    for endpoint in (*uses, api.stop, api.status, api.gallery):
        api_endpoint(endpoint, api_name=endpoint.__name__, concurrency_limit=None)


class Api:
    """The endpoints; their names, arguments and docstrings are what clients see."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def told(self, job: Job, place: int = 0) -> dict[str, Any]:
        answer = {
            "job": job.token,
            "state": job.state,
            "position": place,
            "stage": job.stage,
            "percent": round(100 * job.share),
            "seconds_left": None if job.seconds_left is None else round(job.seconds_left, 1),
            "preview": f"media/job/{job.token}/{job.version}.mp4" if job.version else None,
        }
        if job.result:
            item = self.studio.gallery.find(job.result)
            answer |= {"name": item.name, "video": f"media/gallery/{item.name}", "recipe": item.recipe}
        return answer

    async def run(
        self, caller: gr.Request, use: str, inputs: dict[str, Any], seed: int | None, **settings: Any
    ) -> AsyncIterator[dict]:
        try:
            # in a thread: a file may take seconds to look at, in which everybody else is to be served
            request = await asyncio.to_thread(self.asked, use, inputs, seed, settings)
            job = self.studio.submit(request, caller.client.host)
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None
        async for place, _ in self.studio.watch(job):
            if not job.over:
                yield self.told(job, place)
        if job.error:
            raise gr.Error(job.error, print_exception=False)
        yield self.told(job)

    def asked(self, use: str, inputs: dict[str, Any], seed: int | None, settings: dict[str, Any]) -> Request:
        """What a client wants, of which nothing is believed.

        Raises:
            UserError: something is of the wrong type, or no input.
        """
        maker, optional = self.studio.maker, ("motion", "size")
        usual = {"num_frames": maker.usual_frames, "size": maker.usual_size}
        settings |= {name: value for name, value in usual.items() if settings[name] is None}
        if type(settings["size"]) is int and not settings["size"]:  # the largest
            settings["size"] = None
        settings = {k: None if v is None and k in optional else typed(k, v) for k, v in settings.items()}
        chosen: int = new_seed() if seed is None else typed("seed", seed)
        found = {name: source_of(self.studio, inputs[name], kind) for name, kind in INPUTS[use].items()}
        sources = {name: source for name, source in found.items() if source is not None}
        if use == "extend" and not settings["fps"]:
            settings["fps"] = self.studio.rate(sources["video"]) if "video" in sources else 24.0
        return as_written(Request(use, chosen, sources, **settings))

    async def generate(
        self,
        caller: gr.Request,
        prompt: str,
        seed: int | None = None,
        num_frames: int | None = None,
        fps: float = 24.0,
        size: Size = None,
        loop: bool = False,
        guidance_scale: float = 2.0,
        num_inference_steps: int = 16,
        negative_prompt: str = "",
        motion: float | None = None,
    ) -> AsyncIterator[dict]:
        """Make a video from a sentence, or from a story: a sentence a line, each may end in "| 3 s"."""
        options = {k: v for k, v in locals().items() if k in (*_COMMON, "prompt", "guidance_scale", "negative_prompt")}
        async for answer in self.run(caller, "generate", {}, seed, **options):
            yield answer

    async def animate(
        self,
        caller: gr.Request,
        image: dict,
        prompt: str = "",
        seed: int | None = None,
        num_frames: int | None = None,
        fps: float = 24.0,
        size: Size = None,
        loop: bool = False,
        num_inference_steps: int = 16,
        prompt_weight: float = 0.3,
        fit: str = "crop",
        motion: float | None = None,
    ) -> AsyncIterator[dict]:
        """Set a picture in motion."""
        options = {k: v for k, v in locals().items() if k in (*_COMMON, "prompt", "prompt_weight", "fit")}
        async for answer in self.run(caller, "animate", {"image": image}, seed, **options):
            yield answer

    async def interpolate(
        self,
        caller: gr.Request,
        first: dict,
        last: dict,
        seed: int | None = None,
        num_frames: int | None = None,
        fps: float = 24.0,
        size: Size = None,
        loop: bool = False,
        num_inference_steps: int = 16,
        fit: str = "crop",
        motion: float | None = None,
    ) -> AsyncIterator[dict]:
        """Pass from one picture to another."""
        options = {k: v for k, v in locals().items() if k in (*_COMMON, "fit")}
        async for answer in self.run(caller, "interpolate", {"first": first, "last": last}, seed, **options):
            yield answer

    async def vary(
        self,
        caller: gr.Request,
        video: dict,
        seed: int | None = None,
        num_frames: int | None = None,
        fps: float = 24.0,
        size: Size = None,
        loop: bool = False,
        guidance_scale: float = 2.0,
        num_inference_steps: int = 16,
        fit: str = "crop",
        motion: float | None = None,
    ) -> AsyncIterator[dict]:
        """Make another video of the same meaning."""
        options = {k: v for k, v in locals().items() if k in (*_COMMON, "guidance_scale", "fit")}
        async for answer in self.run(caller, "vary", {"video": video}, seed, **options):
            yield answer

    async def extend(
        self,
        caller: gr.Request,
        video: dict,
        prompt: str = "",
        seed: int | None = None,
        num_frames: int | None = None,
        fps: float = 0.0,
        size: Size = None,
        loop: bool = False,
        num_inference_steps: int = 16,
        prompt_weight: float = 0.3,
        fit: str = "crop",
        motion: float | None = None,
    ) -> AsyncIterator[dict]:
        """Continue a video; fps 0 is the video's own."""
        options = {k: v for k, v in locals().items() if k in (*_COMMON, "prompt", "prompt_weight", "fit")}
        async for answer in self.run(caller, "extend", {"video": video}, seed, **options):
            yield answer

    def stop(self, job: str) -> dict:
        """End a job; only who has its token can."""
        found = self.studio.jobs.stop(job)
        if found is None:
            raise gr.Error("There is no such job.", print_exception=False)
        return self.told(found)

    def status(self) -> dict:
        """How long the queue is."""
        return {"waiting": self.studio.jobs.waiting, "limit": self.studio.jobs.limit}

    def gallery(self) -> list[dict]:
        """What was made, newest first."""
        return [
            {"name": item.name, "video": f"media/gallery/{item.name}", "recipe": item.recipe}
            for item in self.studio.newest()
        ]
