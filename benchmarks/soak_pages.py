"""The studio and the page of votes as processes that answer over HTTP, and people who use them."""

import contextlib
import http.client
import json
import re
import secrets
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from soak_ground import start

ANSWER = 120.0
"""Seconds until an answer; a video may be made for it."""
GONE = (OSError, RuntimeError, ValueError, http.client.HTTPException)
"""What asking a page raises that is no more, or ends meanwhile."""


class Site:
    """`make-a-video web | compare ...` on a free port. Use as a context manager: it is killed at the end.

    Raises:
        RuntimeError: it ended before it listened; with what it said.
    """

    def __init__(self, *arguments: Any, log: Path, **options: Any) -> None:
        self.log = log
        with log.open("ab") as errors:
            self.process = start(*arguments, "--port", 0, stderr=errors, **options)
        self.url = ""

    def __enter__(self) -> "Site":
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.search(r"http://\S+/", line):
                self.url = found.group()
                break
        else:
            raise RuntimeError(f"it did not begin to listen: {self.log.read_text('utf-8', 'replace')[-500:]}")
        end = time.monotonic() + ANSWER
        while True:
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(self.url, timeout=ANSWER) as reply:
                    cookie = re.match(r"makeavideo-\d+=([^;]+)", reply.headers["Set-Cookie"])
                assert cookie is not None
                self.token = cookie.group(1)
                return self
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"it does not answer: {self.log.read_text('utf-8', 'replace')[-500:]}")
            time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def post(self, path: str, body: bytes, kind: str = "application/json") -> Any:
        """The json of an answer. OSError: none came."""
        headers = {"Content-Type": kind, "Authorization": f"Bearer {self.token}"}
        asked = urllib.request.Request(f"{self.url}gradio_api/{path}", body, headers)
        with urllib.request.urlopen(asked, timeout=ANSWER) as reply:
            return json.loads(reply.read())

    def events(self, path: str) -> Iterator[Any]:
        """What a stream of events tells, as it comes. OSError: it broke off."""
        with urllib.request.urlopen(f"{self.url}gradio_api/{path}", timeout=ANSWER) as lines:
            for line in lines:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])

    def begin(self, use: str, *data: Any) -> str:
        """Ask for a video; its event."""
        return self.post(f"call/{use}", json.dumps({"data": data}).encode())["event_id"]

    def make(self, use: str, *data: Any) -> dict[str, Any]:
        """A video by the API, when it is done; RuntimeError: the studio said why not."""
        told = list(self.events(f"call/{use}/{self.begin(use, *data)}"))
        last = told[-1] if told else None
        if not isinstance(last, list) or not isinstance(last[0], dict) or "name" not in last[0]:
            raise RuntimeError(f"{use} made nothing: {str(last)[:300]}")
        return last[0]

    def upload(self, file: Path) -> dict[str, Any]:
        """Send a file; what names it in a call."""
        head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{file.name}"\r\n\r\n'.encode()
        kind = "multipart/form-data; boundary=x"
        (path,) = self.post("upload", head + file.read_bytes() + b"\r\n--x--\r\n", kind)
        return {"path": path, "orig_name": file.name, "meta": {"_type": "gradio.FileData"}}

    def press(self, number: int, *data: Any, session: str) -> list[Any]:
        """One of the page's own buttons, as a browser does; what it changes on the page."""
        body = {"data": data, "fn_index": number, "session_hash": session}
        self.post("queue/join", json.dumps(body).encode())
        for told in self.events(f"queue/data?session_hash={session}"):
            if told.get("msg") == "process_completed":
                return told["output"]["data"]
        raise RuntimeError("the page did not answer")


class Rater:
    """Somebody who votes. `saved`: the pairs of which the page said that they are done; `said`: what it said last."""

    def __init__(self, site: Site, name: str) -> None:
        self.site, self.name, self.saved, self.said = site, name, 0, ""

    def vote(self, sides: tuple[str, str]) -> bool:
        """The next pair; whether there was one. OSError, RuntimeError: the page is gone."""
        shown = self.press(1, self.name)
        self.said, token = shown[1], shown[5]
        if not token:
            return False
        self.said = self.press(2, self.name, token, *sides)[1]
        done = re.search(r": (\d+) of \d+ pairs done", self.said)
        self.saved = int(done.group(1)) if done else self.saved
        return True

    def press(self, number: int, *data: Any) -> list[Any]:
        answer = self.site.press(number, *data, session=secrets.token_hex(8))
        return [one.get("value", one) if isinstance(one, dict) else one for one in answer]


def ended(process: subprocess.Popen, seconds: float) -> int | None:
    """The exit code, None if it still runs after that long."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(seconds)
    return None
