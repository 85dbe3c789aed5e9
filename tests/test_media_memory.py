"""Every kind in which a pipeline gives frames can be given back to it and written."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from makeavideo import UserError
from makeavideo.media.inputs import open_video, read_picture
from makeavideo.media.memory import array_of, clip_of
from makeavideo.media.reader import read_video
from makeavideo.media.writer import write_video
from makeavideo.pipeline import MakeAVideoPipeline
from media_files import CLIP

FILE = io.BufferedReader(io.BytesIO())  # it can be detached, as tensors can
KINDS = {
    "uint8": lambda clip: clip,
    "np": lambda clip: clip.astype(np.float32) / 255,
    "pt": lambda clip: torch.from_numpy(clip).movedim(-1, 1).float() / 255,
    "pt in bf16": lambda clip: (torch.from_numpy(clip).movedim(-1, 1).float() / 255).to(torch.bfloat16),
    "pt in bytes": lambda clip: torch.from_numpy(clip).movedim(-1, 1),
    "pil": lambda clip: [Image.fromarray(frame) for frame in clip],
    "list of arrays": lambda clip: list(clip),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_the_same_clip(kind, tmp_path):
    given, off = KINDS[kind](CLIP), 1 if "bf16" in kind else 0
    assert np.abs(clip_of(given).astype(int) - CLIP).max() <= off
    assert np.abs(np.stack(list(open_video(given, CLIP.shape[1]))).astype(int) - CLIP).max() <= off
    assert np.abs(array_of(given[0]).astype(int) - CLIP[0]).max() <= off
    assert np.abs(read_picture(given[0]).astype(int) - CLIP[0]).max() <= off
    write_video(tmp_path / "clip.png", given[:1], 24)
    assert np.abs(read_video(tmp_path / "clip.png").frames[0].astype(int) - CLIP[0]).max() <= off


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "La"])
def test_transparent_pictures_in_a_list_lie_on_the_background(mode, tmp_path):
    """As from a file; black stood where nothing was."""
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    clear.paste((200, 200, 200, 255), (0, 0, 4, 8))
    frame = clear.quantize() if mode == "P" else clear.convert("LA").convert("La") if mode == "La" else clear
    frame = frame.convert("LA") if mode == "LA" else frame
    for background, level in (("#ffffff", 255), ("#101010", 16)):
        seen = [clip_of([frame, frame], background)[1], next(iter(open_video([frame], 8, None, "crop", background)))]
        seen += [read_picture(frame, None, "crop", background), array_of(frame, background)]
        for pixels in seen:
            assert pixels[0, 7].tolist() == [level] * 3 and pixels[0, 0].tolist() == [200] * 3
    write_video(tmp_path / "clip.png", [frame], 24)
    assert read_video(tmp_path / "clip.png").frames[0, 0, 7].tolist() == [255] * 3


def test_a_turned_picture_in_a_list_is_upright():
    turned = Image.new("RGB", (8, 4))
    turned.getexif()[0x0112] = 6
    assert clip_of([turned])[0].shape == read_picture(turned).shape == (8, 4, 3)


@pytest.mark.parametrize("kind", ["np", "pt", "pil"])
def test_a_batch_of_one_is_a_video(kind, tmp_path):
    given = KINDS[kind](CLIP)
    several = [given] if kind == "pil" else given[None]
    assert np.array_equal(clip_of(several), CLIP) and np.array_equal(clip_of([given]), CLIP)
    write_video(tmp_path / "batch", several, 8)
    assert np.array_equal(read_video(tmp_path / "batch").frames, CLIP)
    twice = [given, given] if kind == "pil" else np.stack([CLIP, CLIP])
    with pytest.raises(UserError, match="2 videos are given where one is wanted"):
        write_video(tmp_path / "two.mp4", twice, 8)


def closed() -> Image.Image:
    picture = Image.new("RGB", (8, 8))
    picture.close()
    return picture


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(3, 8, 8, device="meta"), "this Tensor is no picture in memory"),
        (torch.zeros(3, 8, 8).to_sparse(), "this Tensor is no picture in memory"),
        (np.zeros((8, 8, 3), complex), "pixels in memory are complex128"),
        (Image.new("RGB", (0, 0)), "has 0x0 pixels: give one of at least 1x1"),
        (closed(), "a picture in memory cannot be read"),
        *(
            (one, "this .* is no picture in memory: give")
            for one in (io.BufferedReader(io.BytesIO()), io.BytesIO(), None, b"x", 5)
        ),
    ],
)
def test_what_is_no_picture_is_one_sentence(bad, message):
    for call in (array_of, read_picture, lambda picture: clip_of([picture])):
        with pytest.raises(UserError, match=message):
            call(bad)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (CLIP.astype(np.float32), r"lie from \d+ to 255: give numbers from 0 to 1"),
        (CLIP.astype(np.int64), "are int64: give uint8"),
        (torch.from_numpy(CLIP), r"has the shape \(.*64, 64, 3\)"),
        (np.full((2, 8, 8, 3), np.nan), "lie from nan to nan"),
        ([], "no frames, or frames of several sizes"),
        ([CLIP[0], CLIP[0, :32]], "no frames, or frames of several sizes"),
        ([list(CLIP), list(CLIP)], "2 videos are given where one is wanted: give one of them"),
        (np.stack([CLIP, CLIP]), "2 videos are given where one is wanted: give one of them"),
        (5, "the type int is no video in memory"),
    ],
)
def test_what_is_no_video_is_one_sentence(bad, message):
    with pytest.raises(UserError, match=message):
        clip_of(bad)


@pytest.mark.parametrize("fps", ["x", True, 0, float("nan"), 241])
def test_what_is_no_rate_is_one_sentence(fps):
    with pytest.raises(UserError, match=r"the frame rate is .*: it must lie between 0\.01 and 240"):
        open_video(CLIP, 8, fps)


@pytest.mark.parametrize("kind", ["np", "pt", "pil"])
def test_what_a_pipeline_gives_it_takes(tiny_model, kind, tmp_path):
    pipe = MakeAVideoPipeline.load(tiny_model)
    pipe.set_progress_bar_config(disable=True)
    how = {"num_frames": 4, "fps": 8, "size": 16, "num_inference_steps": 1, "output_type": kind}
    made = pipe("a red rocket", generator=torch.Generator().manual_seed(0), **how).frames
    longer = pipe.extend(made, **how).frames
    assert len(longer[0]) == 8 and np.abs(clip_of(longer)[:4].astype(int) - clip_of(made)).max() <= 1
    assert len(pipe.vary(made[0], **how).frames[0]) == len(pipe.animate(made[0][0], **how).frames[0]) == 4
    assert len(pipe.interpolate(made[0][0], longer[0][-1], **how).frames[0]) == 4
    write_video(tmp_path / "made.mp4", made, 8)
    assert len(read_video(tmp_path / "made.mp4").frames) == 4
