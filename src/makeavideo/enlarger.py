"""A super-resolution network at work, of either kind: one step, or diffusion as in the paper (section 3.2)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .chunks import in_stretches
from .figures import TIMESTEPS
from .inflation import VideoUNet
from .sampling import Generators, OnStep, frame_noise, sample, upsample
from .super_resolution import SuperResolver


class Enlarger:
    """Small frames -> large frames: `enlarge(small, fps)`, as often as a video has parts.

    A `SuperResolver` makes them in one step. A `VideoUNet` diffuses them, `steps` steps from noise that is drawn once
    and is the same for all frames of all parts (section 3.2.1), as something to add to bilinear up-sampling.

    Args:
        factor: large pixels a small one, along each side.
        steps: of diffusion; a `SuperResolver` takes one, whatever is asked for.
    """

    def __init__(
        self,
        network: VideoUNet | SuperResolver,
        scheduler,
        factor: int,
        steps: int,
        generator: Generators,
    ):
        self.network, self.scheduler, self.factor, self.generator = network, scheduler, factor, generator
        self.at_once = isinstance(network, SuperResolver)
        self.steps = 1 if self.at_once else steps
        self.noise: Tensor | None = None

    def __call__(
        self,
        small: Tensor,
        fps: Tensor | None = None,
        on_step: OnStep = lambda step, timestep, x_t, x_hat: x_t,
    ) -> Tensor:
        """(b, f, 3, h, w) -> (b, f, 3, factor * h, factor * w), both in [-1, 1].

        fps: (b,), for networks with temporal layers; on_step: see `sampling.OnStep`.
        """
        if self.at_once:
            made = self.network(small.to(self.network.dtype)).float().clamp(-1, 1)
            changed = on_step(0, torch.zeros((), device=made.device), made, made)
            return made if changed is None else changed
        network: Any = self.network
        up = upsampled(network, small, [side * self.factor for side in small.shape[-2:]])
        if self.noise is None:
            self.noise = frame_noise((len(up), 1, *up.shape[2:]), self.generator).to(up.device)
        level = torch.zeros(len(up), device=up.device)  # in training the small frames are noised; these are not

        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            return network.bounded(enlarged(network, x_t, t, up, level, fps))

        noise = self.noise.expand_as(up)
        levels = network.levels(self.steps)
        return sample(predict, noise, self.scheduler, self.steps, on_step, levels=levels).clamp(-1, 1)


def upsampled(network: VideoUNet, small: Tensor, size: Sequence[int]) -> Tensor:
    """The small frames (b, f, 3, h, w) as large as the others, as a network is shown them beside x_t.

    Bilinear, where it is to say what has to be added to them; those of noise, Karlo's, have learnt from bicubic ones.
    """
    if network.config.prediction == "sample":
        return upsample(small, size)
    up = F.interpolate(small.flatten(0, 1), tuple(size), mode="bicubic", antialias=True, align_corners=False)
    return up.unflatten(0, small.shape[:2])


def told_level(network: VideoUNet) -> bool:
    """Whether a network is told how much noise has been added to the small frames."""
    return network.config.unet_config.get("class_embed_type") is not None


def enlarged(
    network: VideoUNet, x_t: Tensor, t: Tensor, up: Tensor, level: Tensor, fps: Tensor | None, called: Any = None
) -> Tensor:
    """The clean large frames, float32, from noisy ones at t and small ones, up-sampled, that were noised to `level`.

    called: the network as it is to be called, where it is compiled or divided.
    """
    labels = {"class_labels": level * TIMESTEPS} if told_level(network) else {}
    seen = torch.cat([x_t, up], 2)
    made = (called or network)(seen, t * TIMESTEPS, fps=fps, **labels).sample.float()
    return up + made if network.config.prediction == "sample" else made


def enlarge_stretches(
    chunks: Iterable[Tensor], enlarge: Callable[[Tensor], Tensor], length: int, overlap: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """A video of any length, stretch after stretch: yields (small frames, large frames).

    A stretch sees the last frames of the one before, and where they overlap one passes into the other. So there is no
    seam, and memory does not grow with length.

    Args:
        chunks: the video (b, a few frames, 3, h, w), piece by piece.
        enlarge: small frames to large ones.
        length: new frames of a stretch.
        overlap: frames that two stretches share, 1 or more.
    """
    before = None  # the last frames: small, and large as made so far
    for chunk in in_stretches(chunks, length):
        low = chunk if before is None else torch.cat([before[0], chunk], 1)
        made = enlarge(low)
        if before is not None:
            shared = before[1].shape[1]
            share = torch.linspace(0, 1, shared + 2, device=made.device)[1:-1].view(1, -1, 1, 1, 1)
            made = torch.cat([torch.lerp(before[1], made[:, :shared], share), made[:, shared:]], 1)
        keep = min(overlap, low.shape[1])
        before = low[:, -keep:], made[:, -keep:]
        if made.shape[1] > keep:
            yield low[:, :-keep], made[:, :-keep]
    if before is not None:
        yield before
