"""A studio that runs, and people who use its page in a real browser; the fixtures are in conftest."""

import contextlib
import functools
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from browser import find_browser, free_port, open_browser, outside, record_requests, serve
from makeavideo.media.writer import write_video
from makeavideo.web.gallery import Gallery
from makeavideo.web.uploads import (
    Uploads,
)

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
MARKUP = "<b>bold</b> ${1 + 1} {{value}} <img src=x onerror=alert(1)>"
NAMES = {"generate": "Generate", "animate": "Animate", "interpolate": "Join", "vary": "Vary", "extend": "Continue"}
PROGRAM = "import sys; from makeavideo.web.server import serve; serve('127.0.0.1', int(sys.argv[1]), sys.argv[2], "
PROGRAM += "sys.argv[3], int(sys.argv[4]))"


def clip(path: Path, num_frames: int = 8, recipe: dict | None = None, fps: float = 8, side: int = 64) -> Path:
    frames = np.full((num_frames, side, side, 3), 250, np.uint8)
    for i, frame in enumerate(frames):
        frame[16:40, 2 * i : 2 * i + 24] = (240, 180, 30)
    return write_video(path, frames, fps, recipe)


def wait_until(what, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


@pytest.fixture
def gallery(tmp_path) -> Gallery:
    return Gallery(tmp_path / "gallery")


@pytest.fixture
def uploads(gallery) -> Uploads:
    return Uploads(gallery.folder / "uploads", gallery)


# In the browser; some with the trained weights
@contextlib.contextmanager
def studio(folder: Path, queue: int = 1, model: Path = ROOT / "models" / "emoji"):
    """A running studio; gives its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with serve("-c", PROGRAM, port, model, folder, queue, url=url):
        yield url


def real_weights(test):
    return pytest.mark.slow(pytest.mark.xdist_group("studio")(test))


quick = pytest.mark.xdist_group("quick-studio")


@pytest.fixture(scope="session")
def quick_site(tmp_path_factory, tiny_model):
    """A studio with a model that is quick: (address, gallery folder)."""
    folder = tmp_path_factory.mktemp("quick-studio") / "gallery"
    with studio(folder, 4, tiny_model) as url:
        yield url, folder


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """One studio with the trained weights for the tests below: (address, gallery folder)."""
    folder = tmp_path_factory.mktemp("studio") / "gallery"
    with studio(folder) as url:
        yield url, folder


@pytest.fixture(scope="module")
def browser():
    find_browser()
    with open_browser() as one:
        yield one


class Person:
    """A page of its own browser profile: what it asked other hosts for, and what went wrong on it."""

    def __init__(self, browser, url: str, width: int = 1280, height: int = 900, scheme: str = "light"):
        self.url, self.port = url, urllib.parse.urlsplit(url).port
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.context.set_default_timeout(300_000)  # a busy machine is slow
        self.requests, self.errors = record_requests(self.context), []
        local = re.compile(rf"^(https?|wss?)://(?!(127\.0\.0\.1|localhost):{self.port}/)")
        self.context.route(local, lambda route: route.abort())
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: self.errors.append(dialog.message))
        self.page.goto(url)
        self.page.get_by_role("tab", name="Generate").wait_for()
        self.page.locator("#gallery").wait_for(state="attached")
        self.page.wait_for_function("document.querySelector('#generate-seed input')?.value > 0")

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def panel(self, use: str):
        return self.page.get_by_role("tabpanel").filter(has=self.page.locator(f"#{use}-make"))

    def settings(self, use: str, seconds: float = 2, fps: float = 8, steps: int = 2, size: str = "64 (quick)") -> None:
        panel = self.panel(use)
        panel.get_by_label("Length in seconds").fill(str(seconds))
        panel.get_by_label("Frames a second").fill(str(fps))
        panel.get_by_label(size).check()
        steps_field = panel.get_by_label("number input for Steps")
        if not steps_field.is_visible():
            panel.get_by_role("button", name="More").click()
        steps_field.fill(str(steps))
        steps_field.press("Tab")

    def make(self, use: str) -> None:
        self.page.locator(f"#{use}-make").click()

    def said(self, text: str, seconds: float = 600) -> None:
        self.page.locator("#message").get_by_text(text).wait_for(timeout=1000 * seconds)

    def result(self) -> str:
        """Name of the finished video."""
        return self.page.locator("#view .card").get_attribute("data-item", timeout=600_000)

    def close(self) -> None:
        assert self.errors == []
        assert len(self.requests) > 20 and outside(self.requests, self.port) == []
        self.context.close()


@contextlib.contextmanager
def person(browser, url: str, **kwargs):
    one = Person(browser, url, **kwargs)
    yield one
    one.close()


def drop(page, file: Path) -> None:
    """Drop a file on the page's heading."""
    data = page.evaluate_handle(
        """([name, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], name));
            return data;
        }""",
        [file.name, list(file.read_bytes())],
    )
    for kind in ("dragover", "drop"):
        page.locator("h1").dispatch_event(kind, {"dataTransfer": data})


def get(url: str, **kwargs) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, **kwargs)) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@functools.cache
def token_header(url: str) -> dict[str, str]:
    """What programs send to change things: the token, here from the cookie that a browser gets with the page."""
    with urllib.request.urlopen(url) as reply:
        cookie = reply.headers["Set-Cookie"]
    return {"Authorization": "Bearer " + re.match(r"makeavideo-\d+=([^;]+)", cookie)[1]}


def begin(url: str, endpoint: str, *data) -> str:
    """The event of a call to the API."""
    body = json.dumps({"data": data}).encode()
    headers = {"Content-Type": "application/json", **token_header(url)}
    status, reply = get(f"{url}gradio_api/call/{endpoint}", data=body, headers=headers)
    assert status == 200, reply
    return json.loads(reply)["event_id"]


def told(url: str, endpoint: str, event: str) -> dict:
    """The first that an event tells."""
    with urllib.request.urlopen(f"{url}gradio_api/call/{endpoint}/{event}") as lines:
        return json.loads(
            next(line for line in lines if line.startswith(b"data: {") or line.startswith(b"data: ["))[6:]
        )[0]


def told_all(url: str, endpoint: str, event: str) -> str:
    return get(f"{url}gradio_api/call/{endpoint}/{event}")[1].decode()


def call(url: str, endpoint: str, *data) -> str:
    """What an endpoint of the API streams."""
    return told_all(url, endpoint, begin(url, endpoint, *data))
