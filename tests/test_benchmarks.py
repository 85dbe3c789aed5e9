"""Every benchmark runs, tiny: the cascade of conftest, a few drawn pictures, one step where thousands are meant.

A benchmark that is not listed in RUNS fails the first test. `{data}`, `{model}`, `{out}` and `{root}` are folders.
"""

import importlib
import json
import math
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from conftest import tiny_decoder
from makeavideo.emoji.concepts import split

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
# the network that thesis.py makes from random weights, as small as the tiny decoder
RANDOM = {key: x for key, x in tiny_decoder().config.items() if not key.startswith("_") and x is not None}
RANDOM |= {"class": "UNet2DConditionModel", "space_to_depth": 4, "in_channels": 3, "out_channels": 3}
RANDOM = json.dumps(RANDOM)
RUNS = {
    "demo_picture": "{out}/demo.webp --count 2 --model {model} --num-frames 3 --pixels 16 --steps 1",
    "batch_ray": "--model {model} --videos 2 --workers 2 --rounds 1 --num-frames 3 --steps 1 --json {out}/figures.json",
    "emoji_bars": "{data} --model {model} --prompts 2 --steps 1 --embedding own --sheet {out}/sheet.png"
    " --json {out}/figures.json",
    "floors": "{data} --model {model} --videos 2 --steps 1 --bootstrap 2 --json {out}/figures.json",
    "dials": "{data} --model {model} --prompts 2 --clips 2 --rates 8 --motions 1 --steps 1 --json {out}/figures.json",
    "keeping": "{data} --model {model} --clips 2 --steps 1 --json {out}/figures.json",
    "wording": "{data} --model {model} --prior diffusion --most 3 --json {out}/figures.json",
    "sharpness": "{data} --model {model} --prompts 2 --held-out 2 --num-frames 3 --steps 1 --sheet {out}/sheet.png"
    " --json {out}/figures.json",
    "generate": "--model {model} --num-frames 3 --steps 1 --json {out}/figures.json",
    "interpolation": "{data} --model {model} --clips 3 --sheet {out}/sheet.png --json {out}/figures.json",
    "long_video seams": "--model {model} --prompts 1 --steps 1 --json {out}/figures.json",
    "long_video drift": "--model {model} --prompts 1 --seconds 5 --steps 1 --json {out}/figures.json",
    "long_video memory": "--model {model} --length 2 --multiples 1 4 --size 16 --steps 1 --json {out}/figures.json",
    "results_page": "--evaluation {root}/evaluation --docs {out}",
    "soak": "--scale 0.01 --steps 2 --json {out}/figures.json",
    "data_start": "{out}/set --shards 3 --samples 40 --scan 1 --batch 8 --step 100 --workers 2"
    " --json {out}/figures.json",
    "prior_start": "{out}/set --samples 3000 --dim 8 --json {out}/figures.json",
    "feeding": "{data} --workers 1 --steps 2 --hours 0.001 --megabytes 0.1 --json {out}/figures.json",
    "paper_cost": "{root}/recipes/tiny/clip.yaml {root}/recipes/tiny/prior.yaml --gpus 8 --json {out}/figures.json",
    "space_time": "--width 32 --side 16 --repetitions 1 --json {out}/figures.json",
    "thesis": "{data} --model {model} --runs {out}/runs --steps 1 --concepts 2 --frames 4 --sampling-steps 1"
    " --repetitions 1 --set data.size=16 --set data.num_frames=4 --set data.stills_per_step=1 --set network='{random}'"
    " --json {out}/figures.json",
}


def is_benchmark(path: Path) -> bool:
    return 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")


def test_every_benchmark_is_run_here():
    programs = {path.stem for path in BENCHMARKS.glob("*.py") if is_benchmark(path)}
    assert programs == {name.split()[0] for name in RUNS}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """images/ and clips/ as `make-a-video data emoji` makes them: concepts held out of motion training, and others."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    (folder / "clips").mkdir()
    keys = [*sorted(split().held_out_motion - split().held_out_all)[:3], "1f680", "1f431", "1f34e"]
    keys += sorted(split().held_out_all)[:2]
    assert not set(keys[3:6]) & (split().held_out_motion | split().held_out_all)
    for number, key in enumerate(keys):
        frames = []
        for step in range(18):
            frames.append(Image.new("RGB", (32, 32), "white"))
            box = (2 + step // 2, 4 + number, 14 + step // 2, 18 + number)
            pen = ImageDraw.Draw(frames[-1])
            (pen.ellipse if number % 2 else pen.rectangle)(box, fill=(40 * number, 200 - 30 * number, 90))
        frames[0].save(folder / "images" / f"{key}.png")
        colour = "red" if number % 2 else "blue"
        words = {"label": f"{colour} cat", "keywords": [colour, f"cat {number}"], "held_out_keywords": ["rocket"]}
        captions = json.dumps({"captions": [f"a {colour} cat"], **words})
        (folder / "images" / f"{key}.json").write_text(captions)
        frames[0].save(folder / "clips" / f"{key}.gif", save_all=True, append_images=frames[1:], duration=50)
    return folder


def numbers(value) -> list[float]:
    """Every number in what JSON holds."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


MINUTES = {"batch_ray", "data_start", "feeding", "generate", "long_video memory", "prior_start", "soak", "thesis"}
"""These start whole processes, or train: `make test-slow` runs them."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in MINUTES else name for name in RUNS]
)
def test_it_runs(name, data, tiny_model, tmp_path, monkeypatch, capsys):
    program, *what = name.split()
    places = {"data": data, "model": tiny_model, "out": tmp_path, "root": ROOT, "random": RANDOM}
    arguments = shlex.split(RUNS[name].format(**places))
    monkeypatch.setattr(sys, "argv", [str(BENCHMARKS / f"{program}.py"), *what, *arguments])
    importlib.import_module(program).main()
    said = capsys.readouterr().out
    for option in ("--json", "--sheet"):
        if option in arguments:
            assert Path(arguments[arguments.index(option) + 1]).stat().st_size > 0
    if "--json" in arguments:
        record = json.loads((tmp_path / "figures.json").read_text())
        found = numbers(record.get("figures", record.get("values")))
        assert found and all(map(math.isfinite, found))
        assert any(letter.isdigit() for letter in said)
    if program == "demo_picture":
        assert (tmp_path / "demo.webp").stat().st_size > 0
    if program == "generate":
        assert {row["stage"] for row in record["figures"]["stages"]} >= {"prior", "still", "decoder"}
        assert min(row["GFLOP"] for row in record["figures"]["stages"]) > 0
        assert record["figures"]["generate"][0]["options"] == "--fast"
        assert "bar" in said and "start to file" in said
    if program == "space_time":
        emulated = not torch.cpu._is_avx512_bf16_supported()
        assert ("bfloat16: left out" in said) == emulated == ("bfloat16" not in record["figures"]["seconds"])


def test_what_moves_is_kept_and_what_changes_melts(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from keeping import melted

    frames = np.full((4, 64, 64, 3), 255, np.uint8)
    for step, frame in enumerate(frames):
        frame[20 + step : 40 + step, 20:40] = 200, 30, 30
        frame[28 + step : 31 + step, 26:34] = 0
    assert melted(frames) == 0
    frames[2:, 28:36, 26:34] = 200, 30, 30  # the small part is gone
    assert melted(frames) > 5


def test_a_bar_follows_the_machines_rate():
    from generate import bar_of

    assert bar_of("--size 256", 150) == 20 and bar_of("--size 256", 750) == 4
    assert bar_of("--size 768", 150) == 30 and bar_of("--fast", 500) == 5
    assert bar_of("--size 64", 150) is None


def test_bad_input_is_one_sentence(tmp_path):
    """As a program: exit code 2 and nothing else."""
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "generate.py", "--model", tmp_path], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "no model" in done.stderr
