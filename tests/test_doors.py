"""Who may ask the pages for what: a real server and real requests, over a page that only says what it was told."""

import contextlib
import http.client
import socket
import threading
import time

import pytest

from makeavideo.doors import MAX_BODY, Doorkeeper, Site
from makeavideo.errors import UserError
from makeavideo.serving import listen, run_app

JSON = {"Content-Type": "application/json"}


class Echo:
    """An ASGI application that reads the whole request and answers with its length, or with much."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.gone = threading.Event()
        """Somebody has left before he had all of it."""

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            return
        heard, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError("gone")
            heard, more = heard + len(message.get("body", b"")), message.get("more_body", False)
        self.heard.append(heard)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/much":
            await send({"type": "http.response.body", "body": bytes(2**26), "more_body": True})
            assert (await receive())["type"] == "http.disconnect"
            self.gone.set()
        else:
            await send({"type": "http.response.body", "body": str(heard).encode()})


@contextlib.contextmanager
def open_page(host: str = "127.0.0.1", allow=(), head_seconds: float = 20.0, stuck_seconds: float = 60.0, **bounds):
    """A page that is served: its port, its site, and what heard the requests."""
    echo, site, listener = Echo(), Site.at(host, allow), listen(host, 0)
    listener.listen()  # who comes before the server does waits for it
    app = Doorkeeper(echo, site, **bounds)
    # a thread of the process: it ends with it
    threading.Thread(target=run_app, args=(app, listener, head_seconds, stuck_seconds), daemon=True).start()
    yield listener.getsockname()[1], site, echo


def ask(port: int, method: str = "GET", path: str = "/", body=None, **headers) -> tuple[int, str, dict]:
    """Status, text and headers; `Host` as it is given, or the right one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    reply = connection.getresponse()
    found = reply.status, reply.read().decode(), {name.lower(): value for name, value in reply.getheaders()}
    connection.close()
    return found


def test_only_its_own_names_are_answered_to():
    with open_page(allow=["studio.example", "[fd00::5]"]) as (port, _, echo):
        own = ["127.0.0.1", "localhost", "LOCALHOST.", "[::1]", "studio.example", "[fd00::5]"]
        for name in own:
            for host in (name, f"{name}:{port}", f"{name}:1"):
                assert ask(port, Host=host)[0] == 200, host
        before = len(echo.heard)
        others = [
            "evil.example",
            f"evil.example:{port}",
            "127.0.0.2",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
        ]
        others += ["evil.example/@localhost", "localhost/", "", "xlocalhost", "a.studio.example", "[::2]", "::1", "*"]
        others += [socket.gethostname()] if socket.gethostname() != "localhost" else []
        for host in others:
            status, text, headers = ask(port, Host=host)
            assert status == 403 and "--allow-host" in text and "set-cookie" not in headers, host
        with socket.create_connection(("127.0.0.1", port)) as bare:
            bare.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b" 403 " in bare.recv(1000)
        assert len(echo.heard) == before


def test_on_all_addresses_the_machine_has_its_name_and_the_address_that_was_asked():
    with open_page("0.0.0.0") as (port, _, _):
        for host in (socket.gethostname(), f"{socket.gethostname()}.local:{port}", "0.0.0.0", "127.0.0.1"):
            assert ask(port, Host=host)[0] == 200, host
        assert ask(port, Host="127.0.0.2")[0] == 403
        far = http.client.HTTPConnection("127.0.0.2", port)
        far.request("GET", "/")
        assert far.getresponse().status == 200, "the request came to this address"


def test_what_is_no_name_of_a_host_is_refused():
    for wrong in ("http://studio.example", "studio.example:80", "a/b", "*", "", "[::1]:80", "two words"):
        with pytest.raises(UserError, match="not the name of a host"):
            Site.at("127.0.0.1", [wrong])


def test_pages_of_other_sites_are_refused_even_with_the_token():
    with open_page(allow=["studio.example"]) as (port, site, echo):
        token = {"Authorization": f"Bearer {site.token}"}
        for origin in (f"http://127.0.0.1:{port}", "https://studio.example", "http://studio.example:8443"):
            assert ask(port, "POST", body="{}", Origin=origin, **token)[0] == 200, origin
        before = len(echo.heard)
        for origin in ("http://evil.example", f"http://localhost:{port}", "http://127.0.0.1:1", "null", "", "file://"):
            for method in ("POST", "OPTIONS", "GET"):
                status, text, headers = ask(port, method, Origin=origin, **token)
                assert status == 403 and "another site" in text and "set-cookie" not in headers, origin
        assert len(echo.heard) == before


def test_what_changes_things_needs_the_token():
    with open_page() as (port, site, echo):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            for wrong in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer é"}, {"Cookie": "a=b; ;=\x01"}):
                status, text, headers = ask(port, method, body="{}", **wrong)
                assert status == 403 and "Authorization: Bearer" in text and "set-cookie" not in headers
            assert ask(port, method, body="{}", Authorization=f"Basic {site.token}")[0] == 403
        assert echo.heard == []
        assert ask(port, "POST", body="{}", Authorization=f"bearer {site.token}")[:2] == (200, "2")
        # a browser gets it with the page, once
        cookie = ask(port)[2]["set-cookie"]
        assert "SameSite=Strict" in cookie and "HttpOnly" in cookie
        kept = cookie.partition(";")[0]
        assert ask(port, "POST", body="{}", Cookie=f"other=1; {kept}")[0] == 200
        assert "set-cookie" not in ask(port, Cookie=kept)[2] and "set-cookie" not in ask(port, path="/media/x")[2]
        # and a page that was open in the run before gets the new one, to ask again
        status, _, headers = ask(port, "POST", body="{}", Origin=f"http://127.0.0.1:{port}", Cookie=f"{kept}x")
        assert (status, headers["x-new-token"], headers["set-cookie"]) == (403, "1", cookie)
    assert Site.at("127.0.0.1").token != site.token


def pieces(size: int):
    """A body whose length is not told."""
    for _ in range(0, size, 2**16):
        yield bytes(2**16)


def test_bodies_are_bounded_before_they_are_read():
    after: list[int] = []
    with open_page(max_upload=2**21, after_upload=lambda: after.append(1)) as (port, site, echo):
        token = {"Authorization": f"Bearer {site.token}"}
        upload = "/gradio_api/upload"
        assert ask(port, "POST", body=bytes(MAX_BODY), **token)[0] == 200
        assert ask(port, "POST", upload, bytes(2**21), **token)[0] == 200
        assert ask(port, "POST", upload, pieces(2**21), **token)[:2] == (200, str(2**21))
        before = list(echo.heard)
        assert ask(port, "POST", body=bytes(MAX_BODY + 1), **token)[0] == 413
        assert ask(port, "POST", body=pieces(MAX_BODY + 2**17), **token)[0] == 413
        assert ask(port, "POST", upload, bytes(2**22), **token)[0] == 413
        assert ask(port, "POST", upload, pieces(2**22), **token)[0] == 413
        assert ask(port, "POST", "/gradio_api/uploadx", bytes(2**21), **token)[0] == 413
        status, text, _ = ask(port, "POST", body="[" * 5000, **token, **JSON)
        assert status == 400 and "more than 64 lists in each other" in text
        assert echo.heard == before and len(after) >= 2
        assert ask(port, "POST", body='{"a": "' + "[{" * 5000 + '\\""}', **token, **JSON)[0] == 200
    with open_page() as (port, site, _):
        for path in (
            "/gradio_api/upload",
            "/upload",
            "/gradio_api/proxy=http://127.0.0.1:1/x",
            "//GRADIO_API/%70roxy=x",
        ):
            assert ask(port, "POST", path, b"", Authorization=f"Bearer {site.token}")[0] == 404, path


def closed_after(one: socket.socket) -> float:
    """Seconds until the server lets go of a connection."""
    begun = time.monotonic()
    one.settimeout(60)
    with contextlib.suppress(ConnectionError):
        while one.recv(1000):
            pass
    return time.monotonic() - begun


def test_slow_sockets_are_let_go():
    with open_page(head_seconds=0.5, silence=0.5, max_upload=2**20) as (port, site, echo):
        head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {site.token}\r\nContent-Length: 9\r\n\r\n"
        starts = ["", "GET / HT", f"POST / HTTP/1.1\r\n{head}abc", f"POST /gradio_api/upload HTTP/1.1\r\n{head}abc"]
        starts.append("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET / HTTP/1.1\r\nHo")  # the second one of two
        waiting = [socket.create_connection(("127.0.0.1", port)) for _ in starts]
        for one, start in zip(waiting, starts, strict=True):
            one.sendall(start.encode())
        for one, start in zip(waiting, starts, strict=True):
            assert closed_after(one) < 55, start
            one.close()
        assert ask(port)[0] == 200 and set(echo.heard) == {0}


def test_who_does_not_take_his_answer_is_let_go():
    with open_page(stuck_seconds=0.5) as (port, _, echo):
        with socket.create_connection(("127.0.0.1", port)) as one:
            one.sendall(b"GET /much HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert echo.gone.wait(55)
        assert ask(port)[0] == 200
