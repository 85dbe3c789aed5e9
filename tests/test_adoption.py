"""Text-to-image pipelines as the start of a cascade: embeddings and pictures are those of diffusers' own classes."""

import json
import shutil
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler

import tiny_text_to_image as tiny
from makeavideo import MakeAVideoPipeline, UserError
from makeavideo.decoding import Decoding
from makeavideo.filling import Masked, MaskedLatents
from makeavideo.inflation import widen_input
from makeavideo.parametrization import Parametrization
from makeavideo.sampling import add_noise, make_scheduler
from makeavideo.training.losses import weighted_loss
from makeavideo.training.stages.conditions import Conditions, told

PROMPT = "a red dog"


@pytest.fixture(scope="module")
def kandinsky(tmp_path_factory):
    """(its folder, its prior's pipeline, its decoder's pipeline, ours)"""
    folder = tmp_path_factory.mktemp("kandinsky")
    prior, decoder = tiny.kandinsky(folder)
    ours = MakeAVideoPipeline.from_text_to_image(folder / "decoder")
    ours.set_progress_bar_config(disable=True)
    return folder, prior, decoder, ours


def with_ddim(pipe):
    """Its scheduler as DDIM's, of which ours takes the steps: no noise is drawn on the way."""
    config = {key: value for key, value in pipe.scheduler.config.items() if key != "variance_type"}
    pipe.scheduler = DDIMScheduler.from_config(config, set_alpha_to_one=True)
    return pipe


def seed():
    return torch.Generator().manual_seed(7)


@torch.no_grad()
def test_kandinskys_embedding_is_that_of_diffusers(kandinsky):
    _, prior, _, ours = kandinsky
    expected = prior(PROMPT, generator=[seed()], guidance_scale=4.0, num_inference_steps=25)
    made = ours.embed_prompts([PROMPT], seed())
    assert expected.image_embeds.abs().max() > 1 and made.shape == (1, tiny.DIM)
    assert (made - expected.image_embeds).abs().max() < 1e-3
    assert (ours.decoder.conditioner.null - expected.negative_image_embeds).abs().max() < 1e-5
    other = ours.embed_prompts(["a cat"], seed())
    assert (made - other).abs().max() > 0.01


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@torch.no_grad()
def test_kandinskys_picture_is_that_of_diffusers(kandinsky, guidance):
    """One frame of D, with DDIM's timesteps, from the same noise; as latents and as a picture."""
    _, prior, decoder, ours = kandinsky
    asked = prior(PROMPT, generator=[seed()])
    noise = torch.randn(1, *ours.frame_shape, generator=seed())
    told = {"image_embeds": asked.image_embeds, "negative_image_embeds": asked.negative_image_embeds}
    size = {"height": ours.sizes[0], "width": ours.sizes[0]}
    how = {"latents": noise, "guidance_scale": guidance, "num_inference_steps": 20, **size}
    theirs = with_ddim(decoder)
    latents, picture = (theirs(**told, **how, output_type=kind).images for kind in ("latent", "np"))
    ours.decoder_scheduler = make_scheduler(solver_order=1)
    made = ours.decode(asked.image_embeds, 1, Decoding(0, 20, guidance), noise=noise[:, None])
    assert (made[:, 0] - latents).abs().max() < 1e-3
    frame = next(iter(ours.frames_of(made)))[0, 0].permute(1, 2, 0).numpy()
    assert abs((frame + 1) / 2 - picture[0]).max() < 1e-3


@pytest.fixture(scope="module")
def stable_unclip(tmp_path_factory):
    """(its pipeline, ours)"""
    folder = tmp_path_factory.mktemp("stable")
    theirs = tiny.stable_unclip(folder / "theirs")
    tiny.image_encoder().save_pretrained(folder / "tower")
    ours = MakeAVideoPipeline.from_text_to_image(folder / "theirs", image_encoder=str(folder / "tower"))
    ours.set_progress_bar_config(disable=True)
    return theirs, ours


@pytest.mark.parametrize("start", ["kandinsky", "karlo", "stable_unclip"])
@torch.no_grad()
def test_a_clip_is_its_pictures_before_training(start, request):
    *_, ours = request.getfixturevalue(start)
    y_e = ours.embed_prompts([PROMPT], seed())
    noise = torch.randn(1, 16, *ours.frame_shape, generator=seed())
    how = Decoding(8, 4, 4.0)
    clip = ours.decode(y_e, 16, how, noise=noise)
    alone = torch.cat([ours.decode(y_e, 1, how, noise=part) for part in noise.split(1, 1)], 1)
    assert clip.shape == (1, 16, ours.decoder.out_channels, 8, 8) and (clip - alone).abs().max() < 1e-3


@pytest.mark.parametrize("start", ["karlo", "stable_unclip"])
@torch.no_grad()
def test_an_adopted_model_does_all_five_uses(start, request):
    """With an F-up that is D_t, wider: what it makes means nothing, but every network meets every other."""
    *_, ours = request.getfixturevalue(start)
    filling = Masked if ours.codec is None else MaskedLatents
    f_up = widen_input(deepcopy(ours.decoder), filling.extra_channels)
    pipe = MakeAVideoPipeline(**{**ours.components, "interpolator": f_up, "interpolator_scheduler": make_scheduler()})
    pipe.set_progress_bar_config(disable=True)
    few = {"size": pipe.sizes[0], "num_inference_steps": 1, "output_type": "pt", "fps": 8}
    picture = (torch.rand(16, 16, 3, generator=seed()) * 255).byte().numpy()
    clip = (torch.rand(5, 16, 16, 3, generator=seed()) * 255).byte().numpy()
    videos = [
        pipe(PROMPT, num_frames=18, generator=seed(), **few),
        pipe.animate(picture, num_frames=6, generator=seed(), **few),
        pipe.interpolate(picture, picture, num_frames=6, generator=seed(), **few),
        pipe.vary(clip, num_frames=3, generator=seed(), **few),
        pipe.extend(clip, num_frames=4, generator=seed(), **few),
    ]
    assert [video.frames.shape[1] for video in videos] == [18, 6, 6, 3, 9]
    assert all(video.frames.isfinite().all() and video.frames.shape[-1] == pipe.sizes[0] for video in videos)


def test_what_is_saved_makes_the_same_video(kandinsky, tmp_path):
    *_, ours = kandinsky
    ours.save_pretrained(tmp_path / "model")
    again = MakeAVideoPipeline.from_pretrained(tmp_path / "model")
    again.set_progress_bar_config(disable=True)
    options = {"num_frames": 3, "num_inference_steps": 3, "output_type": "pt"}
    videos = [pipe(PROMPT, generator=seed(), **options).frames for pipe in (ours, again)]
    assert videos[0].shape == (1, 3, 3, 16, 16) and torch.equal(*videos)
    picture = (torch.rand(16, 16, 3) * 255).byte().numpy()
    assert torch.equal(*(pipe.embed_pictures(pipe.to_tensor(picture)[0]) for pipe in (ours, again)))


@pytest.fixture(scope="module")
def karlo(tmp_path_factory):
    """(its pipeline, ours)"""
    folder = tmp_path_factory.mktemp("karlo")
    theirs = tiny.karlo(folder / "karlo")
    ours = MakeAVideoPipeline.from_text_to_image(folder / "karlo", image_encoder=str(folder / "tower"))
    ours.set_progress_bar_config(disable=True)
    return theirs, ours


@torch.no_grad()
def test_karlos_picture_is_that_of_its_networks(karlo, monkeypatch):
    """Its pipeline's own steps are random, so DDIM's are taken; the parts are its own."""
    theirs, ours = karlo
    y_e = torch.randn(2, tiny.DIM, generator=seed()) * 3
    embedding, words, mask = theirs._encode_prompt(["", ""], torch.device("cpu"), 1, True)
    states, labels = theirs.text_proj(
        image_embeddings=y_e,
        prompt_embeds=embedding,
        text_encoder_hidden_states=words,
        do_classifier_free_guidance=True,
    )
    mask = torch.nn.functional.pad(mask, (4, 0), value=True)
    scheduler = DDIMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=True, set_alpha_to_one=True)
    noise = torch.randn(2, 1, *ours.frame_shape, generator=seed())
    scheduler.set_timesteps(20)
    x = noise[:, 0]
    for t in scheduler.timesteps:
        both = torch.cat([x, x])
        conditions = {"encoder_hidden_states": states, "class_labels": labels, "attention_mask": mask}
        free, given = theirs.decoder(both, t, **conditions).sample[:, :3].chunk(2)
        x = scheduler.step(free + 8 * (given - free), t, x, use_clipped_model_output=True).prev_sample
    levels = Parametrization("epsilon", {"beta_schedule": "squaredcos_cap_v2"}).levels  # spaced as DDIM's
    monkeypatch.setattr(ours.decoder.parametrization, "levels", levels)
    ours.decoder_scheduler = make_scheduler(solver_order=1)
    made = ours.decode(y_e, 1, Decoding(0, 20, 8.0), noise=noise)
    assert x.std() > 0.1 and (made[:, 0] - x).abs().max() < 1e-3


@torch.no_grad()
def test_karlos_embedding_is_that_of_diffusers(karlo, monkeypatch):
    theirs, ours = karlo
    kept = []
    post = theirs.prior.post_process_latents
    monkeypatch.setattr(theirs.prior, "post_process_latents", lambda x: kept.append(post(x)) or kept[-1])
    few = {"decoder_num_inference_steps": 2, "super_res_num_inference_steps": 2}
    theirs(PROMPT, generator=[seed()], prior_guidance_scale=4.0, **few)
    assert (ours.embed_prompts([PROMPT], seed()) - kept[0]).abs().max() < 1e-3


@torch.no_grad()
def test_karlos_super_resolution_is_that_of_diffusers(karlo, monkeypatch):
    """Its pipeline runs whole; ours goes on from its small picture, where its generator was then."""
    theirs, ours = karlo
    step, set_timesteps, small, draws = theirs.decoder_scheduler.step, theirs.super_res_scheduler.set_timesteps, [], []
    monkeypatch.setattr(theirs.decoder_scheduler, "step", lambda *a, **k: small.append(step(*a, **k)) or small[-1])
    generator = seed()
    begins = lambda *a, **k: draws.append(generator.clone_state()) or set_timesteps(*a, **k)  # noqa: E731
    monkeypatch.setattr(theirs.super_res_scheduler, "set_timesteps", begins)
    picture = theirs(PROMPT, generator=generator, decoder_num_inference_steps=3, output_type="np").images
    given, told = small[-1].prev_sample.clamp(-1, 1), []
    networks = (ours.super_resolution_low, ours.super_resolution_low_last)
    hooks = [network.register_forward_hook(lambda net, *_: told.append(networks.index(net))) for network in networks]
    clip = torch.stack([given, given, given * 0.5], 1)
    parts = replace(ours.sampling, super_resolution_frames=2, super_resolution_overlap=1)
    monkeypatch.setattr(type(ours), "sampling", parts)
    chunks = ours.upscale_low(iter([clip[:, :2], clip[:, 2:]]), 8, 4, [draws[0].clone_state()])
    made = torch.cat([large for _, large in chunks], 1)
    for hook in hooks:
        hook.remove()
    assert ours.sizes == (8, 32) and made.shape == (1, 3, 3, 32, 32) and told == [0] * 6 + [1] + [0] * 6 + [1]
    for frame in (0, 1):  # of the same small frame, and so with the same noise, also over a border of parts
        large = (made[0, frame] / 2 + 0.5).permute(1, 2, 0).numpy()
        assert picture.std() > 0.1 and abs(large - picture[0]).max() < 1e-3
    assert (made[:, 2] - made[:, 1]).abs().max() > 0.1


@torch.no_grad()
def test_karlo_saved_and_without_a_tower(karlo, tmp_path):
    _, ours = karlo
    ours.save_pretrained(tmp_path / "model")
    again = MakeAVideoPipeline.from_pretrained(tmp_path / "model")
    options = {"num_frames": 3, "num_inference_steps": 3, "output_type": "pt"}
    videos = [pipe(PROMPT, generator=seed(), **options).frames for pipe in (ours, again)]
    assert (
        videos[0].shape == (1, 3, 3, 32, 32) and (videos[0] - videos[1]).abs().max() < 0.01
    )  # rounding, at high noise
    half = MakeAVideoPipeline.load(tmp_path / "model", dtype="bfloat16", device="cpu")
    short = half(PROMPT, num_frames=2, num_inference_steps=2, output_type="pt").frames
    assert half.super_resolution_low_last.dtype == torch.bfloat16 and short.shape == (1, 2, 3, 32, 32)
    assert short.isfinite().all()
    MakeAVideoPipeline(**{**ours.components, "image_encoder": None}).save_pretrained(tmp_path / "blind")
    blind = MakeAVideoPipeline.load(tmp_path / "blind", dtype=torch.float32)
    assert blind(PROMPT, size=8, **options).frames.shape == (1, 3, 3, 8, 8)
    with pytest.raises(UserError, match="no image tower"):
        blind.vary((torch.rand(4, 16, 16, 3) * 255).byte().numpy(), **options)


@torch.no_grad()
def test_stable_unclips_picture_is_that_of_diffusers(tmp_path, monkeypatch):
    """Its pipeline adds a little noise to y_e at level 0; ours does not, so for this it does not either."""
    theirs = tiny.stable_unclip(tmp_path / "theirs")
    ours = MakeAVideoPipeline.from_text_to_image(tmp_path / "theirs")
    ours.set_progress_bar_config(disable=True)
    ours.save_pretrained(tmp_path / "ours")
    ours = MakeAVideoPipeline.from_pretrained(tmp_path / "ours", decoder_scheduler=make_scheduler(solver_order=1))
    ours.set_progress_bar_config(disable=True)
    monkeypatch.setattr(theirs.image_noising_scheduler, "add_noise", lambda x, timesteps, noise: x)
    y_e, post = [], theirs.prior.post_process_latents
    monkeypatch.setattr(theirs.prior, "post_process_latents", lambda x: y_e.append(post(x)) or y_e[-1])
    noise = torch.randn(1, *ours.frame_shape, generator=seed())
    how = {"latents": noise, "guidance_scale": 5.0, "num_inference_steps": 20, "output_type": "pt"}
    picture = theirs("", **how).images
    made = ours.decode(y_e[0], 1, Decoding(0, 20, 5.0), noise=noise[:, None])
    frame = next(iter(ours.frames_of(made)))[:, 0]
    assert picture.std() > 0.05 and ((frame + 1) / 2 - picture).abs().max() < 1e-3
    video = ours(PROMPT, num_frames=3, num_inference_steps=2, generator=seed(), output_type="pt").frames
    assert video.shape == (1, 3, 3, 16, 16)


def test_stable_unclip_takes_a_prior_that_fits(tmp_path):
    """The pipelines that vary pictures have an image tower, and no prior."""
    tiny.stable_unclip(tmp_path / "whole")
    tiny.karlo(tmp_path / "karlo")
    without = tmp_path / "whole" / "model_index.json"
    index = json.loads(without.read_text())
    kept = {key: value for key, value in index.items() if not key.startswith("prior")}
    tower = {"image_encoder": ["transformers", "CLIPVisionModelWithProjection"]}
    without.write_text(json.dumps({**kept, **tower, "_class_name": "StableUnCLIPImg2ImgPipeline"}))
    shutil.copytree(tmp_path / "tower", tmp_path / "whole" / "image_encoder")
    with pytest.raises(UserError, match="has no prior"):
        MakeAVideoPipeline.from_text_to_image(tmp_path / "whole")
    ours = MakeAVideoPipeline.from_text_to_image(tmp_path / "whole", prior=str(tmp_path / "karlo"))
    assert ours.image_encoder is not None and ours.decoder.config.prediction == "v_prediction"


def test_an_adopted_decoder_learns(karlo):
    """Its own target's loss reaches the temporal layers, and clips without y_e are told the null embedding."""
    _, ours = karlo
    network = ours.decoder.train().requires_grad_(True)
    x, noise = torch.rand(2, 4, 3, 8, 8, generator=seed()) * 2 - 1, torch.randn(2, 4, 3, 8, 8, generator=seed())
    t = torch.tensor([0.3, 0.95])
    y_e = torch.randn(2, tiny.DIM, generator=seed())
    answers = []
    for meaning in (torch.zeros_like(y_e), network.conditioner.null.expand(2, -1), y_e):
        conditions = Conditions(meaning, torch.zeros(2, dtype=torch.bool), fps=torch.tensor([8.0, 4.0]))
        answers.append(told(network, add_noise(x, noise, t), t, conditions))
    assert torch.equal(answers[0], answers[1]) and (answers[0] - answers[2]).abs().max() > 1e-3
    weighted_loss(answers[2], x, t, 0.0, prediction=network.config.prediction).backward()
    learns = [weight.grad.abs().sum() for weight in network.temporal_parameters() if weight.grad is not None]
    assert all(grad.isfinite() for grad in learns) and sum(map(bool, learns)) > 10
    network.requires_grad_(False).eval()
