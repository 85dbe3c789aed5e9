"""The studio: a page on which people make, animate, join, vary and continue videos (`make-a-video web`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..orders import Additions

__all__ = ["serve"]


def serve(
    host: str = "127.0.0.1",
    port: int = 7860,
    model: str | Path = "models/emoji",
    gallery: str | Path = "gallery",
    allow_hosts: Sequence[str] = (),
    additions: Additions | None = None,
) -> None:
    """Open the studio and serve it until Ctrl-C; Gradio and the model are loaded here, not before.

    allow_hosts: further names under which the page may be opened, such as a proxy's.
    additions: on top of the model's weights, of all that is made.

    Raises:
        UserError: no model, no Gradio, a gallery that cannot be written, an address that cannot be listened on.
    """
    from .server import serve as run

    run(host, port, model, gallery, allow_hosts=allow_hosts, additions=additions)
