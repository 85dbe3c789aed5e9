"""`make-a-video adopt`: a folder and its card, what it says, and one sentence for what cannot be adopted."""

import json
import shutil

import pytest
import torch
import yaml
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import tiny_text_to_image as tiny
from makeavideo import MakeAVideoPipeline, UserError
from makeavideo.adoption.kinds import adopt
from makeavideo.cli.main import app
from makeavideo.media.reader import probe
from makeavideo.model_files import check_model


@pytest.fixture(scope="module")
def kandinsky(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kandinsky")
    tiny.kandinsky(folder)
    return folder


@pytest.fixture
def copy(kandinsky, tmp_path):
    """Of one's own to damage."""
    shutil.copytree(kandinsky / "decoder", tmp_path / "decoder")
    shutil.copytree(kandinsky / "prior", tmp_path / "prior")
    tiny.card(tmp_path / "decoder", license="apache-2.0")
    return tmp_path


def run(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def refusal(source, **how) -> str:
    with pytest.raises(UserError) as error:
        adopt(source, **how)
    sentence = str(error.value)
    assert "\n" not in sentence and sentence.endswith((".", ").")) and str(source) in sentence, sentence
    return sentence


def test_adopt_and_generate(kandinsky, tmp_path):
    model = tmp_path / "mine"
    result = run("adopt", kandinsky / "decoder", model, "--dtype", "bfloat16")
    assert result.exit_code == 0, result.output
    for said in ("found: prior: ", "made: decoder: inflated, ", "missing: motion: ", "licence apache-2.0"):
        assert said in result.stderr, result.stderr
    check_model(model)
    assert load_file(next((model / "decoder").glob("*.safetensors")))["conv_out.weight"].dtype == torch.bfloat16
    card = (model / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["license"] == "apache-2.0" and str(kandinsky / "prior") in card
    assert str(tmp_path) not in (model / "decoder" / "config.json").read_text()
    made = run("generate", "a dog", "--model", model, "-o", tmp_path / "dog.webp", "--steps", 2)
    assert made.exit_code == 0, made.output
    found = probe(tmp_path / "dog.webp")
    assert (found.width, found.num_frames) == (16, 16)
    again = run("adopt", kandinsky / "decoder", model)
    assert isinstance(again.exception, UserError) and "holds something already" in str(again.exception)


def test_the_prior_can_be_named_and_has_to_fit(copy):
    assert "--prior" in refusal(copy / "decoder")
    pipe = MakeAVideoPipeline.from_text_to_image(copy / "decoder", prior=str(copy / "prior"))
    assert pipe.sizes == (16,)
    unet = tiny.kandinsky_unet()
    config = {**unet.config, "encoder_hid_dim": 24}
    UNet2DConditionModel.from_config(config).save_pretrained(copy / "decoder" / "unet")
    with pytest.raises(UserError, match=r"embeddings of 16 numbers, and the decoder .* takes 24"):
        adopt(copy / "decoder", prior=str(copy / "prior"))
    assert "it is a prior alone" in refusal(copy / "prior")


def test_weights_that_lack_or_are_pickled(copy):
    file = next((copy / "decoder" / "unet").glob("*.safetensors"))
    tensors = load_file(file)
    save_file({key: value for key, value in tensors.items() if key != "conv_in.bias"}, file, {"format": "pt"})
    assert "conv_in.bias" in refusal(copy / "decoder", prior=str(copy / "prior"))
    file.unlink()
    torch.save(tensors, file.with_suffix(".bin"))
    assert "use_safetensors=False" in refusal(copy / "decoder", prior=str(copy / "prior"))


def test_half_precision_alone_is_found(copy):
    """Repositories often have files of float16 beside, or in place of the others."""
    for file in (copy / "decoder" / "unet").glob("*.safetensors"):
        file.rename(file.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert adopt(copy / "decoder", prior=str(copy / "prior")).components["decoder"].dtype == torch.float32


def pipeline_of_words(folder):
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        sample_size=8,
    )
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL(block_out_channels=(32, 32), **blocks),
        text_encoder=tiny.text_encoder(),
        tokenizer=tiny.tokenizer(folder / "words"),
        unet=unet,
        scheduler=DDPMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder / "sd")
    return folder / "sd"


def index_of(folder, **values):
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps(values))
    return folder


def test_of_all_else_it_says_what_it_is(tmp_path, tiny_model):
    words = pipeline_of_words(tmp_path)
    assert "StableDiffusionPipeline, whose decoder is told words" in refusal(words)
    assert "makeavideo.inflate" in refusal(words / "unet")
    assert "AutoencoderKL alone" in refusal(words / "vae")
    transformer = index_of(
        tmp_path / "pixart", _class_name="PixArt", transformer=["diffusers", "PixArtTransformer2DModel"]
    )
    assert "whose network is a transformer" in refusal(transformer)
    deepfloyd = index_of(tmp_path / "if", _class_name="IFPipeline", unet=["diffusers", "UNet2DConditionModel"])
    assert "DeepFloyd IF" in refusal(deepfloyd)
    assert "nothing can be taken" in refusal(index_of(tmp_path / "audio", _class_name="DancePipeline"))
    assert "Make-A-Video model already" in refusal(tiny_model)
    (tmp_path / "lora").mkdir()
    save_file({"x": torch.ones(1)}, tmp_path / "lora" / "pytorch_lora_weights.safetensors")
    assert "it is a LoRA" in refusal(tmp_path / "lora")
    assert "single file" in refusal(tmp_path / "lora" / "pytorch_lora_weights.safetensors")
    (tmp_path / "empty").mkdir()
    assert "no model_index.json" in refusal(tmp_path / "empty")
    assert "no such folder" in refusal(tmp_path / "nothing" / "at" / "all")
    (tmp_path / "empty" / "model_index.json").write_text("[1")
    assert "is damaged" in refusal(tmp_path / "empty")
