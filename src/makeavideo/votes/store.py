"""The votes: which pair a rater sees next, and the SQLite file that keeps the answers.

A is always the first folder, B the second; raters only ever see "left" and "right".
"""

import contextlib
import hashlib
import random
import secrets
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from .pairs import Pair

QUESTIONS = {
    "quality": "Which video is of higher quality?",
    "faithfulness": "Which video represents the text better?",
}
"""The paper's two questions."""

_LEASE = 30 * 60  # seconds that a pair stays reserved for a rater who has not answered


class Vote(NamedTuple):
    """One answer."""

    pair: str
    prompt: str
    rater: str
    question: str
    choice: str
    """A or B: the folder whose video was chosen."""
    left: str
    """A or B: whose video was on the left."""
    time: float
    """Seconds since 1970."""


class Hand(NamedTuple):
    """A pair in the hands of a rater."""

    token: str
    """What the browser knows the pair by: random, so that nothing about the files can be read from it."""
    pair: str
    left: str
    """A or B."""


_TABLES = """
CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS pairs (
    name TEXT PRIMARY KEY, prompt TEXT NOT NULL, hash_a TEXT NOT NULL, hash_b TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS hands (
    token TEXT PRIMARY KEY, rater TEXT NOT NULL, pair TEXT NOT NULL REFERENCES pairs, left TEXT NOT NULL,
    time REAL NOT NULL, UNIQUE (rater, pair)
);
CREATE TABLE IF NOT EXISTS votes (
    number INTEGER PRIMARY KEY, rater TEXT NOT NULL, pair TEXT NOT NULL REFERENCES pairs, question TEXT NOT NULL,
    choice TEXT NOT NULL CHECK (choice IN ('A', 'B')), left TEXT NOT NULL CHECK (left IN ('A', 'B')),
    time REAL NOT NULL, UNIQUE (rater, pair, question)
);
"""


class Store:
    """The votes, in one SQLite file; any number of threads and processes may use it at once.

    Every change is one transaction that is on the disk when the method returns.
    """

    def __init__(self, path: Path) -> None:
        """Open an existing store; `Store.create` makes one.

        Raises:
            UserError: no such file, or not a file of votes.
        """
        self.path = path
        if not path.is_file():
            raise UserError(f"There are no votes at {path}: `make-a-video compare DIR_A DIR_B` collects some.")
        try:
            with self._transaction() as db:
                settings = dict(db.execute("SELECT key, value FROM settings").fetchall())
            self.folder_a, self.folder_b = settings["folder_a"], settings["folder_b"]
            self.raters, self.seed = int(settings["raters"]), int(settings["seed"])
        except (UserError, KeyError, ValueError, TypeError) as error:
            raise UserError(f"{path} is not a file of votes, or damaged: choose another one.") from error

    @classmethod
    def create(cls, path: Path, pairs: list[Pair], raters: int = 5, seed: int = 0) -> "Store":
        """Make a store, or go on with the one at `path`; new pairs are added to it.

        Args:
            path: the SQLite file.
            pairs: what `find_pairs` found.
            raters: how many people see each pair; odd, so that there is always a majority.
            seed: decides which video is on the left; an existing store keeps its own.

        Raises:
            UserError: a store of other videos, an even number of raters, a file that cannot be written.
        """
        if raters < 1 or raters % 2 == 0:
            raise UserError(f"The number of raters is {raters}: it must be odd, so that there is always a majority.")
        if path.is_file():
            cls(path)  # raises for anything but a store
        settings = {"folder_a": str(pairs[0].a.parent), "folder_b": str(pairs[0].b.parent)}
        rows = [(pair.name, pair.prompt, _hash(pair.a), _hash(pair.b)) for pair in pairs]
        try:
            with _connect(path) as db:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("BEGIN IMMEDIATE")
                for statement in filter(str.strip, _TABLES.split(";")):
                    db.execute(statement)
                known = {row[0]: row for row in db.execute("SELECT name, prompt, hash_a, hash_b FROM pairs")}
                for row in rows:
                    if known.pop(row[0], row) != row:
                        raise UserError(f"{path} holds votes on another {row[0]}: use a new file for other videos.")
                    db.execute("INSERT OR IGNORE INTO pairs VALUES (?, ?, ?, ?)", row)
                if known:
                    raise UserError(f"{path} holds votes on {min(known)}, which is missing now: use a new file.")
                db.execute("INSERT OR IGNORE INTO settings VALUES ('seed', ?)", (str(seed),))
                changing = {**settings, "raters": str(raters)}
                db.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", changing.items())
                db.execute("COMMIT")
        except sqlite3.Error as error:
            raise UserError(f"Votes cannot be kept in {path} ({error}): choose another file.") from error
        return cls(path)

    @contextlib.contextmanager
    def _transaction(self, write: bool = False) -> Iterator[sqlite3.Connection]:
        """All of it, or nothing. UserError: a full disk, a damaged file."""
        try:
            with _connect(self.path) as db:
                # a writer takes its lock at once: what it reads first must still hold when it writes
                db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                yield db
                db.execute("COMMIT")
        except sqlite3.Error as error:
            if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
                raise UserError(f"The disk of {self.path} is full: free some space, and save again.") from error
            raise UserError(f"{self.path} is damaged, or not a file of votes ({error}): use a copy of it.") from error

    def hand_out(self, rater: str) -> Hand | None:
        """The next pair for a rater, None when there is none left.

        It is one that the rater has not answered and that fewer than `raters` people have answered or hold right now.
        Pairs with the most votes come first: some are finished even where people leave early. A rater who comes back
        without having answered gets the same pair again.
        """
        now = time.time()
        with self._transaction(write=True) as db:
            held = db.execute(
                "SELECT token, pair, left FROM hands WHERE rater = :rater AND NOT EXISTS"
                " (SELECT 1 FROM votes WHERE votes.rater = hands.rater AND votes.pair = hands.pair)"
                " ORDER BY time DESC",
                {"rater": rater},
            ).fetchall()
            # from here on they count as this rater's no more; the one given out below is written anew
            db.executemany("DELETE FROM hands WHERE token = ?", [(row[0],) for row in held])
            open_pairs = db.execute(
                "SELECT name, (SELECT COUNT(DISTINCT rater) FROM votes WHERE pair = name) AS done,"
                " (SELECT COUNT(*) FROM hands WHERE pair = name AND time > :fresh AND NOT EXISTS"
                "  (SELECT 1 FROM votes WHERE votes.rater = hands.rater AND votes.pair = hands.pair)) AS reserved"
                " FROM pairs WHERE done + reserved < :raters"
                " AND NOT EXISTS (SELECT 1 FROM votes WHERE rater = :rater AND pair = name)",
                {"rater": rater, "fresh": now - _LEASE, "raters": self.raters},
            ).fetchall()
            if not open_pairs:
                return None
            names = {name for name, *_ in open_pairs}
            hand = next((Hand(*row) for row in held if row[1] in names), None)
            if hand is None:
                most = max(done for _, done, _ in open_pairs)
                # each rater in an order of their own: what tires or trains people falls on all pairs alike
                name = min(
                    (name for name, done, _ in open_pairs if done == most),
                    key=lambda name: random.Random(f"{self.seed}/{rater}/{name}/order").random(),
                )
                hand = Hand(secrets.token_urlsafe(16), name, self._left(rater, name))
            db.execute("INSERT INTO hands VALUES (?, ?, ?, ?, ?)", (hand.token, rater, hand.pair, hand.left, now))
        return hand

    def _left(self, rater: str, pair: str) -> str:
        return random.Random(f"{self.seed}/{rater}/{pair}").choice("AB")

    def find(self, token: str) -> Hand | None:
        """The pair that a token stands for."""
        with self._transaction() as db:
            row = db.execute("SELECT token, pair, left FROM hands WHERE token = ?", (token,)).fetchone()
        return Hand(*row) if row else None

    def vote(self, token: str, answers: dict[str, str]) -> bool:
        """Keep a rater's answers to all questions about the pair in hand.

        Args:
            token: from `hand_out`.
            answers: question -> "left" or "right".

        Returns:
            False if the token is not known (the pair went back meanwhile). A second vote on the same pair changes
            nothing: the first one counts.
        """
        if answers.keys() != QUESTIONS.keys() or not set(answers.values()) <= {"left", "right"}:
            raise UserError("Both questions need an answer, left or right.")
        with self._transaction(write=True) as db:
            row = db.execute("SELECT rater, pair, left FROM hands WHERE token = ?", (token,)).fetchone()
            if row is None:
                return False
            rater, pair, left = row
            right = "B" if left == "A" else "A"
            db.executemany(
                "INSERT OR IGNORE INTO votes (rater, pair, question, choice, left, time) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (rater, pair, question, left if side == "left" else right, left, time.time())
                    for question, side in answers.items()
                ],
            )
        return True

    def progress(self, rater: str) -> tuple[int, int]:
        """How many pairs a rater has answered, and how many there are."""
        with self._transaction() as db:
            done = db.execute("SELECT COUNT(DISTINCT pair) FROM votes WHERE rater = ?", (rater,)).fetchone()[0]
            return done, db.execute("SELECT COUNT(*) FROM pairs").fetchone()[0]

    def pairs(self) -> list[tuple[str, str]]:
        """(name, prompt) of every pair."""
        with self._transaction() as db:
            return db.execute("SELECT name, prompt FROM pairs ORDER BY name").fetchall()

    def votes(self) -> list[Vote]:
        """All votes in the order in which they were given."""
        with self._transaction() as db:
            rows = db.execute(
                "SELECT pair, prompt, rater, question, choice, left, time FROM votes LEFT JOIN pairs ON pair = name"
                " ORDER BY number"
            ).fetchall()
        votes = [Vote(*row) for row in rows]
        for vote in votes:  # SQLite notices not all damage, and checks no types
            texts = all(isinstance(text, str) for text in vote[:-1])
            if not (texts and vote.question in QUESTIONS and {vote.choice, vote.left} <= {"A", "B"}):
                raise UserError(f"{self.path} is damaged, or not a file of votes ({vote.pair!r}): use a copy of it.")
        return votes


@contextlib.contextmanager
def _connect(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of its own for each change: SQLite's locks then order threads and processes alike."""
    db = sqlite3.connect(path, timeout=60, isolation_level=None)
    try:
        db.execute("PRAGMA synchronous = FULL")  # a vote outlives the machine too, not only the process
        yield db
    finally:
        db.close()  # rolls back what was not committed


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
