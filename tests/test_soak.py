"""The soak's own parts: the same seed means the same damage, and its page is of its figures."""

import json
import random
import shutil
from pathlib import Path

import pytest

import soak_damage
import soak_page
from makeavideo.errors import UserError
from soak_ground import Ground, said_in_one_sentence
from soak_readers import judged

ROOT = Path(__file__).parents[1]
FIGURES = {
    "damaged": {
        "command": "python benchmarks/soak.py",
        "date": "2026-01-01",
        "seconds": 60,
        "rows": {"png": {"files": 3, "read": 1, "refused": 1, "faults": ["a.png: IndexError"], "slowest": 0.5}},
    }
}


def test_the_same_seed_is_the_same_damage():
    data = bytes(range(256)) * 20
    for mutation in {*soak_damage.BINARY, *soak_damage.TEXT}:
        made = [mutation(data, random.Random(seed)) for seed in (1, 1, 2, 3, 4, 5)]
        assert made[0] == made[1] and len(set(made)) > 1, mutation.__name__


def test_damaged_files_are_read_or_refused_and_a_fault_is_told(tmp_path, monkeypatch):
    ground = Ground(tmp_path / "ground")
    ground.draw()
    for number, file in enumerate([*ground.pictures.glob("*.png"), *ground.clips.glob("*.gif")]):
        kind = "picture" if file.suffix == ".png" else "clip"
        folder = tmp_path / f"{number}"
        folder.mkdir()
        sample = soak_damage.Sample(kind, kind, file.name, file.read_bytes())
        soak_damage.lay_out(sample, ground, folder)
        place = Path(shutil.copy(file, folder))
        assert judged(kind, place, folder) == ("read", "")
        place.write_bytes(b"nothing of the kind")
        how, said = judged(kind, place, folder)
        assert how == "refused" and file.name in said

    def fails(file: Path, folder: Path) -> None:
        raise (IndexError("3") if file.name == "a" else UserError("something is wrong"))

    monkeypatch.setitem(__import__("soak_readers").READERS, "picture", fails)
    for name in "ab":
        assert judged("picture", tmp_path / name, tmp_path / "elsewhere")[0] == "fault"


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ("make-a-video: Stopped: nothing was made yet.\n", None),
        ("", "no sentence"),
        ("Traceback (most recent call last):\n  x\nValueError: y\n", "a traceback: ValueError: y"),
    ],
)
def test_what_a_command_says_in_the_end(said, wrong):
    found = said_in_one_sentence(said)
    assert found is None if wrong is None else wrong in found


def test_the_table_counts_faults(tmp_path):
    assert soak_page.faults_of(FIGURES["damaged"]) == ["png: a.png: IndexError"]
    assert "| damaged files: png | 3 | 1 refused in one sentence, 1 read" in soak_page.table(FIGURES)
    (tmp_path / "x.json").write_text('{"figures": {}}')
    with pytest.raises(UserError, match="no record of a soak"):
        soak_page.write_page(tmp_path / "x.json", tmp_path / "page.md")


def test_the_page_is_of_the_committed_figures(tmp_path):
    kept = ROOT / "docs" / "reliability.md"
    page = Path(shutil.copy(kept, tmp_path))
    soak_page.write_page(ROOT / "evaluation" / "soak.json", page)
    assert page.read_text() == kept.read_text(), "run python benchmarks/soak.py --page"
    record = json.loads((ROOT / "evaluation" / "soak.json").read_text())
    assert not any(soak_page.faults_of(part) for part in record["figures"].values())
