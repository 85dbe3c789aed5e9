"""The emoji set: captioned stills, unlabelled animations and vector pictures, built from pinned npm packages.

This is Make-A-Video's setting in the small: pictures *with* text (Fluent and Noto stills, captioned from Unicode
names and keywords) and videos *without* any (Fluent animations). A file's name is its concept's code point; for the
animations the name serves only to split train from held-out, never as text.

Layout of a finished build (``CODE`` as :func:`canonical_code` spells it)::

    images/CODE.webp + CODE.json       Fluent stills, 256 x 256, with alpha
    noto/CODE.png + CODE.json          Noto stills, 64 x 64, with alpha
    clips/CODE.webp                    Fluent animations (two frames or more), 24 fps, with alpha, no text
    vectors/CODE.png                   Fluent vector emoji rasterised at 768 x 768, with alpha
    noto-vectors/CODE.png              the same of Noto
    build.json                         counts, package versions, licences

Each folder is made under a temporary name and renamed when whole, so a killed build leaves nothing half-written
behind a final name, and running the build again goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import UserError
from .icons import icons
from .packages import Package, Progress, fetch_packages, members, packages
from .words import Concept, held_out_keywords, hold_out, read_concepts

VECTOR_SIZE = 768
FORMAT = {"images": 3, "noto": 3}  # part of a manifest, 1 if not named: raise it when the contents of the folder change
MANIFEST = ".manifest"  # hidden, and of no ending that readers know: they pass it by without a word


class _Folder:
    """A sub-folder of the build that gets its final name only when whole.

    Files are written one by one under a temporary folder's name that carries a fingerprint of the inputs; an
    interrupted run leaves that folder, and the next one with the same inputs keeps its whole files.
    """

    def __init__(self, root: Path, name: str, inputs: Iterable[Package], *more: Any) -> None:
        text = json.dumps([FORMAT.get(name, 1), name, [p.integrity for p in inputs], *more])
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.path = root / name
        self.partial = root / f".{name}.{self.fingerprint}.partial"
        self.written: set[str] = set()

    def manifest(self) -> dict[str, Any] | None:
        """What the finished folder says of itself, or None if it is absent, old or not whole."""
        try:
            manifest = json.loads((self.path / MANIFEST).read_text("utf-8"))
            sizes = {e.name: e.stat().st_size for e in os.scandir(self.path) if e.name != MANIFEST}
        except (OSError, ValueError):
            return None
        whole = manifest.get("fingerprint") == self.fingerprint and manifest.get("sizes") == sizes
        return manifest if whole else None

    def has(self, name: str) -> bool:
        """Whether an interrupted run already wrote this file."""
        if (self.partial / name).is_file():
            self.written.add(name)
            return True
        return False

    def put(self, name: str, data: bytes) -> None:
        """Write one file atomically."""
        self.partial.mkdir(parents=True, exist_ok=True)
        temporary = self.partial / (name + ".tmp")
        temporary.write_bytes(data)
        os.replace(temporary, self.partial / name)
        self.written.add(name)

    def finish(self, **facts: Any) -> dict[str, Any]:
        """Write the manifest, drop leftovers and give the folder its final name."""
        self.partial.mkdir(parents=True, exist_ok=True)
        for entry in list(os.scandir(self.partial)):
            if entry.name not in self.written:
                os.unlink(entry.path)
        sizes = {e.name: e.stat().st_size for e in os.scandir(self.partial)}
        manifest = {"fingerprint": self.fingerprint, **facts, "sizes": sizes}
        (self.partial / MANIFEST).write_text(json.dumps(manifest), "utf-8")
        # An outdated folder steps aside first, so that its name is gone for no longer than two renames take.
        old = self.path.parent / f".{self.path.name}.old.partial"
        shutil.rmtree(old, ignore_errors=True)
        if self.path.exists():
            os.replace(self.path, old)
        os.replace(self.partial, self.path)
        for stale in self.path.parent.glob(f".{self.path.name}.*.partial"):
            shutil.rmtree(stale, ignore_errors=True)
        return manifest


def _build_stills(
    folder: _Folder, tarball: Path, pattern: str, ending: str, concepts: dict[str, Concept], tell: Progress
) -> dict[str, Any]:
    done = 0
    for code, data in members(tarball, pattern):
        if code not in concepts or f"{code}{ending}" in folder.written:
            continue  # unknown to the naming packages, or a second spelling of the same emoji
        folder.put(f"{code}.json", concepts[code].sidecar())
        folder.put(f"{code}{ending}", data)
        done += 1
        tell(folder.path.name, done, len(concepts))
    return folder.finish(items=done)


def _build_clips(folder: _Folder, tarballs: list[Path], codes: set[str], tell: Progress) -> dict[str, Any]:
    frames: dict[str, int] = {}
    seen: set[str] = set()
    for tarball in tarballs:
        for code, data in members(tarball, r"package/assets/([0-9a-fA-F_-]+)\.webp"):
            if code not in codes or code in seen:
                continue
            seen.add(code)
            with Image.open(io.BytesIO(data)) as image:
                count = getattr(image, "n_frames", 1)
            if count >= 2:
                folder.put(f"{code}.webp", data)
                frames[code] = count
            tell(folder.path.name, len(seen), len(codes))
    return folder.finish(items=len(frames), frames=sum(frames.values()), seen=len(seen))


def _build_vectors(folder: _Folder, tarball: Path, concepts: list[Concept], tell: Progress) -> dict[str, Any]:
    try:
        import resvg_py
    except ImportError:
        raise UserError('Rasterising vector emoji needs resvg-py: pip install "makeavideo[data]".') from None
    drawings = icons(tarball, concepts)
    bad: list[str] = []
    for done, (code, svg) in enumerate(sorted(drawings.items()), 1):
        if not folder.has(f"{code}.png"):
            try:
                png = resvg_py.svg_to_bytes(
                    svg_string=svg, width=VECTOR_SIZE, height=VECTOR_SIZE, skip_system_fonts=True
                )
            except Exception:  # resvg reports a malformed drawing by whatever its binding raises
                bad.append(code)
                continue
            folder.put(f"{code}.png", bytes(png))
        tell(folder.path.name, done, len(drawings))
    return folder.finish(items=len(drawings) - len(bad), unreadable=bad)


def build_emoji(directory: Path, cache: Path | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Build the emoji set in ``directory`` (layout: this module's docstring) and return what ``build.json`` says.

    ``cache`` keeps the npm tarballs (default ``directory/.packages``, about 850 MB). Running again on a finished
    build is instant; a folder that is missing, outdated or not whole is made anew.

    Raises :class:`UserError` for a folder that cannot be written, a missing npm, a failed download, or a checksum
    mismatch.
    """
    directory = Path(directory)
    cache = directory / ".packages" if cache is None else Path(cache)
    pinned = packages()
    tell: Progress = progress or (lambda what, done, total: None)
    by_contents: dict[str, list[Package]] = {}
    for package in pinned.values():
        by_contents.setdefault(package.contents, []).append(package)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # new words make new caption files, and leave alone what is slow to make and has none
        words = {name: [sorted(held_out_keywords())] for name in ("images", "noto")}
        inputs = _inputs(by_contents)
        folders = {name: _Folder(directory, name, inputs[name], *words.get(name, ())) for name in inputs}
        manifests = {name: folder.manifest() for name, folder in folders.items()}
        if any(manifest is None for manifest in manifests.values()):
            makers = _makers(fetch_packages(cache, progress), by_contents, tell)
            for name, folder in folders.items():
                if manifests[name] is None:
                    manifests[name] = makers[name](folder)
        return _write_report(directory, manifests, pinned.values())
    except OSError as error:
        raise UserError(f"Cannot build the emoji set in {directory} ({error}): choose a writable folder.") from error


def _inputs(by_contents: dict[str, list[Package]]) -> dict[str, list[Package]]:
    """The packages that each folder is made of: of others it is made anew."""
    stills, naming, words = (by_contents[contents] for contents in ("stills", "names", "words"))
    return {
        "images": [*stills, *naming, *words],
        "clips": [*by_contents["clips"], *stills, *naming],
        "noto": [*by_contents["noto"], *stills, *naming, *words],
        "vectors": [*by_contents["vectors"], *stills, *naming],
        "noto-vectors": [*by_contents["noto-vectors"], *stills, *naming],
    }


def _makers(
    tarballs: dict[str, Path], by_contents: dict[str, list[Package]], tell: Progress
) -> dict[str, Callable[[_Folder], dict[str, Any]]]:
    """What fills each folder from the fetched packages, and returns its manifest."""
    # codes and icons go by the names alone, so that new words do not change what is slow to make
    known = read_concepts({package.name: tarballs[package.name] for package in by_contents["names"]})
    still, small = r"package/assets/([0-9a-fA-F_-]+)\.webp", r"package/img/google/64/([0-9a-fA-F_-]+)\.png"

    def one(contents: str) -> Path:
        return tarballs[by_contents[contents][0].name]

    codes = {code for code, _ in members(one("stills"), still)} & known.keys()
    concepts = [known[code] for code in sorted(codes)]
    said = read_concepts(tarballs)
    captioned = {code: hold_out(said[code], held_out_keywords()) for code in sorted(codes)}
    moving = [tarballs[package.name] for package in by_contents["clips"]]
    return {
        "images": lambda folder: _build_stills(folder, one("stills"), still, ".webp", captioned, tell),
        "clips": lambda folder: _build_clips(folder, moving, codes, tell),
        "noto": lambda folder: _build_stills(folder, one("noto"), small, ".png", captioned, tell),
        "vectors": lambda folder: _build_vectors(folder, one("vectors"), concepts, tell),
        "noto-vectors": lambda folder: _build_vectors(folder, one("noto-vectors"), concepts, tell),
    }


def _write_report(
    directory: Path, manifests: dict[str, dict[str, Any] | None], pinned: Iterable[Package]
) -> dict[str, Any]:
    """What was made of which packages, in `build.json`, which stays as it is where nothing has changed."""
    counts = {}
    for name, manifest in manifests.items():
        assert manifest is not None
        counts[name] = {k: v for k, v in manifest.items() if k not in {"fingerprint", "sizes"}}
    keys = ("name", "version", "licence", "integrity")
    report = {"counts": counts, "packages": [{key: getattr(p, key) for key in keys} for p in pinned]}
    text = json.dumps(report, indent=1)
    target = directory / "build.json"
    if not target.is_file() or target.read_text("utf-8") != text:
        temporary = directory / ".build.json.tmp"
        temporary.write_text(text, "utf-8")
        os.replace(temporary, target)
    return report
