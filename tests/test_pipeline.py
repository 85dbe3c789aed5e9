"""The cascade with tiny random networks: shapes, windows, conventions of diffusers, determinism, errors."""

import numpy as np
import pytest
import torch

from makeavideo import UserError
from makeavideo.pipeline import MakeAVideoPipeline, key_frame_count, weights_hash, windows


@pytest.fixture(scope="module")
def pipe(tiny_model):
    pipe = MakeAVideoPipeline.load(tiny_model)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make(pipe, prompt="a rocket", seed=0, **kwargs):
    options = {"num_frames": 4, "size": 16, "num_inference_steps": 2, "output_type": "pt"}
    return pipe(prompt, generator=torch.Generator().manual_seed(seed), **{**options, **kwargs}).frames


@pytest.mark.parametrize("length", [1, 6, 16, 21, 26, 31, 76])
def test_windows_cover_every_frame_and_start_on_key_frames(length):
    spans = windows(length)
    assert sorted({i for span in spans for i in span}) == list(range(length))
    assert all(len(span) == min(16, length) for span in spans)
    assert all(span.start % 5 == 0 and (span.stop - 1) % 5 == 0 for span in spans)


def test_76_frames_are_five_windows_that_share_key_frames():
    assert [span.start for span in windows(76)] == [0, 15, 30, 45, 60]


@pytest.mark.parametrize("num_frames, keys", [(1, 1), (16, 16), (17, 5), (76, 16), (21, 5), (22, 6)])
def test_key_frames(num_frames, keys):
    assert key_frame_count(num_frames) == keys


@pytest.mark.parametrize("size", [16, 64, 192])
@pytest.mark.parametrize("num_frames", [1, 3, 19])
def test_every_size_and_length(pipe, size, num_frames):
    frames = make(pipe, size=size, num_frames=num_frames)
    assert frames.shape == (1, num_frames, 3, size, size)
    assert frames.min() >= 0 and frames.max() <= 1 and frames.isfinite().all()


def test_76_frames(pipe):
    assert make(pipe, num_frames=76).shape == (1, 76, 3, 16, 16)


def test_key_frames_survive_interpolation(pipe):
    keys = torch.rand(2, 4, 3, 16, 16) * 2 - 1
    y_e = torch.randn(2, 8)
    video = pipe.interpolate_keys(keys, y_e, 24.0, 2, torch.Generator().manual_seed(0))
    assert video.shape[1] == 16
    assert torch.equal(video[:, ::5], keys)
    assert not torch.equal(video[:, 1], keys[:, 0])


def test_same_seed_same_video(pipe):
    first, again, other = make(pipe, seed=3, num_frames=20), make(pipe, seed=3, num_frames=20), make(pipe, seed=4)
    assert torch.equal(first, again)
    assert not torch.equal(first[:, :4], other)


def test_prompt_negative_prompt_and_guidance_matter(pipe):
    base = make(pipe, "a rocket")
    assert not torch.equal(base, make(pipe, "a red cat"))
    assert not torch.equal(base, make(pipe, negative_prompt="a red cat"))
    assert not torch.equal(base, make(pipe, guidance_scale=1.0))
    assert not torch.equal(base, make(pipe, fps=1.0)) or not any(
        p.abs().sum() > 0 for n, p in pipe.decoder.named_parameters() if "time_embedding.temporal.linear_2" in n
    )


def test_several_prompts_and_output_types(pipe):
    frames = make(pipe, ["a rocket", "a cat"], output_type="np")
    assert isinstance(frames, np.ndarray) and frames.shape == (2, 4, 16, 16, 3)
    pictures = make(pipe, output_type="pil")
    assert len(pictures) == 1 and len(pictures[0]) == 4 and pictures[0][0].size == (16, 16)
    (tuple_frames,) = pipe("a cat", num_frames=2, size=16, num_inference_steps=1, output_type="pt", return_dict=False)
    assert tuple_frames.shape[1] == 2


def test_high_resolution_frames_do_not_depend_on_the_chunk(pipe):
    video = torch.rand(1, 5, 3, 64, 64) * 2 - 1
    runs = [
        torch.cat(list(pipe.upscale_high(video, 1, torch.Generator().manual_seed(0), chunk=chunk)), 1)
        for chunk in (1, 5)
    ]
    assert (runs[0] - runs[1]).abs().max() < 0.02  # bf16 kernels differ by batch size


def test_callback_sees_every_stage(pipe):
    seen = []

    def callback(pipeline, step, timestep, state):
        assert pipeline is pipe and torch.is_tensor(state["sample"])
        seen.append(state["stage"])

    make(pipe, num_frames=17, size=192, callback_on_step_end=callback)
    stages = list(dict.fromkeys(seen))
    assert stages == ["prior", "decoder", "interpolator", "super_resolution_low", "super_resolution_high"]


def test_save_and_load_give_the_same_video(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "copy")
    again = MakeAVideoPipeline.load(tmp_path / "copy")
    again.set_progress_bar_config(disable=True)
    assert torch.equal(make(pipe), make(again))
    assert set(again.components) == set(pipe.components)


def test_weights_hash_changes_with_the_weights(tiny_model, tmp_path):
    import shutil

    shutil.copytree(tiny_model, tmp_path / "copy")
    assert weights_hash(tmp_path / "copy") == weights_hash(tiny_model)
    file = next((tmp_path / "copy" / "decoder").glob("*.safetensors"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert weights_hash(tmp_path / "copy") != weights_hash(tiny_model)


@pytest.mark.parametrize(
    "bad",
    [{"prompt": "  "}, {"num_frames": 0}, {"num_frames": 77}, {"size": 100}, {"fps": 0}, {"num_inference_steps": 0}],
)
def test_impossible_requests_are_one_sentence(pipe, bad):
    with pytest.raises(UserError) as error:
        make(pipe, **bad)
    assert "\n" not in str(error.value)


def test_missing_and_pickled_weights(tiny_model, tmp_path):
    import shutil

    with pytest.raises(UserError, match=r"no model_index\.json"):
        MakeAVideoPipeline.load(tmp_path)
    shutil.copytree(tiny_model, tmp_path / "pickled")
    for file in (tmp_path / "pickled").rglob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))
    with pytest.raises(UserError, match="pickled"):
        MakeAVideoPipeline.load(tmp_path / "pickled")
    shutil.copytree(tiny_model, tmp_path / "missing")
    for file in (tmp_path / "missing" / "decoder").glob("*.safetensors"):
        file.unlink()
    with pytest.raises(UserError, match="cannot be loaded"):
        MakeAVideoPipeline.load(tmp_path / "missing")
