"""Write docs/api.md, the reference of what programs use, from the docstrings.

python docs/api.py
"""

import inspect
import re
from pathlib import Path

import makeavideo
from makeavideo import settings
from makeavideo.data import clips, images
from makeavideo.media import inputs, reader, writer
from makeavideo.training import assemble, recipe, trainer

PAGE = Path(__file__).with_name("api.md")
PARTS = {
    "Making videos": [makeavideo.MakeAVideoPipeline, settings.VideoOptions, makeavideo.UserError],
    "Networks": [makeavideo.VideoUNet, makeavideo.inflate],
    "Reading and writing": [
        writer.write_video,
        writer.VideoWriter,
        reader.read_video,
        reader.read_recipe,
        inputs.read_picture,
        inputs.open_video,
    ],
    "Training": [recipe.load_recipe, trainer.train, assemble.assemble, images.CaptionedImages, clips.UnlabelledClips],
}
USES = ["load", "__call__", "animate", "interpolate", "vary", "extend", "encode_prompt", "embed_pictures", "settings"]
"""Of the pipeline; its other methods are diffusers', or parts of these."""


def text_of(thing) -> str:
    return inspect.cleandoc(thing.__doc__ or "")


def call_of(thing, name: str) -> str:
    """The call with its parameters; types stand in the docstrings, where they matter."""
    shown = []
    star = False
    for one in inspect.signature(thing).parameters.values():
        if one.name in ("self", "cls"):
            continue
        if one.kind == one.KEYWORD_ONLY and not star:
            shown.append("*")
            star = True
        if one.kind == one.VAR_POSITIONAL:
            star = True
        mark = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        value = "" if one.default is one.empty else f"={one.default!r}"
        shown.append(f"{mark}{one.name}{value}")
    return f"{name}({', '.join(shown)})"


def entry(thing) -> str:
    """One function or class, under its import."""
    where = "makeavideo" if thing.__name__ in makeavideo.__all__ else thing.__module__
    lines = [f"### {thing.__name__}", "", f"`from {where} import {thing.__name__}`", ""]
    if thing is settings.VideoOptions:
        lines += [", ".join(f"`{name}`" for name in thing.__annotations__), ""]
    elif not (inspect.isclass(thing) and issubclass(thing, Exception)):
        lines += ["```python", call_of(thing, thing.__name__), "```", ""]
    lines += ["```text", text_of(thing), "```", ""]
    if thing is makeavideo.MakeAVideoPipeline:
        for name in USES:
            method = getattr(thing, name)
            lines += [
                f"#### {name}",
                "",
                "```python",
                call_of(method, "pipe" if name == "__call__" else f"pipe.{name}"),
            ]
            lines += ["```", "", "```text", text_of(method), "```", ""]
    return "\n".join(lines)


def page() -> str:
    """The whole of docs/api.md."""
    head = (
        "# Reference\n\nWhat programs use, as its docstrings say it; `python docs/api.py` writes this page. Shapes: "
        "b videos, f frames,\nc channels, h and w pixels, d numbers of an embedding. How it fits together: "
        "[From Python](python.md).\n"
    )
    parts = [f"## {title}\n\n" + "\n".join(entry(thing) for thing in things) for title, things in PARTS.items()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join([head, *parts])).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
