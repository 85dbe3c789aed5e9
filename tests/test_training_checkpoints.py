"""Checkpoints of strangers and damaged ones: nothing of them is run, and the one before is taken."""

import io
import json
import os
import pickle
import resource
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from makeavideo import UserError
from makeavideo.training.checkpoints import checkpoints, read_parts
from makeavideo.training.recipe import load_recipe
from makeavideo.training.saved_state import Damaged, on_disk, read_state, write_state
from makeavideo.training.trainer import train
from tiny_training import Said, make_resolver_data, recipe_of, resolver_recipe, same, settings

pytestmark = pytest.mark.xdist_group("stages")  # they share a run of every stage


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


def test_a_state_comes_back_bit_for_bit(tmp_path):
    channels_last = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    state = {"state": {0: {"step": torch.tensor(3.0), "x": channels_last}}, "betas": (0.9, 0.99), "none": [None, True]}
    state["half"], state["empty"], state["1.5"] = torch.randn(3).bfloat16(), torch.zeros(0, 2), 0.1
    digest = write_state(state, tmp_path / "a.safetensors")
    back = read_state(tmp_path / "a.safetensors", digest)
    assert same(state, back) and type(back["betas"]) is tuple
    assert back["state"][0]["x"].stride() == channels_last.stride()
    assert write_state(back, tmp_path / "again.safetensors") == digest
    with pytest.raises(TypeError):
        write_state({"lambda": len}, tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    "x",
    [
        nn.Conv2d(8, 4, 1).weight,  # with an axis of one place its strides say more than its layout
        torch.randn(4, 1, 3, 3),
        torch.randn(1, 8, 1, 1),
        torch.randn(2, 3, 4, 5),
    ],
)
def test_the_layout_comes_back_too(tmp_path, x):
    x = x.detach().to(memory_format=torch.channels_last)
    for kept in (x, x.clone(memory_format=torch.contiguous_format), x.transpose(0, 1)):
        digest = write_state({"x": kept}, tmp_path / "a.safetensors")
        back = read_state(tmp_path / "a.safetensors", digest)["x"]
        assert back.stride() == kept.stride() and torch.equal(back, kept)
    for odd in (x.expand(2, *x.shape), x[..., :1, :1], x[:, ::2]):  # these share memory, or leave some out
        digest = write_state({"x": odd}, tmp_path / "a.safetensors")
        assert torch.equal(read_state(tmp_path / "a.safetensors", digest)["x"], odd)


@pytest.mark.parametrize("name", ["custom_checkpoint_0.pkl", "optimizer.bin", "scheduler.bin", "random_states_0.pkl"])
def test_pickles_beside_a_checkpoint_are_not_even_opened(again, whole, tmp_path, name):
    """The files of which accelerate's own checkpoints consist."""
    recipe, run = again
    watch = Said()
    for folder in checkpoints(run):
        (folder / name).write_bytes(pickle.dumps(Command(tmp_path / "it-ran")))
    train(recipe.model_copy(update={"steps": 6}), resume=True, watch=watch)
    assert not (tmp_path / "it-ran").exists()
    assert "cannot be used" not in str(watch) and checkpoints(run)[-1].name == "step-00000006"


@pytest.mark.parametrize("pickled", [pickle.dumps, lambda value: torch_bytes(value)], ids=["pickle", "torch"])
@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "average.safetensors", "checkpoint.json"]
)
def test_a_tampered_run_runs_no_command(again, whole, tmp_path, name, pickled):
    """A pickle in the place of a file, with its hash in the list: the checkpoint before is taken."""
    recipe, run = again
    watch, file = Said(), checkpoints(run)[-1] / name
    file.write_bytes(pickled(Command(tmp_path / "it-ran")))
    if name != "checkpoint.json":
        contents = json.loads((file.parent / "checkpoint.json").read_text())
        contents["parts"][file.stem] = on_disk(file)
        (file.parent / "checkpoint.json").write_text(json.dumps(contents))
    train(recipe, resume=True, watch=watch)
    assert not (tmp_path / "it-ran").exists()
    assert same(read_parts(checkpoints(run)[-1]), whole[2])
    assert str(watch).startswith(str(file)) and str(watch).endswith("; going on from step-00000002.")
    assert str(watch).count("\n") == 0


def torch_bytes(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def test_a_foreign_run_is_one_sentence(again, tmp_path):
    """No checkpoint of it can be used: nothing of it runs, and nothing is set aside for nothing."""
    recipe, run = again
    for folder in checkpoints(run):
        for file in folder.iterdir():
            file.unlink()
        torch.save(Command(tmp_path / "it-ran"), folder / "optimizer.bin")
    sentence = r"step-00000004/checkpoint\.json is missing or cannot be read, and there is no other.*begin again"
    with pytest.raises(UserError, match=sentence) as caught:
        train(recipe, resume=True)
    assert "\n" not in str(caught.value) and not (tmp_path / "it-ran").exists()
    assert len(checkpoints(run)) == 2


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


CHANGES = {
    "nan": lambda x: torch.full_like(x, float("nan")),
    "infinite": lambda x: x / 0,
    "whole numbers": torch.Tensor.long,
    "half": torch.Tensor.half,
}


@pytest.mark.parametrize(
    "name, change",
    [
        *[(name, change) for name in ("model", "optimizer", "average") for change in CHANGES.values()],
        ("optimizer", torch.neg),
    ],
)
def test_numbers_that_are_none_or_of_another_kind_are_not_taken_over(again, whole, name, change):
    """With its hash in the list: an average of NaN was exported, and weights were rounded to whole numbers."""
    recipe, run = again
    last, watch = checkpoints(run)[-1], Said()
    file, contents = last / f"{name}.safetensors", json.loads((last / "checkpoint.json").read_text())
    with safe_open(file, "pt") as opened:
        tensors, structure = {key: change(opened.get_tensor(key)) for key in opened.keys()}, opened.metadata()  # noqa: SIM118
    save_file(tensors, file, structure)
    contents["parts"][name] = on_disk(file)
    (last / "checkpoint.json").write_text(json.dumps(contents))
    train(recipe, resume=True, watch=watch)
    assert str(last) in str(watch) and "going on from step-00000002." in str(watch) and "\n" not in str(watch)
    assert same(read_parts(last), whole[2])


def test_a_checkpoint_under_the_name_of_another_step_is_not_taken(again, whole):
    recipe, run = again
    second, fourth = checkpoints(run)
    shutil.copytree(fourth, fourth.with_name("step-5"))  # a name that is never written
    shutil.rmtree(fourth)
    fourth.symlink_to(shutil.copytree(second, run / "elsewhere"))
    watch = Said()
    train(recipe, resume=True, watch=watch)
    assert str(watch).startswith(f"{fourth} cannot be used: it is of another") and fourth.is_dir()
    assert same(read_parts(fourth), whole[2])
    assert (run / "elsewhere" / "model.safetensors").is_file()


def test_fewer_steps_than_are_done_are_refused(again):
    recipe, run = again
    with pytest.raises(UserError, match=r"step-00000004 is past the 3 steps asked for: ask for more") as caught:
        train(recipe.model_copy(update={"steps": 3}), resume=True)
    assert "\n" not in str(caught.value) and load_recipe(run / "recipe.yaml").steps == 4


def test_a_pipe_in_a_run_is_not_waited_for(again):
    recipe, run = again
    watch, contents = Said(), checkpoints(run)[-1] / "checkpoint.json"
    contents.unlink()
    os.mkfifo(contents)
    train(recipe, resume=True, watch=watch)
    assert f"{contents} is missing or cannot be read; going on" in str(watch)
    (run / "recipe.yaml").unlink()
    os.mkfifo(run / "recipe.yaml")
    with pytest.raises(UserError, match=r"recipe\.yaml is a pipe, not a file"):
        train(recipe, resume=True)


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


class FullDisk(Said):
    """While steps of `full` are made the system refuses every byte that this process writes."""

    def __init__(self, full):
        super().__init__()
        self.full, self.limits = full, resource.getrlimit(resource.RLIMIT_FSIZE)

    def step(self, step):
        self.fill(step in self.full)

    def fill(self, full):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, self.limits[1]) if full else self.limits)


def test_on_a_full_disk_a_run_goes_on_and_tries_again(whole, tmp_path, capfd):
    """One sentence a checkpoint; the one before stays; samples and log are said once and go on too."""
    changes = {"steps": 8, "sample_every": 1, "log_every": 1}
    recipe, watch = recipe_of(whole[0], output=str(tmp_path), **changes), FullDisk(range(3, 6))
    try:
        train(recipe, watch=watch)
    finally:
        watch.fill(False)
    end = f"was not written to {tmp_path} (File too large): free some space; the training goes on."
    said = [f"The log of step 3 {end}", f"The samples of step 3 {end}", f"The checkpoint of step 4 {end}"]
    assert str(watch).replace("were", "was").splitlines() == said
    assert [folder.name for folder in checkpoints(tmp_path)] == ["step-00000006", "step-00000008"]
    samples = sorted(int(path.stem[-1]) for path in (tmp_path / "samples").iterdir())
    assert samples == [1, 2, 6, 7, 8] and not list(tmp_path.rglob("*partial*"))
    assert len(list((tmp_path / "logs").rglob("events*"))) == 2  # another one after the checkpoint of step 6
    assert "Traceback" not in capfd.readouterr().err
    assert (tmp_path / "final" / "super_resolution_low" / "config.json").is_file()


def test_the_last_good_checkpoint_of_a_full_disk_goes_on_to_the_same_bits(whole, tmp_path):
    recipe, watch = recipe_of(whole[0], output=str(tmp_path)), FullDisk(range(3, 6))
    try:
        with pytest.raises(UserError, match=r"final cannot be written \(File too large\): free .* and --resume"):
            train(recipe, watch=watch)
    finally:
        watch.fill(False)
    assert [folder.name for folder in checkpoints(tmp_path)] == ["step-00000002"]
    assert not (tmp_path / "final").exists() and not list(tmp_path.rglob("*partial*"))
    train(recipe, resume=True)
    assert same(read_parts(checkpoints(tmp_path)[-1]), whole[2])


def test_an_export_of_before_stays_where_a_new_one_cannot_be_written(again):
    recipe, run = again
    before = {path: path.read_bytes() for path in (run / "final").rglob("*") if path.is_file()}
    assert len({path.stat().st_mode for path in before}) == 1  # others may read the weights as they may the settings
    watch = FullDisk(())
    watch.log = lambda *_: watch.fill(True)  # of the last step, after which nothing but the export is written
    try:
        with pytest.raises(UserError, match="final cannot be written"):
            train(recipe.model_copy(update={"steps": 5, "log_every": 5, "checkpoint_steps": 99}), True, watch)
    finally:
        watch.fill(False)
    assert {path: path.read_bytes() for path in (run / "final").rglob("*") if path.is_file()} == before


def test_where_nothing_can_be_written_a_run_does_not_begin(whole, tmp_path):
    watch = FullDisk(())
    watch.fill(True)
    try:
        with pytest.raises(UserError, match=r"cannot be written \(File too large\): free some space or choose another"):
            train(recipe_of(whole[0], output=str(tmp_path / "run")), watch=watch)
    finally:
        watch.fill(False)
    assert not list((tmp_path / "run").iterdir())


def test_what_a_killed_run_had_begun_to_write_is_removed(again):
    recipe, run = again
    for name in ("checkpoints/partial-00000003", "final.partial", "crops.partial"):
        (run / name).mkdir()
    (run / "samples").mkdir(exist_ok=True)
    for name in ("recipe.yaml", "skipped.txt", "samples/step-00000002.png", "final.partial/config.json"):
        (run / f"{name}.partial").write_text("half")
    train(recipe, resume=True)
    assert not list(run.rglob("*partial*"))


def test_samples_of_a_step_at_which_a_run_was_ended_are_made_when_it_goes_on(whole, tmp_path):
    """By Ctrl-C after the checkpoint of the step, or killed while they were made."""
    recipe, watch = recipe_of(whole[0], output=str(tmp_path), sample_every=2), Said()
    watch.step = lambda step: setattr(watch, "stop", step == 2)
    with pytest.raises(UserError, match="Stopped at step 2 of 4"):
        train(recipe, watch=watch)
    assert not (tmp_path / "samples").exists()
    train(recipe, resume=True)
    sheets = {path.name: path.read_bytes() for path in (tmp_path / "samples").iterdir()}
    assert sorted(sheets) == ["step-00000002.png", "step-00000004.png"]
    (tmp_path / "samples" / "step-00000004.png").unlink()
    train(recipe, resume=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "samples").iterdir()} == sheets


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
