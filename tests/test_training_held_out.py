"""Clips held out of a training are known by their files, not by their names."""

import tarfile
from types import SimpleNamespace

import pytest
import torch

from makeavideo import UserError
from makeavideo.data.indexed import IndexedItems
from makeavideo.data.indexing import build_index
from makeavideo.training.datasets import unlabelled_clips
from makeavideo.training.recipe import Recipe
from makeavideo.training.seen import HeldOutLoss
from tiny_clips import write_animation

STAGE = SimpleNamespace(complete=None, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two shards of other clips by one name, an index of the first, and that clip as a file."""
    folder = tmp_path_factory.mktemp("clips")
    for number, name in enumerate(("one", "two")):
        clip = write_animation(folder / f"{name}.webp", 8 + number, 50)
        with tarfile.open(folder / f"{name}.tar", "w") as tar:
            tar.add(clip, "000000000.webp")
    for name in ("one.tar", "one.webp"):
        build_index([str(folder / name)], folder / f"{name}.index")
    return folder


def loss(folder, trained, held_out):
    data = {"roots": [str(folder / trained)], "held_out": [str(folder / held_out)], "size": 8, "num_frames": 4}
    recipe = Recipe.model_validate(
        {"stage": "decoder-video", "output": "run", "data": data, "steps": 1, "batch_size": 2}
    )
    return HeldOutLoss(recipe, unlabelled_clips(recipe.data).files, STAGE)


@pytest.mark.parametrize("trained", ["one.tar", "one.tar.index"])
def test_other_clips_by_the_same_name_are_held_out(folder, trained, monkeypatch):
    monkeypatch.setattr(IndexedItems, "__iter__", None)  # not all samples of an index are listed for it
    assert len(loss(folder, trained, "two.tar").batches) == 1


@pytest.mark.parametrize("trained, held_out", [("one.tar", "one.tar"), ("one.tar.index", "one.tar")])
def test_clips_that_are_trained_on_are_refused(folder, trained, held_out):
    with pytest.raises(UserError, match=r"that are trained on too, as .*one\.tar/000000000\.webp: take them out of"):
        loss(folder, trained, held_out)
    with pytest.raises(UserError, match=r"as .*one\.webp: take"):
        loss(folder, "one.webp.index", "one.webp")
