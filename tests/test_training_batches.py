"""The order of the data, in one process and in many; what a split leaves out."""

import json
import pickle
import re
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from makeavideo import UserError
from makeavideo.data.images import CaptionedImages
from makeavideo.data.reader import to_pixels
from makeavideo.data.split import load_split
from makeavideo.filling import FirstGuess, Masked
from makeavideo.flow import first_guess
from makeavideo.training.batches import InOnePiece, StepKeys, in_one_sentence, make_loader
from makeavideo.training.datasets import captioned_images, unlabelled_clips
from makeavideo.training.stages.decoder import Company
from makeavideo.training.stages.interpolator import Gaps
from tiny_training import recipe_of, settings

pytestmark = pytest.mark.xdist_group("stages")  # they share a run of every stage


def keys_of(recipe, length, start=0, rank=0, world=1):
    return list(StepKeys(recipe, length, start, rank, world))


def test_keys_of_processes_are_disjoint_and_together_those_of_one(training_data, tmp_path):
    recipe = recipe_of(settings(tmp_path, training_data, "sr-low-image"), steps=7, batch_size=3)
    one = keys_of(recipe.model_copy(update={"batch_size": 6}), 10)
    parts = [keys_of(recipe, 10, rank=rank, world=2) for rank in range(2)]
    assert [a + b for a, b in zip(*parts, strict=True)] == one
    assert not {k[1] for batch in parts[0] for k in batch} & {k[1] for batch in parts[1] for k in batch}
    flat = [key for batch in one for key in batch]
    assert len({seed for _, seed, _ in flat}) == len(flat)
    for epoch in range(4):
        assert sorted(index for index, _, _ in flat[epoch * 10 : epoch * 10 + 10]) == list(range(10))
    assert [k[0] for k in flat[:10]] != [k[0] for k in flat[10:20]]
    assert flat[0][2] == 0 and 0.8 < flat[-1][2] < 1


def test_keys_continue_where_they_were(training_data, tmp_path):
    recipe = recipe_of(settings(tmp_path, training_data, "sr-low-image"), steps=6, gradient_accumulation=2)
    whole = keys_of(recipe, 5)
    assert len(whole) == len(StepKeys(recipe, 5, 0, 0, 1)) == 12
    assert keys_of(recipe, 5, start=8) == whole[8:]
    assert keys_of(recipe.model_copy(update={"seed": 4}), 5) != whole


@pytest.mark.parametrize("video", [False, True])
def test_a_worker_process_gives_the_same_batches(training_data, tmp_path, video):
    recipe = recipe_of(settings(tmp_path, training_data, "sr-low-video" if video else "sr-low-image"), steps=3)
    make = unlabelled_clips if video else (lambda d: captioned_images(d, captions=False))
    batches = []
    for workers in (0, 1):
        dataset = make(recipe.data)
        batches.append(list(make_loader(dataset, StepKeys(recipe, len(dataset), 0, 0, 1), workers)))
    assert len(batches[0]) == 3
    for alone, worker in zip(*batches, strict=True):
        assert torch.equal(alone["pixels"], worker["pixels"]) and alone["key"] == worker["key"]


@pytest.mark.parametrize("stage", ["decoder-video", "guess", "mask"])
def test_what_goes_with_a_batch_is_the_same_whoever_reads_it(training_data, tmp_path, stage):
    """Stills, masks and optical flow, in workers; two processes draw what one with two batches a step does."""
    name = "decoder-video" if stage == "decoder-video" else "interpolator"
    recipe = recipe_of(settings(tmp_path, training_data, name), steps=4)
    dataset = unlabelled_clips(recipe.data)
    if stage == "decoder-video":
        stills, moving = (
            captioned_images(recipe.data.model_copy(update={"roots": recipe.data.stills, "size": side}), False)
            for side in (recipe.data.size, 2 * recipe.data.size)
        )
        complete = Company(stills, 3, moving, 0.5)
    else:
        complete = Gaps(FirstGuess if stage == "guess" else Masked, 0.5)
    complete = pickle.loads(pickle.dumps(complete))  # where processes are spawned

    def batches(workers, start=0, rank=0, world=1, **changes):
        keys = StepKeys(recipe.model_copy(update=changes), len(dataset), start, rank, world)
        return list(make_loader(dataset, keys, workers, complete=complete))

    def assert_same(one, other):
        assert len(one) == len(other) > 0
        for a, b in zip(one, other, strict=True):
            assert a.keys() == b.keys()
            assert all(torch.equal(a[key], b[key]) for key in a if torch.is_tensor(a[key]))

    alone = batches(0)
    assert_same(batches(2), alone)
    assert_same(batches(0, start=2), alone[2:])
    halves = zip(*(batches(0, rank=rank, world=2, steps=2) for rank in range(2)), strict=True)
    assert_same([batch for pair in halves for batch in pair], batches(0, steps=2, gradient_accumulation=2))
    drawn = {"decoder-video": {"known", "stills", "moving"}, "guess": {"known", "guess"}, "mask": {"known"}}[stage]
    assert set(alone[0]) == {"pixels", "fps", "key", "index", "skipped"} | drawn
    assert any(not torch.equal(alone[0]["known"], batch["known"]) for batch in alone[1:])
    if stage == "guess":
        guess, unit = first_guess(to_pixels(alone[0]["pixels"]), alone[0]["known"])
        assert torch.equal(alone[0]["guess"], torch.cat([guess, unit], 2))
    if stage == "decoder-video":
        assert len({batch["stills"].numpy().tobytes() for batch in alone}) > 1
        broken = [path for batch in alone for path, _ in batch["skipped"] if path.endswith("broken.png")]
        assert broken  # a still that cannot be read is named


@dataclass
class Noted:
    """Leaves a file in a folder for each batch that is made."""

    folder: Path

    def __call__(self, batch, generator):
        (self.folder / str(generator.initial_seed())).touch()
        return batch


@pytest.mark.parametrize("prefetch", [1, 3])
def test_so_many_batches_are_ready(training_data, tmp_path, prefetch):
    values = settings(tmp_path, training_data, "sr-low-image")
    values["data"] |= {"num_workers": 2, "prefetch": prefetch}
    recipe, made = recipe_of(values, steps=20), tmp_path / "made"
    made.mkdir()
    keys = StepKeys(recipe, 4, 0, 0, 1)
    batches = iter(make_loader(captioned_images(recipe.data), keys, 2, prefetch, Noted(made)))
    for ready in (2 * prefetch, 2 * prefetch + 1):
        until = time.monotonic() + 60
        while len(list(made.iterdir())) < ready and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.1)  # in which one more could be made
        assert len(list(made.iterdir())) == ready
        next(batches)


@pytest.mark.parametrize("workers", [0, 3])
def test_the_processes_share_the_memory_for_frames(training_data, tmp_path, workers):
    for name, make in (("sr-low-image", captioned_images), ("sr-low-video", unlabelled_clips)):
        values = settings(tmp_path, training_data, name)
        values["data"] |= {"num_workers": workers, "cache_gb": 1}
        limit = make(recipe_of(values).data).cache.limit
        assert limit * (1 + workers) == 2**30


def test_datasets_can_be_sent_to_other_processes(training_data, tmp_path):
    """Where processes are spawned, as on macOS and Windows, the data set is pickled, the choice of files included."""
    for name, make in (("sr-low-image", captioned_images), ("sr-low-video", unlabelled_clips)):
        values = settings(tmp_path, training_data, name)
        recipe = recipe_of(values, data={**values["data"], "split": write_split(tmp_path)})
        dataset = make(recipe.data)
        again = pickle.loads(pickle.dumps(dataset))
        assert torch.equal(again[(0, 5, 0.5)]["pixels"], dataset[(0, 5, 0.5)]["pixels"])
        bucketed = make(recipe.data.model_copy(update={"buckets": [(16, 16), (16, 24)]}))
        for data, (length, orders) in ((dataset, (len(dataset), dataset.order)), (bucketed, bucketed.in_batches(2))):
            keys = StepKeys(recipe, length, 0, 0, 1, orders)
            assert pickle.loads(pickle.dumps((data, keys)))[1][0] == keys[0]


def test_tensors_of_a_batch_travel_as_one():
    batch = {
        "index": torch.arange(3),
        "none": torch.empty(0, 4),
        "pixels": torch.tensor([[1, 2, 3]], dtype=torch.uint8),
        "turned": torch.rand(3, 4).T,
        "rate": torch.tensor(8.0, dtype=torch.float64),
        "half": torch.rand(3).half(),
        "key": ["a", "b"],
    }
    came = pickle.loads(pickle.dumps(InOnePiece(batch)))
    assert type(came) is dict and list(came) == list(batch) and came["key"] == batch["key"]
    tensors = {name for name, value in batch.items() if torch.is_tensor(value)}
    assert all(torch.equal(came[name], batch[name]) for name in tensors)
    assert all(
        came[name].dtype == batch[name].dtype and came[name].stride() == batch[name].stride() for name in tensors
    )
    assert len({came[name].untyped_storage().data_ptr() for name in tensors - {"turned", "none"}}) == 1
    assert pickle.loads(pickle.dumps(InOnePiece({"key": []}))) == {"key": []}


def write_split(folder: Path) -> str:
    path = folder / "split.json"
    path.write_text(json.dumps({"held_out_all": ["never"], "held_out_motion": ["still"]}))
    return str(path)


def test_what_a_split_holds_out_is_left_out(training_data, tmp_path):
    for folder, ending, source in (("i", "png", "images/red-cat.png"), ("c", "gif", "clips/red.gif")):
        (tmp_path / folder).mkdir()
        for key in ("mine", "still", "never"):
            (tmp_path / folder / f"{key}.{ending}").write_bytes((training_data / source).read_bytes())
    values = settings(tmp_path, training_data, "sr-low-video")
    data = recipe_of(values, data={**values["data"], "split": write_split(tmp_path)}).data
    images = data.model_copy(update={"roots": [str(tmp_path / "i")]})
    clips = data.model_copy(update={"roots": [str(tmp_path / "c")]})
    assert set(captioned_images(images, captions=False).keys) == {"mine", "still"}
    assert set(unlabelled_clips(clips).keys) == {"mine"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("held_out_all:", "cannot be used (it is not JSON)"),
        ("[]", "needs the lists held_out_all and held_out_motion"),
        ('{"held_out_all": ["a"], "held_out_motion": [1]}', "of file stems"),
    ],
)
def test_a_wrong_split_is_one_sentence(tmp_path, text, sentence):
    path = tmp_path / "split.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=re.escape(sentence)) as caught:
        load_split(path)
    assert str(path) in str(caught.value) and "data.split" in str(caught.value) and "\n" not in str(caught.value)


def test_what_a_reader_s_process_says_is_one_sentence(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    images = CaptionedImages(tmp_path, 8, need_captions=False)
    for workers in (0, 1):
        with pytest.raises(UserError, match=r"^Nothing in .* can be read; .*a\.png: not a picture\.$"):
            next(in_one_sentence(make_loader(images, [[(0, 0, 0.0)]], workers)))
