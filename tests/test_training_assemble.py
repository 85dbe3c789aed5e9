"""From trained stages to a pipeline that makes clips."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from makeavideo import UserError
from makeavideo.cli.training import assemble as assemble_command
from makeavideo.training.assemble import assemble
from makeavideo.training.networks import forget_places
from makeavideo.training.trainer import train
from tiny_training import RUNS, SIZE, draw, recipe_of, settings

pytestmark = pytest.mark.xdist_group("stages")  # they share a run of every stage


def test_the_stages_make_a_pipeline_that_makes_clips(cascade, training_data, tmp_path):
    from makeavideo.pipeline import MakeAVideoPipeline

    runs, _ = cascade
    folder = assemble(runs, tmp_path / "model", str(training_data / "text"), sampling={"sink": True})
    assert folder == tmp_path / "model" and [p.name for p in tmp_path.iterdir()] == ["model"]
    pipe = MakeAVideoPipeline.load(folder)
    pipe.set_progress_bar_config(disable=True)
    assert pipe.sampling.sink and pipe.sampling.any_shape
    # the tower is the one that the prior was trained on, not the run that it was continued from
    tower = load_file(runs / "clip-finish" / "final" / "text_projection" / "diffusion_pytorch_model.safetensors")
    assert torch.allclose(pipe.text_projection.linear.weight, tower["linear.weight"].float())
    # a caption of the training_data gives exactly the embedding of its picture
    rocket = torch.from_numpy(np.array(draw("blue", False, 6).resize((SIZE, SIZE), Image.Resampling.BOX)))
    expected = pipe.embed_pictures(rocket.permute(2, 0, 1)[None].float() / 127.5 - 1)
    given = pipe.embed_prompts(["blue rocket"], None)
    assert torch.cosine_similarity(given, expected).item() > 0.99
    options = {"num_inference_steps": 2, "output_type": "pt"}
    frames = pipe("a red cat", num_frames=17, size=16, **options).frames
    assert frames.shape == (1, 17, 3, 16, 16)
    frames = pipe("a red cat", num_frames=3, **options).frames
    assert frames.shape == (1, 3, 3, 192, 192) and frames.isfinite().all()


def test_a_stage_that_is_missing_is_one_sentence(cascade, training_data, tmp_path):
    with pytest.raises(UserError, match="There is no text projection at"):
        assemble(tmp_path, tmp_path / "model", str(training_data / "text"))
    missing = settings(tmp_path, training_data, "decoder-video")
    with pytest.raises(UserError, match="There is no network to start from at"):
        train(recipe_of(missing))
    with pytest.raises(UserError, match="names no image encoder"):
        train(recipe_of(settings(tmp_path, training_data, "decoder-image"), image_encoder=None))


def test_nothing_says_on_which_machine_it_was_trained(cascade, training_data, tmp_path):
    """diffusers and transformers write the folder that a network was loaded from into its configuration."""
    folder = assemble(cascade[0], tmp_path / "model", str(training_data / "text"))
    texts = {file: file.read_text("utf-8") for file in folder.rglob("*.json")}
    for run in RUNS:
        texts |= {file: file.read_text("utf-8") for file in (cascade[0] / run / "final").rglob("*.json")}
    assert len(texts) > 20
    for file, text in texts.items():
        for place in (cascade[0], training_data, tmp_path):
            assert str(place) not in text, file
        assert not re.search(r'name_or_path": "', text), file


def test_what_is_left_of_a_configuration(tmp_path):
    config = {"_name_or_path": "/home/ada/runs/x", "b": [1, {"name_or_path": "y", "c": "\u00e9"}], "a": None}
    (tmp_path / "part").mkdir()
    file = tmp_path / "part" / "config.json"
    file.write_text(json.dumps(config))
    forget_places(tmp_path)
    assert json.loads(file.read_text()) == {"b": [1, {"c": "\u00e9"}], "a": None}
    before = file.stat().st_mtime_ns
    forget_places(tmp_path)
    assert file.stat().st_mtime_ns == before


def test_a_folder_of_runs_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"no folder .*nowhere: give the folder of the stages' outputs"):
        assemble_command(tmp_path / "out", runs=tmp_path / "nowhere")
