"""The figures of a soak as a table, and the page of the documentation that shows it."""

import json
import re
from pathlib import Path
from typing import Any

from makeavideo.errors import UserError

PLACE = re.compile(r"<!-- soak -->.*<!-- /soak -->", re.DOTALL)


def faults_of(part: dict[str, Any]) -> list[str]:
    """What was wrong in a part."""
    rows = part["rows"]
    if "faults" in rows:
        return rows["faults"]
    return [f"{name}: {fault}" for name, row in rows.items() for fault in row["faults"]]


def rows_of(figures: dict[str, Any]) -> list[tuple[str, str, str, int]]:
    """(what, how often, what came of it, faults) of every row."""
    rows: list[tuple[str, str, str, int]] = []
    for label, row in sorted(figures.get("damaged", {"rows": {}})["rows"].items()):
        came = f"{row['refused']} refused in one sentence, {row['read']} read or passed by; at most {row['slowest']} s"
        rows.append((f"damaged files: {label}", f"{row['files']}", came, len(row["faults"])))
    for name, row in figures.get("kills", {"rows": {}})["rows"].items():
        signals = ", ".join(f"{number} {signal}" for signal, number in row["signals"].items())
        rows.append((f"kills: {name}", f"{row['kills']}", f"{signals}; gone on from, nothing lost", len(row["faults"])))
    for name, row in figures.get("disks", {"rows": {}})["rows"].items():
        came = f"said in one sentence, gone on when there was room ({row['kind']})"
        rows.append((f"full disks: {name}", f"{row['disks']}", came, len(row["faults"])))
    if "studio" in figures:
        row = figures["studio"]["rows"]
        came = f"{row['MiB after the warm-up']:.0f} MiB after the warm-up, {row['MiB at the end']:.0f} MiB at the end"
        rows.append(
            ("jobs of one studio", f"{row['jobs']}", f"{came} ({100 * row['growth']:+.1f} %)", len(row["faults"]))
        )
    return rows


def table(figures: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["| what | times | what came of it | faults |", "|---|---:|---|---:|"]
    lines += [f"| {what} | {times} | {came} | {faults} |" for what, times, came, faults in rows_of(figures)]
    return "\n".join(lines)


def write_page(file: Path, page: Path) -> Path:
    """The table of `file` in its place of the page.

    Raises:
        UserError: a file that is no record of a soak.
    """
    try:
        record = json.loads(file.read_text("utf-8"))
        machine, minutes = record["machine"], sum(part["seconds"] for part in record["figures"].values()) / 60
        where = f"{machine['processor']}, {machine['cores']} cores, torch {machine['torch']}"
        commands = dict.fromkeys(part["command"] for part in record["figures"].values())
        typed = "".join(f"    {command}\n" for command in commands)
        dates = " and ".join(sorted({part["date"] for part in record["figures"].values()}))
        shown = f"{typed}\n{dates}; {where}; {minutes:.0f} minutes.\n\n{table(record['figures'])}"
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{file} is no record of a soak ({error}): make soak writes one.") from None
    text = PLACE.sub(lambda _: f"<!-- soak -->\n{shown}\n<!-- /soak -->", page.read_text("utf-8"))
    page.write_text(text, "utf-8")
    return page
