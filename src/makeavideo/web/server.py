"""The web server: Gradio's page, the videos, and a guard before both."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..answers import say_what_is_wrong
from ..doors import KEEP_TOKEN, Doorkeeper, Site
from ..errors import UserError
from ..orders import Additions
from ..serving import FONTS, PLAIN_PAGE, address, bound_sessions, guard_files, listen, run_app
from .gallery import DOWNLOADS
from .studio import QUEUE, Studio
from .uploads import MAX_BYTES

__all__ = ["make_app", "serve"]

# Whatever finds its way into the page, the browser asks no other host.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:;"
    " worker-src 'self' blob:; frame-ancestors 'none'; base-uri 'self'; form-action 'self'"
)
_COLOURS: dict[str, Any] = {
    "button_primary_background_fill": "#1d4ed8",
    "button_primary_background_fill_hover": "#1e40af",
    "block_label_text_color": "#374151",
    "block_title_text_color": "#374151",
    "block_info_text_color": "#374151",
    "block_info_text_color_dark": "#e5e7eb",
    "body_text_color_subdued": "#374151",
    "body_text_color_subdued_dark": "#d1d5db",
    "input_placeholder_color": "#5b6068",
    "input_placeholder_color_dark": "#b6bac2",
    "color_accent": "#1d4ed8",
    "input_border_width": "1px",
    "button_cancel_text_color": "#ffffff",
    "button_cancel_background_fill": "#b91c1c",
    "button_cancel_background_fill_hover": "#991b1b",
    "input_border_color": "#6b7280",
    "block_border_color": "#9ca3af",
    "checkbox_background_color_selected": "#1d4ed8",
    "checkbox_border_color": "#6b7280",
}
"""Of Gradio's theme: contrast of at least 4.5 to 1 everywhere."""


class Guard:
    """ASGI middleware: all answers carry the browser's orders."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_on(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", _POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"same-origin"),
                ]
            await send(message)

        await self.app(scope, receive, send_on)


def _import_gradio(incoming: Path) -> Any:
    """Gradio, told before its import where uploads go and that nobody is to hear of it."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = os.fspath(incoming)
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        import gradio
    except ImportError:
        raise UserError("The page needs Gradio: run `pip install makeavideo[web]`.") from None
    return gradio


def make_app(studio: Studio, site: Site) -> Any:
    """The page, the API and the videos as an ASGI application (FastAPI)."""
    gr = _import_gradio(studio.uploads.incoming)
    from fastapi import FastAPI

    from .html import CSS, HEAD
    from .page import make_page

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.add_middleware(Guard)
    app.add_middleware(Doorkeeper, site=site, max_upload=MAX_BYTES, after_upload=studio.uploads.tidy_incoming)
    _add_media(app, studio)
    page = make_page(studio)

    def only_uploads(path: Any) -> None:
        """Gradio, mounted as here, would copy any file and fetch any address that a client names as its upload."""
        if path is not None:
            try:
                studio.uploads.received(path)
            except UserError as error:
                raise gr.Error(str(error), print_exception=False) from None

    for block in page.blocks.values():
        guard_files(block, only_uploads)

    mounted = gr.mount_gradio_app(
        app,
        page,
        path="/",
        theme=gr.themes.Base(primary_hue="blue", **FONTS).set(**_COLOURS),
        css=CSS,
        head=HEAD + KEEP_TOKEN,
        allowed_paths=[],
        max_file_size=MAX_BYTES,
        **PLAIN_PAGE,
        show_error=True,
    )
    bound_sessions(page)
    say_what_is_wrong(mounted, page)
    return mounted


def _add_media(app: Any, studio: Studio) -> None:
    """The addresses of previews, of the gallery's videos and of uploads."""
    from fastapi import HTTPException, Response
    from fastapi.responses import FileResponse

    @app.get("/media/job/{token}/{version}.mp4")
    def serve_preview(token: str, version: str) -> Response:
        job = studio.jobs.find(token)
        if job is None or not job.preview:
            raise HTTPException(404)
        return Response(job.preview, media_type="video/mp4", headers={"Cache-Control": "no-store"})

    @app.get("/media/gallery/{stem}.{ending}")
    def serve_item(stem: str, ending: str) -> Response:
        try:
            path = studio.gallery.download(f"{stem}.mp4", ending)
        except UserError:
            raise HTTPException(404) from None
        return FileResponse(
            path, media_type=DOWNLOADS[ending], content_disposition_type="inline", filename=f"{stem}.{ending}"
        )

    @app.get("/media/upload/{name}")
    def serve_upload(name: str) -> Response:
        try:
            body, kind = studio.uploads.shown(name)
        except UserError:
            raise HTTPException(404) from None
        return Response(body, media_type=kind, headers={"Cache-Control": "private, max-age=3600"})


def serve(
    host: str = "127.0.0.1",
    port: int = 7860,
    model: str | Path = "models/emoji",
    gallery: str | Path = "gallery",
    queue: int = QUEUE,
    allow_hosts: Sequence[str] = (),
    additions: Additions | None = None,
) -> None:
    """Open the studio and serve it until Ctrl-C. Port 0 takes a free one.

    allow_hosts: further names under which the page may be opened, such as a proxy's.
    additions: on top of the model's weights.

    Raises:
        UserError: no model, no Gradio, a gallery that cannot be written, an address that cannot be listened on.
    """
    site = Site.at(host, allow_hosts)
    with listen(host, port) as listener:
        _import_gradio(Path(gallery).resolve() / "uploads" / "incoming")
        studio = Studio(Path(model), Path(gallery), queue, additions)
        app = make_app(studio, site)
        threading.Thread(target=studio.uploads.keep_tidy, daemon=True).start()
        print(f"The studio is at {address(listener, host)} (Ctrl-C ends)")
        print(f"Programs send the header Authorization: Bearer {site.token}")
        print(f"What is made is kept in {Path(gallery).resolve()}", flush=True)
        run_app(app, listener)
