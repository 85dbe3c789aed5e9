"""`make-a-video data clips`: from people's videos to clips without cuts, in shards, each with its figures.

Some videos make a shard, in a process of its own: shards/NNNNN.tar with the clips that are kept, figures/NNNNN.jsonl of
every scene and sheets/NNNNN.webp with some of them to look at. They get their names when whole; what is stopped
and started again makes the shards that are missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import UserError
from ..media.clip import Clip, open_by_content
from ..media.disk import temporary_in, write_whole
from ..media.pictures import unreadable
from ..media.writer import VideoWriter
from .decode import of_several
from .index import CLIPS, Item, Source, list_items
from .pack import add_member
from .report import printable
from .scenes import Limits, Scene, Watcher
from .workers import mapped

VIDEOS = 16
"""Of which a shard is made."""
FASTEST = 60.0
"""Frames a second of a clip at most."""
SHOWN, THUMB = 12, (96, 72)
"""Scenes of a shard that can be looked at, kept ones and dropped ones, and the size of their three pictures."""
FOLDERS = {"tar": "shards", "jsonl": "figures", "webp": "sheets"}
PLAN = ".clips.json"
WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Settings:
    """limits: what is kept. side: pixels of a clip's short side at most; quality: of the mp4 files, 1 to 100."""

    limits: Limits = field(default_factory=Limits)
    side: int = 512
    quality: int = 80


@dataclass(frozen=True)
class Shard:
    """What is to be made: its number, and the videos."""

    folder: Path
    number: int
    videos: tuple[Source, ...]
    settings: Settings

    def path(self, ending: str) -> Path:
        return self.folder / FOLDERS[ending] / f"{self.number:05d}.{ending}"


def curate(
    source: Path,
    out: Path,
    settings: Settings,
    workers: int = 1,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> list[tuple[str, str]]:
    """Make the shards that are missing in `out`.

    Returns:
        [(path, reason)] of the files that are no clips.

    Raises:
        UserError: no such folder, no clips, `out` was made of other videos or with other settings, a worker was killed.
    """
    if out.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{out} lies in {source}, where it would be cut itself: choose another folder.")
    items, told = list_items(source, CLIPS)
    shards = plan(items, out, settings)
    missing = [shard for shard in shards if not shard.path("jsonl").is_file()]
    done = len(shards) - len(missing)
    tell(done, len(shards))
    for _ in mapped(make_shard, missing, workers):
        done += 1
        tell(done, len(shards))
    return told


def plan(items: Sequence[Item], out: Path, settings: Settings) -> list[Shard]:
    """The shards of a folder, which is begun or goes on; see `curate`."""
    known = [[str(item.media), os.path.getsize(item.media.path)] for item in items]
    text = json.dumps([known, asdict(settings)])
    print_of = hashlib.sha256(text.encode()).hexdigest()
    file = out / PLAN
    if file.is_file():
        try:
            begun = json.loads(file.read_bytes())["fingerprint"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UserError(f"{file}, the note of what {out} is made of, is damaged: remove {out}.") from None
        if begun != print_of:
            raise UserError(f"{out} was begun with other videos or settings: choose another folder, or remove it.")
    elif out.exists() and any(out.iterdir()):
        raise UserError(f"{out} holds other files: choose a new folder.")
    else:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps({"fingerprint": print_of}).encode())
    for name in FOLDERS.values():
        (out / name).mkdir(exist_ok=True)
    groups = range(0, len(items), VIDEOS)
    media = [tuple(item.media for item in items[first : first + VIDEOS]) for first in groups]
    return [Shard(out, number, videos, settings) for number, videos in enumerate(media)]


def make_shard(shard: Shard) -> None:
    """All of a shard; its .jsonl comes last and says that it is whole."""
    lines: list[dict[str, Any]] = []
    sheet: dict[str, list[np.ndarray]] = {"kept": [], "dropped": []}
    partial = temporary_in(shard.folder)
    partial.mkdir()
    try:
        with tarfile.open(partial / "clips.tar", "w", format=tarfile.PAX_FORMAT) as tar:
            for number, video in enumerate(shard.videos):
                for line, data, pictures in clips_of(video, shard.settings):
                    if data is not None:
                        line["clip"] = f"{shard.number:05d}{number:02d}{line['scene']:04d}"
                        add_member(tar, f"{line['clip']}.mp4", data)
                        add_member(tar, f"{line['clip']}.json", json.dumps(line).encode())
                    lines.append(line)
                    of = sheet["dropped" if data is None else "kept"]
                    if pictures is not None and len(of) < SHOWN:
                        line["shown"] = len(of)
                        of.append(pictures)
        rows = [*sheet["kept"], *sheet["dropped"]]
        if rows:
            Image.fromarray(np.concatenate(rows)).save(partial / "sheet.webp", quality=80)
            os.replace(partial / "sheet.webp", shard.path("webp"))
        if any("clip" in line for line in lines):
            os.replace(partial / "clips.tar", shard.path("tar"))
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (partial / "figures.jsonl").write_text(text)
        os.replace(partial / "figures.jsonl", shard.path("jsonl"))
    except OSError as error:
        raise UserError(
            f"{shard.folder} cannot be written ({error.strerror or error}): the same command goes on."
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


Made = tuple[dict[str, Any], bytes | None, np.ndarray | None]
"""(figures, the clip or None where it is dropped, its three pictures side by side)."""


def clips_of(video: Source, settings: Settings) -> Iterator[Made]:
    """Every scene of a video, or one line that says why it cannot be read."""
    name = printable(video)
    try:
        with video.open() as file, open_by_content(file, threads=1) as clip:
            clock = of_several(clip.clock())
            rate = min(FASTEST, max(1.0, clip.fps(len(clock.times), float(clock.times[-1]))))
            watcher = Watcher(rate)
            for frame, time in clip.frames(WHITE):
                watcher.look(frame, time)
            scenes = watcher.scenes(clock.duration, settings.limits)
            made = _written(clip, scenes, rate, settings)
            for number, (scene, (data, pictures)) in enumerate(zip(scenes, made, strict=True)):
                figures = {"video": name, "scene": number, "fps": round(rate, 3), **_figures(scene)}
                yield figures, None if scene.dropped else data, pictures
    except UserError:
        raise
    except Exception as error:
        yield {"video": name, "scene": 0, "dropped": f"cannot be read: {unreadable(error)}"}, None, None


def _figures(scene: Scene) -> dict[str, Any]:
    rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(scene).items()}
    return {**rounded, "width": scene.size[0], "height": scene.size[1]}


def _written(
    clip: Clip, scenes: list[Scene], rate: float, settings: Settings
) -> Iterator[tuple[bytes | None, np.ndarray | None]]:
    """(mp4 or None, pictures) of every scene, in one more pass through the video."""
    frames = enumerate(clip.frames(WHITE))
    number, current = next(frames)
    for scene in scenes:
        shown = [scene.start + (scene.end - 1 - scene.start) * part // 2 for part in range(3)]
        pictures: list[np.ndarray] = []
        with tempfile.TemporaryDirectory() as folder:
            sink = None if scene.dropped else _Sink(Path(folder) / "clip.mp4", scene, rate, settings)
            try:
                while number < scene.end:
                    frame, time = current
                    if number >= scene.start:
                        pictures += [_thumb(frame)] * shown.count(number)
                        if sink is not None:
                            sink.add(frame, time)
                    number, current = next(frames, (scene.end, current))
                yield (sink.data() if sink is not None else None), np.concatenate(pictures, 1) if pictures else None
            finally:
                if sink is not None:
                    sink.close()


class _Sink:
    """Writes a scene at an even rate: at each moment the frame that is nearest in time."""

    def __init__(self, path: Path, scene: Scene, rate: float, settings: Settings) -> None:
        self._scene, self._rate = scene, rate
        width, height = scene.size
        scale = min(1.0, settings.side / min(width, height))
        self._size = (max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2))
        self._writer = VideoWriter(path, rate, quality=settings.quality, keep_partial=False)
        self._before: tuple[np.ndarray, float] | None = None
        self._written = 0

    def add(self, frame: np.ndarray, time: float) -> None:
        left, top, right, bottom = self._scene.crop
        cut = Image.fromarray(frame[top:bottom, left:right])
        if cut.size != self._size:
            cut = cut.resize(self._size, Image.Resampling.LANCZOS)
        now = (np.asarray(cut), time)
        if self._before is not None:
            self._until((self._before[1] + time) / 2)
        self._before = now

    def _until(self, time: float) -> None:
        assert self._before is not None
        while self._scene.begins + self._written / self._rate <= time:
            self._writer.write(self._before[0])
            self._written += 1

    def data(self) -> bytes:
        self._until(self._scene.ends - 0.5 / self._rate)
        return self._writer.close().read_bytes()

    def close(self) -> None:
        self._writer.abort()


def _thumb(frame: np.ndarray) -> np.ndarray:
    """THUMB pixels, all of the frame on grey."""
    image = Image.fromarray(frame)
    image.thumbnail(THUMB)
    canvas = Image.new("RGB", THUMB, (128, 128, 128))
    canvas.paste(image, ((THUMB[0] - image.width) // 2, (THUMB[1] - image.height) // 2))
    return np.asarray(canvas)
