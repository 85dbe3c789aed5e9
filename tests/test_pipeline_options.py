"""The pipeline keeps diffusers' contract: batches, embeddings and latents in, callbacks, precisions, parts left out."""

import inspect
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from conftest import tiny_components, tiny_contract_components
from makeavideo import UserError
from makeavideo.motion_module import load_motion_module
from makeavideo.pipeline import MakeAVideoPipeline
from makeavideo.sampling import make_scheduler
from makeavideo.settings import VideoOptions


def loaded(parts) -> MakeAVideoPipeline:
    pipe = MakeAVideoPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module", params=[tiny_components, tiny_contract_components], ids=["diffusing", "looking up"])
def pipe(request, tmp_path_factory):
    """With a prior of either kind."""
    return loaded(request.param(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return loaded(tiny_contract_components(tmp_path_factory.mktemp("model")))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def make(pipe, prompt="a red rocket", **options):
    how = {"num_frames": 3, "fps": 8, "size": 16, "num_inference_steps": 2, "guidance_scale": 2, "output_type": "pt"}
    if "generator" not in options:
        options["generator"] = seeded(0)
    return pipe(prompt, **{**how, **options}).frames


def test_each_video_of_a_batch_is_as_alone(pipe):
    prompts, negatives = ["a red rocket", "blue cat taking off"], ["cat", "the video"]
    how = {"num_frames": 17, "size": 192}  # all networks
    both = make(pipe, prompts, negative_prompt=negatives, generator=[seeded(1), seeded(2)], **how)
    for index in range(2):
        alone = make(pipe, prompts[index], negative_prompt=negatives[index], generator=seeded(index + 1), **how)
        assert (both[index] - alone[0]).abs().max() < 1e-4
    assert (both[0] - both[1]).abs().max() > 0.1


def test_videos_of_one_prompt(one):
    made = make(one, ["red rocket", "blue cat"], num_videos_per_prompt=2, generator=[seeded(i) for i in range(4)])
    assert len(made) == 4
    for index, prompt in enumerate(["red rocket", "red rocket", "blue cat", "blue cat"]):
        assert (made[index] - make(one, prompt, generator=seeded(index))[0]).abs().max() < 1e-5


def test_one_negative_prompt_goes_for_all(one):
    prompts = ["red rocket", "blue cat"]
    draws = [seeded(1), seeded(2)]
    same = make(one, prompts, negative_prompt="the video", generator=draws)
    draws = [seeded(1), seeded(2)]
    assert torch.equal(same, make(one, prompts, negative_prompt=["the video"] * 2, generator=draws))
    assert not torch.equal(same, make(one, prompts, generator=[seeded(1), seeded(2)]))


def test_text_embeddings_in_place_of_texts(pipe):
    texts, negative = pipe.encode_prompt("a red rocket", "the cat")
    assert torch.equal(make(pipe, None, prompt_embeds=texts), make(pipe))
    both = make(pipe, None, prompt_embeds=texts, negative_prompt_embeds=negative)
    assert torch.equal(both, make(pipe, negative_prompt="the cat"))


def test_latents_are_what_d_t_begins_with(one):
    latents = torch.randn(1, 3, 3, 16, 16, generator=seeded(4))
    made = make(one, latents=latents, generator=seeded(1))
    assert torch.equal(made, make(one, latents=latents, generator=seeded(2)))  # nothing else is drawn, but for P
    assert not torch.equal(made, make(one, latents=-latents, generator=seeded(1)))


def test_latents_come_out_too(one):
    keys = make(one, num_frames=31, output_type="latent")
    assert keys.shape == (1, 7, 3, 16, 16) and keys.min() < -0.01
    frames = make(one, num_frames=31)
    assert (frames[:, ::5] - (keys.clamp(-1, 1) + 1) / 2).abs().max() < 1e-5  # F-up keeps what it is given


def test_a_callback_changes_what_is_gone_on_from(one):
    seen = []

    def to_zero(pipe, step, timestep, tensors):
        assert tuple(tensors) == ("latents", "sample")
        seen.append((pipe.stage, step, pipe.num_timesteps))
        return {"latents": torch.zeros_like(tensors["latents"])} if step == pipe.num_timesteps - 1 else None

    gets = ["latents", "sample"]
    made = make(one, callback_on_step_end=to_zero, callback_on_step_end_tensor_inputs=gets, output_type="latent")
    assert made.abs().max() == 0
    assert seen[:2] == [("still", 0, 2), ("still", 1, 2)] and {stage for stage, _, _ in seen} == {"still", "decoder"}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (5, "callback_on_step_end gave 5: return a dict, or None"),
        ({"latents": torch.zeros(3)}, r"has the shape \(3,\): return \(4, 1, 3, 16, 16\)"),
        ({"latents": np.zeros((4, 1, 3, 16, 16))}, "gave as latents is of the type ndarray"),
        ({"latents": torch.full((4, 1, 3, 16, 16), torch.nan)}, "gave as latents holds what is no number"),
    ],
)
def test_a_callback_that_gives_what_cannot_be_gone_on_from(one, answer, message):
    with pytest.raises(UserError, match=message):
        make(one, callback_on_step_end=lambda *told: answer)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda pipe, picture: pipe.animate(picture, 5), "The prompt 5 is no text"),
        (lambda pipe, picture: pipe.animate(picture, ["a"]), r"The prompt \['a'\] is no text"),
        (lambda pipe, picture: pipe.extend(picture[None], 5), "The prompt 5 is no text"),
        (lambda pipe, picture: pipe.animate(picture, "a", "x"), "--prompt-weight 'x' is not possible"),
        (lambda pipe, picture: pipe.extend(picture[None], "a", None), "--prompt-weight None is not possible"),
        (lambda pipe, picture: pipe.encode_prompt(5), "The prompt 5 is no text"),
        (lambda pipe, picture: pipe.embed_pictures(picture), "pictures is of the type ndarray: give a tensor"),
        (lambda pipe, picture: pipe.embed_pictures(torch.zeros(3, 8, 8)), r"pictures has the shape \(3, 8, 8\)"),
    ],
)
def test_what_other_uses_cannot_take_is_one_sentence(one, call, message):
    with pytest.raises(UserError, match=message):
        call(one, np.zeros((20, 20, 3), np.uint8))


def test_a_video_of_days_is_not_extended(one, tmp_path):
    file = str(tmp_path / "camera.mkv")
    with av.open(file, "w") as container:  # a clock that jumped
        stream = container.add_stream("ffv1", rate=24, options={"pix_fmt": "bgr0"})
        stream.width = stream.height = 16
        for time in (0, 40, 500_000_000):
            frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8))
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(UserError, match=r"lasts 1[0-9][0-9] hours, and at most 24 are extended: cut a part out"):
        one.extend(file, num_frames=1, size=16)


def test_a_folder_is_no_motion_module(one, tmp_path):
    with pytest.raises(UserError, match=r"cannot be read \(it is a folder\)"):
        load_motion_module(one.decoder, tmp_path)


def test_numbers_of_numpy_are_numbers(one):
    made = make(one, num_videos_per_prompt=np.int64(2), num_frames=np.int64(2), size=np.int64(16), fps=np.float32(8))
    assert made.shape == (2, 2, 3, 16, 16)


def test_an_interrupted_video_is_whole_and_early(one):
    steps = []

    def stop(pipe, step, timestep, tensors):
        steps.append(pipe.stage)
        pipe._interrupt = True

    made = make(one, num_inference_steps=8, callback_on_step_end=stop, size=64)
    assert made.shape == (1, 3, 3, 64, 64) and made.isfinite().all()
    assert steps == ["still", "decoder", "super_resolution_low"]  # one step each
    assert not torch.equal(made, make(one, num_inference_steps=8, size=64)) and not one.interrupt


@pytest.mark.parametrize("use", ["__call__", "animate", "interpolate", "vary", "extend"])
def test_the_signature_names_all_options(one, use):
    names = inspect.signature(getattr(MakeAVideoPipeline, use)).parameters
    assert set(VideoOptions.__annotations__) < set(names) and names["guidance_scale"].default == 2.0
    assert not any(one.kind == inspect.Parameter.VAR_KEYWORD for one in names.values())
    with pytest.raises(UserError, match=r"no option 'num_steps' here: choose from .*num_inference_steps"):
        getattr(one, use)("red rocket", num_steps=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": ["red rocket"] * 2, "generator": [seeded(0)] * 3}, "3 generators are given for 2 videos"),
        ({"prompt": ["red rocket"] * 3, "negative_prompt": ["cat"] * 2}, "2 negative prompts are given: give one"),
        ({"negative_prompt": [" "]}, "A negative prompt is empty"),
        ({"num_videos_per_prompt": 0}, "num_videos_per_prompt 0 is not possible"),
        ({"num_videos_per_prompt": 10**9}, "num_videos_per_prompt 1000000000 is not possible"),
        ({"prompt_embeds": torch.zeros(1, 16)}, "More than one of prompt, prompt_embeds and image_embeds"),
        ({"prompt": None, "prompt_embeds": torch.zeros(1, 3)}, r"prompt_embeds has the shape \(1, 3\)"),
        ({"prompt": None}, "The prompt is empty"),
        ({"prompt": ["red rocket", ("cat", 2)]}, r"Every part of a story is a pair \(prompt, seconds\)"),
        ({"latents": torch.zeros(1, 2, 3, 16, 16)}, r"these videos begin with \(1, 3, 3, 16, 16\)"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "cannot be given noise: choose from latents, sample"),
        ({"callback_on_step_end": 5}, "callback_on_step_end 5 is not possible: give a function"),
        ({"prompt": 5}, "The prompt 5 is no text"),
        ({"prompt": b"cat"}, "The prompt b'cat' is no text"),
        ({"prompt": {"cat": 1}}, "The prompt {'cat': 1} is no text"),
        ({"prompt": "a \udcff cat"}, "its letter 3 is none in UTF-8"),
        ({"generator": 0}, "The generator 0 is not possible: give a torch.Generator"),
        ({"num_videos_per_prompt": 1.5}, "num_videos_per_prompt 1.5 is not possible"),
        ({"num_frames": 2.5}, "num_frames 2.5 is not possible: give a whole number"),
        ({"num_inference_steps": 1.5}, "num_inference_steps 1.5 is not possible: give a whole number"),
        ({"guidance_scale": "2"}, "guidance_scale '2' is not possible: give a number"),
        ({"fps": None}, "fps None is not possible: give a number"),
        ({"prompt": None, "prompt_embeds": np.zeros((1, 16))}, "prompt_embeds is of the type ndarray: give a tensor"),
        ({"prompt": None, "image_embeds": torch.full((1, 8), torch.nan)}, "image_embeds holds what is no number"),
        ({"latents": torch.full((1, 3, 3, 16, 16), torch.inf)}, "latents holds what is no number"),
        ({"latents": torch.zeros(1, 3, 3, 16, 16, device="meta")}, r"another kind \(float32, strided, on meta\)"),
        ({"latents": torch.zeros(1, 3, 3, 16, 16).to_sparse()}, r"another kind \(float32, sparse_coo, on cpu\)"),
        ({"latents": torch.zeros(1, 3, 3, 16, 16, dtype=torch.complex64)}, r"another kind \(complex64"),
        ({"latents": torch.zeros(1, 3, 3, 16, 16, dtype=torch.bool)}, r"another kind \(bool"),
        ({"prompt": [("a", "b")]}, "Every part of a story is a pair"),
        ({"prompt": [("a", None)]}, "Every part of a story is a pair"),
        ({"prompt": [(5, 2.0)]}, "The prompt 5 is no text"),
        ({"negative_prompt": 5}, "A negative prompt 5 is no text"),
        ({"negative_prompt": {"x": 1}}, "A negative prompt {'x': 1} is no text"),
        ({"negative_prompt": [5]}, "A negative prompt 5 is no text"),
        ({"negative_prompt": [(1, 1)]}, r"A negative prompt \(1, 1\) is no text"),
        (
            {"negative_prompt": "cat", "negative_prompt_embeds": torch.zeros(1, 16)},
            "More than one of negative_prompt and negative_prompt_embeds is given: choose one",
        ),
        ({"num_videos_per_prompt": True}, "num_videos_per_prompt True is not possible"),
        ({"num_frames": 10**400}, r"num_frames 10+\.\.\.0+ is not possible"),
        ({"guidance_scale": 10**400}, r"guidance_scale 10+\.\.\.0+ is not possible"),
        ({"num_frames": None, "seconds": 1e308}, "longer than a day"),
        ({"output_type": np.array([1, 2])}, r"output_type array\(\[1, 2\]\) is not possible: choose pil"),
        ({"fps": np.zeros((4, 20, 20, 3))}, "is not possible: give a number"),
        ({"generator": torch.zeros(4, 20, 20)}, "is not possible: give a torch.Generator"),
        ({"loop": "no"}, "loop 'no' is not possible: give True or False"),
        ({"return_dict": 0}, "return_dict 0 is not possible: give True or False"),
        *(
            ({"callback_on_step_end_tensor_inputs": wrong}, "is not possible: give a list of latents and sample")
            for wrong in (5, None, [1, "x"], [["latents"]], "latents")
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(one, options, message):
    with pytest.raises(UserError, match=message) as error:
        make(one, options.pop("prompt", "a red rocket"), **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler])
def test_other_schedulers_that_follow_the_line(one, kind):
    before, expected = one.decoder_scheduler, make(one, num_inference_steps=24)
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 1.0}
    one.decoder_scheduler = kind() if kind is FlowMatchEulerDiscreteScheduler else kind(**flow)
    try:
        made = make(one, num_inference_steps=24)
    finally:
        one.decoder_scheduler = before
    assert (made - expected).abs().mean() < 0.1  # a random network is not smooth


@pytest.mark.parametrize(
    "scheduler",
    [
        DDIMScheduler(),
        DPMSolverMultistepScheduler(),
        DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, algorithm_type="sde-dpmsolver++"
        ),
    ],
    ids=["ddim", "epsilon", "sde"],
)
def test_schedulers_that_cannot_work_are_refused(one, scheduler, tmp_path):
    before, one.decoder_scheduler = one.decoder_scheduler, scheduler
    try:
        with pytest.raises(UserError, match=type(scheduler).__name__):
            make(one)
    finally:
        one.decoder_scheduler = before
    with pytest.raises(UserError, match=type(scheduler).__name__):
        MakeAVideoPipeline(**{**tiny_components(tmp_path), "prior_scheduler": scheduler})


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("parts", [tiny_components, tiny_contract_components], ids=["diffusing", "looking up"])
def test_the_whole_in_half_precision(parts, kind, tmp_path):
    full = loaded(parts(tmp_path))
    expected = make(full, num_frames=17, size=192)
    full.save_pretrained(tmp_path / "saved")
    for half in (full.to(kind), MakeAVideoPipeline.from_pretrained(tmp_path / "saved", dtype=kind)):
        half.set_progress_bar_config(disable=True)
        assert {part.dtype for part in half.components.values() if isinstance(part, torch.nn.Module)} == {kind}
        made = make(half, num_frames=17, size=192)
        assert made.dtype == torch.float32 and (made - expected).abs().mean() < 0.03
        assert half.animate(np.full((20, 20, 3), 80, np.uint8), num_frames=4, output_type="pt").frames.isfinite().all()


def test_weights_kept_in_eight_bits(tmp_path):
    """Layerwise casting: stored as float8, computed in bf16."""
    pipe = loaded(tiny_contract_components(tmp_path))
    expected = make(pipe)
    pipe.to(torch.bfloat16)
    pipe.decoder.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16)
    assert any(weights.dtype == torch.float8_e4m3fn for weights in pipe.decoder.parameters())
    assert (make(pipe) - expected).abs().mean() < 0.1


def test_parts_that_are_not_there(tmp_path):
    parts = tiny_contract_components(tmp_path)
    left = {name: None if name.startswith(("super", "interpolator")) else part for name, part in parts.items()}
    loaded(left).save_pretrained(tmp_path / "small")
    pipe = MakeAVideoPipeline.from_pretrained(tmp_path / "small")
    pipe.set_progress_bar_config(disable=True)
    assert pipe.sizes == (16,) and pipe.super_resolution_low is None
    assert (make(pipe) - make(loaded(parts))).abs().max() < 1e-5
    with pytest.raises(UserError, match="no F-up network: choose at most 16 frames, not 17"):
        make(pipe, num_frames=17)
    with pytest.raises(UserError, match=r"this model makes 16 pixels a side"):
        make(pipe, size=100_000)
    with pytest.raises(UserError, match="no F-up network"):
        pipe.animate(np.zeros((20, 20, 3), np.uint8), num_frames=4, output_type="pt")
    pipe.text_encoder = None
    with pytest.raises(UserError, match="no text encoder: give prompt_embeds or image_embeds"):
        make(pipe)
    assert make(pipe, None, image_embeds=torch.randn(1, 8)).shape == (1, 3, 3, 16, 16)


def test_all_parts_left_out_that_may_be(tmp_path):
    """What is left makes D_t's frames from an image embedding, and is saved and loaded so."""
    parts = tiny_contract_components(tmp_path)
    left = {name: part for name, part in parts.items() if name not in MakeAVideoPipeline._optional_components}
    given = dict.fromkeys(("tokenizer", "text_encoder", "text_projection", "image_encoder"))
    pipe = loaded({**given, **left})
    pipe.save_pretrained(tmp_path / "least")
    y_e = torch.randn(1, 8)
    made = make(pipe, None, image_embeds=y_e)
    again = loaded(MakeAVideoPipeline.from_pretrained(tmp_path / "least").components)
    assert made.shape == (1, 3, 3, 16, 16) and (made - make(again, None, image_embeds=y_e)).abs().max() < 1e-5
    for what, message in ((None, "no part that takes a prompt"), ("a red rocket", "no text encoder")):
        with pytest.raises(UserError, match=message):
            make(pipe, what, **({"prompt_embeds": torch.zeros(1, 16)} if what is None else {}))


@pytest.mark.parametrize(
    ("part", "weights", "value", "message"),
    [
        ("decoder", "conv_out", 3e38, "The decoder of this model makes what is no number"),
        ("text_encoder", "embeddings.LayerNorm", 3e38, r"The text_encoder of /\S+/text makes what is no number"),
        ("super_resolution_low", "conv_out", torch.nan, "The super-resolution of this model makes what is no number"),
    ],
)
def test_what_a_network_makes_is_numbers(tmp_path, part, weights, value, message):
    """Some such weights are finite themselves; what they made was black."""
    pipe = loaded(tiny_contract_components(tmp_path))
    for name, weight in getattr(pipe, part).named_parameters():
        if name.startswith(weights):
            torch.nn.init.constant_(weight, value)
    with pytest.raises(UserError, match=message):
        make(pipe, size=64)


def test_make_scheduler_is_one_that_works():
    assert make_scheduler().config.use_flow_sigmas


def test_another_pipeline_shares_the_networks(one):
    other = MakeAVideoPipeline.from_pipe(one, sampling={"transition": 5})
    assert all(part is one.components[name] for name, part in other.components.items())
    assert (other.sampling.transition, one.sampling.transition) == (5, 4) and other.dtype == one.dtype
    other.set_progress_bar_config(disable=True)
    np.testing.assert_array_equal(make(other), make(one))


@pytest.mark.parametrize(
    ("other", "options", "sentence"),
    [
        (3, {}, "A int has not the networks of a MakeAVideoPipeline"),
        (None, {"steps": 3}, "There is no option 'steps' here"),
        (None, {"prior": 3}, "A int cannot be the prior"),
        (None, {"dtype": "float7"}, "float7"),
        (None, {"sampling": 3}, "sampling"),
    ],
)
def test_what_no_pipeline_can_be_made_of_is_one_sentence(one, other, options, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        MakeAVideoPipeline.from_pipe(one if other is None else other, **options)
    assert "\n" not in str(caught.value)
