"""What comes of a text-to-image pipeline: the parts of a cascade, and what is told of them."""

from dataclasses import dataclass, field
from typing import Any

from .source import Source


@dataclass
class Adopted:
    """Parts for `MakeAVideoPipeline(**components, sampling=sampling)`.

    sources: where they are from.
    guidance: what the pipeline that D comes from is used with.
    found, made, missing: a sentence each.
    """

    components: dict[str, Any]
    sampling: dict[str, Any]
    sources: list[Source]
    guidance: float
    found: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def millions(network: Any) -> str:
    """How large a network is."""
    count = sum(weight.numel() for weight in network.parameters())
    return f"{count / 1e6:,.1f} million weights"
