"""What cannot be trained is one sentence."""

import pytest
import torch

from conftest import tiny_decoder
from makeavideo import UserError, inflate
from makeavideo.training.checkpoints import checkpoints
from makeavideo.training.trainer import train
from tiny_training import DECODER, SUPER_RESOLUTION, recipe_of, settings

pytestmark = pytest.mark.xdist_group("stages")  # they share a run of every stage


@pytest.mark.parametrize(
    "name, network, sentence",
    [
        ("sr-low-image", {"block_out_chanels": [8]}, "unknown key network.block_out_chanels"),
        ("sr-low-image", {"in_channels": 3}, "network.in_channels is 3: sr-low-image needs 6"),
        ("sr-low-image", {"class": "UNet3D"}, "network.class is UNet3D"),
        ("sr-low-image", {"space_to_depth": 0}, "network.space_to_depth is 0"),
        ("sr-low-image", {"down_block_types": ["Nothing", "DownBlock2D"]}, "does not make a UNet2DModel"),
        ("decoder-image", {"attention_head_dim": 0}, "does not make a UNet2DConditionModel: "),
        ("decoder-image", {"encoder_hid_dim": 7}, "gives 8 numbers, and the network takes 7: name the one"),
        ("decoder-image", {"downsample_padding": 2}, "network cannot be used, it cannot run, Sizes of tensors"),
        ("decoder-image", {**SUPER_RESOLUTION, "in_channels": 3}, "takes no image embedding"),
        ("prior", {"num_layerz": 2}, "unknown key network.num_layerz"),
    ],
)
def test_wrong_networks_are_one_sentence(cascade, training_data, tmp_path, name, network, sentence):
    values = settings(cascade[0], training_data, name)
    network = network if "class" in network and len(network) > 1 else {**values["network"], **network}
    with pytest.raises(UserError, match=sentence) as caught:
        train(recipe_of(values, network=network, output=str(tmp_path / "run")))
    assert "\n" not in str(caught.value)


def test_a_tower_for_another_size_is_one_sentence(cascade, training_data, tmp_path):
    values = settings(cascade[0], training_data, "clip-finish")
    recipe = recipe_of(values, output=str(tmp_path / "run"), data={**values["data"], "size": 24})
    with pytest.raises(UserError, match=r"set data\.size to 16"):
        train(recipe)


@pytest.mark.parametrize(
    "name, changes, sentence",
    [
        ("decoder-image", {"train": "temporal"}, "decoder-image has no temporal layers: take train out"),
        ("prior", {"temporal": "attention"}, "prior has no temporal layers: take temporal out"),
        ("decoder-video", {"train": "temporal", "init_from": None, "network": DECODER}, "random spatial weights"),
        ("decoder-video", {"train": "path"}, "path is for the interpolator"),
        ("interpolator", {"train": "path", "guess": "none"}, "the paper's F-up has none"),
        ("prior", {"init_from": "runs/prior/final/prior"}, "begins from scratch: take init_from out"),
        ("decoder-video", {"network": DECODER}, "init_from, which brings its own network: take one of them out"),
        ("clip-finish", {"network": {"projection_dim": 8}}, "init_from, which brings its own network"),
        ("sr-low-video", {"network": {"class": "SuperResolver"}}, "init_from, which brings its own network"),
        ("prior", {"train": "text"}, "keeps the image tower of a stage clip"),
        ("clip", {"train": "text"}, "add init_from"),
        ("interpolator", {"noise": {"bridge": 0.5}}, r"of decoder-video with data\.known_frames: set it to 0"),
        ("decoder-video", {"noise": {"bridge_levels": (0.9, 0.5)}}, "larger level first"),
        ("interpolator", {"temporal": "attention"}, "of the kind pseudo3d and the recipe asks for attention"),
    ],
)
def test_what_cannot_be_trained_so_is_one_sentence(cascade, training_data, tmp_path, name, changes, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        train(recipe_of(settings(cascade[0], training_data, name), output=str(tmp_path / "run"), **changes))
    assert "\n" not in str(caught.value)


def test_a_loss_that_is_no_number_is_one_sentence_and_never_saved(training_data, tmp_path):
    values = settings(tmp_path, training_data, "sr-low-image") | {
        "steps": 30,
        "log_every": 1000,
        "checkpoint_steps": 10,
    }
    optim = {"learning_rate": 10, "warmup_steps": 0, "max_grad_norm": 1e9}
    sentence = r"of sr-low-image is (nan|inf) at step 10: lower optim\.learning_rate and start again\."
    with pytest.raises(UserError, match=sentence) as caught:
        train(recipe_of(values, optim=optim))
    assert "\n" not in str(caught.value)
    assert not checkpoints(tmp_path / "sr-low-image") and not (tmp_path / "sr-low-image" / "final").exists()


def test_fp16_needs_a_gpu(training_data, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UserError, match="needs a GPU"):
        train(recipe_of(settings(tmp_path, training_data, "sr-low-image"), mixed_precision="fp16"))


def test_nothing_readable_is_one_sentence(training_data, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"no picture")
    values = settings(tmp_path, tmp_path, "sr-low-image")
    with pytest.raises(UserError, match=r"can be read; the first problem is .*a\.png"):
        train(recipe_of(values))


def test_a_decoder_of_latents_is_one_sentence(cascade, training_data, tmp_path):
    inflate(tiny_decoder(sample_size=4, in_channels=4, out_channels=4)).save_pretrained(tmp_path / "latents")
    values = settings(cascade[0], training_data, "decoder-video")
    with pytest.raises(UserError, match="makes latents: add codec"):
        train(recipe_of(values, init_from=str(tmp_path / "latents"), output=str(tmp_path / "run")))
