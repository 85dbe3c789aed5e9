"""What every stage leaves, and how its network starts and learns."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from makeavideo.data.wordings import Wordings
from makeavideo.flow import first_guess
from makeavideo.training.batches import Batches, on_device
from makeavideo.training.checkpoints import checkpoints
from makeavideo.training.recipe import load_recipe
from makeavideo.training.stages import STAGES
from makeavideo.training.trainer import train
from tiny_training import DECODER, RUNS, SIZE, draw, recipe_of, same, settings

pytestmark = pytest.mark.xdist_group("stages")  # they share a run of every stage


CPU = torch.device("cpu")
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


@pytest.mark.parametrize("name", RUNS)
def test_the_loss_falls_and_every_weight_learns(cascade, training_data, name):
    """One batch, the same noise again and again. Data parallel training needs a gradient for every weight, too."""
    recipe = recipe_of(settings(cascade[0], training_data, name), condition_dropout=0.0)
    torch.manual_seed(0)
    stage = STAGES[recipe.stage](recipe, CPU)
    groups = stage.parameter_groups()
    ours = [p for group in groups for p in group["params"]]
    assert {id(p) for p in ours} == {id(p) for p in stage.network.parameters() if p.requires_grad}
    assert len(ours) == len({id(p) for p in ours})
    optimizer = torch.optim.Adam(ours, lr=1e-2 if recipe.stage == "clip" else 5e-3)
    keys = [(i % len(stage.dataset), i, 0.5) for i in range(4)]
    batch = on_device(Batches(stage.dataset, [keys], stage.complete)[0], CPU)
    losses = []
    for _ in range(80 if recipe.stage == "clip" else 12):
        loss = stage.loss(stage.network, dict(batch), torch.Generator().manual_seed(1))
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in ours)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0], losses


def test_video_stages_start_where_the_stage_before_ended(cascade, training_data):
    """Inflation and widening keep the function; the interpolator's untrained first answer adds nothing."""
    from makeavideo.inflation import VideoUNet

    runs, _ = cascade
    x, y_e = torch.randn(1, 3, 3, SIZE, SIZE), {"added_cond_kwargs": {"image_embeds": torch.randn(1, 8)}}
    image = VideoUNet.from_pretrained(runs / "decoder-image/final/decoder").float()
    recipes = {name: recipe_of(settings(runs, training_data, name)) for name in ("decoder-video", "interpolator")}
    video = STAGES["decoder-video"](recipes["decoder-video"], CPU).network
    rates = torch.tensor([12.0])
    with torch.no_grad():
        assert torch.allclose(image(x, 500, **y_e).sample, video(x, 500, fps=rates, **y_e).sample, atol=1e-4)
    decoder = VideoUNet.from_pretrained(runs / "decoder-video/final/decoder").float()
    filler = STAGES["interpolator"](recipes["interpolator"], CPU).network
    noise, rest = torch.randn(1, 3, 3, SIZE, SIZE), torch.randn(1, 3, 2, SIZE, SIZE)
    wide = torch.cat([noise, x, rest], 2)  # the guess is read where D_t reads its noisy frames
    with torch.no_grad():
        assert filler(wide, 500, rates, **y_e).sample.abs().max() == 0
        for name in ("weight", "bias"):  # but for its last layer it is D_t
            getattr(filler.unet.conv_out, name).copy_(getattr(decoder.unet.conv_out, name))
        filler.unet.conv_out.temporal.bias.copy_(decoder.unet.conv_out.temporal.bias)
        assert torch.allclose(decoder(x, 500, rates, **y_e).sample, filler(wide, 500, rates, **y_e).sample, atol=1e-4)


def test_conditions_are_dropped_for_guidance(cascade, training_data):
    for dropout, allowed in ((1.0, {0.0}), (0.0, {12.0})):
        values = settings(cascade[0], training_data, "interpolator")
        stage = STAGES["interpolator"](recipe_of(values, condition_dropout=dropout), CPU)
        seen = {}

        def spy(sample, timestep, fps, added_cond_kwargs, seen=seen, **_):
            seen.update(x=sample, fps=fps, y_e=added_cond_kwargs["image_embeds"])
            return type("Output", (), {"sample": sample[:, :, :3]})

        pixels = torch.randint(256, (4, 6, SIZE, SIZE, 3), dtype=torch.uint8)
        batch = {"pixels": pixels, "fps": torch.full((4,), 12.0)}
        batch = on_device(stage.complete(batch, torch.Generator().manual_seed(0)), CPU)
        stage.loss(spy, batch, torch.Generator().manual_seed(0))
        pixels = batch["pixels"]
        assert set(seen["fps"].tolist()) == allowed
        assert (seen["y_e"] == 0).all() == (dropout == 1.0)
        x, mask = seen["x"], seen["x"][:, :, 6:7]
        assert x.shape[2] == 8 and set(mask.unique().tolist()) <= {0.0, 1.0}
        # what is not given is not seen: in its place stands what can be guessed of it from what is
        assert torch.equal(x[:, :, 3:6], first_guess(pixels * mask, mask[:, :, 0, 0, 0])[0])
        assert (mask == mask[..., :1, :1]).all() and (mask.amax((1, 2, 3, 4)) == 1).all()


def test_the_path_at_full_resolution_can_be_trained_alone(cascade, training_data, tmp_path):
    start = cascade[0] / "interpolator" / "final" / "interpolator"
    values = settings(cascade[0], training_data, "interpolator") | {"train": "path", "init_from": str(start)}
    trained = load_file(
        train(recipe_of(values, output=str(tmp_path / "run"))) / "interpolator" / "diffusion_pytorch_model.safetensors"
    )
    before = load_file(start / "diffusion_pytorch_model.safetensors")
    changed = {name for name in trained if not torch.equal(trained[name], before[name])}
    assert changed and all(name.startswith("pixel_path.") for name in changed)


def test_words_can_be_learnt_anew_while_the_tower_stays(cascade, training_data, tmp_path):
    values = settings(cascade[0], training_data, "clip-finish") | {"train": "text", "output": str(tmp_path / "run")}
    folder, start = train(recipe_of(values)), cascade[0] / "clip" / "final"
    towers = [load_file(one / "image_encoder" / "model.safetensors") for one in (start, folder)]
    assert same(*towers)
    texts = [load_file(one / "text_projection" / "diffusion_pytorch_model.safetensors") for one in (start, folder)]
    assert not same(*texts)


def test_a_caption_is_right_for_every_picture_that_its_words_are_said_of(cascade, training_data):
    stage = STAGES["clip"](recipe_of(settings(cascade[0], training_data, "clip-finish")), CPU)
    said = [Wordings((), (), words, "") for words in (("cat", "pet"), ("dog", "pet"), ("rocket",))]
    stage.dataset.wordings = lambda index: said[index]
    batch = {
        "index": torch.arange(3),
        "words": ["pet", "dog\npet", "rocket"],
        "pixels": torch.zeros(3, 1, 3, SIZE, SIZE),
    }
    same, right, told = stage.alike(batch)
    assert same.tolist() == torch.eye(3).tolist() and right.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert torch.equal(told, right.T)


def test_pictures_are_one_thing_if_their_data_says_so_and_never_by_their_names(cascade, training_data, tmp_path):
    """cat/001 and dog/001 are two things, though one word is said of both; twins name their concept."""
    for name, said in (("cat/001", {"caption": ["a photo", "a cat"]}), ("dog/001", {"caption": ["a photo", "a dog"]})):
        (tmp_path / name).parent.mkdir()
        draw("red", True, 1).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.json").write_text(json.dumps(said))
    for name, words in (("drawn", ["pet"]), ("painted", ["cat", "pet"])):
        draw("blue", True, 1).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.json").write_text(json.dumps({"captions": words, "concept": "1f431"}))
    values = settings(cascade[0], training_data, "clip-finish")
    stage = STAGES["clip"](recipe_of(values, data={**values["data"], "roots": [str(tmp_path)]}), CPU)
    assert stage.dataset.keys == ["drawn", "painted", "cat/001", "dog/001"]
    words = ["pet", "cat", "a cat", "a dog"]
    batch = {"index": torch.tensor([0, 1, 2, 3, 2]), "words": [*words, "a photo"], "pixels": torch.zeros(5)}
    twins = [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 1], [0, 0, 0, 1, 0], [0, 0, 1, 0, 1]]
    said = [row.copy() for row in twins]
    said[3][4] = 1  # "a photo" is said of the dog too
    assert [x.tolist() for x in stage.alike(batch)] == [twins, said, [list(row) for row in zip(*said, strict=True)]]


def test_attention_alone(cascade, training_data, tmp_path):
    """As VDM: the convolutions stay 2-D; the network starts as the 2-D one."""
    from makeavideo.inflation import VideoUNet

    values = settings(cascade[0], training_data, "decoder-video") | {
        "temporal": "attention",
        "output": str(tmp_path / "run"),
    }
    torch.manual_seed(0)
    network = STAGES["decoder-video"](recipe_of(values), CPU).network
    image = VideoUNet.from_pretrained(values["init_from"]).float()
    x, y_e = torch.randn(1, 3, 3, SIZE, SIZE), {"added_cond_kwargs": {"image_embeds": torch.randn(1, 8)}}
    with torch.no_grad():
        assert torch.allclose(image(x, 500, **y_e).sample, network(x, 500, **y_e).sample, atol=1e-4)
    trained = VideoUNet.from_pretrained(train(recipe_of(values)) / "decoder")
    assert trained.config.temporal == "attention"
    names = {name.split(".temporal")[0] for name, _ in trained.named_parameters() if ".temporal." in name}
    assert names and all("attention" in name or name == "time_embedding" for name in names)


def test_a_video_network_from_random_weights(cascade, training_data, tmp_path):
    """No text-to-image start: decoder-video takes the network from the recipe and inflates it."""
    from makeavideo.inflation import VideoUNet

    values = settings(cascade[0], training_data, "decoder-video") | {"init_from": None, "network": DECODER}
    folder = train(recipe_of(values, output=str(tmp_path / "run"), sample_every=0)) / "decoder"
    assert VideoUNet.from_pretrained(folder).config.temporal == "pseudo3d"
    assert not (tmp_path / "run" / "samples").exists()
