"""Unlabelled clips: motion without text (sections 3.4 and 4 of the paper)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from ..errors import UserError
from ..media.clip import Clock
from .curriculum import FrameRateCurriculum
from .decode import Decoded, FrameSize, clip_clock, decode_clip, decode_frames
from .index import CLIPS, PILLOW_CLIPS, Include
from .reader import DEFAULT_CACHE, FrameCache, ItemReader, Unfit
from .report import NOT_AT_EVERY_RATE
from .shards import ShardCache

SLACK = 1e-3
"""Seconds that a clip may be too short by."""

CLOCK_BYTES, OBJECT = 64 * 2**20, 500
"""Of the clocks that are kept, and of one beside its three arrays."""

KEPT_WHOLE = 256
"""Frames of a clip that is decoded once and kept. A longer one is decoded for each sample as far as that needs: it
would keep the first sample waiting, and push everything else out of the cache."""


class UnlabelledClips(ItemReader, Dataset):
    """Clips of exactly num_frames frames at a drawn rate, from a random start.

    root: a folder, a .tar shard or a list of them, or an index (`make-a-video data index`), with mp4, mov, webm, mkv,
        avi, ts, wmv, 3gp, mpg, flv, gif,
        animated webp or apng files of any frame rate, variable ones too. No text is ever read.
    size: (height, width) in pixels, or one number for a square; other frames are scaled until they cover it, and
        cropped at their centre.
    fps: a FrameRateCurriculum, or a number for a constant rate. A frame is the one nearest in time.
    short: what becomes of a clip that does not last num_frames at the rate: "loop" (time modulo its duration) or
        "skip" (another clip is drawn instead; it is named in "skipped").
    frame_skip: frames lie frame_skip / fps seconds apart; a pair (low, high) draws it for each sample. The sample's
        "fps" is the rate of the frames returned, fps / frame_skip.
    background, crop, include, cache_bytes, shards, buckets: as in CaptionedImages; the crop is the same for all frames.

    A sample is asked for with (index, seed) or (index, seed, progress), progress 0..1 being the curriculum's, and
    depends on nothing else: {"pixels": float tensor (num_frames, 3, height, width) in [-1, 1], "fps": float,
    "key": stem, "index": int, "skipped": [(path, reason)]}; key and index are those of the clip delivered.
    UserError: root does not exist, holds no clip, or none of them can be read (or lasts long enough, with "skip").
    """

    def __init__(
        self,
        root: str | Path | Sequence[str | Path],
        size: FrameSize,
        num_frames: int = 16,
        fps: FrameRateCurriculum | float = 24.0,
        short: str = "loop",
        background: str = "#ffffff",
        crop: FrameSize | None = None,
        frame_skip: int | tuple[int, int] = 1,
        include: Include = None,
        cache_bytes: int = DEFAULT_CACHE,
        shards: ShardCache | None = None,
        buckets: Sequence[tuple[int, int]] = (),
    ) -> None:
        if short not in ("loop", "skip"):
            raise UserError(f"`short` must be loop or skip, not {short!r}.")
        if num_frames < 1:
            raise UserError(f"`num_frames` must be at least 1, not {num_frames}.")
        low, high = (frame_skip, frame_skip) if isinstance(frame_skip, int) else frame_skip
        if not 1 <= low <= high:
            raise UserError(f"`frame_skip` must be a number from 1 up or a pair of them, not {frame_skip}.")
        super().__init__(root, CLIPS, size, background, crop, include, cache_bytes, shards, buckets)
        self.num_frames, self.short, self.frame_skip = num_frames, short, (low, high)
        self.fps = fps if isinstance(fps, FrameRateCurriculum) else FrameRateCurriculum.constant(fps)
        # Clocks stay when frames leave the cache: a few bytes a frame, and "skip" needs no decoding to pass a clip by.
        self._clocks = FrameCache(CLOCK_BYTES)

    def read(self, index: int, rng: random.Random, progress: float, size: tuple[int, int]) -> dict:
        fps = self.fps.sample(rng, progress) / rng.randint(*self.frame_skip)
        start = rng.random()
        clock, decoded = self._clock(index, size)
        chosen = self._choose(clock, fps, start)
        frames = decoded.frames[chosen] if decoded else self._frames(index, chosen, clock, size)
        frames = self.cut(frames, rng)
        return {"pixels": frames, "fps": float(fps)}

    def _choose(self, clock: Clock, fps: float, start: float) -> np.ndarray:
        """Frame indices (num_frames,). start: 0..1, where in the clip."""
        room = room_of(clock, self.num_frames, fps)
        steps = np.arange(self.num_frames) / fps
        if room >= -SLACK:
            return clock.nearest(start * max(room, 0.0) + steps, wrap=False)
        if self.short == "skip":
            fastest = self.fps.high / self.frame_skip[0]
            if room_of(clock, self.num_frames, fastest) >= -SLACK:
                raise Unfit(NOT_AT_EVERY_RATE)
            raise Unfit(f"too short for {self.num_frames} frames at {fastest:g} a second")
        return clock.nearest((start * clock.duration + steps) % clock.duration, wrap=True)

    def _clock(self, index: int, size: tuple[int, int]) -> tuple[Clock, Decoded | None]:
        """When its frames are shown, and the frames if they had to be decoded for that."""
        clock, decoded = self._clocks.get(index), None
        if clock is None:
            source = self.items[index].media
            if source.extension in PILLOW_CLIPS:
                decoded = self._decoded(index, size)
            clock = decoded.clock if decoded else clip_clock(source)
            self._clocks.put(index, clock, OBJECT + 3 * clock.times.nbytes)
        return clock, decoded

    def _decoded(self, index: int, size: tuple[int, int]) -> Decoded:
        decoded = self.cache.get((index, size))
        if decoded is None:
            decoded = decode_clip(self.items[index].media, size, self.background)
            self.cache.put((index, size), decoded, decoded.frames.nbytes)
        return decoded

    def _frames(self, index: int, chosen: np.ndarray, clock: Clock, size: tuple[int, int]) -> np.ndarray:
        whole = len(clock.times) * size[0] * size[1] * 3
        short = len(clock.times) <= KEPT_WHOLE and whole <= self.cache.limit // 16
        if short or self.cache.get((index, size)) is not None:
            return self._decoded(index, size).frames[chosen]
        # Only the frames of this sample, from the key frame before them
        unique, inverse = np.unique(chosen, return_inverse=True)
        return decode_frames(self.items[index].media, clock, unique.tolist(), size, self.background)[inverse]


def room_of(clock: Clock, num_frames: int, fps: float) -> float:
    """Seconds in which a sample may begin; below 0 the clip is too short for it."""
    # The last frame shown counts until the sample's own last frame would end.
    return max(float(clock.times[-1]), clock.duration - 1 / fps) - (num_frames - 1) / fps
