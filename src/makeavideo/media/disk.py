"""Room kept on a disk that gets full, and files that can be cut back to a place where they are sound."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from ..errors import UserError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
TEMPORARY = ".makeavideo-"
"""What the names of unfinished files begin with."""
HALVES = "backslashreplace"
"""Half a letter, as names of files have it too, is written as JSON names it: UTF-8 cannot write it."""


def temporary_in(folder: Path) -> Path:
    """A name for an unfinished file in this folder. What processes of this machine left there that are no more goes."""
    import psutil

    mine = f"{TEMPORARY}{hashlib.blake2b(platform.node().encode(), digest_size=4).hexdigest()}-"
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            process = entry.name.removeprefix(mine).split("-")[0]
            if not entry.name.startswith(mine) or not process.isdigit() or psutil.pid_exists(int(process)):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
    return folder / f"{mine}{os.getpid()}-{secrets.token_hex(6)}"


def reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)


def write_whole(path: Path, data: bytes | str) -> None:
    """Under its name only when it is whole; text as UTF-8.

    Raises:
        UserError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_in(path.parent)
        try:
            temporary.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", HALVES))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"Cannot write {path}: {reason(error)}.") from error


class Reserve:
    """Room on the disk that is given back when it gets full, so that a file can be finished.

    An unnamed file: whatever happens to the process, none is left behind.
    """

    def __init__(self, folder: Path | None = None, size: int = 0) -> None:
        self.full: OSError | None = None
        """What said that the disk is full."""
        self.size = 0
        self._file: BinaryIO | None = None
        if folder is not None:
            with contextlib.suppress(OSError):  # then without
                size = min(size, shutil.disk_usage(folder).free // 8)
                self._file = tempfile.TemporaryFile(dir=folder, prefix=TEMPORARY, buffering=0)  # noqa: SIM115
                self.size = self._file.write(os.urandom(size))  # what a file system can compress reserves nothing

    def spend(self, error: OSError) -> bool:
        """Note that the disk is full; True if this made room."""
        self.full = self.full or error
        return self.release()

    def release(self) -> bool:
        """Give the room back; True if there was any."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
        return file is not None


@dataclass
class Target:
    """What a format's writer is given."""

    path: Path
    """Temporary; the writer makes it."""
    size: tuple[int, int]
    """(height, width) in pixels."""
    rate: Fraction
    """Frames a second."""
    recipe: str | None
    """JSON in ASCII."""
    reserve: Reserve
    quality: int | None = None
    """1 to 100; None: the format's usual one."""


class Output:
    """A file being written, which can be cut back to a place where it is sound once the disk is full.

    `write` spends the reserve before it fails; after it has failed it takes what comes and does nothing, because
    FFmpeg cannot be told to stop.
    """

    def __init__(self, file: BinaryIO, reserve: Reserve) -> None:
        self._file, self._reserve = file, reserve  # the file is unbuffered
        self.failed = False
        self.marks: list[int] = []

    def write(self, data: bytes) -> int:
        if not self.failed:
            place = self._file.tell()
            try:
                self._write(data)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                if self._reserve.spend(error):
                    with contextlib.suppress(OSError):
                        self._file.seek(place)
                        self._write(data)
                        return len(data)
                self.failed = True
                raise
        return len(data)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()

    def mark(self) -> None:
        """The file could end here."""
        self.marks.append(self._file.tell())

    def cut(self, tail: bytes = b"") -> int:
        """After a failure: end the file at the last mark that leaves room for `tail`; how many marks that keeps."""
        while self.marks:
            self._file.truncate(self.marks[-1])
            self._file.seek(self.marks[-1])
            try:
                self._write(tail)
                return len(self.marks)
            except OSError as error:
                if error.errno not in FULL:
                    raise
            self.marks.pop()
        return 0

    def close(self) -> None:
        self._file.close()
