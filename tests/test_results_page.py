"""The results page: built from JSON files, with verdicts that follow the figures."""

import argparse
import copy
import json
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

import results_page
import results_plots
from makeavideo.errors import UserError
from makeavideo.evaluation.results import command_line, one_sentence, save_benchmark

ROOT = Path(__file__).parents[1]
SEAM, LOOP = "largest seam / median", "loop: last to first / median"
WAYS = {
    "nearest frame": {"psnr": 30.0, "1 - ssim": 0.05, "hog": 0.05},
    "cross-fade": {"psnr": 31.0, "1 - ssim": 0.04, "hog": 0.04},
    "optical flow (DIS)": {"psnr": 33.0, "1 - ssim": 0.02, "hog": 0.01},
    "F-up": {"psnr": 32.0, "1 - ssim": 0.03, "hog": 0.02},
}
KINDS = ("labels", "known keywords", "known keywords of one group", "held-out keywords", "sentences")
ENLARGED = {"psnr": 30.0, "ssim": 0.9, "edges": 0.9, "halo": 1.0}
FIGURES = {
    "wording": {kind: {"words": 300, "top-1": 0.98, "top-5": 0.99, "table's top-5": 1.0} for kind in KINDS},
    "sharpness": {
        "generated": {
            "256": {"labels": 24, "edges": 0.9, "flat": 0.2, "halo": 1.0},
            "flicker": {"small": 0.5, "large": 0.4},
        },
        "held out": {"256": {"bicubic": ENLARGED | {"psnr": 29.5}, "this model": ENLARGED}},
    },
    "emoji_bars": {
        "prompts": 64,
        "concepts": 1855,
        "right concept first": 0.75,
        "right concept in first five": 0.5,
        "motion ratio, animated concepts": 1.5,
        "background change of real clips": 1.5,
        "background change, 99th percentile": 1.0,
    },
    "interpolation": {
        "clips": 24,
        "ways": WAYS,
        "by motion": [{"clips": 8, "motion": 1.5, "psnr": {name: way["psnr"] for name, way in WAYS.items()}}],
    },
    "seams": {"rocket": {SEAM: 1.1, LOOP: 1.0}, "frog": {SEAM: 1.2, LOOP: 1.3}},
    "drift": {"rocket": [0.8, 0.8, 0.76], "frog": [0.8, 0.7, 0.6]},
    "memory": [{"times": n, "frames": 76 * n, "GiB": 1 + n / 100, "seconds": 9.0 * n} for n in (1, 4, 16)],
    "keeping": {"learnt": {"real": {"parts": 12.0, "likeness": 0.9, "motion": 4.0}}},
    "dials": {
        "rates": [{"fps": 3.0, "made": 8.0, "real": 16.0}, {"fps": 24.0, "made": 7.0, "real": 4.0}],
        "motions": [{"motion": 0.3, "made": 1.0}, {"motion": 1.5, "made": 3.0}],
    },
    "generate": {
        "precision": "float32",
        "convolution GFLOP/s": 100.0,
        "size": 768,
        "stages": [{"stage": "decoder", "GFLOP": 1000.0, "seconds": 2.0, "of rate": 0.5}],
        "generate": [
            {"options": "--fast", "seconds": 6.0, "GiB": 1.5},
            {"options": "--size 768", "seconds": 80.0, "GiB": 2},
        ],
    },
    "space_time": {
        "networks": {name: {"M parameters": 20.0, "GFLOP": 300.0} for name in ("2-D, as built", "inflated", "peer")},
        "seconds": {"bfloat16": {"2-D, as built": 0.5, "inflated": 0.6, "peer": 3.0}},
    },
    "floors": {
        "distances": {
            "the other half": {"value": 10.0, "interval": [8.0, 12.0], "note": None},
            "made": {"value": 45.0, "interval": None, "note": None},
        }
    },
    "data_start": {
        "samples": 10_000_000,
        "index bytes a sample": 84.0,
        "samples a second and process looked through": 845.0,
        "start": 0.01,
        "first batch": 6.0,
        "resume": 1.5,
        "memory": 250.0,
        "own memory": 31.0,
        "same order of 1, 2 and 8": 1,
    },
    "batch_ray": {"ratio": 1.9, "videos a second": {"1": 1.0, "2": 1.9}},
    "prior_start": {"start": 0.4, "with imports": 9.0, "memory": 357.0, "samples": 1_000_000},
    "feeding": {
        "device": "cuda",
        "stages": {"decoder-video": {"alone": 0.1, "fed": 0.12, "ratio": 1.2, "made": 0.2, "samples": 20.0}},
        "long clips": {name: {"megabytes": 100.0, "folder": 20.0, "shard": 250.0} for name in ("hours", "noise")},
    },
    "paper_cost": {"clip": {"weights": 8.6e7, "step": 6.7e10, "samples": 1.3e10, "GPU-days": 29.0}},
}
MEASURE = {  # what `make-a-video evaluate motion --json` writes
    "measure": "motion",
    "values": {"flow": {"value": 1.25, "interval": [1.0, 1.5], "note": None}},
    "counts": {"videos": 7},
    "seed": 3,
    "network": None,
    "command": "make-a-video evaluate motion made",
    "date": "2026-01-02",
    "machine": {"processor": "Abacus", "cores": 2},
}


def thesis(distances: dict[str, float], spread: float | None) -> dict:
    values = {
        name: {
            "emoji-feature distance": {"mean": distance, "spread": spread, "values": [distance]},
            "something new": {"mean": 0.5, "spread": spread, "values": [0.5]},
            "seconds a step": 1.5,
        }
        for name, distance in distances.items()
    }
    seeds = [0] if spread is None else [0, 1, 2]
    return {"machine": "Abacus", "seeds": seeds, "values": values, "real clips from another start": {"flicker": 0.1}}


def build(folder: Path, figures: dict, extra: dict[str, dict] | None = None) -> str:
    """The page that these figures give, in `folder`."""
    (folder / "evaluation" / "results").mkdir(parents=True, exist_ok=True)
    for name, found in figures.items():
        record = {
            "command": f"python benchmarks/{name}.py",
            "date": "2026-01-02",
            "machine": {"processor": "Abacus", "cores": 2, "threads": 1},
            "weights": "0123456789abcdef",
            "settings": {"seconds": 60.0, "num_frames": 76, "steps": 16, "videos": 8}
            | {"hours": 2.0, "workers": 2, "peak": 989.0, "utilisation": 0.35},
            "figures": found,
        }
        (folder / "evaluation" / "results" / f"{name}.json").write_text(json.dumps(record))
    for file, found in (extra or {}).items():
        (folder / "evaluation" / file).write_text(json.dumps(found))
    paper = ROOT / "evaluation" / "paper_results.json"
    (folder / "evaluation" / "paper_results.json").write_bytes(paper.read_bytes())
    return results_page.build(folder / "evaluation", folder / "docs", None).read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    return re.split(r"^##+ ", page.split(f"# {heading}\n")[1], flags=re.MULTILINE)[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("whole")
    distances = {"paper": 10.0, "attention": 20.0, "frozen": 10.5, "random": 5.0}
    extra = {"results/evaluate-motion.json": MEASURE, "thesis.json": thesis(distances, spread=1.0)}
    return folder, build(folder, FIGURES, extra)


def test_every_table_has_its_figures(whole):
    _, page = whole
    assert "| right concept first | 75 % | at least 90 % | **not met** |" in page
    assert "| right concept among the first five | 50 % | at least 97 % | **not met** |" in page
    assert "| F-up | 32.00 | 0.030 | 0.020 |" in page
    assert "| 1.5 | 8 | 30.00 | 31.00 | 33.00 | 32.00 | optical flow (DIS) |" in page
    assert "| rocket | 1.10 | 1.00 |" in page
    assert "| largest step from a loop's end to its start | 1.30 | at most 1.2 | **not met** |" in page
    assert "| frog | 0.800 | 0.600 | -25 % |" in page
    assert "| 1216 | 1.16 | 144 |" in page
    assert "| peak memory of 16 times the length, as a ratio | 1.15 | at most 1.1 | **not met** |" in page
    assert "| 3.0 | 8.00 | 16.0 |" in page
    assert "changes by -12.5 %, in real clips by -75 %:\nthe weights follow the dial weakly." in page
    assert "| `generate --size 768`, start to file | 80.0 s | at most 45 s | **not met** |" in page
    assert "| inflated, operations a second, of the peer's (bfloat16) | 5.00 | at least 3.4 | met |" in page
    assert "| the other half | 10.0 | 8.00 to 12.0 |" in page and "4.5 times as far" in page
    assert "| flow | 1.25 | 1.00 to 1.50 |" in page
    assert (
        "| Make-A-Video | yes | 13.17 | 0.3049 |" in page and "| makeavideo (this repository) | yes | - | - |" in page
    )
    assert "2026-01-02; Abacus, 2 cores, 1 thread; weights `0123456789abcdef`" in page
    assert "not measured yet" not in page.lower()


def test_the_thesis_is_told_with_its_spread(whole):
    _, page = whole
    assert "| emoji-feature distance | 10.0 ± 1.0 | 20.0 ± 1.0 | 10.5 ± 1.0 | 5.00 ± 1.0 | - |" in page
    assert "| something new | 0.500 ± 1.0 |" in page and "| seconds a step | 1.50 | 1.50 |" in page
    assert (
        "the paper's way is ahead of attention only; behind no text-to-image start;"
        " level, within the spread, with temporal weights only." in " ".join(page.split())
    )


def test_one_seed_of_the_thesis_is_a_hint(tmp_path):
    page = build(tmp_path, {}, {"thesis.json": thesis({"paper": 1.0, "other": 2.0}, None)})
    assert "One seed has no spread" in page and "ahead of other." in page


def test_plots_are_pictures_and_every_link_leads_somewhere(whole):
    folder, page = whole
    plots = sorted(file.stem for file in (folder / "docs" / "results").iterdir())
    assert plots == sorted(results_plots.FIGURES)
    for name in plots:
        with Image.open(folder / "docs" / "results" / f"{name}.png") as picture:
            picture.load()
            assert min(picture.size) > 200 and len(picture.convert("RGB").getcolors(2**24)) > 2
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page) if ".md" not in link and link != "../evaluation"]
    assert len(links) > 10 and all((folder / "docs" / link).resolve().is_file() for link in links)


def test_verdicts_follow_the_figures(whole, tmp_path):
    _, before = whole
    figures = copy.deepcopy(FIGURES)
    figures["emoji_bars"] |= {"right concept first": 0.89, "right concept in first five": 0.97}
    figures["interpolation"]["ways"]["F-up"] = {"psnr": 34.0, "1 - ssim": 0.01, "hog": 0.005}
    figures["seams"]["frog"][LOOP] = 1.0
    figures["drift"]["frog"] = [0.8, 0.8, 0.79]
    figures["dials"]["rates"][1]["made"] = 2.0
    page = build(tmp_path, figures)
    assert "| right concept first | 89 % | at least 90 % | **not met** |" in page
    assert "| right concept among the first five | 97 % | at least 97 % | met |" in page
    assert "| PSNR of real small frames to 256 | 30.0 dB | at least 30.5 dB | **not met** |" in page
    assert "| sentences, right concept among the first five | 99 % | at least 88 % | met |" in page
    assert "**F-up loses against** optical flow (DIS) (PSNR, 1 - SSIM, HOG)." in before
    assert "**F-up beats all the other ways**" in page and "F-up loses" not in page
    assert "**not met**" not in section(page, "Seams and loops") and "**not met**" in section(before, "Seams and loops")
    assert "**not met**" not in section(page, "Drift") and "**not met**" in section(before, "Drift")
    assert "the dial works." in page
    counts = [re.search(r"(\d+) of the (\d+) bars", text).groups() for text in (before, page)]
    assert int(counts[1][0]) > int(counts[0][0]) and counts[0][1] == counts[1][1]


def test_as_good_as_the_cross_fade_is_not_better(tmp_path):
    figures = copy.deepcopy(FIGURES["interpolation"])
    figures["ways"]["F-up"] = dict(figures["ways"]["cross-fade"])
    page = build(tmp_path, {"interpolation": figures})
    assert "| F-up's PSNR, above the cross-fade's | 31.00 | at least 31 | **not met** |" in page
    assert "cross-fade (PSNR, 1 - SSIM, HOG)" in page


def test_what_is_missing_gets_its_command(whole, tmp_path):
    folder, _ = whole
    page = build(tmp_path, {})
    for name, line in results_page.MEASURE.items():
        assert f"    python benchmarks/{line} --json evaluation/{results_page.FILES[name]}\n" in page
        assert (ROOT / "benchmarks" / line.split()[0]).is_file()
    assert page.count("Not measured yet") == len(results_page.MEASURE)
    assert "bars below" not in page and not list((tmp_path / "docs" / "results").iterdir())
    # a plot of figures that are gone goes too
    for file in ("drift.json", "seams.json"):
        (tmp_path / "evaluation" / "results" / file).write_bytes(
            (folder / "evaluation" / "results" / file).read_bytes()
        )
    build(tmp_path, {})
    assert [file.name for file in (tmp_path / "docs" / "results").iterdir()] == ["drift.png"]
    (tmp_path / "evaluation" / "results" / "drift.json").unlink()
    build(tmp_path, {})
    assert not list((tmp_path / "docs" / "results").iterdir())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("drift", "{"),
        ("drift", "[]"),
        ("seams", '{"figures": 3}'),
        ("seams", '{"figures": {"rocket": {}}}'),
        ("memory", '{"figures": []}'),
        ("dials", '{"figures": {"rates": [{"fps": 3}]}}'),
        ("floors", '{"machine": "x", "figures": {}}'),
        ("thesis", '{"values": {}}'),
        ("own", "3"),
    ],
)
def test_a_bad_file_is_named_in_one_sentence(tmp_path, name, content):
    build(tmp_path, {})
    file = tmp_path / "evaluation" / results_page.FILES.get(name, Path("results") / f"{name}.json")
    file.write_text(content)
    with pytest.raises(UserError, match=f"{name}.json|{re.escape(str(tmp_path))}") as error:
        build(tmp_path, {})
    assert "\n" not in str(error.value)


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["results_page.py", "--evaluation", f"{tmp_path}/none", "--docs", f"{tmp_path}"])
    with pytest.raises(SystemExit) as left:
        one_sentence(results_page.main)
    assert left.value.code == 2 and re.fullmatch(r".*none.*\n", capsys.readouterr().err)


def test_a_benchmark_file_carries_all_that_its_figures_depend_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks/seams.py", f"{tmp_path}/data", "--prompts", "4"])
    arguments = argparse.Namespace(data=tmp_path, prompts=4, seed=7, json=tmp_path / "x.json", sheet=None)
    save_benchmark(tmp_path / "new" / "x.json", "seams", arguments, {"a": 1.5}, "0123")
    found = json.loads((tmp_path / "new" / "x.json").read_text())
    assert found["command"] == "python benchmarks/seams.py data --prompts 4"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["date"])
    assert found["machine"]["processor"] and found["machine"]["cores"] and found["machine"]["torch"]
    assert found["settings"] == {"prompts": 4} and found["seed"] == 7 and found["weights"] == "0123"
    assert found["figures"] == {"a": 1.5} and found["benchmark"] == "seams"


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (["data/emoji", "--json", "evaluation/results/x.json"], "data/emoji --json evaluation/results/x.json"),
        (["{here}/data", "--sheet", "/somewhere/else/sheet.png"], "data --sheet sheet.png"),
        (["--json={here}/x.json", "--model=/somewhere/model"], "--json=x.json --model=model"),
        (["../data/emoji", "--set", "rates=1/2"], "emoji --set rates=1/2"),
        (["{here}", "--prompts", "a dog / a cat"], ". --prompts 'a dog / a cat'"),
    ],
)
def test_a_command_has_no_folders_of_the_machine(typed, kept, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks/seams.py", *(word.format(here=tmp_path) for word in typed)])
    assert command_line() == f"python benchmarks/seams.py {kept}"


def test_no_record_names_a_folder_of_a_machine():
    for file in sorted((ROOT / "evaluation").rglob("*.json")):
        assert not re.search(r'"command": "[^"]*[ =](/|\.\./)', file.read_text(encoding="utf-8")), file.name


def test_nobody_edited_the_page(tmp_path):
    """docs/results.md is what `python benchmarks/results_page.py` builds from the committed files."""
    for file in (ROOT / "docs").glob("*.*"):
        (tmp_path / file.name).touch()
    page = results_page.build(ROOT / "evaluation", tmp_path, ROOT / "models" / "emoji")
    built, kept = page.read_text(encoding="utf-8"), (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert built == kept, "run `python benchmarks/results_page.py`"
    plots = {file.name for file in (tmp_path / "results").iterdir()}
    assert plots == {file.name for file in (ROOT / "docs" / "results").iterdir()}
