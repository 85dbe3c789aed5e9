"""What `make-a-video data clips` kept and why it left out the rest: counts, and a page to look at."""

from __future__ import annotations

import base64
import html
import io
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ..media.disk import write_whole
from .curation import FOLDERS, THUMB

ROWS = 36
"""Scenes of a kind that the page shows."""
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Clips</title>
<style>body{{font:15px system-ui;margin:2em auto;max-width:60em;padding:0 1em}}table{{border-collapse:collapse}}
td,th{{padding:.2em 1em .2em 0;text-align:left}}td:first-child{{text-align:right}}
figure{{display:inline-block;margin:.3em}}figcaption{{font-size:12px;max-width:288px;overflow-wrap:anywhere}}</style>
<h1>{kept:,} clips kept, {dropped:,} scenes left out</h1>
<p>{hours:.2f} of {all_hours:.2f} hours, from {videos:,} videos.</p>
<h2>Why left out</h2><table>{reasons}</table>
<h2>Kept</h2>{shown_kept}<h2>Left out</h2>{shown_dropped}</html>
"""


@dataclass
class Counted:
    """kept, dropped: scenes; hours, all_hours: of the kept ones, and of all; reasons: why the others are left out.

    unread: [(path, reason)] of the files that gave no scene.
    """

    videos: int = 0
    kept: int = 0
    dropped: int = 0
    hours: float = 0.0
    all_hours: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    unread: list[tuple[str, str]] = field(default_factory=list)


def write_report(folder: Path) -> Counted:
    """Write report.html of the shards in a folder; what it counts."""
    counted = Counted()
    shown: dict[str, list[str]] = {"kept": [], "dropped": []}
    videos = set()
    for file in sorted((folder / FOLDERS["jsonl"]).iterdir()):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        pictures = _pictures(folder / FOLDERS["webp"] / f"{file.stem}.webp")
        kept_shown = sum("shown" in line and "clip" in line for line in lines)
        for line in lines:
            kind = "kept" if "clip" in line else "dropped"
            hours = (line.get("ends", 0.0) - line.get("begins", 0.0)) / 3600
            videos.add(line["video"])
            counted.all_hours += hours
            if kind == "kept":
                counted.kept += 1
                counted.hours += hours
            else:
                counted.dropped += 1
                counted.reasons[line["dropped"]] += 1
            if "start" not in line:
                counted.unread.append((line["video"], line["dropped"]))
            if "shown" in line and len(shown[kind]) < ROWS:
                place = line["shown"] + (kept_shown if kind == "dropped" else 0)
                shown[kind].append(_figure(pictures[place], line))
    counted.videos = len(videos)
    reasons = "".join(
        f"<tr><td>{count:,}<td>{html.escape(reason)}</tr>" for reason, count in counted.reasons.most_common()
    )
    values = {key: value for key, value in vars(counted).items() if key not in ("reasons", "unread")}
    parts = {f"shown_{kind}": "".join(found) or "<p>None.</p>" for kind, found in shown.items()}
    write_whole(folder / "report.html", PAGE.format(**values, reasons=reasons, **parts).encode())
    return counted


def _pictures(sheet: Path) -> list[np.ndarray]:
    if not sheet.is_file():
        return []
    with Image.open(sheet) as image:
        pixels = np.asarray(image.convert("RGB"))
    return [pixels[top : top + THUMB[1]] for top in range(0, len(pixels), THUMB[1])]


def _figure(pictures: np.ndarray, line: dict) -> str:
    file = io.BytesIO()
    Image.fromarray(pictures).save(file, "JPEG", quality=80)
    data = base64.b64encode(file.getvalue()).decode()
    when = f"{line['begins']:.1f} to {line['ends']:.1f} s, motion {line['motion']:.3f}, flicker {line['flicker']:.1f}"
    name = html.escape(Path(line["video"]).name)
    why = f"<b>{html.escape(line['dropped'])}</b>, " if line["dropped"] else ""
    return (
        f'<figure><img alt="three frames" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{name}, {why}{when}</figcaption></figure>"
    )
