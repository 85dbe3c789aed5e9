"""What the readers share: listing folders and tar shards, decoding, the frame cache, the report of skipped files."""

from __future__ import annotations

import io
import os
import random
import tarfile
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np

from ..errors import UserError
from ..media.inputs import Unreadable, load_picture, to_square, unreadable
from ..media.video import open_image, parse_background, to_rgb

PICTURES = {"jpg", "jpeg", "png", "webp", "avif", "bmp", "tif", "tiff"}
PILLOW_CLIPS = {"gif", "webp", "apng", "avif"}
AV_CLIPS = {"mp4", "m4v", "mov", "webm", "mkv", "avi"}
CLIPS = PILLOW_CLIPS | AV_CLIPS
CAPTIONS = {"txt", "json"}

MAX_CLIP_PIXELS = 8_000_000_000  # all frames of one gif, webp, apng or avif, which can only be decoded from the start
DEFAULT_CACHE = 4 * 2**30


Include = Container[str] | Callable[[str], bool] | None  # the stems to keep, or a test of a stem


class SkipReport:
    """Collects (path, reason) pairs, each path once, for one paragraph at the end of an epoch."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self.fresh = False  # something was added since the last text()

    def add(self, skipped: Iterable[tuple[str, str]]) -> None:
        for path, reason in skipped:
            if str(path) not in self.reasons:
                self.reasons[str(path)] = str(reason)
                self.fresh = True

    def __len__(self) -> int:
        return len(self.reasons)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(sorted(self.reasons.items()))

    def text(self, limit: int = 20) -> str:
        """One paragraph that names at most `limit` files; the empty string if nothing was skipped."""
        self.fresh = False
        if not self.reasons:
            return ""
        named = [f"{path} ({reason})" for path, reason in list(self)[:limit]]
        more = f"; and {len(self) - limit} more" if len(self) > limit else ""
        return f"Skipped {len(self)} file{'s' if len(self) > 1 else ''}: {'; '.join(named)}{more}."

    __str__ = text


@dataclass(frozen=True)
class Source:
    """A file, or the bytes [offset, offset + size) of a tar shard."""

    path: str
    name: str
    offset: int = 0
    size: int | None = None

    @property
    def extension(self) -> str:
        return self.name.rpartition(".")[2].lower()

    def __str__(self) -> str:
        return self.path if self.size is None else f"{self.path}/{self.name}"

    def read(self) -> bytes:
        """The content; Unreadable if it is gone, empty or cut short."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                data = file.read() if self.size is None else file.read(self.size)
        except OSError as error:
            raise Unreadable(error.strerror or "cannot be opened") from error
        if not data:
            raise Unreadable("empty file")
        if self.size is not None and len(data) < self.size:
            raise Unreadable("truncated shard")
        return data

    def open(self):
        """A seekable binary file; a file in a folder is not read into memory."""
        if self.size is not None:
            return io.BytesIO(self.read())
        try:
            if os.path.getsize(self.path) == 0:
                raise Unreadable("empty file")
            return open(self.path, "rb")
        except OSError as error:
            raise Unreadable(error.strerror or "cannot be opened") from error


@dataclass
class Item:
    """One sample's files: the media and, for pictures, what captions it."""

    key: str
    media: Source
    captions: list[Source] = field(default_factory=list)


def list_items(
    root: str | Path | Sequence[str | Path], extensions: set[str], include: Include = None
) -> tuple[list[Item], list[tuple[str, str]]]:
    """(items in a fixed order, [(path, reason)] of shards that are damaged).

    root: folders (searched recursively; .tar files in them are shards), .tar paths, or single files. Files belong
    together when they differ only in what follows the last dot (in a shard: the first dot of the name, as webdataset
    has it). UserError if a path does not exist or nothing usable is found.
    """
    wanted = include if callable(include) else (lambda key: include is None or key in include)
    roots = [Path(r).expanduser() for r in ([root] if isinstance(root, (str, Path)) else root)]
    if not roots:
        raise UserError("No data folder was given; name at least one folder or tar shard.")
    items: list[Item] = []
    skipped: list[tuple[str, str]] = []
    for path in roots:
        if not path.exists():
            raise UserError(f"The data folder {path} does not exist; give an existing folder or tar shard.")
        sources: list[tuple[str, str, Source]] = []  # (stem with folder, extension, source)
        for file in [path] if path.is_file() else _walk(path):
            if file.suffix.lower() == ".tar":
                members, problem = index_tar(file)
                sources += members
                skipped += [(str(file), problem)] if problem else []
            else:
                source = Source(os.path.abspath(file), file.name)
                sources.append((os.path.abspath(file.with_suffix("")), source.extension, source))
        captions: dict[str, list[Source]] = {}
        for stem, extension, source in sources:
            if extension in CAPTIONS:
                captions.setdefault(stem, []).append(source)
        for stem, extension, source in sources:
            key = stem.rpartition("/")[2] if source.size is not None else os.path.basename(stem)
            if extension in extensions and wanted(key):
                # .txt before .json whatever the order on disk, so that the captions' order is fixed.
                items.append(Item(key, source, sorted(captions.get(stem, []), key=lambda s: s.extension, reverse=True)))
    if not items:
        where = ", ".join(str(r) for r in roots)
        kinds = " ".join("." + e for e in sorted(extensions))
        if include is not None:
            raise UserError(f"{where} holds none of the files to include (as {kinds}, or in .tar shards).")
        raise UserError(f"{where} holds no usable file: put {kinds} files or .tar shards of them there.")
    return items, skipped


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            # Regular files only: opening a pipe or a device could block for ever.
            if not name.startswith(".") and path.suffix and path.is_file():
                yield path


def index_tar(path: Path) -> tuple[list[tuple[str, str, Source]], str | None]:
    """Offsets of a shard's whole members, read once from the headers; and what is wrong with the shard, or None."""
    members, problem = [], None
    try:
        size = path.stat().st_size
        with tarfile.open(path, "r:") as tar:
            try:
                for info in tar:
                    folder, _, name = info.name.rpartition("/")
                    if not info.isreg() or name.startswith("."):
                        continue
                    if info.offset_data + info.size > size:
                        problem = "truncated shard"
                        break
                    stem, _, extension = name.partition(".")
                    source = Source(os.path.abspath(path), info.name, info.offset_data, info.size)
                    members.append((f"{os.path.abspath(path)}/{folder}/{stem}", extension.lower(), source))
                else:
                    # tarfile ends quietly at a damaged header; a whole archive ends with a block of zeros.
                    with open(path, "rb") as file:
                        file.seek(tar.offset)
                        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                            problem = "truncated shard"
            except (tarfile.TarError, OSError, ValueError):
                problem = "truncated shard"
    except (tarfile.TarError, OSError, ValueError):
        problem = "not a plain tar shard"
    return members, problem


# ---- pictures ----------------------------------------------------------------------------------------------------


def decode_picture(source: Source, size: int, background: tuple[int, int, int]) -> np.ndarray:
    """uint8 (1, size, size, 3), turned as its EXIF says; Unreadable for anything that is not a whole picture."""
    return to_square(load_picture(io.BytesIO(source.read()), background, 2 * size), size)[None]


# ---- clips -------------------------------------------------------------------------------------------------------


@dataclass
class Clock:
    """When frames are shown. times: seconds from the first frame, increasing; duration: seconds in all."""

    times: np.ndarray
    duration: float

    def nearest(self, wanted: np.ndarray, wrap: bool) -> np.ndarray:
        """Index of the frame nearest in time to each wanted second (the earlier of two equally near)."""
        times = np.append(self.times, self.duration) if wrap else self.times
        index = np.searchsorted((times[1:] + times[:-1]) / 2, wanted - 1e-6, side="left")
        return index % len(self.times)  # the end of a loop is its first frame


@dataclass
class Decoded:
    """All frames of a clip, uint8 (n, size, size, 3), and their clock."""

    frames: np.ndarray
    clock: Clock


def clock_of(times: Sequence[float], last: float | None) -> Clock:
    """From when each frame is shown and how long the last one is, in seconds (None or 0: as long as the median)."""
    array = np.asarray(times, dtype=np.float64)
    array = array - array[0]
    step = float(np.median(np.diff(array)))
    return Clock(array, float(array[-1]) + (last if last and last > 0 else step))


def decode_animation(source: Source, size: int, background: tuple[int, int, int]) -> Decoded:
    """gif, apng, animated webp and avif by Pillow, all frames."""
    try:
        with open_image(io.BytesIO(source.read())) as image:
            count = getattr(image, "n_frames", 1)
            first = 1 if image.info.get("default_image") else 0  # an apng's still, which is not part of the animation
            if count - first < 2:
                raise Unreadable("only one frame")
            if image.width * image.height * count > MAX_CLIP_PIXELS:
                raise Unreadable("too many pixels for one animation")
            frames, times, now, duration = [], [], 0.0, 0.0
            for index in range(first, count):
                image.seek(index)
                image.load()
                frames.append(to_square(to_rgb(image, background), size))
                times.append(now)
                # As browsers do, a duration too short to be meant is a tenth of a second.
                duration = image.info.get("duration") or 0
                duration = duration / 1000 if duration > 10 else 0.1
                now += duration
        return Decoded(np.stack(frames), clock_of(times, duration))
    except Exception as error:
        raise unreadable(error) from error


def open_video(source: Source, size: int, background: tuple[int, int, int]):
    """The `videos.Video` of this file, imported here: gif, webp and avif, packed clips too, are read without PyAV.

    UserError: PyAV is not installed.
    """
    try:
        from .videos import Video
    except ImportError:
        raise UserError(
            f"{source} cannot be read without PyAV: pip install av, or pack the clips where it is (data pack)."
        ) from None
    return Video(source, size, background)


def decode(source: str | Path | Source, size: int, background: str = "#ffffff") -> tuple[np.ndarray, np.ndarray, float]:
    """(frames uint8 (n, size, size, 3), times seconds (n,), duration seconds) of any clip; Unreadable if it is none."""
    if not isinstance(source, Source):
        source = Source(os.path.abspath(source), Path(source).name)
    rgb = parse_background(background)
    if source.extension in PILLOW_CLIPS:
        decoded = decode_animation(source, size, rgb)
        return decoded.frames, decoded.clock.times, decoded.clock.duration
    video = open_video(source, size, rgb)
    clock, pts = video.clock()
    return video.frames(pts), clock.times, clock.duration


# ---- the cache and the replacement of unreadable items -------------------------------------------------------------


class FrameCache:
    """Least-recently-used arrays, bounded by their bytes. Pickled empty: each worker process fills its own."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = int(limit), 0
        self._entries: OrderedDict[int, tuple[object, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: int):
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def put(self, key: int, value: object, size: int) -> None:
        with self._lock:
            if size > self.limit or key in self._entries:
                return
            self._entries[key] = (value, size)
            self.used += size
            while self.used > self.limit:
                self.used -= self._entries.popitem(last=False)[1][1]

    def __getstate__(self) -> dict:
        return {"limit": self.limit}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["limit"])


class Unfit(Exception):
    """A good file that does not suit this sample (too short for the rate): replaced, not reported."""


class ItemReader:
    """Base of the two datasets: keys, include, cache, and a replacement for every item that cannot be read.

    The replacement is drawn from the sample's own seed, so a sample is a pure function of its key and the files.
    """

    def __init__(
        self,
        root: str | Path | Sequence[str | Path],
        extensions: set[str],
        size: int,
        background: str,
        crop: int | None,
        include: Include,
        cache_bytes: int,
    ) -> None:
        if size < 1 or (crop is not None and not 1 <= crop <= size):
            raise UserError(f"The crop must lie between 1 and the size {size}, not {crop}; the size must be positive.")
        self.size, self.crop = size, crop
        self.background = parse_background(background)
        self.root = root
        self.items, self.damaged_shards = list_items(root, extensions, include)
        self.keys = [item.key for item in self.items]
        self.cache = FrameCache(cache_bytes)
        self.bad: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.items)

    def read(self, index: int, rng: random.Random, progress: float) -> dict:
        """The sample of this item, "pixels" as uint8 (n, height, width, 3); Unreadable or Unfit."""
        raise NotImplementedError

    def __getitem__(self, key: tuple) -> dict:
        sample = self.sample(key)
        return {**sample, "pixels": to_pixels(sample["pixels"])}

    def __getitems__(self, keys: Sequence[tuple]) -> list[dict]:
        """What a DataLoader asks for: bytes travel, and become numbers a whole batch at a time (`to_pixels`)."""
        return [self.sample(key) for key in keys]

    def sample(self, key: tuple) -> dict:
        """As `read`, and which item it is, and what was skipped for it."""
        index, seed, progress = (*key, 0.0) if len(key) == 2 else key
        index, progress = int(index), float(progress)
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        rng, draw = random.Random(f"{int(seed)}"), None
        skipped = dict(self.damaged_shards)
        tried: set[int] = set()
        while True:
            try:
                if index in self.bad:
                    raise Unreadable(self.bad[index])
                sample = self.read(index, rng, progress)
                return {**sample, "key": self.keys[index], "index": index, "skipped": list(skipped.items())}
            except Unreadable as error:
                self.bad[index] = str(error)
                skipped[str(self.items[index].media)] = str(error)
            except Unfit:
                pass
            tried.add(index)
            if len(tried) == len(self):
                raise self._nothing(progress)
            draw = draw or random.Random(f"replacement {int(seed)}")
            # At most half of the draws are lost to items already tried; past that, the next untried in order.
            index = draw.randrange(len(self))
            while index in tried:
                index = (index + 1) % len(self)
            rng = random.Random(f"{int(seed)}")

    def _nothing(self, progress: float) -> UserError:
        roots = [self.root] if isinstance(self.root, (str, Path)) else self.root
        where = ", ".join(str(r) for r in roots)
        if len(self.bad) < len(self):
            return UserError(f"No clip in {where} is long enough for the frame rate drawn; set `short` to loop.")
        first = min(self.bad)
        return UserError(
            f"Nothing in {where} can be read; the first problem is {self.items[first].media}: {self.bad[first]}."
        )

    def cut(self, frames: np.ndarray, rng: random.Random) -> np.ndarray:
        """The same random crop of every frame, (n, size, size, 3) -> (n, crop, crop, 3)."""
        if self.crop is None:
            return frames
        top, left = (rng.randint(0, self.size - self.crop) for _ in range(2))
        return frames[:, top : top + self.crop, left : left + self.crop]


def to_pixels(frames):
    """uint8 (..., height, width, 3), array or tensor -> float tensor (..., 3, height, width) in [-1, 1]."""
    import torch

    frames = torch.from_numpy(np.array(frames)) if isinstance(frames, np.ndarray) else frames
    return frames.movedim(-1, -3).contiguous().float().div_(127.5).sub_(1.0)
