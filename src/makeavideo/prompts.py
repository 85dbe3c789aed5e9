"""What a prompt has to be, wherever it comes from."""

from typing import Any

from .errors import UserError
from .nesting import SHORT

TODO = "say in a few words what the video should show"


def check_prompt(text: Any, what: str = "The prompt", todo: str = TODO) -> None:
    """Raises UserError, one sentence that begins with `what`, where the text is blank or no text."""
    check_text(text, what)
    if not any(map(is_seen, text or "")):
        raise UserError(f"{what} is empty: {todo}.")


def is_seen(letter: str) -> bool:
    """Whether it is more than space: what is pasted may hold marks of no width."""
    return letter.isprintable() and not letter.isspace()


def check_text(text: Any, what: str = "The prompt") -> None:
    """Raises UserError where it is no text, or a letter of it is none, as a byte that is no UTF-8 becomes.

    It may be blank, or None.
    """
    if not isinstance(text, str | None):
        raise UserError(f'{what} {SHORT.repr(text)} is no text: give one, as "a rocket".')
    try:
        (text or "").encode()
    except UnicodeEncodeError as error:
        place = error.start + 1
        raise UserError(f"{what} is no text, its letter {place} is none in UTF-8: write it in UTF-8.") from None
