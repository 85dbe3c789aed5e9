"""The cascade with tiny random networks: shapes, windows, conventions of diffusers, determinism, errors."""

import os

import numpy as np
import pytest
import torch

from makeavideo import UserError
from makeavideo.decoding import Decoding
from makeavideo.loading import weights_hash
from makeavideo.media.inputs import read_picture
from makeavideo.media.writer import write_video
from makeavideo.pipeline import MakeAVideoPipeline


@pytest.fixture(scope="module")
def pipe(tiny_model):
    pipe = MakeAVideoPipeline.load(tiny_model)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make(pipe, prompt="a rocket", seed=0, **kwargs):
    options = {"num_frames": 4, "size": 16, "num_inference_steps": 2, "output_type": "pt"}
    return pipe(prompt, generator=torch.Generator().manual_seed(seed), **{**options, **kwargs}).frames


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
    y_e = torch.randn(2, 4, 8)
    video = pipe.fill_between(keys, 5, y_e, Decoding(24, 2, 1.0))
    assert video.shape[1] == 16
    assert torch.equal(video[:, ::5], keys)
    assert not torch.equal(video[:, 1], keys[:, 0])
    assert pipe.fill_between(keys, 2, y_e, Decoding(24, 2, 1.0)).shape[1] == 13


@pytest.mark.parametrize("count, last_gap", [(3, 4), (15, 3), (16, 5), (16, 6), (20, 7)])
def test_every_frame_is_filled_from_key_frames_on_both_sides(pipe, monkeypatch, count, last_gap):
    """Whatever the last gap: a stretch that begins between two key frames leaves what is before its first one alone."""

    def fill(given, mask, y_e, how):
        clips = [
            np.interp(range(len(m)), m.nonzero()[:, 0], g[m > 0, 0, 0, 0]) for g, m in zip(given, mask, strict=True)
        ]
        return torch.tensor(np.stack(clips)).to(given)[:, :, None, None, None].expand_as(given)

    monkeypatch.setattr(pipe, "fill", fill)
    times = torch.tensor([*range(0, 5 * (count - 1), 5), 5 * (count - 2) + last_gap], dtype=torch.float32)
    keys = times[None, :, None, None, None].expand(1, -1, 3, 4, 4)
    video = pipe.fill_between(keys, last_gap, torch.zeros(1, count, 8), Decoding(24, 2, 1.0))
    torch.testing.assert_close(video[0, :, 0, 0, 0], torch.arange(times[-1] + 1))


PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
CLIP = np.random.default_rng(1).integers(0, 256, (30, 40, 40, 3), np.uint8)


def given(picture, size):
    """A given picture as it should stand in the result (3, size, size)."""
    return torch.from_numpy(read_picture(picture, size)).permute(2, 0, 1) / 255


def use(pipe, name, *inputs, **kwargs):
    options = {"num_frames": 18, "size": 16, "num_inference_steps": 2, "output_type": "pt"}
    generator = torch.Generator().manual_seed(0)
    return getattr(pipe, name)(*inputs, generator=generator, **{**options, **kwargs}).frames[0]


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("size", [16, 64, 192])
@pytest.mark.parametrize("num_frames", [3, 18])
def test_animation_starts_with_the_picture(pipe, size, num_frames, loop):
    frames = use(pipe, "animate", PICTURE, size=size, num_frames=num_frames, loop=loop)
    assert frames.shape == (num_frames, 3, size, size)
    assert torch.allclose(frames[0], given(PICTURE, size), atol=0.01)
    assert not torch.allclose(frames[1], frames[0], atol=0.01)


@pytest.mark.parametrize("size", [16, 64, 192])
@pytest.mark.parametrize("num_frames", [3, 16, 19, 76])
def test_interpolation_keeps_both_ends(pipe, size, num_frames):
    if size == 192 and num_frames == 76:
        pytest.skip("the same code as 19 frames, and slow")
    frames = use(pipe, "interpolate", PICTURE, 255 - PICTURE, size=size, num_frames=num_frames)
    assert frames.shape == (num_frames, 3, size, size)
    assert torch.allclose(frames[0], given(PICTURE, size), atol=0.01)
    assert torch.allclose(frames[-1], given(255 - PICTURE, size), atol=0.01)


def test_interpolation_there_and_back(pipe):
    frames = use(pipe, "interpolate", PICTURE, 255 - PICTURE, num_frames=20, loop=True)
    there = (frames - given(255 - PICTURE, 16)).abs().flatten(1).amax(1)
    assert len(frames) == 20 and there.min() < 0.01 and 5 <= there.argmin() <= 15
    with pytest.raises(UserError, match="3 to 76"):
        use(pipe, "interpolate", PICTURE, PICTURE, num_frames=77)


def test_variation_depends_on_the_video_and_on_the_seed(pipe):
    frames = use(pipe, "vary", CLIP, num_frames=5)
    assert frames.shape == (5, 3, 16, 16)
    assert not torch.equal(frames, use(pipe, "vary", 255 - CLIP, num_frames=5))


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("num_frames, size", [(3, 16), (40, 16), (7, 64)])
def test_extension_keeps_the_video_and_goes_on(pipe, num_frames, size, loop):
    frames = use(pipe, "extend", CLIP, num_frames=num_frames, size=size, loop=loop)
    assert frames.shape == (30 + num_frames, 3, size, size)
    assert torch.allclose(frames[29], given(CLIP[29], size), atol=0.01)
    assert not torch.equal(frames[30], frames[29])


def test_extension_of_a_file_at_another_rate(pipe, tmp_path):
    """30 frames at 24 a second are 15 at 12."""
    write_video(tmp_path / "a.webp", CLIP, 24)
    assert len(use(pipe, "extend", tmp_path / "a.webp", num_frames=4)) == 34
    assert len(use(pipe, "extend", tmp_path / "a.webp", num_frames=4, fps=12.0)) == 19


def test_a_prompt_changes_an_animation(pipe):
    plain = use(pipe, "animate", PICTURE)
    assert torch.equal(plain, use(pipe, "animate", PICTURE, prompt="a rocket", prompt_weight=0.0))
    assert not torch.equal(plain, use(pipe, "animate", PICTURE, prompt="a rocket", prompt_weight=0.5))


def test_story(pipe):
    frames = pipe(
        [("a rocket", 1.0), ("a cat", 0.5)], fps=24.0, size=16, num_inference_steps=1, output_type="pt"
    ).frames
    assert frames.shape[1] == 36
    with pytest.raises(UserError, match="own length"):
        pipe([("a rocket", 1.0)], seconds=3)


def test_long_videos_come_in_pieces(pipe):
    """Frames stream: no piece is longer than what one window gives, however long the video."""
    for size in (16, 64):
        options = {"num_frames": 200, "size": size, "num_inference_steps": 1, "output_type": "stream"}
        pieces = [chunk.shape[1] for chunk in pipe("a rocket", **options).frames]
        assert sum(pieces) == 200 and max(pieces) <= 80


def test_super_resolution_has_no_seam(pipe):
    """A video in pieces is enlarged as the same video in one piece, but for what the temporal layers see across."""
    video = (torch.rand(1, 1, 3, 16, 16) * 2 - 1).expand(-1, 40, -1, -1, -1)
    runs = []
    for cut in (40, 20):
        pieces = pipe.upscale_low(iter(video.split(cut, 1)), 24.0, 1, torch.Generator().manual_seed(0))
        runs.append(torch.cat([large for _, large in pieces], 1))
    assert runs[0].shape == runs[1].shape == (1, 40, 3, 64, 64)
    steps = runs[1].diff(dim=1).abs().mean((0, 2, 3, 4))
    assert steps[10:30].max() <= 2 * runs[0].diff(dim=1).abs().mean((0, 2, 3, 4)).max() + 1e-4


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


def test_image_embeddings_in_place_of_a_prompt(pipe):
    y_e = pipe.embed_prompts(["a red rocket"], torch.Generator().manual_seed(5))
    options = {"num_frames": 3, "size": 16, "num_inference_steps": 2, "output_type": "pt"}
    videos = [
        pipe(image_embeds=y, generator=torch.Generator().manual_seed(1), **options).frames for y in (y_e, y_e, -y_e)
    ]
    assert torch.equal(videos[0], videos[1]) and not torch.equal(videos[0], videos[2])
    for mistake in ({"prompt": "a cat", "image_embeds": y_e}, {"image_embeds": y_e[0]}, {"image_embeds": y_e[:, :3]}):
        with pytest.raises(UserError, match="image_embeds"):
            pipe(**mistake, **options)
    with pytest.raises(UserError, match="prompt is empty"):
        pipe(**options)


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
        torch.cat(
            [y for _, y in pipe.upscale_high([(video, video)], 1, torch.Generator().manual_seed(0), part=part)], 1
        )
        for part in (1, 5)
    ]
    assert (runs[0] - runs[1]).abs().max() < 0.02  # bf16 kernels differ by batch size


def test_callback_sees_every_stage(pipe):
    seen = []

    def callback(pipeline, step, timestep, tensors):
        assert pipeline is pipe and list(tensors) == ["sample"] and torch.is_tensor(tensors["sample"])
        seen.append(pipe.stage)

    make(pipe, num_frames=17, size=192, callback_on_step_end=callback, callback_on_step_end_tensor_inputs=["sample"])
    stages = list(dict.fromkeys(seen))
    assert stages == ["prior", "still", "decoder", "interpolator", "super_resolution_low", "super_resolution_high"]


def test_save_and_load_give_the_same_video(pipe, tmp_path):
    umask = os.umask(0o027)
    try:
        pipe.save_pretrained(tmp_path / "copy")
    finally:
        os.umask(umask)
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "copy").rglob("*.*") if file.is_file()} == {0o640}
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
    [
        {"prompt": "  "},
        {"prompt": []},
        {"num_frames": 0},
        {"num_frames": 2, "loop": True},
        {"num_frames": 20, "seconds": 3},
        {"num_frames": None, "seconds": 0},
        {"size": 100},
        {"fps": 0},
        {"num_inference_steps": 0},
        {"output_type": "gif"},
    ],
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
