"""Who may ask the pages, web/ and votes/, for what: their host names, the token of a run, and bounds of requests."""

from __future__ import annotations

import asyncio
import contextlib
import http.cookies
import json
import re
import secrets
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from .errors import UserError

__all__ = ["KEEP_TOKEN", "MAX_BODY", "UPLOAD", "Doorkeeper", "Site"]

# Gradio can do much that no page here needs; what could fetch from elsewhere or run a program is not reachable.
_CLOSED = (
    "/gradio_api/proxy=",
    "/gradio_api/file=http",
    "/gradio_api/file/http",
    "/gradio_api/vibe",
    "/gradio_api/undo-vibe",
    "/gradio_api/process_recording",
    "/gradio_api/component_server",
    "/gradio_api/custom_component",
    "/gradio_api/stream",
    "/gradio_api/deep_link",
    "/gradio_api/dev",
)
UPLOAD = "/gradio_api/upload"
_READING = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing."""

MAX_BODY = 2**20
"""Bytes of a request that brings no file."""
_MULTIPART = 2**16
"""Bytes around an uploaded file."""
_TAIL = 256
"""Bytes at the end of a form in which its last boundary is."""
_MAX_DEPTH = 64
"""Of lists in lists in what a request says; Gradio's own go down to ten or so."""
_UPLOADS_AT_ONCE = 8
_LISTEN_ON, _LISTEN_FOR = 2**23, 5.0
"""Bytes and seconds for which somebody who is refused is still listened to: who writes does not read the answer."""

KEEP_TOKEN = """
<script>
(() => {
  // a page that was open while the server started anew has the token of the run before: it gets the new one
  const ask = window.fetch;
  window.fetch = async (what, how) => {
    const again = what instanceof Request ? what.clone() : what;
    const reply = await ask(what, how);
    return reply.headers.has("x-new-token") ? ask(again, how) : reply;
  };
})();
</script>
"""
"""For the head of a page."""

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+))(?::\d{1,5})?", re.I)
_BOUNDARY = re.compile(r'boundary="?([^";,\s]{1,70})')
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.S)


def _name_of(place: str) -> str | None:
    """The host's name in a Host header, or in an origin behind its "://"."""
    found = _HOST.fullmatch(place)
    return (found[1] or found[2]).lower().rstrip(".") if found else None


@dataclass(frozen=True)
class Site:
    """What a page is called, and its token: `Site.at` makes one for every run.

    A name that somebody bound to 127.0.0.1 leads a browser here as well as the right one; what it brings along is a
    page of another site, and the name in the request gives it away.
    """

    names: frozenset[str]
    """That it answers to, besides the address a request came to."""
    added: frozenset[str] = frozenset()
    """Those of `names` that may be a proxy's, with whatever port."""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @classmethod
    def at(cls, host: str, allow_hosts: Iterable[str] = ()) -> Site:
        """A page that listens on `host`.

        Raises:
            UserError: one of `allow_hosts` is not the name of a host.
        """
        added = set()
        for one in allow_hosts:
            name = _name_of(f"[{one}]" if one.count(":") > 1 and not one.startswith("[") else one)
            if name is None or re.search(r"(?<!:):\d+$", one.rpartition("]")[2]):
                raise UserError(f"{one!r} is not the name of a host: give one such as studio.example, without port.")
            added.add(name)
        names = {"localhost", "127.0.0.1", "::1", host.lower(), *added}
        if host in ("", "0.0.0.0", "::"):
            own = socket.gethostname().lower()
            names |= {own, f"{own}.local"}
        return cls(frozenset(names), frozenset(added))

    def knows(self, scope: Any, hosts: list[str], origins: list[str]) -> str:
        """What is wrong with where a request goes to and comes from; "" where nothing is."""
        name = _name_of(hosts[0]) if len(hosts) == 1 else None
        came_to = (scope.get("server") or ("",))[0]
        if name is None or (name not in self.names and name != came_to):
            return "This page does not answer to this host name: use its address, or start it with --allow-host NAME."
        for origin in origins:
            place = origin.partition("://")[2].lower()
            if len(origins) > 1 or (place != hosts[0].lower() and _name_of(place) not in self.added):
                return "A page of another site asks for this: open this page by its own address."
        return ""

    def holds_token(self, authorization: list[str], cookies: list[str], cookie: str) -> bool:
        """Whether a request carries the token: programs as `Authorization: Bearer`, browsers as a cookie."""
        given = [one[7:].strip() for one in authorization if one[:7].lower() == "bearer "]
        with contextlib.suppress(http.cookies.CookieError):
            found = http.cookies.SimpleCookie("; ".join(cookies)).get(cookie)
            given += [found.value] if found else []
        return any([secrets.compare_digest(one.encode(), self.token.encode()) for one in given])


class Doorkeeper:
    """ASGI middleware: who asks under a name that is not the page's, from another site's page, or changes something
    without the token, gets 403; bodies are bounded before anything reads them.

    The token is a cookie that every browser gets with the page (SameSite=Strict: other sites' pages cannot send it),
    or a header, for programs. It keeps out other sites, not people: who can open the page may use it.

    Args:
        app: what is behind.
        site: its names and token.
        max_upload: bytes of one uploaded file; 0: there are no uploads.
        after_upload: called in a thread after each.
        silence, patience: seconds without a byte of a body, and for the whole of it.
    """

    def __init__(
        self,
        app: Any,
        site: Site,
        max_upload: int = 0,
        after_upload: Callable[[], None] = lambda: None,
        silence: float = 20.0,
        patience: float = 900.0,
    ) -> None:
        self.app, self.site, self.max_upload, self.after_upload = app, site, max_upload, after_upload
        self.silence, self.patience = silence, patience
        self.uploads = asyncio.Semaphore(_UPLOADS_AT_ONCE)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":  # no page here has any
            await send({"type": "websocket.close", "code": 1008})
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        path = "/" + unquote(scope["path"]).lower().replace("\\", "/").lstrip("/")
        uploads = scope["method"] == "POST" and path.rstrip("/") == UPLOAD
        body = _Body(receive, send, self.silence, self.patience)
        body.left = self.max_upload + _MULTIPART if uploads and self.max_upload else MAX_BODY
        cookie = f"makeavideo-{(scope.get('server') or ('', 0))[1]}"  # browsers do not tell ports apart
        self._look(scope, path, cookie, body)
        if body.refused:
            await body.refuse()
        elif uploads:
            async with self.uploads:
                await body.run(self.app, scope)
            await asyncio.to_thread(self.after_upload)
        else:
            await body.read()
            await body.run(self.app, scope)

    def _look(self, scope: Any, path: str, cookie: str, body: _Body) -> None:
        """Refuse what the head of a request tells enough about, or give a browser its cookie."""
        headers: dict[bytes, list[str]] = {}
        for key, value in scope["headers"]:
            headers.setdefault(key.lower(), []).append(value.decode("latin-1"))
        if wrong := self.site.knows(scope, headers.get(b"host", []), headers.get(b"origin", [])):
            body.refused = (403, wrong)
            return
        closed = path.startswith(_CLOSED) or (not self.max_upload and path.rstrip("/") in ("/upload", UPLOAD))
        if closed:
            body.refused = (404, "Not found")
            return
        held = self.site.holds_token(headers.get(b"authorization", []), headers.get(b"cookie", []), cookie)
        give = f"{cookie}={self.site.token}; Path=/; HttpOnly; SameSite=Strict".encode()
        if not held and (scope["method"] not in _READING or path == "/"):
            body.headers.append((b"set-cookie", give))
        if not held and scope["method"] not in _READING:
            # only browsers name an origin: programs get no cookie that they could live on by chance
            body.headers = [*body.headers, (b"x-new-token", b"1")] if b"origin" in headers else []
            wrong = "send it as the header Authorization: Bearer TOKEN; in a browser, load the page again."
            body.refused = (403, f"This needs the token of this run, which the server prints at its start: {wrong}")
            return
        if boundary := _BOUNDARY.search(headers.get(b"content-type", [""])[0]):
            body.ending = f"--{boundary[1]}--".encode("latin-1")
        length = headers.get(b"content-length", ["0"])[0]
        if not length.isdecimal() or int(length[:20]) > body.left:
            body.refused = (413, body.too_large)


class _Body:
    """One request's body, as far as it may go, and its answer: the app's, or the refusal."""

    def __init__(self, receive: Any, send: Any, silence: float, patience: float) -> None:
        self._receive, self._send, self._silence = receive, send, silence
        self._end = asyncio.get_running_loop().time() + patience
        self._whole: Any = None
        self._done = self._begun = False
        self.left = 0
        self.ending = self._tail = b""
        """What the whole of a form ends with; Gradio takes what comes before it for all."""
        self.refused: tuple[int, str] | None = None
        self.headers: list[tuple[bytes, bytes]] = []
        """More of them for the answer."""

    @property
    def too_large(self) -> str:
        return "The request is too large: see the bounds in docs/web.md."

    async def receive(self) -> Any:
        """For the app: the next piece; a client that is gone where there is too much of it or it comes too slowly."""
        if self._whole is not None:
            whole, self._whole = self._whole, None
            return whole
        if self._done:
            return await self._receive()
        message: Any = {"type": "http.disconnect"}
        if self.refused:
            return message
        try:
            left = self._end - asyncio.get_running_loop().time()
            message = await asyncio.wait_for(self._receive(), min(self._silence, max(0.0, left)))
        except TimeoutError:
            self.refused = (408, "The request comes too slowly: send it again.")
        self.left -= len(message.get("body", b""))
        self._tail = (self._tail + message.get("body", b""))[-_TAIL:]
        if self.left < 0:
            self.refused, message = (413, self.too_large), {"type": "http.disconnect"}
        self._done = not message.get("more_body", False) and not self.refused
        if self._done and message["type"] == "http.request" and self.ending not in self._tail:
            self.refused = (400, "The upload is cut off, or no multipart form: send it again.")
            message = {"type": "http.disconnect"}
        return message

    async def read(self) -> None:
        """The whole of a small one; refused where it is lists in lists without end, which no reader of JSON bears."""
        parts = []
        while not self._done and not self.refused:
            message = await self.receive()
            parts.append(message.get("body", b""))
            if message["type"] == "http.disconnect":
                self._whole = message
                return
        whole = b"".join(parts)
        if _depth(whole) > _MAX_DEPTH:
            self.refused = (400, f"The request has more than {_MAX_DEPTH} lists in each other: see docs/web.md.")
        self._whole = {"type": "http.request", "body": whole, "more_body": False}

    async def send(self, message: Any) -> None:
        """For the app."""
        if self.refused and not self._begun:
            return
        if message["type"] == "http.response.start":
            self._begun = True
            message = {**message, "headers": [*message["headers"], *self.headers]}
        await self._send(message)

    async def run(self, app: Any, scope: Any) -> None:
        if not self.refused:
            try:
                await app(scope, self.receive, self.send)
            except Exception:
                if not self.refused:
                    raise
        if self.refused and not self._begun:
            await self.refuse()

    async def refuse(self) -> None:
        assert self.refused is not None
        status, sentence = self.refused
        content = json.dumps({"detail": sentence}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            (b"connection", b"close"),
            *self.headers,
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": content, "more_body": True})
        heard = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LISTEN_FOR):
                while not self._done and heard < _LISTEN_ON:
                    message = await self._receive()
                    heard += len(message.get("body", b""))
                    self._done = not message.get("more_body", False)
        await self._send({"type": "http.response.body", "body": b""})


def _depth(content: bytes) -> int:
    """How many brackets are open at once, at most, in something that may be JSON."""
    deepest = depth = 0
    for one in re.findall(rb"[\[{\]}]", _STRING.sub(b"", content)):
        depth += 1 if one in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest
