"""benchmarks/sharpness.py: what it measures, and that it runs."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from makeavideo.emoji.concepts import split
from tiny_training import draw_square as draw
from tiny_training import make_resolver_data

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_resolver_data(tmp_path_factory.mktemp("sr-data"))


def test_sharpness_tells_blur_noise_and_halos():
    from sharpness import edges, flicker, halo, roughness

    sharp = np.asarray(draw((200, 30, 30), 64))
    noise = np.random.default_rng(0).integers(-3, 4, sharp.shape)
    noisy = (sharp + noise).clip(0, 255).astype(np.uint8)
    for size in (256, 768):  # edges are one pixel wide at both, and count for as much
        large = np.tile(np.asarray(draw((200, 30, 30), size // 4)), (4, 4, 1))
        soft = np.asarray(Image.fromarray(large).resize((64, 64)).resize((size, size), Image.Resampling.BICUBIC))
        assert edges(soft) < 0.6 * edges(large)
    assert roughness(sharp) == 0 and roughness(noisy) > 0.5
    small = np.asarray(Image.fromarray(sharp).resize((16, 16), Image.Resampling.BOX))
    ringing = sharp.astype(int)
    ringing[:, :3] -= 20
    assert halo(small, sharp) <= 2 and halo(small, ringing.clip(0, 255).astype(np.uint8)) >= 20
    rng = np.random.default_rng(0)
    video = np.full((4, 16, 16, 3), 200, np.uint8) + rng.integers(0, 3, (4, 16, 16, 3)).astype(np.uint8)
    before, after = flicker(video, video.repeat(4, 1).repeat(4, 2))
    assert before == pytest.approx(after) and before > 0.5
    assert flicker(video, np.full((4, 64, 64, 3), 200, np.uint8))[1] == 0


def test_sharpness_runs(tiny_model, data, tmp_path, monkeypatch, capsys):
    import sharpness

    for folder, size in (("images", 64), ("vectors", 192)):
        (tmp_path / folder).mkdir()
        names = ["trained", "other", min(split().held_out_all)]
        for number, name in enumerate(names):
            draw((200, 60 * number, 30)).resize((size, size)).save(tmp_path / folder / f"{name}.png")
            (tmp_path / folder / f"{name}.txt").write_text("a red cat")
    options = ["--model", str(tiny_model), "--before", str(tiny_model), "--prompts", "2", "--num-frames", "4"]
    files = ["--steps", "2", "--sheet", str(tmp_path / "sheet.png"), "--json", str(tmp_path / "found.json")]
    monkeypatch.setattr(sys, "argv", ["benchmarks/sharpness.py", str(tmp_path), *options, *files])
    sharpness.main()
    figures = json.loads((tmp_path / "found.json").read_text())["figures"]
    assert figures["generated"]["labels"] == figures["generated"]["768"]["labels"] == 2
    assert set(figures["held out"]["256"]) == {"bicubic", "this model", "before"}
    assert figures["held out"]["768"]["this model"] == figures["held out"]["768"]["before"]
    assert figures["held out"]["256"]["bicubic"]["psnr"] > 10
    assert "flicker" in capsys.readouterr().out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height > sheet.width / 3
