"""What libraries say while they read and write networks and logs: no bars, no tables, and errors as errors."""

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# transformers' table of weights, and diffusers' sentence; both go on with random numbers where a file lacks some.
_TABLE = re.compile(r"^(\S+) +\|\W*(?:\x1b\[\d+m)*(MISSING|MISMATCH|UNEXPECTED)", re.MULTILINE)
_SENTENCE = re.compile(r"newly initialized: \W*([^'\"\]]+)")


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Around `from_pretrained` and `save_pretrained`: nothing is shown but warnings of which we know nothing.

    Raises:
        ValueError: the file lacks weights of the network, or has them in another shape. Libraries only warn of it.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    lacking: list[str] = []

    def is_shown(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        rows = _TABLE.findall(text)
        # a text encoder's pooling layer is neither used nor saved: we take the mean over tokens
        wrong = [row for row in rows if "pooler" not in row[0]]
        found = [name for name, state in wrong if state != "UNEXPECTED"] + _SENTENCE.findall(text)
        lacking.extend(found)
        return not found and (bool(wrong) or not rows)

    handlers = [handler for name in ("diffusers", "transformers") for handler in logging.getLogger(name).handlers]
    bars = [library for library in (diffusers_logging, transformers_logging) if library.is_progress_bar_enabled()]
    for handler in handlers:
        handler.addFilter(is_shown)
    for library in bars:
        library.disable_progress_bar()
    try:
        yield
    except RuntimeError as error:
        if "size mismatch" not in str(error):
            raise
        raise ValueError("weights of another shape than the network's") from error
    finally:
        for handler in handlers:
            handler.removeFilter(is_shown)
        for library in bars:
            library.enable_progress_bar()
    if lacking:
        raise ValueError(f"it lacks weights, {lacking[0]} for one")


@contextmanager
def quiet_casts() -> Iterator[None]:
    """Around `.to(dtype)`: diffusers says of each network that none of its modules should have stayed in float32."""

    def is_shown(record: logging.LogRecord) -> bool:
        return "kept in float32: []" not in record.getMessage()

    logger = logging.getLogger("diffusers.models.modeling_utils")
    logger.addFilter(is_shown)
    try:
        yield
    finally:
        logger.removeFilter(is_shown)


@contextmanager
def quiet_event_writer() -> Iterator[None]:
    """TensorBoard's thread prints the error of a full disk, which it also raises where the next line is logged."""
    before = threading.excepthook

    def in_the_caller(args: threading.ExceptHookArgs) -> None:
        if not (isinstance(args.exc_value, OSError) and type(args.thread).__module__.startswith("tensorboard.")):
            before(args)

    threading.excepthook = in_the_caller
    try:
        yield
    finally:
        threading.excepthook = before
