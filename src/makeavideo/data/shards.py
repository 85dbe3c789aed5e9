"""Where the bytes of indexed shards are: on this machine's disk, or elsewhere by fsspec (s3://, gs://, hf://, ...).

What lies elsewhere is read in place, a range of bytes a sample, or through a folder of whole shards with a limit.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from ..errors import UserError, in_a_line
from ..media.disk import FULL, TEMPORARY, temporary_in
from ..media.pictures import Unreadable
from .window import Window

ATTEMPTS, WAIT = 3, 0.5
"""How often a network is asked, and seconds before it is asked again; longer every time."""

BLOCK = 4 * 2**20
"""Bytes of what lies elsewhere that are fetched at once where a part is asked for."""
Result = TypeVar("Result")


def is_remote(path: str) -> bool:
    return "://" in path


def joined(folder: str, name: str) -> str:
    """Where a name below a folder leads; one that is whole leads there by itself."""
    return name if os.path.isabs(name) or is_remote(name) else f"{folder}/{name}"


def filesystem(url: str) -> tuple[Any, str]:
    """(fsspec's file system, the path in it).

    Raises:
        UserError: no such protocol, or its package is not installed.
    """
    import fsspec

    if not is_remote(url):  # which may have :: in it, that would chain file systems
        return fsspec.filesystem("file"), url
    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UserError(f"{url} cannot be reached: {in_a_line(error).rstrip('.')}.") from None


def patiently(ask: Callable[[], Result]) -> Result:
    """What a network answers; an answer that it is not there is one."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return ask()
        except FileNotFoundError:
            raise
        except Exception:
            if attempt == ATTEMPTS:
                raise
            time.sleep(WAIT * attempt)
    raise AssertionError


def part_elsewhere(path: str, offset: int, size: int | None) -> bytes:
    """So many bytes of a file elsewhere; None: all from there on.

    Raises:
        Unreadable: its server gives whole files only, as simple ones do; what cannot be reached raises fsspec's errors.
    """
    fs, name = filesystem(path)
    data = patiently(lambda: fs.cat_file(name, start=offset, end=None if size is None else offset + size))
    if size is not None and len(data) > size:
        raise Unreadable("its server gives no part of a file: have whole shards kept, by data.shard_cache")
    return data


def stamp_of(path: str) -> str:
    """What changes when a shard does: size and time; elsewhere what the file system says of it.

    Raises:
        OSError: it is not there.
    """
    if is_remote(path):
        fs, name = filesystem(path)
        return patiently(lambda: fs.ukey(name))
    stat = os.stat(path)
    return f"{stat.st_size} {stat.st_mtime_ns}"


class ShardCache:
    """A folder of whole shards that were fetched, at most `limit` bytes of them: those used last stay.

    Processes of one machine share it.
    """

    def __init__(self, folder: str | Path, limit: int) -> None:
        self.folder, self.limit = Path(folder).expanduser(), limit

    def fetch(self, url: str, stamp: str) -> Path:
        """The shard on this disk.

        Raises:
            UserError: the folder cannot be written.
            Exception: whatever the network says.
        """
        from filelock import FileLock

        path = self.folder / (hashlib.sha256(f"{url} {stamp}".encode()).hexdigest()[:32] + ".tar")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if path.exists():
                with contextlib.suppress(OSError):  # another user's, or forgotten by now
                    os.utime(path)
                return path
            with FileLock(path.with_suffix(".lock")):
                if not path.exists():
                    self._get(url, path)
        except OSError as error:
            # a disk that is full names no file
            if error.errno not in FULL and not str(error.filename).startswith(str(self.folder)):
                raise
            told = f"The shard cache {self.folder} cannot be written ({error.strerror})"
            raise UserError(f"{told}: free some space or lower its limit.") from error
        return path

    def _get(self, url: str, path: Path) -> None:
        fs, name = filesystem(url)
        partial = temporary_in(self.folder)  # which removes what killed processes left
        self._make_room(patiently(lambda: fs.size(name)) or 0)
        try:
            patiently(lambda: fs.get_file(name, str(partial)))
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Forget what was used longest ago. A process that still reads such a shard keeps it until it is done."""
        kept, used = [], size
        for entry in os.scandir(self.folder):
            with contextlib.suppress(FileNotFoundError):
                if entry.name.endswith(".tar"):
                    kept.append((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path))
                if entry.name.endswith(".tar") or entry.name.startswith(TEMPORARY):  # or one that is being fetched
                    used += entry.stat().st_size
        for _, each, path in sorted(kept):
            if used <= self.limit:
                return
            Path(path).unlink(missing_ok=True)
            Path(path).with_suffix(".lock").unlink(missing_ok=True)
            used -= each


class ShardStore:
    """Reads the members of shards, each of which is compared once with what the index says of it.

    Args:
        stamps: `stamp_of` each shard when it was indexed; other files are read as they are.
        cache: for shards that lie elsewhere; None: each member is read in place.
    """

    def __init__(self, stamps: Mapping[str, str], cache: ShardCache | None = None) -> None:
        self.stamps, self.cache = stamps, cache
        self._problems: dict[str, str | None] = {}

    def read(self, path: str, offset: int, size: int | None) -> bytes:
        """Unreadable, whatever is wrong."""
        return self._asked(path, lambda: self._read(path, offset, size))

    def open(self, path: str, offset: int, size: int | None) -> BinaryIO:
        """The same as a file that is read as far as it is asked; Unreadable, whatever is wrong with its shard."""
        return self._asked(path, lambda: self._open(path, offset, size))

    def _asked(self, path: str, ask: Callable[[], Result]) -> Result:
        try:
            if path not in self._problems:
                self._problems[path] = self._problem(path)
            if (problem := self._problems[path]) is not None:
                raise Unreadable(problem)
            return ask()
        except (Unreadable, UserError):
            raise
        except Exception as error:
            raise Unreadable(in_a_line(getattr(error, "strerror", None) or error)) from error

    def _problem(self, path: str) -> str | None:
        stamp = self.stamps.get(path)
        return None if stamp in (None, stamp_of(path)) else "changed since it was indexed: make the index again"

    def _read(self, path: str, offset: int, size: int | None) -> bytes:
        if self._in_place(path):
            return part_elsewhere(path, offset, size)
        with self._local(path) as file:
            file.seek(offset)
            return file.read() if size is None else file.read(size)

    def _open(self, path: str, offset: int, size: int | None) -> BinaryIO:
        if self._in_place(path):
            fs, name = filesystem(path)
            whole, file = patiently(lambda: (fs.size(name), fs.open(name, "rb", block_size=BLOCK)))
        else:
            file = self._local(path)
            whole = os.fstat(file.fileno()).st_size
        size = (whole or 0) - offset if size is None else size
        if not size or offset + size > whole:
            file.close()
            raise Unreadable("truncated shard" if size else "empty file")
        return io.BufferedReader(Window(file, offset, size))

    def _in_place(self, path: str) -> bool:
        return is_remote(path) and (self.cache is None or path not in self.stamps)

    def _local(self, path: str) -> BinaryIO:
        for _ in range(ATTEMPTS):  # a shard may be forgotten by another process between fetching and opening
            place = self.cache.fetch(path, self.stamps[path]) if is_remote(path) and self.cache else path
            with contextlib.suppress(FileNotFoundError):
                return open(place, "rb")
        raise FileNotFoundError(2, "No such file or directory")

    def __reduce__(self) -> tuple:
        return ShardStore, (self.stamps, self.cache)
