"""The whole path of an adopted model: a motion module, F-up on its latents, assembled, and all uses of that."""

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import tiny_text_to_image as tiny
from makeavideo import MakeAVideoPipeline, UserError
from makeavideo.cli.main import app
from makeavideo.filling import MaskedLatents
from makeavideo.inflation import inflate, is_temporal
from makeavideo.media.reader import probe
from makeavideo.orders import Additions
from makeavideo.training.networks import load_network
from makeavideo.training.recipe import load_recipe
from makeavideo.training.trainer import train
from tiny_adopted import adopt_recipe, moving_clips

pytestmark = pytest.mark.xdist_group("adopted-path")
FEW = {"num_inference_steps": 2, "output_type": "pt"}


def run(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """my-model adopted by the command, runs of the recipes, and `mine`, assembled of them by the command."""
    folder = tmp_path_factory.mktemp("path")
    tiny.kandinsky(folder / "source")
    assert run("adopt", folder / "source" / "decoder", folder / "my-model").exit_code == 0
    moving_clips(folder / "my" / "clips")
    moving_clips(folder / "my" / "others", 2)
    train(adopt_recipe(folder, "motion-module", prompts=None, lora_rank=2))
    train(adopt_recipe(folder, "interpolator"))
    runs = [word for name in ("motion-module", "interpolator") for word in ("--run", folder / "runs" / "adopt" / name)]
    made = run("assemble", folder / "mine", "--model", folder / "my-model", *runs)
    assert made.exit_code == 0, made.output
    return folder


def test_f_up_starts_from_the_decoder_and_its_motion_module(path):
    final = path / "runs" / "adopt" / "motion-module" / "final"
    assert {file.name for file in final.iterdir()} == {"motion_module.safetensors", "lora.safetensors"}
    decoder = load_network(final / "decoder", "decoder")
    plain = load_network(path / "my-model" / "decoder", "decoder").state_dict()
    changed = [name for name, weight in decoder.state_dict().items() if not torch.equal(weight, plain[name])]
    assert not [name for name in decoder.state_dict() if "lora" in name]
    assert {is_temporal(name) for name in changed} == {True, False}  # the LoRA is a part of the attention's weights
    assert all(is_temporal(name) or ".attentions." in name for name in changed), changed
    fillup = load_network(path / "runs" / "adopt" / "interpolator" / "final" / "interpolator", "F-up").float()
    assert fillup.config.extra_channels == MaskedLatents.extra_channels and fillup.config.prediction == "epsilon"
    learnt = {name for name, weight in fillup.state_dict().items() if name in plain and differs(weight, decoder, name)}
    assert any(map(is_temporal, learnt))
    assert all(is_temporal(name) or name.startswith(("conv_in.", "conv_out.")) for name in learnt), learnt


def differs(weight, network, name):
    before = network.state_dict()[name]
    return weight.shape != before.shape or (weight - before).abs().max() > 2e-3  # saved in half precision


def test_the_assembled_model_does_all_uses_at_any_length(path):
    pipe = MakeAVideoPipeline.load(path / "mine", device="cpu", dtype="float32")
    pipe.set_progress_bar_config(disable=True)
    seed = lambda: torch.Generator().manual_seed(3)  # noqa: E731
    video = pipe("a red dog", num_frames=19, fps=8, generator=seed(), **FEW).frames
    assert video.shape == (1, 19, 3, 16, 16) and video.isfinite().all() and video.std() > 0.01
    picture = Image.fromarray(np.full((16, 16, 3), (200, 30, 90), np.uint8))
    moving = pipe.animate(picture, num_frames=6, generator=seed(), **FEW).frames
    given = torch.tensor((200, 30, 90)) / 255
    assert moving.shape == (1, 6, 3, 16, 16) and (moving[0, 0].mean((1, 2)) - given).abs().max() < 0.5
    assert pipe.interpolate(picture, picture, num_frames=6, generator=seed(), **FEW).frames.shape[1] == 6
    clip = (torch.rand(5, 16, 16, 3) * 255).byte().numpy()
    assert pipe.vary(clip, num_frames=4, generator=seed(), **FEW).frames.shape[1] == 4
    assert pipe.extend(clip, num_frames=4, fps=8, generator=seed(), **FEW).frames.shape[1] == 9
    looped = pipe("a red dog", num_frames=6, loop=True, generator=seed(), **FEW).frames
    assert looped.shape[1] == 6 and looped.isfinite().all()


def test_the_command_makes_videos_and_stops_where_there_is_nothing(path, tmp_path):
    how = ["--model", path / "mine", "--steps", 1, "--seed", 1, "--dtype", "float32", "-q"]
    made = run("generate", "a dog", "-o", tmp_path / "dog.webp", "--num-frames", 20, "--size", "24x16", *how)
    assert made.exit_code == 0, made.output
    found = probe(tmp_path / "dog.webp")
    assert (found.width, found.height, found.num_frames) == (24, 16, 20)
    beyond = run("generate", "a dog", "-o", tmp_path / "no.webp", "--size", 64, *how)
    assert isinstance(beyond.exception, UserError) and "no network of it enlarges them" in str(beyond.exception)
    card = (path / "mine" / "README.md").read_text()
    assert "license: apache-2.0" in card and "Trained on videos or pictures since: decoder, interpolator." in card
    assert "F-up: a video has" not in card and "has not been trained" not in card


def test_what_does_not_belong_together_is_a_sentence(path, tmp_path):
    runs = path / "runs" / "adopt"

    def sentence(*args):
        return str(run("assemble", tmp_path / "new", *args).exception)

    assert "belong together" in sentence("--model", path / "my-model")
    assert "no finished run" in sentence("--model", path / "my-model", "--run", path / "my")
    twice = ["--run", runs / "interpolator"] * 2
    assert "are both of interpolator" in sentence("--model", path / "my-model", *twice)
    assert "holds something already" in str(run("assemble", path / "mine", "--model", "x", *twice).exception)
    clip = tmp_path / "clip"
    (clip / "final").mkdir(parents=True)
    recipe = load_recipe(runs / "interpolator" / "recipe.yaml").model_copy(update={"stage": "clip"})
    import yaml

    (clip / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    assert "is a run of clip" in sentence("--model", path / "my-model", "--run", clip)
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def more(path):
    final = path / "runs" / "adopt" / "motion-module" / "final"
    return Additions.read(final / "motion_module.safetensors", 0.5, [f"{final / 'lora.safetensors'}:0.8"])


def test_lists_of_prompts_take_what_was_learnt(path, more, tmp_path):
    (tmp_path / "list.txt").write_text("a dog\n")
    how = ["--format", "webp", "--model", path / "my-model", "--num-frames", 2, "--steps", 1, "--dtype", "float32"]
    files = ["--motion-module", more.motion_module, "--motion-module-scale", 0.5, "--lora", f"{more.loras[0][0]}:0.8"]
    for added in ([], files, files):
        made = run("batch", tmp_path / "list.txt", tmp_path / "out", *how, *added)
        assert made.exit_code == 0, made.output
    assert "0 made, 1 there already" in " ".join(made.stderr.split())
    recipes = [probe(file).recipe for file in (tmp_path / "out").glob("*.webp")]
    assert len(recipes) == 2  # a video without is another one
    assert sorted(recipe.get("motion_module", [0, 0, 0])[2] for recipe in recipes) == [0, 0.5]
    assert sorted(recipe["lora"][0][2] for recipe in recipes if "lora" in recipe) == [0.8]


def test_the_protocols_and_the_studio_take_what_was_learnt(path, more, tmp_path):
    from makeavideo.cli.evaluate import generator_of
    from makeavideo.web.html import additions
    from makeavideo.web.studio import Studio

    plain, learnt = (
        generator_of(path / "my-model", 2, None, 8, 1, 1.0, added)(["a dog"], 0) for added in (Additions(), more)
    )
    assert plain.shape == learnt.shape and (plain != learnt).any()
    maker = Studio(path / "my-model", tmp_path, additions=more).maker
    assert maker.added["motion_module"][2] == 0.5 and "lora_0" in str(maker.pipe.decoder.active_adapters())
    said = additions(more.told())
    assert "motion_module.safetensors (0.5), lora.safetensors (0.8)" in said and additions([]) == ""
    assert additions(["<b>"]).count("<b>") == 0


def test_karlos_f_up_corrects_a_guess_along_the_flow_and_its_sr_learns_from_clips(tmp_path):
    """It makes frames: F-up of pixels names the answer itself, of whatever network. SR_l stays one of noise."""
    tiny.karlo(tmp_path / "karlo")
    assert run("adopt", tmp_path / "karlo", tmp_path / "my-model", "--image-encoder", tmp_path / "tower").exit_code == 0
    moving_clips(tmp_path / "my" / "clips")
    decoder = str(tmp_path / "my-model" / "decoder")
    recipe = adopt_recipe(tmp_path, "interpolator", codec=None, guess="flow", init_from=decoder)
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"size": 8})})
    start = load_network(decoder, "decoder").config
    final = train(recipe)
    made = load_network(final / "interpolator", "F-up").config
    assert (start.prediction, made.prediction, made.extra_channels) == ("epsilon", "sample", 5)
    larger = adopt_recipe(tmp_path, "super-resolution")
    larger = larger.model_copy(update={"data": larger.data.model_copy(update={"size": 32, "crop": 16})})
    learnt = load_network(train(larger) / "super_resolution_low", "SR_l")
    before = load_network(tmp_path / "my-model" / "super_resolution_low", "SR_l").float()
    assert (learnt.config.temporal, learnt.config.prediction) == ("pseudo3d", "epsilon")
    changed = {name for name, weight in inflate(before).state_dict().items() if differs(weight, learnt, name)}
    assert changed and all(map(is_temporal, changed))
    runs = ["--run", recipe.output, "--run", larger.output]
    out = run("assemble", tmp_path / "mine", "--model", tmp_path / "my-model", *runs)
    assert out.exit_code == 0, out.output
    pipe = MakeAVideoPipeline.load(tmp_path / "mine", device="cpu", dtype="float32")
    pipe.set_progress_bar_config(disable=True)
    assert type(pipe.super_resolution_low_scheduler).__name__ == "UnCLIPScheduler"
    assert pipe.super_resolution_low.config.temporal == "pseudo3d"
    video = pipe("a dog", num_frames=19, generator=torch.Generator().manual_seed(3), **FEW).frames
    assert video.shape == (1, 19, 3, 32, 32) and video.isfinite().all()
