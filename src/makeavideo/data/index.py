"""Which items there are: folders and webdataset shards, listed in a fixed order, and the bytes behind each item."""

from __future__ import annotations

import io
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

from ..errors import UserError
from ..media.pictures import Unreadable
from .window import Window

if TYPE_CHECKING:
    from .wordings import Wordings

PICTURES = {
    "jpg",
    "jpeg",
    "jpe",
    "jfif",
    "png",
    "webp",
    "avif",
    "bmp",
    "dib",
    "tif",
    "tiff",
    "jp2",
    "ppm",
    "pgm",
    "tga",
}
PILLOW_CLIPS = {"gif", "webp", "apng", "avif"}
AV_CLIPS = {
    "mp4",
    "m4v",
    "mov",
    "qt",
    "webm",
    "mkv",
    "avi",
    "ts",
    "mts",
    "m2ts",
    "wmv",
    "asf",
    "3gp",
    "3g2",
    "flv",
    "f4v",
}
AV_CLIPS |= {"mpg", "mpeg", "m1v", "m2v", "vob", "ogv", "ogm", "ivf", "nut", "y4m"}
CLIPS = PILLOW_CLIPS | AV_CLIPS
CAPTIONS = {"txt", "json"}
HEIC = {"heic", "heif", "hif"}
USABLE = PICTURES | CLIPS | CAPTIONS | {"tar"}
NOT_REGULAR = "not a regular file"
HIDDEN = "hidden: its name begins with a dot"
SHORT = 16 * 2**20
"""Bytes of a shard's member that is read whole: one read is faster than several."""
SAME_STEM = "a name that its folder has with another ending too"

Include = Container[str] | Callable[[str], bool] | None  # the stems to keep, or a test of a stem


class Store(Protocol):
    """Where bytes come from that are not simply read from a file."""

    def read(self, path: str, offset: int, size: int | None, /) -> bytes:
        """Unreadable if they cannot be had."""
        ...

    def open(self, path: str, offset: int, size: int | None, /) -> BinaryIO:
        """The same as a seekable file that is read as far as it is asked; Unreadable if it cannot be had."""
        ...


@dataclass(frozen=True)
class Source:
    """A file, or the bytes [offset, offset + size) of a tar shard; through a store, if it has one."""

    path: str
    name: str
    offset: int = 0
    size: int | None = None
    store: Store | None = None

    @property
    def extension(self) -> str:
        return os.path.splitext(self.name)[1][1:].lower()

    def __str__(self) -> str:
        return self.path if self.size is None else f"{self.path}/{self.name}"

    def read(self) -> bytes:
        """The content; Unreadable if it is gone, empty or cut short."""
        try:
            if self.store is not None:
                data = self.store.read(self.path, self.offset, self.size)
            else:
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

    def open(self) -> BinaryIO:
        """A seekable binary file; what is long, or a file in a folder, is not read into memory."""
        if self.size is not None and self.size <= SHORT:
            return io.BytesIO(self.read())
        try:
            if self.store is not None:
                return self.store.open(self.path, self.offset, self.size)
            whole = os.path.getsize(self.path)
            if not whole or self.size == 0:
                raise Unreadable("empty file")
            if self.size is None:
                return open(self.path, "rb")
            if self.offset + self.size > whole:
                raise Unreadable("truncated shard")
            return io.BufferedReader(Window(open(self.path, "rb"), self.offset, self.size))
        except OSError as error:
            raise Unreadable(error.strerror or "cannot be opened") from error


@dataclass
class Item:
    """One sample's files: the media and, for pictures, what captions it.

    key: its path below the root, or in its shard, without the ending.
    said: what the captions say, where an index has read them already.
    """

    key: str
    media: Source
    captions: list[Source] = field(default_factory=list)
    said: Wordings | None = None

    @property
    def stem(self) -> str:
        """The key without folders, by which splits name it."""
        return self.key.rpartition("/")[2]


def list_items(
    root: str | Path | Sequence[str | Path], extensions: set[str], include: Include = None
) -> tuple[list[Item], list[tuple[str, str]]]:
    """(items in a fixed order, [(path, reason)] of damaged shards, of files passed by and of names given twice).

    root: folders (searched recursively; .tar files in them are shards), .tar paths, or single files. Files belong
    together when they differ only in what follows the last dot (in a shard: the first dot of the name, as webdataset
    has it, unless that leaves no known ending). UserError if a path does not exist or nothing usable is found.
    """
    wanted = include if callable(include) else (lambda key: include is None or key in include)
    given = [root] if isinstance(root, (str, Path)) else root
    for one in map(str, given):
        if "://" in one or one.lower().endswith((".csv", ".jsonl")):
            raise UserError(f"{one} is read through an index: make-a-video data index {one} -o FOLDER, and give that.")
    roots = [Path(one).expanduser() for one in given]
    if not roots or "" in given:
        raise UserError("No data folder was given; name at least one folder or tar shard.")
    sources: list[Named] = []
    skipped: list[tuple[str, str]] = []
    for given_path in roots:
        if not given_path.exists():
            raise UserError(f"The data folder {given_path} does not exist; give an existing folder or tar shard.")
        path = Path(os.path.abspath(given_path))
        for file, _ in regular_files(path, skipped):
            if file.suffix.lower() == ".tar":
                members, problem = index_file(file)
                sources += members
                skipped += [(str(file), problem)] if problem else []
            else:
                source = Source(str(file), file.name)
                key = (file.relative_to(path) if path.is_dir() else Path(file.name)).with_suffix("").as_posix()
                sources.append(Named(str(file.parent), key, source.extension, source))
    items, told = items_of(sources, extensions, wanted)
    skipped += told
    if not items:
        where = ", ".join(str(r) for r in roots)
        kinds = " ".join("." + e for e in sorted(extensions))
        if include is not None:
            raise UserError(f"{where} holds none of the files to include (as {kinds}, or in .tar shards).")
        counts = Counter(reason for _, reason in skipped).most_common(3)
        there = f" ({', '.join(f'{count} {reason}' for reason, count in counts)})" if counts else ""
        raise UserError(f"{where} holds no usable file{there}: put {kinds} files or .tar shards of them there.")
    return items, skipped


class Named(NamedTuple):
    """A file and what it belongs to: files of one `place` (a folder or a shard) and one key are one sample."""

    place: str
    key: str
    extension: str
    source: Source

    @property
    def hidden(self) -> bool:
        """In a shard, under a name that begins with a dot: a walk through folders leaves such files out."""
        return self.source.size is not None and self.source.name.rpartition("/")[2].startswith(".")


def items_of(
    sources: list[Named], extensions: set[str], wanted: Callable[[str], bool] = lambda stem: True
) -> tuple[list[Item], list[tuple[str, str]]]:
    """(samples, [(path, reason)] of files passed by and of names given twice)."""
    sources, told = each_once(sources)
    told += [(str(one.source), HIDDEN) for one in sources if one.hidden and one.extension in USABLE]
    sources = [one for one in sources if not one.hidden]
    told += passed_by(sources, extensions)
    captions: dict[tuple[str, str], list[Source]] = {}
    for place, key, extension, source in sources:
        if extension in CAPTIONS:
            captions.setdefault((place, key), []).append(source)
    items: list[Item] = []
    seen: set[tuple[str, str]] = set()
    for place, key, extension, source in sources:
        # .txt before .json whatever the order on disk, so that the captions' order is fixed.
        said = sorted(captions.get((place, key), []), key=lambda s: s.extension, reverse=True)
        item = Item(key, source, said)
        if extension in extensions and wanted(item.stem):
            told += [(str(source), SAME_STEM)] if (place, key) in seen else []
            seen.add((place, key))
            items.append(item)
    return items, told


def each_once(sources: list[Named]) -> tuple[list[Named], list[tuple[str, str]]]:
    """A shard may hold a name twice: the first one, so that nobody's captions are mixed; and those passed by."""
    kept: dict[tuple[str, ...], Named] = {}
    twice = []
    for named in sources:
        source = named.source
        name = (source.path,) if source.size is None else named[:3]
        first = kept.setdefault(name, named).source
        if first is source:
            continue
        if (first.path, first.offset) == (source.path, source.offset):
            twice.append((str(source), "a file of a folder or shard that is given twice"))
        else:
            twice.append((f"{source} at byte {source.offset}", "a name that its shard holds twice"))
    return list(kept.values()), twice


def passed_by(sources: list[Named], extensions: set[str]) -> list[tuple[str, str]]:
    """(path, reason) of the files that are neither media of these kinds nor what is said of them."""
    media = {(place, key) for place, key, extension, _ in sources if extension in PICTURES | CLIPS | HEIC}
    told = []
    for place, key, extension, source in sources:
        if extension in extensions:
            continue
        if extension in HEIC:
            told.append((str(source), "HEIC, which cannot be read here: save it as jpg or png"))
        elif extension in PICTURES | CLIPS:
            told.append((str(source), "a clip beside pictures" if extension in CLIPS else "a picture beside clips"))
        elif extension not in CAPTIONS:
            kind = f"a file of another kind, .{extension}" if extension else "a file whose name has no ending"
            told.append((str(source), kind))
        elif extensions & PICTURES - CLIPS and (place, key) not in media:
            told.append((str(source), "a caption without a picture"))
    return told


def regular_files(root: Path, told: list[tuple[str, str]]) -> Iterator[tuple[Path, int]]:
    """(file, bytes) of a folder's files in order, or of a file; `told` is given (path, reason) of what is not one."""
    for file in _walk(root, told) if root.is_dir() else [root]:
        try:
            stat = file.stat()
        except OSError as error:
            told.append((str(file), "a link to nothing" if file.is_symlink() else error.strerror or "cannot be opened"))
            continue
        if S_ISREG(stat.st_mode):
            yield file, stat.st_size
        else:  # opening a pipe or a device could block for ever
            told.append((str(file), NOT_REGULAR))


def _walk(folder: Path, told: list[tuple[str, str]]) -> Iterator[Path]:
    """The files below a folder in order, also where a link leads; `told` is given (path, reason) of what is not."""
    been: set[str] = set()

    def unopened(error: OSError) -> None:
        told.append((str(error.filename), "a folder that cannot be opened"))

    for parent, folders, names in os.walk(folder, onerror=unopened, followlinks=True):
        real = os.path.realpath(parent)
        if real in been:  # or a link to what is above would be followed without end
            told.append((parent, "a link to a folder that is there already"))
            folders.clear()
            continue
        been.add(real)
        hidden = [*folders, *(name for name in names if name.rpartition(".")[2].lower() in USABLE)]
        told += [(os.path.join(parent, name), HIDDEN) for name in sorted(hidden) if name.startswith(".")]
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in samples_among(names, folders):
            yield Path(parent, name)


def samples_among(names: Iterable[str], folders: Iterable[str] = ()) -> list[str]:
    """The names in order, without hidden ones and what img2dataset writes about a shard beside it."""
    names = sorted(name for name in names if not name.startswith("."))
    shards = {name[:-4] for name in names if name.lower().endswith(".tar")} | set(folders)
    about = {f"{shard}{ending}" for shard in shards for ending in (".parquet", "_stats.json")}
    return [name for name in names if name not in about]


def split_name(name: str) -> tuple[str, str]:
    """(stem, ending) of a shard's member, as webdataset has it, unless that leaves no known ending (clip.v2.mp4)."""
    stem, _, extension = name.partition(".")
    if extension.lower() not in PICTURES | CLIPS | CAPTIONS | HEIC:
        stem, _, extension = name.rpartition(".")
    return (stem, extension.lower()) if stem else (extension, "")


def index_file(path: Path) -> tuple[list[Named], str | None]:
    """`index_tar` of a shard on this disk."""
    try:
        with open(path, "rb") as file:
            return index_tar(str(path), file, os.fstat(file.fileno()).st_size)
    except OSError:
        return [], "not a plain tar shard"


def index_tar(
    path: str, file: BinaryIO, size: int, texts: dict[int, bytes] | None = None
) -> tuple[list[Named], str | None]:
    """Offsets of a shard's whole members, read once from the headers; and what is wrong with the shard, or None.

    file, size: the open shard and its bytes. texts: is given the content of captions, by their offsets.
    """
    members: list[Named] = []
    problem = None
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            try:
                for info in tar:
                    folder, _, name = info.name.rpartition("/")
                    if info.islnk() or info.issym():
                        problem = "a shard with links, which are not followed"
                    if not info.isreg():
                        continue
                    if info.offset_data + info.size > size:
                        problem = "truncated shard"
                        break
                    stem, extension = split_name(name)
                    key = f"{folder}/{stem}" if folder else stem
                    members.append(Named(path, key, extension, Source(path, info.name, info.offset_data, info.size)))
                    if texts is not None and extension in CAPTIONS:
                        file.seek(info.offset_data)
                        texts[info.offset_data] = file.read(info.size)
                else:
                    # tarfile ends quietly at a damaged header; a whole archive ends with a block of zeros.
                    file.seek(tar.offset)
                    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                        problem = "truncated shard"
            except (tarfile.TarError, OSError, ValueError):
                problem = "truncated shard"
    except (tarfile.TarError, OSError, ValueError):
        problem = "not a plain tar shard"
    return members, problem
