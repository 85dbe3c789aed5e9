"""People's votes on two folders of videos (section 4.1): the store, the figures, and `make-a-video compare`.

For every prompt people see two videos side by side and answer the paper's two questions. Here is everything but the
page itself (`votes_page`): which files form pairs, which pair a rater sees next, the SQLite file that keeps the votes,
and what the report says. A is always the first folder, B the second; raters only ever see "left" and "right".
"""

import contextlib
import csv
import hashlib
import json
import random
import secrets
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from ..errors import UserError

ENDINGS = (".mp4", ".webm", ".gif", ".webp")
QUESTIONS = {
    "quality": "Which video is of higher quality?",
    "faithfulness": "Which video represents the text better?",
}
"""The paper's two questions."""

_LEASE = 30 * 60  # seconds that a pair stays reserved for a rater who has not answered


class Pair(NamedTuple):
    """Two videos for one prompt."""

    name: str
    """The stem that both files share."""
    prompt: str
    a: Path
    b: Path


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


# ---------------------------------------------------------------------------------------------------------------------
# Pairs


def find_pairs(folder_a: Path, folder_b: Path, prompts: Path | None = None) -> list[Pair]:
    """The files of the same stem in both folders, by name.

    The prompt comes from `prompts` (a CSV with columns id and prompt, the id being the stem), else from the recipe in
    the files, else from the stem.

    Raises:
        UserError: a missing folder or CSV, two videos of one stem in a folder, no pairs, recipes of different prompts.
    """
    videos_a, videos_b = _videos(folder_a), _videos(folder_b)
    names = sorted(videos_a.keys() & videos_b.keys())
    if not names:
        raise UserError(f"{folder_a} and {folder_b} share no videos: give both files of a pair the same name.")
    given = _read_prompts(prompts) if prompts else {}
    return [
        Pair(name, given.get(name) or _prompt(videos_a[name], videos_b[name]), videos_a[name], videos_b[name])
        for name in names
    ]


def _videos(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}: give two folders of videos.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in ENDINGS and path.is_file():
            if path.stem in found:
                raise UserError(
                    f"{found[path.stem]} and {path} have the same name before the ending: keep one of them."
                )
            found[path.stem] = path
    return found


def _read_prompts(path: Path) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return {row["id"]: row["prompt"].strip() for row in csv.DictReader(file)}
    except (OSError, UnicodeDecodeError, KeyError, AttributeError, csv.Error) as error:
        raise UserError(f"{path} is not a list of prompts: it needs the columns id and prompt, as CSV.") from error


def _prompt(a: Path, b: Path) -> str:
    """What the recipes of both files say, or the stem in words."""
    from ..media.video import read_recipe

    found = {str(prompt).strip() for path in (a, b) if (prompt := (read_recipe(path) or {}).get("prompt"))}
    if len(found) > 1:
        raise UserError(f"{a} and {b} were made from different prompts: only videos of one prompt can be compared.")
    return found.pop() if found else " ".join(a.stem.replace("_", " ").replace("-", " ").split())


# ---------------------------------------------------------------------------------------------------------------------
# The store

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
        except (sqlite3.DatabaseError, KeyError) as error:
            raise UserError(f"{path} is not a file of votes: choose another one.") from error

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
        with _connect(self.path) as db:
            # a writer takes its lock at once: what it reads first must still hold when it writes
            db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            yield db
            db.execute("COMMIT")

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
                "SELECT pair, prompt, rater, question, choice, left, time FROM votes JOIN pairs ON pair = name"
                " ORDER BY number"
            ).fetchall()
        return [Vote(*row) for row in rows]


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


# ---------------------------------------------------------------------------------------------------------------------
# The figures


def share(wins: int, total: int, confidence: float = 0.95) -> dict[str, Any]:
    """A share with its exact (Clopper-Pearson) binomial interval, all in percent; None where nothing was counted."""
    try:
        from scipy.stats import binomtest
    except ImportError:
        raise UserError("The report needs SciPy: run `pip install makeavideo[evaluation]`.") from None
    if not total:
        return {"wins": 0, "total": 0, "percent": None, "low": None, "high": None}
    interval = binomtest(wins, total).proportion_ci(confidence, method="exact")
    return {
        "wins": wins,
        "total": total,
        "percent": 100 * wins / total,
        "low": 100 * float(interval.low),
        "high": 100 * float(interval.high),
    }


def fleiss_kappa(counts: list[tuple[int, int]]) -> float | None:
    """Agreement between raters beyond chance (Fleiss 1971): 1 is full agreement, 0 what chance gives.

    Args:
        counts: for each pair the votes for A and for B; every pair has the same number of votes, at least two.

    Returns:
        None where it is not defined: no pairs, one rater, or all votes of all pairs the same.
    """
    raters = sum(counts[0]) if counts else 0
    if raters < 2:
        return None
    observed = sum(a * a + b * b - raters for a, b in counts) / (len(counts) * raters * (raters - 1))
    share_a = sum(a for a, _ in counts) / (len(counts) * raters)
    chance = share_a**2 + (1 - share_a) ** 2
    return (observed - chance) / (1 - chance) if chance < 1 else None


def figures(store: Store) -> dict[str, Any]:
    """What the votes say, for each question: how often A's video was preferred.

    `majority` counts finished pairs, by the majority of their first `raters` votes, as in the paper; `raw` counts all
    votes; `left` is how often the left video was chosen, whoever's it was: near 50 % when people look at both.
    `kappa` is the agreement between raters on the finished pairs.
    """
    votes = store.votes()
    result: dict[str, Any] = {
        "a": store.folder_a,
        "b": store.folder_b,
        "raters_a_pair": store.raters,
        "raters": len({vote.rater for vote in votes}),
        "pairs": len(store.pairs()),
        "confidence": 0.95,
        "questions": {},
    }
    for question, text in QUESTIONS.items():
        asked = [vote for vote in votes if vote.question == question]
        by_pair: dict[str, list[str]] = defaultdict(list)
        for vote in asked:
            by_pair[vote.pair].append(vote.choice)
        # people who were at it when a pair was finished may add a vote: those count as raw votes only
        finished = [one[: store.raters] for one in by_pair.values() if len(one) >= store.raters]
        counts = [(one.count("A"), one.count("B")) for one in finished]
        result["questions"][question] = {
            "question": text,
            "finished_pairs": len(finished),
            "majority": share(sum(a > b for a, b in counts), len(counts)),
            "raw": share(sum(vote.choice == "A" for vote in asked), len(asked)),
            "left": share(sum(vote.choice == vote.left for vote in asked), len(asked)),
            "kappa": fleiss_kappa(counts),
        }
    return result


def describe(found: dict[str, Any]) -> str:
    """The figures in words, for a terminal."""

    def line(what: str, one: dict[str, Any]) -> str:
        if not one["total"]:
            return f"  {what:<26} no votes yet"
        span = f"[{one['low']:.1f}, {one['high']:.1f}]"
        return f"  {what:<26} {one['percent']:5.1f} % {span:>15}  {one['wins']} of {one['total']}"

    lines = [
        f"A: {found['a']}",
        f"B: {found['b']}",
        f"{found['pairs']} pairs, {found['raters']} raters, {found['raters_a_pair']} to finish a pair; 95 % intervals",
    ]
    for one in found["questions"].values():
        kappa = "not defined" if one["kappa"] is None else f"{one['kappa']:.2f}"
        lines += [
            "",
            f"{one['question']} ({one['finished_pairs']} pairs finished)",
            line("A, majority of each pair", one["majority"]),
            line("A, all votes", one["raw"]),
            line("left side, all votes", one["left"]),
            f"  {'agreement (Fleiss kappa)':<26} {kappa}",
        ]
    return "\n".join(lines)


def write_csv(path: Path, votes: Iterable[Vote]) -> None:
    """One line a vote; UserError where the file cannot be written."""
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(Vote._fields)
            writer.writerows(votes)
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror}.") from error


# ---------------------------------------------------------------------------------------------------------------------
# The command line


class _ServeByDefault(TyperGroup):
    """`compare DIR_A DIR_B` is `compare serve DIR_A DIR_B`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["serve", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ServeByDefault,
    no_args_is_help=True,
    help="Let people compare two folders of videos. `compare DIR_A DIR_B` is short for `compare serve DIR_A DIR_B`.",
)


@app.command()
def serve(
    folder_a: Annotated[Path, typer.Argument(metavar="DIR_A", help="Folder of videos.")],
    folder_b: Annotated[Path, typer.Argument(metavar="DIR_B", help="Folder with videos of the same names.")],
    db: Annotated[Path, typer.Option(help="File of the votes; an existing one is continued.")] = Path("votes.sqlite"),
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 7860,
    raters: Annotated[int, typer.Option(help="People who see each pair; odd.")] = 5,
    seed: Annotated[int, typer.Option(help="Decides which video is on the left.")] = 0,
    prompts: Annotated[Path | None, typer.Option(help="CSV with columns id (the files' stem) and prompt.")] = None,
) -> None:
    """Serve a page that shows two videos for a prompt and asks which is better; Ctrl-C ends it."""
    pairs = find_pairs(folder_a, folder_b, prompts)
    store = Store.create(db, pairs, raters, seed)
    from .votes_page import run

    run(store, pairs, host, port)


@app.command()
def report(
    db: Annotated[Path, typer.Argument(help="File of the votes.")],
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write every vote to this file.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Print how often each folder was preferred, with intervals, and how far the raters agree."""
    store = Store(db)
    found = figures(store)
    print(describe(found))
    if csv_file:
        write_csv(csv_file, store.votes())
    if json_file:
        try:
            json_file.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"Cannot write {json_file}: {error.strerror}.") from error
