"""Text-to-image pipelines as the start of a cascade: embeddings and pictures are those of diffusers' own classes."""

import pytest
import torch
from diffusers import DDIMScheduler

import tiny_text_to_image as tiny
from makeavideo import MakeAVideoPipeline
from makeavideo.decoding import Decoding
from makeavideo.sampling import make_scheduler

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
    assert (ours.decoder.null(made) - expected.negative_image_embeds).abs().max() < 1e-5
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


@torch.no_grad()
def test_a_clip_is_its_pictures_before_training(kandinsky):
    *_, ours = kandinsky
    y_e = ours.embed_prompts([PROMPT], seed())
    noise = torch.randn(1, 16, *ours.frame_shape, generator=seed())
    how = Decoding(8, 4, 4.0)
    clip = ours.decode(y_e, 16, how, noise=noise)
    alone = torch.cat([ours.decode(y_e, 1, how, noise=part) for part in noise.split(1, 1)], 1)
    assert clip.shape == (1, 16, 4, 8, 8) and (clip - alone).abs().max() < 1e-3


def test_what_is_saved_makes_the_same_video(kandinsky, tmp_path):
    *_, ours = kandinsky
    ours.save_pretrained(tmp_path / "model")
    again = MakeAVideoPipeline.load(tmp_path / "model", dtype=torch.float32)
    again.set_progress_bar_config(disable=True)
    options = {"num_frames": 3, "num_inference_steps": 3, "output_type": "pt"}
    videos = [pipe(PROMPT, generator=seed(), **options).frames for pipe in (ours, again)]
    assert videos[0].shape == (1, 3, 3, 16, 16) and torch.equal(*videos)
    picture = (torch.rand(16, 16, 3) * 255).byte().numpy()
    assert torch.equal(*(pipe.embed_pictures(pipe.to_tensor(picture)[0]) for pipe in (ours, again)))
