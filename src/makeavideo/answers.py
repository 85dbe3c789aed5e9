"""What both pages, web/ and votes/, answer where Gradio would answer in words of its own, or with a traceback."""

from __future__ import annotations

import re
import traceback
from typing import Any

from .doors import UPLOAD
from .errors import in_a_line

NO_FORM = "The upload is no multipart form: send one."
NO_FILE = "The upload brings no file: send it in a field named files, whole and with its name."
TOO_LARGE = "The upload is too large: see the bounds in docs/web.md."
NO_ENDPOINT = "There is no such endpoint: see docs/web.md."
NO_EVENT = "There is no such event, or its answer was taken already: call the endpoint again."
NO_ADDRESS = "There is nothing at this address."
NO_REQUEST = "The request is not as it should be: see docs/web.md."
OURS = "Something went wrong here, which the server's log tells more of: please try again, or other settings."

_EVENT = re.compile(r"/gradio_api/call/(?:v2/)?[^/]+/([^/]+)")


def say_what_is_wrong(app: Any, page: Any) -> None:
    """Of whatever is wrong with a request, one sentence; what is wrong with the server, besides, in its log alone.

    Args:
        app: as `gradio.mount_gradio_app` gives it.
        page: the Blocks that are mounted there.
    """
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from gradio.route_utils import FnIndexInferError
    from starlette.exceptions import HTTPException
    from starlette.routing import Mount

    def answer(request: Any, error: Exception) -> Any:
        status, sentence = what_is_wrong(request.method, request.url.path, error)
        if status == 500:
            traceback.print_exception(error)
        return JSONResponse({"detail": sentence}, status)

    def fail(request: Any, error: Exception) -> Any:  # Starlette raises it again, and the server prints it
        return JSONResponse({"detail": OURS}, 500)

    def shorten(request: Any, error: Any) -> Any:  # Gradio repeats what it was asked for
        return JSONResponse({"detail": in_a_line(error.detail)}, error.status_code, error.headers)

    requests = (FnIndexInferError, LookupError, TypeError, ValueError, AttributeError, OSError)
    mounts: list[Any] = [route for route in app.routes if isinstance(route, Mount)]
    for one in (app, *(mount.app for mount in mounts)):
        one.add_exception_handler(RequestValidationError, answer)
        one.add_exception_handler(Exception, fail)
    for mount in mounts:
        mount.app.add_exception_handler(HTTPException, shorten)
        for kind in requests:
            mount.app.add_exception_handler(kind, answer)
        mount.app = _Answers(mount.app, page)
    check_calls(page)


def what_is_wrong(method: str, path: str, error: Exception) -> tuple[int, str]:
    """Status and sentence of what Gradio raises while it reads a request; 500 for what is not the request's fault."""
    from fastapi.exceptions import RequestValidationError
    from gradio.route_utils import FnIndexInferError

    reads = method in ("GET", "HEAD")
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return 400, "The request is no JSON: see docs/web.md."
        where = ".".join(str(part)[:40] for part in first["loc"][1:]) or first["loc"][0]
        return 422, f"The request's {where} is missing, or of another kind than it should be: see docs/web.md."
    if path.rstrip("/") == UPLOAD and not isinstance(error, OSError):
        return 400, NO_FORM
    if isinstance(error, (FnIndexInferError, KeyError)):
        return 404, NO_ENDPOINT
    if reads and isinstance(error, (OSError, ValueError)):  # a name that no file can have
        return 404, NO_ADDRESS
    if not reads and isinstance(error, (TypeError, ValueError)):
        return 400, NO_REQUEST
    return 500, OURS


def check_calls(page: Any) -> None:
    """Calls of a page's functions: arguments that are left out are their defaults, as Gradio's /info promises.

    Gradio asks for every argument. What is wrong with them is one sentence, and what is wrong with the function too.
    """
    import gradio as gr

    prepare, process = page.preprocess_data, page.process_api

    async def prepare_whole(function: Any, given: list[Any], *rest: Any, **more: Any) -> list[Any]:
        try:
            return await prepare(function, whole(function, given), *rest, **more)
        except (gr.Error, OSError):
            raise
        except Exception:  # of Gradio's components, for what they were given
            told = f"{_name(function)} was given something of another kind than it takes: see docs/web.md."
            raise gr.Error(told, print_exception=False) from None

    async def process_told(*args: Any, **more: Any) -> dict[str, Any]:
        try:
            return await process(*args, **more)
        except gr.Error:
            raise
        except Exception as error:
            raise gr.Error(OURS) from error  # which Gradio prints

    page.preprocess_data, page.process_api = prepare_whole, process_told


def whole(function: Any, given: list[Any]) -> list[Any]:
    """All arguments of a function of a page: what is given, and the defaults of those at the end that are not.

    Raises:
        gr.Error: too few or too many are given.
    """
    import gradio as gr
    from gradio.utils import get_function_params

    most = len(function.inputs)
    takes = get_function_params(function.fn)[:most]
    defaults = [default for _, has_default, default, _ in takes if has_default]
    left = most - len(given)
    if not 0 <= left <= len(defaults):
        least = "" if not defaults else f"{most - len(defaults)} to "
        told = f"{_name(function)} takes {least}{most} value{'s' * (most != 1)}, not {len(given)}: see docs/web.md."
        raise gr.Error(told, print_exception=False)
    return [*given, *defaults[len(defaults) - left :]]


def _name(function: Any) -> str:
    return f"/{function.api_name}" if function.api_name else "A function of the page"


class _Answers:
    """ASGI around Gradio's application, for what it answers without an exception, or with one in the middle."""

    def __init__(self, app: Any, page: Any) -> None:
        self.app, self.page = app, page

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from fastapi import HTTPException
        from fastapi.responses import JSONResponse

        begun = False

        async def send_on(message: Any) -> None:
            nonlocal begun
            begun = True
            await send(message)

        event = _EVENT.fullmatch(scope.get("path", ""))
        if event and scope["method"] == "GET" and not self.knows(event[1]):
            await JSONResponse({"detail": NO_EVENT}, 404)(scope, receive, send)
            return
        answer = _Uploaded(scope, receive, send).hear if scope.get("path", "").rstrip("/") == UPLOAD else send_on
        try:
            await self.app(scope, receive, answer)
        except Exception as error:
            # a stream of a session that is not there: it has said so by then
            if not begun or not isinstance(error.__cause__, HTTPException):
                raise
            await send({"type": "http.response.body", "body": b""})

    def knows(self, event: str) -> bool:
        """Whether there is something to tell of an event; Gradio would begin to, and break off."""
        queue = self.page._queue
        sessions = (queue.event_ids_to_events, queue.pending_messages_per_session)
        return any(event in one for one in (*sessions, *queue.pending_event_ids_session.values()))


class _Uploaded:
    """The answer to an upload, held until it is whole: to one that is wrong, or brings nothing, it is another one."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        self.messages: list[Any] = []

    async def hear(self, message: Any) -> None:
        from fastapi.responses import JSONResponse

        self.messages.append(message)
        if message["type"] != "http.response.body" or message.get("more_body"):
            return
        status = self.messages[0]["status"]
        body = b"".join(one.get("body", b"") for one in self.messages)
        wrong = {400: NO_FORM, 413: TOO_LARGE}.get(status) if status != 200 else NO_FILE if body == b"[]" else None
        if wrong is None:
            for one in self.messages:
                await self.send(one)
        else:
            await JSONResponse({"detail": wrong}, max(status, 400))(self.scope, self.receive, self.send)
