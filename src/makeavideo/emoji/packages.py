"""The pinned npm packages that the emoji set is built from: download through the npm client, checksums, reading."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import UserError
from .concepts import canonical_code, has_skin_tone

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)``."""


@dataclass(frozen=True)
class Package:
    """One pinned npm package."""

    name: str
    version: str
    integrity: str
    licence: str
    contents: str

    @property
    def filename(self) -> str:
        """The tarball's name as ``npm pack`` gives it."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


def packages() -> dict[str, Package]:
    """The pinned packages by name."""
    data = json.loads(resources.files("makeavideo.emoji").joinpath("packages.json").read_text("utf-8"))
    return {entry["name"]: Package(**entry) for entry in data}


def _integrity(path: Path) -> str:
    digest = hashlib.sha512()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return "sha512-" + base64.b64encode(digest.digest()).decode()


def fetch_packages(cache: Path, progress: Progress | None = None) -> dict[str, Path]:
    """Download what the cache lacks through the npm client; check every tarball's sha512 against the pinned value.

    Raises :class:`UserError` when npm is missing, a download fails or a checksum does not match.
    """
    wanted = packages()
    cache.mkdir(parents=True, exist_ok=True)
    found: dict[str, Path] = {}
    for i, package in enumerate(wanted.values()):
        if progress:
            progress(f"package {package.name}", i, len(wanted))
        path = cache / package.filename
        if not (path.is_file() and _integrity(path) == package.integrity):
            _download(package, path)
        found[package.name] = path
    if progress:
        progress("packages", len(wanted), len(wanted))
    return found


def _download(package: Package, path: Path) -> None:
    npm = shutil.which("npm")
    spec = f"{package.name}@{package.version}"
    if npm is None:
        raise UserError(f"npm is not installed, and {spec} is not in {path.parent}: install Node.js (it brings npm).")
    # A folder of its own, so that an interrupted download never carries the final name.
    partial = path.parent / f".{package.filename}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        done = subprocess.run(
            [npm, "pack", spec, "--pack-destination", str(partial)], capture_output=True, text=True, check=False
        )
        made = partial / package.filename
        if done.returncode != 0 or not made.is_file():
            why = next((line for line in done.stderr.splitlines() if "error" in line.lower()), "no file came")
            raise UserError(f"npm could not download {spec} ({why.strip()}): check the network and run again.")
        actual = _integrity(made)
        if actual != package.integrity:
            raise UserError(
                f"The checksum of {spec} is {actual[:24]}... where {package.integrity[:24]}... was expected: "
                "the download is damaged or was changed; run again, and do not use it if this repeats."
            )
        os.replace(made, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def members(path: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """(canonical code, bytes) of the tarball's files whose path matches; its first group is the code, no skin tones."""
    regex = re.compile(pattern)
    with tarfile.open(path) as tar:
        for member in tar:
            match = regex.fullmatch(member.name)
            if member.isfile() and match:
                code = canonical_code(match.group(1))
                if not has_skin_tone(code):
                    yield code, tar.extractfile(member).read()  # type: ignore[union-attr]


def read_json(path: Path, member: str) -> Any:
    with tarfile.open(path) as tar:
        return json.load(tar.extractfile(f"package/{member}"))  # type: ignore[arg-type]
