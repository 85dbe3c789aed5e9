"""How much videos move, how much what stands still flickers, how well they loop: no network."""

from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import UserError
from ..media.reader import read_video
from ..opencv import cv2
from .results import Result, Value, bootstrap_settings, mean_value
from .videos import Folder, Tell, chosen_videos, shown, still_pictures

STILL = 8
"""A pixel stands still where every frame is within this many of 255 levels of its median over time."""
STILL_SHARE = 0.01
"""Flicker is only measured where at least this part of the frame stands still."""
FLOW_SIDE = 64
"""Smaller frames are enlarged to this before the flow is measured: its patches are 8 pixels wide."""


def motion_of(frames: np.ndarray) -> dict[str, float]:
    """How one video (frames, h, w, 3), uint8, at least two frames, moves.

    - "frame difference": mean absolute change from frame to frame, levels of 255.
    - "static area": per cent of the pixels that stand still: within STILL levels of their median over time.
    - "flow": mean length of the optical flow (DIS, Kroeger et al., arXiv 1603.03590, OpenCV's medium preset), in per
      cent of the frame's width a frame, so that sizes can be compared. What stands still counts as zero: the flow of a
      moving thing spreads over a plain background.
    - "flicker": mean absolute change from frame to frame in the static area, levels of 255; NaN where it is too small.
    - "loop gap": mean absolute difference of the last frame and the first, levels of 255: 0 is a loop that closes on
      the same picture.
    """
    change = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean(3)
    height, width = frames.shape[1:3]
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    zoom = max(1.0, FLOW_SIDE / min(height, width))
    if zoom > 1:
        size = (round(width * zoom), round(height * zoom))
        grey = [cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR) for picture in grey]
    estimator: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    lengths = np.zeros(grey[0].shape, np.float32)
    for before, after in pairwise(grey):
        lengths += np.linalg.norm(estimator.calc(before, after, None), axis=2)
    lengths = cv2.resize(lengths, (width, height), interpolation=cv2.INTER_AREA)
    lengths *= 100 / (len(frames) - 1) / grey[0].shape[1]
    still = (np.abs(frames - np.median(frames, 0)).mean(3) <= STILL).all(0)
    return {
        "frame difference": float(change.mean()),
        "flow": float((lengths * ~still).mean()),
        "static area": 100 * float(still.mean()),
        "flicker": float(change[:, still].mean()) if still.mean() >= STILL_SHARE else float("nan"),
        "loop gap": float(np.abs(frames[-1].astype(np.int16) - frames[0]).mean()),
    }


def motion(
    made: Folder,
    max_frames: int | None = None,
    max_videos: int | None = None,
    seed: int = 0,
    draws: int = 1000,
    tell: Tell | None = None,
) -> Result:
    """How the videos of a folder move: means over videos of what `motion_of` measures. No network.

    Videos of one frame are left out; those of which nothing stands still are left out of the flicker only. Compare
    videos of the same frame rate only.

    Raises:
        UserError: an empty folder, an unreadable video, no video of two frames or more.
    """
    files = chosen_videos(made, max_videos, seed)
    rows = []
    for index, path in enumerate(files):
        frames = read_video(path, max_frames=max_frames).frames
        if len(frames) > 1:
            rows.append(motion_of(frames))
        if tell:
            tell("videos", index + 1, len(files))
    if not rows:
        raise UserError("No video has two frames or more, so nothing moves: give longer videos.")
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    counts = {"videos": len(rows), "single frames": len(files) - len(rows)}
    counts["videos without static area"] = int(np.isnan(columns["flicker"]).sum())
    values = {}
    for name, column in columns.items():
        known = column[~np.isnan(column)]
        values[name] = mean_value(known, draws, seed) if len(known) else Value(None, None, "nothing stands still")
    return Result(
        measure="motion",
        values=values,
        settings={"made": shown(made), "max_frames": max_frames, "max_videos": max_videos, "still": STILL},
        counts=counts,
        seed=seed,
        still_pictures=still_pictures(made),
        bootstrap=bootstrap_settings(draws),
    )
