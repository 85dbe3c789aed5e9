"""What super-resolution in one step learns from, and the discriminator that it learns against."""

import json
import os
import pickle
import resource

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from makeavideo import UserError
from makeavideo.data.images import CaptionedImages
from makeavideo.data.reader import to_pixels
from makeavideo.sampling import to_uint8
from makeavideo.training.adversary import Adversary
from makeavideo.training.small_frames import PackedCrops, blur_by, degrade, pack, sharpen, shrink
from tiny_training import make_resolver_data

CPU = torch.device("cpu")


def frames_of(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_resolver_data(tmp_path_factory.mktemp("sr-data"))


def test_small_and_large_crops_show_the_same_place(data, tmp_path):
    reader = CaptionedImages(data / "images", 48, need_captions=False)
    whole = [to_uint8(reader[(i, 0)]["pixels"][None])[0] for i in range(len(reader))]

    def clean(frames, seed):
        return [255 - frames, frames]

    pack(reader, tmp_path / "crops", 4, 16, 3, clean, {"a": 1})
    crops = PackedCrops(tmp_path / "crops", 0.5, reader.files)
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
    assert any("broken" in path for path, _ in crops.passed_by) and not crops[(0, 0)]["skipped"]


def test_damaged_crops_are_one_sentence_and_run_nothing(data, tmp_path):
    reader = CaptionedImages(data / "images", 48, need_captions=False)
    folder = tmp_path / "crops"
    pack(reader, folder, 4, 16, 1, None, {"a": 1})

    class Command:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "it-ran"),)

    for name, damage in (
        ("large.npy", lambda file: np.save(file, np.array([Command()], object), allow_pickle=True)),
        ("small.npy", lambda file: file.write_bytes(file.read_bytes()[:200])),
        ("large.npy", lambda file: file.write_bytes((np.savez(folder / "x"), (folder / "x.npz").read_bytes())[1])),
        ("small.npy", lambda file: np.save(file, np.zeros((1, 2), np.uint8))),
        ("skipped.json", lambda file: file.write_text("[" * 100_000)),
    ):
        kept = (folder / name).read_bytes()
        damage(folder / name)
        with pytest.raises(UserError, match="crops is damaged: delete it") as caught:
            PackedCrops(folder, 0.5, [])
        assert "\n" not in str(caught.value) and not (tmp_path / "it-ran").exists()
        (folder / name).write_bytes(kept)
    (folder / "note.json").write_text("[" * 100_000)  # cut anew
    pack(reader, folder, 4, 16, 1, None, {"a": 1})
    assert json.loads((folder / "note.json").read_text()) == {"a": 1}


def test_crops_that_find_no_space_are_one_sentence(data, tmp_path):
    """Written through a map of the file, a full disk would end the process without a word."""
    reader, limits = (
        CaptionedImages(data / "images", 48, need_captions=False),
        resource.getrlimit(resource.RLIMIT_FSIZE),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"crops cannot be written \(File too large\): free some space"):
            pack(reader, tmp_path / "crops", 4, 32, 9, None, {"a": 1})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


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
    crops = PackedCrops(tmp_path / "crops", 0.5, reader.files)
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
