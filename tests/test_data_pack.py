"""Packed shards give training the same pictures, keys, captions and times as the folders that they were made from."""

import io
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from makeavideo import UserError
from makeavideo.data.clips import UnlabelledClips
from makeavideo.data.decode import decode
from makeavideo.data.images import CaptionedImages
from makeavideo.data.pack import pack
from tiny_clips import picture, write_animation, write_video

SIZE = 24


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """stills/ with transparency, odd shapes and captions; clips/ of three kinds, one of them with uneven times."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "stills").mkdir()
    (folder / "clips").mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (50, 40, 4), np.uint8)).save(folder / "stills" / "1f600.png")
    (folder / "stills" / "1f600.json").write_text('{"captions": ["a face", "a smile"], "label": "face"}')
    picture(folder / "stills" / "wide.v2.jpg", caption="wide", size=(60, 30))
    (folder / "stills" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    write_animation(folder / "clips" / "1f680.webp", 30, durations=[20 + 7 * (i % 5) for i in range(30)])
    write_animation(folder / "clips" / "still.gif", 6, durations=[50, 60, 70, 80, 90, 100], disposal=2)
    write_video(folder / "clips" / "film.mp4", 20, fps=24)
    cloud = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).resize((72, 72), Image.Resampling.BICUBIC)
    frames = [cloud.crop((i, 0, i + 48, 48)) for i in range(24)]
    frames[0].save(folder / "clips" / "cloud.webp", save_all=True, append_images=frames[1:], duration=40, lossless=True)
    return folder


@pytest.fixture(scope="module")
def packed(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "packed"
    return out, *pack(source, out, SIZE)


def test_what_was_packed_is_counted_and_what_was_not_is_named(packed):
    out, counts, report = packed
    assert (counts.stills, counts.clips, counts.frames) == (2, 4, 80)
    assert counts.bytes == sum(path.stat().st_size for path in out.rglob("*.tar"))
    assert sorted(path.parent.name for path in out.rglob("*.tar")) == ["clips", "stills"]
    assert len(report) == 1 and "broken.png (not a picture)" in report.text()
    assert 35 < counts.psnr < 60


def test_stills_are_the_same_to_the_bit_with_keys_and_captions(source, packed):
    before, after = (CaptionedImages(folder / "stills", SIZE) for folder in (source, packed[0]))
    assert after.keys == ["1f600", "wide.v2"]
    for index, key in enumerate(after.keys):
        old = before.keys.index(key)
        assert after.captions(index) == before.captions(old)
        for seed in range(3):
            one, other = before[old, seed], after[index, seed]
            assert (one["pixels"] == other["pixels"]).all() and one["caption"] == other["caption"]


@pytest.mark.parametrize("name", ["1f680.webp", "still.gif", "film.mp4", "cloud.webp"])
def test_clips_keep_every_frame_and_when_it_is_shown(source, packed, name):
    stem = name.partition(".")[0]
    with tarfile.open(next((packed[0] / "clips").glob("*.tar"))) as tar:
        data = tar.extractfile(f"{stem}.avif").read()
    path = packed[0] / name
    (path.with_suffix(".avif")).write_bytes(data)
    frames, times, duration = decode(source / "clips" / name, SIZE)
    again, again_times, again_duration = decode(path.with_suffix(".avif"), SIZE)
    path.with_suffix(".avif").unlink()
    assert again.shape == frames.shape
    assert np.abs(again_times - times).max() <= 0.0005 and abs(again_duration - duration) <= 0.001
    assert np.abs(again.astype(int) - frames).mean() <= 3


def test_a_stage_draws_the_same_frames(source, packed):
    before, after = (UnlabelledClips(folder / "clips", SIZE, 6, 20.0) for folder in (source, packed[0]))
    assert after.keys == before.keys
    for index in range(len(before)):
        for seed in range(5):
            one, other = before[index, seed], after[index, seed]
            assert (one["pixels"] - other["pixels"]).abs().mean() < 0.03 and one["fps"] == other["fps"]


def test_packing_again_does_nothing_until_a_file_changes(source, packed, tmp_path):
    copy = tmp_path / "stills"
    shutil.copytree(source / "stills", copy)
    out = tmp_path / "packed"
    first = pack(copy, out, SIZE)[0]
    shard = next(out.rglob("*.tar"))
    written = shard.stat().st_mtime_ns
    assert pack(copy, out, SIZE)[0] == first and shard.stat().st_mtime_ns == written
    picture(copy / "new.png", caption="new")
    assert pack(copy, out, SIZE)[0].stills == 3 and next(out.rglob("*.tar")).stat().st_mtime_ns > written


def test_quality_is_a_setting_and_workers_change_nothing(source, packed, tmp_path):
    low = pack(source / "clips", tmp_path / "low", SIZE, quality=10, workers=2)[0]
    high = pack(source / "clips", tmp_path / "high", SIZE, quality=95)[0]

    def coded(name: str) -> int:
        with tarfile.open(next((tmp_path / name).rglob("*.tar"))) as tar:
            return sum(member.size for member in tar)

    assert coded("low") < coded("high") and low.psnr < high.psnr
    again = pack(source / "clips", tmp_path / "again", SIZE, quality=95, workers=2)[0]
    assert again == high  # to the last coded pixel; an AVIF also holds when it was written
    lossy = pack(source / "stills", tmp_path / "stills", SIZE, quality=50)[0]
    assert lossy.stills == 2 and lossy.psnr < 45


def test_frames_too_short_for_the_format_are_left_out(tmp_path):
    write_video(tmp_path / "fast.mp4", 40, fps=200)
    out = tmp_path.parent / "fast-packed"
    counts, _ = pack(tmp_path, out, SIZE)
    with tarfile.open(next(out.rglob("*.tar"))) as tar, Image.open(tar.extractfile("fast.avif")) as clip:
        durations = []
        for index in range(clip.n_frames):
            clip.seek(index)
            clip.load()
            durations.append(clip.info["duration"])
    assert counts.frames == len(durations) < 20 and min(durations) > 10 and abs(sum(durations) - 200) <= 15


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"size": 0}, "size must be at least 1"),
        ({"quality": 101}, "quality 1 to 100"),
        ({"background": "blu"}, "not a colour"),
        ({"out": "inside"}, "lies in"),
        ({"source": "nowhere"}, "does not exist"),
        ({"out": "taken"}, "holds other files"),
    ],
)
def test_what_cannot_be_packed_is_one_sentence(tmp_path, changes, sentence):
    source = tmp_path / "source"
    source.mkdir()
    picture(source / "a.png")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").write_text("x")
    paths = {"inside": source / "packed", "nowhere": tmp_path / "nowhere", "taken": tmp_path / "taken"}
    values = {"source": source, "out": tmp_path / "out", "size": SIZE, **changes}
    values = {key: paths.get(value, value) if isinstance(value, str) else value for key, value in values.items()}
    with pytest.raises(UserError, match=sentence) as error:
        pack(**values)
    assert "\n" not in str(error.value)
    assert (tmp_path / "taken" / "letter.txt").exists()


def test_a_file_that_is_no_clip_in_clip_s_clothing_is_named(tmp_path):
    (tmp_path / "a.webp").write_bytes(b"RIFF0000WEBP")
    picture(tmp_path / "b.png")
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "GIF")
    (tmp_path / "c.gif").write_bytes(file.getvalue())
    counts, report = pack(tmp_path, tmp_path.parent / "odd", SIZE)
    assert counts.stills == 1 and "a.webp" in report.text() and "c.gif (only one frame)" in report.text()
