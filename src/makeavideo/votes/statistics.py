"""What the votes say: shares with exact intervals, majorities of pairs, agreement between raters."""

import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..media.disk import HALVES
from .store import QUESTIONS, Store, Vote


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
        with path.open("w", encoding="utf-8", errors=HALVES, newline="") as file:
            writer = csv.writer(file)
            writer.writerow(Vote._fields)
            writer.writerows(votes)
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror}.") from error
