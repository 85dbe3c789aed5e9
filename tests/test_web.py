"""The studio: queue, gallery and uploads by themselves, then the whole page in a real browser with the real weights."""

import contextlib
import http.client
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from browser import find_browser, free_port, open_browser, outside, record_requests, serve
from makeavideo.cli import main as cli
from makeavideo.errors import UserError
from makeavideo.media.clip import interrupt
from makeavideo.media.inputs import open_video
from makeavideo.media.reader import probe, read_recipe, read_video
from makeavideo.media.writer import write_video
from makeavideo.web import uploads as uploads_module
from makeavideo.web.gallery import Gallery
from makeavideo.web.jobs import Job, Jobs, Stopped
from makeavideo.web.maker import Attempt, Maker
from makeavideo.web.requests import INPUTS, USES, Request, as_written, from_recipe, one_line, written
from makeavideo.web.uploads import (
    KEPT_PIXELS,
    MAX_BYTES,
    MAX_FRAMES,
    MAX_SECONDS,
    MAX_VIDEO_PIXELS,
    Source,
    Uploads,
)

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
MARKUP = "<b>bold</b> ${1 + 1} {{value}} <img src=x onerror=alert(1)>"
NAMES = {"generate": "Generate", "animate": "Animate", "interpolate": "Join", "vary": "Vary", "extend": "Continue"}
PROGRAM = "import sys; from makeavideo.web.server import serve; serve('127.0.0.1', int(sys.argv[1]), sys.argv[2], "
PROGRAM += "sys.argv[3], int(sys.argv[4]))"


def clip(path: Path, num_frames: int = 8, recipe: dict | None = None, fps: float = 8, side: int = 64) -> Path:
    frames = np.full((num_frames, side, side, 3), 250, np.uint8)
    for i, frame in enumerate(frames):
        frame[16:40, 2 * i : 2 * i + 24] = (240, 180, 30)
    return write_video(path, frames, fps, recipe)


def wait_until(what, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


# ---------------------------------------------------------------------------------------------------------------------
# The queue


class Works:
    """Work of a queue that goes on until the test lets it end."""

    def __init__(self):
        self.go = threading.Event()

    def __call__(self, job: Job) -> str:
        if job.request == "broken":
            raise RuntimeError("secret detail")
        if job.request == "refused":
            raise UserError("This is not possible: choose another.")
        while not self.go.is_set():
            job.check()
            time.sleep(0.01)
        return f"{job.request}.mp4"


def test_the_queue_is_bounded_in_order_and_one_persons_stop_is_nobody_elses():
    works = Works()
    jobs = Jobs(works, limit=2)
    first = jobs.submit("generate", "first")
    wait_until(lambda: first.state == "working")
    second, third = jobs.submit("generate", "second"), jobs.submit("vary", "third")
    assert [jobs.position(job) for job in (first, second, third)] == [0, 1, 2]
    with pytest.raises(UserError, match="queue is full: 2 videos"):
        jobs.submit("generate", "fourth")
    assert jobs.stop("unknown") is None and jobs.stop(None) is None
    jobs.stop(second.token)
    assert second.state == "stopped" and jobs.position(third) == 1 and first.state == "working"
    works.go.set()
    wait_until(lambda: third.over)
    assert (first.result, third.result) == ("first.mp4", "third.mp4")
    assert first.state == third.state == "done"


def test_one_client_takes_at_most_half_of_the_queue():
    works = Works()
    jobs = Jobs(works, limit=4)
    first = jobs.submit("generate", "first", "ada")
    wait_until(lambda: first.state == "working")
    second, third = (jobs.submit("vary", name, "ada") for name in ("second", "third"))
    with pytest.raises(UserError, match="2 videos of yours are waiting"):
        jobs.submit("generate", "fourth", "ada")
    fifth = jobs.submit("generate", "fifth", "bob")
    jobs.stop(second.token)
    sixth = jobs.submit("generate", "sixth", "ada")
    assert [jobs.position(job) for job in (third, fifth, sixth)] == [1, 2, 3]
    works.go.set()
    wait_until(lambda: sixth.over)


def test_an_error_ends_only_its_own_job(capsys):
    works = Works()
    works.go.set()
    jobs = Jobs(works, limit=5)
    broken, refused, good = (jobs.submit("generate", name) for name in ("broken", "refused", "good"))
    wait_until(lambda: good.over)
    assert broken.state == refused.state == "failed" and good.state == "done"
    assert "secret" not in broken.error and "secret detail" in capsys.readouterr().err
    assert refused.error == "This is not possible: choose another."


def test_a_stopped_job_keeps_what_its_work_returns():
    def work(job):
        try:
            while True:
                job.check()
                time.sleep(0.01)
        except Stopped:
            return "partial.mp4"

    jobs = Jobs(work, limit=1)
    job = jobs.submit("generate", None)
    wait_until(lambda: job.state == "working")
    jobs.stop(job.token)
    wait_until(lambda: job.over)
    assert (job.state, job.result) == ("stopped", "partial.mp4")


# ---------------------------------------------------------------------------------------------------------------------
# Gallery, uploads, recipes


@pytest.fixture
def gallery(tmp_path) -> Gallery:
    return Gallery(tmp_path / "gallery")


@pytest.fixture
def uploads(gallery) -> Uploads:
    return Uploads(gallery.folder / "uploads", gallery)


def test_the_gallery_is_its_folder_newest_first(gallery, tmp_path):
    for i, label in enumerate(("a red apple", "<b>markup</b>/../x", "")):
        path = clip(gallery.new_path(label), recipe={"use": "generate", "prompt": label})
        os.utime(path, (1000 + i, 1000 + i))
    (gallery.folder / "note.txt").write_text("not a video")
    (gallery.folder / "broken.mp4").write_text("not a video either")
    outside_file = clip(tmp_path / "outside.mp4")
    (gallery.folder / "link.mp4").symlink_to(outside_file)
    names = [item.name for item in Gallery(gallery.folder).items()]
    assert [re.sub(r"^\d+-\d+-|-[0-9a-f]{6}\.mp4$", "", name) for name in names] == [
        "video",
        "b-markup-b-x",
        "a-red-apple",
    ]
    for name in ("link.mp4", "../outside.mp4", "note.txt", str(outside_file), "uploads", "", None, "a\0.mp4"):
        with pytest.raises(UserError, match="not in the gallery"):
            gallery.path(name)


def test_downloads_of_every_format_keep_frames_and_recipe(gallery):
    recipe = {"use": "generate", "prompt": MARKUP, "seed": 3}
    name = clip(gallery.new_path("x"), 12, recipe, fps=60).name
    for ending in ("mp4", "webm", "gif", "webp"):
        file = gallery.download(name, ending)
        assert read_recipe(file) == recipe
        assert abs(probe(file).duration - 0.2) < 0.05
    assert gallery.download(name, "gif").stat().st_mtime_ns == gallery.download(name, "gif").stat().st_mtime_ns
    with pytest.raises(UserError, match="choose one of them"):
        gallery.download(name, "exe")
    assert len(gallery.items()) == 1


def test_uploads_are_what_they_hold_and_not_what_they_are_called(uploads, tmp_path):
    picture = uploads.incoming / "holiday.txt"
    Image.new("RGB", (40, 30), "red").save(picture, "PNG")
    kept = uploads.accept(picture, "picture")
    assert kept.shown == "holiday.txt" and re.fullmatch("[0-9a-f]{32}", kept.name)
    assert uploads.shown(kept.name)[1] == "image/png"
    film = clip(uploads.incoming / "film.mp4").rename(uploads.incoming / "film.png")
    content = film.read_bytes()
    assert uploads.shown(uploads.accept(film, "video").name)[1] == "video/mp4"
    assert not film.exists(), "it is kept once"
    film.write_bytes(content)
    with pytest.raises(UserError, match=r"film\.png is a video, not a picture") as caught:
        uploads.accept(film, "picture")
    assert str(tmp_path) not in str(caught.value)
    text = uploads.incoming / "text.png"
    text.write_text("no picture")
    for kind in ("picture", "video"):
        with pytest.raises(UserError, match=r"text\.png"):
            uploads.accept(text, kind)


def test_uploads_are_bounded(uploads):
    large = uploads.incoming / "large.png"
    with open(large, "wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(UserError, match="larger than 50 MB"):
        uploads.accept(large, "picture")
    bomb = uploads.incoming / "bomb.png"
    Image.new("1", (9000, 9000)).save(bomb)
    with pytest.raises(UserError, match="more than 64"):
        uploads.accept(bomb, "picture")
    slow = uploads.incoming / "slow.mp4"
    clip(slow, 61, fps=1)
    with pytest.raises(UserError, match="at most 60 seconds"):
        uploads.accept(slow, "video")


def test_large_pictures_are_kept_smaller_and_others_as_they_are(uploads):
    large = uploads.incoming / "large.png"
    Image.new("L", (16000, 4000), 90).save(large)
    with Image.open(uploads.path(uploads.accept(large, "picture"))) as kept:
        assert 0.99 * KEPT_PIXELS < kept.width * kept.height < 1.01 * KEPT_PIXELS
        assert abs(kept.width / kept.height - 4) < 0.01 and kept.getpixel((9, 9)) == (90, 90, 90)
    small = uploads.incoming / "small.png"
    Image.new("RGBA", (40, 30)).save(small)
    content = small.read_bytes()
    assert uploads.path(uploads.accept(small, "picture")).read_bytes() == content


def test_only_uploaded_files_are_accepted(uploads, gallery, tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    link = uploads.incoming / "link.png"
    link.symlink_to(secret)
    sly = [
        secret,
        link,
        uploads.incoming / "../../../secret.png",
        f"file://{secret}",
        "http://127.0.0.1/x.png",
        None,
        7,
    ]
    for path in sly:
        with pytest.raises(UserError, match="not an uploaded file"):
            uploads.accept(path, "picture")
    (uploads.folder / ("a" * 32)).symlink_to(secret)
    for name in ("a" * 32, "../" * 3 + "secret.png", str(secret)):
        assert not uploads.has(Source("upload", name, "x"))


def test_recipes_make_requests_again_and_are_not_believed(uploads):
    stored = uploads.keep_frame(np.zeros((8, 8, 3), np.uint8), "dot.png")

    class Settings:
        num_frames, fps, size, num_inference_steps, guidance_scale, motion, loop = 16, 12.5, 64, 3, 4.5, 0.5, True

    for use in USES:
        inputs = dict.fromkeys(INPUTS[use], stored)
        wish = Request(
            use, 7, inputs, "red" if use in ("generate", "animate", "extend") else "", num_frames=16, fps=12.5
        )
        recipe = json.loads(json.dumps(wish.recipe(Settings, "emoji", "0" * 16)))
        request, missing = from_recipe(recipe, uploads)
        assert missing == [] and request.inputs == inputs and request.recipe(Settings, "emoji", "0" * 16) == recipe
        assert (request.num_frames, request.fps, request.size, request.guidance_scale) == (16, 12.5, 64, 4.5)
        assert request.motion == 0.5
        recipe.pop("studio", None)
        assert len(from_recipe(recipe, uploads)[1]) == len(inputs)
    sly = [
        None,
        {},
        {"use": "rm"},
        {"use": "generate", "prompt": ["a", 1]},
        {"use": "generate", "prompt": "a", "seed": "1"},
    ]
    sly += [
        {"use": "generate", "prompt": "a", "num_frames": 10**9},
        {"use": "generate", "prompt": "a", "fps": float("nan")},
        {"use": "generate", "prompt": "a", "fps": 10**400},
    ]
    stories = [[["a", 10**400]], [["a", float("nan")]], [["a", "1"]], [["a"]], [["", 1]], [[1, 1]], [["a", 0]]]
    stories += [[["a", 1]] * 21, [["a", 29]] * 2, [["a" * 501, 1]], [["a", True]]]
    sly += [{"use": "generate", "prompt": story} for story in stories]
    sly += [{"use": "animate", "prompt": [["a", 1]]}]
    for recipe in sly:
        with pytest.raises(UserError):
            from_recipe(recipe, uploads)
    request, missing = from_recipe(
        {
            "use": "vary",
            "video": "x",
            "studio": {"video": {"where": "gallery", "name": "../../etc/passwd", "shown": "x"}},
        },
        uploads,
    )
    assert missing == ["x"] and request.inputs == {}


def test_stories_are_read_as_they_are_written(uploads):
    def prompt(text: str):
        return as_written(Request("generate", 1, prompt=text, num_frames=30, fps=10))

    assert (prompt(" a dog \n\n").prompt, prompt("a dog").num_frames) == ("a dog", 30)
    assert (prompt("a dog | 1.5 s").prompt, prompt("a dog|1.5").num_frames) == ("a dog", 15)
    assert prompt("a | b").prompt == "a | b"
    story = prompt("a dog | 2 s\n\na | b |0.5 seconds\r\na rocket")
    assert story.prompt == (("a dog", 2.0), ("a | b", 0.5), ("a rocket", 3.0))
    assert story.checked().seconds == 5.5 and "num_frames" not in story.options()
    assert written(story) == "a dog | 2 s\na | b | 0.5 s\na rocket | 3 s"
    assert one_line(story.prompt) == "a dog, then a | b, then a rocket"
    thirds = as_written(Request("generate", 1, prompt="a\nb", num_frames=76, fps=24))
    tricky = Request("generate", 1, prompt="a | 3 s", num_frames=30, fps=10)
    for request in (story, thirds, tricky, prompt("a dog")):
        again = as_written(
            Request("generate", 1, prompt=written(request), num_frames=request.num_frames, fps=request.fps)
        )
        assert again == request
    for text, problem in (("a | 29\nb | 2", "31 seconds"), ("a | 0\nb", "lasts 0.05 to 30"), ("| 2 s\nb", "empty")):
        with pytest.raises(UserError, match=problem):
            prompt(text).checked()
    recipe = {"use": "generate", "prompt": [["a", 1], ["b", 2.5]], "num_frames": 7, "fps": 8.0, "seed": 3}
    request, missing = from_recipe(recipe, uploads)
    assert (request.prompt, request.seconds, missing) == ((("a", 1.0), ("b", 2.5)), 3.5, [])
    for prompt_of_a_file in (None, 7, [], [[]], [[1, 2]], [None]):
        assert one_line(prompt_of_a_file) == ""


def test_the_oldest_uploads_make_room(uploads, monkeypatch):
    dots = [uploads.keep_frame(np.full((8, 8, 3), i, np.uint8), f"{i}.png") for i in range(3)]
    for i, dot in enumerate(dots):
        os.utime(uploads.path(dot), (1000 + i, 1000 + i))
    monkeypatch.setattr(uploads_module, "MAX_TOTAL_BYTES", 2 * uploads.path(dots[0]).stat().st_size + 20)
    last = uploads.keep_frame(np.full((8, 8, 3), 9, np.uint8), "9.png")
    assert [uploads.has(dot) for dot in (*dots, last)] == [False, False, True, True]


# ---------------------------------------------------------------------------------------------------------------------
# Making, with tiny random weights


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
    time.sleep(1)
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


# ---------------------------------------------------------------------------------------------------------------------
# In the browser; some with the trained weights


@contextlib.contextmanager
def studio(folder: Path, queue: int = 1, model: Path = ROOT / "models" / "emoji"):
    """A running studio; gives its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with serve("-c", PROGRAM, port, model, folder, queue, url=url):
        yield url


def real_weights(test):
    return pytest.mark.slow(pytest.mark.xdist_group("studio")(test))


quick = pytest.mark.xdist_group("quick-studio")


@pytest.fixture(scope="module")
def quick_site(tmp_path_factory, tiny_model):
    """A studio with a model that is quick: (address, gallery folder)."""
    folder = tmp_path_factory.mktemp("quick-studio") / "gallery"
    with studio(folder, 4, tiny_model) as url:
        yield url, folder


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """One studio with the trained weights for the tests below: (address, gallery folder)."""
    folder = tmp_path_factory.mktemp("studio") / "gallery"
    with studio(folder) as url:
        yield url, folder


@pytest.fixture(scope="module")
def browser():
    find_browser()
    with open_browser() as one:
        yield one


class Person:
    """A page of its own browser profile: what it asked other hosts for, and what went wrong on it."""

    def __init__(self, browser, url: str, width: int = 1280, height: int = 900, scheme: str = "light"):
        self.url, self.port = url, urllib.parse.urlsplit(url).port
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.requests, self.errors = record_requests(self.context), []
        local = re.compile(rf"^(https?|wss?)://(?!(127\.0\.0\.1|localhost):{self.port}/)")
        self.context.route(local, lambda route: route.abort())
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: self.errors.append(dialog.message))
        self.page.goto(url)
        self.page.get_by_role("tab", name="Generate").wait_for()
        self.page.locator("#gallery").wait_for(state="attached")
        self.page.wait_for_function("document.querySelector('#generate-seed input').value > 0")

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def panel(self, use: str):
        return self.page.get_by_role("tabpanel").filter(has=self.page.locator(f"#{use}-make"))

    def settings(self, use: str, seconds: float = 2, fps: float = 8, steps: int = 2, size: str = "64 (quick)") -> None:
        panel = self.panel(use)
        panel.get_by_label("Length in seconds").fill(str(seconds))
        panel.get_by_label("Frames a second").fill(str(fps))
        panel.get_by_label(size).check()
        steps_field = panel.get_by_label("number input for Steps")
        if not steps_field.is_visible():
            panel.get_by_role("button", name="More").click()
        steps_field.fill(str(steps))
        steps_field.press("Tab")

    def make(self, use: str) -> None:
        self.page.locator(f"#{use}-make").click()

    def said(self, text: str, seconds: float = 90) -> None:
        self.page.locator("#message").get_by_text(text).wait_for(timeout=1000 * seconds)

    def result(self) -> str:
        """Name of the finished video."""
        return self.page.locator("#view .card").get_attribute("data-item", timeout=60_000)

    def close(self) -> None:
        assert self.errors == []
        assert len(self.requests) > 20 and outside(self.requests, self.port) == []
        self.context.close()


@contextlib.contextmanager
def person(browser, url: str, **kwargs):
    one = Person(browser, url, **kwargs)
    yield one
    one.close()


@real_weights
def test_generate_watch_download_and_restore(browser, site, tmp_path):
    url, folder = site
    with person(browser, url) as ada:
        page = ada.page
        ada.make("generate")
        ada.said("The prompt is empty")
        ada.page.locator("#generate-prompt textarea").fill(MARKUP)
        ada.settings("generate", seconds=2, fps=10, steps=4)
        page.locator("#generate-dice").click()
        page.get_by_label("Loop").first.check()
        ada.make("generate")
        seen = []
        while not page.locator("#view .card").count():
            shown = page.evaluate("document.querySelector('#view [data-version]')?.dataset.version")
            if shown and shown not in seen:
                seen.append(shown)
                text = page.inner_text("#progress")
                assert re.search(r"\d+ %", text), text
            page.wait_for_timeout(50)
        assert seen[0] == "sketch" and len(seen) >= 2, seen
        ada.said("Your video is ready.")
        name = ada.result()
        info = probe(folder / name)
        assert (info.num_frames, info.width, info.recipe["prompt"], info.recipe["loop"]) == (20, 64, MARKUP, True)
        # markup is text, in the title and in the gallery
        assert page.locator("#view .card .title").inner_text() == MARKUP
        assert page.locator("#gallery .card .title").first.inner_text() == MARKUP
        assert page.locator(".card b, .card img").count() == 0
        page.wait_for_function(
            "document.querySelector('#view video').loop && document.querySelector('#view video').currentTime > 0"
        )
        files = {}
        for ending in ("mp4", "webm", "gif", "webp"):
            with page.expect_download() as download:
                page.locator("#view .card").get_by_role("link", name=ending, exact=True).click()
            files[ending] = tmp_path / f"made.{ending}"
            download.value.save_as(files[ending])
            assert read_recipe(files[ending]) == info.recipe

        # a fresh page; dropping the file brings everything back, and the same video
        page.reload()
        page.get_by_role("tab", name="Animate").click()
        drop(page, files["gif"])
        ada.said("The settings are as they were.")
        assert page.get_by_role("tab", name="Generate").get_attribute("aria-selected") == "true"
        panel = ada.panel("generate")
        assert page.locator("#generate-prompt textarea").input_value() == MARKUP
        assert panel.get_by_label("Seed").input_value() == str(info.recipe["seed"])
        assert panel.get_by_label("Length in seconds").input_value() == "2"
        assert panel.get_by_label("Frames a second").input_value() == "10"
        assert panel.get_by_label("Loop").is_checked() and panel.get_by_label("64 (quick)").is_checked()
        ada.make("generate")
        ada.said("Your video is ready.")
        again = ada.result()
        assert again != name and (folder / again).read_bytes() == (folder / name).read_bytes()
        names = page.eval_on_selector_all("#gallery .card", "all => all.map(one => one.dataset.item)")
        assert names[:2] == [again, name], "newest first"


def drop(page, file: Path) -> None:
    """Drop a file on the page's heading."""
    data = page.evaluate_handle(
        """([name, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], name));
            return data;
        }""",
        [file.name, list(file.read_bytes())],
    )
    for kind in ("dragover", "drop"):
        page.locator("h1").dispatch_event(kind, {"dataTransfer": data})


@real_weights
def test_stop_keeps_the_best_version(browser, site):
    url, folder = site
    with person(browser, url) as ada:
        ada.page.locator("#generate-prompt textarea").fill("a rocket")
        ada.settings("generate", seconds=3, fps=24, steps=16, size="256")
        ada.make("generate")
        ada.page.locator("#progress").get_by_text("Adding detail").wait_for(timeout=90_000)
        ada.page.get_by_role("button", name="Stop").click()
        ada.said("Stopped: the best version so far is kept.")
        info = probe(folder / ada.result())
        assert (info.num_frames, info.width, info.fps) == (72, 64, 24)
        assert info.recipe["size"] == 256, "its settings make the whole video"
        ada.page.locator("#view .card").get_by_text("stopped early").wait_for()


@real_weights
def test_animate_an_upload_then_go_on_from_the_gallery(browser, site, tmp_path):
    url, folder = site
    picture = tmp_path / "Ball <i>.png"
    Image.fromarray(read_video(clip(tmp_path / "x.mp4")).frames[0]).save(picture)
    with person(browser, url) as ada:
        page = ada.page
        ada.tab("Animate")
        ada.make("animate")
        ada.said("The picture is missing")
        bad = tmp_path / "bad.png"
        bad.write_text("no picture")
        page.locator("#animate-image input[type=file]").set_input_files(bad)
        ada.said("bad.png is not a picture")
        page.locator("#animate-image input[type=file]").set_input_files(picture)
        page.locator("#animate-image-look img").wait_for()
        ada.settings("animate")
        ada.make("animate")
        ada.said("Your video is ready.")
        first = ada.result()
        assert page.locator("#view .card .title i").count() == 0
        info = probe(folder / first)
        assert info.recipe["use"] == "animate" and info.num_frames == 16

        card = page.locator(f"#gallery .card[data-item='{first}']")
        card.get_by_role("button", name="Continue this").click()
        ada.said("Taken into Continue")
        ada.settings("extend", seconds=1)
        ada.make("extend")
        ada.said("Your video is ready.")
        longer = ada.result()
        assert probe(folder / longer).num_frames == 16 + 8
        assert probe(folder / longer).recipe["studio"]["video"]["name"] == first

        card.get_by_role("button", name="Vary this").click()
        ada.said("Taken into Vary")
        page.locator("#vary-video-look video").wait_for()
        card.get_by_role("button", name="Animate this frame").click()
        ada.said("Taken into Animate")
        page.locator("#animate-image-look").get_by_text(" s.png").wait_for()
        # and back to the exact settings, the picture included
        card.get_by_role("button", name="Use its settings").click()
        ada.said("The settings are as they were.")
        page.locator("#animate-image-look").get_by_text("Ball").wait_for()
        assert ada.panel("animate").get_by_label("Seed").input_value() == str(info.recipe["seed"])


@real_weights
def test_every_example_runs_on_a_click(browser, site):
    url, folder = site
    made = []
    with person(browser, url) as ada:
        for use, name in NAMES.items():
            ada.tab(name)
            ada.page.locator(f"#{use}-example").click()
            ada.page.wait_for_function(
                "known => [...document.querySelectorAll('#view .card')].some(one => !known.includes(one.dataset.item))",
                arg=made,
                timeout=120_000,
            )
            made.append(ada.result())
            info = probe(folder / made[-1])
            assert (info.recipe["use"], info.width) == (use, 64)
            assert info.num_frames == (24 + 16 if use == "extend" else 16)
            assert read_video(folder / made[-1]).frames.std() > 20, "it shows something"


@real_weights
def test_the_small_clip_is_seen_before_the_large_one(browser, site):
    url, folder = site
    with person(browser, url) as ada:
        page = ada.page
        page.locator("#generate-prompt textarea").fill("a happy dog")
        ada.settings("generate", seconds=5, fps=4, steps=4, size="256")  # F-up and SR have two windows of frames
        ada.make("generate")
        seen = []
        while not page.locator("#view .card").count():
            shown = page.evaluate("""() => {
                const [box, video] = ["figure", "video"].map(one => document.querySelector("#view " + one));
                return box && video?.videoWidth ? [box.dataset.version, video.videoWidth] : null;
            }""")
            if shown and shown not in seen:
                seen.append(shown)
            page.wait_for_timeout(50)
        assert [width for _, width in seen] == [64] * (len(seen) - 1) + [256], seen
        assert seen[0][0] == "sketch" and seen[-1][0] == "large"
        info = probe(folder / ada.result())
        assert (info.num_frames, info.width) == (20, 256)


@pytest.fixture(scope="module")
def restarted(site, tiny_model):
    """Another studio with the gallery of the first."""
    _, folder = site
    with studio(folder, 4, tiny_model) as url:
        yield url, folder


@real_weights
def test_the_gallery_is_there_again_after_a_restart(browser, restarted):
    url, folder = restarted
    with person(browser, url) as ada:
        ada.page.locator("#gallery .card").first.wait_for()
        shown = ada.page.eval_on_selector_all("#gallery .card", "all => all.map(one => one.dataset.item)")
        made = [item.name for item in Gallery(folder).items()]
        assert len(made) >= 5 and shown == made[:12]


@quick
def test_a_story_is_told_and_restored(browser, quick_site):
    url, folder = quick_site
    with person(browser, url) as ada:
        page, prompt = ada.page, ada.page.locator("#generate-prompt textarea")
        prompt.fill("a red rocket\n<i>a cat</i> | 1.5 s")
        ada.settings("generate", seconds=1, fps=10, size="16 (quick)")
        ada.make("generate")
        ada.said("Your video is ready.")
        assert page.locator("#view .card .title").inner_text() == "a red rocket, then <i>a cat</i>"
        info = probe(folder / ada.result())
        assert info.recipe["prompt"] == [["a red rocket", 1.0], ["<i>a cat</i>", 1.5]] and info.num_frames == 25
        prompt.fill("")
        page.locator("#view").get_by_role("button", name="Use its settings").click()
        ada.said("The settings are as they were.")
        assert prompt.input_value() == "a red rocket | 1 s\n<i>a cat</i> | 1.5 s"
        assert ada.panel("generate").get_by_label("Length in seconds").input_value() == "2.5"


@quick
def test_a_client_of_the_api_leaves_room_for_others(quick_site):
    url, _ = quick_site
    wish = ["a cat", 1, 720, 60, 192, False, 2.0, 100, "", None]
    mine = [begin(url, "generate", *wish) for _ in range(3)]
    tokens = [told(url, "generate", one)["job"] for one in mine]
    refused = told_all(url, "generate", begin(url, "generate", *wish))
    assert "event: error" in refused and "2 videos of yours are waiting already" in refused
    others = http.client.HTTPConnection(*url[7:-1].split(":"), source_address=("127.0.0.2", 0))
    others.request(
        "POST", "/gradio_api/call/generate", json.dumps({"data": wish}), {"Content-Type": "application/json"}
    )
    tokens.append(told(url, "generate", json.loads(others.getresponse().read())["event_id"])["job"])
    assert json.loads(call(url, "status").split("data: ")[1])[0] == {"waiting": 3, "limit": 4}
    for token in reversed(tokens):
        assert "event: complete" in call(url, "stop", token)
    assert "There is no such job" in call(url, "stop", "unknown")


@quick
def test_too_large_an_upload_is_refused_while_it_arrives(quick_site):
    url, folder = quick_site
    before = set((folder / "uploads" / "incoming").rglob("*"))
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body += bytes(MAX_BYTES + 1) + b"\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert get(f"{url}gradio_api/upload", data=body, headers=headers)[0] == 413
    assert set((folder / "uploads" / "incoming").rglob("*")) == before


@real_weights
def test_two_people_a_queue_and_one_of_them_stops(browser, site):
    url, folder = site
    with person(browser, url) as ada, person(browser, url) as bob, person(browser, url) as eve:
        for one, words in ((ada, "a rocket"), (bob, "a red apple"), (eve, "a cat")):
            one.page.locator("#generate-prompt textarea").fill(words)
            one.settings("generate", steps=8)
        ada.make("generate")
        ada.page.locator("#progress progress").wait_for()
        bob.make("generate")
        bob.page.locator("#progress").get_by_text("place 1 in the queue").wait_for()
        eve.make("generate")
        eve.said("The queue is full: 1 videos are waiting")
        # a page that is loaded again finds its place
        bob.page.reload()
        bob.page.locator("#progress").get_by_text("place 1 in the queue").wait_for()
        ada.page.get_by_role("button", name="Stop").click()
        ada.said("Stopped")
        bob.said("Your video is ready.")
        recipe = probe(folder / bob.result()).recipe
        assert recipe["prompt"] == "a red apple" and recipe["num_inference_steps"] == 8
        assert probe(folder / bob.result()).num_frames == 16


# ---------------------------------------------------------------------------------------------------------------------
# What nobody may read


def get(url: str, **kwargs) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, **kwargs)) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def begin(url: str, endpoint: str, *data) -> str:
    """The event of a call to the API."""
    body = json.dumps({"data": data}).encode()
    headers = {"Content-Type": "application/json"}
    status, reply = get(f"{url}gradio_api/call/{endpoint}", data=body, headers=headers)
    assert status == 200, reply
    return json.loads(reply)["event_id"]


def told(url: str, endpoint: str, event: str) -> dict:
    """The first that an event tells."""
    with urllib.request.urlopen(f"{url}gradio_api/call/{endpoint}/{event}") as lines:
        return json.loads(
            next(line for line in lines if line.startswith(b"data: {") or line.startswith(b"data: ["))[6:]
        )[0]


def told_all(url: str, endpoint: str, event: str) -> str:
    return get(f"{url}gradio_api/call/{endpoint}/{event}")[1].decode()


def call(url: str, endpoint: str, *data) -> str:
    """What an endpoint of the API streams."""
    return told_all(url, endpoint, begin(url, endpoint, *data))


@quick
def test_nothing_outside_the_gallery_can_be_read(quick_site, tmp_path):
    url, folder = quick_site
    secret = tmp_path / "secret.txt"
    secret.write_text("TOP-SECRET")
    picture = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(picture)
    for place, name in (
        (folder, "link.mp4"),
        (folder / "uploads" / "incoming", "link.txt"),
        (folder / "uploads", "b" * 32),
    ):
        (place / name).symlink_to(secret)
    up = urllib.parse.quote("../" * 12 + str(secret).lstrip("/"), safe="")
    tries = [f"gradio_api/file={secret}", f"gradio_api/file=file://{secret}", f"gradio_api/file/{secret}"]
    tries += [f"gradio_api/file={folder}/uploads/incoming/../../../{secret.name}", f"gradio_api/file={up}"]
    tries += [f"gradio_api/file={folder}/uploads/incoming/link.txt", "gradio_api/file=/etc/passwd", f"file={secret}"]
    tries += [
        "gradio_api/file=http://127.0.0.1:1/x",
        "gradio_api/proxy=http://127.0.0.1:1/x",
        "GRADIO_API/../etc/passwd",
    ]
    tries += [f"media/gallery/{up}", "media/gallery/link.mp4", f"media/upload/{up}", f"media/upload/{'b' * 32}"]
    tries += [
        f"media/job/{up}/1.mp4",
        f"static/{up}",
        f"assets/{up}",
        f"svelte/{up}",
        f"gradio_api/file={ROOT}/README.md",
    ]
    tries += [f"media/gallery/..%2f..%2f{secret.name[:-4]}.mp4", f"gradio_api/file={folder}/.formats"]
    for path in tries:
        status, body = get(url + path)
        assert status in (400, 403, 404, 405), (path, status)
        assert b"TOP-SECRET" not in body and b"root:" not in body
    # files that a client names instead of uploading them, to the API and to the page's own functions
    for path in (
        str(picture),
        f"file://{picture}",
        f"{folder}/uploads/incoming/../../../{picture.name}",
        "/etc/passwd",
    ):
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        assert "event: error" in call(url, "animate", file)
        assert "event: error" in call(url, "vary", path)
    config = json.loads(get(f"{url}config")[1])
    uploads = [one for one in config["dependencies"] if one["targets"] and one["targets"][0][1] == "upload"]
    assert len(uploads) >= 6
    for one in uploads:
        for path in (str(picture), f"{folder}/link.mp4", "http://127.0.0.1:1/x.png", "https://example.com/x.png"):
            file = {"path": path, "meta": {"_type": "gradio.FileData"}}
            body = json.dumps({"data": [file], "fn_index": one["id"], "session_hash": "sly"}).encode()
            status, reply = get(f"{url}gradio_api/run/predict", data=body, headers={"Content-Type": "application/json"})
            assert status >= 400, (path, reply)
    for link in (folder / "link.mp4", folder / "uploads" / "incoming" / "link.txt", folder / "uploads" / ("b" * 32)):
        link.unlink()


# ---------------------------------------------------------------------------------------------------------------------
# Over HTTP, as the documentation says


@real_weights
def test_the_documented_examples_run(site, tmp_path):
    url, _ = site
    blocks = dict(re.findall(r"```(sh|python)\n(.*?)```", (DOCS / "web.md").read_text(), re.S))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    Image.new("RGB", (64, 64), "orange").save(tmp_path / "picture.png")
    for program, code in (("sh", blocks["sh"]), ("python", blocks["python"])):
        code = code.replace("http://127.0.0.1:7860/", url)
        command = ["bash", "-euc", code] if program == "sh" else [sys.executable, "-c", code]
        run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
        assert run.returncode == 0, f"{shlex.join(command[:1])}: {run.stdout}{run.stderr}"
    assert read_recipe(tmp_path / "dog.mp4")["prompt"] == "a happy dog"
    assert read_recipe(tmp_path / "moving.mp4")["use"] == "animate"
    assert read_recipe(tmp_path / "longer.mp4")["use"] == "extend"


# ---------------------------------------------------------------------------------------------------------------------
# For everybody

CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const parse = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((c, i) => a * c + (1 - a) * under[i]);
  const light = (rgb) => {
    const [r, g, b] = rgb.map(c => c / 255).map(c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const up = (one) => one ? [one, ...up(one.parentElement)] : [];
  const low = [];
  const look = (one, text, colour) => {
    const {width, height} = one.getBoundingClientRect();
    if (!text.trim() || width < 2 || height < 2 || one.closest(":disabled, script, style")) return;
    if (!one.checkVisibility({opacityProperty: true, visibilityProperty: true})) return;
    const styles = up(one).map(one => getComputedStyle(one));
    const behind = styles.reduceRight((under, style) => over(parse(style.backgroundColor), under), [255, 255, 255]);
    const [r, g, b, a] = parse(colour), opacity = styles.reduce((all, style) => all * style.opacity, 1);
    const [x, y] = [light(over([r, g, b, a * opacity], behind)), light(behind)];
    const ratio = (Math.max(x, y) + .05) / (Math.min(x, y) + .05);
    if (ratio < 4.5) low.push(`${text.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const one = walk.currentNode.parentElement;
    look(one, walk.currentNode.textContent, getComputedStyle(one).color);
  }
  for (const one of document.querySelectorAll("input:not([type=radio], [type=checkbox]), textarea")) {
    look(one, one.value, getComputedStyle(one).color);
    if (one.placeholder) look(one, one.placeholder, getComputedStyle(one, "::placeholder").color);
  }
  return low;
}"""

CONTROLS = {"button", "checkbox", "combobox", "link", "progressbar", "radio", "slider", "spinbutton", "tab", "textbox"}
CONTROLS |= {"searchbox", "video"}


def nameless(page) -> list[str]:
    """The controls for which the browser tells a screen reader no name."""
    session = page.context.new_cdp_session(page)
    nodes = [one for one in session.send("Accessibility.getFullAXTree")["nodes"] if not one["ignored"]]
    session.detach()
    controls = [one for one in nodes if one["role"]["value"].lower() in CONTROLS]
    assert len(controls) > 15
    return [str(one) for one in controls if not one.get("name", {}).get("value", "").strip()]


@real_weights
@pytest.mark.parametrize(
    ("device", "width", "height", "scheme"),
    [("desktop", 1280, 900, "light"), ("phone", 390, 844, "light"), ("desktop", 1280, 900, "dark")],
)
def test_everybody_can_use_it(browser, site, device, width, height, scheme, tmp_path, request):
    """With --pictures it also makes the screenshots of docs/web anew."""
    url, _ = site
    pictures = DOCS / "web" if request.config.getoption("pictures") else tmp_path
    with person(browser, url, width=width, height=height, scheme=scheme) as ada:
        page, wrong = ada.page, set()

        def check() -> None:
            wrong.update(page.evaluate(CONTRAST), nameless(page))
            if page.evaluate("document.documentElement.scrollWidth") > width:
                wrong.add("cut off at the side")

        assert page.evaluate("document.documentElement.lang") == "en"
        assert page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")
        for use, name in NAMES.items():
            ada.tab(name)
            page.locator(f"#{use}-make").wait_for()
            page.wait_for_timeout(500)
            if scheme == "light":
                shot = pictures / f"{use}-{device}.png"
                page.evaluate("scrollTo(0, 0)")
                page.screenshot(path=shot)
                Image.open(shot).quantize(128).save(shot, optimize=True)
                assert shot.stat().st_size < 150_000
            ada.panel(use).get_by_role("button", name="More").click()
            ada.panel(use).get_by_label("number input for Steps").wait_for()
            check()
        ada.tab("Animate")
        ada.make("animate")
        ada.said("The picture is missing")
        check()
        ada.tab("Generate")  # this one takes long enough to be looked at
        page.locator("#generate-example").click()
        page.locator("#progress progress").wait_for()
        check()
        page.get_by_role("button", name="Stop").click()
        page.locator("#message [role=status]").wait_for(timeout=60_000)
        check()
        assert wrong == set()


FOCUSED = """() => {
  const at = document.activeElement;
  const name = at.textContent || at.getAttribute("aria-label") || at.labels?.[0]?.textContent || "";
  const box = (at.type === "file" ? at.parentElement : at).getBoundingClientRect();
  return {
    name: `${at.closest("[id]")?.id || ""} ${name.trim()}`,
    box: [box.left + scrollX, box.top + scrollY, box.bottom + scrollY],
    inside: Boolean(at.closest("[role=tabpanel]")),
    seen: getComputedStyle(at).outlineStyle !== "none",
  };
}"""

STOPS = """panel => [...panel.querySelectorAll("button, input, textarea, video")].filter(one =>
  one.checkVisibility({visibilityProperty: true}) && !one.disabled && one.tabIndex >= 0).length"""


@quick
def test_it_works_by_keyboard(browser, quick_site):
    url, _ = quick_site
    with person(browser, url) as ada:
        page = ada.page
        page.locator("[role=tab][aria-selected=true]").focus()
        for key, name in (
            ("ArrowRight", "Animate"),
            ("End", "Continue"),
            ("ArrowRight", "Generate"),
            ("ArrowLeft", "Continue"),
            ("Home", "Generate"),
        ):
            page.keyboard.press(key)
            tab = page.get_by_role("tab", name=name, exact=True)
            page.wait_for_function("one => one.ariaSelected === 'true'", arg=tab.element_handle())
            assert tab.evaluate("one => one === document.activeElement")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.get_by_role("tab", name="Animate").get_attribute("aria-selected") == "true"
        for use, name in NAMES.items():
            ada.tab(name)
            panel = ada.panel(use)
            panel.get_by_role("button", name="More").click()
            panel.get_by_label("number input for Steps").wait_for()
            page.get_by_role("tab", name="Continue").focus()
            order = []
            while not order or (order[-1]["inside"] and len(order) < 40):
                page.keyboard.press("Tab")
                order.append(page.evaluate(FOCUSED))
            assert not order.pop()["inside"]
            names = [one["name"] for one in order]
            assert len(order) == panel.evaluate(STOPS), names
            assert all(one["seen"] for one in order), names
            for before, after in pairwise(order):
                (left, top, bottom), (next_left, next_top, _) = before["box"], after["box"]
                assert next_top >= bottom - 1 or (next_left > left and next_top >= top - 40), (before, after)
            wanted = {
                "generate": [f"{use}-prompt"],
                "animate": [f"{use}-image", f"{use}-prompt"],
                "interpolate": [f"{use}-first", f"{use}-last"],
                "vary": [f"{use}-video"],
                "extend": [f"{use}-video", f"{use}-prompt"],
            }[use]
            wanted += ["Length", "Frames", "64", f"{use}-seed", f"{use}-dice", "Loop", "More", "Steps"]
            wanted += [f"{use}-make", f"{use}-example"]
            places = [next((i for i, one in enumerate(names) if word in one), None) for word in wanted]
            assert None not in places and places == sorted(places), (names, places)
