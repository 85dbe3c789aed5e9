"""What stages do before their first step: told while it lasts, and done once."""

import io
import os

import pytest
import torch
from PIL import Image
from rich.console import Console

from conftest import tiny_image_encoder, tiny_text_encoder
from makeavideo.data.images import CaptionedImages
from makeavideo.training.preparing import prepared, told
from makeavideo.training.progress import Lines, PlanTable, RunBar
from makeavideo.training.small_frames import pack
from makeavideo.training.stages import embedded
from makeavideo.training.stages.embedded import KEPT, EmbeddedImages
from makeavideo.training.trainer import train
from tiny_training import PRIOR, recipe_of
from tiny_training import same as alike


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(5):
        Image.new("RGB", (16, 16), (40 * number, 90, 30)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a {'red' if number % 2 else 'blue'} cat")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (folder / "broken.txt").write_text("a cat")
    return folder


def test_work_is_told_of_while_it_is_done():
    heard, seen = [], []
    with told(lambda *what: heard.append(what)):
        for item in prepared("abc", "reading", 3):
            seen.append((item, len(heard)))
    assert heard == [("reading", 0, 3), ("reading", 1, 3), ("reading", 2, 3), ("reading", 3, 3)]
    assert seen == [("a", 1), ("b", 2), ("c", 3)]
    assert list(prepared("ab", "reading", 2)) == ["a", "b"], "nobody listens"


def test_embedding_and_cutting_are_told_of(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "BATCH", 2)
    heard = []
    with told(lambda *what: heard.append(what)):
        EmbeddedImages(CaptionedImages(pictures, 16), tiny_image_encoder().eval())
        images = CaptionedImages(pictures, 16, need_captions=False)
        pack(images, tmp_path / "crops", 4, 8, 2, None, {})
    assert [what[1:] for what in heard if what[0].startswith("embedding")] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert [what[1:] for what in heard if what[0].startswith("cutting")][::6] == [(0, 12), (6, 12), (12, 12)]


def test_a_run_says_that_it_reads_and_how_far_it_is():
    bar = RunBar()
    bar.console = Console(file=io.StringIO(), width=100)
    with bar.preparing("prior", True):
        lines = Lines("prior", bar.console, seconds=0)
        lines("embedding", 64, 1000)
    with bar.preparing("prior", False):
        pass  # another process of this machine says nothing
    said = bar.console.file.getvalue()
    assert said == "prior: reading the data and the networks\nprior: embedding, 64 of 1000\n"
    terminal = RunBar()
    terminal.console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with terminal.preparing("prior", True):
        assert list(prepared("ab", "cutting crops", 2)) == ["a", "b"]
    assert "cutting crops" in terminal.console.file.getvalue()


def test_the_table_of_a_plan_says_how_far_it_is():
    table = PlanTable([("prior", 1.0, False)], {}, None)
    table.console = Console(file=io.StringIO(), width=200)

    def shown() -> str:
        table.console.print(table.table())
        return table.console.file.getvalue().splitlines()[-1]

    with table.shown(True):
        table.begin("prior")
        with table.preparing("prior", True):
            assert "loading" in shown()
            for _ in prepared(range(7), "embedding", 7):
                pass
            assert "embedding 7/7" in shown()
        assert "running" in shown()


def test_pictures_are_embedded_once(pictures, tmp_path, monkeypatch):
    torch.manual_seed(0)
    tower, folder = tiny_image_encoder().eval(), tmp_path / "run"

    def made(name: str = "tower") -> EmbeddedImages:
        return EmbeddedImages(CaptionedImages(pictures, 16), tower, folder, name)

    def same(a: EmbeddedImages, b: EmbeddedImages) -> bool:
        return alike(a.embeds, b.embeds) and a.indices == b.indices and a.passed_by == b.passed_by

    first = made()
    assert len(first.passed_by) == 1 and "broken.png" in first.passed_by[0][0]
    embed, calls = EmbeddedImages.embed, []
    monkeypatch.setattr(EmbeddedImages, "embed", lambda *given: (calls.append(1), embed(*given)))
    assert same(made(), first) and not calls
    made("another tower")
    assert len(calls) == 1
    made()
    whole = (folder / KEPT).read_bytes()
    for damage in (b"", whole[:100], whole[:-9], b"text", whole[:50] + b"\xff" * 9 + whole[59:]):
        (folder / KEPT).write_bytes(damage)
        calls.clear()
        assert same(made(), first) and calls
    os.utime(pictures / "2.png", (1, 1))  # another picture, as far as one can see
    calls.clear()
    assert same(made(), first) and calls
    Image.new("RGB", (16, 16), "white").save(pictures / "2.png")
    assert not same(made(), first)


def test_a_full_disk_costs_only_the_time(pictures, tmp_path):
    tower = tiny_image_encoder().eval()
    (tmp_path / "run").write_text("no folder")
    assert len(EmbeddedImages(CaptionedImages(pictures, 16), tower, tmp_path / "run", "x")) == 6
    assert (tmp_path / "run").read_text() == "no folder"


def test_a_resumed_prior_learns_the_same_without_looking_again(pictures, tmp_path, monkeypatch):
    tiny_text_encoder(tmp_path / "text")
    torch.manual_seed(0)
    tiny_image_encoder().save_pretrained(tmp_path / "tower")
    values = {
        "stage": "prior",
        "data": {"roots": [str(pictures)], "size": 16},
        "network": PRIOR,
        "image_encoder": str(tmp_path / "tower"),
        "text_encoder": str(tmp_path / "text"),
        "batch_size": 4,
        "mixed_precision": "no",
        "steps": 4,
        "checkpoint_steps": 2,
        "optim": {"schedule": "constant_with_warmup", "warmup_steps": 0},
    }
    whole = train(recipe_of(values, output=str(tmp_path / "whole")))
    begun = recipe_of(values, output=str(tmp_path / "begun"), steps=2)
    train(begun)
    monkeypatch.setattr(EmbeddedImages, "embed", None)
    again = train(begun.model_copy(update={"steps": 4}), resume=True)
    for name in ("prior/diffusion_pytorch_model.safetensors", "wordings/diffusion_pytorch_model.safetensors"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()
