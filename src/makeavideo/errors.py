"""The one kind of error that is the user's to mend."""

from collections.abc import Mapping
from typing import Any


class UserError(ValueError):
    """Bad input: the message is one sentence that says what is wrong and what to do.

    The command line prints it without a traceback and exits with code 2.
    """


def words_of(found: Mapping[str, Any]) -> str:
    """What pydantic found wrong with a value, in its words; where a check of ours found it, in ours alone."""
    own = found.get("ctx", {}).get("error")
    return str(own) if isinstance(own, UserError) else found["msg"].replace("Input should", "it should", 1)


def in_a_line(error: object, most: int = 200) -> str:
    """What somebody else's code says of a fault, in a line of at most so many letters; its kind, if it says nothing.

    Of what Python itself stumbled over, words such as 'added_tokens', that it is damaged.
    """
    if isinstance(error, LookupError | TypeError | AttributeError | ArithmeticError):
        return "it is damaged"
    return " ".join(str(error).split())[:most] or type(error).__name__
