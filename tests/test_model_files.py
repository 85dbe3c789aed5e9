"""Every file of a model, damaged in every way: one sentence that names it, and never random numbers for weights."""

import inspect
import json
import os
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from makeavideo import UserError
from makeavideo.loading import load_components
from makeavideo.model_files import EXTRAS, NETWORKS, SCHEDULERS, check_model, knows_motion, shapes_of
from makeavideo.pipeline import MakeAVideoPipeline

PIPELINE_PARTS = (*NETWORKS, *SCHEDULERS, *EXTRAS)
PARTS = ("", "_scheduler")
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n"
CONFIGS = ["model_index.json", "tokenizer/tokenizer_config.json", "tokenizer/tokenizer.json"]
CONFIGS += [f"{name}/scheduler_config.json" for name in SCHEDULERS]
CONFIGS += [f"{name}/config.json" for name in (*NETWORKS, "text_encoder")]


def weights_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


@pytest.fixture
def model(tiny_model, tmp_path) -> Path:
    """A model of one's own to damage."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def refusal(call, folder: Path) -> str:
    with pytest.raises(UserError) as error:
        call(folder)
    sentence = str(error.value)
    assert "\n" not in sentence and sentence.endswith(".") and len(sentence) < 700, sentence
    return sentence


def refused_early(folder: Path, file: Path) -> None:
    """Seen without loading anything."""
    assert str(file) in refusal(check_model, folder), file


def load(folder: Path, name: str) -> None:
    """As `MakeAVideoPipeline.load` does, this component alone, which is quick."""
    index = check_model(folder)
    load_components(folder, {name: index[name]}, {"default": torch.float32})


def refused(folder: Path, file: Path, name: str = "") -> str:
    """Seen while the component is loaded, and the sentence names the file."""
    sentence = refusal(lambda folder: load(folder, name or file.relative_to(folder).parts[0]), folder)
    assert str(file) in sentence, sentence
    return sentence


def test_the_table_of_components_is_the_pipelines():
    known = set(inspect.signature(MakeAVideoPipeline.__init__).parameters) - {"self", "sampling"}
    assert known == set(PIPELINE_PARTS)


def test_a_whole_model_is_looked_at_and_known(tiny_model):
    index = check_model(tiny_model)
    assert index["prior"] == ("diffusers", "PriorTransformer") and index["wordings"] is None
    pipe = MakeAVideoPipeline.load(tiny_model)
    assert shapes_of(tiny_model, index).sizes == pipe.sizes == (16, 64, 192)
    assert knows_motion(tiny_model) is (pipe.decoder.config.motion is not None)


def test_diffusers_own_way_of_loading_is_guarded_by_the_same_check(model):
    half = MakeAVideoPipeline.from_pretrained(model, dtype=torch.bfloat16)
    assert half.decoder.dtype is half.prior.dtype is torch.bfloat16
    pipe = MakeAVideoPipeline.from_pretrained(os.fspath(model), dtype={"decoder": torch.bfloat16}, prior=half.prior)
    assert (pipe.decoder.dtype, pipe.interpolator.dtype) == (torch.bfloat16, torch.float32)
    assert pipe.prior is half.prior
    file = weights_of(model / "prior")[0]
    whole = load_file(file)
    lost = min(whole)
    save_file({key: tensor for key, tensor in whole.items() if key != lost}, file)
    for options in ({}, {"low_cpu_mem_usage": False}, {"torch_dtype": torch.float16}):
        said = refusal(lambda folder, given=options: MakeAVideoPipeline.from_pretrained(folder, **given), model)
        assert f"{file}: it lacks weights, {lost}" in said
    save_file({**whole, lost: torch.full_like(whole[lost], float("nan"))}, file, {"format": "pt"})
    for options in ({}, {"low_cpu_mem_usage": False}):
        said = refusal(lambda folder, given=options: MakeAVideoPipeline.from_pretrained(folder, **given), model)
        assert f"{file}: {lost} holds numbers that are none" in said
    (model / "prior" / "config.json").write_text("[" * 100_000)
    assert "prior/config.json" in refusal(MakeAVideoPipeline.from_pretrained, model)
    assert "no model at" in refusal(MakeAVideoPipeline.from_pretrained, model / "nowhere")


def test_a_model_without_the_networks_that_may_lack(model):
    file = model / "model_index.json"
    whole = json.loads(file.read_text())
    for end, sizes in ((0, (16, 64)), (1, (16,)), (2, (16,))):
        lack = ("super_resolution_high", "super_resolution_low", "interpolator")[: end + 1]
        file.write_text(json.dumps({**whole, **{f"{one}{part}": [None] * 2 for one in lack for part in PARTS}}))
        assert shapes_of(model, check_model(model)).sizes == sizes
    assert MakeAVideoPipeline.load(model).sizes == (16,)


@pytest.mark.parametrize("name", ["model_index.json", "prior/config.json", "tokenizer/tokenizer.json", "weights"])
def test_what_is_no_file_is_named(model, name):
    file = weights_of(model / "decoder")[0] if name == "weights" else model / name
    file.unlink()
    for make in (os.mkdir, os.mkfifo, lambda path: os.symlink("nowhere", path)):
        make(file)
        refused_early(model, file)
        os.rmdir(file) if file.is_dir() else file.unlink()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_damaged_json_is_named(model, name):
    file = model / name
    whole = file.read_bytes()
    damages = [b"", b"  \n", b"\x00\xff\xfe", LFS, whole[: len(whole) // 2], b"not json", b"[" * 100_000]
    damages += [b'{"a":' * 200 + b"1" + b"}" * 200, b'{"a": ' + b"9" * 10_000 + b"}"]
    if name != "tokenizer/tokenizer.json":
        damages += [b"null", b"[]", b'"text"', b"17"]
    for damage in damages:
        file.write_bytes(damage)
        refused_early(model, file)
    if name != "model_index.json":
        file.unlink()
        refused_early(model, file)


def test_damaged_weights_are_named_before_anything_is_loaded(model):
    for file in weights_of(model):
        whole = file.read_bytes()
        length = struct.unpack("<Q", whole[:8])[0]
        foreign = json.dumps({"x": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4]}}).encode()
        damages = [b"", LFS, b"text", whole[: len(whole) // 2], whole[:-1], whole + b"x", whole[: 8 + length]]
        damages += [b"\x80\x04pickle" + whole, struct.pack("<Q", 2**63) + whole[8:], whole[:8] + b"\xff" + whole[9:]]
        damages += [struct.pack("<Q", length) + b"[" * length + whole[8 + length :]]
        damages += [struct.pack("<Q", len(foreign)) + foreign + b"four", struct.pack("<Q", 2) + b"{}"]
        for damage in damages:
            file.write_bytes(damage)
            refused_early(model, file)
        file.unlink()
        refused_early(model, file.parent)
        file.write_bytes(whole)
    check_model(model)


@pytest.mark.parametrize("name", [*NETWORKS, "text_encoder"])
def test_weights_that_are_not_the_networks_are_named(model, name):
    file = weights_of(model / name)[0]
    whole = load_file(file)
    for lost in {min(whole), max(whole), *list(whole)[:: max(1, len(whole) // 2)]}:
        save_file({key: tensor for key, tensor in whole.items() if key != lost} or {"x": torch.ones(1)}, file)
        assert lost in refused(model, file)
    first = min(whole)
    save_file({**whole, "other.weight": torch.ones(2)}, file, {"format": "pt"})
    assert "other.weight" in refused(model, file)
    save_file({**whole, first: torch.ones(3, 5, 7)}, file, {"format": "pt"})
    assert first in refused(model, file)
    for kind in (torch.int32, torch.bool):
        save_file({**whole, first: whole[first].to(kind)}, file, {"format": "pt"})
        assert first in refused(model, file)
    for number in (float("nan"), float("inf")):
        wrong = whole[first].clone()
        wrong.view(-1)[-1] = number
        save_file({**whole, first: wrong}, file, {"format": "pt"})
        assert first in refused(model, file)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.endswith("/config.json")])
def test_a_config_that_asks_for_the_absurd_is_named(model, name):
    """Numbers of every kind in the place of every number; what is loaded nevertheless has all its weights."""
    file = model / name
    whole = json.loads(file.read_text())
    sizes = [key for key in whole if any(part in key for part in ("size", "layers", "dim", "depth", "width", "factor"))]
    for key in sizes[:3]:
        if not isinstance(whole[key], int):
            continue
        for value in ("x", 10**18, 10**8, 0, []):
            file.write_text(json.dumps({**whole, key: value}))
            try:
                load(model, file.parent.name)
            except UserError as error:
                assert str(file.parent) in str(error), error
            else:
                assert key in ("max_position_embeddings", "type_vocab_size"), (key, value)


def test_parts_of_different_models_are_named(model):
    for file, key, value in (
        (model / "text_projection" / "config.json", "text_embed_dim", 384),
        (model / "text_projection" / "config.json", "image_embed_dim", 9),
        (model / "prior" / "config.json", "embedding_dim", 64),
        (model / "prior" / "config.json", "embedding_proj_dim", 64),
        (model / "decoder" / "config.json", "space_to_depth", 3),
        (model / "interpolator" / "config.json", "unet_config", {"encoder_hid_dim": 9}),
    ):
        whole = file.read_bytes()
        values = json.loads(whole)
        changed = {**values[key], **value} if isinstance(value, dict) else value
        file.write_text(json.dumps({**values, key: changed}))
        refused_early(model, file)
        file.write_bytes(whole)
    check_model(model)


def test_a_scheduler_that_asks_for_the_absurd_is_named(model):
    file = model / "decoder_scheduler" / "scheduler_config.json"
    whole = json.loads(file.read_text())
    for value in ("x", 10**9, 0, None, 2.5):
        file.write_text(json.dumps({**whole, "num_train_timesteps": value}))
        refused_early(model, file)
    file.write_text(json.dumps({**whole, "beta_schedule": "none"}))
    refused(model, file)


@pytest.mark.parametrize(
    "entry", [7, [7, 7], ["os"], ["os", "system"], ["makeavideo.__main__", "main"], [None, "X"], {}, "x"]
)
def test_nothing_is_imported_because_a_model_says_so(model, entry):
    file = model / "model_index.json"
    whole = json.loads(file.read_text())
    file.write_text(json.dumps({**whole, "decoder": entry}))
    refused_early(model, file)


@pytest.mark.parametrize(
    "name, entry",
    [
        ("decoder", ["diffusers", "nothing"]),
        ("decoder", ["diffusers", "DPMSolverMultistepScheduler"]),
        ("decoder", ["makeavideo.inflation", "inflate"]),
        ("image_encoder", ["transformers", "AutoTokenizer"]),
        ("prior_scheduler", ["diffusers", "PriorTransformer"]),
        ("tokenizer", ["transformers", "BertModel"]),
    ],
)
def test_a_class_that_cannot_stand_there_is_named(model, name, entry):
    file = model / "model_index.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), name: entry}))
    assert name in refused(model, file, name)


def test_a_component_that_lacks_is_named(model):
    file = model / "model_index.json"
    whole = json.loads(file.read_text())
    for name in ("_class_name", *NETWORKS, *SCHEDULERS, "tokenizer"):
        file.write_text(json.dumps({key: value for key, value in whole.items() if key != name}))
        refused_early(model, file)
    file.write_text(json.dumps(whole))
    for folder in [path for path in model.iterdir() if path.is_dir()]:
        os.rename(folder, model / "away")
        refused_early(model, folder)
        os.rename(model / "away", folder)


def test_a_tokenizer_of_other_words_is_named(model):
    file = model / "tokenizer" / "tokenizer.json"
    values = json.loads(file.read_text())
    values["model"]["vocab"].update({f"word{number}": 15 + number for number in range(9)})
    file.write_text(json.dumps(values))
    assert str(file.parent) in refusal(MakeAVideoPipeline.load, model)
    file.write_text('{"version": "1.0"}')
    refused(model, file.parent)


def test_a_tokenizer_that_panics_is_named(model):
    file = model / "tokenizer" / "tokenizer.json"
    values = json.loads(file.read_text())
    values["post_processor"]["special_tokens"] = {}
    file.write_text(json.dumps(values))
    index = json.loads((model / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "PreTrainedTokenizerFast"]  # which takes the file as it is
    (model / "model_index.json").write_text(json.dumps(index))
    refused(model, file.parent)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("tokenizer/tokenizer.json", {"model": {"vocab": {"cat": 999_999}}}, "a word of it is number 999999"),
        ("tokenizer/tokenizer_config.json", {"pad_token": None}, "it names no pad_token"),
        ("text_encoder/config.json", {"quantization_config": {"quant_method": "bitsandbytes"}}, "quantized"),
        ("text_encoder/adapter_config.json", {"peft_type": "LORA"}, "an adapter beside the weights is not read"),
        ("model_index.json", {"super_resolution_high": ["makeavideo.super_resolution", ""]}, "no pair of library"),
        ("prior/x.safetensors.index.json", {"weight_map": 5}, "it has no tables `weight_map` and `metadata`"),
        ("prior/x.safetensors.index.json", {"weight_map": {"a": "b"}, "metadata": {}}, "a is not in b, as it says"),
    ],
)
def test_what_only_running_would_show_is_named(model, name, change, reason):
    file = model / name
    whole = json.loads(file.read_text()) if file.exists() else {}
    if "model" in change:
        change = {"model": {**whole["model"], "vocab": {**whole["model"]["vocab"], **change["model"]["vocab"]}}}
    file.write_text(json.dumps({**whole, **change}))
    call = MakeAVideoPipeline.load if "tokenizer" in name else check_model
    said = refusal(call, model)
    assert str(file) in said and reason in said


def test_what_the_libraries_do_not_read_is_named(model):
    """A byte order mark, notes that are no texts."""
    for file in (model / "prior" / "config.json", weights_of(model / "prior")[0]):
        whole = file.read_bytes()
        length = struct.unpack("<Q", whole[:8])[0]
        damages = [b"\xef\xbb\xbf" + whole]
        if file.suffix == ".safetensors":
            header = json.loads(whole[8 : 8 + length])
            told = json.dumps({**header, "__metadata__": {"format": 5}}).encode()
            marked = b"\xef\xbb\xbf" + whole[8 : 8 + length]
            damages = [struct.pack("<Q", len(head)) + head + whole[8 + length :] for head in (told, marked)]
        for damage in damages:
            file.write_bytes(damage)
            refused_early(model, file)
        file.write_bytes(whole)
