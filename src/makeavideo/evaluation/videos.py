"""Folders of videos, read one at a time, and the clips that a protocol cuts out of them."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..csv_text import read_table
from ..data.index import CLIPS, PILLOW_CLIPS
from ..errors import UserError
from ..media.reader import Video, is_still, read_recipe, read_video

ENDINGS = frozenset(f".{ending}" for ending in CLIPS)
ALWAYS_VIDEOS = frozenset(f".{ending}" for ending in CLIPS - PILLOW_CLIPS)
"""The other kinds hold pictures as well."""

Folder = str | Path | list[Path]
"""A set of videos: a folder, or a list of files."""

Tell = Callable[[str, int, int], None]
"""Progress: what, done, total."""


def found_in(folder: str | Path) -> tuple[list[Path], list[Path]]:
    """Videos under a folder, and the still pictures among them, files and folders of one frame that could hold more.

    Raises:
        UserError: no such folder, or no video in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}: give a folder of videos.")
    files = {path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and not path.name.startswith(".")}
    pictures = {path.parent for path in folder.rglob("*.png") if path.parent != folder}
    stills = {path for path in files | pictures if path.suffix.lower() not in ALWAYS_VIDEOS and shows_one_frame(path)}
    if not (files | pictures) - stills:
        what = f"nothing but {len(stills)} still pictures" if stills else "no video"
        raise UserError(f"There is {what} in {folder}: give a folder with mp4, webm, gif or other video files.")
    return sorted((files | pictures) - stills), sorted(stills)


def shows_one_frame(path: Path) -> bool:
    """Whether it is a still picture; what is wrong with a file is said where it is read."""
    with contextlib.suppress(UserError):
        return is_still(path)
    return False


def list_videos(folder: str | Path) -> list[Path]:
    """Video files under a folder, and folders of png pictures in it, in the order of their names.

    Raises:
        UserError: no such folder, or no video in it.
    """
    return found_in(folder)[0]


def still_pictures(*folders: "Folder") -> list[str]:
    """What lies among the videos of these sets and is not measured, for the result."""
    return [str(path) for folder in folders if isinstance(folder, (str, Path)) for path in found_in(folder)[1]]


@dataclass(frozen=True)
class ClipProtocol:
    """Which frames of which videos go through a network of clips: part of every Fréchet distance between videos.

    num_frames, stride: every stride-th of the file's frames.
    fps: if given, the frames nearest in time at this rate, and stride counts those.
    real_start, made_start: where in a video the clip begins; random is drawn by the seed.
    clips: how many clips of each real video (random starts); bootstraps keep them together.
    resize: "crop": the square in the middle is cut out; "stretch": frames are left as they are, and the network
        squeezes them into its square (VideoMAE's own image processor crops instead).
    short: what becomes of a video that is too short: "skip" it, or "loop" it.
    max_videos: at most so many of each set, drawn by the seed; none: all.
    """

    name: str
    num_frames: int = 16
    stride: int = 1
    fps: float | None = None
    real_start: Literal["first", "random"] = "first"
    made_start: Literal["first", "random"] = "first"
    clips: int = 1
    resize: Literal["crop", "stretch"] = "stretch"
    short: Literal["skip", "loop"] = "skip"
    max_videos: int | None = None

    def __post_init__(self) -> None:
        if min(self.num_frames, self.stride, self.clips) < 1 or (self.fps is not None and self.fps <= 0):
            raise UserError("A protocol's frames, stride, clips and fps must be positive: correct the one that is not.")


STYLEGAN_V = ClipProtocol("styleganv", real_start="random", resize="crop", max_videos=2048)
"""fvd2048_16f of StyleGAN-V (arXiv 2112.14683): 2,048 real and 2,048 made clips of 16 consecutive frames; a real clip
starts anywhere, a made one at its first frame; shorter videos are left out. Its data sets are square already."""

ORIGINAL = ClipProtocol("original")
"""Unterthiner et al. (arXiv 1812.01717): all videos, 16 frames from the first one, squeezed into 224 x 224."""

EMOJI = ClipProtocol("emoji", fps=8.0, real_start="random", short="loop", resize="crop")
"""16 frames at 8 a second, what the emoji decoder makes and its clips are measured at; emoji animations loop."""

PROTOCOLS = {protocol.name: protocol for protocol in (STYLEGAN_V, ORIGINAL, EMOJI)}


def protocol_named(name: str, **changes) -> ClipProtocol:
    """One of PROTOCOLS with the fields changed that are not None. Raises UserError for an unknown name."""
    if name not in PROTOCOLS:
        raise UserError(f"There is no protocol {name!r}: choose one of {', '.join(PROTOCOLS)}.")
    changes = {key: value for key, value in changes.items() if value is not None}
    return replace(PROTOCOLS[name], **changes)


def squared(frames: np.ndarray) -> np.ndarray:
    """uint8 (frames, h, w, 3): the square in the middle."""
    height, width = frames.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return frames[:, top : top + side, left : left + side]


def cut(video: Video, protocol: ClipProtocol, start: float) -> np.ndarray | None:
    """A clip (num_frames, height, width, 3) of a video, None if it is too short. start: 0..1, where in the video."""
    times, count = video.times, len(video.frames)
    wanted: np.ndarray
    length: float
    offset: float
    if protocol.fps is None:
        wanted, length = np.arange(protocol.num_frames) * protocol.stride, count
        room = length - 1 - wanted[-1]
        offset = int(start * (max(room, 0) + 1)) if room >= 0 else int(start * count)
    else:
        # a frame is shown until the next one: the last one as long as the mean of the others
        shown = times[-1] / (count - 1) if count > 1 else 1 / protocol.fps
        wanted, length = np.arange(protocol.num_frames) * protocol.stride / protocol.fps, times[-1] + shown
        # half a frame of grace: rounded time stamps must not make a clip of exactly this length too short
        room = length - shown / 2 - wanted[-1]
        offset = start * max(room - shown / 2, 0.0) if room >= 0 else start * length
    if room < 0 and protocol.short == "skip":
        return None
    places = (wanted + offset) % length if room < 0 else wanted + offset
    chosen = places.astype(int) if protocol.fps is None else np.abs(times[None] - places[:, None]).argmin(1)
    frames = video.frames[chosen]
    return squared(frames) if protocol.resize == "crop" else frames


def chosen_videos(folder: str | Path | Sequence[Path], limit: int | None, seed: int) -> list[Path]:
    """The videos of a folder (or those of a list), at most `limit` of them, drawn by the seed."""
    files = list(folder) if not isinstance(folder, (str, Path)) else list_videos(folder)
    if limit is None or len(files) <= limit:
        return files
    drawn = np.random.default_rng(seed).choice(len(files), limit, replace=False)
    return [files[index] for index in sorted(drawn)]


def read_clips(
    folder: str | Path | Sequence[Path], protocol: ClipProtocol, real: bool, seed: int, tell: Tell | None = None
) -> Iterator[np.ndarray | None]:
    """Clips of each video of a set, uint8 (clips, num_frames, height, width, 3), one video in memory at a time.

    None stands for a video that is too short. Made videos give one clip each.
    """
    files = chosen_videos(folder, protocol.max_videos, seed)
    begin = protocol.real_start if real else protocol.made_start
    for index, path in enumerate(files):
        video = read_video(path)
        rng = np.random.default_rng((seed, index, int(real)))
        starts = [float(rng.random()) if begin == "random" else 0.0 for _ in range(protocol.clips if real else 1)]
        clips = [clip for start in starts if (clip := cut(video, protocol, start)) is not None]
        yield np.stack(clips) if clips else None
        if tell:
            tell("real videos" if real else "videos", index + 1, len(files))


def spread(frames: np.ndarray, count: int) -> np.ndarray:
    """`count` frames of a video, evenly spread from the first to the last; with repeats where there are fewer."""
    return frames[np.linspace(0, len(frames) - 1, count).round().astype(int)]


def frames_of(
    folder: Folder, count: int, limit: int | None, seed: int, tell: Tell | None, what: str
) -> Iterator[tuple[Path, np.ndarray]]:
    """(path, uint8 (count, h, w, 3)) of each video: frames spread evenly over it."""
    files = chosen_videos(folder, limit, seed)
    for index, path in enumerate(files):
        yield path, spread(read_video(path).frames, count)
        if tell:
            tell(what, index + 1, len(files))


def shown(folder: Folder) -> str:
    """A set of videos in the settings of a result."""
    return str(folder) if isinstance(folder, (str, Path)) else f"{len(folder)} files"


def captions_of(files: Sequence[Path], table: str | Path | None = None, folder: str | Path | None = None) -> list[str]:
    """The caption of each video: from a csv, or the prompt in each file's own recipe.

    table: a csv with a heading and the columns `file` (path from `folder`, name or stem) and `caption` or `prompt`.

    Raises:
        UserError: no such csv, a column that lacks, or a video without caption.
    """
    captions: list[Any] = (
        [(read_recipe(file) or {}).get("prompt") for file in files]
        if table is None
        else _captions_in(table, files, folder)
    )
    for file, caption in zip(files, captions, strict=True):
        if not caption:
            source = f"in {table}" if table else "in its recipe"
            raise UserError(f"{file} has no caption {source}: give a csv with a line for each video.")
    return captions


def _captions_in(table: str | Path, files: Sequence[Path], folder: str | Path | None) -> list[Any]:
    rows = read_table(table, "file")
    if not {"caption", "prompt"} & set(next(iter(rows.values()))):
        raise UserError(f"The table {table} has no column caption: it needs file and caption.")
    known = {name: row.get("caption") or row.get("prompt") for name, row in rows.items()}
    captions = []
    for file in files:
        names = [file.name, file.stem]
        if folder is not None and file.is_relative_to(folder):
            names.insert(0, file.relative_to(folder).as_posix())
        captions.append(next((known[name] for name in names if name in known), None))
    return captions
