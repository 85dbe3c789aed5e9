"""Numbers that belong to a model: saved with it, refused where they are impossible, and heard by every stage."""

import json
import shutil
from dataclasses import fields

import pytest
import torch

from conftest import tiny_super_resolution
from makeavideo.errors import UserError
from makeavideo.figures import STRONGEST_MOTION
from makeavideo.included import default_model
from makeavideo.inflation import add_motion, inflate
from makeavideo.pipeline import MakeAVideoPipeline
from makeavideo.sampling import make_scheduler
from makeavideo.sampling_config import KINDS, SamplingConfig

IMPOSSIBLE = [
    {"still_candidates": 0},
    {"any_shape": 1},
    {"sink": "yes"},
    {"still_candidates": 2.0},
    {"prior_candidates": True},
    {"prior_steps": "16"},
    {"prior_guidance_scale": float("nan")},
    {"refine_strength": 1.1},
    {"grow_strength_min": 0.95},
    {"context": 0},
    {"context": 13},
    {"transition": 11},
    {"transition": -1},
    {"super_resolution_overlap": 0},
    {"super_resolution_overlap": 17},
    {"stil_candidates": 4},
]
SHORT = {"num_frames": 3, "size": 16, "num_inference_steps": 8}
LONG_LOOP = {"num_frames": 19, "size": 16, "num_inference_steps": 4, "fps": 4.0, "loop": True}
MOVING = SHORT | {"motion": 0.5}
ENLARGED = {"num_frames": 20, "size": 64, "num_inference_steps": 1, "fps": 4.0}
CHANGES = [
    (SHORT, {"prior_candidates": 1}),
    (SHORT, {"prior_steps": 4}),
    (SHORT, {"prior_guidance_scale": 8.0}),
    (SHORT, {"still_candidates": 1}),
    (SHORT, {"grow_strength": 0.9}),
    (SHORT, {"grow_strength_per_octave": 0.0}),
    (SHORT, {"grow_strength_min": 0.9}),
    (SHORT, {"grow_strength_max": 0.4, "grow_strength_min": 0.3}),
    (SHORT, {"grow_motion": 0.5}),
    (MOVING, {"grow_motion_power": 1.0}),
    (LONG_LOOP, {"refine_strength": 0.25}),
    (LONG_LOOP, {"context": 2}),
    (LONG_LOOP, {"transition": 6}),
    (ENLARGED, {"super_resolution_frames": 7}),
    (ENLARGED, {"super_resolution_overlap": 1}),
]


@pytest.fixture(scope="module")
def pipe(tiny_model) -> MakeAVideoPipeline:
    pipe = MakeAVideoPipeline.load(tiny_model)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    add_motion(pipe.decoder, (0.1, 0.5))
    for weights in pipe.decoder.time_embedding.motion.parameters():  # so that it hears of motion
        weights.data.add_(0.1 * torch.randn(weights.shape, generator=generator).to(weights))
    for network in (pipe.super_resolution_low, pipe.decoder):  # so that a frame sees its neighbours
        for weights in network.temporal_parameters():
            weights.data.add_(0.1 * torch.randn(weights.shape, generator=generator).to(weights))
    return pipe


@pytest.fixture(scope="module")
def usual_videos(pipe) -> dict[int, torch.Tensor]:
    return {id(options): make(pipe, options) for options in (SHORT, MOVING, LONG_LOOP, ENLARGED)}


def make(pipe: MakeAVideoPipeline, options: dict) -> torch.Tensor:
    return pipe("a rocket", generator=torch.Generator().manual_seed(0), output_type="pt", **options).frames


def test_every_number_has_limits_and_a_change_that_is_tried():
    names = {field.name for field in fields(SamplingConfig)}
    tried = {name for _, changed in CHANGES for name in changed}
    # steps of SR_l where it diffuses, and what is of known frames, are tried below, any_shape in tests/test_shapes.py
    below = {"super_resolution_steps", "continue_motion", "frame_guidance"}
    assert set(KINDS) == names - {"any_shape", "sink"} == tried | below


@torch.no_grad()
def test_steps_of_super_resolution_that_diffuses(pipe):
    network = inflate(tiny_super_resolution(), space_to_depth=8)
    own = {**pipe.components, "super_resolution_low": network, "super_resolution_low_scheduler": make_scheduler()}
    seen, small = [], torch.zeros(1, 1, 3, 16, 16)
    network.register_forward_hook(lambda *_: seen.append(1))
    for steps, wanted in ((0, 4), (2, 2)):
        other = MakeAVideoPipeline(**own, sampling={"super_resolution_steps": steps})
        other.set_progress_bar_config(disable=True)
        seen.clear()
        next(other.upscale_low(iter([small]), 8, 4, None))
        assert len(seen) == wanted


@pytest.mark.parametrize("options, changed", CHANGES, ids=lambda x: next(iter(x)))
def test_a_changed_number_changes_the_video(pipe, usual_videos, options, changed):
    pipe.register_to_config(sampling={**SamplingConfig().as_dict(), **changed})
    try:
        video = make(pipe, options)
    finally:
        pipe.register_to_config(sampling=SamplingConfig().as_dict())
    assert video.shape == usual_videos[id(options)].shape
    assert not torch.equal(video, usual_videos[id(options)])


def test_what_goes_on_from_frames_is_told_its_own_motion(pipe):
    videos = []
    pipe.decoder.register_to_config(known_frames=True)
    try:
        for strength in (0.0, 2.0):
            pipe.register_to_config(sampling=SamplingConfig(continue_motion=strength).as_dict())
            videos.append(make(pipe, LONG_LOOP | {"loop": False, "num_frames": 24}))
    finally:
        pipe.decoder.register_to_config(known_frames=False)
        pipe.register_to_config(sampling=SamplingConfig().as_dict())
    assert torch.equal(videos[0][:, :16], videos[1][:, :16])
    assert not torch.equal(videos[0][:, 16:], videos[1][:, 16:])


def test_guidance_towards_known_frames_asks_twice_but_for_what_is_trained_in(pipe):
    """Of a scale s: what is said without the known frames, and s times the way from there to what is said with them."""
    videos = {}
    try:
        for known, scale, trained in [
            (False, 1.0, 1.0),
            (False, 3.0, 1.0),
            (True, 1.0, 1.0),
            (True, 3.0, 1.0),
            (True, 3.0, 3.0),
        ]:
            pipe.decoder.register_to_config(known_frames=known, frame_guidance=trained)
            pipe.register_to_config(sampling=SamplingConfig(frame_guidance=scale).as_dict())
            videos[known, scale, trained] = make(pipe, MOVING)
    finally:
        pipe.decoder.register_to_config(known_frames=False, frame_guidance=1.0)
        pipe.register_to_config(sampling=SamplingConfig().as_dict())
    assert torch.equal(videos[False, 1.0, 1.0], videos[False, 3.0, 1.0])
    plain, guided = videos[True, 1.0, 1.0], videos[True, 3.0, 1.0]
    assert torch.equal(plain, videos[True, 3.0, 3.0])
    assert torch.equal(plain[:, 0], guided[:, 0]) and not torch.equal(plain, guided)


def test_a_sink_is_seen_by_a_decoder_that_sees_known_frames(pipe):
    videos = []
    pipe.decoder.register_to_config(known_frames=True)
    try:
        for sink in (False, True):
            pipe.register_to_config(sampling=SamplingConfig(sink=sink).as_dict())
            videos.append(make(pipe, LONG_LOOP | {"loop": False, "num_frames": 24}))
    finally:
        pipe.decoder.register_to_config(known_frames=False)
        pipe.register_to_config(sampling=SamplingConfig().as_dict())
    one, other = videos
    assert torch.equal(one[:, :16], other[:, :16]) and not torch.equal(one, other)


def test_the_usual_strength_of_growing():
    """More at a low frame rate, where frames differ more."""
    usual = SamplingConfig()
    assert [usual.grow_strength_at(fps) for fps in (64, 16, 8, 4, 1, 0.5)] == pytest.approx(
        [0.6, 0.7, 0.75, 0.8, 0.9, 0.9]
    )
    assert [usual.grow_strength_at(8, motion) for motion in (0, 0.5, 1, 2)] == pytest.approx([0.6, 0.7, 0.75, 0.8])


def test_no_more_motion_is_told_than_was_learnt():
    usual = SamplingConfig(grow_motion=3.0, grow_motion_power=1.0, continue_motion=2.0)
    assert [usual.told_motion(motion) for motion in (0, 0.5, 1, 2)] == [0, 1.5, 3, STRONGEST_MOTION]
    assert usual.told_motion(1.0, goes_on=True) == 2


def test_it_is_saved_with_the_model(tiny_model, tmp_path):
    pipe = MakeAVideoPipeline.from_pretrained(tiny_model, sampling={"still_candidates": 2, "context": 5})
    assert pipe.sampling == SamplingConfig(still_candidates=2, context=5)
    pipe.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "model_index.json").read_text())["sampling"]
    assert saved == SamplingConfig(still_candidates=2, context=5).as_dict()
    again = MakeAVideoPipeline.load(tmp_path)
    assert again.sampling == pipe.sampling and set(again.components) == set(pipe.components)


def test_a_model_that_names_none_has_the_usual_ones(tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "old")
    index = json.loads((tmp_path / "old" / "model_index.json").read_text())
    del index["sampling"]
    (tmp_path / "old" / "model_index.json").write_text(json.dumps(index))
    assert MakeAVideoPipeline.load(tmp_path / "old").sampling == SamplingConfig()


def test_the_included_model_names_all_of_them():
    index = json.loads((default_model() / "model_index.json").read_text())
    assert (
        index["sampling"]
        == SamplingConfig(
            context=10,
            any_shape=False,
            continue_motion=2.2,
            frame_guidance=2.0,
            grow_motion=3.9,
            grow_strength=0.63,
            grow_strength_max=0.7,
            grow_strength_min=0.4,
            grow_strength_per_octave=0.13,
            sink=True,
            transition=3,
        ).as_dict()
    )


@pytest.mark.parametrize("values", IMPOSSIBLE, ids=str)
def test_impossible_numbers_are_refused_in_one_sentence(values):
    with pytest.raises(UserError, match=rf"^sampling\.[^\n]*{next(iter(values))} [^\n]+\.$"):
        SamplingConfig.of(values)


def test_a_folder_with_an_impossible_number_is_named(tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "bad")
    index = json.loads((tmp_path / "bad" / "model_index.json").read_text())
    index["sampling"]["still_candidates"] = 0
    (tmp_path / "bad" / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"bad cannot be run: sampling\.still_candidates 0 is not possible"):
        MakeAVideoPipeline.load(tmp_path / "bad")
