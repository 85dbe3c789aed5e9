"""docs/results.md and its plots, built from the JSON files of the benchmarks. No figure and no verdict in it is typed.

    python benchmarks/results_page.py

The words stand in results_page.md.j2, the bars that figures are held against in results_bars.py, the plots in
results_plots.py, the figures in evaluation/results/NAME.json, where `--json` of each benchmark and of `make-a-video
evaluate` writes them, in evaluation/thesis.json and in evaluation/paper_results.json. What has no file yet gets the
command that measures it.
"""

import argparse
import json
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2
import matplotlib.pyplot as plt

from makeavideo.errors import UserError
from makeavideo.evaluation.results import one_sentence
from makeavideo.loading import weights_hash
from results_bars import (
    CHECKS,
    DISTANCE,
    LOOP,
    VARIANTS,
    Check,
    falls,
    interval,
    losses,
    number,
    standing,
    with_spread,
)
from results_plots import FIGURES

TEMPLATE = Path(__file__).with_suffix(".md.j2")
RESULTS = Path("results")
MEASURE = {
    "wording": "wording.py data/emoji",
    "emoji_bars": "emoji_bars.py data/emoji --sheet docs/contact-sheet.png",
    "keeping": "keeping.py data/emoji",
    "sharpness": "sharpness.py data/emoji",
    "interpolation": "interpolation.py data/emoji --sheet docs/interpolation-sheet.png",
    "seams": "long_video.py seams",
    "drift": "long_video.py drift",
    "memory": "long_video.py memory",
    "dials": "dials.py data/emoji",
    "generate": "generate.py",
    "space_time": "space_time.py",
    "floors": "floors.py data/emoji",
    "data_start": "data_start.py FOLDER",
    "prior_start": "prior_start.py FOLDER",
    "feeding": "feeding.py data/emoji",
    "batch_ray": "batch_ray.py",
    "paper_cost": "paper_cost.py",
    "thesis": "thesis.py data/emoji --seeds 3",
}
"""What measures each part of the page."""
FILES = {name: RESULTS / f"{name}.json" for name in MEASURE} | {"thesis": Path("thesis.json")}
"""Where its figures are, in the folder evaluation."""


WRONG = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)
"""What happens where a file holds something else than figures."""


class Figures(dict):
    """An object of a JSON file, which names the file when something lacks."""

    def __init__(self, file: Path, items: dict):
        super().__init__(items)
        self.file = file

    def __missing__(self, key: str) -> None:
        raise UserError(f"{self.file} has no {key!r}: measure it again, or remove it.")


def read(file: Path) -> Any:
    """Raises UserError: no JSON."""
    try:
        return json.loads(file.read_text(encoding="utf-8"), object_hook=lambda items: Figures(file, items))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is no JSON ({error}): measure it again, or remove it.") from None


def origin(record: Figures, evaluation: Path, current: str | None) -> str:
    """The command and a few words on when, where and of which weights. current: hash of the weights of today."""
    machine = record["machine"]
    if isinstance(machine, dict):
        plural = {key: f"{{}} {key}".removesuffix("s" if machine.get(key) == 1 else "") for key in ("cores", "threads")}
        words = plural | {"memory": "{}", "precision": "{}", "torch": "torch {}"}
        known = [text.format(machine[key]) for key, text in words.items() if machine.get(key) is not None]
        machine = ", ".join([machine["processor"], *known])
    parts = [record.get("date"), machine]
    if record.get("weights"):
        weights = f"weights `{record['weights']}`"
        parts.append(weights if record["weights"] == current else f"{weights}, **not those in models/emoji now**")
    line = "; ".join(part for part in parts if part) + "."
    line += "".join(f" {text[0].upper()}{text[1:]}." for text in record.get("notes", []))
    line += f" [Figures](../evaluation/{record.file.relative_to(evaluation).as_posix()})"
    command = f"    {record['command']}\n\n" if record.get("command") else ""
    return command + textwrap.fill(line, 120, break_long_words=False, break_on_hyphens=False)


def build(evaluation: Path, docs: Path, model: Path | None) -> Path:
    """Write docs/results.md and docs/results/*.png; the page's path.

    evaluation: the folder with results/*.json, thesis.json and paper_results.json.
    model: the cascade whose weights figures should be of; None: no word on that.

    Raises:
        UserError: a file that is no JSON, or lacks a figure.
    """
    files = {name: evaluation / file for name, file in FILES.items()}
    results = {name: read(file) if file.is_file() else None for name, file in files.items()}
    others = [read(file) for file in sorted((evaluation / RESULTS).glob("*.json")) if file not in files.values()]
    pictures = docs / "results"
    pictures.mkdir(parents=True, exist_ok=True)
    checks: dict[str, list[Check]] = {}
    for name, record in results.items():
        with naming(files[name]):
            if record is not None:
                checks[name] = [Check(name, *found) for found in CHECKS.get(name, lambda _: ())(record)]
            draw(name, record, pictures / f"{name}.png")
    current = weights_hash(model) if model else None
    known = {
        "results": results,
        "measures": [result for found in others for result in (found if isinstance(found, list) else [found])],
        "paper": read(evaluation / "paper_results.json"),
        "checks": checks,
        "all_checks": [check for found in checks.values() for check in found],
        "origin": lambda record: origin(record, evaluation, current),
        "pictures": {path.name for path in [*docs.glob("*.png"), *docs.glob("*.webp")]},
    }
    try:
        text = template().render(known)
    except UserError:
        raise
    except (jinja2.UndefinedError, *WRONG) as error:
        raise UserError(f"A file in {evaluation} cannot be used ({error}): measure again.") from None
    page = docs / "results.md"
    page.write_text(re.sub(r"\n{3,}", "\n\n", text), encoding="utf-8")
    return page


def template() -> jinja2.Template:
    """The words of the page, with all that does not depend on figures."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {
        "number": number,
        "interval": interval,
        "with_spread": with_spread,
        "percent": lambda x: f"{100 * x:.3g} %",
    }
    environment.globals |= {
        "measure": {
            name: f"python benchmarks/{line} --json evaluation/{FILES[name]}" for name, line in MEASURE.items()
        },
        "variants": VARIANTS,
        "loop_step": LOOP,
        "falls": falls,
        "losses": losses,
        "standing": standing,
        "distance": DISTANCE,
    }
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """What goes wrong with figures is said of their file. UserError: they cannot be used."""
    try:
        yield
    except UserError:
        raise
    except WRONG as error:
        raise UserError(f"{file} cannot be used ({error}): measure it again, or remove it.") from None


def draw(name: str, record: Figures | None, file: Path) -> None:
    """The plot of a benchmark's figures; where there are none, none stays."""
    if record is None:
        file.unlink(missing_ok=True)
    elif name in FIGURES:
        figure = plt.figure(figsize=(5, 3), layout="constrained")
        FIGURES[name](figure, record)
        # without the version of matplotlib in it, the same figures give the same file
        figure.savefig(file, dpi=120, metadata={"Software": None})
        plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).parents[1]
    parser.add_argument("--evaluation", type=Path, default=root / "evaluation", help="folder of the JSON files")
    parser.add_argument("--docs", type=Path, default=root / "docs", help="folder of the page")
    parser.add_argument("--model", type=Path, default=root / "models" / "emoji")
    arguments = parser.parse_args()
    print(build(arguments.evaluation, arguments.docs, arguments.model))


if __name__ == "__main__":
    one_sentence(main)
