"""makeavideo: Make-A-Video (Singer et al. 2022, arXiv 2209.14792), complete and open.

What most programs need can be had from here, and is loaded when it is first used: `import makeavideo` stays quick.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import UserError

if TYPE_CHECKING:
    from .inflation import VideoUNet, inflate
    from .media.writer import write_video
    from .pipeline import MakeAVideoPipeline

# diffusers imports bitsandbytes, which on processors with bf16 warns of kernels for four bits that nothing here uses
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

__version__ = "0.1.0"
__all__ = ["MakeAVideoPipeline", "UserError", "VideoUNet", "inflate", "write_video"]

_HOMES = {
    "MakeAVideoPipeline": "pipeline",
    "VideoUNet": "inflation",
    "inflate": "inflation",
    "write_video": "media.writer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'makeavideo' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
