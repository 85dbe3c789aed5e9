"""Super-resolution in one step: the network, its small frames, its discriminator, its training; and by diffusion."""

import json
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

from conftest import tiny_image_encoder, tiny_resolver, tiny_super_resolution
from makeavideo import UserError
from makeavideo.data.images import CaptionedImages
from makeavideo.data.reader import to_pixels
from makeavideo.emoji.concepts import split
from makeavideo.enlarger import Enlarger
from makeavideo.inflation import inflate, is_temporal
from makeavideo.pipeline import MakeAVideoPipeline
from makeavideo.sampling import make_scheduler, to_uint8
from makeavideo.super_resolution import SuperResolver, inflate_resolver
from makeavideo.training.adversary import Adversary
from makeavideo.training.small_frames import PackedCrops, blur_by, degrade, pack, sharpen, shrink
from makeavideo.training.stages import STAGES
from makeavideo.training.stages.super_resolution import load_super_resolution
from makeavideo.training.trainer import checkpoints, train
from makeavideo.work import WatchedPipeline, Work
from tiny_training import draw_square as draw
from tiny_training import make_resolver_data
from tiny_training import resolver_recipe as recipe

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
CPU = torch.device("cpu")


def frames_of(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# ---- the network -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "patch"), [(4, 1), (3, 2)])
def test_it_starts_as_bicubic_upsampling(factor, patch):
    small = frames_of(2, 3, 3, 16, 12)
    made = SuperResolver(factor, width=8, depth=1, patch=patch)(small)
    wanted = F.interpolate(small.flatten(0, 1), scale_factor=factor, mode="bicubic", align_corners=False)
    assert torch.allclose(made.flatten(0, 1), wanted, atol=1e-5)


def test_inflated_it_makes_the_same_frames_and_then_looks_across_them():
    network, small = tiny_resolver(4), frames_of(2, 5, 3, 8, 8)
    video = inflate_resolver(network)
    assert (video(small) - network(small)).abs().max() < 1e-5
    new = set(video.state_dict()) - set(network.state_dict())
    assert new and all(map(is_temporal, new))
    assert len(list(video.temporal_parameters())) == len(new)
    assert len(list(video.spatial_parameters())) == len(network.state_dict())
    with torch.no_grad():
        for parameter in video.temporal_parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    other = small.clone()
    other[:, 3] = 0
    changed = (video(small) - video(other)).abs().amax((0, 2, 3, 4))
    assert changed[2] > 1e-4 and changed[4] > 1e-4
    with pytest.raises(UserError, match="already"):
        inflate_resolver(video)


def test_what_it_cannot_do_is_one_sentence():
    with pytest.raises(UserError, match="multiples of 2"):
        tiny_resolver(3, patch=2)(frames_of(1, 1, 3, 7, 8))
    with pytest.raises(UserError, match="from 1 up"):
        SuperResolver(0)
    with pytest.raises(UserError, match="pseudo3d"):
        SuperResolver(temporal="attention")


def test_saved_and_loaded_it_is_the_same(tmp_path):
    network = inflate_resolver(tiny_resolver(4))
    network.save_pretrained(tmp_path / "one-step")
    inflate(tiny_super_resolution(), space_to_depth=8).save_pretrained(tmp_path / "diffusion")
    again = load_super_resolution(tmp_path / "one-step", "network")
    small = frames_of(1, 3, 3, 8, 8)
    assert isinstance(again, SuperResolver) and torch.equal(again(small), network(small))
    assert type(load_super_resolution(tmp_path / "diffusion", "network")).__name__ == "VideoUNet"
    with pytest.raises(UserError, match="There is no network"):
        load_super_resolution(tmp_path / "nowhere", "network")


# ---- at work -----------------------------------------------------------------------------------------------------


def networks_of_both_kinds():
    return [tiny_resolver(4, temporal="pseudo3d"), inflate(tiny_super_resolution(), space_to_depth=8)]


@pytest.mark.parametrize("kind", [0, 1], ids=["one step", "diffusion"])
@torch.no_grad()
def test_a_still_video_stays_still_and_the_same_seed_gives_the_same(kind):
    torch.manual_seed(0)
    network = networks_of_both_kinds()[kind]
    small = frames_of(1, 1, 3, 16, 16).expand(-1, 3, -1, -1, -1)
    seen = []

    def enlarge(seed):
        enlarger = Enlarger(network, make_scheduler(), 4, 2, torch.Generator().manual_seed(seed))
        return enlarger(small, torch.tensor([8.0]), lambda *state: seen.append(state))

    made = enlarge(0)
    assert made.shape == (1, 3, 3, 64, 64) and made.abs().max() <= 1
    assert (made - made[:, :1]).abs().max() < 1e-4
    assert torch.equal(made, enlarge(0))
    assert torch.equal(made, enlarge(1)) == (kind == 0)  # no noise goes into the one-step network
    assert [step for step, _, _ in seen[: len(seen) // 3]] == ([0] if kind == 0 else [0, 1])
    assert all(frames.shape == made.shape for _, _, frames in seen)


def test_the_cascade_runs_and_keeps_diffusion_networks(tiny_model, tmp_path):
    pipe = MakeAVideoPipeline.load(tiny_model)
    torch.manual_seed(0)
    networks = {
        "super_resolution_low": inflate(tiny_super_resolution(), space_to_depth=8),
        "super_resolution_high": inflate(tiny_super_resolution(), temporal="none", space_to_depth=8),
    }
    pipe.register_modules(**{name: network.to(pipe.dtype) for name, network in networks.items()})
    pipe.save_pretrained(tmp_path / "paper")
    again = MakeAVideoPipeline.load(tmp_path / "paper")
    videos = []
    for model in (pipe, again):
        model.set_progress_bar_config(disable=True)
        options = {"num_frames": 6, "size": 192, "num_inference_steps": 4, "output_type": "pt"}
        videos.append(model("a rocket", generator=torch.Generator().manual_seed(0), **options).frames)
    assert videos[0].shape == (1, 6, 3, 192, 192) and (videos[0] - videos[1]).abs().max() < 0.02


@pytest.mark.parametrize("kind", [0, 1], ids=["one step", "diffusion"])
def test_the_progress_line_knows_how_much_work_it_is(tiny_model, kind):
    """All the steps that the pipeline tells of add up to the work that was foretold, whichever networks it has."""
    pipe = WatchedPipeline.load(tiny_model)
    pipe.set_progress_bar_config(disable=True)
    if kind == 1:
        low, high = (inflate(tiny_super_resolution(), t, space_to_depth=8) for t in ("pseudo3d", "none"))
        pipe.register_modules(super_resolution_low=low.to(pipe.dtype), super_resolution_high=high.to(pipe.dtype))
    assert len(pipe.at_once) == (2 if kind == 0 else 0)
    options = {"num_frames": 16, "size": 192, "num_inference_steps": 8}
    work = Work("generate", pipe.settings(**options), pipe.sizes, at_once=pipe.at_once)
    pipe.watcher = type("Line", (), {"on_stage": staticmethod(lambda stage: None)})()
    pipe.watcher.on_step = lambda stage, step, sample: work.step(stage, sample)
    for _ in pipe("a rocket", **options, output_type="stream").frames:
        pass
    assert work.done == pytest.approx(work.total, rel=0.15)


# ---- what it learns from -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_resolver_data(tmp_path_factory.mktemp("sr-data"))


def test_small_and_large_crops_show_the_same_place(data, tmp_path):
    reader = CaptionedImages(data / "images", 48, need_captions=False)
    whole = [to_uint8(reader[(i, 0)]["pixels"][None])[0] for i in range(len(reader))]

    def clean(frames, seed):
        return [255 - frames, frames]

    pack(reader, tmp_path / "crops", 4, 16, 3, clean, {"a": 1})
    crops = PackedCrops(tmp_path / "crops", 0.5)
    assert len(crops) == 15 and crops.small.shape == (15, 3, 1, 4, 4, 3)
    for index in range(3 * 4):
        large = crops.large[index, 0]
        found = [
            (number, top, left)
            for number, frames in enumerate(whole)
            for top in range(0, 33, 4)
            for left in range(0, 33, 4)
            if np.array_equal(frames[0, top : top + 16, left : left + 16], large)
        ]
        small = crops.small[index, 0, 0]
        cuts = [shrink(whole[n], 4)[0, top // 4 : top // 4 + 4, left // 4 : left // 4 + 4] for n, top, left in found]
        assert any(np.array_equal(cut, small) for cut in cuts)
        assert np.array_equal(crops.small[index, 1, 0], 255 - small)
    assert any("broken" in path for path, _ in crops[(0, 0)]["skipped"]) and not crops[(0, 0)]["skipped"]


def test_crops_are_cut_once_and_again_after_a_change(data, tmp_path):
    reader = CaptionedImages(data / "images", 48, need_captions=False)
    stamps = []
    for note in ({"crops": 1}, {"crops": 1}, {"crops": 2}):
        pack(reader, tmp_path / "crops", 3, 24, note["crops"], None, note)
        stamps.append((tmp_path / "crops" / "large.npy").stat().st_ino)
    assert stamps[0] == stamps[1] != stamps[2]
    assert json.loads((tmp_path / "crops" / "note.json").read_text()) == {"crops": 2}
    assert not list(tmp_path.glob("*.partial"))


def test_a_sample_is_a_function_of_its_key_and_small_frames_are_turned_as_large_ones(data, tmp_path):
    reader = CaptionedImages(data / "images", 48, need_captions=False)
    pack(reader, tmp_path / "crops", 4, 32, 2, lambda frames, seed: [frames // 2], {})
    crops = PackedCrops(tmp_path / "crops", 0.5)
    again = pickle.loads(pickle.dumps(crops))
    kinds = set()
    for seed in range(12):
        one, two = crops[(1, seed, 0.0)], again[(1, seed, 0.5)]
        assert np.array_equal(one["pixels"], two["pixels"]) and np.array_equal(one["small"], two["small"])
        kinds.add(one["cleaned"])
        if not one["cleaned"]:
            near = F.interpolate(to_pixels(one["pixels"]), (8, 8), mode="area")
            assert (near - to_pixels(one["small"])).abs().mean() < 0.1
    assert kinds == {0.0, 1.0}
    assert len({crops[(1, seed)]["pixels"].tobytes() for seed in range(16)}) == 4


def test_small_frames_are_spoilt_unless_they_are_the_decoders():
    pixels, small = frames_of(64, 2, 3, 16, 16), frames_of(64, 2, 3, 4, 4, seed=1)
    cleaned = (torch.arange(64) % 2).float()
    spoilt = degrade(pixels, small, cleaned, 0.8, 0.1, torch.Generator().manual_seed(0))
    assert torch.equal(spoilt, degrade(pixels, small, cleaned, 0.8, 0.1, torch.Generator().manual_seed(0)))
    assert torch.equal(spoilt[1::2], small[1::2])
    changed = (spoilt - small)[::2].abs().amax((1, 2, 3, 4)) > 1e-6
    assert 0.6 < changed.float().mean() < 1  # an eighth stays as it is
    assert torch.equal(degrade(pixels, small, torch.ones(64), 0.8, 0.1, torch.Generator()), small)


def test_blur_keeps_the_mean_and_takes_contrast():
    frames = frames_of(3, 2, 3, 16, 16)
    blurred = blur_by(frames, torch.tensor([0.0, 0.5, 1.5]))
    assert torch.allclose(blurred[0], frames[0])
    deviations = blurred.std((1, 2, 3, 4))
    assert deviations[0] > 1.1 * deviations[1] > 1.2 * deviations[2]
    assert torch.allclose(blur_by(torch.full_like(frames, 0.3), torch.ones(3)), torch.full_like(frames, 0.3))


def test_sharpened_frames_have_steeper_edges_and_no_halo():
    ramp = torch.tensor([-1, -1, -1, -0.6, 0.2, 0.8, 1, 1, 1.0]).expand(2, 1, 3, 9, 9)
    made = sharpen(ramp, 1.5)
    assert made.diff(dim=-1).max() > 1.3 * ramp.diff(dim=-1).max()
    assert made.min() == -1 and made.max() == 1
    assert torch.equal(made[..., :2], ramp[..., :2]) and torch.equal(sharpen(ramp, 0.0), ramp)
    assert torch.allclose(sharpen(ramp.mT, 1.5).mT, made)


# ---- its discriminator -------------------------------------------------------------------------------------------


def test_the_discriminator_learns_to_tell_and_can_be_kept():
    torch.manual_seed(0)
    real, up = frames_of(4, 3, 32, 32), torch.zeros(4, 3, 32, 32)
    made = F.avg_pool2d(real, 3, 1, 1).requires_grad_(True)
    adversary = Adversary(8, 1e-2, CPU)
    first, _ = adversary.judge(real, made, up)
    for _ in range(25):
        last, features = adversary.judge(real, made, up)
    assert last > first + 0.3 and features > 0  # the blurred ones are seen through
    (last + features).backward()
    assert made.grad.abs().sum() > 0
    other = Adversary(8, 1e-2, CPU)
    other.load_state_dict(pickle.loads(pickle.dumps(adversary.state_dict())))
    assert other.judge(real, made, up)[0].item() == pytest.approx(adversary.judge(real, made, up)[0].item())


# ---- its training ------------------------------------------------------------------------------------------------


def test_three_stages_follow_each_other(data, tiny_model, tmp_path):
    """SR_l on D's frames with a discriminator, SR_l_t from it on clips, SR_h on SR_l's frames."""
    tiny_image_encoder().save_pretrained(tmp_path / "tower")
    own = {"crops": 2, "adversarial_weight": 0.1, "discriminator_width": 8}
    images = {"roots": [str(data / "images")], "size": 64, "crop": 32}
    low = recipe(
        data,
        tmp_path / "low",
        data=images,
        image_encoder=str(tmp_path / "tower"),
        super_resolution={**own, "decoder": str(tiny_model / "decoder"), "cleaned_variants": 2},
    )
    train(low)
    kinds = np.load(tmp_path / "low" / "crops" / "small.npy", mmap_mode="r")
    assert kinds.shape[1] == 3 and len({kinds[0, kind].tobytes() for kind in range(3)}) == 3
    start = str(tmp_path / "low" / "final" / "super_resolution_low")
    video = recipe(data, tmp_path / "video", "sr-low-video", init_from=start, network={}, super_resolution=own)
    train(video)
    made = load_super_resolution(tmp_path / "video" / "final" / "super_resolution_low", "SR_l_t")
    assert made.config.temporal == "pseudo3d"
    weights = load_file(next((tmp_path / "video" / "final" / "super_resolution_low").glob("*.safetensors")))
    assert all(weight.dtype == torch.float16 for weight in weights.values())
    high = recipe(
        data, tmp_path / "high", "sr-high-image", super_resolution={"crops": 2, "super_resolution_low": start}
    )
    train(high)
    assert np.load(tmp_path / "high" / "crops" / "small.npy", mmap_mode="r").shape[1] == 2
    for run in ("low", "video", "high"):
        with Image.open(tmp_path / run / "samples" / "step-00000004.png") as sheet:
            assert np.asarray(sheet).std() > 1


def test_it_learns_more_than_bicubic_upsampling(data, tmp_path):
    output = train(
        recipe(
            data,
            tmp_path / "run",
            steps=200,
            batch_size=4,
            log_every=1000,
            network={"class": "SuperResolver", "width": 16, "depth": 2},
            super_resolution={"crops": 8, "blur": 0, "noise": 0},
            sample_every=0,
        )
    )
    network = load_super_resolution(output / "super_resolution_low", "network").float()
    crops = PackedCrops(tmp_path / "run" / "crops", 0)
    errors = [[], []]
    for index in range(len(crops)):
        sample = crops[(index, 0)]
        small, real = to_pixels(sample["small"]), to_pixels(sample["pixels"])
        bicubic = F.interpolate(small, scale_factor=4, mode="bicubic", align_corners=False)
        with torch.no_grad():
            made = network(small[None])[0]
        for kind, frames in enumerate((bicubic, made)):
            errors[kind].append((frames - real).abs().mean().item())
    assert np.mean(errors[1]) < 0.92 * np.mean(errors[0])


def test_a_killed_run_goes_on_exactly_with_its_discriminator(data, tmp_path):
    own = {"crops": 2, "adversarial_weight": 0.1, "discriminator_width": 8}
    kinds = {"super_resolution": own, "checkpoint_steps": 2, "sample_every": 0, "optim": {"schedule": "linear"}}
    train(recipe(data, tmp_path / "whole", **kinds))
    train(recipe(data, tmp_path / "halves", **kinds))
    shutil.rmtree(checkpoints(tmp_path / "halves")[-1])
    shutil.rmtree(tmp_path / "halves" / "final")
    assert [folder.name for folder in checkpoints(tmp_path / "halves")] == ["step-00000002"]
    train(recipe(data, tmp_path / "halves", **kinds), resume=True)
    name = "final/super_resolution_low/diffusion_pytorch_model.safetensors"
    whole, halves = (load_file(tmp_path / run / name) for run in ("whole", "halves"))
    assert whole.keys() == halves.keys() and all(torch.equal(whole[key], halves[key]) for key in whole)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data": {"roots": ["images"], "size": 48, "crop": 22}}, "22 pixels a side: use a multiple of 4"),
        ({"network": {"class": "SuperResolver", "factor": 2}}, "network.factor is 2: sr-low-image needs 4"),
        ({"network": {"class": "SuperResolver", "wide": 2}}, "unknown key network.wide"),
        ({"super_resolution": {"decoder": "d", "super_resolution_low": "s"}}, "keep one of them"),
        ({"super_resolution": {"decoder": "nowhere"}}, "There is no decoder at nowhere"),
        ({"gradient_checkpointing": True}, "gradient_checkpointing"),
    ],
)
def test_mistakes_in_a_recipe_are_one_sentence(data, tmp_path, changes, sentence):
    if "data" in changes:
        changes = {"data": {**changes["data"], "roots": [str(data / "images")]}}
    with pytest.raises(UserError, match=sentence) as caught:
        STAGES["sr-low-image"](recipe(data, tmp_path / "run", **changes), CPU)
    assert "\n" not in str(caught.value)


def test_the_decoder_must_make_frames_of_the_size_that_is_enlarged(data, tiny_model, tmp_path):
    tiny_image_encoder().save_pretrained(tmp_path / "tower")
    own = {"decoder": str(tiny_model / "decoder")}
    values = recipe(data, tmp_path / "run", super_resolution=own, image_encoder=str(tmp_path / "tower"))
    with pytest.raises(UserError, match="D makes 16 pixels a side and sr-low-image sees 12"):
        STAGES["sr-low-image"](values, CPU)


# ---- benchmarks/sharpness.py -------------------------------------------------------------------------------------


def test_sharpness_tells_blur_noise_and_halos():
    from sharpness import edges, flicker, halo, roughness

    sharp = np.asarray(draw((200, 30, 30), 64))
    blurred = np.asarray(Image.fromarray(sharp).resize((16, 16)).resize((64, 64), Image.Resampling.BICUBIC))
    noise = np.random.default_rng(0).integers(-3, 4, sharp.shape)
    noisy = (sharp + noise).clip(0, 255).astype(np.uint8)
    assert edges(blurred) < 0.6 * edges(sharp) and abs(edges(noisy) / edges(sharp) - 1) < 0.1
    assert roughness(sharp) == 0 and roughness(noisy) > 0.5
    small = np.asarray(Image.fromarray(sharp).resize((16, 16), Image.Resampling.BOX))
    ringing = sharp.astype(int)
    ringing[:, :3] -= 20
    assert halo(small, sharp) <= 2 and halo(small, ringing.clip(0, 255).astype(np.uint8)) >= 20
    rng = np.random.default_rng(0)
    video = np.full((4, 16, 16, 3), 200, np.uint8) + rng.integers(0, 3, (4, 16, 16, 3)).astype(np.uint8)
    before, after = flicker(video, video.repeat(4, 1).repeat(4, 2))
    assert before == pytest.approx(after) and before > 0.5
    assert flicker(video, np.full((4, 64, 64, 3), 200, np.uint8))[1] == 0


def test_sharpness_runs(tiny_model, data, tmp_path, monkeypatch, capsys):
    import sharpness

    for folder, size in (("images", 64), ("vectors", 192)):
        (tmp_path / folder).mkdir()
        names = ["trained", "other", min(split().held_out_all)]
        for number, name in enumerate(names):
            draw((200, 60 * number, 30)).resize((size, size)).save(tmp_path / folder / f"{name}.png")
            (tmp_path / folder / f"{name}.txt").write_text("a red cat")
    options = ["--model", str(tiny_model), "--before", str(tiny_model), "--prompts", "2", "--num-frames", "4"]
    files = ["--steps", "2", "--sheet", str(tmp_path / "sheet.png"), "--json", str(tmp_path / "found.json")]
    monkeypatch.setattr(sys, "argv", ["benchmarks/sharpness.py", str(tmp_path), *options, *files])
    sharpness.main()
    figures = json.loads((tmp_path / "found.json").read_text())["figures"]
    assert figures["generated"]["labels"] == figures["generated"]["768"]["labels"] == 2
    assert set(figures["held out"]["256"]) == {"bicubic", "this model", "before"}
    assert figures["held out"]["768"]["this model"] == figures["held out"]["768"]["before"]
    assert figures["held out"]["256"]["bicubic"]["psnr"] > 10
    assert "flicker" in capsys.readouterr().out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height > sheet.width / 3
