"""What a prompt has to be, wherever it comes from."""

from typing import Any

from .errors import UserError

TODO = "say in a few words what the video should show"


def check_prompt(text: Any, what: str = "The prompt", todo: str = TODO) -> None:
    """Raises UserError, one sentence that begins with `what`, where the text is blank or no text."""
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{what} is empty: {todo}.")
    check_text(text, what)


def check_text(text: str | None, what: str = "The prompt") -> None:
    """Raises UserError where there is a letter that is none, as a byte that is no UTF-8 becomes; it may be blank."""
    try:
        (text or "").encode()
    except UnicodeEncodeError as error:
        place = error.start + 1
        raise UserError(f"{what} is no text, its letter {place} is none in UTF-8: write it in UTF-8.") from None
