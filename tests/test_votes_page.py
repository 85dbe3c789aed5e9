"""The page on which people vote, in a real browser."""

import signal
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from browser import free_port, outside, record_requests, serve
from makeavideo.doors import Site
from makeavideo.votes.page import Page, make_app
from makeavideo.votes.pairs import find_pairs
from makeavideo.votes.store import QUESTIONS, Store
from tiny_votes import BOTH_LEFT, MARKUP, clip

COMMAND = ("-m", "makeavideo", "compare")
NAMES = ("first", "second", "third", "fourth", "fifth", "sixth")
READY = "() => { const s = document.querySelector('.stage'); return s && s.dataset.ready === s.dataset.token; }"
NEXT = "old => { const s = document.querySelector('.stage'); return !s || (s.dataset.ready || old) !== old; }"


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """Six pairs of clips: of different length, one with markup as its prompt, one a gif and a webp."""
    a, b = tmp_path / "secret-ours", tmp_path / "secret-theirs"
    for folder, level, num_frames in ((a, 60, 8), (b, 200, 12)):
        folder.mkdir()
        for i, name in enumerate(NAMES):
            ending = (".gif" if folder == a else ".webp") if name == "sixth" else (".webm", ".mp4")[i % 2]
            clip(folder / f"{name}{ending}", MARKUP if name == "first" else f"a square, number {i}", level, num_frames)
    return a, b


def rows(db: Path) -> dict[tuple[str, str], dict[str, str]]:
    """(rater, pair) -> question -> the side that was chosen."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for vote in Store(db).votes():
        side = "left" if vote.choice == vote.left else "right"
        found.setdefault((vote.rater, vote.pair), {})[vote.question] = side
    return found


def sign_in(page, url: str, name: str) -> None:
    page.goto(url)
    page.get_by_label("Your name").fill(name)
    page.get_by_role("button", name="Start").click()
    page.wait_for_function(READY)


def held(page, db: Path) -> tuple[str, str]:
    """Token and name of the pair that a page shows."""
    token = page.get_attribute(".stage", "data-token")
    return token, Store(db).find(token).pair


def press(page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def rate_by_mouse(page, db: Path) -> str:
    """Nothing is saved before both questions are answered. Returns the pair."""
    token, pair = held(page, db)
    quality, faithfulness = (page.get_by_role("group", name=text) for text in QUESTIONS.values())
    quality.get_by_label("Left").click()
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Please answer both questions.").wait_for()
    assert rows(db) == {}
    faithfulness.get_by_label("Right").click()
    page.get_by_role("button", name="Save").click()
    page.wait_for_function(NEXT, arg=token)
    assert rows(db) == {("Ada <i>", pair): {"quality": "left", "faithfulness": "right"}}
    assert not page.locator("input:checked").count(), "the next pair starts without answers"
    return pair


def rate_by_keys(page, db: Path, *keys: str) -> str:
    """By the keys that the page names."""
    token, pair = held(page, db)
    press(page, *keys, "Enter")
    page.wait_for_function(NEXT, arg=token)
    return pair


def rate_by_tab(page, db: Path) -> str:
    """By Tab, Space and Enter alone, in the order of the page."""
    token, pair = held(page, db)
    focused = "() => { const at = document.activeElement; return at.value || at.id || at.textContent; }"
    press(page, "Tab")
    assert page.evaluate(focused) == "Pause"
    press(page, "Enter")
    assert page.evaluate("[...document.querySelectorAll('video')].every(video => video.paused)")
    for stop, chosen in (("left", True), ("right", False), ("left", False), ("right", True), ("save", False)):
        press(page, "Tab")
        assert page.evaluate(focused) == stop
        if chosen:
            press(page, "Space")
    press(page, "Enter")
    page.wait_for_function(NEXT, arg=token)
    assert rows(db)["Ada <i>", pair] == {"quality": "left", "faithfulness": "right"}
    return pair


def watched(browser):
    """A page of its own browser profile, what it asks the network for, and what goes wrong on it."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    requests, errors = record_requests(context), []
    context.set_default_timeout(300_000)
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: errors.append(dialog.message))
    return page, requests, errors


def go_on_after_a_restart(ada, bob, bobs_name: str, db: Path) -> list[str]:
    """The pairs that Ada rates now."""
    # a page that was open all the time can still save what it shows
    before = rows(db)
    pair = rate_by_keys(bob, db, "1", "3")
    assert rows(db) == {**before, (bobs_name, pair): BOTH_LEFT}
    # each browser still knows its rater
    for page, rater in ((ada, "Ada <i>"), (bob, bobs_name)):
        page.reload()
        page.wait_for_function(READY)
        assert f"You rate as {rater}: 3 of 6 pairs done." in page.inner_text("body")
    rated = [rate_by_keys(ada, db, "1", "3") for _ in range(3)]
    ada.get_by_text("there is nothing left for you to rate").wait_for()
    return rated


def test_people_rate_pairs_by_mouse_and_by_keyboard(browser, folders, tmp_path):
    db, port = tmp_path / "v.sqlite", free_port()
    url = f"http://127.0.0.1:{port}/"
    command = (*COMMAND, *folders, "--db", db, "--port", str(port), "--raters", "3")
    with serve(*command, url=url) as server:
        ada, requests, errors = watched(browser)
        sign_in(ada, url, "Ada <i>")
        seen_by_ada = [rate_by_mouse(ada, db)]
        assert "1 left or 2 right for the first question" in ada.inner_text("body")
        seen_by_ada.append(rate_by_keys(ada, db, "2", "3"))
        assert rows(db)["Ada <i>", seen_by_ada[-1]] == {"quality": "right", "faithfulness": "left"}
        seen_by_ada.append(rate_by_tab(ada, db))

        # a second rater, who has no name, at the same time
        bob = browser.new_context().new_page()
        sign_in(bob, url, "")
        for _ in range(2):
            rate_by_keys(bob, db, "1", "3")
        (bobs_name,) = {rater for rater, _ in rows(db)} - {"Ada <i>"}
        assert bobs_name.startswith("rater-")
        server.send_signal(signal.SIGKILL)
        server.wait()
    assert len(rows(db)) == 5

    with serve(*command, url=url):
        seen_by_ada += go_on_after_a_restart(ada, bob, bobs_name, db)
    assert sorted(seen_by_ada) == sorted(NAMES), "no pair comes back"
    assert {vote.left for vote in Store(db).votes()} == {"A", "B"}, "sides are shuffled"
    assert errors == []
    assert len(requests) > 20 and outside(requests, port) == []


def test_other_sites_and_clients_without_the_token_change_nothing(folders, tmp_path):
    pairs = find_pairs(*folders)
    store, site = Store.create(tmp_path / "v.sqlite", pairs), Site.at("127.0.0.1")
    ask = TestClient(make_app(store, pairs, site), "http://127.0.0.1:7860")
    start = {"data": ["Ada"], "fn_index": 1, "session_hash": "x"}
    token = {"Authorization": f"Bearer {site.token}"}
    for path in ("/", "/config", "/media/x/left"):
        assert ask.get(path, headers={"Host": "evil.example:7860"}).status_code == 403
    for path in ("/gradio_api/queue/join", "/gradio_api/run/predict"):
        for headers in ({}, {"Host": "evil.example", **token}, {"Origin": "http://evil.example", **token}):
            assert ask.post(path, json=start, headers=headers).status_code == 403, (path, headers)
    assert ask.post("/gradio_api/upload", files={"files": b"x"}, headers=token).status_code == 404
    assert ask.post("/gradio_api/queue/join", json=start, headers=token).status_code == 200


def test_names_of_a_wrong_type_or_length_are_nobodys(folders, tmp_path):
    import gradio as gr

    pairs = find_pairs(*folders)
    store = Store.create(tmp_path / "v.sqlite", pairs)
    with gr.Blocks():
        page = Page(store, {pair.name: pair for pair in pairs})
    for wrong in (5, None, ["Ada"], {"a": 1}, "", "  "):
        assert page.on_load(wrong)[page.saved] == page.on_save(wrong, wrong, "left", "left")[page.saved] == ""
        assert page.on_save("Ada", wrong, "left", "left")[page.saved] == "Ada"
        assert page.on_start(wrong)[page.saved].startswith("rater-")
    assert page.on_load("half \ud800 " + 100 * "x")[page.saved] == "half ? " + 73 * "x"
    assert store.votes() == []


@pytest.mark.slow
def test_the_page_gives_nothing_away_and_keeps_in_step(browser, folders, tmp_path):
    a, b = folders
    db, port = tmp_path / "v.sqlite", free_port()
    url = f"http://127.0.0.1:{port}/"
    with serve(*COMMAND, a, b, "--db", db, "--port", str(port), url=url):
        context = browser.new_context()
        requests = record_requests(context)
        page = context.new_page()
        bodies: list[str] = []
        page.on("response", lambda reply: bodies.append(reply.url + str(reply.headers)))
        sign_in(page, url, "Ada")
        sides = set()
        for _ in NAMES:
            token, pair = held(page, db)
            hand = Store(db).find(token)
            left, right = ((a, b), (b, a))[hand.left == "B"]
            sides.add(hand.left)
            if pair == "first":
                assert page.inner_text(".prompt") == MARKUP
            if pair != "sixth":
                for side, folder in (("left", left), ("right", right)):
                    with urllib.request.urlopen(f"{url}media/{token}/{side}") as reply:
                        assert reply.read() == next(folder.glob(f"{pair}.*")).read_bytes()
            gaps, backwards = follow(page)
            # a frame lasts 0.125 s; on a busy machine one of them may be late before it is put back
            assert np.quantile(gaps, 0.9) < 0.125, (pair, gaps)
            assert backwards == 2, "both have started again"
            text = page.content()
            assert not [word for word in ("secret-", "ours", "theirs", *NAMES[2:]) if word in text]
            for key in ("1", "3", "Enter"):
                page.keyboard.press(key)
            page.wait_for_function(NEXT, arg=token)
        assert sides == {"A", "B"}
        assert not [one for one in bodies if "secret-" in one]
        assert not [one for one in requests if any(name in one for name in ("secret-", *NAMES[2:]))]
        assert outside(requests, port) == []


def follow(page) -> tuple[list[float], int]:
    """Watch both videos for 2.5 seconds: how far apart they were, and how many of them jumped back to their start."""
    samples = page.evaluate(
        """async () => {
            const seen = [];
            const videos = [...document.querySelectorAll("video")];
            for (const end = performance.now() + 2500; performance.now() < end;) {
                seen.push(videos.map(video => [video.currentTime, video.ended]));
                await new Promise(done => setTimeout(done, 20));
            }
            return seen;
        }"""
    )
    gaps = [abs(one - two) for (one, over), (two, done) in samples if not over and not done]
    times = np.array([[one, two] for (one, _), (two, _) in samples])
    return gaps, int((np.diff(times, axis=0) < -0.5).any(axis=0).sum())
