"""Ray starts the processes of a run; a plan under two processes, whose hours are theirs together."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from makeavideo.training.checkpoints import checkpoints
from makeavideo.training.recipe import load_recipe
from test_training_plan import arguments
from test_training_plan import data as data  # its pictures, clips and text encoder
from test_training_processes import ALONE
from tiny_training import settings

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]
EXAMPLE = Path(__file__).parents[1] / "examples" / "cluster" / "train_ray.py"


def test_ray_starts_the_processes(training_data, tmp_path):
    pytest.importorskip("ray")
    own = settings(tmp_path, training_data, "sr-low-image") | {"steps": 1, "batch_size": 2, "output": "run"}
    own |= {"trackers": [], "network": {**own["network"], "norm_num_groups": 4}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(own))
    environment = {**ALONE, "RAY_worker_niceness": "0"}  # tests share the cores

    def run(*more: str) -> subprocess.CompletedProcess:
        call = [sys.executable, EXAMPLE, "--address", "local", "--cpu", "--processes", *more]
        return subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400)

    done = run("2", "recipe.yaml")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "final" / "super_resolution_low" / "config.json").is_file()
    assert len(checkpoints(tmp_path / "run")) == 1
    assert (done.stdout + done.stderr).count("trained: ") == 1  # both were one run, not two
    again = run("2", "recipe.yaml")  # what is wrong ends all of them
    assert again.returncode == 2 and "already holds a run" in again.stdout + again.stderr


def test_a_plan_of_two_processes(data, tmp_path):
    """Both take the steps that the first one finds to fit; what is made is said once."""
    call = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "makeavideo"]
    only = ["--only", "clip", "--only", "prior", "--hours", str(6 / 3600)]
    call += ["train", *arguments(data, tmp_path / "model", *only)]
    done = subprocess.run(call, cwd=tmp_path, env=ALONE, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    said = (done.stdout + done.stderr).replace("\n", " ")
    assert said.count("trained: ") == 1 and "no pipeline yet: decoder-image" in said and "deprecated" not in said
    for stage in ("clip", "prior"):
        run = tmp_path / "model-runs" / stage
        steps = load_recipe(run / "recipe.yaml").steps
        assert checkpoints(run)[-1].name == f"step-{steps:08d}" and (run / "final").is_dir()
