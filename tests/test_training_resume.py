"""Runs that are killed or changed and go on, in several precisions and processes."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file

from makeavideo import UserError
from makeavideo.training import trainer
from makeavideo.training.checkpoints import checkpoints, read_parts
from makeavideo.training.recipe import load_recipe
from makeavideo.training.stages.texts import TextCache
from makeavideo.training.trainer import train
from tiny_training import SUPER_RESOLUTION, recipe_of, same, settings

pytestmark = pytest.mark.xdist_group("stages")  # they share a run of every stage


KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(int(sys.argv[2]))
from makeavideo.training import trainer
from makeavideo.training.recipe import load_recipe

replace, count = os.replace, 0
def killing(source, target):  # the third checkpoint is written but for its name when the machine goes down
    global count
    count += "partial-" in str(source)
    if count == 3:
        os.unlink(os.path.join(source, "optimizer.safetensors"))
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = killing
trainer.train(load_recipe(sys.argv[1]))
"""


def test_a_killed_run_continues_bit_for_bit(training_data, tmp_path):
    """Clips, random crops, fps curriculum, dropout inside the network, accumulation, EMA, schedule and optimiser."""
    values = settings(tmp_path, training_data, "sr-low-video")
    values |= {"init_from": None, "network": {**SUPER_RESOLUTION, "dropout": 0.2}, "steps": 6, "checkpoint_steps": 2}
    values |= {"gradient_accumulation": 2, "batch_size": 2, "sample_every": 0}
    values["optim"] = {"learning_rate": 2e-3, "warmup_steps": 3, "ema_decay": 0.9}
    unbroken = train(recipe_of(values, output=str(tmp_path / "unbroken")))
    assert [c.name for c in checkpoints(tmp_path / "unbroken")] == ["step-00000004", "step-00000006"]

    killed = tmp_path / "killed"
    path = tmp_path / "killed.yaml"
    path.write_text(yaml.safe_dump({**values, "output": str(killed)}))
    command = [sys.executable, "-c", KILLED, str(path), str(torch.get_num_threads())]
    process = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert process.returncode == -signal.SIGKILL, process.stderr
    left = sorted(folder.name for folder in (killed / "checkpoints").iterdir())
    assert left == ["partial-00000006", "step-00000002", "step-00000004"]
    assert not (killed / "final").exists()

    with pytest.raises(UserError, match=r"already holds a run: add --resume") as caught:
        train(load_recipe(path))
    assert "\n" not in str(caught.value)

    resumed = train(load_recipe(path), resume=True)
    left = sorted(folder.name for folder in (killed / "checkpoints").iterdir())
    assert left == ["step-00000004", "step-00000006"]
    name = "super_resolution_low/diffusion_pytorch_model.safetensors"
    assert same(load_file(unbroken / name), load_file(resumed / name))
    for step in (4, 6):
        one, other = (tmp_path / run / "checkpoints" / f"step-{step:08d}" for run in ("unbroken", "killed"))
        assert same(load_file(one / "model.safetensors"), load_file(other / "model.safetensors"))
        hashes = [(folder / "checkpoint.json").read_text() for folder in (one, other)]
        assert hashes[0] == hashes[1]  # the layout in memory too
        parts = [read_parts(folder) for folder in (one, other)]
        assert parts[0].keys() == {"model", "optimizer", "average"}
        assert all(same(*(part[name] for part in parts)) for name in parts[0])
    average = read_parts(other)["average"]
    assert average["optimization_step"] == 6 and average["shadow_params"]

    # resuming a finished run trains no further and exports the same again
    assert same(load_file(train(load_recipe(path), resume=True) / name), load_file(unbroken / name))


def test_frozen_spatial_weights_stay_bit_for_bit_and_resuming_is_exact(cascade, training_data, tmp_path):
    """As CogVideo trains: no gradient, optimiser state or average is kept for what does not change."""
    from makeavideo.inflation import is_temporal

    values = settings(cascade[0], training_data, "decoder-video") | {"train": "temporal", "output": str(tmp_path)}
    recipe = recipe_of(values, checkpoint_steps=2, sample_every=0)
    file = train(recipe) / "motion_module.safetensors"
    trained = load_file(file)
    assert trained and all(is_temporal(name) for name in trained)
    added = list(trained)
    assert not (file.parent / "decoder").exists()
    assert trained["conv_in.temporal.bias"].abs().max() > 0  # it starts as zero

    fourth = checkpoints(tmp_path)[-1]
    parts = read_parts(fourth)
    assert len(parts["optimizer"]["state"]) == len(parts["average"]["shadow_params"]) == len(added)
    shutil.rmtree(fourth)
    shutil.rmtree(tmp_path / "final")
    train(recipe, resume=True)
    assert same(load_file(file), trained)
    with pytest.raises(UserError, match="was begun with train temporal, not all"):
        train(recipe_of(values, train="all"), resume=True)


def test_a_run_resumed_with_another_learning_rate_uses_it(training_data, tmp_path):
    """As the sentence about a loss that is not a number advises."""
    values = settings(tmp_path, training_data, "sr-low-image") | {"checkpoint_steps": 2}
    optim = {"learning_rate": 1e-2, "warmup_steps": 0, "schedule": "constant_with_warmup", "ema_decay": 0.5}
    train(recipe_of(values, optim=optim))
    second, fourth = checkpoints(tmp_path / "sr-low-image")
    before, moved = (load_file(folder / "model.safetensors") for folder in (second, fourth))
    for file in fourth.iterdir():
        file.unlink()
    fourth.rmdir()
    train(recipe_of(values, optim={**optim, "learning_rate": 1e-9}), resume=True)
    after = load_file(checkpoints(tmp_path / "sr-low-image")[-1] / "model.safetensors")
    assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in before)
    assert not all(torch.allclose(before[key], moved[key], atol=1e-4) for key in before)


@pytest.fixture
def bf16_state():
    """accelerate holds one precision for a whole process: give it back afterwards."""

    def forget():
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()

    forget()
    yield
    forget()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_bf16_and_gradient_checkpointing(cascade, training_data, tmp_path, bf16_state, checkpointing):
    values = settings(cascade[0], training_data, "decoder-video") | {"steps": 1, "mixed_precision": "bf16"}
    values |= {"gradient_checkpointing": checkpointing, "output": str(tmp_path / "run")}
    values |= {"sample_every": 0 if checkpointing else 1}
    assert (train(recipe_of(values)) / "decoder").is_dir()


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, "bf16"), (False, "no")])
def test_the_precision_is_the_one_that_the_device_computes_in(
    cascade, training_data, tmp_path, bf16_state, monkeypatch, has_bf16, precision
):
    monkeypatch.setattr(trainer, "computes_in_bf16", lambda: has_bf16)
    values = settings(cascade[0], training_data, "decoder-video") | {"steps": 1, "mixed_precision": "auto"}
    train(recipe_of(values | {"output": str(tmp_path / "run"), "sample_every": 0}))
    assert load_recipe(tmp_path / "run" / "recipe.yaml").mixed_precision == precision


@pytest.mark.slow
def test_two_processes(training_data, tmp_path):
    """Data parallel on two processes (gloo), as `accelerate launch` starts them on two GPUs; resuming is exact."""
    values = settings(tmp_path, training_data, "sr-low-image") | {"steps": 4, "log_every": 1, "batch_size": 2}
    values |= {"checkpoint_steps": 2}
    path, script = tmp_path / "recipe.yaml", tmp_path / "run.py"
    path.write_text(yaml.safe_dump(values))
    script.write_text(
        "import sys\n"
        "from makeavideo.training.recipe import load_recipe\n"
        "from makeavideo.training.trainer import train\n"
        "train(load_recipe(sys.argv[1]), resume=True)\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    subprocess.run([*launch, str(script), str(path)], check=True, timeout=300, env=environment)
    folder = checkpoints(tmp_path / "sr-low-image")[-1]
    assert (tmp_path / "sr-low-image/final/super_resolution_low/config.json").is_file()
    unbroken = read_parts(folder)
    (folder / "optimizer.safetensors").write_bytes(b"damaged")
    subprocess.run([*launch, str(script), str(path)], check=True, timeout=300, env=environment)
    assert same(read_parts(folder), unbroken)
    assert folder.with_name(f"damaged-{folder.name}").is_dir()


def test_what_a_text_becomes_depends_on_no_other(training_data):
    """A run that goes on knows no text yet, and embedded those of a batch in other company: it ended up elsewhere."""
    texts = ["a red cat", "the blue rocket that is taking off in the video", "cat", "red rocket taking off", "a a a"]
    together, later = (TextCache(str(training_data / "text"), torch.device("cpu")) for _ in range(2))
    with torch.no_grad():
        whole = together(texts)
        later(texts[2:])
        assert torch.equal(later(texts), whole) and torch.equal(together([texts[3]])[0], whole[3])
