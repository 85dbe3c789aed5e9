"""How the studio makes a video, with tiny random weights: previews, stopping, the same bytes as the command line."""

import os
import shlex
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from makeavideo.cli import main as cli
from makeavideo.errors import UserError
from makeavideo.media.inputs import open_video
from makeavideo.media.patience import interrupt
from makeavideo.media.reader import probe, read_recipe, read_video
from makeavideo.web.gallery import Gallery
from makeavideo.web.jobs import Job, Jobs, Stopped
from makeavideo.web.maker import Attempt, Maker, StudioPipeline
from makeavideo.web.requests import INPUTS, USES, Request, as_written, from_recipe, written
from makeavideo.web.uploads import (
    MAX_BYTES,
    MAX_FRAMES,
    MAX_SECONDS,
    MAX_VIDEO_PIXELS,
    Uploads,
)
from studio_page import clip, wait_until
from tiny_adopted import adopted_kandinsky


@pytest.fixture(scope="module")
def maker(tiny_model, tmp_path_factory) -> Maker:
    gallery = Gallery(tmp_path_factory.mktemp("maker"))
    return Maker(tiny_model, gallery, Uploads(gallery.folder / "uploads", gallery))


def wish(maker: Maker, use: str, **settings) -> Request:
    """20 frames, so that F-up fills in; the largest size."""
    inputs = {}
    for name, kind in INPUTS[use].items():
        path = clip(maker.uploads.incoming / "clip.mp4", 6, fps=10)
        if kind == "picture":
            inputs[name] = maker.uploads.keep_frame(read_video(path).frames[0 if name != "last" else 5], f"{name}.png")
        else:
            inputs[name] = maker.uploads.keep(path, "clip.mp4")
    given = {"prompt": "a red rocket", "num_frames": 20, "fps": 10.0, "size": 192, "num_inference_steps": 2}
    return Request(use, 5, inputs, **{**given, **settings}).checked()


class Watched(Job):
    """A job that notes its previews, and is stopped at one of them."""

    def __init__(self, request: Request, stop_at: str = ""):
        super().__init__(request.use, request)
        self.versions, self.stop_at, self.shares = [], stop_at, []

    def show(self, preview, name):
        super().show(preview, name)
        self.shares.append(self.share)
        if name not in self.versions:
            self.versions.append(name)
        if name == self.stop_at:
            self.stop_asked.set()


@pytest.mark.parametrize("use", USES)
def test_every_use_shows_better_and_better_versions(maker, use, tmp_path):
    job = Watched(wish(maker, use))
    path = maker.gallery.path(maker.make(job))
    start = ["sketch"] if use in ("generate", "vary") else []
    assert [one for one in job.versions if one != "first"] == [*start, "smooth", "large"]
    assert "first" in job.versions
    info = probe(path)
    assert (info.num_frames, info.width) == (26 if use == "extend" else 20, 192)
    assert job.shares == sorted(job.shares) and job.shares[-1] > 0.4 and job.share == 1
    (tmp_path / "preview.mp4").write_bytes(job.preview)
    assert probe(tmp_path / "preview.mp4").num_frames >= 20
    request, missing = from_recipe(info.recipe, maker.uploads)
    assert missing == []
    if use == "animate":
        assert maker.gallery.path(maker.make(Watched(request))).read_bytes() == path.read_bytes()


def test_progress_goes_on_while_others_ask(maker):
    class Crowded(Watched):
        def show(self, preview, name):
            super().show(preview, name)
            maker.check(wish(maker, "generate"))

    job = Crowded(wish(maker, "generate"))
    maker.make(job)
    assert job.shares[-1] > 0.4 and job.stage == "Making it large"


def test_the_page_makes_what_the_command_line_makes(maker, tiny_model, tmp_path):
    made = maker.gallery.path(maker.make(Watched(wish(maker, "generate"))))
    command = (
        f"generate 'a red rocket' -o {tmp_path}/x.mp4 --model {tiny_model} --seed 5 --num-frames 20 --fps 10 --size"
    )
    done = CliRunner().invoke(cli.app, shlex.split(f"{command} 192 --steps 2 -q"))
    assert done.exit_code == 0, done.output
    assert (tmp_path / "x.mp4").read_bytes() == made.read_bytes()


def test_the_page_tells_stories_as_the_command_line_does(maker, tiny_model, tmp_path):
    story = as_written(
        Request("generate", 5, prompt="a red rocket | 1 s\na cat | 1.1 s", fps=10.0, num_inference_steps=2)
    )
    job = Watched(story.checked())
    made = maker.gallery.path(maker.make(job))
    assert job.versions == ["sketch", "first", "smooth", "large"] and job.shares == sorted(job.shares)
    (tmp_path / "story.yaml").write_text("- {prompt: a red rocket, seconds: 1}\n- {prompt: a cat, seconds: 1.1}")
    command = f"generate --prompts {tmp_path}/story.yaml -o {tmp_path}/x.mp4 --model {tiny_model} --seed 5 --fps 10"
    done = CliRunner().invoke(cli.app, shlex.split(f"{command} --steps 2 -q"))
    assert done.exit_code == 0, done.output
    assert (tmp_path / "x.mp4").read_bytes() == made.read_bytes() and probe(made).num_frames == 21
    request, _ = from_recipe(read_recipe(made), maker.uploads)
    assert (request.prompt, written(request)) == (story.prompt, "a red rocket | 1 s\na cat | 1.1 s")


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("stop_at", ["sketch", "first", "smooth", "large"])
def test_stop_keeps_the_best_version_of_every_use(maker, use, stop_at):
    if stop_at == "sketch" and use not in ("generate", "vary"):
        pytest.skip("only D_t has a first idea")
    job = Watched(wish(maker, use), stop_at)
    info = probe(maker.gallery.path(maker.make(job)))
    given = 6 if use == "extend" else 0
    # four large frames of twenty are less than all small ones
    assert info.width == 16
    whole = 20 if stop_at in ("smooth", "large") else {"interpolate": 5}.get(use, 4 if not given else 20)
    assert info.num_frames in (whole + given, whole + 1)
    assert info.fps == (10 if stop_at in ("smooth", "large") or given else 2)
    assert info.recipe["size"] == 192 and info.recipe["num_frames"] == 20


def test_stop_keeps_the_large_version_once_it_is_half(maker, monkeypatch):
    job = Watched(wish(maker, "generate"))
    add = Attempt.add_large

    def stop_after_half(self, frames):
        add(self, frames)
        if len(self.large) >= 12:
            job.stop_asked.set()

    monkeypatch.setattr(Attempt, "add_large", stop_after_half)
    info = probe(maker.gallery.path(maker.make(job)))
    assert (info.num_frames, info.width) == (12, 192)


@pytest.fixture(scope="module")
def largest_video(tmp_path_factory) -> Path:
    """The largest video that may be uploaded: one second of it is encoded, and repeated."""
    path = tmp_path_factory.mktemp("largest") / "largest.mp4"
    blocks = np.random.default_rng(0).integers(0, 255, (30, 48, 3), np.uint8).repeat(40, 0).repeat(40, 1)
    with av.open(os.fspath(path), "w") as file:
        stream = file.add_stream("libx264", 60, options={"preset": "ultrafast", "tune": "zerolatency", "g": "60"})
        stream.width, stream.height, stream.pix_fmt = 1920, 1200, "yuv420p"
        pictures = (av.VideoFrame.from_ndarray(np.roll(blocks, 40 * i, 1), "rgb24") for i in range(60))
        second = [bytes(packet) for picture in pictures for packet in stream.encode(picture)]
        for i in range(MAX_FRAMES):
            packet = av.Packet(second[i % 60])
            packet.pts = packet.dts = i
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 60), i % 60 == 0
            file.mux(packet)
    info = probe(path)
    assert (info.width * info.height, info.num_frames) == (MAX_VIDEO_PIXELS, MAX_FRAMES)
    assert info.duration == MAX_SECONDS and path.stat().st_size <= MAX_BYTES
    return path


@pytest.mark.parametrize("use", ["vary", "extend"])
def test_stop_is_heard_while_the_largest_upload_is_read(maker, largest_video, use):
    source = maker.uploads.keep(largest_video, "largest.mp4")
    # at one frame a second, sixty are read for each that is used
    request = Request(use, 5, {"video": source}, num_frames=20, fps=1.0, size=192, num_inference_steps=2)
    before = set(maker.gallery.folder.iterdir())
    jobs = Jobs(maker.make, 1)
    job = jobs.submit(use, request.checked())
    wait_until(lambda: job.state == "working")
    time.sleep(0.1)
    assert not job.over and not job.version, "it still reads"
    jobs.stop(job.token)
    wait_until(lambda: job.over)
    assert (job.state, job.result, job.error) == ("stopped", None, None)
    assert set(maker.gallery.folder.iterdir()) == before


@pytest.mark.parametrize("ending", ["mp4", "webm", "gif", "webp"])
def test_reading_can_be_ended_between_any_two_frames(tmp_path, ending):
    path = clip(tmp_path / f"clip.{ending}", 24)
    for steps in (1, 20, 28, 36):  # once through for its length, then for its frames
        left = iter(range(steps))

        def stop(left=left):
            if next(left, None) is None:
                raise Stopped

        token = interrupt.set(stop)
        with pytest.raises(Stopped):
            list(open_video(path, 8, fps=0.5))
        interrupt.reset(token)
    assert len(list(open_video(path, 8))) == 24


def test_an_adopted_model_makes_here_what_the_command_line_makes(tmp_path):
    gallery = Gallery(tmp_path / "gallery")
    adopted = Maker(adopted_kandinsky(tmp_path) / "my-model", gallery, Uploads(gallery.folder / "uploads", gallery))
    assert (adopted.sizes, adopted.usual_size, adopted.usual_frames) == ((16,), 16, 16)
    usual = Request("generate", 1, prompt="a cat", num_frames=adopted.usual_frames, size=adopted.usual_size)
    assert adopted.check(usual).shape == (16, 16)
    wide = Request("generate", 1, prompt="a cat", num_frames=2, fps=8.0, size="32x18", num_inference_steps=1)
    made = probe(gallery.path(adopted.make(Watched(wide.checked()))))
    assert (made.width, made.height, made.recipe["size"]) == (32, 18, "32x18")


def test_one_request_does_not_take_the_memory_of_all(maker, tiny_model, monkeypatch):
    def ask(size):
        return maker.check(Request("generate", 1, prompt="a cat", size=size))

    assert ask("384x384").made == (384, 384)
    bound = StudioPipeline.from_pretrained(tiny_model, sampling={"any_shape": False})
    monkeypatch.setattr(maker, "pipe", bound)
    assert ask("384x384").made == (192, 192) and ask("240x60").made == (64, 256)
    for size, frames in (("640x80", "1536x192"), ("1000x1000", "1000x1000")):
        with pytest.raises(UserError, match=f"takes frames of {frames}, too large to be made here: choose a smaller"):
            ask(size)


def test_errors_while_making_leave_nothing_and_name_no_path(maker):
    request = wish(maker, "vary")
    file = maker.uploads.path(request.inputs["video"])
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    before = set(maker.gallery.folder.iterdir())
    with pytest.raises(UserError, match=r"clip\.mp4") as caught:
        maker.make(Watched(request))
    assert str(maker.gallery.folder) not in str(caught.value)
    assert set(maker.gallery.folder.iterdir()) == before
    file.write_bytes(whole)
