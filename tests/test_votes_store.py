"""People's votes: pairs, and the store under two processes and SIGKILL."""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from makeavideo.errors import UserError
from makeavideo.votes.pairs import find_pairs
from makeavideo.votes.statistics import figures
from makeavideo.votes.store import QUESTIONS, Store
from tiny_votes import BOTH_LEFT, choose, clip, fake_pairs


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
    with pytest.raises(UserError, match="has no column id: begin it"):
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


def test_damage_anywhere_in_the_file_is_one_sentence(tmp_path):
    pairs, db = fake_pairs(tmp_path, 3), tmp_path / "v.sqlite"
    store = Store.create(db, pairs)
    assert store.vote(store.hand_out("ada").token, BOTH_LEFT)
    whole = db.read_bytes()
    refused = 0
    for start in range(0, len(whole), 512):
        for harm in (
            whole[:start] + bytes(512) + whole[start + 512 :],
            whole[:start],
            whole[:start] + whole[start - 512 :],
        ):
            db.write_bytes(harm)
            try:
                found = Store(db)
                figures(found)
                found.vote(found.hand_out("bob").token, BOTH_LEFT)
            except UserError as error:
                refused += 1
                assert str(db) in str(error) and "\n" not in str(error)
            except AttributeError:
                pass  # no pair left to hand out
    assert refused > 20


def test_an_answer_that_none_gave_is_no_vote(tmp_path):
    store = Store.create(tmp_path / "v.sqlite", fake_pairs(tmp_path, 1))
    assert store.vote(store.hand_out("ada").token, BOTH_LEFT)
    for column, value in (("question", "beauty"), ("rater", b"ada"), ("pair", b"00")):
        with sqlite3.connect(store.path) as db:
            before = db.execute(f"SELECT {column} FROM votes WHERE number = 1").fetchone()
            db.execute(f"UPDATE votes SET {column} = ? WHERE number = 1", (value,))
        with pytest.raises(UserError, match="is damaged"):
            store.votes()
        with sqlite3.connect(store.path) as db:
            db.execute(f"UPDATE votes SET {column} = ? WHERE number = 1", before)
    assert len(store.votes()) == 2


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
