"""A plan: a whole cascade from a folder of pictures and one of clips, stopped and gone on with, within its hours."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file

from conftest import interruptible, tiny_text_encoder
from makeavideo import UserError
from makeavideo.data.pack import pack
from makeavideo.sampling_config import SamplingConfig
from makeavideo.training.checkpoints import checkpoints
from makeavideo.training.plan import Wishes, load_jobs
from makeavideo.training.recipe import StageName, load_recipe
from makeavideo.training.stages import STAGES
from makeavideo.training.train_plan import Clock, seconds_for, train_path

RECIPES = Path(__file__).parents[1] / "recipes"
TINY = RECIPES / "tiny"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """pictures/: four with captions; clips/: two; packed/: the same in shards of 48 pixels; text/: an encoder."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in ("pictures", "clips"):
        (folder / name).mkdir()
    for index, word in enumerate(("cat", "rocket", "red", "blue")):
        cloud = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).resize((64, 64), Image.Resampling.BICUBIC)
        cloud.save(folder / "pictures" / f"{word}.png")
        (folder / "pictures" / f"{word}.txt").write_text(f"a {word}\n")
        if index < 2:
            frames = [cloud.crop((i, 0, i + 40, 40)) for i in range(20)]
            frames[0].save(folder / "clips" / f"{word}.gif", save_all=True, append_images=frames[1:], duration=50)
    pack(folder, folder.parent / "packed", 48)
    shutil.move(folder.parent / "packed", folder / "packed")
    tiny_text_encoder(folder / "text")
    return folder


NARROW = ("network.block_out_channels=[16, 24]", "network.norm_num_groups=8")


def small(data: Path, *more: str) -> tuple[str, ...]:
    """Two steps a stage, narrow networks; all else as recipes/tiny has it."""
    return (
        *(f"{stage}:{key}" for stage in ("decoder-image", "sr-low-image", "sr-high-image") for key in NARROW),
        "decoder-image:network.attention_head_dim=8",
        f"text_encoder={data / 'text'}",
        "steps=2",
        "batch_size=2",
        "sample_every=0",
        "log_every=1",
        "decoder-video:data.stills_per_step=2",
        *more,
    )


BLOCKED = """
import runpy, sys
for name in {blocked!r}:
    sys.modules[name] = None
sys.argv = ["makeavideo.training", *sys.argv[1:]]
runpy.run_module("makeavideo.training", run_name="__main__")
"""


def module(arguments: list[str], blocked: tuple[str, ...] = (), **options) -> subprocess.Popen:
    """`python -m makeavideo.training` on a machine that lacks these packages."""
    command = [sys.executable, "-c", BLOCKED.format(blocked=blocked), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, **options)


def arguments(data: Path, model: Path, *more: str, overrides: tuple[str, ...] = ()) -> list[str]:
    sets = [word for override in (*small(data), *overrides) for word in ("--set", override)]
    folders = ["--pictures", str(data / "packed" / "pictures"), "--clips", str(data / "packed" / "clips")]
    return [str(TINY), *folders, "-o", str(model), *sets, *more]


@pytest.mark.slow
def test_one_command_makes_a_cascade_without_av_gradio_typer_and_mostly_without_opencv(data, tmp_path):
    """Two calls: the first one, without OpenCV, up to the interpolator's turn; the second one does what is left."""
    from makeavideo.pipeline import MakeAVideoPipeline

    model = tmp_path / "model"
    others = [stage for stage in ("clip", "prior", "decoder-image", "decoder-video", "sr-low-image", "sr-high-image")]
    only = [word for name in others for word in ("--only", name)]
    process = module(arguments(data, model, *only), ("av", "gradio", "typer", "cv2"))
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "no pipeline yet: interpolator, sr-low-video not finished" in out and not model.exists()
    runs = tmp_path / "model-runs"
    before = {name: (runs / name / "final").stat().st_mtime_ns for name in others}

    process = module(arguments(data, model), ("av", "gradio", "typer"))
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert f"trained: {model}; try it: make-a-video generate" in out
    assert "decoder-image begins" not in out and "interpolator is done" in out
    assert {name: (runs / name / "final").stat().st_mtime_ns for name in others} == before
    recipe = load_recipe(runs / "decoder-video" / "recipe.yaml")
    assert recipe.init_from == str(runs / "decoder-image" / "final" / "decoder")
    assert recipe.data.roots == [str(data / "packed" / "clips")]
    assert recipe.data.stills == [str(data / "packed" / "pictures")]
    pipe = MakeAVideoPipeline.load(model)
    pipe.set_progress_bar_config(disable=True)
    frames = pipe("a red cat", num_frames=6, size=384, num_inference_steps=2, output_type="pt").frames
    assert frames.shape == (1, 6, 3, 384, 384) and frames.isfinite().all()


@pytest.mark.slow
def test_ctrl_c_and_the_same_command_go_on_to_the_same_bits(data, tmp_path):
    """SIGINT in the middle of the second stage; the finished first one is left alone."""
    names = ("clip", "decoder-image")
    only = [word for name in names for word in ("--only", name)]
    more = ("decoder-image:steps=120", "decoder-image:checkpoint_minutes=100")

    def run(model: Path) -> subprocess.Popen:
        return module(arguments(data, model, *only, overrides=more), preexec_fn=interruptible)

    process = run(tmp_path / "cut")
    line = ""
    while not line.startswith("decoder-image step 5 "):
        line = process.stdout.readline()
        assert line, process.stderr.read()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=600)
    stopped = re.fullmatch(
        r"make-a-video: decoder-image stopped at step (\d+) of 120: the same command goes on\.\n",
        err.splitlines(True)[-1],
    )
    assert process.returncode == 2 and stopped, err
    assert "Stopping after this step" in out
    cut = tmp_path / "cut-runs"
    assert [folder.name for folder in checkpoints(cut / "decoder-image")] == [f"step-{int(stopped[1]):08d}"]
    assert (cut / "clip" / "final").is_dir() and not (cut / "decoder-image" / "final").exists()

    process = run(tmp_path / "cut")
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "clip begins" not in out and f"decoder-image step {int(stopped[1]) + 1} of 120" in out
    process = run(tmp_path / "whole")
    assert process.wait(timeout=600) == 0
    for name in ("clip/final/image_encoder/model", "decoder-image/final/decoder/diffusion_pytorch_model"):
        one, other = (load_file(tmp_path / f"{run}-runs" / f"{name}.safetensors") for run in ("cut", "whole"))
        assert one.keys() == other.keys() and all((one[key] == other[key]).all() for key in one)


def test_hours_are_kept_and_fixed_in_the_run_s_recipe(data, tmp_path):
    """Two stages share 24 seconds one to three; their schedules are made for the steps that fit."""
    wishes = {
        "overrides": small(data),
        "only": ("clip", "sr-low-image"),
        "pictures": (str(data / "pictures"),),
        "output": str(tmp_path / "model"),
    }
    plan = yaml.safe_load((TINY / "plan.yaml").read_text())
    for stage in plan["stages"]:
        stage["minutes"] = {"clip": 1, "sr-low-image": 3}.get(stage["recipe"], 1)
    shutil.copytree(TINY, tmp_path / "plan")
    (tmp_path / "plan" / "plan.yaml").write_text(yaml.safe_dump(plan))
    began = time.monotonic()
    text = train_path(tmp_path / "plan", Wishes(hours=24 / 3600, **wishes))
    taken = time.monotonic() - began
    assert "no pipeline yet" in text
    assert 12 < taken < 60  # other programs may take the machine meanwhile
    runs = tmp_path / "model-runs"
    recipes = {name: load_recipe(runs / name / "recipe.yaml") for name in wishes["only"]}
    for name, recipe in recipes.items():
        assert recipe.steps > 10 and recipe.optim.warmup_steps <= recipe.steps // 10
        assert checkpoints(runs / name)[-1].name == f"step-{recipe.steps:08d}"
    assert all(len(list((runs / name / "logs").rglob("events*"))) == 1 for name in recipes)  # none of the trial
    used = json.loads((runs / "time.json").read_text())
    assert used.keys() == set(wishes["only"]) and used["sr-low-image"] > used["clip"]

    # a stage that is begun keeps its number of steps, whatever the budget is now
    shutil.rmtree(runs / "sr-low-image" / "final")
    train_path(tmp_path / "plan", Wishes(hours=5.0, **wishes))
    assert load_recipe(runs / "sr-low-image" / "recipe.yaml") == recipes["sr-low-image"]


def test_what_one_stage_leaves_the_others_share(data, tmp_path):
    wishes = Wishes(pictures=(str(data / "pictures"),), clips=(str(data / "clips"),), output=str(tmp_path / "model"))
    jobs = load_jobs(TINY, wishes).stages
    total = sum(job.minutes for job in jobs)
    clock = Clock(tmp_path / "time.json")
    assert seconds_for(jobs[0], jobs, 1.0, clock) == pytest.approx(3600 * jobs[0].minutes / total)
    (jobs[0].output / "final").mkdir(parents=True)
    clock.used["clip"] = 600.0
    rest = total - jobs[0].minutes
    assert seconds_for(jobs[2], jobs, 1.0, clock) == pytest.approx(3000 * jobs[2].minutes / rest)
    clock.used["clip"] = 4000.0
    assert seconds_for(jobs[2], jobs, 1.0, clock) == 0


@pytest.mark.parametrize("folder", sorted(path.parent for path in RECIPES.glob("*/plan.yaml")), ids=lambda p: p.name)
def test_the_repository_s_plans_fit_their_recipes(folder, data, tmp_path):
    wishes = Wishes(pictures=(str(data / "pictures"),), clips=(str(data / "clips"),), output=str(tmp_path / "model"))
    jobs = load_jobs(folder, wishes)
    names = [job.name for job in jobs.stages]
    assert set(names) == {path.stem for path in folder.glob("*.yaml")} - {"plan"}  # none is forgotten
    for job in jobs.stages:
        assert job.recipe.data.roots == [str(data / ("clips" if job.recipe.video else "pictures"))]
        assert job.recipe.data.split is None
        assert (job.recipe.init_from is None) == (load_recipe(folder / f"{job.name}.yaml").init_from is None)
        for need in job.needs:
            assert names.index(need) < names.index(job.name)
    assert set(STAGES) == set(get_args(StageName))


def write(folder: Path, stages: list[dict], **more) -> Path:
    folder.mkdir(exist_ok=True)
    for path in TINY.glob("*.yaml"):
        shutil.copy(path, folder)
    (folder / "plan.yaml").write_text(yaml.safe_dump({"runs": "runs/x", "model": "runs/m", "stages": stages, **more}))
    return folder


CLIP = {"recipe": "clip", "minutes": 1}
TOWER = {"image_encoder": "clip/image_encoder"}


@pytest.mark.parametrize(
    "stages, wishes, sentence",
    [
        ([CLIP, {"recipe": "prior"}], {}, "lacks the key stages.1.minutes"),
        ([{**CLIP, "hours": 1}], {}, "unknown key stages.0.hours"),
        ([{**CLIP, "minutes": -1}], {}, "wrong value for stages.0.minutes"),
        ([], {}, "wrong value for stages"),
        ([CLIP, CLIP], {}, "has the stage clip twice"),
        ([{**CLIP, "recipe": "clap"}], {}, "clap.yaml cannot be read"),
        ([{"recipe": "prior", "minutes": 1, "from": TOWER}, CLIP], {}, "does not come before it"),
        ([CLIP, {"recipe": "prior", "minutes": 1, "from": {"tower": "clip"}}], {}, "unknown key tower"),
        ([CLIP], {"only": ("decoder",)}, "has no stage decoder: it has clip"),
        ([CLIP], {"start": "decoder"}, "has no stage decoder"),
        ([CLIP], {"start": "clip", "only": ("clip",)}, "exclude each other"),
        ([CLIP], {"hours": 0.0}, "above 0"),
        ([CLIP], {"hours": float("nan")}, "above 0"),
        ([CLIP], {"overrides": ("stepz=1",)}, "unknown key stepz"),
        ([CLIP], {"overrides": ("prior:steps=1",)}, "no stage prior"),
        ([CLIP], {"overrides": ("output=x",)}, "use -o"),
        ([CLIP], {"output": None}, "name it, -o my-model"),
        ([CLIP], {"pictures": ("nowhere",)}, "data.roots of clip is nowhere, which does not exist"),
        ([CLIP, {"recipe": "prior", "minutes": 1, "from": TOWER}], {"only": ("prior",)}, "clip, which is not finished"),
        ([CLIP], {"output": "."}, "holds something else than a pipeline"),
        (
            [CLIP, {"recipe": "prior", "minutes": 1, "from": {**TOWER, "init_from": "clip"}}],
            {},
            "prior: The prior always begins from scratch",
        ),
        (
            [CLIP, {"recipe": "decoder-image", "minutes": 1, "from": {**TOWER, "init_from": "clip"}}],
            {},
            "decoder-image: The recipe has network and init_from",
        ),
    ],
)
def test_a_plan_is_refused_with_one_sentence(data, tmp_path, monkeypatch, stages, wishes, sentence):
    monkeypatch.chdir(tmp_path)
    folder = write(tmp_path / "plan", stages)
    wishes = {"pictures": (str(data / "pictures"),), "output": str(tmp_path / "model"), **wishes}
    with pytest.raises(UserError, match=re.escape(sentence)) as error:
        load_jobs(folder, Wishes(**wishes))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "model-runs").exists()


def test_a_recipe_that_starts_from_a_run_that_the_plan_does_not_name(tmp_path):
    folder = write(tmp_path / "plan", [CLIP, {"recipe": "prior", "minutes": 1}], runs="runs/tiny")
    with pytest.raises(
        UserError, match=r"has image_encoder: runs/tiny/clip/final/image_encoder: say in .* under `from`"
    ):
        load_jobs(folder, Wishes())


@pytest.mark.parametrize(
    "sampling, sentence",
    [({"sinks": True}, "sampling.sinks is unknown"), ({"context": 0}, "sampling.context 0 is not possible")],
)
def test_how_a_plan_s_model_is_run(tmp_path, sampling, sentence):
    folder = write(tmp_path / "plan", [CLIP], sampling=sampling)
    with pytest.raises(UserError, match=rf"The plan .*plan\.yaml: {sentence}"):
        load_jobs(folder, Wishes())


def test_the_emoji_plan_runs_its_model_as_the_included_one():
    plan = yaml.safe_load((RECIPES / "emoji" / "plan.yaml").read_text())
    index = json.loads((RECIPES.parent / "models" / "emoji" / "model_index.json").read_text())
    assert SamplingConfig(**plan["sampling"]).as_dict() == index["sampling"]


def test_a_run_of_other_pictures_is_not_gone_on_with(data, tmp_path):
    wishes = {"overrides": small(data), "only": ("clip",), "output": str(tmp_path / "model")}
    train_path(TINY, Wishes(pictures=(str(data / "pictures"),), **wishes))
    with pytest.raises(UserError, match=r"was begun with data.roots .*packed.* choose another folder|was begun with"):
        train_path(TINY, Wishes(pictures=(str(data / "packed" / "pictures"),), **wishes))


def test_a_recipe_alone_and_options_of_the_other_kind(data, tmp_path):
    own = [override for override in small(data) if ":" not in override.partition("=")[0]]
    overrides = (*own, f"data.roots=[{data / 'pictures'}]", f"output={tmp_path / 'clip'}")
    assert train_path(TINY / "clip.yaml", Wishes(overrides)) == f"trained: {tmp_path / 'clip' / 'final'}"
    with pytest.raises(UserError, match="already holds a run: add --resume"):
        train_path(TINY / "clip.yaml", Wishes(overrides))
    with pytest.raises(UserError, match="is one recipe: give the folder of a plan"):
        train_path(TINY / "clip.yaml", Wishes(overrides, hours=1.0))
    with pytest.raises(UserError, match="goes on by itself: leave out --resume"):
        train_path(TINY, Wishes(), resume=True)


def test_the_command_refuses_before_torch_is_imported(data, tmp_path):
    """Both entries: a mistake is told in a moment, in one line, with exit code 2."""
    for name in ("makeavideo train", "makeavideo.training"):
        module_name, *words = name.split()
        command = [sys.executable, "-X", "importtime", "-m", module_name, *words, str(TINY), "--only", "decoder"]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ}, timeout=600)
        lines = done.stderr.splitlines()
        assert (
            done.returncode == 2 and lines[-1].startswith("make-a-video: The plan") and "no stage decoder" in lines[-1]
        )
        assert not any(line.rstrip().endswith(" torch") for line in lines)
