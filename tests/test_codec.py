"""A cascade whose D_t works on latents: sizes, known frames, the five uses, both codecs of diffusers, few at a time."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DModel, VQModel

from conftest import tiny_components, tiny_decoder
from makeavideo import MakeAVideoPipeline, UserError
from makeavideo.codec import FRAMES_AT_ONCE, decode, encode
from makeavideo.inflation import inflate, widen_input
from makeavideo.sampling import make_scheduler

BLOCKS = {"block_out_channels": (32, 32), "layers_per_block": 1}
TWO = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
CLIP = np.random.default_rng(1).integers(0, 256, (8, 40, 40, 3), np.uint8)


def movq():
    """As Kandinsky 2.2's: latents are taken before quantisation, and steer the norms of the decoder."""
    return VQModel(latent_channels=4, num_vq_embeddings=16, norm_type="spatial", vq_embed_dim=4, **BLOCKS, **TWO)


def variational():
    return AutoencoderKL(latent_channels=4, shift_factor=0.1, scaling_factor=0.5, **BLOCKS, **TWO)


def latent_decoder(**kwargs):
    return inflate(tiny_decoder(sample_size=8, in_channels=4, out_channels=4, **kwargs))


def parts_of(folder, make_codec):
    """A cascade of D_t on 8 x 8 latents and an F-up on the same: 16 pixels, and 64 by SR."""
    parts = tiny_components(folder)
    torch.manual_seed(2)
    parts |= {"decoder": latent_decoder(), "interpolator": widen_input(latent_decoder(), 5), "codec": make_codec()}
    return {key: part for key, part in parts.items() if "high" not in key}


@pytest.fixture(scope="module", params=[movq, variational])
def pipe(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("latents")
    MakeAVideoPipeline(**parts_of(folder, request.param)).save_pretrained(folder / "model")
    pipe = MakeAVideoPipeline.load(folder / "model", dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def use(pipe, name, *inputs, **options):
    given = {"size": 16, "num_frames": 18, "num_inference_steps": 2, "output_type": "pt"}
    made = getattr(pipe, name)(*inputs, **{**given, **options}, generator=torch.Generator().manual_seed(0)).frames
    return made[0]


def as_shown(picture, size):
    from makeavideo.media.inputs import read_picture

    return torch.from_numpy(read_picture(picture, size)).permute(2, 0, 1) / 255


def test_sizes_follow_from_the_codec(pipe):
    assert pipe.frame_shape == (4, 8, 8) and pipe.sizes == (16, 64)
    for size in pipe.sizes:
        frames = use(pipe, "generate", "a rocket", size=size)
        assert frames.shape == (18, 3, size, size) and frames.min() >= 0 and frames.max() <= 1


def test_latents_are_given_out_and_taken(pipe):
    noise = torch.randn(1, 4, *pipe.frame_shape)
    latents = use(pipe, "generate", "a rocket", num_frames=4, latents=noise, output_type="latent")
    assert latents.shape == (4, 4, 8, 8)
    frames = use(pipe, "generate", "a rocket", num_frames=4, latents=noise)
    assert torch.allclose((torch.cat(list(decode(pipe.codec, latents[None])), 1)[0] + 1) / 2, frames, atol=1e-5)
    with pytest.raises(UserError, match=r"begin with \(1, 4, 4, 8, 8\)"):
        use(pipe, "generate", "a rocket", num_frames=4, latents=torch.randn(1, 4, 3, 16, 16))


@pytest.mark.parametrize("size", [16, 64])
def test_given_pictures_are_encoded_and_stand_in_the_result(pipe, size):
    frames = use(pipe, "animate", PICTURE, size=size, num_frames=6)
    assert (frames[0] - as_shown(PICTURE, size)).abs().max() < 0.01
    frames = use(pipe, "interpolate", PICTURE, 255 - PICTURE, size=size, num_frames=6)
    assert (frames[-1] - as_shown(255 - PICTURE, size)).abs().max() < 0.01
    frames = use(pipe, "extend", CLIP, size=size, num_frames=6)
    assert frames.shape == (14, 3, size, size)
    assert (frames[:8] - torch.stack([as_shown(frame, size) for frame in CLIP])).abs().max() < 0.01
    assert use(pipe, "vary", CLIP, size=size, num_frames=3).shape == (3, 3, size, size)


def test_known_frames_are_known_as_latents(tmp_path, monkeypatch):
    """A D_t that sees known frames is shown those of the codec."""
    parts = parts_of(tmp_path, movq)
    parts["decoder"].register_to_config(known_frames=True)
    pipe = MakeAVideoPipeline(**{key: part for key, part in parts.items() if "interpolator" not in key})
    pipe.set_progress_bar_config(disable=True)
    expected = encode(pipe.codec, pipe.to_tensor(np.asarray(as_shown(PICTURE, 16).permute(1, 2, 0) * 255, np.uint8)))
    seen = []
    ask = pipe.decoder.forward
    monkeypatch.setattr(pipe.decoder, "forward", lambda x, *args, **told: seen.append(x) or ask(x, *args, **told))
    use(pipe, "animate", PICTURE, num_frames=5)
    assert seen and all(torch.allclose(x[:, 0], expected[:, 0], atol=0.05) for x in seen)


@pytest.mark.parametrize("make_codec", [movq, variational])
@torch.no_grad()
def test_it_is_diffusers_codec_a_few_frames_at_a_time(make_codec, monkeypatch):
    torch.manual_seed(0)
    codec = make_codec()
    frames = torch.rand(2, 9, 3, 16, 16) * 2 - 1
    if make_codec is movq:
        expected = codec.encode(frames.flatten(0, 1)).latents
        back = codec.decode(expected, force_not_quantize=True).sample
    else:
        expected = (codec.encode(frames.flatten(0, 1)).latent_dist.mean - 0.1) * 0.5
        back = codec.decode(expected / 0.5 + 0.1).sample
    counts = []
    for name in ("encode", "decode"):
        was = getattr(codec, name)
        monkeypatch.setattr(codec, name, lambda x, was=was, **how: counts.append(len(x)) or was(x, **how))
    latents = encode(codec, frames)
    assert torch.allclose(latents.flatten(0, 1), expected, atol=1e-5)
    assert torch.allclose(torch.cat(list(decode(codec, latents)), 1).flatten(0, 1), back.clamp(-1, 1), atol=1e-5)
    assert max(counts) <= FRAMES_AT_ONCE


def test_what_is_no_codec_is_one_sentence(tmp_path):
    parts = parts_of(tmp_path, lambda: UNet2DModel(sample_size=8, block_out_channels=(32,) * 4))
    with pytest.raises(UserError, match="UNet2DModel cannot be the codec: use one of VQModel, AutoencoderKL"):
        MakeAVideoPipeline(**parts, sampling=None)


def test_files_are_checked_against_the_codec(tmp_path):
    parts = parts_of(tmp_path, movq) | {"decoder_scheduler": make_scheduler()}
    MakeAVideoPipeline(**parts).save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / "codec" / "config.json"
    text = file.read_text()
    for wrong, said in ((text.replace('"latent_channels": 4', '"latent_channels": 3'), "out_channels is 4"),):
        file.write_text(wrong)
        with pytest.raises(UserError, match=said):
            MakeAVideoPipeline.load(tmp_path / "model")
    file.write_text("{}")
    with pytest.raises(UserError, match="latent_channels is no whole number"):
        MakeAVideoPipeline.load(tmp_path / "model")
