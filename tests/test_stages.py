"""Every stage trained for a few steps on data made here, joined to a cascade that makes a clip; and exact resuming."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState, GradientState
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from makeavideo import UserError
from makeavideo.flow import first_guess
from makeavideo.training.assemble import assemble
from makeavideo.training.recipe import load_recipe
from makeavideo.training.stages import STAGES, captioned_images, unlabelled_clips
from makeavideo.training.trainer import StepKeys, checkpoints, collate, train
from tiny_training import DECODER, RUNS, SIZE, SUPER_RESOLUTION, draw, recipe_of, settings

pytestmark = pytest.mark.xdist_group("stages")  # they share a run of every stage


@pytest.fixture(scope="module")
def data(training_data) -> Path:
    return training_data


EXPORTS = {
    "clip": ("image_encoder", "text_projection"),
    "clip-finish": ("image_encoder", "text_projection"),
    "prior": ("prior", "wordings"),
    "decoder-image": ("decoder",),
    "decoder-video": ("decoder",),
    "interpolator": ("interpolator",),
    "sr-low-image": ("super_resolution_low",),
    "sr-low-video": ("super_resolution_low",),
    "sr-high-image": ("super_resolution_high",),
}


@pytest.mark.parametrize("name", RUNS)
def test_every_stage_exports_half_precision_and_leaves_a_checkpoint(cascade, name):
    runs, printed = cascade
    for component in EXPORTS[name]:
        folder = runs / name / "final" / component
        assert (folder / "config.json").is_file()
        weights = [tensor for file in folder.glob("*.safetensors") for tensor in load_file(file).values()]
        assert weights and all(w.dtype == torch.float16 for w in weights if w.is_floating_point())
        assert all(w.isfinite().all() for w in weights)
    assert [folder.name for folder in checkpoints(runs / name)] == ["step-00000004"]
    assert (checkpoints(runs / name)[0] / "model.safetensors").is_file()
    assert not list((runs / name).glob("final.partial"))
    assert load_recipe(runs / name / "recipe.yaml") == load_recipe(runs / f"{name}.yaml")
    assert "step 2 loss" in printed[name] and "step 4 loss" in printed[name]


@pytest.mark.parametrize("name", RUNS)
def test_contact_sheets(cascade, name):
    sheet = cascade[0] / name / "samples" / "step-00000004.png"
    assert sheet.exists() == (name not in ("clip", "clip-finish", "prior"))  # of vectors there is nothing to see
    if sheet.exists():
        with Image.open(sheet) as picture:
            assert min(picture.size) >= SIZE and np.asarray(picture).std() > 1


@pytest.mark.parametrize("name", RUNS)
def test_unreadable_files_are_named_and_stop_nothing(cascade, name):
    printed = cascade[1][name].replace("\n", "")
    clips = name in ("decoder-video", "interpolator", "sr-low-video")
    assert ("empty.mp4 (empty file)" if clips else "broken.png (not a picture)") in printed
    if name == "decoder-video":
        assert "broken.png" in printed  # among its stills


def test_learning_rate_and_gradient_norm_are_logged(cascade):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = events.EventAccumulator(str(next((cascade[0] / "decoder-image" / "logs").rglob("events*")).parent))
    log.Reload()
    assert {"loss", "samples/s", "learning rate", "gradient norm"} <= set(log.Tags()["scalars"])
    assert [event.step for event in log.Scalars("loss")] == [2, 4]
    assert all(event.value > 0 for event in log.Scalars("gradient norm"))


def test_the_stages_make_a_pipeline_that_makes_clips(cascade, data, tmp_path):
    from makeavideo.pipeline import MakeAVideoPipeline

    runs, _ = cascade
    folder = assemble(runs, tmp_path / "model", str(data / "text"))
    assert folder == tmp_path / "model" and [p.name for p in tmp_path.iterdir()] == ["model"]
    pipe = MakeAVideoPipeline.load(folder)
    pipe.set_progress_bar_config(disable=True)
    # the tower is the one that the prior was trained on, not the run that it was continued from
    tower = load_file(runs / "clip-finish" / "final" / "text_projection" / "diffusion_pytorch_model.safetensors")
    assert torch.allclose(pipe.text_projection.linear.weight, tower["linear.weight"].float())
    # a caption of the data gives exactly the embedding of its picture
    rocket = torch.from_numpy(np.array(draw("blue", False, 6).resize((SIZE, SIZE), Image.Resampling.BOX)))
    expected = pipe.embed_pictures(rocket.permute(2, 0, 1)[None].float() / 127.5 - 1)
    given = pipe.embed_prompts(["blue rocket"], None)
    assert torch.cosine_similarity(given, expected).item() > 0.99
    options = {"num_inference_steps": 2, "output_type": "pt"}
    frames = pipe("a red cat", num_frames=17, size=16, **options).frames
    assert frames.shape == (1, 17, 3, 16, 16)
    frames = pipe("a red cat", num_frames=3, **options).frames
    assert frames.shape == (1, 3, 3, 192, 192) and frames.isfinite().all()


def test_a_stage_that_is_missing_is_one_sentence(cascade, data, tmp_path):
    with pytest.raises(UserError, match="There is no text projection at"):
        assemble(tmp_path, tmp_path / "model", str(data / "text"))
    missing = settings(tmp_path, data, "decoder-video")
    with pytest.raises(UserError, match="There is no network to start from at"):
        train(recipe_of(missing))
    with pytest.raises(UserError, match="names no image encoder"):
        train(recipe_of(settings(tmp_path, data, "decoder-image"), image_encoder=None))


@pytest.mark.parametrize(
    "name, network, sentence",
    [
        ("sr-low-image", {"block_out_chanels": [8]}, "unknown key network.block_out_chanels"),
        ("sr-low-image", {"in_channels": 3}, "network.in_channels is 3: sr-low-image needs 6"),
        ("sr-low-image", {"class": "UNet3D"}, "network.class is UNet3D"),
        ("sr-low-image", {"space_to_depth": 0}, "network.space_to_depth is 0"),
        ("sr-low-image", {"down_block_types": ["Nothing", "DownBlock2D"]}, "does not make a UNet2DModel"),
        ("decoder-image", {**SUPER_RESOLUTION, "in_channels": 3}, "takes no image embedding"),
        ("prior", {"num_layerz": 2}, "unknown key network.num_layerz"),
    ],
)
def test_wrong_networks_are_one_sentence(cascade, data, tmp_path, name, network, sentence):
    values = settings(cascade[0], data, name)
    network = network if "class" in network and len(network) > 1 else {**values["network"], **network}
    with pytest.raises(UserError, match=sentence) as caught:
        train(recipe_of(values, network=network, output=str(tmp_path / "run")))
    assert "\n" not in str(caught.value)


def test_a_tower_for_another_size_is_one_sentence(cascade, data, tmp_path):
    values = settings(cascade[0], data, "clip-finish")
    recipe = recipe_of(values, output=str(tmp_path / "run"), data={**values["data"], "size": 24})
    with pytest.raises(UserError, match=r"set data\.size to 16"):
        train(recipe)


@pytest.mark.parametrize("name", RUNS)
def test_the_loss_falls_and_every_weight_learns(cascade, data, name):
    """One batch, the same noise again and again. Data parallel training needs a gradient for every weight, too."""
    recipe = recipe_of(settings(cascade[0], data, name), condition_dropout=0.0)
    torch.manual_seed(0)
    stage = STAGES[recipe.stage](recipe, torch.device("cpu"))
    groups = stage.parameter_groups()
    ours = [p for group in groups for p in group["params"]]
    assert {id(p) for p in ours} == {id(p) for p in stage.network.parameters() if p.requires_grad}
    assert len(ours) == len({id(p) for p in ours})
    optimizer = torch.optim.Adam(ours, lr=1e-2 if recipe.stage == "clip" else 5e-3)
    batch = collate([stage.dataset[(i % len(stage.dataset), i, 0.5)] for i in range(4)])
    losses = []
    for _ in range(80 if recipe.stage == "clip" else 12):
        loss = stage.loss(stage.network, dict(batch), torch.Generator().manual_seed(1))
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in ours)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0], losses


def test_video_stages_start_where_the_stage_before_ended(cascade, data):
    """Inflation and widening keep the function; the interpolator's untrained first answer adds nothing."""
    from makeavideo.inflation import VideoUNet

    runs, _ = cascade
    x, y_e = torch.randn(1, 3, 3, SIZE, SIZE), {"added_cond_kwargs": {"image_embeds": torch.randn(1, 8)}}
    image = VideoUNet.from_pretrained(runs / "decoder-image/final/decoder").float()
    video = STAGES["decoder-video"](recipe_of(settings(runs, data, "decoder-video")), torch.device("cpu")).network
    rates = torch.tensor([12.0])
    with torch.no_grad():
        assert torch.allclose(image(x, 500, **y_e).sample, video(x, 500, fps=rates, **y_e).sample, atol=1e-4)
    decoder = VideoUNet.from_pretrained(runs / "decoder-video/final/decoder").float()
    filler = STAGES["interpolator"](recipe_of(settings(runs, data, "interpolator")), torch.device("cpu")).network
    noise, rest = torch.randn(1, 3, 3, SIZE, SIZE), torch.randn(1, 3, 2, SIZE, SIZE)
    wide = torch.cat([noise, x, rest], 2)  # the guess is read where D_t reads its noisy frames
    with torch.no_grad():
        assert filler(wide, 500, rates, **y_e).sample.abs().max() == 0
        for name in ("weight", "bias"):  # but for its last layer it is D_t
            getattr(filler.unet.conv_out, name).copy_(getattr(decoder.unet.conv_out, name))
        filler.unet.conv_out.temporal.bias.copy_(decoder.unet.conv_out.temporal.bias)
        assert torch.allclose(decoder(x, 500, rates, **y_e).sample, filler(wide, 500, rates, **y_e).sample, atol=1e-4)


def test_conditions_are_dropped_for_guidance(cascade, data):
    for dropout, allowed in ((1.0, {0.0}), (0.0, {12.0})):
        values = settings(cascade[0], data, "interpolator")
        stage = STAGES["interpolator"](recipe_of(values, condition_dropout=dropout), torch.device("cpu"))
        seen = {}

        def spy(sample, timestep, fps, added_cond_kwargs, seen=seen, **_):
            seen.update(x=sample, fps=fps, y_e=added_cond_kwargs["image_embeds"])
            return type("Output", (), {"sample": sample[:, :, :3]})

        pixels = torch.rand(4, 6, 3, SIZE, SIZE)
        stage.loss(spy, {"pixels": pixels, "fps": torch.full((4,), 12.0)}, torch.Generator().manual_seed(0))
        assert set(seen["fps"].tolist()) == allowed
        assert (seen["y_e"] == 0).all() == (dropout == 1.0)
        x, mask = seen["x"], seen["x"][:, :, 6:7]
        assert x.shape[2] == 8 and set(mask.unique().tolist()) <= {0.0, 1.0}
        # what is not given is not seen: in its place stands what can be guessed of it from what is
        assert torch.equal(x[:, :, 3:6], first_guess(pixels * mask, mask[:, :, 0, 0, 0])[0])
        assert (mask == mask[..., :1, :1]).all() and (mask.amax((1, 2, 3, 4)) == 1).all()


# ---- the order of the data ---------------------------------------------------------------------------------------


def keys_of(recipe, length, start=0, rank=0, world=1):
    return list(StepKeys(recipe, length, start, rank, world))


def test_keys_of_processes_are_disjoint_and_together_those_of_one(data, tmp_path):
    recipe = recipe_of(settings(tmp_path, data, "sr-low-image"), steps=7, batch_size=3)
    one = keys_of(recipe.model_copy(update={"batch_size": 6}), 10)
    parts = [keys_of(recipe, 10, rank=rank, world=2) for rank in range(2)]
    assert [a + b for a, b in zip(*parts, strict=True)] == one
    assert not {k[1] for batch in parts[0] for k in batch} & {k[1] for batch in parts[1] for k in batch}
    flat = [key for batch in one for key in batch]
    assert len({seed for _, seed, _ in flat}) == len(flat)
    for epoch in range(4):
        assert sorted(index for index, _, _ in flat[epoch * 10 : epoch * 10 + 10]) == list(range(10))
    assert [k[0] for k in flat[:10]] != [k[0] for k in flat[10:20]]
    assert flat[0][2] == 0 and 0.8 < flat[-1][2] < 1


def test_keys_continue_where_they_were(data, tmp_path):
    recipe = recipe_of(settings(tmp_path, data, "sr-low-image"), steps=6, gradient_accumulation=2)
    whole = keys_of(recipe, 5)
    assert len(whole) == len(StepKeys(recipe, 5, 0, 0, 1)) == 12
    assert keys_of(recipe, 5, start=8) == whole[8:]
    assert keys_of(recipe.model_copy(update={"seed": 4}), 5) != whole


@pytest.mark.parametrize("video", [False, True])
def test_a_worker_process_gives_the_same_batches(data, tmp_path, video):
    recipe = recipe_of(settings(tmp_path, data, "sr-low-video" if video else "sr-low-image"), steps=3)
    make = unlabelled_clips if video else (lambda d: captioned_images(d, captions=False))
    batches = []
    for workers in (0, 1):
        dataset = make(recipe.data)
        keys = StepKeys(recipe, len(dataset), 0, 0, 1)
        loader = DataLoader(dataset, batch_sampler=keys, collate_fn=collate, num_workers=workers, timeout=60 * workers)
        batches.append(list(loader))
    assert len(batches[0]) == 3
    for alone, worker in zip(*batches, strict=True):
        assert torch.equal(alone["pixels"], worker["pixels"]) and alone["key"] == worker["key"]


def test_datasets_can_be_sent_to_other_processes(data, tmp_path):
    """Where processes are spawned, as on macOS and Windows, the data set is pickled, the choice of files included."""
    for name, make in (("sr-low-image", captioned_images), ("sr-low-video", unlabelled_clips)):
        values = settings(tmp_path, data, name)
        recipe = recipe_of(values, data={**values["data"], "split": "emoji"})
        dataset = make(recipe.data)
        again = pickle.loads(pickle.dumps(dataset))
        assert torch.equal(again[(0, 5, 0.5)]["pixels"], dataset[(0, 5, 0.5)]["pixels"])


def test_the_committed_split_is_left_out(data, tmp_path):
    from makeavideo.emoji.concepts import split

    motion, everything = min(split().held_out_motion), min(split().held_out_all)
    for folder, ending, source in (("i", "png", "images/red-cat.png"), ("c", "gif", "clips/red.gif")):
        (tmp_path / folder).mkdir()
        for key in ("mine", motion, everything):
            (tmp_path / folder / f"{key}.{ending}").write_bytes((data / source).read_bytes())
    values = settings(tmp_path, data, "sr-low-video")["data"]
    recipe = recipe_of(settings(tmp_path, data, "sr-low-video"), data={**values, "split": "emoji", "roots": ["x"]}).data
    images = recipe.model_copy(update={"roots": [str(tmp_path / "i")]})
    clips = recipe.model_copy(update={"roots": [str(tmp_path / "c")]})
    assert set(captioned_images(images, captions=False).keys) == {"mine", motion}
    assert set(unlabelled_clips(clips).keys) == {"mine"}


# ---- killing and resuming ----------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(int(sys.argv[2]))
from makeavideo.training import trainer
from makeavideo.training.recipe import load_recipe

replace, count = os.replace, 0
def killing(source, target):  # the third checkpoint is written but for its name when the machine goes down
    global count
    count += "partial-" in str(source)
    if count == 3:
        os.unlink(os.path.join(source, "optimizer.bin"))
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
trainer.os.replace = killing
trainer.train(load_recipe(sys.argv[1]))
"""


def same(a, b) -> bool:
    """Whether two nested structures hold the same numbers, bit for bit."""
    if torch.is_tensor(a):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_a_killed_run_continues_bit_for_bit(data, tmp_path):
    """Clips, random crops, fps curriculum, dropout inside the network, accumulation, EMA, schedule and optimiser."""
    values = settings(tmp_path, data, "sr-low-video")
    values |= {"init_from": None, "network": {**SUPER_RESOLUTION, "dropout": 0.2}, "steps": 8, "checkpoint_steps": 2}
    values |= {"gradient_accumulation": 2, "batch_size": 2}
    values["optim"] = {"learning_rate": 2e-3, "warmup_steps": 3, "ema_decay": 0.9}
    unbroken = train(recipe_of(values, output=str(tmp_path / "unbroken")))
    assert [c.name for c in checkpoints(tmp_path / "unbroken")] == ["step-00000006", "step-00000008"]

    killed = tmp_path / "killed"
    path = tmp_path / "killed.yaml"
    path.write_text(yaml.safe_dump({**values, "output": str(killed)}))
    command = [sys.executable, "-c", KILLED, str(path), str(torch.get_num_threads())]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert process.returncode == -signal.SIGKILL, process.stderr
    left = sorted(folder.name for folder in (killed / "checkpoints").iterdir())
    assert left == ["partial-00000006", "step-00000002", "step-00000004"]
    assert not (killed / "final").exists()

    with pytest.raises(UserError, match=r"already holds a run: add --resume") as caught:
        train(load_recipe(path))
    assert "\n" not in str(caught.value)

    resumed = train(load_recipe(path), resume=True)
    left = sorted(folder.name for folder in (killed / "checkpoints").iterdir())
    assert left == ["step-00000006", "step-00000008"]
    name = "super_resolution_low/diffusion_pytorch_model.safetensors"
    assert same(load_file(unbroken / name), load_file(resumed / name))
    for step in (6, 8):
        one, other = (tmp_path / run / "checkpoints" / f"step-{step:08d}" for run in ("unbroken", "killed"))
        assert same(load_file(one / "model.safetensors"), load_file(other / "model.safetensors"))
        for file in ("custom_checkpoint_0.pkl", "optimizer.bin", "scheduler.bin"):
            assert same(*(torch.load(folder / file, weights_only=False) for folder in (one, other))), file
    average = torch.load(other / "custom_checkpoint_0.pkl", weights_only=False)
    assert average["optimization_step"] == 8 and average["shadow_params"]

    # resuming a finished run trains no further and exports the same again
    assert same(load_file(train(load_recipe(path), resume=True) / name), load_file(unbroken / name))


def test_frozen_spatial_weights_stay_bit_for_bit_and_resuming_is_exact(cascade, data, tmp_path):
    """As CogVideo trains: no gradient, optimiser state or average is kept for what does not change."""
    from makeavideo.inflation import is_temporal

    values = settings(cascade[0], data, "decoder-video") | {"train": "temporal", "checkpoint_steps": 2}
    runs = {name: recipe_of(values, output=str(tmp_path / name)) for name in ("whole", "cut")}
    files = [train(recipe) / "decoder" / "diffusion_pytorch_model.safetensors" for recipe in runs.values()]
    trained = load_file(files[0])
    start = load_file(cascade[0] / "decoder-image" / "final" / "decoder" / files[0].name)
    assert start and all(torch.equal(trained[name], start[name]) for name in start)
    added = [name for name in trained if is_temporal(name)]
    assert trained.keys() == start.keys() | set(added)
    assert trained["conv_in.temporal.bias"].abs().max() > 0  # it starts as zero

    fourth = checkpoints(tmp_path / "cut")[-1]
    assert len(torch.load(fourth / "optimizer.bin", weights_only=False)["state"]) == len(added)
    average = torch.load(fourth / "custom_checkpoint_0.pkl", weights_only=False)
    assert len(average["shadow_params"]) == len(added)
    shutil.rmtree(fourth)
    shutil.rmtree(tmp_path / "cut" / "final")
    train(runs["cut"], resume=True)
    assert same(load_file(files[1]), trained)
    with pytest.raises(UserError, match="was begun with train temporal, not all"):
        train(recipe_of(values, output=str(tmp_path / "cut"), train="all"), resume=True)


def test_the_path_at_full_resolution_can_be_trained_alone(cascade, data, tmp_path):
    start = cascade[0] / "interpolator" / "final" / "interpolator"
    values = settings(cascade[0], data, "interpolator") | {"train": "path", "init_from": str(start)}
    trained = load_file(
        train(recipe_of(values, output=str(tmp_path / "run"))) / "interpolator" / "diffusion_pytorch_model.safetensors"
    )
    before = load_file(start / "diffusion_pytorch_model.safetensors")
    changed = {name for name in trained if not torch.equal(trained[name], before[name])}
    assert changed and all(name.startswith("pixel_path.") for name in changed)


def test_words_can_be_learnt_anew_while_the_tower_stays(cascade, data, tmp_path):
    values = settings(cascade[0], data, "clip-finish") | {"train": "text", "output": str(tmp_path / "run")}
    folder, start = train(recipe_of(values)), cascade[0] / "clip" / "final"
    towers = [load_file(one / "image_encoder" / "model.safetensors") for one in (start, folder)]
    assert same(*towers)
    texts = [load_file(one / "text_projection" / "diffusion_pytorch_model.safetensors") for one in (start, folder)]
    assert not same(*texts)


def test_a_caption_is_right_for_every_picture_that_its_words_are_said_of(cascade, data):
    stage = STAGES["clip"](recipe_of(settings(cascade[0], data, "clip-finish")), torch.device("cpu"))
    said = [("cat", {"cat", "pet"}), ("dog", {"dog", "pet"}), ("rocket", {"rocket"})]
    stage.dataset.wordings = lambda index: type("Said", (), {"all": said[index][1]})
    batch = {
        "key": [key for key, _ in said],
        "index": torch.arange(3),
        "words": ["pet", "dog\npet", "rocket"],
        "pixels": torch.zeros(3, 1, 3, SIZE, SIZE),
    }
    assert stage.right_texts(batch).tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]


def test_attention_alone(cascade, data, tmp_path):
    """As VDM: the convolutions stay 2-D; the network starts as the 2-D one."""
    from makeavideo.inflation import VideoUNet

    values = settings(cascade[0], data, "decoder-video") | {"temporal": "attention", "output": str(tmp_path / "run")}
    torch.manual_seed(0)
    network = STAGES["decoder-video"](recipe_of(values), torch.device("cpu")).network
    image = VideoUNet.from_pretrained(values["init_from"]).float()
    x, y_e = torch.randn(1, 3, 3, SIZE, SIZE), {"added_cond_kwargs": {"image_embeds": torch.randn(1, 8)}}
    with torch.no_grad():
        assert torch.allclose(image(x, 500, **y_e).sample, network(x, 500, **y_e).sample, atol=1e-4)
    trained = VideoUNet.from_pretrained(train(recipe_of(values)) / "decoder")
    assert trained.config.temporal == "attention"
    names = {name.split(".temporal")[0] for name, _ in trained.named_parameters() if ".temporal." in name}
    assert names and all("attention" in name or name == "time_embedding" for name in names)


def test_a_video_network_from_random_weights(cascade, data, tmp_path):
    """No text-to-image start: decoder-video takes the network from the recipe and inflates it."""
    from makeavideo.inflation import VideoUNet

    values = settings(cascade[0], data, "decoder-video") | {"init_from": None, "network": DECODER}
    folder = train(recipe_of(values, output=str(tmp_path / "run"), sample_every=0)) / "decoder"
    assert VideoUNet.from_pretrained(folder).config.temporal == "pseudo3d"
    assert not (tmp_path / "run" / "samples").exists()


@pytest.mark.parametrize(
    "name, changes, sentence",
    [
        ("decoder-image", {"train": "temporal"}, "decoder-image has no temporal layers: take train out"),
        ("prior", {"temporal": "attention"}, "prior has no temporal layers: take temporal out"),
        ("decoder-video", {"train": "temporal", "init_from": None, "network": DECODER}, "random spatial weights"),
        ("interpolator", {"train": "temporal"}, "new input channels are spatial weights"),
        ("decoder-video", {"train": "path"}, "path is for the interpolator"),
        ("prior", {"train": "text"}, "keeps the image tower of a stage clip"),
        ("clip", {"train": "text"}, "add init_from"),
        ("interpolator", {"temporal": "attention"}, "of the kind pseudo3d and the recipe asks for attention"),
    ],
)
def test_what_cannot_be_trained_so_is_one_sentence(cascade, data, tmp_path, name, changes, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        train(recipe_of(settings(cascade[0], data, name), output=str(tmp_path / "run"), **changes))
    assert "\n" not in str(caught.value)


def test_a_run_resumed_with_another_learning_rate_uses_it(data, tmp_path):
    """As the sentence about a loss that is not a number advises."""
    values = settings(tmp_path, data, "sr-low-image") | {"checkpoint_steps": 2}
    optim = {"learning_rate": 1e-2, "warmup_steps": 0, "schedule": "constant_with_warmup", "ema_decay": 0.5}
    train(recipe_of(values, optim=optim))
    second, fourth = checkpoints(tmp_path / "sr-low-image")
    before, moved = (load_file(folder / "model.safetensors") for folder in (second, fourth))
    for file in fourth.iterdir():
        file.unlink()
    fourth.rmdir()
    train(recipe_of(values, optim={**optim, "learning_rate": 1e-9}), resume=True)
    after = load_file(checkpoints(tmp_path / "sr-low-image")[-1] / "model.safetensors")
    assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in before)
    assert not all(torch.allclose(before[key], moved[key], atol=1e-4) for key in before)


def test_a_loss_that_is_no_number_is_one_sentence_and_never_saved(data, tmp_path):
    values = settings(tmp_path, data, "sr-low-image") | {"steps": 30, "log_every": 1000, "checkpoint_steps": 10}
    optim = {"learning_rate": 1e30, "warmup_steps": 0, "max_grad_norm": 1e30}
    sentence = r"of sr-low-image is (nan|inf) at step 10: lower optim\.learning_rate"
    with pytest.raises(UserError, match=sentence) as caught:
        train(recipe_of(values, optim=optim))
    assert "\n" not in str(caught.value)
    assert not checkpoints(tmp_path / "sr-low-image") and not (tmp_path / "sr-low-image" / "final").exists()


def test_fp16_needs_a_gpu(data, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UserError, match="needs a GPU"):
        train(recipe_of(settings(tmp_path, data, "sr-low-image"), mixed_precision="fp16"))


def test_nothing_readable_is_one_sentence(data, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"no picture")
    values = settings(tmp_path, tmp_path, "sr-low-image")
    with pytest.raises(UserError, match=r"can be read; the first problem is .*a\.png"):
        train(recipe_of(values))


@pytest.fixture
def bf16_state():
    """accelerate holds one precision for a whole process: give it back afterwards."""

    def forget():
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()

    forget()
    yield
    forget()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_bf16_and_gradient_checkpointing(cascade, data, tmp_path, bf16_state, checkpointing):
    values = settings(cascade[0], data, "decoder-video") | {"steps": 1, "mixed_precision": "bf16"}
    values |= {"gradient_checkpointing": checkpointing, "output": str(tmp_path / "run")}
    assert (train(recipe_of(values)) / "decoder").is_dir()


@pytest.mark.slow
def test_two_processes(data, tmp_path):
    """Data parallel on two processes (gloo), as `accelerate launch` starts them on two GPUs."""
    values = settings(tmp_path, data, "sr-low-image") | {"steps": 2, "log_every": 1, "batch_size": 2}
    path, script = tmp_path / "recipe.yaml", tmp_path / "run.py"
    path.write_text(yaml.safe_dump(values))
    script.write_text(
        "import sys\n"
        "from makeavideo.training.recipe import load_recipe\n"
        "from makeavideo.training.trainer import train\n"
        "train(load_recipe(sys.argv[1]))\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    subprocess.run([*launch, str(script), str(path)], check=True, timeout=300, env=environment)
    folder = checkpoints(tmp_path / "sr-low-image")[-1]
    assert (folder / "random_states_1.pkl").is_file()
    assert (tmp_path / "sr-low-image/final/super_resolution_low/config.json").is_file()
