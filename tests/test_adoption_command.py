"""`make-a-video adopt`: a folder and its card, what it says, and one sentence for what cannot be adopted."""

import json
import shutil

import huggingface_hub
import pytest
import torch
import yaml
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    IFPipeline,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import tiny_text_to_image as tiny
from makeavideo import MakeAVideoPipeline, UserError, inflate
from makeavideo.adoption.kinds import adopt
from makeavideo.cli.main import app
from makeavideo.media.reader import probe
from makeavideo.model_files import check_model
from makeavideo.motion_module import save_motion_module
from tiny_adopted import refusal


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
    assert "nothing can be taken" in refusal(index_of(tmp_path / "audio", _class_name="DancePipeline"))
    assert "Make-A-Video model already" in refusal(tiny_model)
    save_file({"x": torch.ones(1)}, tmp_path / "all.safetensors")
    assert "single file" in refusal(tmp_path / "all.safetensors")
    (tmp_path / "empty").mkdir()
    assert "no model_index.json" in refusal(tmp_path / "empty")
    assert "no such folder" in refusal(tmp_path / "nothing" / "at" / "all")
    (tmp_path / "empty" / "model_index.json").write_text("[1")
    assert "is damaged" in refusal(tmp_path / "empty")


def words_alone(folder):
    """What the pipelines of words share."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return {
        "vae": AutoencoderKL(block_out_channels=(32, 32), **blocks),
        "text_encoder": tiny.text_encoder(),
        "tokenizer": tiny.tokenizer(folder / "words"),
    }


def sdxl(folder):
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80,
        cross_attention_dim=2 * tiny.DIM,
        sample_size=8,
    )
    parts = words_alone(folder)
    second = {"text_encoder_2": tiny.text_encoder(), "tokenizer_2": parts["tokenizer"]}
    return StableDiffusionXLPipeline(**parts, **second, unet=unet, scheduler=DDPMScheduler())


def sd3(folder):
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=32,
        pooled_projection_dim=2 * tiny.DIM,
    )
    parts = words_alone(folder)
    more = {"text_encoder_2": tiny.text_encoder(), "tokenizer_2": parts["tokenizer"]}
    more |= {"text_encoder_3": None, "tokenizer_3": None}
    return StableDiffusion3Pipeline(
        **parts, **more, transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler()
    )


def flux(folder):
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=tiny.DIM,
        axes_dims_rope=(4, 4, 8),
    )
    parts = {**words_alone(folder), "text_encoder_2": None, "tokenizer_2": None}
    return FluxPipeline(**parts, transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler())


def deepfloyd(folder):
    unet = UNet2DConditionModel(**tiny.UNCLIP_BLOCKS, in_channels=3, out_channels=6, encoder_hid_dim=32)
    none = dict.fromkeys(("text_encoder", "safety_checker", "feature_extractor", "watermarker"))
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="learned_range")
    tokenizer = words_alone(folder)["tokenizer"]
    return IFPipeline(unet=unet, tokenizer=tokenizer, scheduler=scheduler, requires_safety_checker=False, **none)


@pytest.mark.parametrize(
    ("make", "what", "can"),
    [
        (sdxl, "a StableDiffusionXLPipeline, whose decoder is told words", "`makeavideo.inflate`"),
        (sd3, "a StableDiffusion3Pipeline, whose network is a transformer", "start from Kandinsky 2.2"),
        (flux, "a FluxPipeline, whose network is a transformer", "start from Kandinsky 2.2"),
        (deepfloyd, "DeepFloyd IF (IFPipeline), whose decoder is told words", "`makeavideo.inflate`"),
    ],
)
def test_pipelines_of_words_saved_by_diffusers(make, what, can, tmp_path):
    make(tmp_path).save_pretrained(tmp_path / "theirs")
    sentence = refusal(tmp_path / "theirs")
    assert what in sentence and can in sentence


def test_loras_and_motion_modules_are_known_by_what_they_hold(tmp_path):
    """As diffusers and peft save them, and by another name, as people pass them on."""
    pipe = sdxl(tmp_path)
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(pipe.unet))
    type(pipe).save_lora_weights(tmp_path / "diffusers", unet_lora_layers=layers)
    file = next((tmp_path / "diffusers").glob("*.safetensors"))
    (tmp_path / "other").mkdir()
    shutil.copy(file, tmp_path / "other" / "style.safetensors")
    get_peft_model(tiny.text_encoder(), LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "peft")
    for lora in (tmp_path / "diffusers", file, tmp_path / "other", tmp_path / "other" / "style.safetensors"):
        assert "it is a LoRA" in refusal(lora)
    assert "fuse it (fuse_lora)" in refusal(tmp_path / "peft")
    save_motion_module(inflate(tiny.karlo_decoder()), tmp_path / "m.safetensors")
    assert "it is a motion module, which is for --motion-module" in refusal(tmp_path / "m.safetensors")


def test_an_id_of_the_hub_while_offline(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    sentence = refusal("kandinsky-community/kandinsky-2-2-decoder")
    assert "the Hugging Face hub cannot be reached for it: go online, or" in sentence
    result = run("adopt", "kandinsky-community/kandinsky-2-2-decoder", tmp_path / "model")
    assert isinstance(result.exception, UserError) and not (tmp_path / "model").exists()
