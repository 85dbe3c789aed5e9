"""Buckets: samples are cut to the shape nearest to theirs, batches are of one and follow from their number alone."""

import json
import pickle
from collections import Counter

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from makeavideo import UserError
from makeavideo.cli.main import app
from makeavideo.data.buckets import BucketedOrder, Buckets
from makeavideo.data.clips import UnlabelledClips
from makeavideo.data.images import CaptionedImages
from makeavideo.data.indexing import build_index
from makeavideo.data.order import ShuffledOrder
from makeavideo.training.batches import StepKeys, make_loader
from makeavideo.training.checkpoints import checkpoints
from makeavideo.training.datasets import captioned_images
from makeavideo.training.refusals import check_trainable
from makeavideo.training.trainer import train
from tiny_clips import picture, write_video
from tiny_training import everything_of_the_decoder, recipe_of

SHAPES = [(16, 16), (12, 24), (24, 12)]
"""Square, wide, tall; height first."""
SIZES = {"square": (40, 40), "wide": (64, 36), "tall": (30, 50)}
"""Of the files, width first."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Nine: four wide, three square, two tall, of which one lies on its side in its file; and a broken one."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, count in (("wide", 4), ("square", 3), ("tall", 1)):
        for number in range(count):
            picture(folder / f"{name}-{number}.png", size=SIZES[name])
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(folder / "tall-lying.jpg", size=(50, 30), exif=exif)
    (folder / "square-broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (folder / "square-broken.txt").write_text("nothing")
    return folder


def of_name(key: str) -> tuple[int, int]:
    return SHAPES[("square", "wide", "tall").index(key.split("-")[0])]


def test_a_sample_is_cut_to_the_nearest_shape_whatever_stands_in_its_place(pictures):
    images = CaptionedImages(pictures, 16, buckets=SHAPES)
    again = pickle.loads(pickle.dumps(images))  # as the loader's processes get it
    for index, key in enumerate(images.keys):
        for reader in (images, again, images):  # the last one from its cache
            sample = reader[index, 3]
            assert sample["pixels"].shape[-2:] == of_name(key)
        assert (sample["key"] == key) == (key != "square-broken")
    assert images.in_one_shape[0, 3]["pixels"].shape[-2:] == (16, 16) and images.buckets is not None


def test_an_epoch_has_every_sample_in_batches_of_one_shape(pictures):
    images = CaptionedImages(pictures, 16, buckets=SHAPES)
    length, orders = images.in_batches(3)
    assert length == 6 + 6 + 3  # of 4 wide, 4 square, 2 tall: whole batches
    for epoch in (0, 1):
        order = orders(7, epoch)
        chosen = [order(position) for position in range(length)]
        for start in range(0, length, 3):
            assert len({of_name(images.keys[index]) for index in chosen[start : start + 3]}) == 1
        counted = Counter(chosen)
        assert set(counted) == set(range(len(images))) and max(counted.values()) == 2
    assert [orders(7, 0)(place) for place in range(length)] != [orders(7, 1)(place) for place in range(length)]
    assert [orders(7, 1)(place) for place in range(length)] == chosen


def test_an_order_of_many_samples_mixes_the_shapes():
    own = np.array([[9, 16], [16, 9], [10, 10], [0, 0]] * 500)
    buckets = Buckets([(16, 16), (9, 16), (16, 9)], own)
    assert [buckets.shape(index) for index in range(4)] == [(9, 16), (16, 9), (16, 16), (16, 16)]
    order = BucketedOrder(buckets.members(), lambda bucket, some: ShuffledOrder(len(some), 5, bucket), 8, 5)
    length = buckets.length(8)
    chosen = np.array([order(position) for position in range(length)])
    of_batches = buckets.of[chosen].reshape(-1, 8)
    assert (of_batches == of_batches[:, :1]).all() and length - len(own) < 3 * 8
    assert set(chosen) == set(range(len(own)))
    first = Counter(of_batches[: len(of_batches) // 4, 0].tolist())
    assert min(first.values()) > 5 and len(first) == 3  # not one shape after the other


def test_processes_and_a_run_that_goes_on_read_the_same(pictures, tmp_path):
    values = {"data": {"roots": [str(pictures)], "size": 16, "buckets": [list(shape) for shape in SHAPES]}}
    values |= {"stage": "decoder-image", "output": str(tmp_path), "steps": 12, "batch_size": 2}
    recipe = recipe_of(values)
    images = captioned_images(recipe.data)
    length, orders = images.in_batches(2)
    whole = list(StepKeys(recipe, length, 0, 0, 1, orders))
    assert list(StepKeys(recipe, length, 7, 0, 1, orders)) == whole[7:]
    parts = [list(StepKeys(recipe, length, 0, rank, 2, orders)) for rank in range(2)]
    together = [batch for pair in zip(*parts, strict=True) for batch in pair][:12]
    read = [[key[:2] for key in batch] for batch in together]  # the progress is that of another number of steps
    assert read == [[key[:2] for key in batch] for batch in whole]
    batches = [list(make_loader(images, StepKeys(recipe, length, 6, 0, 1, orders), workers)) for workers in (0, 1)]
    for alone, worker in zip(*batches, strict=True):
        assert torch.equal(alone["pixels"], worker["pixels"])
    assert {tuple(batch["pixels"].shape[2:4]) for batch in batches[0]} == set(SHAPES)  # bytes, (b, 1, h, w, 3)


def test_clips_too(tmp_path):
    for name, size in SIZES.items():
        write_video(tmp_path / f"{name}-0.mp4", count=12, size=size)
    clips = UnlabelledClips(tmp_path, 16, num_frames=3, fps=8.0, buckets=SHAPES)
    for index, key in enumerate(clips.keys):
        assert clips[index, 1]["pixels"].shape == (3, 3, *of_name(key))


def test_an_index_knows_the_shapes_where_it_is_asked_to(pictures, tmp_path):
    import tarfile

    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for file in sorted(pictures.iterdir()):
            tar.add(file, file.name)
    for more in ([], ["--shapes"]):
        out = str(tmp_path / f"index{len(more)}")
        assert CliRunner().invoke(app, ["data", "index", str(tmp_path / "0.tar"), "-o", out, *more]).exit_code == 0
    with pytest.raises(UserError, match="knows no shapes, for buckets: make it again, with --shapes"):
        CaptionedImages(tmp_path / "index0", 16, buckets=SHAPES)
    assert not json.loads((tmp_path / "index0" / "index.json").read_text())["shapes"]
    far = fsspec.filesystem("memory")
    far.pipe("/buckets/0.tar", (tmp_path / "0.tar").read_bytes())
    build_index(["memory://buckets"], tmp_path / "far", shapes=True)
    images, away = (CaptionedImages(tmp_path / name, 16, buckets=SHAPES) for name in ("index1", "far"))
    assert images.buckets.of.tolist() == away.buckets.of.tolist()
    for index, key in enumerate(images.keys):
        assert images[index, 3]["pixels"].shape[-2:] == of_name(key)
    length, orders = images.in_batches(2)
    chosen = [orders(7, 0)(position) for position in range(length)]
    assert set(chosen) == set(range(len(images)))
    assert all(
        of_name(images.keys[a]) == of_name(images.keys[b]) for a, b in zip(chosen[::2], chosen[1::2], strict=True)
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"stage": "clip"}, "data.buckets is for decoder and interpolator, not clip"),
        ({"crop": 8}, "take one of them out"),
        ({"buckets": [[16, 16], [32, 32]]}, "two of the same proportions"),
    ],
)
def test_buckets_that_cannot_be(changes, sentence, tmp_path):
    data = {"roots": ["x"], "size": 16, "buckets": [[16, 16]], **changes}
    values = {"stage": data.pop("stage", "decoder-image"), "output": str(tmp_path), "steps": 1, "batch_size": 1}
    with pytest.raises(UserError, match=sentence):
        check_trainable(recipe_of({**values, "data": data}))


def test_a_decoder_learns_from_clips_and_stills_of_several_shapes_and_goes_on_exactly(tmp_path, monkeypatch):
    """Stopped and resumed it comes to the same weights, bit by bit."""
    from safetensors.torch import load_file

    from makeavideo.training.stages.decoder import DecoderStage

    values = everything_of_the_decoder(tmp_path)
    for name, size in (("wide", (64, 36)), ("tall", (30, 50))):
        write_video(tmp_path / "clips" / f"{name}-0.mp4", count=24, size=size)
        picture(tmp_path / "images" / f"{name}-0.png", size=size)
    seen, loss = [], DecoderStage.clip_loss
    monkeypatch.setattr(
        DecoderStage, "clip_loss", lambda self, net, x, *a: seen.append(x.shape) or loss(self, net, x, *a)
    )
    data = {**values["data"], "buckets": [list(shape) for shape in SHAPES]}
    how = {"data": data, "steps": 4, "batch_size": 2, "checkpoint_steps": 2, "checkpoints_kept": 3, "sample_every": 4}
    made = []
    for name in ("once", "again"):
        recipe = recipe_of(values, **how, output=str(tmp_path / name))
        train(recipe)
        if name == "again":
            import shutil

            shutil.rmtree(checkpoints(tmp_path / "again")[-1])
            shutil.rmtree(tmp_path / "again" / "final")
            train(recipe, resume=True)
        made.append(load_file(tmp_path / name / "final" / "decoder" / "diffusion_pytorch_model.safetensors"))
    assert all(torch.equal(made[0][key], made[1][key]) for key in made[0])
    assert {shape[-2:] for shape in seen if shape[1] > 1} == set(SHAPES)
    assert len({shape[-2:] for shape in seen if shape[1] == 1}) > 1
