"""What both pages, web/ and votes/, stand on: an address to listen on, a server that Ctrl-C ends and that waits for
nobody for ever, a guard over files that clients name, words without markup."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import html
import re
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

CALL = re.compile(r"[0-9a-f]{32}")
"""What Gradio calls the session of a call over HTTP: its event; a browser's name is shorter."""

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


PAGES_KEPT, CALLS_KEPT = 256, 16
"""Sessions that Gradio remembers, each about 0.3 MB of the studio's: of browsers, and of calls over HTTP."""


def bound_sessions(page: Any) -> None:
    """Gradio keeps 10,000 sessions, and takes every call over HTTP for one, to which nobody can come back.

    Args:
        page: Blocks that are mounted.
    """
    from gradio.state_holder import StateHolder

    class Sessions(StateHolder):
        def update(self, session_id: str) -> None:
            super().update(session_id)
            with self.lock:
                calls = [one for one in self.session_data if CALL.fullmatch(one)]  # the least recently used first
                for old in calls[:-CALLS_KEPT]:
                    del self.session_data[old]
                    self.time_last_used.pop(old, None)

    page.state_holder.__class__ = Sessions
    page.state_holder.capacity = PAGES_KEPT


def listen(host: str, port: int) -> socket.socket:
    """Raises UserError where the address cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, ValueError) as error:  # ValueError: no host is ever called so
        listener.close()
        reason = getattr(error, "strerror", None) or "no name of a host"
        code = getattr(error, "errno", None)
        other = "--port" if code in (errno.EADDRINUSE, errno.EACCES) else "--host"
        raise UserError(f"Cannot listen on {host}, port {port} ({reason}): choose another {other}.") from error
    return listener


def address(listener: socket.socket, host: str) -> str:
    """What to type into a browser."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}/"


def _impatient(head_seconds: float, stuck_seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's own protocol with the bounds of `run_app`."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Impatient(H11Protocol):
        """uvicorn bounds the time between two requests, but not that before the first, of a head, or of an answer."""

        waiting: asyncio.TimerHandle | None = None
        stuck: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.wait()

        def wait(self) -> None:
            asked = self.cycle is not None and not self.cycle.response_complete
            if self.waiting is not None and asked:
                self.waiting.cancel()
                self.waiting = None
            elif self.waiting is None and not asked:
                self.waiting = self.loop.call_later(head_seconds, self.give_up)

        def give_up(self) -> None:
            self.waiting = None
            if self.cycle is None or self.cycle.response_complete:
                self.transport.abort()  # which waits for nobody to take what is left of an answer

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self.wait()

        def pause_writing(self) -> None:
            super().pause_writing()
            self.stuck = self.loop.call_later(stuck_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self.stuck is not None:
                self.stuck.cancel()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            for timer in (self.waiting, self.stuck):
                if timer is not None:
                    timer.cancel()

    return Impatient


def run_app(app: Any, listener: socket.socket, head_seconds: float = 20.0, stuck_seconds: float = 120.0) -> None:
    """Serve until Ctrl-C.

    head_seconds: how long a connection may take to say what it wants.
    stuck_seconds: how long it may take up nothing of an answer that is ready for it.
    """
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        http=_impatient(head_seconds, stuck_seconds),
        ws="none",
        limit_concurrency=500,  # fewer than the files that a process may have open
        timeout_graceful_shutdown=1,  # open pages never let go of their connection, so Ctrl-C does not wait for them
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
