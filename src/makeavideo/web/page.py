"""The page: five tabs, one a use, the video in the making beside them, and the gallery."""

import math
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from ..errors import UserError
from ..shapes import Shape
from . import html
from .api import add_endpoints
from .jobs import Job
from .requests import INPUTS, USES, Request, one_line
from .studio import Studio, new_seed
from .tab import MAKE, TITLES, Tab, build_tab, sizes_shown
from .uploads import Source

__all__ = ["make_page"]

_SHOWN = 12
"""Videos of the gallery at first, and more at a time."""
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}

Updates = dict[Any, Any]
"""Component -> its new value, or `gr.update`."""


def make_page(studio: Studio) -> gr.Blocks:
    """The page and the API."""
    with gr.Blocks(title="Make-A-Video", analytics_enabled=False) as blocks:
        page = Page(studio)
        add_endpoints(studio)
        for tab in page.built.values():
            page.wire_tab(tab)
        page.wire(blocks)
    # not beside the queue: a call that waits for nobody could not be bounded
    return blocks.queue(default_concurrency_limit=None, max_size=256, api_open=False)


class Page:
    """The components, and what happens when somebody presses one: methods `on_...` return what changes on the page.

    Made inside `gr.Blocks`, in which the components stand in the order in which they are made.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        gr.HTML("<h1>Make-A-Video</h1>" + html.additions(studio.maker.additions.told()))
        # the token of this browser's job: after a reload the page finds its video again
        self.held = gr.BrowserState("", storage_key="makeavideo-job", secret="makeavideo-job")
        self.shown = gr.State(_SHOWN)
        with gr.Row():
            with gr.Column(scale=6, min_width=320), gr.Tabs(elem_id="uses") as self.tabs:
                self.built: dict[str, Tab] = {}
                for use in USES:
                    with gr.Tab(TITLES[use], id=use):
                        self.built[use] = build_tab(use, studio.maker)
            with gr.Column(scale=5, min_width=320):
                self.message = gr.HTML(elem_id="message")
                self.view = gr.HTML(html.preview(None), elem_id="view", js_on_load=html.PICK)
                self.state = gr.HTML(elem_id="progress")
                self.stop = gr.Button("Stop and keep what there is", variant="stop", visible=False, elem_id="stop")
                self.restore = gr.File(
                    label="Settings from a file that was made here",
                    height=120,
                    elem_id="restore",
                    elem_classes="upload-settings upload",
                )
        gr.HTML("<h2>Gallery</h2>")
        self.cards = gr.HTML(elem_id="gallery", js_on_load=html.PICK)
        self.more = gr.Button("Show more", visible=False, elem_id="more")
        self.outputs = [self.held, self.message, self.view, self.state, self.stop, self.cards, self.more]

    # Which press calls what

    def wire_tab(self, tab: Tab) -> None:
        everything = [*self.outputs, *tab.inputs(), *tab.inputs_shown(), self.tabs]

        async def on_make(caller: gr.Request, token: str, count: int, *values: Any) -> AsyncIterator[Updates]:
            try:
                request = tab.request(values)
            except UserError as error:
                yield self.complain(error)
                return
            # a seed that was drawn is shown, so that the video can be made again
            yield {tab.fields["seed"]: request.seed}
            async for news in self.start(request, token, count, caller):
                yield news

        async def on_example(caller: gr.Request, token: str, count: int) -> AsyncIterator[Updates]:
            request = self.example(tab.use)
            yield self.settings_of(request)
            async for news in self.start(request, token, count, caller):
                yield news

        make = {"fn": on_make, "inputs": [self.held, self.shown, *tab.inputs()], "outputs": everything, **_QUIET}
        tab.make.click(**make)
        if tab.use == "generate":
            tab.fields["prompt"].submit(**make)
        tab.example.click(on_example, [self.held, self.shown], everything, **_QUIET)
        for name, upload in tab.uploads.items():

            def on_upload(path: str | None, name: str = name) -> Updates:
                return self.upload(tab, name, path)

            upload.upload(on_upload, [upload], everything, **_QUIET)

    def wire(self, blocks: gr.Blocks) -> None:
        tabs = self.built.values()
        fields = [one for tab in tabs for one in tab.inputs()] + [one for tab in tabs for one in tab.inputs_shown()]
        self.stop.click(self.on_stop, [self.held], [self.state], queue=False, **_QUIET)
        self.more.click(self.on_more, [self.shown], [self.shown, self.cards, self.more], **_QUIET)
        self.restore.upload(self.on_restore, [self.restore], [self.message, self.tabs, self.restore, *fields], **_QUIET)
        for where in (self.cards, self.view):
            where.click(self.on_pick, None, [self.message, self.tabs, *fields], **_QUIET)
        seeds = [tab.fields["seed"] for tab in tabs]
        blocks.load(self.on_load, [self.shown], [self.cards, self.more, *seeds], **_QUIET)
        blocks.load(self.on_return, [self.held, self.shown], self.outputs, **_QUIET)

    # A video, from the request to the gallery

    async def start(self, request: Request, token: str, count: int, caller: gr.Request) -> AsyncIterator[Updates]:
        """Queue a request and follow it. token: of the last job of this browser; count: videos of the gallery shown."""
        job = self.studio.jobs.find(token)
        if job is not None and not job.over:
            yield {self.message: html.notice("Your other video is still being made: wait for it, or stop it.")}
            return
        try:
            job = self.studio.submit(request, caller.client.host)
        except UserError as error:
            yield self.complain(error)
            return
        yield {
            self.held: job.token,
            self.message: "",
            self.view: html.preview(job),
            self.stop: gr.update(visible=True),
        }
        async for news in self.follow(job, count):
            yield news

    async def follow(self, job: Job, count: int) -> AsyncIterator[Updates]:
        """A job on the page, until it is over."""
        seen = -1
        async for place, version in self.studio.watch(job):
            news = {self.state: html.progress(job, place), self.stop: gr.update(visible=not job.over)}
            if version != seen and not job.over:
                seen = version
                news[self.view] = html.preview(job)
            yield news
        yield self.ended(job, count)

    def ended(self, job: Job, count: int) -> Updates:
        news = {self.held: "", self.state: "", self.stop: gr.update(visible=False), self.view: html.preview(None)}
        if job.error:
            return {**news, self.message: html.notice(job.error)}
        if job.result:
            news[self.view] = html.result(self.studio.gallery.find(job.result))
        told = "Your video is ready."
        if job.state == "stopped":
            told = "Stopped: the best version so far is kept." if job.result else "Stopped: nothing was made yet."
        return {**news, self.message: html.notice(told, good=True), **self.list_gallery(count)}

    async def on_return(self, token: str, count: int) -> AsyncIterator[Updates]:
        job = self.studio.jobs.find(token)
        if job is None:
            yield {self.state: ""}
            return
        async for news in self.follow(job, count):
            yield news

    def on_stop(self, token: str) -> Updates:
        self.studio.jobs.stop(token)
        return {self.state: html.notice("Stopping ...", good=True)}

    def complain(self, error: UserError) -> Updates:
        return {self.message: html.notice(str(error))}

    # What goes into the tabs

    def example(self, use: str) -> Request:
        common: dict[str, Any] = {"seed": 1, "num_frames": 16, "fps": 8.0, "num_inference_steps": 8}
        common["size"] = self.studio.maker.sizes[0]
        examples = self.studio.examples
        inputs = {
            "generate": {},
            "animate": {"image": examples.smile},
            "interpolate": {"first": examples.smile, "last": examples.frown},
            "vary": {"video": examples.nod},
            "extend": {"video": examples.nod},
        }[use]
        if use == "extend":
            common["fps"] = 24.0
        return Request(use, inputs=inputs, prompt="a happy dog" if use == "generate" else "", **common)

    def settings_of(self, request: Request) -> Updates:
        """Updates that put a request into its tab, and show that."""
        news = self.built[request.use].settings(request, self.studio.maker.sizes)
        return {**news, self.tabs: gr.update(selected=request.use)}

    def upload(self, tab: Tab, name: str, path: str | None) -> Updates:
        """A file has arrived as an input of a tab; no path: it was taken away."""
        if path is None:
            return {self.message: ""}
        try:
            source = self.studio.uploads.accept(path, INPUTS[tab.use][name])
        except UserError as error:
            return {**tab.chosen(name, None), **self.complain(error)}
        news = {**tab.chosen(name, source), self.message: ""}
        if tab.use == "extend":
            news[tab.fields["fps"]] = self.studio.rate(source)
        return news

    def restored(self, request: Request, missing: list[str]) -> Updates:
        told = "The settings are as they were."
        if missing:
            told += f" Please upload again: {', '.join(missing)}."
        return {**self.settings_of(request), self.message: html.notice(told, good=True)}

    def on_restore(self, path: str | None) -> Updates:
        if path is None:
            return {self.message: ""}
        try:
            file = self.studio.uploads.received(path)
            news = self.restored(*self.studio.restore(file, file.name))
            file.unlink(missing_ok=True)
            return {**news, self.restore: None}
        except UserError as error:
            return {**self.complain(error), self.restore: None}

    # The gallery

    def list_gallery(self, count: int) -> Updates:
        items = self.studio.newest()
        return {self.cards: html.gallery(items, count), self.more: gr.update(visible=len(items) > count)}

    def on_load(self, count: int) -> Updates:
        return {**self.list_gallery(count), **{tab.fields["seed"]: new_seed() for tab in self.built.values()}}

    def on_more(self, count: int) -> Updates:
        return {self.shown: count + _SHOWN, **self.list_gallery(count + _SHOWN)}

    def on_pick(self, event: gr.EventData) -> Updates:
        """A button of a video: its settings again, or the video, or a frame of it, as an input."""
        data = event._data if isinstance(event._data, dict) else {}
        pick, name, when = data.get("pick"), data.get("name"), data.get("time")
        when = float(when) if isinstance(when, int | float) and math.isfinite(when) else 0.0
        try:
            item = self.studio.gallery.find(name)
            if pick == "restore":
                return self.restored(*self.studio.restore(self.studio.gallery.path(item.name), item.name))
            if pick == "animate":
                source = self.studio.frame(item.name, when)
                news = self.built["animate"].chosen("image", source)
            elif pick in ("extend", "vary"):
                source = Source("gallery", item.name, one_line(item.recipe.get("prompt")) or item.name)
                news = self.built[pick].chosen("video", source)
                if pick == "extend":
                    news[self.built[pick].fields["fps"]] = self.studio.rate(source)
            else:
                return {self.message: ""}
        except UserError as error:
            return self.complain(error)
        # the size that it has, so that what is added fits to it
        if pick == "extend":
            shape = Shape(item.info.height, item.info.width).written
            shown = sizes_shown(shape, self.studio.maker.sizes)
            news |= {self.built[pick].fields[name]: value for name, value in shown.items()}
        told = f"Taken into {TITLES[pick]}: choose the settings, then press {MAKE[pick]}."
        return {**news, self.tabs: gr.update(selected=pick), self.message: html.notice(told, good=True)}
