"""Embeddings of an index on disk: of every picture y_e, and the text embeddings of some of its captions.

Beside each other in a folder, as half-precision arrays that are memory-mapped: `images.npy` (samples, image_embed_dim),
`texts.npy` (samples, captions, text_embed_dim), `embeddings.json`. They are filled in chunks, by any number of
processes; a chunk that is whole has a file in `done/`, so that what is stopped goes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import UserError
from ..media.disk import temporary_in, write_whole

ABOUT, IMAGES, TEXTS, DONE = "embeddings.json", "images.npy", "texts.npy", "done"
CHUNK = 4096
"""Samples that one process embeds before it says so."""


@dataclass(frozen=True)
class Shape:
    """What the arrays are of, and by which networks: another one may not go on with them.

    networks: hashes of the image tower and the text encoder.
    """

    samples: int
    captions: int
    image_dim: int
    text_dim: int
    size: int
    networks: str


def _array(path: Path, shape: tuple[int, ...]) -> None:
    """Zeros of half precision, under their name when they are whole; on most file systems they take no room yet."""
    if not path.exists():
        temporary = temporary_in(path.parent)
        np.lib.format.open_memmap(temporary, "w+", np.float16, shape).flush()
        os.replace(temporary, path)


class Embeddings:
    """A folder of embeddings, open for reading or, with `write`, for filling the chunks that are missing.

    A sample without embeddings, since its picture cannot be read, has zeros.

    Raises:
        UserError: there are none, or of another set.
    """

    def __init__(self, folder: str | Path, write: bool = False) -> None:
        mode: Literal["r+", "r"] = "r+" if write else "r"
        self.folder = Path(folder).expanduser()
        try:
            self.shape = Shape(**json.loads((self.folder / ABOUT).read_text("utf-8")))
            self.images = np.load(self.folder / IMAGES, mmap_mode=mode)
            self.texts = np.load(self.folder / TEXTS, mmap_mode=mode)
            whole = self.images.shape == (self.shape.samples, self.shape.image_dim)
            whole &= self.texts.shape == (self.shape.samples, self.shape.captions, self.shape.text_dim)
        except (OSError, ValueError, TypeError, EOFError) as error:
            raise UserError(f"There are no embeddings in {self.folder} ({error}): make-a-video data embed.") from None
        if not whole:
            raise UserError(f"The embeddings in {self.folder} are damaged: remove them and make them again.")

    @classmethod
    def begin(cls, folder: Path, shape: Shape) -> Embeddings:
        """Those of a folder, which are made if there are none.

        Raises:
            UserError: there are others, or they cannot be written.
        """
        from filelock import FileLock

        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / ".lock"):  # of several processes one begins
                return cls._begun(folder, shape)
        except OSError as error:
            raise UserError(f"The embeddings cannot be written to {folder}: {error.strerror}.") from error

    @classmethod
    def _begun(cls, folder: Path, shape: Shape) -> Embeddings:
        if (folder / ABOUT).exists():
            found = cls(folder, write=True)
            if found.shape != shape:
                before, now = asdict(found.shape), asdict(shape)
                what = next(key for key in now if before[key] != now[key])
                raise UserError(f"{folder} holds embeddings of other {what}: choose another folder, or remove them.")
            return found
        (folder / DONE).mkdir(exist_ok=True)
        _array(folder / IMAGES, (shape.samples, shape.image_dim))
        _array(folder / TEXTS, (shape.samples, shape.captions, shape.text_dim))
        write_whole(folder / ABOUT, json.dumps(asdict(shape)).encode())
        return cls(folder, write=True)

    def chunks(self, rank: int = 0, world: int = 1) -> Iterator[tuple[int, int]]:
        """[start, end) of the missing chunks that fall to this process."""
        done = set(os.listdir(self.folder / DONE))
        for start in range(rank * CHUNK, self.shape.samples, world * CHUNK):
            if str(start) not in done:
                yield start, min(self.shape.samples, start + CHUNK)

    def fill(self, start: int, images: np.ndarray, texts: np.ndarray) -> None:
        """A whole chunk, on the disk before its file says so."""
        end = start + len(images)
        self.images[start:end], self.texts[start:end] = images, texts
        for array in (self.images, self.texts):
            memory: Any = array
            memory.flush()
        (self.folder / DONE / str(start)).touch()

    def check_whole(self, samples: int) -> None:
        """Raises UserError where chunks are missing, or these are embeddings of another number of samples."""
        if samples != self.shape.samples:
            told = f"The embeddings in {self.folder} are of {self.shape.samples:,} samples and the data has {samples:,}"
            raise UserError(f"{told}: make them again.")
        if missing := sum(1 for _ in self.chunks()):
            raise UserError(
                f"The embeddings in {self.folder} lack {missing:,} chunks: make-a-video data embed goes on."
            )
