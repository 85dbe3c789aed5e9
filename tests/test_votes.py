"""People's votes: pairs, the store under two processes and SIGKILL, the figures, and the page in a real browser."""

import csv
import json
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from browser import find_browser, free_port, open_browser, outside, record_requests, serve
from makeavideo.cli import votes
from makeavideo.errors import UserError
from makeavideo.media.writer import write_video
from makeavideo.votes.pairs import Pair, find_pairs
from makeavideo.votes.statistics import figures, fleiss_kappa, share, write_csv
from makeavideo.votes.store import QUESTIONS, Store

COMMAND = ("-m", "makeavideo", "compare")
MARKUP = "<b>bold</b> ${1 + 1} {{value}} <img src=x onerror=alert(1)>"
BOTH_LEFT = dict.fromkeys(QUESTIONS, "left")


def clip(path: Path, prompt: str | None = None, level: int = 90, num_frames: int = 8) -> None:
    frames = np.full((num_frames, 32, 32, 3), level, np.uint8)
    for i, frame in enumerate(frames):
        frame[8:24, i : i + 8] = (240, 30, 30)
    write_video(path, frames, fps=8, recipe={"prompt": prompt} if prompt else None)


def fake_pairs(folder: Path, count: int) -> list[Pair]:
    """Pairs of files that only the store looks at."""
    for side in "ab":
        (folder / side).mkdir(exist_ok=True)
        for i in range(count):
            (folder / side / f"{i:02d}.mp4").write_text(f"{side}{i}")
    return [Pair(f"{i:02d}", f"prompt {i}", folder / f"a/{i:02d}.mp4", folder / f"b/{i:02d}.mp4") for i in range(count)]


def choose(store: Store, rater: str, wanted: dict[str, dict[str, str]]) -> None:
    """Vote on all pairs as `wanted` says: pair -> question -> A or B."""
    while hand := store.hand_out(rater):
        answers = {q: "left" if hand.left == letter else "right" for q, letter in wanted[hand.pair].items()}
        assert store.vote(hand.token, answers)


# ---------------------------------------------------------------------------------------------------------------------
# Pairs


def test_pairs_are_files_of_the_same_stem_with_their_prompt(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        folder.mkdir()
        clip(folder / "one.mp4", "a cat")
        clip(folder / "two_red-dogs.gif" if folder == a else folder / "two_red-dogs.webm")
    clip(a / "alone.mp4", "nobody's")
    (b / "notes.txt").write_text("not a video")
    found = {pair.name: pair.prompt for pair in find_pairs(a, b)}
    assert found == {"one": "a cat", "two_red-dogs": "two red dogs"}

    (tmp_path / "prompts.csv").write_text("id,prompt\none,given\n")
    assert [pair.prompt for pair in find_pairs(a, b, tmp_path / "prompts.csv")] == ["given", "two red dogs"]
    (tmp_path / "prompts.csv").write_text("name,text\none,given\n")
    with pytest.raises(UserError, match="columns id and prompt"):
        find_pairs(a, b, tmp_path / "prompts.csv")

    clip(b / "alone.mp4", "somebody's")
    with pytest.raises(UserError, match="different prompts"):
        find_pairs(a, b)
    clip(b / "one.gif")
    with pytest.raises(UserError, match="same name"):
        find_pairs(a, b)


def test_folders_that_share_nothing(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        find_pairs(tmp_path / "missing", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="share no videos"):
        find_pairs(tmp_path, tmp_path / "empty")


# ---------------------------------------------------------------------------------------------------------------------
# The store


def test_a_rater_sees_each_pair_once_even_after_a_restart(tmp_path):
    pairs = fake_pairs(tmp_path, 6)
    seen = []
    for _ in pairs:
        store = Store.create(tmp_path / "v.sqlite", pairs, raters=3)
        hand = store.hand_out("ada")
        assert store.hand_out("ada") == hand, "a reload before the answer shows the same pair"
        assert store.vote(hand.token, BOTH_LEFT) and store.vote(hand.token, dict.fromkeys(QUESTIONS, "right"))
        seen.append(hand.pair)
    assert sorted(seen) == [pair.name for pair in pairs]
    assert Store(tmp_path / "v.sqlite").hand_out("ada") is None
    kept = store.votes()
    assert len(kept) == 12 and all(vote.choice == vote.left for vote in kept), "the first vote on a pair counts"


def test_sides_are_shuffled_by_rater_and_pair_and_stay(tmp_path):
    pairs = fake_pairs(tmp_path, 40)
    store, again = (Store.create(tmp_path / f"{name}.sqlite", pairs, seed=3) for name in ("one", "two"))
    sides = {rater: [store._left(rater, pair.name) for pair in pairs] for rater in ("ada", "bob")}
    assert sides["ada"] == [again._left("ada", pair.name) for pair in pairs]
    assert sides["ada"] != sides["bob"]
    for one in sides.values():
        assert 10 < one.count("A") < 30


def test_a_pair_is_finished_after_so_many_raters(tmp_path):
    pairs = fake_pairs(tmp_path, 2)
    store = Store.create(tmp_path / "v.sqlite", pairs, raters=3)
    for rater in ("ada", "bob", "cyd"):
        choose(store, rater, dict.fromkeys(("00", "01"), dict.fromkeys(QUESTIONS, "A")))
    assert store.hand_out("dee") is None
    assert Store.create(tmp_path / "v.sqlite", pairs, raters=5).hand_out("dee") is not None


def test_a_pair_in_the_hands_of_others_is_reserved_for_a_while(tmp_path, monkeypatch):
    store = Store.create(tmp_path / "v.sqlite", fake_pairs(tmp_path, 1), raters=1)
    slow = store.hand_out("slow")
    assert store.hand_out("quick") is None
    monkeypatch.setattr("makeavideo.votes.store._LEASE", -1)
    assert store.vote(store.hand_out("quick").token, BOTH_LEFT)
    assert store.vote(slow.token, BOTH_LEFT), "a late vote is kept"
    found = figures(store)["questions"]["quality"]
    assert found["raw"]["total"] == 2 and found["majority"]["total"] == 1
    assert not store.vote("no such token", BOTH_LEFT)


def test_what_a_user_can_get_wrong(tmp_path):
    pairs = fake_pairs(tmp_path, 2)
    with pytest.raises(UserError, match="odd"):
        Store.create(tmp_path / "v.sqlite", pairs, raters=4)
    with pytest.raises(UserError, match="no votes"):
        Store(tmp_path / "v.sqlite")
    with pytest.raises(UserError, match="another file"):
        Store.create(tmp_path / "no" / "folder.sqlite", pairs)
    (tmp_path / "text.sqlite").write_text("these are not the votes you are looking for" * 50)
    with pytest.raises(UserError, match="not a file of votes"):
        Store.create(tmp_path / "text.sqlite", pairs)
    Store.create(tmp_path / "v.sqlite", pairs)
    with pytest.raises(UserError, match="missing now"):
        Store.create(tmp_path / "v.sqlite", pairs[:1])
    pairs[0].a.write_text("another video")
    with pytest.raises(UserError, match="another 00"):
        Store.create(tmp_path / "v.sqlite", pairs)
    with pytest.raises(UserError, match="Both questions"):
        Store(tmp_path / "v.sqlite").vote("token", {"quality": "left"})


VOTER = """
import sys
from pathlib import Path
from makeavideo.votes.store import QUESTIONS, Store
store = Store(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for rater in sys.argv[2:]:
    while hand := store.hand_out(rater):
        assert store.vote(hand.token, dict.fromkeys(QUESTIONS, "left"))
        print(rater, hand.pair, flush=True)
"""


def start_voter(store: Store, *raters: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", VOTER, str(store.path), *raters],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def kept(path: Path) -> set[tuple[str, str]]:
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = db.execute("SELECT rater, pair, COUNT(*) FROM votes GROUP BY rater, pair").fetchall()
    assert all(count == len(QUESTIONS) for *_, count in rows), "both answers or none"
    return {(rater, pair) for rater, pair, _ in rows}


def test_two_processes_at_once_lose_nothing(tmp_path):
    pairs = fake_pairs(tmp_path, 25)
    store = Store.create(tmp_path / "v.sqlite", pairs, raters=5)
    voters = [start_voter(store, "ada", "bob"), start_voter(store, "cyd", "dee")]
    for voter in voters:
        voter.stdin.write("\n")
        voter.stdin.flush()
    told = [voter.communicate()[0].split("\n")[:-1] for voter in voters]
    assert [voter.returncode for voter in voters] == [0, 0]
    everything = {(rater, pair.name) for rater in ("ada", "bob", "cyd", "dee") for pair in pairs}
    assert {tuple(line.split()) for lines in told for line in lines} == kept(store.path) == everything


def test_a_killed_process_loses_nothing_it_has_confirmed(tmp_path):
    store = Store.create(tmp_path / "v.sqlite", fake_pairs(tmp_path, 300), raters=1)
    voter = start_voter(store, "ada")
    voter.stdin.write("\n")
    voter.stdin.flush()
    told = [voter.stdout.readline() for _ in range(20)]
    voter.send_signal(signal.SIGKILL)
    told += voter.communicate()[0].split("\n")[:-1]
    found = kept(store.path)
    assert {tuple(line.split()) for line in told} <= found and 20 <= len(found) < 300


# ---------------------------------------------------------------------------------------------------------------------
# The figures


def test_kappa_by_hand():
    # agreement of each pair 1, 0.6, 1, 0.4: 0.75 on average; 12 of 20 votes are for A, so chance gives 0.6^2 + 0.4^2
    assert fleiss_kappa([(5, 0), (4, 1), (0, 5), (3, 2)]) == pytest.approx((0.75 - 0.52) / 0.48)
    assert fleiss_kappa([(3, 0), (0, 3)]) == 1
    assert fleiss_kappa([(1, 1), (1, 1)]) == -1
    assert fleiss_kappa([]) is fleiss_kappa([(1, 0), (0, 1)]) is fleiss_kappa([(3, 0), (3, 0)]) is None


def test_intervals_are_exact():
    from scipy.stats import beta

    found = share(13, 20)
    assert found["percent"] == 65
    assert found["low"] == pytest.approx(100 * beta.ppf(0.025, 13, 8))
    assert found["high"] == pytest.approx(100 * beta.ppf(0.975, 14, 7))
    assert share(5, 5)["low"] == pytest.approx(100 * 0.025 ** (1 / 5)) and share(5, 5)["high"] == 100
    assert share(0, 0)["percent"] is None


@pytest.fixture
def rated(tmp_path) -> Store:
    """Four pairs, three raters: quality goes 3:0, 2:1, 1:2, 0:3 to A, faithfulness always to B."""
    pairs = fake_pairs(tmp_path, 4)
    store = Store.create(tmp_path / "v.sqlite", pairs, raters=3)
    for i, rater in enumerate(("ada", "bob", "cyd")):
        wanted = {f"{j:02d}": {"quality": "A" if i < 3 - j else "B", "faithfulness": "B"} for j in range(4)}
        choose(store, rater, wanted)
    return store


def test_report(rated, tmp_path):
    found = figures(rated)
    assert (found["pairs"], found["raters"], found["raters_a_pair"]) == (4, 3, 3)
    quality, faithfulness = found["questions"]["quality"], found["questions"]["faithfulness"]
    assert (quality["majority"]["wins"], quality["majority"]["total"], quality["finished_pairs"]) == (2, 4, 4)
    assert (quality["raw"]["wins"], quality["raw"]["total"]) == (6, 12)
    # agreement of each pair 1, 1/3, 1/3, 1; half of the votes are for A
    assert quality["kappa"] == pytest.approx((2 / 3 - 1 / 2) / (1 / 2))
    assert faithfulness["majority"]["percent"] == 0 and faithfulness["kappa"] is None
    assert faithfulness["majority"]["high"] == pytest.approx(100 * (1 - 0.025 ** (1 / 4)))

    done = CliRunner().invoke(
        votes.app,
        ["report", str(rated.path), "--csv", str(tmp_path / "v.csv"), "--json", str(tmp_path / "v.json")],
    )
    assert done.exit_code == 0, done.output
    assert "A, majority of each pair    50.0 %     [6.8, 93.2]  2 of 4" in done.output
    assert "agreement (Fleiss kappa)   0.33" in done.output and "not defined" in done.output
    assert json.loads((tmp_path / "v.json").read_text()) == found
    with (tmp_path / "v.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24 and {row["prompt"] for row in rows} == {f"prompt {i}" for i in range(4)}
    with pytest.raises(UserError, match="Cannot write"):
        write_csv(tmp_path / "no" / "folder.csv", [])


def test_report_without_votes(tmp_path):
    Store.create(tmp_path / "v.sqlite", fake_pairs(tmp_path, 1))
    done = CliRunner().invoke(votes.app, ["report", str(tmp_path / "v.sqlite")])
    assert done.exit_code == 0 and "no votes yet" in done.output


def test_compare_is_short_for_compare_serve(tmp_path):
    for arguments in (["x", "y"], ["serve", "x", "y"], ["--port", "0", "x", "y"]):
        done = CliRunner().invoke(votes.app, arguments)
        assert isinstance(done.exception, UserError) and "no folder x" in str(done.exception)


# ---------------------------------------------------------------------------------------------------------------------
# The page

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


def test_people_rate_pairs_by_mouse_and_by_keyboard(folders, tmp_path):
    find_browser()
    a, b = folders
    db, port = tmp_path / "v.sqlite", free_port()
    url = f"http://127.0.0.1:{port}/"
    command = (*COMMAND, a, b, "--db", db, "--port", str(port), "--raters", "3")
    seen_by_ada: list[str] = []
    with open_browser() as browser:
        with serve(*command, url=url) as server:
            context = browser.new_context(viewport={"width": 1200, "height": 900})
            requests, errors = record_requests(context), []
            ada = context.new_page()
            ada.on("pageerror", lambda error: errors.append(str(error)))
            ada.on("dialog", lambda dialog: errors.append(dialog.message))
            sign_in(ada, url, "Ada <i>")

            # by mouse; nothing is saved before both questions are answered
            token, pair = held(ada, db)
            seen_by_ada.append(pair)
            quality, faithfulness = (ada.get_by_role("group", name=text) for text in QUESTIONS.values())
            quality.get_by_label("Left").click()
            ada.get_by_role("button", name="Save").click()
            ada.get_by_text("Please answer both questions.").wait_for()
            assert rows(db) == {}
            faithfulness.get_by_label("Right").click()
            ada.screenshot(path=tmp_path / "page.png")
            ada.get_by_role("button", name="Save").click()
            ada.wait_for_function(NEXT, arg=token)
            assert rows(db) == {("Ada <i>", pair): {"quality": "left", "faithfulness": "right"}}
            assert not ada.locator("input:checked").count(), "the next pair starts without answers"

            # by the keys that the page names
            token, pair = held(ada, db)
            seen_by_ada.append(pair)
            assert "1 left or 2 right for the first question" in ada.inner_text("body")
            for key in ("2", "3", "Enter"):
                ada.keyboard.press(key)
            ada.wait_for_function(NEXT, arg=token)
            assert rows(db)["Ada <i>", pair] == {"quality": "right", "faithfulness": "left"}

            # by Tab, Space and Enter alone, in the order of the page
            token, pair = held(ada, db)
            seen_by_ada.append(pair)
            focused = "() => { const at = document.activeElement; return at.value || at.id || at.textContent; }"
            ada.keyboard.press("Tab")
            assert ada.evaluate(focused) == "Pause"
            ada.keyboard.press("Enter")
            assert ada.evaluate("[...document.querySelectorAll('video')].every(video => video.paused)")
            for stop, chosen in (("left", True), ("right", False), ("left", False), ("right", True), ("save", False)):
                ada.keyboard.press("Tab")
                assert ada.evaluate(focused) == stop
                if chosen:
                    ada.keyboard.press("Space")
            ada.keyboard.press("Enter")
            ada.wait_for_function(NEXT, arg=token)
            assert rows(db)["Ada <i>", pair] == {"quality": "left", "faithfulness": "right"}

            # a second rater, who has no name, at the same time
            other_context = browser.new_context()
            bob = other_context.new_page()
            sign_in(bob, url, "")
            for _ in range(2):
                token, pair = held(bob, db)
                for key in ("1", "3", "Enter"):
                    bob.keyboard.press(key)
                bob.wait_for_function(NEXT, arg=token)
            (bobs_name,) = {rater for rater, _ in rows(db)} - {"Ada <i>"}
            assert bobs_name.startswith("rater-")

            server.send_signal(signal.SIGKILL)
            server.wait()
        before = rows(db)
        assert len(before) == 5

        with serve(*command, url=url):
            # a page that was open all the time can still save what it shows
            token, pair = held(bob, db)
            for key in ("1", "3", "Enter"):
                bob.keyboard.press(key)
            bob.wait_for_function(NEXT, arg=token)
            assert rows(db) == {**before, (bobs_name, pair): BOTH_LEFT}

            # each browser still knows its rater, and no pair comes back
            for page, rater in ((ada, "Ada <i>"), (bob, bobs_name)):
                page.reload()
                page.wait_for_function(READY)
                assert f"You rate as {rater}: 3 of 6 pairs done." in page.inner_text("body")
            shown: dict[str, str] = {}
            for _ in range(3):
                token, pair = held(ada, db)
                assert pair not in seen_by_ada
                seen_by_ada.append(pair)
                shown[pair] = ada.inner_text(".prompt")
                for key in ("1", "3", "Enter"):
                    ada.keyboard.press(key)
                ada.wait_for_function(NEXT, arg=token)
            ada.get_by_text("there is nothing left for you to rate").wait_for()
        assert sorted(seen_by_ada) == sorted(NAMES)
        assert {vote.left for vote in Store(db).votes()} == {"A", "B"}, "sides are shuffled"
        assert errors == []
        assert len(requests) > 20 and outside(requests, port) == []


def test_the_page_gives_nothing_away_and_keeps_in_step(folders, tmp_path):
    find_browser()
    a, b = folders
    db, port = tmp_path / "v.sqlite", free_port()
    url = f"http://127.0.0.1:{port}/"
    with serve(*COMMAND, a, b, "--db", db, "--port", str(port), url=url), open_browser() as browser:
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
