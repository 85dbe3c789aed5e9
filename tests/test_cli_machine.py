"""Where a cascade runs, in what precision, from where, and where to; and several videos of one prompt."""

import sys

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from makeavideo import UserError
from makeavideo.cli.main import main
from makeavideo.loading import on_disk
from makeavideo.media.reader import probe, read_video
from makeavideo.pipeline import MakeAVideoPipeline


@pytest.fixture
def command(monkeypatch, tiny_model, tmp_path, capfd):
    """Runs `make-a-video generate "red rocket"` in a folder; its exit code, and what it said."""
    monkeypatch.chdir(tmp_path)

    def run(*options):
        short = ["--model", str(tiny_model), "--num-frames", "3", "--size", "16", "--steps", "1"]
        monkeypatch.setattr(sys, "argv", ["make-a-video", "generate", "red rocket", *short, *options])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, capfd.readouterr().err

    return run


def test_several_videos_of_one_prompt(command, tmp_path):
    code, said = command("-o", "rocket.mp4", "--count", "3", "--seed", "7")
    assert code == 0 and [f"seed {seed}" in said for seed in (7, 8, 9)] == [True] * 3
    made = sorted(tmp_path.glob("*.mp4"))
    assert [file.name for file in made] == ["rocket-7.mp4", "rocket-8.mp4", "rocket-9.mp4"]
    assert command("-o", "again.mp4", "--seed", "8")[0] == 0
    assert (tmp_path / "again.mp4").read_bytes() == made[1].read_bytes()
    assert probe(made[2]).recipe["seed"] == 9 and (read_video(made[0]).frames != read_video(made[1]).frames).any()


def test_the_recipe_says_what_the_bytes_depend_on(command, tmp_path):
    assert command("-o", "a.mp4", "--dtype", "bfloat16", "--device", "cpu", "--quality", "30")[0] == 0
    recipe = probe(tmp_path / "a.mp4").recipe
    assert (recipe["dtype"], recipe["device"], recipe["threads"]) == ("bfloat16", "cpu", torch.get_num_threads())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dtype", "int8"], "--dtype int8 is not possible: choose float32"),
        (["--offload", "disk"], "--offload disk is not possible: choose model, sequential"),
        (["--device", "GPU 1"], "--device GPU 1 is not possible"),
        (["--device", "cuda:7"], "The device cuda:7 cannot be used here"),
        (["--offload", "model", "--device", "cpu"], "leave out --offload"),
        (["--quality", "0"], "--quality 0 is not possible"),
        (["--quality", "50", "-o", "a.gif"], "leave out --quality"),
    ],
)
def test_what_cannot_be_is_one_sentence(command, tmp_path, options, message):
    code, said = command(*options)
    assert code == 2 and message in " ".join(said.split()) and not list(tmp_path.iterdir())


def test_load_takes_precision_and_device(tiny_model):
    pipe = MakeAVideoPipeline.load(tiny_model, dtype=torch.bfloat16, device="cpu")
    assert pipe.decoder.dtype == torch.bfloat16 and pipe.text_encoder.dtype == torch.float32
    assert MakeAVideoPipeline.load(tiny_model, dtype="float32").decoder.dtype == torch.float32


def test_a_dtype_is_named_or_given_for_all_networks_alike(tiny_model):
    pipe = MakeAVideoPipeline.from_pretrained(tiny_model, dtype="float16")
    assert {part.dtype for part in pipe.components.values() if isinstance(part, torch.nn.Module)} == {torch.float16}
    mixed = MakeAVideoPipeline.from_pretrained(tiny_model, dtype={"default": "bfloat16", "prior": torch.float32})
    assert (mixed.decoder.dtype, mixed.prior.dtype) == (torch.bfloat16, torch.float32)
    assert pipe.to("bfloat16").prior.dtype is torch.bfloat16 and pipe.to("cpu", torch.float32).dtype is torch.float32
    for given, message in ((torch.int8, "torch.int8 is not possible: choose float32"), ("meta", "device meta cannot")):
        with pytest.raises(UserError, match=message):
            pipe.to(given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"dtype": dtype}, "choose float32, bfloat16, float16") for dtype in (5, "load", "float99", torch.int8, "x")),
        *(({"device": device}, "cannot be used here") for device in ([], "meta", "x", "cuda:99")),
        ({"offload": "x"}, "--offload 'x' is not possible: choose model, sequential"),
        ({"loras": "x"}, r"The LoRAs 'x' are no list of pairs: give \[\("),
        ({"loras": ["x"]}, r"The LoRAs \['x'\] are no list of pairs"),
        ({"loras": [("x", float("nan"))]}, "The strength of the LoRA x nan is not possible: give a number"),
        *(
            (
                {"motion_module": "m.safetensors", "motion_module_scale": scale},
                "--motion-module-scale .* is not possible",
            )
            for scale in (float("nan"), float("inf"), "0.5")
        ),
        ({"motion_module_scale": 0.5}, "--motion-module-scale 0.5 has nothing to scale"),
        ({"variant": 5}, "The variant 5 is not possible: give its name"),
        ({"variant": "fp16"}, "model files of the `variant=fp16`, of which .*text_projection has none: leave out"),
    ],
)
def test_what_load_cannot_take_is_one_sentence(tiny_model, options, message):
    with pytest.raises(UserError, match=message):
        MakeAVideoPipeline.load(tiny_model, **options)
    if options.keys() & {"dtype", "variant"}:
        with pytest.raises(UserError, match=message):
            MakeAVideoPipeline.from_pretrained(tiny_model, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "auto"}, "The dtype 'auto' is not possible"),
        ({"dtype": {"decodr": torch.float16}}, "The dtype of 'decodr' is given: choose from default, tokenizer"),
        ({"torch_dtype": "x"}, "The dtype 'x' is not possible"),
        ({"decoder": 5}, "A int cannot be the decoder: give a VideoUNet, or None"),
        ({"prior": 5}, "A int cannot be the prior: give a ModelMixin or PreTrainedModel"),
        ({"tokenizer": "x"}, "A str cannot be the tokenizer: give a PreTrainedTokenizerBase, or None"),
        ({"sampling": 5}, "sampling 5 is no table of names and numbers"),
        ({"foo": 1}, "There is no option 'foo' here: choose from dtype, variant, tokenizer"),
    ],
)
def test_what_from_pretrained_cannot_take_is_one_sentence(tiny_model, options, message):
    with pytest.raises(UserError, match=message):
        MakeAVideoPipeline.from_pretrained(tiny_model, **options)


def test_load_takes_the_id_of_a_hub(tiny_model, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **how: asked.append((name, how)) or tiny_model
    )
    assert type(MakeAVideoPipeline.load("somebody/emoji")) is MakeAVideoPipeline
    ((name, how),) = asked
    assert (
        name == "somebody/emoji" and "*.safetensors" in how["allow_patterns"] and "*.bin" not in how["allow_patterns"]
    )
    assert on_disk(tiny_model) == tiny_model

    def away(name, **how):
        raise OSError("no network.\nlong")

    monkeypatch.setattr("huggingface_hub.snapshot_download", away)
    with pytest.raises(UserError, match=r"no folder somebody/else, and the hub gives no such model \(no network\)"):
        MakeAVideoPipeline.load("somebody/else")


def test_load_takes_a_variant(tiny_model, tmp_path):
    pipe = MakeAVideoPipeline.load(tiny_model)
    pipe.save_pretrained(tmp_path / "saved", variant="fp16")
    again = MakeAVideoPipeline.load(tmp_path / "saved", variant="fp16")
    mine, saved = pipe.decoder.state_dict(), again.decoder.state_dict()
    assert all(torch.equal(mine[name], saved[name]) for name in mine)
    assert type(DiffusionPipeline.from_pretrained(tmp_path / "saved", variant="fp16")) is MakeAVideoPipeline
    with pytest.raises(UserError, match=r"its weights are of the variant fp16\): load it with variant='fp16'"):
        MakeAVideoPipeline.load(tmp_path / "saved")
    DiffusionPipeline.save_pretrained(pipe, tmp_path / "pickled", safe_serialization=False)
    with pytest.raises(UserError, match="are pickled, which can run code: convert them"):
        MakeAVideoPipeline.load(tmp_path / "pickled")


def test_parts_can_be_loaded_without_the_others(tiny_model):
    """So that a text encoder need not be in memory while frames are made."""
    whole = MakeAVideoPipeline.from_pretrained(tiny_model)
    others = whole.components.keys() - {"tokenizer", "text_encoder", "text_projection"}
    reader = MakeAVideoPipeline.from_pretrained(tiny_model, **dict.fromkeys(others))
    maker = MakeAVideoPipeline.from_pretrained(tiny_model, tokenizer=None, text_encoder=None)
    how = {"num_frames": 2, "size": 16, "num_inference_steps": 2, "output_type": "pt"}
    embeds, _ = reader.encode_prompt("a red rocket")
    said = whole("a red rocket", generator=torch.Generator().manual_seed(0), **how).frames
    given = maker(prompt_embeds=embeds, generator=torch.Generator().manual_seed(0), **how).frames
    assert torch.equal(said, given)
    with pytest.raises(UserError, match="has no decoder, D_t"):
        reader("a red rocket", **how)
    with pytest.raises(UserError, match="has no prior, P"):
        MakeAVideoPipeline.from_pipe(whole, prior=None)("a red rocket", **how)


@pytest.fixture(scope="module")
def tiny_pipe(tiny_model):
    return MakeAVideoPipeline.load(tiny_model, device="cpu")


@pytest.mark.parametrize(
    ("place", "options", "message"),
    [
        (5, {}, "no folder's name"),
        ("", {}, "The model '' is no folder's name"),
        ("file", {}, "cannot be written to .*file"),
        ("a", {"variant": 5}, "The variant 5 is not possible"),
        ("a", {"max_shard_size": "x"}, "cannot be written so .*: correct the options"),
        ("a", {"safe_serialization": False}, "written as safetensors"),
    ],
)
def test_a_model_that_cannot_be_written_is_one_sentence(tiny_pipe, tmp_path, place, options, message):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=message) as error:
        tiny_pipe.save_pretrained(tmp_path / place if place and isinstance(place, str) else place, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "move", ["enable_model_cpu_offload", "enable_sequential_cpu_offload", "to"], ids=("model", "sequential", "to")
)
def test_a_device_that_there_is_not_is_one_sentence(tiny_pipe, move):
    with pytest.raises(UserError, match="The device tpu cannot be used here: choose another one"):
        getattr(tiny_pipe, move)(device="tpu")
    if move != "to":
        with pytest.raises(UserError, match="Offloading moves networks from a GPU"):
            getattr(tiny_pipe, move)(device="cpu")


def test_a_fit_that_is_no_text_is_one_sentence(tiny_pipe):
    with pytest.raises(UserError, match="crop") as error:
        tiny_pipe.animate(Image.new("RGB", (16, 16)), fit=np.array([1, 2]), size=16)
    assert "\n" not in str(error.value)
