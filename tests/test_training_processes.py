"""Two processes (gloo) as two GPUs: negatives of both, a divided network, samples by both, disks of their own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import yaml
from diffusers import UNet2DModel

from makeavideo import UserError
from makeavideo.data.wordings import Wordings
from makeavideo.training import processes
from makeavideo.training.alike import Said, right_captions, same_thing
from makeavideo.training.checkpoints import checkpoints, read_parts
from makeavideo.training.processes import Share, lost_in_one_sentence
from makeavideo.training.progress import RunBar, Watch
from makeavideo.training.sharded import outermost_blocks
from makeavideo.training.stages import STAGES
from makeavideo.training.stages import clip as clip_stage
from makeavideo.training.trainer import Stopped, train
from tiny_training import everything_of_the_decoder, recipe_of, same, settings

CPU = torch.device("cpu")
ALONE = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
TESTS = Path(__file__).parent
PROGRAM = """
import json, os, shutil, sys
import torch, torch.distributed as dist
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_training_processes import contrastive
from tiny_training import Said, recipe_of
from makeavideo.training.__main__ import main
from makeavideo.training.checkpoints import checkpoints
from makeavideo.training.processes import begin_processes, place
from makeavideo.training.stages import decoder
from makeavideo.training.trainer import train
from makeavideo.training.train_plan import forget

class Losses(Said):
    def __init__(self):
        super().__init__()
        self.losses = []
    def log(self, step, loss, rate):
        self.losses.append(loss)

folder = Path(sys.argv[1])
work = json.loads((folder / "work.json").read_text())
decoder.SHEET_STEPS = 3
begin_processes(3)
rank, world = place()
loss, gradients = contrastive(work["clip"], rank, world)
for one in (loss, *gradients):
    dist.all_reduce(one)
told = {{"clip": [(one / world).tolist() for one in (loss, *gradients)]}}
for name, recipe in work["runs"].items():
    watch = Losses()
    train(recipe_of(recipe), watch=watch)
    forget()
    told[name] = watch.losses
if rank == 0:
    shutil.rmtree(checkpoints(Path("divided"))[-1])
train(recipe_of(work["runs"]["divided"]), resume=True, watch=Losses())
forget()
told["disk"] = sorted(path.name for path in Path.cwd().glob("*"))
(folder / f"told-{{rank}}.json").write_text(json.dumps(told))
main([str(folder / "recipe.yaml")])
"""


def contrastive(values: dict, rank: int, world: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """(loss, gradients) of this process's part of a batch of four pictures."""
    clip_stage.augment = lambda pixels, generator: (pixels.flip(-1) * 0.9).clamp(-1, 1)
    torch.manual_seed(0)
    stage = STAGES["clip"](recipe_of(values), CPU)
    rows = range(4)[rank * 4 // world : (rank + 1) * 4 // world]
    samples = [stage.dataset[(row, row)] for row in rows]
    batch = {key: [sample[key] for sample in samples] for key in ("caption", "words")}
    batch["index"] = torch.tensor([sample["index"] for sample in samples])
    batch["pixels"] = torch.stack([sample["pixels"] for sample in samples])
    loss = stage.loss(stage.network, batch, torch.Generator())
    loss.backward()
    return loss.detach(), [p.grad for p in stage.network.parameters() if p.grad is not None]


@pytest.fixture(scope="module")
def two(training_data, tmp_path_factory):
    """(folder, what each process told, the work) of two launches, as of two machines; the folder holds what each of
    them has on its disk."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "data").mkdir()
    values = everything_of_the_decoder(folder / "data")
    adam = {"learning_rate": 2e-3, "warmup_steps": 0, "ema_decay": 0.5}
    values |= {"optim": adam, "log_every": 1, "trackers": []}
    values |= {"steps": 3, "sample_every": 2, "checkpoint_steps": 2, "batch_size": 2}
    runs = {name: {**values, "output": name, "shard": name == "divided"} for name in ("copied", "divided")}
    work = {"runs": runs, "clip": settings(folder, training_data, "clip")}
    (folder / "work.json").write_text(json.dumps(work))
    (folder / "program.py").write_text(PROGRAM.format(tests=str(TESTS)))
    own = settings(folder, training_data, "sr-low-image") | {"steps": 1, "batch_size": 2, "output": "run"}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(own | {"shared_disk": False}))
    started = [launched(folder, rank, port) for port in [free_port()] for rank in range(2)]
    said = [process.communicate(timeout=400)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said[0][-3000:] + said[1][-3000:]
    return folder, [json.loads((folder / f"told-{rank}.json").read_text()) for rank in range(2)], work


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def launched(folder: Path, rank: int, port: int) -> subprocess.Popen:
    call = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node_rank", str(rank)]
    call += ["--master_addr", "127.0.0.1", "--master_port", str(port)]
    disk = folder / f"machine-{rank}"
    disk.mkdir()
    call += [str(folder / "program.py"), str(folder)]
    return subprocess.Popen(call, cwd=disk, env=ALONE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_negatives_are_those_of_all_processes(two, monkeypatch):
    """Loss and gradients are those of one process with the whole batch."""
    monkeypatch.setattr(clip_stage, "augment", clip_stage.augment)
    loss, gradients = contrastive(two[2]["clip"], 0, 1)
    for made, expected in zip(two[1][0]["clip"], (loss, *gradients), strict=True):
        assert torch.allclose(torch.tensor(made), expected, atol=1e-6)
    assert sum(float(gradient.abs().sum()) > 0 for gradient in gradients) > 5


def near(one, other) -> bool:
    return torch.allclose(torch.as_tensor(one), torch.as_tensor(other), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_divided_network_learns_as_a_copied_one(two):
    """FSDP2: the loss of every step, samples in between; checkpoint, export and sheets are whole."""
    folder, told, _ = two
    assert len(set(told[0]["copied"])) == 3 and told[0] == told[1] | {"disk": told[0]["disk"]}
    assert near(told[0]["copied"], told[0]["divided"]), told[0]
    copied, divided = (newest(folder / "machine-0" / name) for name in ("copied", "divided"))
    assert copied["model"].keys() == divided["model"].keys()
    assert all(near(weight, divided["model"][name]) for name, weight in copied["model"].items())
    for part in ("average", "optimizer"):
        assert copied[part].keys() == divided[part].keys()
    means = [part["average"]["shadow_params"] for part in (copied, divided)]
    assert all(near(one, other) for one, other in zip(*means, strict=True))
    for name in ("copied", "divided"):
        run = folder / "machine-0" / name
        assert (run / "final" / "decoder" / "config.json").is_file()
        assert {sheet.stem for sheet in (run / "samples").glob("*.png")} == {"step-00000002", "step-00000003"}


def newest(run: Path) -> dict:
    return read_parts(checkpoints(run)[-1])


@pytest.mark.slow
def test_only_the_first_process_has_the_checkpoints(two):
    """The second one saw no file of them, and went on from what the first one read."""
    folder, told, _ = two
    assert told[0]["disk"] == ["copied", "divided"] and told[1]["disk"] == []
    assert checkpoints(folder / "machine-0" / "divided")[-1].name == "step-00000003"


@pytest.mark.slow
def test_machines_with_disks_of_their_own(two):
    """Both hold all that a run keeps."""
    runs = [two[0] / f"machine-{rank}" / "run" for rank in range(2)]
    assert all((run / "final" / "super_resolution_low" / "config.json").is_file() for run in runs)
    assert same(*map(newest, runs))


def test_each_process_makes_as_many_rows():
    assert Share(5).rows == [0, 1, 2, 3, 4]
    assert torch.equal(Share(5).joined(torch.arange(5)), torch.arange(5))


def test_captions_of_other_processes_are_right_where_their_words_are_said():
    """As one process with all of them would say: the table of two halves is that of the whole."""
    known = [Wordings((), (), words, "", concept) for words, concept in SAID]
    captions = ["pet", "dog\npet", "rocket", "cat", "a thing that nobody says"]
    whole = Said.of(known, captions, range(5))
    halves = [Said.of(known[:2], captions[:2], range(2)), Said.of(known[2:], captions[2:], range(2, 5))]
    joined = Said.joined(halves)
    for table in (same_thing, right_captions):
        parts = [table(half, joined) for half in halves]
        assert (torch.cat([torch.from_numpy(part) for part in parts]) == torch.from_numpy(table(whole, whole))).all()
    right = right_captions(whole, whole)
    assert right[:, 0].tolist() == [True, True, False, True, False]  # "pet"
    assert right[:, 1].tolist() == [False, True, False, False, False]  # "dog" and "pet"
    assert right[0].tolist() == [True, False, False, True, False] and right[3, 0]
    assert same_thing(whole, whole)[0].tolist() == [True, False, False, True, False]


SAID = [(("cat", "pet"), "cat"), (("dog", "pet"), ""), (("rocket",), ""), (("cat", "pet", "tail"), "cat"), ((), "")]


def test_networks_without_attention_are_divided_too():
    blocks = {"down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"], "block_out_channels": [32]}
    network = UNet2DModel(layers_per_block=1, add_attention=False, **blocks)
    assert {type(block).__name__ for block in outermost_blocks(network)} == {
        "DownBlock2D",
        "UpBlock2D",
        "ResnetBlock2D",
    }


def test_a_process_that_is_lost_is_one_sentence(monkeypatch):
    monkeypatch.setattr(processes, "place", lambda: (0, 2))
    for error in (
        RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer"),
        dist.DistBackendError("NCCL"),
    ):
        with pytest.raises(UserError, match="Another process of the training was lost"), lost_in_one_sentence():
            raise error
    with pytest.raises(RuntimeError, match="of another kind"), lost_in_one_sentence():
        raise RuntimeError("of another kind")


def test_a_launcher_that_is_killed_ends_its_processes(training_data, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    values = settings(tmp_path, training_data, "sr-low-image") | {"steps": 3, "trackers": []}
    monkeypatch.setattr(processes, "LAUNCHER", -1)
    with pytest.raises(Stopped, match="Stopped at step 1 of 3"):
        train(recipe_of(values))
    monkeypatch.setattr(processes, "LAUNCHER", os.getppid())
    train(recipe_of(values), resume=True)


@pytest.mark.parametrize("by_launcher", [True, False])
def test_a_signal_that_a_launcher_hands_on_is_the_same_one(by_launcher, tmp_path, monkeypatch):
    """A terminal's Ctrl-C and SLURM's warning come to every process, and once more from its launcher."""
    monkeypatch.setattr(os, "environ", dict(os.environ) | ({"TORCHELASTIC_RUN_ID": "none"} if by_launcher else {}))
    watch = Watch()
    ends = contextlib.nullcontext() if by_launcher else pytest.raises(KeyboardInterrupt)
    with (
        watch.follow(recipe_of(settings(tmp_path, tmp_path, "clip")), 0, False),
        ends,
    ):
        signal.raise_signal(signal.SIGTERM)
        assert watch.stop
        signal.raise_signal(signal.SIGTERM)


def test_one_process_of_a_machine_prints_the_lines_of_a_run(tmp_path, capsys):
    recipe = recipe_of(settings(tmp_path, tmp_path, "clip"))
    for show in (True, False):
        watch = RunBar()
        with watch.follow(recipe, 0, show):
            watch.log(3, 0.5, 2.0)
    assert capsys.readouterr().out.count("step 3 loss") == 1
