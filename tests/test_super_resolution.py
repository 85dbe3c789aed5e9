"""Super-resolution in one step: the network, its small frames, its discriminator, its training; and by diffusion."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from conftest import tiny_resolver, tiny_super_resolution
from makeavideo import UserError
from makeavideo.enlarger import Enlarger
from makeavideo.inflation import inflate, is_temporal
from makeavideo.pipeline import MakeAVideoPipeline
from makeavideo.sampling import make_scheduler
from makeavideo.super_resolution import SuperResolver, inflate_resolver
from makeavideo.training.stages.super_resolution import load_super_resolution
from makeavideo.work import WatchedPipeline, Work

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
        return enlarger(small, torch.tensor([8.0]), lambda *state: seen.append(state) or state[2])

    made = enlarge(0)
    assert made.shape == (1, 3, 3, 64, 64) and made.abs().max() <= 1
    assert (made - made[:, :1]).abs().max() < 1e-4
    assert torch.equal(made, enlarge(0))
    assert torch.equal(made, enlarge(1)) == (kind == 0)  # no noise goes into the one-step network
    assert [step for step, *_ in seen[: len(seen) // 3]] == ([0] if kind == 0 else [0, 1])
    assert all(frames.shape == made.shape for *_, frames in seen)


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
    work = Work("generate", pipe.settings(**options), pipe)
    pipe.watcher = type("Line", (), {"on_stage": staticmethod(lambda stage: None)})()
    pipe.watcher.on_step = lambda stage, step, sample: work.step(stage, sample)
    for _ in pipe("a rocket", **options, output_type="stream").frames:
        pass
    assert work.done == pytest.approx(work.total, rel=0.15)
