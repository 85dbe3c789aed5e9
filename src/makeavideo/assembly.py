"""From key frames to a finished video: what the five uses share (sections 3.2 and 3.3 of the paper)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Any, Unpack

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.utils.outputs import BaseOutput
from torch import Tensor

from .cascade import Cascade
from .chunks import in_no_grad, take
from .decoding import Decoding
from .figures import KEY_FRAMES
from .sampling import Anchor, add_details, copied, forked, from_uint8
from .settings import Settings, VideoOptions, settle
from .shapes import FACTORS, Shape
from .timeline import Segment, Windows, frame_skip, key_frames


@dataclass
class MakeAVideoOutput(BaseOutput):
    """frames: "pt" (b, f, 3, h, w) in [0, 1]; "np" (b, f, h, w, 3) in [0, 1]; "pil" a list of lists of pictures;
    "stream" an iterator over (b, a few frames, 3, h, w) in [-1, 1]; "latent" the key frames alone, as D_t works on
    them, (b, k, 3, h, w) in [-1, 1], or the codec's latents (b, k, c, h, w)."""

    frames: Any


def fitted_in(frames: Tensor, shape: Shape) -> Tensor:
    """Frames (b, f, 3, h, w) scaled to fit into a shape; beside them their rim is repeated."""
    if frames.shape[-2:] == shape:
        return frames
    scale = min(shape.height / frames.shape[-2], shape.width / frames.shape[-1])
    height, width = (max(1, round(side * scale)) for side in frames.shape[-2:])
    flat = F.interpolate(frames.flatten(0, 1), (height, width), mode="bilinear", antialias=True, align_corners=False)
    top, left = (shape.height - height) // 2, (shape.width - width) // 2
    around = (left, shape.width - width - left, top, shape.height - height - top)
    return F.pad(flat, around, mode="replicate").unflatten(0, frames.shape[:2])


class Assembly(Cascade):
    """The cascade, and how what its networks make becomes a video of any length and size."""

    def settings(self, **options: Unpack[VideoOptions]) -> Settings:
        """The options with defaults filled in and the number of frames settled, as this model can do it.

        Raises:
            UserError: an impossible number.
        """
        s = settle(options, self.shapes, self.decoder.config.motion is not None, self.interpolator is not None)
        self._callback, self._callback_gets = s.callback_on_step_end, s.callback_on_step_end_tensor_inputs
        self._interrupt = False
        return s

    def freely(self, s: Settings) -> Settings:
        """The same where no picture is given whose shape matters: a D_t of one scale makes its own shape."""
        shapes = self.shapes
        return s if shapes.any_shape else replace(s, made=shapes.base.times(FACTORS[s.stage]))

    def key_count(self, s: Settings, last_is_given: bool = False) -> int:
        """Key frames of a video, without the one that closes a loop.

        Where the last frame is given, the last gap is about as long as the others, so that nothing jumps there.
        """
        skip = frame_skip(s.num_frames, s.fps)
        if s.loop:
            return max(1, round(s.num_frames / skip))
        gaps = (s.num_frames - 1) / skip
        return (max(1, round(gaps)) if last_is_given else math.ceil(gaps)) + 1

    def decoded(
        self, s: Settings, y_e: Tensor, count: int, negative: Tensor | None = None, noise: Tensor | None = None
    ) -> Segment:
        """A segment that D_t starts."""
        how = replace(self.decoding(s, frame_skip(s.num_frames, s.fps)), negative=negative)
        return Segment(lambda: self.grow(y_e, min(count, KEY_FRAMES), how, noise), y_e, count)

    def story(self, s: Settings, y_e: Tensor, negative: Tensor | None, seconds: list[float]) -> list[Segment]:
        """A segment for each part of a story, `seconds` long."""
        keys = self.key_count(s)
        ends = np.cumsum(seconds)
        borders = [0, *(round(end / ends[-1] * keys) for end in ends)]
        counts = [max(1, stop - start) for start, stop in pairwise(borders)]
        return [self.decoded(s, y_e[i : i + 1], count, negative) for i, count in enumerate(counts)]

    def windows(self, s: Settings, skip: int) -> Windows:
        """How key frames, `skip` frames apart, follow from others."""
        how, model = self.decoding(s, skip), self.sampling

        def fill(given: Tensor, mask: Tensor, y_e: Tensor) -> Tensor:
            return self.extrapolate(given, mask, y_e, how)

        return Windows(fill, model.context, model.transition, model.sink)

    def decoding(self, s: Settings, skip: int) -> Decoding:
        """How D_t makes key frames, `skip` frames apart."""
        frame = self.worked_on(s.small)
        return Decoding(s.fps / skip, s.num_inference_steps, s.guidance_scale, s.motion, s.generator, frame)

    def deliver(
        self, s: Settings, segments: list[Segment], anchors: Sequence[Anchor] = (), last_is_given: bool = False
    ) -> MakeAVideoOutput | tuple:
        """Key frames, frames between them, enlarged."""
        skip, keys = frame_skip(s.num_frames, s.fps), self.key_count(s, last_is_given)
        last_gap = skip
        if s.loop:
            last_gap = s.num_frames - (keys - 1) * skip
        elif last_is_given:
            last_gap = s.num_frames - 1 - (keys - 2) * skip
        made = key_frames(segments, s.loop, self.windows(s, skip))
        if s.output_type == "latent":
            return self.package(s, take((chunk for chunk, _ in made), keys))
        frames = self.between(made, s, skip, last_gap)
        return self.package(s, self.enlarge(take(frames, s.num_frames), s, anchors))

    def between(self, keys: Iterator[tuple[Tensor, Tensor]], s: Settings, skip: int, last_gap: int) -> Iterator[Tensor]:
        """All frames from the key frames, 16 of them at a time."""
        if skip == 1:
            yield from (chunk for chunk, _ in keys)
            return
        how = self.decoding(s, 1)
        held, held_y = next(keys)
        for chunk, y_e in chain([(held[:, :0], held_y[:, :0])], keys):
            held, held_y = torch.cat([held, chunk], 1), torch.cat([held_y, y_e], 1)
            while held.shape[1] > KEY_FRAMES:
                yield self.fill_between(held[:, :KEY_FRAMES], skip, held_y[:, :KEY_FRAMES], how)[:, :-1]
                held, held_y = held[:, KEY_FRAMES - 1 :], held_y[:, KEY_FRAMES - 1 :]
        yield self.fill_between(held, last_gap, held_y, how)

    def enlarge(self, small: Iterator[Tensor], s: Settings, anchors: Sequence[Anchor]) -> Iterator[Tensor]:
        """Latents become frames; super-resolution, and the given pictures' own detail, chunk by chunk."""
        if s.stage == 0 and self.codec is None:
            yield from small
            return
        small = chain.from_iterable(map(self.frames_of, small))
        low_steps, high_steps = s.super_resolution_steps
        low_draws, high_draws = forked(s.generator, 2)

        def super_resolve(chunks: Iterator[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
            if s.stage == 0:
                return ((chunk, chunk) for chunk in chunks)
            # From the same noise each time, so that a picture by itself is enlarged as a frame of the video is
            pairs = self.upscale_low(chunks, s.fps, low_steps, copied(low_draws))
            if s.stage == 1:
                return pairs
            return self.upscale_high(pairs, high_steps, copied(high_draws))

        lows = [torch.cat(list(self.frames_of(self.known(anchor.picture, s))), 1) for anchor in anchors]
        details = [
            anchor.picture - next(super_resolve(iter([low])))[1] for anchor, low in zip(anchors, lows, strict=True)
        ]
        place = 0
        for low, frames in super_resolve(small):
            frames = self.numbers(frames, "codec" if s.stage == 0 else "super-resolution")
            yield add_details(frames, low, place, anchors, lows, details)
            place += frames.shape[1]

    def package(self, s: Settings, chunks: Iterator[Tensor]) -> MakeAVideoOutput | tuple:
        """The frames in the form that was asked for."""
        latent = s.output_type == "latent"
        chunks = in_no_grad(
            self.in_range(chunk) if latent else fitted_in(chunk.clamp(-1, 1), s.shape) for chunk in chunks
        )
        frames: Any = chunks
        if s.output_type != "stream":
            frames = torch.cat(list(chunks), 1)
            self.maybe_free_model_hooks()
            if not latent:
                frames = (frames + 1) / 2
            if s.output_type in ("np", "pil"):
                frames = frames.permute(0, 1, 3, 4, 2).cpu().numpy()
            if s.output_type == "pil":
                frames = [self.numpy_to_pil(video) for video in frames]
        return MakeAVideoOutput(frames=frames) if s.return_dict else (frames,)

    def to_tensor(self, frame: np.ndarray) -> Tensor:
        """uint8 (h, w, 3) -> (1, 1, 3, h, w) in [-1, 1] on the pipeline's device."""
        return from_uint8(frame[None, None]).to(self._execution_device)

    def known(self, frames: Tensor, s: Settings) -> Tensor:
        """Given frames of the result's shape, as D_t and F-up work on them."""
        return self.latents_of(self.small(frames, s))

    def small(self, frames: Tensor, s: Settings) -> Tensor:
        """Frames at the size of D_t."""
        if frames.shape[-2:] == s.small:
            return frames
        low = F.interpolate(frames.flatten(0, 1), s.small, mode="bilinear", antialias=True, align_corners=False)
        return low.unflatten(0, frames.shape[:2])
