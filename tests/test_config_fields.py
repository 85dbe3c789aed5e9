"""Every field of every config of a model, and of recipes, set to what it cannot be: a sentence that names the file."""

import copy
import json
import math
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from makeavideo import UserError, VideoUNet
from makeavideo.loading import load_components
from makeavideo.model_files import NETWORKS, check_model
from makeavideo.pipeline import MakeAVideoPipeline
from makeavideo.training.networks import load_folder, load_network
from makeavideo.training.plan import Wishes, check
from makeavideo.training.recipe import load_recipe
from makeavideo.tryout import run_once

WRONG: list[Any] = [None, "x", [], {}, -1, 0, 10**12, 10**400, 1e308, True, [[[1]]], {"a": {"b": [None]}}, 3.7]
FREE = {"_diffusers_version", "_name_or_path", "transformers_version", "_class_name", "architectures", "dtype"}
"""Nothing is made of what these say."""
RECIPES = Path(__file__).parents[1] / "recipes" / "tiny"
CONFIGS = [f"{name}/config.json" for name in (*NETWORKS, "text_encoder")]
CONFIGS += ["decoder_scheduler/scheduler_config.json", "model_index.json"]


def places(values: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of everything in a json or yaml."""
    items = values.items() if isinstance(values, dict) else enumerate(values[:2]) if isinstance(values, list) else ()
    for key, value in items:
        if key not in FREE:
            yield (*path, key)
            yield from places(value, (*path, key))


def changed(values: Any, path: tuple, value: Any) -> Any:
    values = target = copy.deepcopy(values)
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return values


@pytest.fixture
def model(tiny_model, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def one_sentence(error: UserError, file: Path) -> None:
    said = str(error)
    assert str(file.parent) in said and "\n" not in said and len(said) < 700, said


def load(model: Path, file: Path) -> dict[str, Any]:
    index = check_model(model)
    wanted = index if file.parent == model else {file.parent.name: index[file.parent.name]}
    return load_components(model, wanted, {"default": torch.float32})


def try_all(model: Path, name: str, few: int | None) -> None:
    """few: wrong values of each field; None: all, and what loads nevertheless makes a video."""
    file, rng = model / name, random.Random(name)
    whole, refused = json.loads(file.read_text()), 0
    parts = None if few else MakeAVideoPipeline.load(model).components
    for path in places(whole):
        for value in rng.sample(WRONG, few) if few else WRONG:
            file.write_text(json.dumps(changed(whole, path, value)))
            try:
                found = load(model, file)
                if parts is not None:
                    pipe = MakeAVideoPipeline(**{**parts, **found})
                    pipe.set_progress_bar_config(disable=True)
                    pipe("a red cat", num_frames=6, size=pipe.sizes[-1], num_inference_steps=1)
            except UserError as error:
                refused += 1
                one_sentence(error, file)
            except Exception as error:
                pytest.fail(f"{name}: {path} is {str(value)[:40]}: {type(error).__name__}: {error}")
    assert refused
    file.write_text(json.dumps(whole))
    load(model, file)


@pytest.mark.parametrize("name", CONFIGS[:-1])  # the last one loads whole models: below
def test_a_wrong_value_of_any_field(model, name):
    try_all(model, name, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_every_wrong_value_of_every_field(model, name):
    try_all(model, name, None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("shared_noise", "x"),
        ("shared_noise", 3.7),
        ("guidance", 0.5),
        ("guidance", []),
        ("known_frames", {}),
        ("motion", [0, 1]),
        ("motion", [0.1]),
        ("pixel_modulated", "yes"),
        ("schedule", "x"),
        ("space_to_depth", True),
    ],
)
def test_our_own_fields_have_types_and_bounds(model, key, value):
    file = model / "decoder" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(UserError, match=key) as error:
        load(model, file)
    one_sentence(error.value, file)


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("decoder/config.json", "resnet_out_scale_factor", 0),
        ("decoder/config.json", "mid_block_scale_factor", 1e-30),
        ("interpolator/config.json", "norm_eps", 0),
        ("interpolator/config.json", "norm_eps", -1.0),
        ("decoder/config.json", "freq_shift", 4),
        ("decoder/config.json", "motion", [1e-300, 1]),
        ("decoder/config.json", "guidance", 1e6),
        ("image_encoder/config.json", "layer_norm_eps", 1e30),
        ("decoder_scheduler/scheduler_config.json", "flow_shift", 0),
        ("decoder_scheduler/scheduler_config.json", "flow_shift", -1),
    ],
)
def test_what_would_run_and_give_no_numbers_is_refused(model, file, key, value):
    values = json.loads((model / file).read_text())
    (values["unet_config"] if key in values.get("unet_config", ()) else values)[key] = value
    (model / file).write_text(json.dumps(values))
    with pytest.raises(UserError, match=key) as error:
        load(model, model / file)
    one_sentence(error.value, model / file)


@pytest.mark.parametrize("name", ["decoder", "interpolator"])
def test_what_can_be_built_and_cannot_run_is_refused(model, name):
    file = model / name / "config.json"
    values = json.loads(file.read_text())
    values["unet_config"]["downsample_padding"] = 2  # of no weight's shape
    file.write_text(json.dumps(values))
    with pytest.raises(UserError, match="it cannot run, Sizes of tensors") as error:
        load(model, file)
    one_sentence(error.value, file)
    with pytest.raises(UserError, match="it cannot run, Sizes of tensors"):
        load_network(file.parent, "network to start from")


def test_a_codec_and_a_prior_are_tried_too():
    from diffusers import AutoencoderKL, PriorTransformer, VQModel

    for kind in (AutoencoderKL, VQModel):
        blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
        with torch.device("meta"):
            network = kind(block_out_channels=[8, 8], norm_num_groups=4, **blocks)
        run_once(network)
        network.encoder.down_blocks[0].downsamplers[0].padding = 3
        with pytest.raises(UserError, match="it cannot run, it gives"):
            run_once(network)
    with torch.device("meta"):
        words = PriorTransformer(num_attention_heads=2, attention_head_dim=8, num_layers=1, embedding_dim=8)
        run_once(words)
    words.proj_in = torch.nn.Linear(4, 16, device="meta")  # of embeddings of 8
    with pytest.raises(UserError, match="it cannot run, "):
        run_once(words)


@pytest.mark.parametrize("name", ["decoder/diffusion_pytorch_model", "image_encoder/model"])
def test_a_training_begins_with_numbers(model, name):
    from transformers import CLIPVisionModelWithProjection

    file = model / f"{name}.safetensors"
    weights = load_file(file)
    first = min(weights)
    save_file({**weights, first: weights[first] * math.nan}, file, {"format": "pt"})
    kind = VideoUNet if "decoder" in name else CLIPVisionModelWithProjection
    with pytest.raises(UserError, match=f"{first} holds numbers that are none") as error:
        load_folder(kind, file.parent, "network")
    one_sentence(error.value, file)
    save_file({key: value for key, value in weights.items() if key != first}, file, {"format": "pt"})
    with pytest.raises(UserError, match=f"it lacks weights, {first}"):
        load_folder(kind, file.parent, "network")


@pytest.mark.parametrize(
    ("key", "value"), [("flow_shift", "x"), ("flow_shift", None), ("final_sigmas_type", 3), ("lambda_min_clipped", [])]
)
def test_a_scheduler_is_tried_out(model, key, value):
    file = model / "decoder_scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(UserError) as error:
        load(model, file)
    one_sentence(error.value, file)


@pytest.mark.parametrize("name", sorted(file.name for file in RECIPES.glob("*.yaml")))
def test_a_wrong_value_of_any_key_of_a_recipe(name, tmp_path):
    rng = random.Random(name)
    folder = Path(shutil.copytree(RECIPES, tmp_path / "recipes"))
    file, refused = folder / name, 0
    whole = yaml.safe_load(file.read_text())
    data = (str(tmp_path),)
    for path in places(whole):
        for value in rng.sample(WRONG, 3):
            file.write_text(yaml.safe_dump(changed(whole, path, value)))
            try:
                if name == "plan.yaml":
                    check(folder, Wishes(pictures=data, clips=data, output=str(tmp_path / "model")), resume=False)
                else:
                    load_recipe(file)
            except UserError as error:
                refused += 1
                one_sentence(error, file)
    assert refused > 10
