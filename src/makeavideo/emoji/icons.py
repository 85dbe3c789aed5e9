"""Vector emoji by code from iconify's packages, whose icons go by name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from .concepts import canonical_code
from .packages import read_json
from .words import Concept


def _slug(label: str) -> str:
    """A label as iconify names its icons."""
    plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower().replace("&", "and")
    return re.sub("[^a-z0-9]+", "-", plain.replace("'", "").replace(".", "")).strip("-")


def _icon_names(label: str, others: Iterable[str]) -> Iterator[str]:
    """The names an icon of this label may have, likeliest first."""
    special = {
        "keycap: #": "keycap-hashtag", "keycap: *": "keycap-asterisk", "phoenix": "phoenix-bird", "piñata": "piata",
        "smiling face with open hands": "hugging-face", "face with crossed-out eyes": "knocked-out-face",
        "enraged face": "pouting-face", "mermaid": "woman-merpeople", "red triangle pointed up": "red-triangle",
    }  # fmt: skip
    if label in special:
        yield special[label]
    for name in (label, *others):
        slug = _slug(name)
        yield slug
        yield slug.replace("blond-", "blonde-")
        if slug.startswith("flag-"):
            yield f"flag-for-{slug[5:]}"
    person, _, rest = _slug(label).partition("-")
    if person in {"deaf", "men", "women", "people"}:
        swap = {"deaf": f"{rest}-deaf", "men": f"man-{rest}", "women": f"woman-{rest}", "people": f"person-{rest}"}
        yield swap[person]
    yield f"person-{_slug(label)}"
    yield _slug(label).replace("merperson", "person-merpeople").replace("merman", "man-merpeople")


def icons(path: Path, concepts: Iterable[Concept]) -> dict[str, str]:
    """SVG text by code from an iconify JSON package (whose icons go by name, not by code)."""
    data = read_json(path, "icons.json")
    icons, aliases = data["icons"], data.get("aliases", {})
    chars = {canonical_code(k): v for k, v in read_json(path, "chars.json").items()}
    out = {}
    for concept in concepts:
        tried = (chars.get(concept.code, ""), *_icon_names(concept.label, concept.names))
        name = next((n for n in tried if n in icons or n in aliases), None)
        if name is None:
            continue
        icon = icons[name] if name in icons else {**icons[aliases[name]["parent"]], **aliases[name]}
        left, top = icon.get("left", 0), icon.get("top", 0)
        width, height = icon.get("width", data.get("width", 16)), icon.get("height", data.get("height", 16))
        body = icon["body"]
        if icon.get("hFlip"):  # an alias may be the mirror image of its parent ("pointing left" of "pointing right")
            body = f'<g transform="matrix(-1 0 0 1 {2 * left + width} 0)">{body}</g>'
        out[concept.code] = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left} {top} {width} {height}">{body}</svg>'
        )
    return out
