"""Helpers for tests that open a page in a real browser: Chromium, headless, by Playwright."""

import contextlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def find_browser() -> str:
    """Path of Chromium; the test is skipped where none is installed."""
    pytest.importorskip("playwright.sync_api", reason="no playwright: pip install makeavideo[dev]")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser is installed, tried {', '.join(BROWSERS)}")
    return found


@contextlib.contextmanager
def open_browser() -> Iterator:
    """A Playwright browser; `new_context()` makes people who share nothing."""
    path = find_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def record_requests(context) -> list[str]:
    """The addresses of all requests that a context's pages make from now on, as a list that keeps growing."""
    seen: list[str] = []
    context.on("request", lambda request: seen.append(request.url))
    return seen


def outside(urls: list[str], port: int) -> list[str]:
    """Those addresses that are not on this machine's `port`; data: and blob: never leave the browser."""
    local = {f"127.0.0.1:{port}", f"localhost:{port}"}
    inside = ("data", "blob", "about")
    return [url for url in urls if urlsplit(url).scheme not in inside and urlsplit(url).netloc not in local]


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for_server(url: str, process: subprocess.Popen, seconds: float = 600) -> None:
    """Return when `url` answers; fail with the process's output if it ends or stays silent."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(url, timeout=5).close()
            return
        time.sleep(0.2)
    process.kill()
    pytest.fail(f"no answer from {url}: {process.stdout.read()}")


@contextlib.contextmanager
def serve(*command: str | Path, url: str) -> Iterator[subprocess.Popen]:
    """Run `python *command` until `url` answers, and kill it at the end."""
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        wait_for_server(url, process)
        yield process
    finally:
        process.kill()
        process.wait()
