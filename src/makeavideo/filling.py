"""What F-up sees of a clip of which some frames are given, and what its answer means (section 3.3 of the paper).

There are two kinds with one interface, told apart by the channels that the network has beside x_t. `Masked` is the
paper's, a diffusion of the frames that are missing; `MaskedLatents` is the same of latents, where D_t works on these.
`FirstGuess` is ours, the correction of a guess in one step.

Both are made of a clip `given` (b, f, 3, h, w) in [-1, 1], of which `mask` (b, f) says with 1 which
frames are given; what stands at the others does not matter.
"""

import torch
from torch import Tensor

from .errors import UserError
from .flow import FAR_UNIT, first_guess
from .sampling import Generators, frame_noise

LARGEST_CORRECTION = 3.0
"""In units; what is further from the guess could not be foreseen, and would drown all else in the loss."""


def over_pixels(mask: Tensor, given: Tensor) -> Tensor:
    """The mask (b, f) as a picture of one channel, (b, f, 1, h, w)."""
    return mask[:, :, None, None, None].expand(-1, -1, 1, *given.shape[3:])


class FirstGuess:
    """Ours: in place of the frames that are not given, F-up sees a guess from those that are (`flow.first_guess`).

    It makes what is to be added to the guess, in units of what is uncertain there, in one step from t = 1. There the
    noise says nothing about the frames, so its mean is taken in place of a draw, of which the network would let some
    through.
    """

    extra_channels = 5
    """Beside x_t: the guess (3), the mask (1), the unit (1)."""
    at_once = True

    def __init__(self, given: Tensor, mask: Tensor, guess: tuple[Tensor, Tensor] | None = None):
        """guess: `flow.first_guess` of them, where it has been made already."""
        self.given, self.mask = given, over_pixels(mask, given)
        self.guess, self.unit = first_guess(given, mask) if guess is None else guess

    @staticmethod
    def steps(wanted: int) -> int:
        """Evaluations of the network, where `wanted` are asked for."""
        return 1

    def noise(self, generator: Generators, shared: float = 0.0) -> Tensor:
        """Where sampling begins, shaped as the frames. Arguments as those of `sampling.frame_noise`."""
        return torch.zeros_like(self.given)

    def seen(self, x_t: Tensor) -> Tensor:
        """The network's input (b, f, 3 + extra_channels, h, w) at x_t.

        The mask is the paper's; the unit, zero where a frame is given, says how uncertain the guess is.
        """
        return torch.cat([x_t, self.guess, self.mask, self.unit * (1 - self.mask) / FAR_UNIT], 2)

    def answer(self, made: Tensor) -> Tensor:
        """The prediction that the network's output stands for: of a given frame, what is known of it already."""
        return made * (1 - self.mask)

    def target(self, pixels: Tensor) -> Tensor:
        """The answer that is right if the whole clip is `pixels`: what training aims at."""
        correction = (pixels - self.guess) / self.unit
        return correction.clamp(-LARGEST_CORRECTION, LARGEST_CORRECTION)

    def frames(self, answer: Tensor) -> Tensor:
        """The clip (b, f, 3, h, w) in [-1, 1] that an answer means; given frames are as they were given."""
        return torch.lerp((self.guess + self.unit * answer).clamp(-1, 1), self.given, self.mask)


class Masked:
    """The paper's: F-up sees the given frames, zeros where there are none, and the mask; it diffuses the others."""

    extra_channels = 4
    """Beside x_t: the given frames (3), the mask (1)."""
    at_once = False

    def __init__(self, given: Tensor, mask: Tensor):
        self.given, self.mask = given, over_pixels(mask, given)

    @staticmethod
    def steps(wanted: int) -> int:
        """As `FirstGuess.steps`."""
        return wanted

    def noise(self, generator: Generators, shared: float = 0.0) -> Tensor:
        """As `FirstGuess.noise`."""
        return frame_noise(tuple(self.given.shape), generator, shared).to(self.given.device)

    def seen(self, x_t: Tensor) -> Tensor:
        """As `FirstGuess.seen`. Where a frame is given it is seen in the place of x_t too."""
        return torch.cat([torch.lerp(x_t, self.given, self.mask), self.given * self.mask, self.mask], 2)

    def answer(self, made: Tensor) -> Tensor:
        """As `FirstGuess.answer`."""
        return torch.lerp(made, self.given, self.mask)

    def target(self, pixels: Tensor) -> Tensor:
        """As `FirstGuess.target`."""
        return pixels

    def frames(self, answer: Tensor) -> Tensor:
        """As `FirstGuess.frames`."""
        return torch.lerp(answer.clamp(-1, 1), self.given, self.mask)


class MaskedLatents(Masked):
    """`Masked` where frames are latents, of any number of channels and without bounds."""

    extra_channels = 5
    """Beside x_t: the given frames (4), the mask (1)."""

    def frames(self, answer: Tensor) -> Tensor:
        """As `FirstGuess.frames`, latents."""
        return torch.lerp(answer, self.given, self.mask)


Filling = FirstGuess | Masked


def filling_of(extra_channels: int, of_latents: bool = False) -> type[Filling]:
    """The kind of an F-up with so many channels beside x_t; UserError if none has as many."""
    kinds: tuple[type[Filling], ...] = (MaskedLatents,) if of_latents else (FirstGuess, Masked)
    for kind in kinds:
        if kind.extra_channels == extra_channels:
            return kind
    wanted = " or ".join(str(kind.extra_channels) for kind in kinds)
    where = "latents" if of_latents else "pixels"
    raise UserError(
        f"The F-up network sees {extra_channels} channels beside the frames' own, and one of {where} {wanted}: "
        "take the one that was trained for this decoder, or none."
    )
