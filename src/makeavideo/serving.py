"""What both pages, web/ and votes/, stand on: an address to listen on, a server that Ctrl-C ends, a guard over files
that clients name, words without markup."""

from __future__ import annotations

import contextlib
import html
import socket
from collections.abc import Callable
from typing import Any

from .errors import UserError

FONTS: dict[str, Any] = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
"""Of the machine itself: Gradio's themes fetch theirs from another host."""
PLAIN_PAGE: dict[str, Any] = {
    "footer_links": [],
    "ssr_mode": False,
    "run_history": False,
    "pwa": False,
    "mcp_server": False,
    "enable_monitoring": False,
}
"""Gradio's page and nothing besides, as arguments of its mount_gradio_app."""

# Gradio's HTML component is a template: what people wrote must not look like markup, nor like a placeholder.
_PLACEHOLDERS = {ord(character): f"&#{ord(character)};" for character in "$`{}\\@"}


def escape(value: str) -> str:
    """HTML that shows `value` letter by letter."""
    return html.escape(value).translate(_PLACEHOLDERS)


def guard_files(block: Any, check: Callable[[Any], None]) -> None:
    """Check every file that somebody names to a component, before Gradio touches it."""
    at_once, later = block.move_resource_to_block_cache, block.async_move_resource_to_block_cache

    def move(path: Any) -> Any:
        check(path)
        return at_once(path)

    async def move_later(path: Any) -> Any:
        check(path)
        return await later(path)

    block.move_resource_to_block_cache, block.async_move_resource_to_block_cache = move, move_later


def listen(host: str, port: int) -> socket.socket:
    """Raises UserError where the address cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UserError(f"Cannot listen on {host}, port {port} ({error.strerror}): choose another --port.") from error
    return listener


def address(listener: socket.socket, host: str) -> str:
    """What to type into a browser."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}/"


def run_app(app: Any, listener: socket.socket) -> None:
    """Serve until Ctrl-C."""
    import uvicorn

    # open pages never let go of their connection, so Ctrl-C does not wait for them
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
