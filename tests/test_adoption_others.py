"""What is said of what cannot be adopted: true, and with something that can be done; and what does not go together."""

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import save_file
from transformers import CLIPVisionModelWithProjection
from typer.testing import CliRunner

import tiny_text_to_image as tiny
from makeavideo import MakeAVideoPipeline, UserError
from makeavideo.adoption.kinds import adopt
from makeavideo.cli.main import app
from tiny_adopted import refusal

UNET = ["diffusers", "UNet2DConditionModel"]
ENCODERS = {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
TOWER = {"image_encoder": ["transformers", "CLIPVisionModelWithProjection"]}
IMAGE, HINT, BOTH = (
    {"addition_embed_type": "image"},
    {"addition_embed_type": "image_hint"},
    {"addition_embed_type": "text_image"},
)
INFLATED = "`makeavideo.inflate` makes its UNet a video network"


def pipeline(folder, kind, parts, config=None):
    folder.mkdir(exist_ok=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": kind, **parts}))
    if config is not None:
        network = folder / ("unet" if "unet" in parts else "decoder")
        network.mkdir()
        (network / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("kind", "parts", "config", "told"),
    [
        ("StableDiffusionPipeline", {"unet": UNET, **ENCODERS}, {}, "words and no image embedding"),
        ("KandinskyV22InpaintPipeline", {"unet": UNET}, IMAGE, "something else beside an image embedding"),
        ("KandinskyV22ControlnetPipeline", {"unet": UNET}, HINT, "something else beside an image embedding"),
        ("KandinskyPipeline", {"unet": UNET, **ENCODERS}, BOTH, "words beside an image embedding"),
        ("UnCLIPImageVariationPipeline", {"decoder": UNET, "text_proj": UNET, **ENCODERS}, {}, "words beside an image"),
        ("StableDiffusionImageVariationPipeline", {"unet": UNET, **TOWER}, {}, "pictures, and nothing makes of words"),
        ("DDPMPipeline", {"unet": ["diffusers", "UNet2DModel"]}, None, "no words"),
    ],
)
def test_of_a_unet_it_says_what_it_is_told_and_that_it_can_be_inflated(kind, parts, config, told, tmp_path):
    sentence = refusal(pipeline(tmp_path / "theirs", kind, parts, config))
    article = "an" if kind.startswith("UnCLIP") else "a"
    assert f"it is {article} {kind}, whose decoder is told {told}" in sentence and INFLATED in sentence


@pytest.mark.parametrize(
    ("kind", "parts", "what"),
    [
        ("StableVideoDiffusionPipeline", {"unet": "UNetSpatioTemporalConditionModel"}, "a UNetSpatioTemporalCondition"),
        ("AnimateDiffPipeline", {"unet": "UNetMotionModel", "motion_adapter": "MotionAdapter"}, "a UNetMotionModel"),
        ("Kandinsky3Pipeline", {"unet": "Kandinsky3UNet"}, "a Kandinsky3UNet"),
        ("UniDiffuserPipeline", {"unet": "UniDiffuserModel"}, "a UniDiffuserModel"),
        ("AudioLDM2Pipeline", {"unet": "AudioLDM2UNet2DConditionModel"}, "an AudioLDM2UNet2DConditionModel"),
        ("StableCascadeDecoderPipeline", {"decoder": "StableCascadeUNet"}, "a StableCascadeUNet"),
        ("OfTomorrowPipeline", {"transformer": "NobodyKnows"}, "a NobodyKnows"),
    ],
)
def test_what_cannot_be_inflated_is_not_said_to_be(kind, parts, what, tmp_path):
    index = {name: ["diffusers", network] for name, network in parts.items()}
    sentence = refusal(pipeline(tmp_path / "theirs", kind, index))
    article = "an" if kind[0] in "AO" else "a"
    assert f"it is {article} {kind}, whose network, {what}" in sentence and "cannot be inflated" in sentence
    assert "makeavideo.inflate" not in sentence and "start from Kandinsky 2.2" in sentence


@pytest.mark.parametrize("network", ["HunyuanDiT2DModel", "PixArtTransformer2DModel", "WanTransformer3DModel"])
def test_a_transformer_is_known_by_its_class(network, tmp_path):
    whole = pipeline(tmp_path / "theirs", "SomePipeline", {"transformer": ["diffusers", network]})
    assert "whose network is a transformer, and only UNets" in refusal(whole)
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "config.json").write_text(json.dumps({"_class_name": network}))
    sentence = refusal(tmp_path / "alone")
    assert f"a {network} alone, a transformer, and only UNets" in sentence and "whole pipeline" not in sentence


def test_a_prior_is_for_prior_where_it_can_be_taken(tmp_path):
    parts = {"prior": ["diffusers", "PriorTransformer"], **ENCODERS}
    assert "with --prior" in refusal(pipeline(tmp_path / "2.2", "KandinskyV22PriorPipeline", parts))
    sentence = refusal(pipeline(tmp_path / "2.1", "KandinskyPriorPipeline", parts))
    assert "nothing here fits" in sentence and "--prior" not in sentence


@pytest.mark.parametrize("text", ["[1]", '{"_class_name": 5}', "{", "[" * 5000, '{"_class_name": "UNetMotionModel"}'])
def test_a_config_of_anything_is_a_sentence(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    assert "alone" in refusal(tmp_path)
    (tmp_path / "model_index.json").write_text(text if "UNet" not in text else '{"_class_name": "A", "unet": [1, [2]]}')
    assert "is damaged" in refusal(tmp_path) or "UNet" in text


def some(path, name="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: torch.ones(1)}, path)


def some_bytes(path, data=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("make", "name", "given", "sentence"),
    [
        (some_bytes, "pytorch_lora_weights.bin", "", "it is a LoRA"),
        (some_bytes, "pytorch_lora_weights.bin", "pytorch_lora_weights.bin", "it is a LoRA"),
        (
            lambda path: some(path, "a.lora_A.weight"),
            "checkpoint-500/pytorch_lora_weights.safetensors",
            "",
            "is a LoRA",
        ),
        (lambda path: some(path, "lora_unet_a.hada_w1_a"), "loha.safetensors", "loha.safetensors", "it is a LoRA"),
        (lambda path: some_bytes(path, b"---\ntags: [lora]\n---\n"), "README.md", "", "it is a LoRA"),
        (some_bytes, "model.ckpt", "model.ckpt", "of pickled weights, which can run code"),
        (some_bytes, "model.safetensors", "model.safetensors", "the file is empty"),
        (some, "model.safetensors", "model.safetensors", "If it is a whole model, load it with"),
        (some_bytes, "notes.txt", "notes.txt", "it is no folder"),
    ],
)
def test_files_are_known_by_what_they_are(make, name, given, sentence, tmp_path):
    make(tmp_path / "theirs" / name)
    assert sentence in refusal(tmp_path / "theirs" / given if given else tmp_path / "theirs")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """karlo, its tower, and a Stable unCLIP."""
    folder = tmp_path_factory.mktemp("theirs")
    tiny.karlo(folder / "karlo")
    tiny.stable_unclip(folder / "stable")
    tiny.card(folder / "tower", license="mit")
    return folder


@pytest.mark.parametrize("source", ["karlo", "stable"])
def test_an_image_tower_has_to_fit_and_is_named_once(theirs, source, tmp_path):
    shutil.copytree(theirs / "tower", tmp_path / "wide")
    config = {**tiny.image_encoder().config.to_dict(), "projection_dim": 24}
    CLIPVisionModelWithProjection(tiny.CLIPVisionConfig(**config)).save_pretrained(tmp_path / "wide")
    with pytest.raises(UserError, match=r"makes embeddings of 24 numbers, and the prior of .* makes 16: name the CLIP"):
        adopt(theirs / source, image_encoder=str(tmp_path / "wide"))
    made = CliRunner().invoke(
        app, ["adopt", str(theirs / source), str(tmp_path / "mine"), "--image-encoder", str(theirs / "tower")]
    )
    assert made.exit_code == 0, made.output
    lines = [line for line in made.stderr.splitlines() if "image tower" in line]
    assert len(lines) == 1 and lines[0].endswith(f"from {theirs / 'tower'}"), made.stderr
    card = (tmp_path / "mine" / "README.md").read_text()
    table = yaml.safe_load(card.split("---")[1])
    assert table["base_model"] == [str(theirs / source), str(theirs / "tower")] and table["license"] == "other"
    assert f"- {theirs / 'tower'} (CLIPVisionModelWithProjection): mit" in card and "licence mit" not in card


def test_karlo_refuses_the_prior_of_another_network(theirs, tmp_path):
    shutil.copytree(theirs / "karlo", tmp_path / "other")
    network = {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 1, "num_embeddings": tiny.TOKENS}
    tiny.PriorTransformer(**network, embedding_dim=24).save_pretrained(tmp_path / "other" / "prior")
    with pytest.raises(UserError, match=r"embeddings of 24 numbers, and the decoder of .* takes 16"):
        adopt(theirs / "karlo", prior=str(tmp_path / "other"))


def test_the_card_of_the_command_is_that_of_the_library(theirs, tmp_path):
    pipe = MakeAVideoPipeline.from_text_to_image(theirs / "karlo", image_encoder=str(theirs / "tower"))
    pipe.save_pretrained(tmp_path / "library" / "mine")
    args = ["adopt", str(theirs / "karlo"), str(tmp_path / "mine"), "--image-encoder", str(theirs / "tower")]
    assert CliRunner().invoke(app, args).exit_code == 0
    ours, command = ((folder / "mine" / "README.md").read_text() for folder in (tmp_path / "library", tmp_path))
    assert ours == command and "## Missing" in ours and "license: other" in ours
