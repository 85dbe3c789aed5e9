"""Super-resolution in one step, trained: three stages in turn, exact resuming, what is refused."""

import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

from conftest import tiny_image_encoder
from makeavideo import UserError
from makeavideo.data.reader import to_pixels
from makeavideo.inflation import VideoUNet
from makeavideo.sampling import from_uint8, to_uint8
from makeavideo.super_resolution import SuperResolver
from makeavideo.training.checkpoints import checkpoints
from makeavideo.training.networks import load_folder
from makeavideo.training.small_frames import PackedCrops, shrink
from makeavideo.training.stages import STAGES
from makeavideo.training.stages.before import CleanedByDecoder, EnlargedBySuperResolution
from makeavideo.training.stages.one_step import as_shown, edge_loss
from makeavideo.training.stages.super_resolution import load_super_resolution
from makeavideo.training.trainer import train
from tiny_training import make_resolver_data
from tiny_training import resolver_recipe as recipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_resolver_data(tmp_path_factory.mktemp("sr-data"))


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
    crops = PackedCrops(tmp_path / "run" / "crops", 0, [])
    errors = [[], []]
    for index in range(len(crops)):
        sample = crops[(index, 0)]
        small, real = to_pixels(sample["small"]), to_pixels(sample["pixels"])
        bicubic = F.interpolate(small, scale_factor=4, mode="bicubic", align_corners=False)
        with torch.no_grad():
            made = network(small[None])[0].clamp(-1, 1)
        for kind, frames in enumerate((bicubic, made)):
            errors[kind].append((frames - real).abs().mean().item())
    assert np.mean(errors[1]) < 0.92 * np.mean(errors[0])


def test_a_killed_run_goes_on_exactly_with_its_discriminator(data, tmp_path):
    own = {"crops": 2, "adversarial_weight": 0.1, "discriminator_width": 8}
    kinds = {"super_resolution": own, "checkpoint_steps": 2, "sample_every": 0, "optim": {"schedule": "linear"}}
    settings = recipe(data, tmp_path, **kinds)
    file = train(settings) / "super_resolution_low" / "diffusion_pytorch_model.safetensors"
    whole = load_file(file)
    shutil.rmtree(checkpoints(tmp_path)[-1])
    shutil.rmtree(tmp_path / "final")
    assert [folder.name for folder in checkpoints(tmp_path)] == ["step-00000002"]
    train(settings, resume=True)
    again = load_file(file)
    assert whole.keys() == again.keys() and all(torch.equal(whole[key], again[key]) for key in whole)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data": {"roots": ["images"], "size": 48, "crop": 22}}, "22 pixels a side: use a multiple of 4"),
        ({"network": {"class": "SuperResolver", "factor": 2}}, "network.factor is 2: sr-low-image needs 4"),
        ({"network": {"class": "SuperResolver", "wide": 2}}, "unknown key network.wide"),
        ({"super_resolution": {"decoder": "nowhere", "super_resolution_low": "nowhere"}}, "no super_resolution_low at"),
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


def test_frames_of_super_resolution_are_enlarged_from_those_that_the_decoder_cleans(data, tiny_model, tmp_path):
    tower = tiny_image_encoder().eval()
    decoder = load_folder(VideoUNet, tiny_model / "decoder", "decoder").float().eval()
    network = SuperResolver(width=8, depth=1).eval()
    cleaned = CleanedByDecoder(decoder, tower, (0.1, 0.5), 2)
    frames = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    kinds = EnlargedBySuperResolution(network, cleaned)(frames, 3)
    small = shrink(frames, 4)
    with torch.no_grad():
        wanted = [to_uint8(network(from_uint8(one[None])))[0] for one in (small, *cleaned(small, 3))]
    assert len(kinds) == 3 and all(np.array_equal(a, b) for a, b in zip(kinds, wanted, strict=True))
    assert not np.array_equal(kinds[0], kinds[1])


def test_white_is_aimed_at_from_above_so_that_noise_on_it_is_cut_off():
    """With an L1 of what is shown, white under noise settles where the noise no longer reaches what can be seen."""
    generator = torch.Generator().manual_seed(0)
    level = torch.nn.Parameter(torch.tensor([0.9, 0.9, 0.9]))
    target = torch.tensor([1.0, 0.5, -1.0])
    optimizer = torch.optim.Adam([level], 0.003)
    for _ in range(2000):
        noisy = level + 0.02 * torch.randn(256, 3, generator=generator)
        loss = F.l1_loss(as_shown(noisy), target.expand(256, 3))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    noisy = level + 0.02 * torch.randn(4096, 3, generator=generator)
    below = (noisy.clamp(-1, 1) - target).abs().mean(0)
    assert below[0] < 0.002 and below[2] < 0.002  # 0.016 if white were aimed at as it is
    assert level[1].item() == pytest.approx(0.5, abs=0.01)


def test_edges_are_those_of_space_and_of_time():
    clip = torch.zeros(1, 3, 3, 4, 4)
    flickers, shifted = clip.clone(), clip.clone()
    flickers[:, 1] += 0.5
    shifted += 0.5
    assert edge_loss(shifted, clip) == 0
    assert edge_loss(flickers, clip) == pytest.approx(0.5)
    assert edge_loss(flickers[:, 1:2], clip[:, :1]) == 0  # pictures have no neighbours in time
