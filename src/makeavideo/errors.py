"""The one kind of error that is the user's to mend."""


class UserError(ValueError):
    """Bad input: the message is one sentence that says what is wrong and what to do.

    The command line prints it without a traceback and exits with code 2.
    """


def in_a_line(error: object, most: int = 200) -> str:
    """What somebody else's code says of a fault, in a line of at most so many letters; its kind, if it says nothing.

    Of what Python itself stumbled over, words such as 'added_tokens', that it is damaged.
    """
    if isinstance(error, LookupError | TypeError | AttributeError | ArithmeticError):
        return "it is damaged"
    return " ".join(str(error).split())[:most] or type(error).__name__
