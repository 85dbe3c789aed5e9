"""The page: five tabs, one a use, the video in the making beside them, and the gallery."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from ..errors import UserError
from . import html
from .api import add_endpoints
from .jobs import Job
from .requests import INPUTS, MAX_SECONDS, MIN_SECONDS, USES, Request, as_written, one_line, written
from .studio import Studio, new_seed
from .uploads import Source

__all__ = ["make_page"]

TITLES = {
    "generate": "Generate",
    "animate": "Animate",
    "interpolate": "Join",
    "vary": "Vary",
    "extend": "Continue",
}
_ABOUT = {
    "generate": "Say what you would like to see; the video is made from nothing but your words.",
    "animate": "Upload a picture: it is the first frame, and starts to move.",
    "interpolate": "Upload two pictures: the video passes from the first to the last.",
    "vary": "Upload a video: another one is made that shows the same kind of thing.",
    "extend": "Upload a video: it goes on from its last frame.",
}
_STORY = "Several lines tell a story, one part passing into the next; a line may end in its length, as in | 3 s"
_MAKE = {
    "generate": "Generate",
    "animate": "Animate the picture",
    "interpolate": "Join the pictures",
    "vary": "Make a variation",
    "extend": "Continue the video",
}
_UPLOADS = {
    "image": "Picture to animate",
    "first": "First picture",
    "last": "Last picture",
    "video": "Video",
}
_PICTURES, _VIDEOS = ["image"], ["video", ".gif", ".webp", ".apng"]
_SHOWN = 12
"""Videos of the gallery at first, and more at a time."""


@dataclass
class Tab:
    """The components of a use; what a use does not have is not in `fields`."""

    use: str
    fields: dict[str, Any] = field(default_factory=dict)
    """Name in `Request`, or "seconds" -> component."""
    uploads: dict[str, Any] = field(default_factory=dict)
    looks: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, Any] = field(default_factory=dict)
    make: Any = None
    example: Any = None

    def inputs(self) -> list[Any]:
        return [*self.fields.values(), *self.sources.values()]


def make_page(studio: Studio) -> Any:
    """The page and the API, as `gr.Blocks`."""
    import gradio as gr

    sizes = studio.maker.sizes
    size_names = [f"{sizes[0]} (quick)", str(sizes[1]), f"{sizes[2]} (slow)"]

    def build_tab(use: str) -> Tab:
        tab = Tab(use)
        gr.HTML(f"<p>{_ABOUT[use]}</p>")
        for name, kind in INPUTS[use].items():
            tab.sources[name] = gr.State(None)
            tab.uploads[name] = gr.File(
                label=_UPLOADS[name],
                file_types=_PICTURES if kind == "picture" else _VIDEOS,
                height=120,
                elem_id=f"{use}-{name}",
                elem_classes="upload",
            )
            tab.looks[name] = gr.HTML(elem_id=f"{use}-{name}-look")
        if use in ("generate", "animate", "extend"):
            label = "What the video shows" if use == "generate" else "Words to mix in (may be empty)"
            tab.fields["prompt"] = gr.Textbox(
                label=label,
                info=_STORY if use == "generate" else None,
                placeholder="a happy dog",
                lines=2,
                max_lines=8,
                max_length=2000 if use == "generate" else 500,
                elem_id=f"{use}-prompt",
            )
        with gr.Row():
            tab.fields["seconds"] = gr.Number(
                1.0,
                label="Length in seconds",
                minimum=MIN_SECONDS,
                maximum=MAX_SECONDS,
                step=0.1,
                precision=2,
                min_width=120,
            )
            tab.fields["fps"] = gr.Number(
                24, label="Frames a second", minimum=1, maximum=60, step=1, precision=3, min_width=120
            )
        tab.fields["size"] = gr.Radio(
            list(zip(size_names, sizes, strict=True)), value=sizes[1], label="Size in pixels", elem_classes="sizes"
        )
        with gr.Row(elem_classes="seed-row"):
            tab.fields["seed"] = gr.Number(label="Seed", precision=0, minimum=0, min_width=120, elem_id=f"{use}-seed")
            dice = gr.Button("Roll dice", size="md", min_width=100, elem_id=f"{use}-dice")
            tab.fields["loop"] = gr.Checkbox(label="Loop", min_width=80)
        dice.click(new_seed, None, tab.fields["seed"], show_progress="hidden", api_visibility="private")
        with gr.Accordion("More", open=False, elem_id=f"{use}-more"):
            tab.fields["num_inference_steps"] = gr.Slider(
                1, 100, 16, step=1, label="Steps: more take longer and are finer", buttons=[]
            )
            if studio.maker.knows_motion:
                tab.fields["motion"] = gr.Slider(
                    0, 2, 1, step=0.1, label="Motion: 0 stands still, 1 is usual", buttons=[]
                )
            if use in ("generate", "vary"):
                tab.fields["guidance_scale"] = gr.Slider(
                    1, 20, 2, step=0.1, label="Guidance: how closely to follow", buttons=[]
                )
            if use == "generate":
                tab.fields["negative_prompt"] = gr.Textbox(label="What to steer away from", max_length=500)
            if use in ("animate", "extend"):
                tab.fields["prompt_weight"] = gr.Slider(0, 1, 0.3, step=0.01, label="Weight of the words", buttons=[])
            if use != "generate":
                tab.fields["fit"] = gr.Radio(
                    [("Cut the centre", "crop"), ("Show all", "pad")], value="crop", label="If it is not square"
                )
        with gr.Row():
            tab.make = gr.Button(_MAKE[use], variant="primary", elem_id=f"{use}-make")
            tab.example = gr.Button("Try an example", elem_id=f"{use}-example")
        return tab

    with gr.Blocks(title="Make-A-Video", analytics_enabled=False, delete_cache=(3600, 24 * 3600)) as page:
        gr.HTML("<h1>Make-A-Video</h1>")
        # the token of this browser's job: after a reload the page finds its video again
        held = gr.BrowserState("", storage_key="makeavideo-job", secret="makeavideo-job")
        shown = gr.State(_SHOWN)
        with gr.Row():
            with gr.Column(scale=6, min_width=320), gr.Tabs(elem_id="uses") as tabs:
                built = {}
                for use in USES:
                    with gr.Tab(TITLES[use], id=use):
                        built[use] = build_tab(use)
            with gr.Column(scale=5, min_width=320):
                message = gr.HTML(elem_id="message")
                view = gr.HTML(html.preview(None), elem_id="view", js_on_load=html.PICK)
                state = gr.HTML(elem_id="progress")
                stop = gr.Button("Stop and keep what there is", variant="stop", visible=False, elem_id="stop")
                restore = gr.File(
                    label="Settings from a file that was made here",
                    height=120,
                    elem_id="restore",
                    elem_classes="upload-settings upload",
                )
        gr.HTML("<h2>Gallery</h2>")
        cards = gr.HTML(elem_id="gallery", js_on_load=html.PICK)
        more = gr.Button("Show more", visible=False, elem_id="more")
        add_endpoints(studio)

        outputs = [held, message, view, state, stop, cards, more]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}

        def list_gallery(count: int) -> dict[Any, Any]:
            items = studio.newest()
            return {cards: html.gallery(items, count), more: gr.update(visible=len(items) > count)}

        def complain(error: UserError) -> dict[Any, Any]:
            return {message: html.notice(str(error))}

        async def follow(job: Job, count: int) -> AsyncIterator[dict[Any, Any]]:
            """A job on the page, until it is over."""
            seen = -1
            async for place, version in studio.watch(job):
                news = {state: html.progress(job, place), stop: gr.update(visible=not job.over)}
                if version != seen and not job.over:
                    seen = version
                    news[view] = html.preview(job)
                yield news
            yield ended(job, count)

        def ended(job: Job, count: int) -> dict[Any, Any]:
            news: dict[Any, Any] = {held: "", state: "", stop: gr.update(visible=False), view: html.preview(None)}
            if job.error:
                return {**news, message: html.notice(job.error)}
            if job.result:
                news[view] = html.result(studio.gallery.find(job.result))
            told = "Your video is ready."
            if job.state == "stopped":
                told = "Stopped: the best version so far is kept." if job.result else "Stopped: nothing was made yet."
            return {**news, message: html.notice(told, good=True), **list_gallery(count)}

        def request_of(tab: Tab, values: tuple[Any, ...]) -> Request:
            """The settings as they stand in a tab."""
            given = dict(zip([*tab.fields, *tab.sources], values, strict=True))
            sources = {name: given.pop(name) for name in tab.sources}
            for name in ("seconds", "fps", "num_inference_steps"):
                if given[name] is None:
                    raise UserError("A number is missing: fill in length, frame rate and steps.")
            seconds, seed = given.pop("seconds"), given.pop("seed")
            given["num_frames"] = max(1, round(seconds * given["fps"]))
            given["seed"] = new_seed() if seed is None else int(seed)
            for name in ("prompt", "negative_prompt"):
                if name in given:
                    given[name] = given[name] or ""
            inputs = {name: one for name, one in sources.items() if one is not None}
            return as_written(Request(tab.use, inputs=inputs, **given))

        def settings_of(request: Request) -> dict[Any, Any]:
            """Updates that put a request into its tab."""
            tab = built[request.use]
            values = {name: getattr(request, name, None) for name in tab.fields}
            values |= {"seconds": round(request.seconds, 2), "size": request.size or sizes[-1]}
            values["prompt"] = written(request)
            if "motion" in values and request.motion is None:
                values["motion"] = 1.0
            news: dict[Any, Any] = {component: values[name] for name, component in tab.fields.items()}
            for name in tab.sources:
                news |= chosen(tab, name, request.inputs.get(name))
            return {**news, tabs: gr.update(selected=request.use)}

        def chosen(tab: Tab, name: str, source: Source | None) -> dict[Any, Any]:
            """Updates that show an input of a tab."""
            kind = INPUTS[tab.use][name]
            return {
                tab.sources[name]: source,
                tab.looks[name]: html.shown_source(source, kind),
                tab.uploads[name]: None,
            }

        async def start(request: Request, token: str, count: int, client: str) -> AsyncIterator[dict[Any, Any]]:
            job = studio.jobs.find(token)
            if job is not None and not job.over:
                yield {message: html.notice("Your other video is still being made: wait for it, or stop it.")}
                return
            try:
                job = studio.submit(request, client)
            except UserError as error:
                yield complain(error)
                return
            yield {held: job.token, message: "", view: html.preview(job), stop: gr.update(visible=True)}
            async for news in follow(job, count):
                yield news

        def wire(tab: Tab) -> None:
            async def on_make(
                caller: gr.Request, token: str, count: int, *values: Any
            ) -> AsyncIterator[dict[Any, Any]]:
                try:
                    request = request_of(tab, values)
                except UserError as error:
                    yield complain(error)
                    return
                # a seed that was drawn is shown, so that the video can be made again
                yield {tab.fields["seed"]: request.seed}
                async for news in start(request, token, count, caller.client.host):
                    yield news

            async def on_example(caller: gr.Request, token: str, count: int) -> AsyncIterator[dict[Any, Any]]:
                request = example(tab.use)
                yield settings_of(request)
                async for news in start(request, token, count, caller.client.host):
                    yield news

            everything = [*outputs, *tab.fields.values(), *tab.sources.values(), *tab.looks.values()]
            everything += [*tab.uploads.values(), tabs]
            tab.make.click(on_make, [held, shown, *tab.inputs()], everything, **quiet)
            if tab.use == "generate":
                tab.fields["prompt"].submit(on_make, [held, shown, *tab.inputs()], everything, **quiet)
            tab.example.click(on_example, [held, shown], everything, **quiet)

            for name, upload in tab.uploads.items():

                def on_upload(path: str | None, name: str = name) -> dict[Any, Any]:
                    if path is None:
                        return {message: ""}
                    kind = INPUTS[tab.use][name]
                    try:
                        source = studio.uploads.accept(path, kind)
                    except UserError as error:
                        return {**chosen(tab, name, None), **complain(error)}
                    news = {**chosen(tab, name, source), message: ""}
                    if tab.use == "extend":
                        news[tab.fields["fps"]] = studio.rate(source)
                    return news

                upload.upload(on_upload, [upload], everything, **quiet)

        def example(use: str) -> Request:
            common = {"seed": 1, "num_frames": 16, "fps": 8.0, "size": sizes[0], "num_inference_steps": 8}
            smile, frown, nod = studio.examples.smile, studio.examples.frown, studio.examples.nod
            inputs = {
                "generate": {},
                "animate": {"image": smile},
                "interpolate": {"first": smile, "last": frown},
                "vary": {"video": nod},
                "extend": {"video": nod},
            }[use]
            if use == "extend":
                common["fps"] = 24.0
            return Request(use, inputs=inputs, prompt="a happy dog" if use == "generate" else "", **common)

        def on_load(count: int) -> dict[Any, Any]:
            return {**list_gallery(count), **{tab.fields["seed"]: new_seed() for tab in built.values()}}

        async def on_return(token: str, count: int) -> AsyncIterator[dict[Any, Any]]:
            job = studio.jobs.find(token)
            if job is None:
                yield {state: ""}
                return
            async for news in follow(job, count):
                yield news

        def on_stop(token: str) -> dict[Any, Any]:
            studio.jobs.stop(token)
            return {state: html.notice("Stopping ...", good=True)}

        def on_more(count: int) -> dict[Any, Any]:
            return {shown: count + _SHOWN, **list_gallery(count + _SHOWN)}

        def restored(request: Request, missing: list[str]) -> dict[Any, Any]:
            told = "The settings are as they were."
            if missing:
                told += f" Please upload again: {', '.join(missing)}."
            return {**settings_of(request), message: html.notice(told, good=True)}

        def on_restore(path: str | None) -> dict[Any, Any]:
            if path is None:
                return {message: ""}
            try:
                file = studio.uploads.received(path)
                news = restored(*studio.restore(file, file.name))
                file.unlink(missing_ok=True)
                return {**news, restore: None}
            except UserError as error:
                return {**complain(error), restore: None}

        def on_pick(event: gr.EventData) -> dict[Any, Any]:
            data = event._data or {}
            pick, name, when = data.get("pick"), data.get("name"), data.get("time")
            try:
                item = studio.gallery.find(name)
                if pick == "restore":
                    return restored(*studio.restore(studio.gallery.path(name), item.name))
                title = one_line(item.recipe.get("prompt")) or item.name
                if pick == "animate":
                    source = studio.frame(name, float(when) if isinstance(when, int | float) else 0.0)
                    news = chosen(built["animate"], "image", source)
                elif pick in ("extend", "vary"):
                    source = Source("gallery", item.name, title)
                    news = chosen(built[pick], "video", source)
                    if pick == "extend":
                        news[built[pick].fields["fps"]] = studio.rate(source)
                else:
                    return {message: ""}
            except UserError as error:
                return complain(error)
            # the size that it has, so that what is added fits to it
            if pick == "extend" and item.info.width in sizes:
                news[built[pick].fields["size"]] = item.info.width
            told = f"Taken into {TITLES[pick]}: choose the settings, then press {_MAKE[pick]}."
            return {**news, tabs: gr.update(selected=pick), message: html.notice(told, good=True)}

        all_fields = [one for tab in built.values() for one in (*tab.fields.values(), *tab.sources.values())]
        all_fields += [one for tab in built.values() for one in (*tab.looks.values(), *tab.uploads.values())]
        for tab in built.values():
            wire(tab)
        stop.click(on_stop, [held], [state], queue=False, **quiet)
        more.click(on_more, [shown], [shown, cards, more], **quiet)
        restore.upload(on_restore, [restore], [message, tabs, restore, *all_fields], **quiet)
        for where in (cards, view):
            where.click(on_pick, None, [message, tabs, *all_fields], **quiet)
        page.load(on_load, [shown], [cards, more, *(tab.fields["seed"] for tab in built.values())], **quiet)
        page.load(on_return, [held, shown], outputs, **quiet)
    return page.queue(default_concurrency_limit=None, max_size=256)
