"""makeavideo: Make-A-Video (Singer et al. 2022, arXiv 2209.14792), complete and open."""

from .errors import UserError

__version__ = "0.1.0"
__all__ = ["UserError"]
