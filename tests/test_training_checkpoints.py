"""Checkpoints of strangers and damaged ones: nothing of them is run, and the one before is taken."""

import errno
import io
import os
import pickle
import shutil

import pytest
import torch
from rich.console import Console
from safetensors import SafetensorError

from makeavideo import UserError
from makeavideo.training import saved_state
from makeavideo.training.checkpoints import checkpoints, read_parts
from makeavideo.training.progress import Watch
from makeavideo.training.saved_state import Damaged, read_state, write_state
from makeavideo.training.trainer import train
from tiny_training import make_resolver_data, recipe_of, resolver_recipe, same, settings

pytestmark = pytest.mark.xdist_group("stages")  # they share a run of every stage


class Said(Watch):
    """Keeps what a run says."""

    def __init__(self):
        super().__init__()
        self.console = Console(file=io.StringIO(), width=1000)

    def __str__(self):
        lines = self.console.file.getvalue().splitlines()
        return "\n".join(line for line in lines if not line.startswith("Skipped"))  # the data has a broken picture


class Command:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.fixture(scope="module")
def whole(training_data, tmp_path_factory):
    """(the recipe's values, a run of four steps with checkpoints at 2 and 4, what its last one holds)."""
    folder = tmp_path_factory.mktemp("checkpoints")
    values = settings(folder, training_data, "sr-low-image") | {"checkpoint_steps": 2, "sample_every": 0}
    train(recipe_of(values))
    run = folder / "sr-low-image"
    return values, run, read_parts(checkpoints(run)[-1])


@pytest.fixture
def again(whole, tmp_path):
    """(recipe, folder) of a copy of the run."""
    run = shutil.copytree(whole[1], tmp_path / "run")
    return recipe_of(whole[0], output=str(run)), run


def old_format(folder, step):
    """The checkpoint as it was until November 2026."""
    parts = read_parts(folder)
    for file in folder.glob("*"):
        if file.name != "model.safetensors":
            file.unlink()
    torch.save(parts["optimizer"], folder / "optimizer.bin")
    torch.save(parts["average"], folder / "custom_checkpoint_0.pkl")
    torch.save({"last_epoch": step}, folder / "scheduler.bin")
    torch.save({"step": step}, folder / "random_states_0.pkl")


def test_a_state_comes_back_bit_for_bit(tmp_path):
    channels_last = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    state = {"state": {0: {"step": torch.tensor(3.0), "x": channels_last}}, "betas": (0.9, 0.99), "none": [None, True]}
    state["half"], state["empty"], state["1.5"] = torch.randn(3).bfloat16(), torch.zeros(0, 2), 0.1
    digest = write_state(state, tmp_path / "a.safetensors")
    back = read_state(tmp_path / "a.safetensors", digest)
    assert same(state, back) and type(back["betas"]) is tuple
    assert back["state"][0]["x"].stride() == channels_last.stride()
    with pytest.raises(TypeError):
        write_state({"lambda": len}, tmp_path / "b.safetensors")


@pytest.mark.parametrize("name", ["custom_checkpoint_0.pkl", "optimizer.bin", "scheduler.bin", "random_states_0.pkl"])
def test_a_tampered_run_runs_no_command(again, whole, tmp_path, name):
    """The files that a checkpoint consisted of, and beside those of which it consists now."""
    recipe, run = again
    mark, watch = tmp_path / "it-ran", Said()
    for folder, old in zip(checkpoints(run), (False, True), strict=True):
        if old:
            old_format(folder, 4)
        (folder / name).write_bytes(pickle.dumps(Command(mark)))
    train(recipe, resume=True, watch=watch)
    assert not mark.exists()
    assert same(read_parts(checkpoints(run)[-1]), whole[2])
    if name in ("custom_checkpoint_0.pkl", "optimizer.bin"):
        assert f"{run}/checkpoints/step-00000004/{name} holds more than numbers" in str(watch)
        assert "going on from step-00000002" in str(watch)
    else:  # not even opened
        assert str(watch) == ""


def test_the_files_of_before_are_refused_where_there_is_nothing_else(again, tmp_path):
    recipe, run = again
    for folder in checkpoints(run):
        old_format(folder, 4)
        torch.save(Command(tmp_path / "it-ran"), folder / "optimizer.bin")
    with pytest.raises(UserError, match=r"step-00000004/optimizer\.bin holds more than numbers.*begin again") as caught:
        train(recipe, resume=True)
    assert "\n" not in str(caught.value) and not (tmp_path / "it-ran").exists()
    assert len(checkpoints(run)) == 2  # nothing is set aside for nothing


def test_a_run_begun_before_goes_on_exactly(again, whole):
    recipe, run = again
    shutil.rmtree(checkpoints(run)[1])
    old_format(checkpoints(run)[0], 2)
    train(recipe, resume=True)
    assert same(read_parts(checkpoints(run)[-1]), whole[2])


DAMAGES = {
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-100]),
    "gone": lambda file: file.unlink(),
    "a bit": lambda file: file.write_bytes(file.read_bytes()[:-9] + b"\x7f" + file.read_bytes()[-8:]),
    "pointer": lambda file: file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
    "deep": lambda file: file.write_text("[" * 100_000),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize(
    "name, damage",
    [
        *[("optimizer.safetensors", damage) for damage in DAMAGES],
        *[("checkpoint.json", damage) for damage in ("cut", "gone", "deep", "a folder")],
        ("model.safetensors", "pointer"),
    ],
)
def test_of_a_damaged_checkpoint_the_one_before_is_taken(again, whole, name, damage):
    recipe, run = again
    last, watch = checkpoints(run)[-1], Said()
    DAMAGES[damage](last / name)
    train(recipe, resume=True, watch=watch)
    assert str(last / name) in str(watch) and "going on from step-00000002." in str(watch)
    assert str(watch).count("\n") == 0
    assert same(read_parts(last), whole[2])
    assert last.with_name("damaged-step-00000004").is_dir()


def test_a_checkpoint_of_another_network_is_one_sentence(again, whole):
    recipe = again[0]
    other = recipe.model_copy(update={"network": {**recipe.network, "block_out_channels": [16, 16]}})
    with pytest.raises(UserError, match=r"step-00000004 cannot be used: it is of another network") as caught:
        train(other, resume=True)
    assert "\n" not in str(caught.value)
    optim = recipe.optim.model_copy(update={"kind": "muon"})
    with pytest.raises(UserError, match="of another network or another recipe"):
        train(recipe.model_copy(update={"optim": optim}), resume=True)


def test_a_state_of_nonsense_is_damaged(tmp_path):
    digest = write_state({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(Damaged, match="is damaged"):
        read_state(tmp_path / "a.safetensors", digest[::-1])
    with pytest.raises(Damaged, match="missing"):
        read_state(tmp_path / "b.safetensors", digest)


def test_the_discriminator_goes_on_too(tmp_path):
    """What learns beside the network is in the checkpoint, bit for bit."""
    data = make_resolver_data(tmp_path)
    changes = {"super_resolution": {"crops": 2, "adversarial_weight": 0.1, "discriminator_width": 4}}
    recipe = resolver_recipe(data, tmp_path / "run", checkpoint_steps=2, sample_every=0, **changes)
    train(recipe)
    last = checkpoints(tmp_path / "run")[-1]
    unbroken = read_parts(last)
    assert "companion-0" in unbroken
    shutil.rmtree(last)
    train(recipe, resume=True)
    assert same(read_parts(last), unbroken)


def test_a_full_disk_at_a_checkpoint_is_one_sentence(whole, tmp_path, monkeypatch):
    """The one before stays, the training goes on and tries again."""
    full, write = [4], saved_state.save_file

    def on_a_disk(tensors, file, metadata):
        write(tensors, file, metadata)
        if int(file.parent.name.removeprefix("partial-")) in full and file.name == "optimizer.safetensors":
            file.write_bytes(b"cut")
            raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(saved_state, "save_file", on_a_disk)
    recipe, watch = recipe_of(whole[0], output=str(tmp_path), steps=6), Said()
    train(recipe, watch=watch)
    assert str(watch).startswith("The checkpoint of step 4 was not written to ") and str(watch).count("\n") == 0
    assert "No space left on device" in str(watch) and str(watch).endswith("the training goes on.")
    left = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert left == ["step-00000002", "step-00000006"]


def test_a_full_disk_at_the_end_is_one_sentence(again, monkeypatch):
    recipe, run = again

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("makeavideo.training.checkpoints.forget_places", full)
    with pytest.raises(UserError, match=r"final cannot be written \(No space left on device\): free some space"):
        train(recipe, resume=True)
    assert (run / "final").is_dir() and not (run / "final.partial").exists()  # the export of before


def test_what_a_killed_run_had_begun_to_write_is_removed(again):
    recipe, run = again
    for name in ("checkpoints/partial-00000003", "final.partial"):
        (run / name).mkdir()
    train(recipe, resume=True)
    assert not list(run.rglob("*partial*"))


def test_a_learning_rate_that_jumps_is_said(again):
    """A finished cosine run with more steps; the same steps say nothing."""
    recipe, _ = again
    watch = Said()
    train(recipe, resume=True, watch=watch)
    assert str(watch) == ""
    train(recipe.model_copy(update={"steps": 8}), resume=True, watch=watch)
    sentence = (
        "The cosine schedule of 4 steps was finished: with 8 steps the learning rate goes from 0 to 0.001 at step 4"
    )
    assert str(watch).startswith(sentence) and str(watch).count("\n") == 0
