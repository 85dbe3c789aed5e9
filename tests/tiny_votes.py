"""Pairs of videos, and people who vote on them."""

from pathlib import Path

import numpy as np

from makeavideo.media.writer import write_video
from makeavideo.votes.pairs import Pair
from makeavideo.votes.store import QUESTIONS, Store

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
