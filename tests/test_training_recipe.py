"""Recipes are checked before anything is loaded; every mistake is one sentence that names it."""

import typing
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from makeavideo import UserError
from makeavideo.training.recipe import Recipe, load_recipe
from makeavideo.training.refusals import check_trainable

RECIPES = Path(__file__).parents[1] / "recipes"


def recipes(scale):
    """The recipes of a folder; its plan, which says in what order they run, is none."""
    return [path for path in sorted((RECIPES / scale).glob("*.yaml")) if path.stem != "plan"]


GOOD = {
    "stage": "sr-low-image",
    "output": "runs/x",
    "data": {"roots": ["pictures"], "size": 64},
    "steps": 10,
    "batch_size": 2,
}


def write(tmp_path, changes=None, without=()):
    values = {**{k: v for k, v in GOOD.items() if k not in without}, **(changes or {})}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def refused(path):
    """The message, which has to be one sentence on one line."""
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


@pytest.mark.parametrize(
    "path",
    [path for scale in ("emoji", "paper", "thesis") for path in recipes(scale)],
    ids=lambda p: f"{p.parent.name}/{p.stem}",
)
def test_the_repository_s_recipes_load(path):
    recipe = load_recipe(path)
    assert recipe.output and recipe.data.roots
    check_trainable(recipe)
    if recipe.init_from is None:
        assert recipe.network


def test_there_is_a_recipe_for_every_stage():
    for scale in ("emoji", "paper"):
        stages = {load_recipe(path).stage for path in recipes(scale)}
        assert stages == set(Recipe.model_fields["stage"].annotation.__args__)


def test_a_recipe_survives_being_written_out(tmp_path):
    """The trainer writes the recipe next to what it made; it has to load again, all defaults included."""
    recipe = load_recipe(write(tmp_path))
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    assert load_recipe(again) == recipe


def test_overrides(tmp_path):
    path = write(tmp_path)
    overrides = ["steps=7", "optim.learning_rate=1e-3", "data.roots=[a, b]", "network.class=UNet2DModel"]
    recipe = load_recipe(path, overrides)
    assert recipe.steps == 7 and recipe.optim.learning_rate == 1e-3
    assert recipe.data.roots == ["a", "b"] and recipe.network == {"class": "UNet2DModel"}
    assert load_recipe(path, ["init_from=null"]).init_from is None
    assert load_recipe(path, ['network={"norm_eps": 1e-05}']).network == {"norm_eps": 1e-5}


@pytest.mark.parametrize(
    "changes, key, reason",
    [
        ({"stpes": 5}, "stpes", "unknown key"),
        ({"data": {"roots": ["x"], "size": 64, "colour": 1}}, "data.colour", "unknown key"),
        ({"optim": {"lr": 1}}, "optim.lr", "unknown key"),
        ({"steps": "many"}, "steps", "many"),
        ({"steps": 0}, "steps", "greater than 0"),
        ({"steps": 1.5}, "steps", "1.5"),
        ({"data": {"roots": "pictures", "size": 64}}, "data.roots", "list"),
        ({"data": {"roots": ["x"], "size": None}}, "data.size", "None"),
        ({"data": {"roots": ["x"], "size": "32x18"}}, "data.size ('32x18'): write 256, or [144, 256],", "height"),
        ({"data": {"roots": ["x"], "size": 8, "buckets": ["32x18"]}}, "data.buckets.0 ('32x18'): write [144", "height"),
        ({"stage": "decoder"}, "stage", "decoder-image"),
        ({"optim": {"betas": [0.9]}}, "optim.betas.1", "lacks"),
        ({"optim": 3}, "optim", "3"),
        ({"optim": {"betas": [2.0, 0.9]}}, "optim.betas.0", "less than 1"),
        ({"timeout_minutes": 1e30}, "timeout_minutes", "less than or equal to 525600"),
        ({"noise": {"weight_floor": 1e308}}, "noise.weight_floor", "less than or equal to 1"),
        ({"super_resolution": {"cleaned_levels": [-1, 2]}}, "super_resolution.cleaned_levels.0", "greater than"),
        ({"output": ""}, "output ('')", "at least 1 character"),
        ({"data": {"roots": [""], "size": 64}}, "data.roots.0 ('')", "at least 1 character"),
        ({"condition_dropout": 1.5}, "condition_dropout", "1.5"),
        ({"mixed_precision": "fp8"}, "mixed_precision", "bf16"),
    ],
)
def test_wrong_keys_are_named(tmp_path, changes, key, reason):
    message = refused(write(tmp_path, changes))
    assert key in message and reason in message


def numbers_of(kind, under=""):
    """(key with dots, its type) of every number of a recipe."""
    for name, field in kind.model_fields.items():
        parts = typing.get_args(field.annotation) or (field.annotation,)
        if isinstance(parts[0], type) and issubclass(parts[0], BaseModel):
            yield from numbers_of(parts[0], f"{under}{name}.")
        elif parts[0] in (int, float):
            yield f"{under}{name}", parts[0]


@pytest.mark.parametrize(("key", "kind"), list(numbers_of(Recipe)))
def test_no_number_is_without_bounds(tmp_path, key, kind):
    """noise.mean 1e308 trained: every picture was noise, and nothing said so."""
    with pytest.raises(UserError, match=rf"a wrong value for {key} .*should be less than"):
        load_recipe(write(tmp_path), [f"{key}={'1e308' if kind is float else 2**62}"])


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("noise.mean", "-1e308", "greater than or equal to -10"),
        ("optim.learning_rate", "1e-300", "greater than or equal to 0.000000000001"),
        ("optim.max_grad_norm", "1e-300", "greater than or equal to 0.000001"),
        ("noise.weight_floor", "1e-300", "greater than or equal to 0.0001"),
        ("data.fps_low", "1e-300", "greater than or equal to 0.01"),
        ("data.fps_beta_start", "[1e308, 1]", "less than or equal to 1000"),
        ("data.size", "1000000000", "height and width"),
    ],
)
def test_numbers_that_would_train_on_nothing_are_refused(tmp_path, key, value, reason):
    with pytest.raises(UserError, match=rf"a wrong value for {key}.*{reason}"):
        load_recipe(write(tmp_path), [f"{key}={value}"])


@pytest.mark.parametrize("key", ["stage", "output", "data", "steps", "batch_size"])
def test_missing_keys_are_named(tmp_path, key):
    assert f"lacks the key {key}" in refused(write(tmp_path, without=[key]))


def test_a_misspelt_key_is_named_rather_than_the_one_that_is_missing_for_it(tmp_path):
    assert "batchsize" in refused(write(tmp_path, {"batchsize": 2}, without=["batch_size"]))


def test_files_that_are_no_recipe(tmp_path):
    assert "No such file" in refused(tmp_path / "nowhere.yaml")
    assert "cannot be read" in refused(tmp_path)
    path = tmp_path / "recipe.yaml"
    path.write_text("stage: [clip\noutput: x")
    assert "not valid YAML near line 2" in refused(path)
    path.write_text("")
    assert "key: value" in refused(path)
    path.write_text("- a\n- b\n")
    assert "key: value" in refused(path)
    path.write_bytes(b"\x89PNG\xff\xfe\x00")
    assert "not a text file" in refused(path)
    path.write_text("1: 2\n")
    refused(path)


@pytest.mark.parametrize(
    "override, reason",
    [
        ("steps", "has no `=`"),
        ("steps=[1", "not valid YAML"),
        ("steps.x=1", "steps is not a group"),
        ("stepz=1", "stepz"),
        ("optim.rate=1", "optim.rate"),
        ("steps=", "steps"),
        ("=3", "unknown key"),
    ],
)
def test_bad_overrides(tmp_path, override, reason):
    path = write(tmp_path)
    with pytest.raises(UserError) as caught:
        load_recipe(path, [override])
    assert reason in str(caught.value) and "\n" not in str(caught.value)
