"""Which frames are made when: windows of F-up over videos of any length, as plain arithmetic and one generator.

D_t and F-up work on 16 frames. A longer video is made of *key frames*, FRAME_SKIP frames apart, that F-up continues
window after window; a second pass of F-up puts frames in between (section 3.3 of the paper). Every use of the cascade
is a list of `Segment`: what is known at its start, what it shows, how long it lasts.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .figures import FRAME_SKIP, KEY_FRAMES
from .sampling import cross_fade


def frame_skip(num_frames: int, fps: float) -> int:
    """Distance of key frames: 1 where D_t's own frames are enough, or where key frames would be over a second apart."""
    return 1 if num_frames <= KEY_FRAMES or fps < FRAME_SKIP else FRAME_SKIP


def spans(length: int) -> list[range]:
    """Stretches of 16 frames over `length` that share their border frames; the last one is moved back to fit."""
    if length <= KEY_FRAMES:
        return [range(length)]
    starts = [*range(0, length - KEY_FRAMES, KEY_FRAMES - 1), length - KEY_FRAMES]
    return [range(start, start + KEY_FRAMES) for start in starts]


@dataclass
class Segment:
    """A part of a video.

    start: makes its first key frames (b, k, 3, h, w); called when they are needed.
    y_e: what it shows, (b, d).
    count: key frames until the next segment starts.
    """

    start: Callable[[], Tensor]
    y_e: Tensor
    count: int


Fill = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(given (b, f, 3, h, w), mask (b, f), y_e (b, f, d)) -> frames."""


@dataclass(frozen=True)
class Windows:
    """How key frames follow from others, window after window.

    fill: makes the frames of a window that are not given; at their places is what they may begin with.
    context: frames that a window sees of what exists when it continues a video.
    transition: key frames that are made anew where one segment passes into the next, or a loop closes.
    sink: whether a segment's first frame stays in the sight of every window, before the latest ones, and is what its
        frames more and more begin with: faults of what was made would else add up (the word is StreamingLLM's,
        2309.17453).
    """

    fill: Fill
    context: int
    transition: int
    sink: bool = False


def key_frames(segments: list[Segment], loop: bool, windows: Windows) -> Iterator[tuple[Tensor, Tensor]]:
    """The key frames of a video, with their embeddings, some at a time: (b, k, 3, h, w) and (b, k, d).

    A segment's start is kept as far as it fits; F-up makes the rest, window after window, so that the segment passes
    into the first frame of the next one. With `loop` the last segment passes into the first frame of the video, which
    is yielded once more at the end. Memory does not grow with the number of frames.
    """
    start = segments[0].start()
    first = start[:, :1], segments[0].y_e
    for number, segment in enumerate(segments):
        end, y_end, next_start = None, segment.y_e, start
        if number + 1 < len(segments):
            next_start, y_end = segments[number + 1].start(), segments[number + 1].y_e
            end = next_start[:, :1]
        elif loop:
            end, y_end = first
        room = segment.count - (min(windows.transition, segment.count - 1) if end is not None else 0)
        start = start[:, : max(1, room)]
        y_e = embedding_path(segment.y_e, y_end, start.shape[1], segment.count)
        yield start, y_e[:, : start.shape[1]]
        yield from continue_keys(start, end, y_e, windows)
        if end is not None and number + 1 == len(segments):
            yield end, y_end[:, None]
        start = next_start


def embedding_path(y_e: Tensor, y_end: Tensor, known: int, count: int) -> Tensor:
    """One embedding a key frame (b, count, d): y_e, and over the last new ones, evenly, towards y_end."""
    ramp = min(count - known, KEY_FRAMES - 2)
    share = torch.zeros(count, device=y_e.device)
    if ramp > 0:
        share[count - ramp :] = torch.linspace(0, 1, ramp + 2, device=y_e.device)[1:-1]
    path = torch.lerp(y_e[:, None], y_end[:, None], share[None, :, None])
    return path * (y_e.norm(dim=-1)[:, None, None] / path.norm(dim=-1, keepdim=True).clamp(min=1e-6))


def continue_keys(start: Tensor, end: Tensor | None, y_e: Tensor, windows: Windows) -> Iterator[tuple[Tensor, Tensor]]:
    """F-up extrapolates `start` (b, k, ...) up to key frame y_e.shape[1] - 1, so that `end` may follow it."""
    total, done = y_e.shape[1], start.shape[1]
    context, transition = windows.context, windows.transition
    recent = start[:, -context:]
    closing = 0 if end is None else 1
    while done < total:
        known = recent.shape[1]
        new = min(total - done, KEY_FRAMES - known)
        if closing and new < total - done <= new + transition:
            new = total - done - transition  # so that the last window has frames enough to reach the end smoothly
        last = closing and done + new == total
        seen, begin = recent, recent[:, -1:].expand(-1, new, -1, -1, -1)
        if windows.sink:
            share = torch.linspace(0, 1, new + 1, device=start.device)[1:, None, None, None].to(start)
            begin = torch.lerp(begin, start[:, :1], share)
            seen = torch.cat([start[:, :1], recent[:, 1:]], 1) if known > 1 else recent
        given = torch.cat([seen, begin], 1)
        mask = given.new_zeros(given.shape[:2])
        mask[:, :known] = 1
        y_window = y_e[:, done - known : done + new]
        if end is not None and last:
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
            given = cross_fade(torch.cat([given, end], 1), mask)
            y_window = torch.cat([y_window, y_window[:, -1:]], 1)
        made = windows.fill(given, mask, y_window)[:, known : known + new]
        yield made, y_e[:, done : done + new]
        recent = torch.cat([recent, made], 1)[:, -context:]
        done += new
