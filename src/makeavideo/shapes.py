"""Width and height of a video: as people write them, and which of them a cascade can make.

Convolution and attention take frames of any shape; what limits it is that a network halves its frames some times, that
squares of pixels are one position of some, and that a codec makes one latent of several pixels. No torch here: what
cannot be is refused before it is loaded.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .errors import UserError
from .figures import SR_HIGH_FACTOR, SR_LOW_FACTOR
from .kinds import is_whole
from .nesting import SHORT

FACTORS = (1, SR_LOW_FACTOR, SR_LOW_FACTOR * SR_HIGH_FACTOR)
"""Sides after D_t, after SR_l_t and after SR_h, relative to D_t's."""
LARGEST = 4096
"""Pixels of the longest side that D_t may make."""
WIDEST = 8
"""Times as long as the other that a side may be: nobody has frames so narrow that a network could learn from them, and
one that works at the height that it knows would make them with a width of hundreds of thousands of pixels."""
NEAR = math.log(2)
"""A stage whose own size is at most twice or half of what is asked for can stand in for a nearer one."""


class Shape(NamedTuple):
    """Of a frame, in pixels; in the order of the axes."""

    height: int
    width: int

    def times(self, factor: int) -> "Shape":
        return Shape(self.height * factor, self.width * factor)

    @property
    def side(self) -> float:
        """Of the square of as many pixels."""
        return math.sqrt(self.height * self.width)

    @property
    def proportion(self) -> float:
        """The longest side, in shortest ones."""
        return max(self) / min(self)

    @property
    def written(self) -> int | str:
        """As people write it: 256, or 256x144, the width first."""
        return self.width if self.width == self.height else f"{self.width}x{self.height}"


Size = int | str | tuple[int, int]
"""What people write: 256, "256", "256x144" (width x height), or (144, 256), in the order of the axes."""


def read_size(size: Any) -> int | Shape:
    """A number: the longest side. Two: width and height, or the other way round in a tuple or list.

    Raises:
        UserError: it is none of these.
    """
    given = size if isinstance(size, str) else SHORT.repr(size)
    if isinstance(size, str) and (found := re.fullmatch(r"\s*(\d{1,5})(?:\s*[xX\u00d7]\s*(\d{1,5}))?\s*", size)):
        size = (int(found[2]), int(found[1])) if found[2] else int(found[1])
    numbers: list[Any] = list(size) if isinstance(size, tuple | list) else [size]
    if not all(is_whole(number) and number > 0 for number in numbers) or not 1 <= len(numbers) <= 2:
        raise UserError(f"--size {given[:40]} is not possible: write 256, or 256x144, width x height.")
    return Shape(*map(int, numbers)) if len(numbers) == 2 else int(numbers[0])


@dataclass(frozen=True)
class Shapes:
    """What shapes of frames a cascade makes.

    base: of D_t's frames, as it was trained.
    steps: after each stage, both sides are multiples of it, in pixels; as many as there are stages.
    least: pixels of D_t's shortest side at least.
    any_shape: false where D_t knows things at one scale only (`SamplingConfig.any_shape`): it works on frames that are
        as short as those that it was trained on, and they are fitted into what is asked for, whatever that is.
    """

    base: Shape
    steps: tuple[int, ...]
    least: int = 1
    any_shape: bool = True

    @property
    def sizes(self) -> tuple[int, ...]:
        """Pixels of the longest side after D_t, SR_l_t and SR_h, as far as there are such networks, as trained."""
        return tuple(max(self.base) * factor for factor, _ in zip(FACTORS, self.steps, strict=False))

    @property
    def widest(self) -> float:
        """Times as long as the other that a side may be: as in what it was trained on, where that is wider still."""
        return max(WIDEST, self.base.proportion)

    def settle(self, size: Size | None) -> tuple[Shape, int]:
        """(what a size means, the stage to stop after); None: the largest.

        Of the stages that can end with this shape it is the one whose own size is nearest.

        Raises:
            UserError: none of them can.
        """
        asked = self.sizes[-1] if size is None else read_size(size)
        if isinstance(asked, Shape):
            self.check_proportion(asked, f"--size {asked.written} is not possible")
        else:
            if asked in self.sizes:
                stage = self.sizes.index(asked)
                return self.base.times(FACTORS[stage]), stage
            longest = max(self.base)
            sides = (asked * self.base.height / longest, asked * self.base.width / longest)
            asked = Shape(*(max(1, round(side)) for side in sides))
        if not self.any_shape:
            return self.fitted(asked)
        last = len(self.steps) - 1
        if asked.side > self.base.times(FACTORS[last]).side and self.distance(asked, last) > NEAR + 1e-9:
            raise UserError(
                f"--size {asked.written} is not possible: this model makes {self.sizes[-1]} pixels a side, about twice "
                "that at most, and no network of it enlarges them further."
            )
        nearest, *others = sorted(range(len(self.steps)), key=lambda stage: self.distance(asked, stage))
        for stage in (nearest, *(stage for stage in others if self.distance(asked, stage) <= NEAR + 1e-9)):
            if self.ends_with(asked, stage):
                return asked, stage
        raise UserError(self.refusal(asked, nearest))

    def check_proportion(self, shape: Shape, wrong: str, instead: str = "") -> None:
        """Raises UserError, which begins with what is wrong, where one side is too long for the other."""
        if shape.proportion > self.widest + 1e-9:
            raise UserError(f"{wrong}: one side is at most {self.widest:g} times as long as the other{instead}.")

    def fitted(self, asked: Shape) -> tuple[Shape, int]:
        """As `settle`: the first stage whose frames need not be enlarged. Raises UserError."""
        if max(asked) > max(LARGEST, self.sizes[-1]):
            raise UserError(f"--size {asked.written} is not possible: choose at most {LARGEST} pixels a side.")
        stages = range(len(self.steps))
        large = [stage for stage in stages if min(self.base) * FACTORS[stage] >= min(asked)]
        return asked, (large or [stages[-1]])[0]

    def made(self, shape: Shape, stage: int) -> Shape:
        """The shape that the networks make frames in, before they are fitted into `shape`."""
        if self.any_shape:
            return shape
        scale = min(self.base) / min(shape)
        small = Shape(*(max(1, round(side * scale / self.least)) * self.least for side in shape))
        return (self.base if shape.height * self.base.width == shape.width * self.base.height else small).times(
            FACTORS[stage]
        )

    def like(self, size: int, height: float, width: float) -> Shape:
        """The shape nearest to these proportions that can be made, its longest side about `size` pixels."""
        stage = min(range(len(self.steps)), key=lambda stage: abs(math.log(size / self.sizes[stage])))
        step, least = (self.steps[stage], self.least * FACTORS[stage]) if self.any_shape else (2, 2)
        scale = size / max(height, width)
        sides = [max(1, round(side * scale / step)) * step for side in (height, width)]
        floor = math.ceil(max(least, max(sides) / self.widest) / step) * step
        return Shape(*(max(floor, side) for side in sides))

    def distance(self, shape: Shape, stage: int) -> float:
        """Of the shape's size from the stage's own, a logarithm."""
        return abs(math.log(shape.side / self.base.times(FACTORS[stage]).side))

    def ends_with(self, shape: Shape, stage: int) -> bool:
        """Whether a stage can make frames of this shape."""
        whole = all(side % self.steps[stage] == 0 for side in shape)
        return whole and self.least <= min(shape) / FACTORS[stage] and max(shape) / FACTORS[stage] <= LARGEST

    def refusal(self, shape: Shape, stage: int) -> str:
        """Why there is no such shape, and one that there is."""
        sizes, step = ", ".join(map(str, self.sizes)), self.steps[stage]
        largest = min(max(shape), LARGEST * FACTORS[stage])
        other = self.like(largest, *shape).written
        return (
            f"--size {shape.written} is not possible: this model makes {sizes} pixels a side, or other shapes whose "
            f"sides are multiples of {step} at about this size: {other}, for one."
        )


def shapes_from(configs: Mapping[str, Mapping[str, Any] | None], shrink: int, any_shape: bool = True) -> Shapes:
    """Of the configurations of D_t, F-up and super-resolution, by name; None: there is none.

    shrink: pixels along each side of a frame that become one of its latents. any_shape: as in `Shapes`.

    Raises:
        UserError: there is no D_t.
    """
    decoder = configs["decoder"]
    if decoder is None:
        raise UserError("This pipeline has no decoder, D_t, which makes the frames: load it with one.")
    sample_size = decoder["unet_config"]["sample_size"]
    sides = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
    base = Shape(*(int(side) * decoder["space_to_depth"] * shrink for side in sides))
    small = [grain(config) for config in (decoder, configs.get("interpolator")) if config is not None]
    steps = [shrink * math.lcm(*(step for step, _ in small))]
    for name, factor in (("super_resolution_low", SR_LOW_FACTOR), ("super_resolution_high", SR_HIGH_FACTOR)):
        config = configs.get(name)
        if config is None:
            break
        # a network of one step works at the small size, one that diffuses at the large one
        step = grain(config)[0] if "unet_config" in config else config["patch"] * factor
        steps.append(math.lcm(steps[-1] * factor, step))
    return Shapes(base, tuple(steps), shrink * max(least for _, least in small), any_shape)


def grain(config: Mapping[str, Any]) -> tuple[int, int]:
    """(what the sides of a `VideoUNet`'s frames are multiples of, how long they are at least), as it counts pixels.

    A UNet2DModel halves them at every level. A UNet2DConditionModel takes odd numbers too, but some to halve.
    """
    patch = config["space_to_depth"]
    halved = patch * 2 ** (len(config["unet_config"]["block_out_channels"]) - 1)
    return (patch if config["unet_class"] == "UNet2DConditionModel" else halved), halved
