"""Fine-tuning of an adopted model: motion modules, LoRA, and the recipes of recipes/adopt on a tiny one."""

import json
import shutil
import sys
import warnings

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, safe_open
from typer.testing import CliRunner

import tiny_text_to_image as tiny
from conftest import tiny_decoder
from makeavideo import MakeAVideoPipeline, UserError, inflate
from makeavideo.cli.main import app
from makeavideo.codec import encode
from makeavideo.data.clips import UnlabelledClips
from makeavideo.inflation import is_temporal
from makeavideo.lora import add_lora, load_loras, lora_weights, save_lora
from makeavideo.motion_module import load_motion_module, save_motion_module, spatial_hash
from makeavideo.sampling import add_noise
from makeavideo.training.memory import count
from makeavideo.training.recipe import Recipe, load_recipe
from makeavideo.training.refusals import check_trainable
from makeavideo.training.stages.conditions import Conditions, told
from makeavideo.training.trainer import train
from tiny_adopted import RECIPES, adopt_recipe, adopted_kandinsky

pytestmark = pytest.mark.xdist_group("fine-tuning")


def network(seed=0, moved=False):
    torch.manual_seed(seed)
    made = inflate(tiny_decoder(), space_to_depth=4).eval()
    if moved:
        torch.manual_seed(seed + 100)
        for weight in made.temporal_parameters():
            torch.nn.init.normal_(weight, std=0.1)
    return made


@torch.no_grad()
def clip_of(net):
    torch.manual_seed(9)
    x, y_e = torch.randn(1, 4, 3, 16, 16), torch.randn(1, 8)
    return net(x, 500, fps=torch.tensor([8.0]), added_cond_kwargs={"image_embeds": y_e}).sample


def test_a_motion_module_is_the_temporal_weights_and_knows_its_network(tmp_path):
    trained, file = network(moved=True).half().float(), tmp_path / "m.safetensors"
    save_motion_module(trained, file)
    assert all(map(is_temporal, load_file(file))) and len(load_file(file)) == len(list(trained.temporal_parameters()))
    base = network().half().float()
    still = clip_of(base)
    load_motion_module(base, file)
    assert torch.equal(clip_of(base), clip_of(trained)) and not torch.allclose(still, clip_of(trained), atol=1e-3)
    load_motion_module(base, file, 0.0)
    torch.testing.assert_close(clip_of(base), still)
    load_motion_module(base, file, 0.5)
    assert not torch.allclose(clip_of(base), still, atol=1e-4)
    with pytest.raises(UserError, match="belongs to another network"):
        load_motion_module(network(seed=1), file)
    with pytest.raises(UserError, match="cannot be read"):
        load_motion_module(base, tmp_path / "none.safetensors")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_network_is_known_again_in_every_precision_and_beside_a_lora(dtype):
    own = spatial_hash(network())
    assert spatial_hash(network().to(dtype)) == own and spatial_hash(network(seed=1)) != own
    with_lora = network()
    add_lora(with_lora, 2)
    assert spatial_hash(with_lora) == own


def test_a_module_of_strength_of_motion_brings_it_along(tmp_path):
    from makeavideo.inflation import add_motion

    trained = add_motion(network(moved=True), (0.2, 0.5))
    save_motion_module(trained, tmp_path / "m.safetensors")
    base = network()
    load_motion_module(base, tmp_path / "m.safetensors")
    assert tuple(base.config.motion) == (0.2, 0.5)


def test_loras_change_the_look_as_much_as_is_asked_for(tmp_path):
    files = []
    for seed in (1, 2):
        trained = network()
        add_lora(trained, 2)
        torch.testing.assert_close(clip_of(trained), clip_of(network()))  # at first it changes nothing
        learning = [name for name, weight in trained.named_parameters() if weight.requires_grad]
        assert sorted(learning) == sorted(lora_weights(trained))
        torch.manual_seed(seed)
        for weight in lora_weights(trained).values():
            torch.nn.init.normal_(weight, std=0.3)
        files.append(tmp_path / f"{seed}.safetensors")
        save_lora(trained, files[-1])
    one = network()
    load_loras(one, [(files[1], 1.0)])
    torch.testing.assert_close(clip_of(one), clip_of(trained), atol=1e-3, rtol=1e-2)
    both, off = network(), network()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # nothing that a user has to wonder about
        load_loras(both, [(files[0], 0.8), (files[1], 1.0)])
    load_loras(off, [(files[0], 0.0), (files[1], 0.0)])
    assert not torch.allclose(clip_of(both), clip_of(one), atol=1e-3)
    torch.testing.assert_close(clip_of(off), clip_of(network()))
    with pytest.raises(UserError, match="is for another network"):
        load_loras(inflate(tiny_decoder(block_out_channels=(8, 24)), space_to_depth=4), [(files[0], 1.0)])


@pytest.fixture(scope="module")
def adopted(tmp_path_factory):
    return adopted_kandinsky(tmp_path_factory.mktemp("adopted"))


@pytest.fixture(scope="module")
def runs(adopted):
    """The finals of the two recipes."""
    return {name: train(adopt_recipe(adopted, name)) for name in ("motion-module", "lora")}


def test_the_recipes_train_an_adopted_model_and_save_what_was_learnt(adopted, runs, capsys):
    assert [file.name for file in runs["motion-module"].iterdir()] == ["motion_module.safetensors"]
    assert [file.name for file in runs["lora"].iterdir()] == ["lora.safetensors"]
    size = (adopted / "my-model/decoder/diffusion_pytorch_model.safetensors").stat().st_size
    assert (runs["lora"] / "lora.safetensors").stat().st_size < size / 20
    pipes = [
        MakeAVideoPipeline.load(adopted / "my-model", device="cpu", dtype="float32"),
        MakeAVideoPipeline.load(
            adopted / "my-model",
            device="cpu",
            dtype="float32",
            motion_module=runs["motion-module"] / "motion_module.safetensors",
            loras=[(runs["lora"] / "lora.safetensors", 0.8)],
        ),
    ]
    videos = []
    for pipe in pipes:
        pipe.set_progress_bar_config(disable=True)
        noise = torch.Generator().manual_seed(0)
        videos.append(pipe("a red dog", num_frames=4, num_inference_steps=2, generator=noise, output_type="pt").frames)
    assert videos[1].isfinite().all() and not torch.equal(*videos)
    load_motion_module(pipes[0].decoder, runs["motion-module"] / "motion_module.safetensors", 0.0)
    noise = torch.Generator().manual_seed(0)
    off = pipes[0]("a red dog", num_frames=4, num_inference_steps=2, generator=noise, output_type="pt").frames
    torch.testing.assert_close(off, videos[0])  # its noise too, which frames share where they have learnt to


@torch.no_grad()
def apart(pipe, folder):
    """How far the frames lie apart that D_t sees in a clip that stands still, each under a noise of its own."""
    stills = UnlabelledClips(folder, 16, 4, fps=8.0)
    x = torch.stack([stills[index, 0]["pixels"] for index in range(len(stills))])[:, :1].expand(-1, 4, -1, -1, -1)
    x, clips = encode(pipe.codec, x), len(stills)
    noise, level = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)), torch.full((clips,), 0.6)
    y_e = torch.zeros(clips, pipe.decoder.config.unet_config["encoder_hid_dim"])
    conditions = Conditions(y_e, torch.ones(clips, dtype=torch.bool), torch.full((clips,), 8.0))
    return told(pipe.decoder, add_noise(x, noise, level), level, conditions).diff(dim=1).abs().mean().item()


@pytest.mark.slow
def test_fine_tuning_on_silent_clips_makes_frames_go_together(adopted, tmp_path):
    """Before it a clip is as many pictures as frames; clips that stand still teach the temporal weights to agree."""
    values = adopt_recipe(adopted, "motion-module", steps=150, batch_size=4, output=str(tmp_path)).model_dump()
    values |= {"prompts": None, "sample_every": 0, "gradient_checkpointing": False}
    values["data"] |= {"still_clips": 1.0, "held_out": []}
    values["noise"] |= {"shared": 0.0}
    values["optim"] |= {"ema_decay": 0.9}
    module = train(Recipe.model_validate(values)) / "motion_module.safetensors"
    model, others = adopted / "my-model", adopted / "my" / "others"
    before = apart(MakeAVideoPipeline.load(model, device="cpu", dtype="float32"), others)
    after = apart(MakeAVideoPipeline.load(model, device="cpu", dtype="float32", motion_module=module), others)
    assert after < 0.6 * before  # 0.37


def test_a_run_shows_prompts_as_a_webp_and_tells_the_loss_on_clips_held_out(adopted, runs):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = runs["motion-module"].parent
    assert sorted(file.name for file in (run / "samples").iterdir()) == ["step-00000002.png", "step-00000002.webp"]
    with Image.open(run / "samples" / "step-00000002.webp") as moving:
        assert moving.n_frames == 16 and moving.size == (2 * 16, 16)
    log = EventAccumulator(str(run / "logs" / "train"))
    log.Reload()
    assert [event.step for event in log.Scalars("held-out loss")] == [2]
    assert len(list((run / "checkpoints").iterdir())) == 1  # checkpoints_kept
    state = json.loads((run / "checkpoints" / "step-00000002" / "checkpoint.json").read_text())
    assert "model" in state["parts"]
    with safe_open(run / "checkpoints" / "step-00000002" / "model.safetensors", "pt") as opened:
        names = [name for name in opened.keys() if not name.startswith("conditioner.")]  # noqa: SIM118
        assert names and all(is_temporal(name) for name in names)


def test_a_run_of_a_motion_module_goes_on_exactly(adopted, tmp_path):
    once = train(adopt_recipe(adopted, "motion-module", output=str(tmp_path / "once"), prompts=None, steps=4))
    half = {"output": str(tmp_path / "half"), "prompts": None, "steps": 4, "checkpoint_steps": 2, "checkpoints_kept": 3}
    train(adopt_recipe(adopted, "motion-module", **half))
    shutil.rmtree(tmp_path / "half" / "checkpoints" / "step-00000004")
    again = train(adopt_recipe(adopted, "motion-module", **half), resume=True)
    ours, theirs = (load_file(folder / "motion_module.safetensors") for folder in (once, again))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_command_takes_what_was_trained_and_says_so_in_the_file(adopted, runs, tmp_path):
    out = tmp_path / "dog.webp"
    how = ["--model", adopted / "my-model", "--num-frames", 3, "--steps", 1, "--seed", 1, "--dtype", "float32", "-q"]
    more = ["--motion-module", runs["motion-module"] / "motion_module.safetensors", "--motion-module-scale", 0.5]
    more += ["--lora", f"{runs['lora'] / 'lora.safetensors'}:0.8"]
    made = CliRunner().invoke(app, [str(word) for word in ["generate", "a dog", "-o", out, *how, *more]])
    assert made.exit_code == 0, made.output
    from makeavideo.media.reader import probe

    recipe = probe(out).recipe
    assert recipe["motion_module"][0] == "motion_module.safetensors" and recipe["motion_module"][2] == 0.5
    assert recipe["lora"][0][0] == "lora.safetensors" and recipe["lora"][0][2] == 0.8


BUCKETS = ([(8, 16), (32, 16)], [(32, 16), (8, 16)])


def test_memory_is_counted_without_a_weight(adopted):
    recipe = load_recipe(RECIPES / "motion-module.yaml", [])
    here = adopt_recipe(adopted, "motion-module", gradient_checkpointing=False)
    with_all, with_less = count(here), count(here.model_copy(update={"gradient_checkpointing": True}))
    net = inflate(tiny.kandinsky_unet(), prediction="epsilon", schedule={})
    assert with_all.learns == sum(weight.numel() for weight in net.temporal_parameters())
    assert 0 < with_less.activations < with_all.activations and with_less.gradients == 4 * with_less.learns
    shapes = [here.model_copy(update={"data": here.data.model_copy(update={"buckets": two})}) for two in BUCKETS]
    assert with_all.activations < count(shapes[0]).activations == count(shapes[1]).activations
    lora = count(adopt_recipe(adopted, "lora"))
    assert lora.learns < with_all.learns and lora.stays > with_all.stays
    assert recipe.train == "temporal" and "counted, not measured" in "\n".join(with_less.lines())
    text = CliRunner().invoke(app, ["train", str(adopted / "no.yaml"), "--memory"]).output
    assert "cannot be read" in " ".join(text.split()) or text == ""


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train": "all", "lora_rank": 4}, "set train to lora or temporal"),
        ({"train": "lora", "lora_rank": 0}, "and lora_rank, such as 16"),
        ({"pixel_channels": 8}, "take pixel_channels out"),
        ({"stage": "sr-low-video", "prompts": None, "train": "all", "codec": "x"}, "codec is for decoder and inter"),
        ({"stage": "interpolator", "prompts": None, "train": "all"}, "has none: guess: none"),
        (
            {"stage": "sr-low-video", "train": "all", "codec": None, "prompts": {"model": "m", "texts": ["a"]}},
            "prompts are",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_in_a_sentence(adopted, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        check_trainable(adopt_recipe(adopted, "motion-module", **changes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"size": 17}, r"data.size 17 is not possible: .* 2x2 pixels: choose multiples of 2"),
        ({"size": (16, 18), "crop": (16, 15)}, r"data.size 15x16 is not possible"),
        ({"buckets": [(16, 16), (15, 20)]}, r"data.buckets 20x15 is not possible"),
    ],
)
def test_frames_that_the_codec_does_not_divide_are_refused(adopted, changes, sentence):
    recipe = adopt_recipe(adopted, "motion-module")
    with pytest.raises(UserError, match=sentence):
        check_trainable(recipe.model_copy(update={"data": recipe.data.model_copy(update=changes)}))


def test_prompts_of_another_cascade_are_refused_at_the_start(adopted, tiny_model, tmp_path):
    prompts = {"model": str(tiny_model), "texts": ["a dog"]}
    with pytest.raises(UserError, match=r"works on .* and the network that is trained on .*: name the cascade"):
        train(adopt_recipe(adopted, "motion-module", output=str(tmp_path / "run"), prompts=prompts))


def test_what_is_not_there_is_said_before_training(adopted, tmp_path, monkeypatch):
    def run(**changes):
        train(adopt_recipe(adopted, "motion-module", output=str(tmp_path / "run"), **changes))

    with pytest.raises(UserError, match="makes latents: add codec"):
        run(codec=None, prompts=None)
    with pytest.raises(UserError, match="The tracker nothing cannot be used"):
        run(trackers=["nothing"])
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)  # as where it is not installed
    with pytest.raises(UserError, match="adamw8bit needs bitsandbytes"):
        run(optim={"kind": "adamw8bit"}, prompts=None)


def test_eight_bits_learn_and_go_on_exactly(adopted, tmp_path):
    """AdamW of bitsandbytes, which has a processor's code too."""
    pytest.importorskip("bitsandbytes")
    how = {"prompts": None, "steps": 4, "checkpoint_steps": 2, "checkpoints_kept": 3, "sample_every": 0}
    made = {}
    for kind in ("adamw8bit", "adamw"):
        how["optim"] = {"kind": kind, "learning_rate": 1e-2, "warmup_steps": 0}
        final = train(adopt_recipe(adopted, "motion-module", output=str(tmp_path / kind), **how))
        made[kind] = load_file(final / "motion_module.safetensors")
    files = [tmp_path / kind / "checkpoints" / "step-00000004" / "optimizer.safetensors" for kind in made]
    assert files[0].stat().st_size < 0.4 * files[1].stat().st_size
    temporal = {name for name in made["adamw"] if made["adamw"][name].abs().max() > 0}
    assert any((made["adamw8bit"][name] - made["adamw"][name]).abs().max() > 0 for name in temporal)
    far = [(made["adamw8bit"][name] - made["adamw"][name]).abs().mean().item() for name in temporal]
    assert max(far) < 5e-3  # of steps of 1e-2
    shutil.rmtree(tmp_path / "adamw8bit" / "checkpoints" / "step-00000004")
    how["optim"] = {"kind": "adamw8bit", "learning_rate": 1e-2, "warmup_steps": 0}
    again = train(adopt_recipe(adopted, "motion-module", output=str(tmp_path / "adamw8bit"), **how), resume=True)
    gone_on = load_file(again / "motion_module.safetensors")
    assert all(torch.equal(gone_on[name], weight) for name, weight in made["adamw8bit"].items())
