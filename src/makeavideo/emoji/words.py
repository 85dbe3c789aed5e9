"""Names and keywords of every emoji, joined from the naming packages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from .captions import captions_for, clean
from .concepts import canonical_code, code_of, has_skin_tone
from .packages import read_json


@dataclass(frozen=True)
class Concept:
    """What is known of one emoji in words."""

    code: str
    label: str
    group: int | None
    keywords: tuple[str, ...]
    names: tuple[str, ...]

    def sidecar(self, style: str) -> bytes:
        """The caption file of one picture (UTF-8 JSON)."""
        data = {
            "captions": captions_for(self.label, list(self.keywords), list(self.names), self.group, style),
            "label": self.label.lower(),
            "keywords": list(self.keywords),
        }
        return json.dumps(data, ensure_ascii=False, indent=1).encode()


def read_concepts(tarballs: dict[str, Path]) -> dict[str, Concept]:
    """Labels and keywords of every emoji without a skin tone, joined from the naming packages."""
    emojibase = read_json(tarballs["emojibase-data"], "en/data.json")
    lib = {code_of(k): v for k, v in read_json(tarballs["emojilib"], "dist/emoji-en-US.json").items()}
    unicode_names = {
        code_of(k): v["name"] for k, v in read_json(tarballs["unicode-emoji-json"], "data-by-emoji.json").items()
    }
    short = {
        canonical_code(k): [v] if isinstance(v, str) else v
        for k, v in read_json(tarballs["emojibase-data"], "en/shortcodes/emojibase.json").items()
    }
    out = {}
    for entry in emojibase:
        code = canonical_code(entry["hexcode"])
        if has_skin_tone(code):
            continue
        extra = lib.get(code, [])
        label = entry["label"].replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
        label = label.replace("\N{LEFT DOUBLE QUOTATION MARK}", "").replace("\N{RIGHT DOUBLE QUOTATION MARK}", "")
        keywords = clean([*entry.get("tags", []), *extra[1:]])[:16]
        names = [unicode_names.get(code, ""), *extra[:1], *short.get(code, [])]
        if label.startswith("flag: "):
            names = [f"{label[6:]} flag", *names]
        names = [n for n in clean(names) if n != label.lower()]
        out[code] = Concept(code, label, entry.get("group"), tuple(keywords), tuple(names))
    return out
