"""Embeddings of an index on disk: of every picture y_e, and the text embeddings of some of its captions.

Beside each other in a folder, as half-precision arrays that are memory-mapped: `images.npy` (samples, image_embed_dim),
`texts.npy` (samples, captions, text_embed_dim), `embeddings.json`. They are filled in chunks, by any number of
processes; a chunk that is whole has a file in `done/`, so that what is stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError, in_a_line
from ..media.disk import reason, temporary_in, write_whole
from .indexed import SAMPLES, SHARDS, WORDS

ABOUT, IMAGES, TEXTS, DONE = "embeddings.json", "images.npy", "texts.npy", "done"
CHUNK = 4096
"""Samples that one process embeds before it says so."""
END = 2**22
"""Bytes of each end of a file that `fingerprint` reads."""


@dataclass(frozen=True)
class Shape:
    """What the arrays are of, and by which networks: another one may not go on with them.

    data: the `fingerprint` of the index.
    background: behind pictures with alpha, as #rrggbb.
    image_encoder, text_encoder: hashes of their weights.
    """

    samples: int
    captions: int
    image_dim: int
    text_dim: int
    size: int
    data: str
    background: str
    image_encoder: str
    text_encoder: str

    def differs(self, wanted: Shape) -> str:
        """The first thing that is other than wanted, in words; the empty string if nothing is."""
        return next((word for name, word in WORDS_FOR.items() if getattr(self, name) != getattr(wanted, name)), "")


WORDS_FOR = {
    "data": "pictures",
    "samples": "pictures",
    "captions": "captions",
    "size": "sizes",
    "background": "backgrounds",
    "image_encoder": "image encoders",
    "text_encoder": "text encoders",
    "image_dim": "image encoders",
    "text_dim": "text encoders",
}


def fingerprint(index: str | Path) -> str:
    """A hash of what an index holds: its shards with their stamps, and its samples' names and words.

    Of a large index the ends of a file and its length stand for it, so that this takes no time.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name in (SHARDS, SAMPLES, WORDS):
        with open(Path(index).expanduser() / name, "rb") as file:
            digest.update(file.read(END))
            length = file.seek(0, os.SEEK_END)
            file.seek(max(0, length - END))
            digest.update(file.read() + length.to_bytes(8, "little"))
    return digest.hexdigest()


def _array(path: Path, shape: tuple[int, ...]) -> None:
    """Zeros of half precision, under their name when they are whole; on most file systems they take no room yet."""
    if not path.exists():
        temporary = temporary_in(path.parent)
        np.lib.format.open_memmap(temporary, "w+", np.float16, shape).flush()
        os.replace(temporary, path)


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Around what writes: UserError where it cannot."""
    try:
        yield
    except OSError as error:
        raise UserError(f"The embeddings cannot be written to {folder}: {reason(error)}.") from error


class Embeddings:
    """A folder of embeddings, to be read, and to be filled by the chunks that are missing.

    A sample without embeddings, since its picture cannot be read, has zeros.

    Raises:
        UserError: there are none, or of another set.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        try:
            self.shape = Shape(**json.loads((self.folder / ABOUT).read_text("utf-8")))
            self.images = np.load(self.folder / IMAGES, mmap_mode="r")
            self.texts = np.load(self.folder / TEXTS, mmap_mode="r")
            whole = self.images.shape == (self.shape.samples, self.shape.image_dim)
            whole &= self.texts.shape == (self.shape.samples, self.shape.captions, self.shape.text_dim)
        except (OSError, ValueError, TypeError, EOFError, AttributeError, RecursionError) as error:
            raise UserError(
                f"There are no embeddings in {self.folder} ({in_a_line(error)}): make-a-video data embed."
            ) from None
        if not whole:
            raise UserError(f"The embeddings in {self.folder} are damaged: remove them and make them again.")

    @classmethod
    def begin(cls, folder: Path, shape: Shape) -> Embeddings:
        """Those of a folder, which are made if there are none.

        Raises:
            UserError: there are others, or they cannot be written.
        """
        from filelock import FileLock

        with _written(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / ".lock"):  # of several processes one begins
                return cls._begun(folder, shape)

    @classmethod
    def _begun(cls, folder: Path, shape: Shape) -> Embeddings:
        if (folder / ABOUT).exists():
            found = cls(folder)
            if what := found.shape.differs(shape):
                raise UserError(f"{folder} holds embeddings of other {what}: choose another folder, or remove them.")
            return found
        (folder / DONE).mkdir(exist_ok=True)
        _array(folder / IMAGES, (shape.samples, shape.image_dim))
        _array(folder / TEXTS, (shape.samples, shape.captions, shape.text_dim))
        write_whole(folder / ABOUT, json.dumps(asdict(shape)).encode())
        return cls(folder)

    def chunks(self, rank: int = 0, world: int = 1) -> Iterator[tuple[int, int]]:
        """[start, end) of the missing chunks that fall to this process."""
        done = set(os.listdir(self.folder / DONE))
        for start in range(rank * CHUNK, self.shape.samples, world * CHUNK):
            if str(start) not in done:
                yield start, min(self.shape.samples, start + CHUNK)

    def fill(self, start: int, images: np.ndarray, texts: np.ndarray) -> None:
        """A whole chunk, on the disk before its file says so.

        Raises:
            UserError: it cannot be written.
        """
        with _written(self.folder):
            for name, mapped, rows in ((IMAGES, self.images, images), (TEXTS, self.texts, texts)):
                with open(self.folder / name, "rb+") as file:  # a full disk ends what writes through a map (SIGBUS)
                    file.seek(mapped.offset + start * mapped.strides[0])
                    file.write(rows.astype(np.float16).tobytes())
                    file.flush()
                    os.fsync(file.fileno())
            (self.folder / DONE / str(start)).touch()

    def check_whole(self) -> None:
        """Raises UserError where chunks are missing."""
        if missing := sum(1 for _ in self.chunks()):
            raise UserError(
                f"The embeddings in {self.folder} lack {missing:,} chunks: make-a-video data embed goes on."
            )

    def check_of(self, index: str | Path) -> None:
        """Raises UserError where these are embeddings of something else."""
        if self.shape.data != fingerprint(index):
            raise UserError(f"The embeddings in {self.folder} are of other pictures than {index}: make them again.")
