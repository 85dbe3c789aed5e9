"""All stages, really trained for a few steps with tiny networks on files made here; resume after SIGKILL."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from conftest import tiny_text_encoder
from makeavideo import UserError
from makeavideo.training.assemble import assemble
from makeavideo.training.recipe import load_recipe
from makeavideo.training.stages import draw_masks
from makeavideo.training.trainer import StepKeys, checkpoints, collate, train

DECODER = {
    "class": "UNet2DConditionModel",
    "space_to_depth": 4,
    "sample_size": 4,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ["DownBlock2D", "SimpleCrossAttnDownBlock2D"],
    "up_block_types": ["SimpleCrossAttnUpBlock2D", "UpBlock2D"],
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "attention_head_dim": 8,
    "cross_attention_dim": 8,
    "encoder_hid_dim": 8,
    "encoder_hid_dim_type": "image_proj",
    "addition_embed_type": "image",
}
SUPER_RESOLUTION = {
    "class": "UNet2DModel",
    "space_to_depth": 8,
    "sample_size": 8,
    "in_channels": 6,
    "out_channels": 3,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "add_attention": False,
    "class_embed_type": "timestep",
}
CLIP = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "patch_size": 8,
    "projection_dim": 8,
}


def disc(colour: str, x: int, size: int) -> Image.Image:
    picture = Image.new("RGB", (size, size), "white")
    ImageDraw.Draw(picture).ellipse((x, size // 4, x + size // 2, 3 * size // 4), fill=colour)
    return picture


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """images/, clips/ and a text encoder."""
    root = tmp_path_factory.mktemp("world")
    (root / "images").mkdir()
    (root / "clips").mkdir()
    for number, colour in enumerate(("red", "blue", "green", "orange")):
        disc(colour, 8, 64).save(root / "images" / f"{colour}.png")
        (root / "images" / f"{colour}.txt").write_text(f"a {colour} rocket\nthe {colour}\n")
        frames = [disc(colour, x, 64) for x in range(0, 32, 2)]
        frames[0].save(root / "clips" / f"{number}.gif", save_all=True, append_images=frames[1:], duration=40, loop=0)
    (root / "images" / "broken.png").write_bytes(b"not a picture")
    (root / "images" / "broken.txt").write_text("a cat\n")
    (root / "clips" / "broken.gif").write_bytes(b"not a clip")
    tiny_text_encoder(root / "text")
    return root


def write_recipe(world: Path, runs: Path, stage: str, **changes) -> Path:
    clips = stage in ("decoder-video", "interpolator", "sr-low-video")
    size = 64 if stage.startswith("sr") else 16
    values = {
        "stage": stage,
        "output": str(runs / stage),
        "data": {"roots": [str(world / ("clips" if clips else "images"))], "size": size, "num_frames": 4},
        "steps": 3,
        "batch_size": 2,
        "mixed_precision": "no",
        "log_every": 1,
        "sample_every": 3,
        "text_encoder": str(world / "text"),
        "optim": {"learning_rate": 1e-3, "warmup_steps": 1, "ema_decay": 0.5},
    }
    tower = str(runs / "clip/final/image_encoder")
    extra = {
        "clip": {"network": CLIP},
        "prior": {
            "network": {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1},
            "image_encoder": tower,
        },
        "decoder-image": {"network": DECODER, "image_encoder": tower},
        "decoder-video": {"init_from": str(runs / "decoder-image/final/decoder"), "image_encoder": tower},
        "interpolator": {"init_from": str(runs / "decoder-video/final/decoder"), "image_encoder": tower},
        "sr-low-image": {"network": SUPER_RESOLUTION},
        "sr-low-video": {"init_from": str(runs / "sr-low-image/final/super_resolution_low")},
        "sr-high-image": {"network": SUPER_RESOLUTION},
    }[stage]
    if stage == "sr-high-image":
        values["data"] |= {"size": 96, "crop": 48}
    if stage == "decoder-video":
        values["data"] |= {"stills": [str(world / "images")], "stills_per_step": 2}
    path = runs / f"{stage}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**values, **extra, **changes}))
    return path


@pytest.fixture(scope="module")
def runs(world, tmp_path_factory) -> Path:
    """Every stage trained for three steps, each from what the earlier ones left."""
    runs = tmp_path_factory.mktemp("runs")
    for stage in (
        "clip",
        "prior",
        "decoder-image",
        "decoder-video",
        "interpolator",
        "sr-low-image",
        "sr-low-video",
        "sr-high-image",
    ):
        final = train(load_recipe(write_recipe(world, runs, stage)))
        assert final == runs / stage / "final"
    return runs


def test_every_stage_leaves_network_samples_checkpoint_and_log(runs):
    components = {
        "clip": "image_encoder",
        "prior": "prior",
        "decoder-image": "decoder",
        "decoder-video": "decoder",
        "interpolator": "interpolator",
        "sr-low-image": "super_resolution_low",
        "sr-low-video": "super_resolution_low",
        "sr-high-image": "super_resolution_high",
    }
    for stage, component in components.items():
        assert list((runs / stage / "final" / component).glob("*.safetensors")), stage
        assert len(checkpoints(runs / stage)) == 1
        assert list((runs / stage / "logs").rglob("events*"))
        if stage not in ("clip", "prior"):
            with Image.open(next((runs / stage / "samples").glob("*.png"))) as sheet:
                assert sheet.width > 16
    weights = load_file(next((runs / "interpolator/final/interpolator").glob("*.safetensors")))
    assert weights["conv_in.weight"].shape[1] == (3 + 4) * 16
    assert any("temporal" in key for key in weights)
    assert not any("temporal" in key for key in load_file(next((runs / "decoder-image/final/decoder").glob("*.saf*"))))


def test_the_stages_join_to_a_pipeline_that_makes_a_video(runs, world, tmp_path):
    from makeavideo.pipeline import MakeAVideoPipeline

    assemble(runs, tmp_path / "model", str(world / "text"))
    pipe = MakeAVideoPipeline.load(tmp_path / "model")
    pipe.set_progress_bar_config(disable=True)
    frames = pipe("a red rocket", num_frames=17, num_inference_steps=2, output_type="pt").frames
    assert frames.shape == (1, 17, 3, 192, 192) and frames.isfinite().all()


def test_assemble_names_the_stage_that_is_missing(runs, world, tmp_path):
    shutil.copytree(runs, tmp_path / "runs", ignore=shutil.ignore_patterns("checkpoints", "interpolator"))
    with pytest.raises(UserError, match="interpolator"):
        assemble(tmp_path / "runs", tmp_path / "model", str(world / "text"))
    assert not (tmp_path / "model").exists()


def test_skipped_files_are_named(runs, world, capsys):
    recipe = load_recipe(write_recipe(world, runs, "sr-low-image", steps=4), ["output=" + str(runs / "skipping")])
    train(recipe)
    assert "broken.png" in capsys.readouterr().out


def test_a_folder_with_a_run_is_not_overwritten(runs, world):
    with pytest.raises(UserError, match="--resume"):
        train(load_recipe(write_recipe(world, runs, "sr-low-image")))


def test_missing_network_to_start_from(world, tmp_path):
    with pytest.raises(UserError, match="There is no network to start from"):
        train(load_recipe(write_recipe(world, tmp_path, "sr-low-video")))


def test_learning_a_picture_lowers_the_loss(world, tmp_path):
    """Overfits four pictures: the mean loss of the last steps is below that of the first."""
    path = write_recipe(world, tmp_path, "sr-low-image", steps=60, batch_size=4, sample_every=1000)
    train(load_recipe(path, ["optim.learning_rate=0.003"]))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(next((tmp_path / "sr-low-image/logs").rglob("events*")).parent))
    events.Reload()
    losses = [event.value for event in events.Scalars("loss")]
    assert len(losses) == 60
    assert np.mean(losses[-15:]) < 0.8 * np.mean(losses[:15])


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(next((run / "final").rglob("*.safetensors")))


def test_resume_after_sigkill_is_exact(world, tmp_path):
    """A run killed after its second checkpoint and resumed ends with the very bits of one that was never stopped."""
    changes = {"steps": 8, "checkpoint_steps": 2, "sample_every": 1000, "gradient_accumulation": 2}
    whole = write_recipe(world, tmp_path / "whole", "sr-low-image", **changes)
    killed = write_recipe(world, tmp_path / "killed", "sr-low-image", **changes)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "makeavideo.cli", "train"]
    subprocess.run([*command, str(whole)], check=True, env=environment, timeout=300, capture_output=True)

    process = subprocess.Popen(
        [*command, str(killed)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    output = tmp_path / "killed" / "sr-low-image"
    deadline = time.monotonic() + 240
    while len(checkpoints(output)) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    shutil.rmtree(output / "final", ignore_errors=True)  # it may have been quicker than the signal
    for late in checkpoints(output)[2:]:
        shutil.rmtree(late)
    (output / "checkpoints" / "partial-00000099").mkdir()
    assert checkpoints(output)
    subprocess.run([*command, str(killed), "--resume"], check=True, env=environment, timeout=300, capture_output=True)

    expected, found = weights(tmp_path / "whole/sr-low-image"), weights(output)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert [folder.name for folder in checkpoints(output)] == ["step-00000006", "step-00000008"]
    assert not list((output / "checkpoints").glob("partial-*"))


def test_two_processes_share_the_order_of_one(world, tmp_path):
    recipe = load_recipe(write_recipe(world, tmp_path, "sr-low-image", steps=6, batch_size=2))
    halves = [list(StepKeys(recipe, 7, 0, rank, 2)) for rank in (0, 1)]
    both = [key[:2] for step in zip(*halves, strict=True) for part in step for key in part]
    one = [key[:2] for part in StepKeys(recipe.model_copy(update={"batch_size": 4}), 7, 0, 0, 1) for key in part]
    assert both == one
    assert sorted(index for index, _ in one[:7]) == list(range(7))
    later = list(StepKeys(recipe, 7, 2, 0, 2))
    assert later == halves[0][2:]


def test_collate_joins_skipped():
    sample = {"pixels": torch.zeros(1, 3, 2, 2), "key": "a"}
    batch = collate([{**sample, "skipped": [("x", "bad")]}, {**sample, "skipped": []}])
    assert batch["pixels"].shape == (2, 1, 3, 2, 2) and batch["skipped"] == [("x", "bad")]


def test_masks_cover_interpolation_extrapolation_and_joining():
    masks = draw_masks(400, 16, torch.Generator().manual_seed(0))
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    assert (masks.sum(1) >= 1).all() and (masks.sum(1) < 16).all()
    kinds = {tuple(row.tolist()) for row in masks}
    every_fifth = tuple(float(i % 5 == 0) for i in range(16))
    ends = tuple(float(i in (0, 15)) for i in range(16))
    assert every_fifth in kinds and ends in kinds
    assert 0.4 < np.mean([tuple(row.tolist()) == every_fifth for row in masks]) < 0.6


RECIPES = sorted((Path(__file__).parents[1] / "recipes").rglob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_recipes_of_the_repository_load(path):
    load_recipe(path)


@pytest.mark.parametrize(
    "text, words",
    [
        ("stage: clip\noutput: x\nsteps: 3\nbatch_size: 2\ndata: {roots: [a], size: 8, sise: 9}", "data.sise"),
        ("stage: clip\noutput: x\nsteps: many\nbatch_size: 2\ndata: {roots: [a], size: 8}", "steps"),
        ("stage: clip\noutput: x\nbatch_size: 2\ndata: {roots: [a], size: 8}", "steps"),
        ("stage: clap\noutput: x\nsteps: 3\nbatch_size: 2\ndata: {roots: [a], size: 8}", "stage"),
        ("stage: [", "not valid YAML"),
        ("just words", "key: value"),
    ],
)
def test_a_wrong_recipe_is_one_sentence_that_names_the_key(text, words, tmp_path):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        load_recipe(tmp_path / "r.yaml")
    assert words in str(error.value) and "\n" not in str(error.value)


def test_overrides(world, tmp_path):
    path = write_recipe(world, tmp_path, "clip")
    assert load_recipe(path, ["steps=77", "optim.learning_rate=0.5"]).optim.learning_rate == 0.5
    for bad, words in (("steps", "no `=`"), ("steps.x=1", "steps"), ("optim.rate=1", "optim.rate")):
        with pytest.raises(UserError, match=words):
            load_recipe(path, [bad])
