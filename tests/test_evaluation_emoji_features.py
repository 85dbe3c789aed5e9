"""The stand-in feature network: its training in the small, and the weights that are committed."""

import json

import numpy as np
import pytest
import torch

from makeavideo.errors import UserError
from makeavideo.evaluation import emoji_features
from makeavideo.evaluation.features import Emoji
from makeavideo.media.writer import write_video
from tiny_evaluation import moving_clip

HELD_IN = ("1f300", "1f308", "1f30a")


@pytest.fixture
def recipe(tmp_path):
    held_out = ("1f431", "1f680")
    for number, key in enumerate((*HELD_IN, *held_out)):
        write_video(tmp_path / "clips" / f"{key}.webp", moving_clip(number, 30, 32), 24)
    values = {"output": tmp_path / "out", "clips": tmp_path / "clips", "split": tmp_path / "split.json"}
    values |= {"steps": 3, "batch_size": 4, "width": 4}
    lists = {"held_out_all": [held_out[1]], "held_out_motion": [held_out[0]]}
    values["split"].write_text(json.dumps(lists))
    path = tmp_path / "recipe.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in values.items()))
    return path


def test_training_leaves_the_held_out_clips_out(recipe):
    threads = torch.get_num_threads()
    result = emoji_features.train_features(emoji_features.load_feature_recipe(recipe), tell=lambda _: None)
    torch.set_num_threads(threads)
    output = recipe.parent / "out"
    assert json.loads((output / "config.json").read_text())["concepts"] == sorted(HELD_IN)
    assert json.loads((output / "training.json").read_text()) == result
    assert (result["concepts"], result["held-out clips"]["concepts"]) == (3, 2)
    assert set(result["held-in clips"]) == {"concept", "rate", "direction"}
    assert set(result["held-out clips"]) == {"concepts", "rate", "direction"}
    network = emoji_features.EmojiFeatures.load(output)
    assert not network.training and network(torch.zeros(2, 8, 3, 64, 64)).shape == (2, 16)


def test_every_rate_and_both_directions_are_asked_for(recipe):
    from makeavideo.data.clips import UnlabelledClips

    clips = UnlabelledClips(recipe.parent / "clips", 16, 4, fps=24, frame_skip=(1, 4))
    generator = torch.Generator().manual_seed(0)
    pixels, index, skip, backwards = emoji_features.batch_of(clips, [(n % 5, n) for n in range(64)], generator)
    assert pixels.shape == (64, 4, 3, 16, 16)
    assert index.tolist() == [n % 5 for n in range(64)]
    assert set(skip.tolist()) == {0, 1, 2, 3} and set(backwards.tolist()) == {0, 1}


def test_a_wrong_recipe_and_a_missing_network_are_one_sentence(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("output: x\nclips: y\nsplit: z\nsteps: 3\nwidht: 4\n")
    with pytest.raises(UserError, match="widht"):
        emoji_features.load_feature_recipe(path)
    with pytest.raises(UserError, match="cannot be loaded"):
        emoji_features.EmojiFeatures.load(tmp_path)


def test_the_committed_weights():
    network = Emoji()
    folder = next(folder for folder in network_folders() if folder.is_dir())
    assert (folder / "model.safetensors").stat().st_size < 3 * 2**20
    measured = json.loads((folder / "training.json").read_text())
    assert measured["parameters"] == sum(parameter.numel() for parameter in network.network.parameters())
    clip = moving_clip(1)
    there, back = network(np.stack([clip, clip[::-1]]))
    assert not np.allclose(there, back, atol=0.1)


def network_folders():
    from makeavideo.evaluation.features import EMOJI_FOLDERS

    return EMOJI_FOLDERS
