"""LoRAs as people have them: diffusers', kohya's and peft's files, as strong as their own libraries make them."""

import json
import shutil

import pytest
import torch
from diffusers.training_utils import _collate_lora_metadata
from diffusers.utils import convert_state_dict_to_diffusers, convert_state_dict_to_kohya
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

import tiny_text_to_image as tiny
from makeavideo import MakeAVideoPipeline, UserError
from makeavideo.lora import fuse_lora, load_loras
from makeavideo.orders import Additions

LINEAR = ["to_q", "to_k", "to_v", "to_out.0"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """(Stable unCLIP's pipeline, the folder of ours)"""
    folder = tmp_path_factory.mktemp("models")
    pipe = tiny.stable_unclip(folder / "theirs")
    MakeAVideoPipeline.from_text_to_image(folder / "theirs").save_pretrained(folder / "ours")
    return pipe, folder / "ours"


def load(folder, **how):
    return MakeAVideoPipeline.load(folder, device="cpu", dtype="float32", **how)


@pytest.fixture
def unet(models):
    """Theirs, without a LoRA afterwards."""
    yield models[0].unet
    models[0].unload_lora_weights()


def with_lora(unet, **how):
    """Its weights, after so much as a training."""
    torch.manual_seed(5)
    unet.add_adapter(LoraConfig(**{"r": 2, "lora_alpha": 8, "target_modules": LINEAR, "lora_dropout": 0.5, **how}))
    for name, weight in unet.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return get_peft_model_state_dict(unet)


def by_diffusers(pipe, state, folder):
    told = _collate_lora_metadata({"unet": pipe.unet})
    pipe.save_lora_weights(folder, unet_lora_layers=convert_state_dict_to_diffusers(state), **told)
    return folder / "pytorch_lora_weights.safetensors"


def without_header(pipe, state, folder):
    pipe.save_lora_weights(folder, unet_lora_layers=state)
    return folder / "pytorch_lora_weights.safetensors"


def by_kohya(pipe, state, folder):
    state = convert_state_dict_to_kohya({f"unet.{name}": weight for name, weight in state.items()})
    alphas = {name: torch.tensor(8.0) for name in state if name.endswith("alpha")}
    folder.mkdir()
    save_file({name: weight.contiguous() for name, weight in {**state, **alphas}.items()}, folder / "look.safetensors")
    return folder / "look.safetensors"


@pytest.mark.parametrize("save", [by_diffusers, without_header, by_kohya])
@torch.no_grad()
def test_a_lora_is_as_strong_as_diffusers_makes_it(models, unet, save, tmp_path):
    pipe, folder = models
    before = {name: weight.clone() for name, weight in unet.state_dict().items()}
    file = save(pipe, with_lora(unet), tmp_path / "lora")
    pipe.unload_lora_weights()
    pipe.load_lora_weights(file.parent, weight_name=file.name)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    theirs, ours = unet.state_dict(), load(folder).decoder
    fuse_lora(ours, file)
    ours = ours.state_dict()
    assert all(torch.equal(ours[name], weight) for name, weight in theirs.items())
    changed = {name for name, weight in before.items() if not torch.equal(weight, theirs[name])}
    assert len(changed) > 8 and all(name.removesuffix(".weight").endswith(tuple(LINEAR)) for name in changed)
    unet.load_state_dict(before)


@torch.no_grad()
def test_a_lora_of_peft_is_as_strong_as_peft_makes_it(models, tmp_path):
    pipe, folder = models
    base = type(pipe.unet).from_config(pipe.unet.config)
    base.load_state_dict(pipe.unet.state_dict())
    theirs = get_peft_model(base, LoraConfig(r=2, lora_alpha=8, target_modules=LINEAR))
    for name, weight in theirs.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    theirs.save_pretrained(tmp_path)
    ours, merged = load(folder).decoder, theirs.merge_and_unload().state_dict()
    fuse_lora(ours, tmp_path / "adapter_model.safetensors")
    assert all(torch.equal(ours.state_dict()[name], weight) for name, weight in merged.items())
    shutil.move(tmp_path / "adapter_config.json", tmp_path / "elsewhere.json")
    with pytest.raises(UserError, match=r"adapter_config.json"):  # which says how strong it is
        fuse_lora(load(folder).decoder, tmp_path / "adapter_model.safetensors")


@torch.no_grad()
def test_a_model_with_a_lora_is_saved_as_a_model(models, unet, tmp_path):
    pipe, folder = models
    file = by_diffusers(pipe, with_lora(unet), tmp_path / "lora")
    with_it = load(folder, loras=[(file, 0.8)])
    told = {"prompt": "a dog", "num_frames": 2, "num_inference_steps": 2, "output_type": "pt"}
    videos = [with_it(**told, generator=torch.Generator().manual_seed(3)).frames]  # and nothing is dropped out
    with_it.save_pretrained(tmp_path / "saved")
    for made in (with_it, load(tmp_path / "saved"), load(folder)):
        videos.append(made(**told, generator=torch.Generator().manual_seed(3)).frames)
    assert torch.equal(videos[0], videos[1]) and "lora" in str(with_it.decoder.active_adapters())
    assert (videos[2] - videos[0]).abs().max() < 1e-3 < (videos[3] - videos[0]).abs().max()


def other(name, weight, folder):
    file = folder / "other.safetensors"
    save_file({name: weight}, file)
    return file


PATH = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        (f"unet.{PATH}.lora_magnitude_vector", (32,), "is a DoRA .* fuse it"),
        ("lora_unet_mid_block_attentions_0_proj_in.hada_w1_a", (2, 2), "is a LoHa"),
        ("unet.conv_in.lora_A.weight", (2, 4, 3, 3), r"changes a convolution \(conv_in\).* fuse it"),
        ("text_encoder.layers.0.q_proj.lora_A.weight", (2, 16), "changes a text encoder too"),
        (f"unet.{PATH}.lora_A.weight", (2, 24), "is for another network"),
        (f"unet.{PATH}.lora_A.weight", (2, 32), "is damaged at"),
        ("x", (1,), "is for another network"),
    ],
)
def test_what_cannot_be_added_is_said_in_a_true_sentence(models, name, shape, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        load(models[1], loras=[(other(name, torch.ones(shape), tmp_path), 1.0)])


def test_what_a_lora_says_of_itself_has_to_be_true(models, unet, tmp_path):
    pipe, folder = models
    file = by_diffusers(pipe, with_lora(unet), tmp_path / "lora")
    for told in ({"unet.r": 3}, {"unet.of_a_later_peft": 1}):
        save_file(load_file(file), tmp_path / "false.safetensors", {"lora_adapter_metadata": json.dumps(told)})
        with pytest.raises(UserError, match=r"cannot be loaded .* save it anew"):
            load_loras(load(folder).decoder, [(tmp_path / "false.safetensors", 1.0)])


@pytest.mark.parametrize(
    ("text", "strength"),
    [("", 1.0), (":0.8", 0.8), (":1e-1", 0.1), (":-2", -2.0), (":abc", None), (":nan", None), (":", None)],
)
def test_the_strength_of_a_lora_is_any_number(text, strength, tmp_path):
    file = other("x", torch.ones(1), tmp_path)
    if strength is not None:
        assert Additions.read(None, 1.0, [f"{file}{text}"]).loras == ((file, strength),)
        return
    with pytest.raises(UserError, match=r"is not possible: (write FILE or|give a number)"):
        Additions.read(None, 1.0, [f"{file}{text}"])


def test_a_folder_is_no_lora_and_a_scale_is_a_number(tmp_path):
    file = other("x", torch.ones(1), tmp_path)
    with pytest.raises(UserError, match=rf"is a folder: name the file in it, {file}"):
        Additions.read(None, 1.0, [str(tmp_path)])
    with pytest.raises(UserError, match="--motion-module-scale nan is not possible"):
        Additions.read(file, float("nan"), None)
    with pytest.raises(UserError, match="There is no file"):
        Additions.read(None, 1.0, [f"{tmp_path}/none.safetensors:0.8"])
