"""benchmarks/thesis.py: its parts that need no data."""

import sys
from pathlib import Path

import pytest
import torch
import yaml

from conftest import tiny_decoder
from makeavideo import UserError
from makeavideo.inflation import add_motion, inflate
from makeavideo.training.recipe import load_recipe

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RECIPE = Path(__file__).parents[1] / "recipes" / "thesis" / "decoder-video.yaml"


@pytest.fixture
def thesis(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield pytest.importorskip("thesis")
    for name in ("thesis", "emoji_bars"):
        sys.modules.pop(name, None)


def test_a_flattened_decoder_makes_the_same_stills(thesis):
    """But for temporal attention, which is left out and therefore zero here."""
    torch.manual_seed(0)
    video = inflate(tiny_decoder(), space_to_depth=4).eval()
    for name, parameter in video.named_parameters():
        if ".temporal." in name and "attentions" not in name:
            torch.nn.init.normal_(parameter, std=0.1)
    still, y_e = torch.randn(2, 1, 3, 16, 16), {"added_cond_kwargs": {"image_embeds": torch.randn(2, 8)}}
    flat = thesis.flat(add_motion(video, (1.0, 0.5))).eval()  # as trained: it knows motion too
    assert flat.config.temporal == "none"
    with torch.no_grad():
        assert torch.allclose(video(still, 500, **y_e).sample, flat(still, 500, **y_e).sample, atol=1e-4)


def test_the_variants_differ_in_what_they_are_named_for(thesis):
    recipes = {name: load_recipe(RECIPE, own) for name, (_, own) in thesis.VARIANTS.items()}
    assert {name for name, recipe in recipes.items() if recipe.temporal == "attention"} == {"attention"}
    assert {name for name, recipe in recipes.items() if recipe.train == "temporal"} == {"frozen"}
    assert {name for name, recipe in recipes.items() if recipe.init_from is None} == {"random"}


def test_a_folder_with_another_run_is_one_sentence(thesis, tmp_path):
    recipe = load_recipe(RECIPE, [f"output={tmp_path}"])
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    (tmp_path / "final" / "decoder").mkdir(parents=True)
    assert thesis.run(recipe) == tmp_path / "final" / "decoder"
    with pytest.raises(UserError, match="holds a run with other settings") as caught:
        thesis.run(recipe.model_copy(update={"steps": 7}))
    assert "\n" not in str(caught.value)
