"""A tab of the page: its components, the request that they stand for, and a request put into them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from ..errors import UserError
from . import html
from .maker import Maker
from .requests import INPUTS, MAX_SECONDS, MIN_SECONDS, Request, as_written, typed, written
from .studio import new_seed
from .uploads import Source

__all__ = ["MAKE", "TITLES", "Tab", "build_tab"]

TITLES = {
    "generate": "Generate",
    "animate": "Animate",
    "interpolate": "Join",
    "vary": "Vary",
    "extend": "Continue",
}
MAKE = {
    "generate": "Generate",
    "animate": "Animate the picture",
    "interpolate": "Join the pictures",
    "vary": "Make a variation",
    "extend": "Continue the video",
}
"""What the button says."""
_ABOUT = {
    "generate": "Say what you would like to see; the video is made from nothing but your words.",
    "animate": "Upload a picture: it is the first frame, and starts to move.",
    "interpolate": "Upload two pictures: the video passes from the first to the last.",
    "vary": "Upload a video: another one is made that shows the same kind of thing.",
    "extend": "Upload a video: it goes on from its last frame.",
}
_STORY = "Several lines tell a story, one part passing into the next; a line may end in its length, as in | 3 s"
_UPLOADS = {
    "image": "Picture to animate",
    "first": "First picture",
    "last": "Last picture",
    "video": "Video",
}
_PICTURES, _VIDEOS = ["image"], ["video", ".gif", ".webp", ".apng"]


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
        """What `request` gets the values of."""
        return [*self.fields.values(), *self.sources.values()]

    def inputs_shown(self) -> list[Any]:
        """What shows the inputs, besides."""
        return [*self.looks.values(), *self.uploads.values()]

    def request(self, values: Sequence[Any]) -> Request:
        """The settings as they stand in the tab.

        Raises:
            UserError: a number is missing.
        """
        given = dict(zip([*self.fields, *self.sources], values, strict=True))
        sources = {name: given.pop(name) for name in self.sources}
        for name in ("seconds", "fps", "num_inference_steps"):
            if given[name] is None:
                raise UserError("A number is missing: fill in length, frame rate and steps.")
        seconds, seed = given.pop("seconds"), given.pop("seed")
        given["size"] = (given.pop("shape") or "").strip() or given["size"]
        given["size"] = typed("size", given["size"])
        given["num_frames"] = max(1, round(seconds * given["fps"]))
        given["seed"] = new_seed() if seed is None else int(seed)
        for name in ("prompt", "negative_prompt"):
            if name in given:
                given[name] = given[name] or ""
        inputs = {name: one for name, one in sources.items() if one is not None}
        return as_written(Request(self.use, inputs=inputs, **given))

    def settings(self, request: Request, sizes: tuple[int, ...]) -> dict[Any, Any]:
        """Updates that put a request into the tab; sizes: the cascade's, the largest where the request says none."""
        values = {name: getattr(request, name, None) for name in self.fields}
        values |= {"seconds": round(request.seconds, 2), **sizes_shown(request.size or sizes[-1], sizes)}
        values["prompt"] = written(request)
        if "motion" in values and request.motion is None:
            values["motion"] = 1.0
        news: dict[Any, Any] = {component: values[name] for name, component in self.fields.items()}
        for name in self.sources:
            news |= self.chosen(name, request.inputs.get(name))
        return news

    def chosen(self, name: str, source: Source | None) -> dict[Any, Any]:
        """Updates that show an input."""
        return {
            self.sources[name]: source,
            self.looks[name]: html.shown_source(source, INPUTS[self.use][name]),
            self.uploads[name]: None,
        }


def sizes_shown(size: int | str, sizes: tuple[int, ...]) -> dict[str, Any]:
    """What stands in the two fields of a size: one of the cascade's own, or another shape."""
    if size in sizes:
        return {"size": size, "shape": ""}
    return {"size": sizes[-1], "shape": str(size)}


def build_tab(use: str, maker: Maker) -> Tab:
    """Inside `gr.Tab`: the components from top to bottom, with what the maker's model can and usually makes."""
    tab = Tab(use)
    gr.HTML(f"<p>{_ABOUT[use]}</p>")
    _add_uploads(tab)
    if use in ("generate", "animate", "extend"):
        _add_prompt(tab)
    _add_length(tab, maker.usual_frames)
    names = [f"{size} {note}".strip() for size, note in zip(maker.sizes, ("(quick)", "", "(slow)"), strict=False)]
    tab.fields["size"] = gr.Radio(
        list(zip(names, maker.sizes, strict=True)),
        value=maker.usual_size,
        label="Size in pixels",
        elem_classes="sizes",
    )
    _add_seed_and_loop(tab)
    with gr.Accordion("More", open=False, elem_id=f"{use}-more"):
        _add_more(tab, maker.knows_motion)
    with gr.Row():
        tab.make = gr.Button(MAKE[use], variant="primary", elem_id=f"{use}-make")
        tab.example = gr.Button("Try an example", elem_id=f"{use}-example")
    return tab


def _add_uploads(tab: Tab) -> None:
    for name, kind in INPUTS[tab.use].items():
        tab.sources[name] = gr.State(None)
        tab.uploads[name] = gr.File(
            label=_UPLOADS[name],
            file_types=_PICTURES if kind == "picture" else _VIDEOS,
            height=120,
            elem_id=f"{tab.use}-{name}",
            elem_classes="upload",
        )
        tab.looks[name] = gr.HTML(elem_id=f"{tab.use}-{name}-look")


def _add_prompt(tab: Tab) -> None:
    generate = tab.use == "generate"
    tab.fields["prompt"] = gr.Textbox(
        label="What the video shows" if generate else "Words to mix in (may be empty)",
        info=_STORY if generate else None,
        placeholder="a happy dog",
        lines=2,
        max_lines=8,
        max_length=2000 if generate else 500,
        elem_id=f"{tab.use}-prompt",
    )


def _add_length(tab: Tab, frames: int) -> None:
    rate = 24
    with gr.Row():
        tab.fields["seconds"] = gr.Number(
            min(1.0, round(frames / rate, 2)),
            label="Length in seconds",
            minimum=MIN_SECONDS,
            maximum=MAX_SECONDS,
            step=0.1,
            precision=2,
            min_width=120,
        )
        tab.fields["fps"] = gr.Number(
            rate, label="Frames a second", minimum=1, maximum=60, step=1, precision=3, min_width=120
        )


def _add_seed_and_loop(tab: Tab) -> None:
    with gr.Row(elem_classes="seed-row"):
        tab.fields["seed"] = gr.Number(label="Seed", precision=0, minimum=0, min_width=120, elem_id=f"{tab.use}-seed")
        dice = gr.Button("Roll dice", size="md", min_width=100, elem_id=f"{tab.use}-dice")
        tab.fields["loop"] = gr.Checkbox(label="Loop", min_width=80)
    dice.click(new_seed, None, tab.fields["seed"], show_progress="hidden", api_visibility="private")


def _add_more(tab: Tab, knows_motion: bool) -> None:
    use, fields = tab.use, tab.fields
    fields["shape"] = gr.Textbox(
        label="Another shape, width x height (may be empty)",
        placeholder="256x144",
        max_length=12,
        elem_id=f"{use}-shape",
    )
    fields["num_inference_steps"] = gr.Slider(
        1, 100, 16, step=1, label="Steps: more take longer and are finer", buttons=[]
    )
    if knows_motion:
        fields["motion"] = gr.Slider(0, 2, 1, step=0.1, label="Motion: 0 stands still, 1 is usual", buttons=[])
    if use in ("generate", "vary"):
        fields["guidance_scale"] = gr.Slider(1, 20, 2, step=0.1, label="Guidance: how closely to follow", buttons=[])
    if use == "generate":
        fields["negative_prompt"] = gr.Textbox(label="What to steer away from", max_length=500)
    if use in ("animate", "extend"):
        fields["prompt_weight"] = gr.Slider(0, 1, 0.3, step=0.01, label="Weight of the words", buttons=[])
    if use != "generate":
        fields["fit"] = gr.Radio(
            [("Cut the centre", "crop"), ("Show all", "pad"), ("Keep its shape", "keep")],
            value="crop",
            label="If it is of another shape",
        )
