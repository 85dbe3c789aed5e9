"""Videos of any shape: what can be made, what is refused, and that nothing of the frames is squeezed or lost."""

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image

from conftest import tiny_decoder
from makeavideo import MakeAVideoPipeline, UserError, inflate
from makeavideo.assembly import fitted_in
from makeavideo.media.inputs import open_video, read_picture, shape_of_video
from makeavideo.media.reader import probe
from makeavideo.media.writer import write_video
from makeavideo.settings import keep_shape
from makeavideo.shapes import Shape, Shapes, read_size

EMOJI = Shapes(Shape(64, 64), (4, 16, 48), least=16)
"""As the included cascade, were it not bound to its scale."""


@pytest.mark.parametrize("size", ["256x144", " 256 X 144 ", "256\u00d7144", (144, 256), [144, 256]])
def test_a_shape_is_read_however_it_is_written(size):
    assert read_size(size) == Shape(144, 256) and read_size(size).written == "256x144"


@pytest.mark.parametrize(
    "size", ["256x", "x144", "0", 0, -4, True, 1.5, "wide", (1, 2, 3), (), (0, 4), "-4x4", "1e3", "256x0"]
)
def test_what_is_no_shape_is_refused(size):
    with pytest.raises(UserError, match="is not possible: write 256, or 256x144") as error:
        read_size(size)
    assert f"--size {size if isinstance(size, str) else repr(size)} is" in str(error.value)  # as it was written


@pytest.mark.parametrize(
    ("size", "shape", "stage"),
    [
        (None, (768, 768), 2),
        (64, (64, 64), 0),
        ("256", (256, 256), 1),
        ("256x144", (144, 256), 1),
        ("64x36", (36, 64), 0),
        ("768x432", (432, 768), 2),
        (320, (320, 320), 1),
        ("512x512", (512, 512), 1),  # nearer to 768, which makes no 512
    ],
)
def test_the_stage_whose_own_size_is_nearest_makes_it(size, shape, stage):
    assert EMOJI.settle(size) == (shape, stage)


@pytest.mark.parametrize("size", ["250x140", "8x8", "64x8", "1000x1000"])
def test_a_shape_that_cannot_be_is_refused_with_one_that_can(size):
    with pytest.raises(UserError, match=r"sides are multiples of \d+ at about this size: (\S+), for one") as error:
        EMOJI.settle(size)
    assert EMOJI.settle(str(error.value).split(": ")[-1].split(",")[0])


def test_a_network_trained_on_wide_frames_makes_those():
    wide = Shapes(Shape(36, 64), (4, 16), least=4)
    assert wide.sizes == (64, 256) and wide.settle(256) == ((144, 256), 1) and wide.settle(64) == ((36, 64), 0)
    assert wide.settle(128)[0] == (72, 128)


def test_proportions_are_kept_as_well_as_the_steps_allow():
    assert EMOJI.like(256, 1080, 1920) == (144, 256) and EMOJI.like(256, 1920, 1080) == (256, 144)
    assert EMOJI.like(64, 10, 1000) == (16, 64)


def test_a_decoder_of_one_scale_makes_frames_as_short_as_it_learnt():
    bound = Shapes(Shape(64, 64), (4, 16, 48), least=16, any_shape=False)
    shape, stage = bound.settle("256x144")
    assert (shape, stage) == ((144, 256), 1) and bound.made(shape, stage) == (256, 448)
    assert bound.settle("1280x720")[1] == 2 and bound.settle("50x30")[1] == 0 and bound.settle(100)[0] == (100, 100)
    assert bound.made(Shape(256, 256), 1) == (256, 256)
    with pytest.raises(UserError, match="at most 4096"):
        bound.settle("9000x9000")


def test_no_side_is_many_times_as_long_as_the_other():
    bound = Shapes(Shape(64, 64), (4, 16, 48), least=16, any_shape=False)
    for shapes in (EMOJI, bound):
        for wrong in ((2, 4096), "1024x64", "1x9"):
            with pytest.raises(UserError, match=r"--size \S+ is not possible: one side is at most 8 times"):
                shapes.settle(wrong)
        with pytest.raises(UserError, match=r"not possible with 900x100 pixels: .* choose --fit crop or pad"):
            keep_shape({}, "keep", shapes, lambda: (100, 900))
        for size in (64, 100, 200, 256, 700):  # what is proposed is taken, however it has to be rounded
            assert shapes.settle(shapes.like(size, 100, 799).written)
    strip = Shapes(Shape(8, 128), (4,))  # as it was trained
    assert strip.settle("64x4")[0] == (4, 64)


@pytest.mark.parametrize("height", [2, 3, 5, 7])
def test_blocks_of_every_kind_take_sides_that_do_not_halve(height):
    """Of the blocks that heed the size by themselves nothing changes; those that do not are made to."""
    torch.manual_seed(0)
    heeds = {
        "down_block_types": ("DownBlock2D",) * 3,
        "up_block_types": ("UpBlock2D",) * 3,
        "block_out_channels": (8, 8, 16),
        "encoder_hid_dim": None,
        "encoder_hid_dim_type": None,
        "addition_embed_type": None,
        "mid_block_type": None,
    }
    plain: UNet2DConditionModel = tiny_decoder(**heeds).eval()
    x, t = torch.randn(1, 1, 48, height + 2, 6), 500
    with torch.no_grad():
        expected = plain(x[:, 0], t, encoder_hidden_states=None).sample
        torch.testing.assert_close(inflate(plain)(x, t, encoder_hidden_states=None).sample[:, 0], expected)
    ours = inflate(tiny_decoder(), space_to_depth=1).eval()
    y_e = torch.randn(1, 8)
    with torch.no_grad():
        made = ours(torch.randn(1, 3, 48, height, 5), t, added_cond_kwargs={"image_embeds": y_e}).sample
    assert made.shape == (1, 3, 48, height, 5) and made.isfinite().all()


def test_all_uses_make_other_shapes_and_keep_the_given_picture(tiny_model, tmp_path):
    pipe = MakeAVideoPipeline.load(tiny_model, device="cpu")
    pipe.set_progress_bar_config(disable=True)
    picture = np.random.default_rng(0).integers(0, 256, (36, 64, 3), np.uint8)
    clip = [Image.fromarray(picture)] * 8
    common = {"num_inference_steps": 1, "output_type": "np", "num_frames": 18}

    def draw():
        return {**common, "generator": torch.Generator().manual_seed(0)}

    made = {
        "generate": pipe("a rocket", size="64x32", **draw()),
        "animate": pipe.animate(picture, size=(32, 64), **draw()),
        "interpolate": pipe.interpolate(picture, picture, size="64x32", loop=True, **draw()),
        "vary": pipe.vary(clip, size="64x32", fit="pad", **draw()),
        "extend": pipe.extend(clip, size="64x32", fps=8, **draw()),
    }
    for use, video in made.items():
        assert video.frames[0].shape == (18 + 8 * (use == "extend"), 32, 64, 3), use
    given = read_picture(picture, (32, 64)) / 255
    for use in ("animate", "interpolate"):
        np.testing.assert_allclose(made[use].frames[0][0], given, atol=1e-5)
    high = pipe("a rocket", size="192x96", **{**draw(), "num_frames": 2}).frames[0]
    assert high.shape == (2, 96, 192, 3)
    kept = pipe.animate(picture, fit="keep", size=64, **draw()).frames[0]
    assert kept.shape == (18, 32, 64, 3)
    with pytest.raises(UserError, match="--fit keep takes the shape from what is given"):
        pipe.animate(picture, fit="keep", size="64x32", **draw())


def test_a_cascade_of_one_scale_fits_its_own_frames_in(tiny_model):
    pipe = MakeAVideoPipeline.from_pretrained(tiny_model, sampling={"any_shape": False})
    pipe.set_progress_bar_config(disable=True)

    def make(size, **options):
        noise = torch.Generator().manual_seed(0)
        return pipe(
            "a cat", num_inference_steps=1, num_frames=3, size=size, generator=noise, output_type="pt", **options
        )

    square, wide = make(64).frames[0], make("96x48").frames[0]
    assert wide.shape == (3, 3, 48, 96)
    expected = fitted_in(square[None] * 2 - 1, Shape(48, 96))[0].add(1).div(2)
    torch.testing.assert_close(wide, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(wide[..., :24], wide[..., 24:25].expand(-1, -1, -1, 24))
    moved = pipe.animate(np.zeros((40, 80, 3), np.uint8), size="96x48", num_inference_steps=1, num_frames=3)
    assert moved.frames[0][0].size == (96, 48)


def test_pictures_and_clips_are_cut_or_shown_whole(tmp_path):
    third = np.zeros((30, 90, 3), np.uint8)
    third[:, 30:60] = 255  # the middle square
    assert (read_picture(third, (30, 30)) == 255).all()
    shown = read_picture(third, (60, 90), "pad", "#ff0000")
    assert (shown[:15] == (255, 0, 0)).all() and (shown[15:45] == third).all() and (shown[45:] == (255, 0, 0)).all()
    tall = read_picture(third, (60, 90), "crop")
    assert tall.shape == (60, 90, 3) and (tall[:, 30:60] > 250).all() and (tall[:, :10] == 0).all()
    file = write_video(tmp_path / "a.mp4", [third] * 4, 8)
    assert shape_of_video(file) == (30, 90) and probe(file).width == 90
    assert next(iter(open_video(file, (15, 45)))).shape == (15, 45, 3)
