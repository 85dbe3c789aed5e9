"""Components tried out while they are loaded: of some damage their libraries know nothing before they are used."""

from pathlib import Path
from typing import Any

import torch

from .errors import UserError, in_a_line
from .model_files import damaged


def try_out(scheduler: Any) -> None:
    """Two steps of nothing: a scheduler looks at most of its numbers only then. Raises whatever it raises."""
    scheduler.set_timesteps(2)
    sample = torch.full((1, 3, 4, 4), 0.5)
    for timestep in scheduler.timesteps:
        sample = scheduler.step(torch.full_like(sample, 0.25), timestep, sample).prev_sample
    if not sample.isfinite().all():
        raise UserError("its steps give no numbers")


def load_tokenizer(component: Any, folder: Path) -> Any:
    """A tokenizer that has split texts of several lengths. Raises UserError, which names the file at fault."""
    try:
        tokenizer = component.from_pretrained(folder, local_files_only=True)
        if tokenizer.pad_token is None:
            damaged(folder / "tokenizer_config.json", "it names no pad_token")
        tokenizer(["a", "a a"], padding=True)
    except UserError:
        raise
    except BaseException as error:  # tokenizers panic too: of Rust's, no Exception, in no module
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        damaged(folder / file_at_fault(folder), in_a_line(error).rstrip("."))
    return tokenizer


def file_at_fault(folder: Path) -> str:
    """Which of a tokenizer's files cannot be used."""
    from tokenizers import Tokenizer

    words = folder / "tokenizer.json"
    try:
        if words.is_file():
            Tokenizer.from_file(str(words)).encode("a")
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return words.name
    return "tokenizer_config.json"


def check_words(folder: Path, tokenizer: Any, known: int) -> None:
    """Raises UserError where a tokenizer's words are not those that its text encoder knows."""
    words, last = len(tokenizer), max(tokenizer.get_vocab().values(), default=-1)
    file = next((folder / name for name in ("tokenizer.json", "vocab.txt") if (folder / name).is_file()), folder)
    if not known - 128 < words <= known:  # some are padded to a round number
        damaged(file, f"it has {words} words, but the text encoder knows {known}")
    if last >= known:
        damaged(file, f"a word of it is number {last}, but the text encoder knows {known}")
