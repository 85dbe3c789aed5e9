"""What the numbers of a recipe can be: beyond these bounds a run would learn nothing, or want what no machine has."""

from typing import Annotated, Any

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from ..errors import UserError

YEAR = 365 * 24 * 60.0
"""Minutes: longer ones do not fit where they are counted in whole milliseconds."""


def _or_say(sentence: str) -> WrapValidator:
    """One sentence for all the ways in which a value can be of no kind that is meant."""

    def checked(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
        try:
            return check(value)
        except ValidationError:
            raise UserError(sentence) from None

    return WrapValidator(checked)


Count = Annotated[int, Field(gt=0, le=10**9)]
CountOrNone = Annotated[int, Field(ge=0, le=10**9)]
Pixels = Annotated[int, Field(gt=0, le=2**16)]
Shape = Annotated[tuple[Pixels, Pixels], _or_say("write [144, 256], height and width")]
Sides = Annotated[Pixels | Shape, _or_say("write 256, or [144, 256], height and width")]
Share = Annotated[float, Field(ge=0, lt=1)]
Part = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
"""Of a loss, or of weights that decay."""
Scale = Annotated[float, Field(ge=0, le=100)]
"""How much of something there is, in pixels or in parts of what is usual."""
LearningRate = Annotated[float, Field(ge=1e-12, le=10)]
Gigabytes = Annotated[float, Field(ge=0, le=1e6)]
Minutes = Annotated[float, Field(gt=0, le=YEAR)]
FrameRate = Annotated[float, Field(ge=0.01, le=1000)]
"""Frames a second."""
BetaParameter = Annotated[float, Field(ge=1e-3, le=1e3)]
