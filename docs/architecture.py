"""Draw docs/architecture.svg, the imports between the rooms of the package, and write the table of architecture.md.

    python docs/architecture.py

The rows are the layers that pyproject.toml sets and import-linter holds (tests/test_house.py); the arrows are the
imports that grimp finds. One that already follows from two others is left out of the picture, and stands in the table.
"""

import ast
import re
import tomllib
from pathlib import Path

import grimp
import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "makeavideo"
TABLE = re.compile(r"(?<=<!-- rooms -->\n).*(?=<!-- /rooms -->)", re.S)
EVERYWHERE = {"errors", "quiet"}
"""Imported by almost every room: in the table, not in the picture."""


def layers() -> list[list[str]]:
    """Rooms from the top row to the lowest one, as pyproject.toml has them."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    rows = next(contract for contract in contracts if contract["type"] == "layers")["layers"]
    return [re.findall(r"\w+", row) for row in rows]


def imports() -> dict[str, set[str]]:
    """Room -> the rooms that it imports while it runs."""
    graph = grimp.build_graph("makeavideo", exclude_type_checking_imports=True, cache_dir=None)
    found: dict[str, set[str]] = {room: set() for row in layers() for room in row}
    for module in graph.modules - {"makeavideo"}:
        room = module.split(".")[1]
        for other in graph.find_modules_directly_imported_by(module) - {"makeavideo"}:
            found[room].add(other.split(".")[1])
    return {room: others - {room} for room, others in found.items()}


def reduced(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """Without what follows from other imports."""

    def below(room: str) -> set[str]:
        return edges[room].union(*(below(other) for other in edges[room]))

    return {room: others - set().union(*(below(other) for other in others)) for room, others in edges.items()}


def first_sentence(room: str) -> str:
    """What the room's docstring begins with."""
    file = PACKAGE / room / "__init__.py"
    text = ast.get_docstring(ast.parse((file if file.is_file() else PACKAGE / f"{room}.py").read_text())) or ""
    return " ".join(text.split("\n\n")[0].split()).rstrip(".")


def table(edges: dict[str, set[str]]) -> str:
    """The rooms in Markdown, from the top row down."""
    lines = ["| room | what it is | imports |", "|---|---|---|"]
    for room in (room for row in layers() for room in row):
        name = f"`{room}/`" if (PACKAGE / room).is_dir() else f"`{room}.py`"
        lines.append(f"| {name} | {first_sentence(room)} | {', '.join(sorted(edges[room]))} |")
    return "\n".join(lines) + "\n"


def draw(edges: dict[str, set[str]], path: Path) -> None:
    """One row a layer, one box a room, one arrow an import."""
    rows = [[room for room in row if room not in EVERYWHERE] for row in layers()]
    rows = [row for row in rows if row]
    shown = {room for row in rows for room in row}
    place = {
        room: ((index + 0.5) / len(row) * 10, -1.1 * depth)
        for depth, row in enumerate(rows)
        for index, room in enumerate(row)
    }
    plt.rcParams.update({"svg.hashsalt": "makeavideo", "font.size": 10, "svg.fonttype": "none"})
    figure, axes = plt.subplots(figsize=(10, 1.1 * len(rows)))
    kept = {room: others & shown for room, others in edges.items() if room in shown}
    for room, others in reduced(kept).items():
        for other in sorted(others):
            arrow = {"arrowstyle": "-|>", "color": "#8a97a8", "shrinkA": 12, "shrinkB": 12, "lw": 1}
            axes.annotate("", place[other], place[room], arrowprops=arrow)
    for room, (x, y) in sorted(place.items()):
        folder = (PACKAGE / room).is_dir()
        box = {"boxstyle": "round,pad=0.4", "fc": "#dcebff" if folder else "white", "ec": "#41618c"}
        axes.text(x, y, room + ("/" if folder else ""), ha="center", va="center", bbox=box)
    axes.set(xlim=(0, 10), ylim=(-1.1 * len(rows) + 0.5, 0.6))
    axes.axis("off")
    figure.savefig(path, metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    plt.close(figure)


def main() -> None:
    edges = imports()
    draw(edges, ROOT / "docs" / "architecture.svg")
    page = ROOT / "docs" / "architecture.md"
    page.write_text(TABLE.sub(lambda _: table(edges), page.read_text()))


if __name__ == "__main__":
    main()
