"""The readers against real files made here by Pillow and PyAV. The grey level of a frame tells its index."""

import io
import json
import pickle
import random
import tarfile
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from makeavideo import UserError
from makeavideo.data.clips import UnlabelledClips
from makeavideo.data.curriculum import FrameRateCurriculum
from makeavideo.data.decode import decode
from makeavideo.data.images import CaptionedImages
from makeavideo.data.reader import SkipReport, to_pixels

STEP = 4  # grey levels between frames: more than lossy coding changes


def grey(index: int, width: int = 32, height: int = 32) -> np.ndarray:
    return np.full((height, width, 3), 8 + STEP * index, np.uint8)


def write_video(path, count=40, fps=30, codec="libx264", pixel_format="yuv420p", pts=None, size=(32, 32), options=None):
    """pts: presentation times in milliseconds, for a variable rate."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options={"crf": "1"} if "x264" in codec or "vp" in codec else {})
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        if pts is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(grey(i, *size), format="rgb24")
            frame.pts = i if pts is None else pts[i]
            frame.time_base = Fraction(1, fps) if pts is None else Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_animation(path, count=40, durations=40, alpha=False, **options):
    frames = [Image.fromarray(grey(i)) for i in range(count)]
    if alpha:
        for frame in frames:
            frame.putalpha(Image.fromarray(np.repeat([[255] * 16 + [0] * 16], 32, 0).astype(np.uint8)))
    save = {} if path.suffix == ".gif" else {"lossless": True} if path.suffix == ".webp" else {"format": "PNG"}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0, **save, **options)
    return path


def write_audio(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def picture(path, color=(200, 30, 30), caption="a picture", size=(40, 40), **options):
    Image.new("RGB", size, color).save(path, **options)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)
    return path


def levels(sample) -> list[float]:
    """0..255 grey of each frame's left quarter."""
    pixels = sample["pixels"]
    return ((pixels[:, :, :, : pixels.shape[-1] // 4].mean((1, 2, 3)) + 1) * 127.5).tolist()


def indices(sample) -> list[int]:
    return [round((level - 8) / STEP) for level in levels(sample)]


# ---- clips: formats, rates, the sampler --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    write_video(folder / "h264.mp4")
    write_video(folder / "vp9.webm", codec="libvpx-vp9")
    write_video(folder / "quick.mov", codec="mjpeg", pixel_format="yuvj420p")
    write_video(folder / "ffv1.mkv", codec="ffv1")
    write_animation(folder / "anim.gif")
    write_animation(folder / "anim.webp", alpha=True)
    write_animation(folder / "anim.apng")
    return folder


@pytest.mark.parametrize("stem", ["h264", "vp9", "quick", "ffv1", "anim"])
def test_every_format_decodes_each_frame_in_order(clip_folder, stem):
    paths = sorted(clip_folder.glob(f"{stem}.*"))
    assert paths
    for path in paths:
        frames, times, duration = decode(path, 32)
        assert frames.shape == (40, 32, 32, 3) and frames.dtype == np.uint8
        step = 1 / 25 if stem == "anim" else 1 / 30
        np.testing.assert_allclose(times, np.arange(40) * step, atol=2e-3, err_msg=path.name)
        assert duration == pytest.approx(40 * step, abs=3e-3)
        found = (frames[:, :, :8].mean((1, 2, 3)) - 8) / STEP
        np.testing.assert_allclose(found, np.arange(40), atol=0.49, err_msg=path.name)


@pytest.mark.parametrize("cache_bytes", [4 * 2**30, 0])  # 0: only the frames needed are decoded, after a seek
@pytest.mark.parametrize("fps", [30, 15, 10])
def test_sampling_is_right_to_the_frame(tmp_path, fps, cache_bytes):
    write_video(tmp_path / "a.mp4", count=60)
    clips = UnlabelledClips(tmp_path, 32, num_frames=16, fps=fps, cache_bytes=cache_bytes)
    starts = set()
    for seed in range(12):
        sample = clips[0, seed]
        assert sample["pixels"].shape == (16, 3, 32, 32) and sample["fps"] == fps
        found = indices(sample)
        assert found == [found[0] + k * (30 // fps) for k in range(16)]
        starts.add(found[0])
    assert len(starts) > 3
    assert min(starts) >= 0 and max(starts) + 15 * 30 // fps <= 59


def test_a_clip_exactly_long_enough_is_taken_whole(tmp_path):
    write_video(tmp_path / "a.webm", count=16, codec="libvpx-vp9")
    clips = UnlabelledClips(tmp_path, 32, num_frames=16, fps=30, short="skip")
    assert all(indices(clips[0, seed]) == list(range(16)) for seed in range(5))


def test_slow_rates_repeat_frames(tmp_path):
    write_video(tmp_path / "a.mp4", count=20, fps=10)
    found = indices(UnlabelledClips(tmp_path, 32, num_frames=16, fps=30)[0, 1])
    assert all(b - a in (0, 1) for a, b in pairwise(found)) and found[-1] - found[0] == 5


@pytest.mark.parametrize("kind", ["webm", "mp4", "webp", "gif"])
def test_variable_frame_rate_uses_presentation_times(tmp_path, kind):
    # ten frames of 40 ms, then ten of 200 ms: at 5 fps the second half goes frame by frame, the first in fives
    durations = [40] * 10 + [200] * 10
    pts = np.concatenate([[0], np.cumsum(durations)[:-1]]).tolist()
    path = tmp_path / f"a.{kind}"
    if kind in ("webp", "gif"):
        write_animation(path, 20, durations)
    else:
        write_video(path, 20, pts=pts, codec="libx264" if kind == "mp4" else "libvpx-vp9")
    _, times, duration = decode(path, 32)
    np.testing.assert_allclose(times, np.array(pts) / 1000, atol=2e-3)
    assert duration == pytest.approx(2.4, abs=0.17)
    clips = UnlabelledClips(tmp_path, 32, num_frames=11, fps=5)
    for seed in range(5):
        found = indices(clips[0, seed])
        assert found[0] in (0, 1, 2, 3, 4, 5) and found[3:] == list(range(found[3], found[3] + 8))
        assert found[1] - found[0] in (4, 5)


def test_short_clips_loop(tmp_path):
    write_animation(tmp_path / "a.webp", 10, 100)
    clips = UnlabelledClips(tmp_path, 32, num_frames=16, fps=10, short="loop")
    firsts = set()
    for seed in range(20):
        found = indices(clips[0, seed])
        assert found == [(found[0] + k) % 10 for k in range(16)]
        firsts.add(found[0])
    assert len(firsts) > 4


def test_short_clips_are_replaced_silently(tmp_path):
    write_animation(tmp_path / "a.webp", 10, 100)
    write_animation(tmp_path / "b.webp", 40, 100)
    clips = UnlabelledClips(tmp_path, 32, num_frames=16, fps=10, short="skip")
    sample = clips[0, 3]
    assert (sample["key"], sample["index"], sample["skipped"]) == ("b", 1, [])
    with pytest.raises(UserError, match="long enough"):
        UnlabelledClips(tmp_path, 32, num_frames=16, fps=1, short="skip")[0, 3]


def test_one_frame_samples_and_frame_skip(tmp_path):
    write_video(tmp_path / "a.mp4", count=60)
    assert UnlabelledClips(tmp_path, 32, num_frames=1, fps=30)[0, 5]["pixels"].shape == (1, 3, 32, 32)
    sample = UnlabelledClips(tmp_path, 32, num_frames=8, fps=30, frame_skip=5)[0, 5]
    assert sample["fps"] == 6 and np.diff(indices(sample)).tolist() == [5] * 7
    rates = {UnlabelledClips(tmp_path, 32, num_frames=4, fps=30, frame_skip=(1, 3))[0, s]["fps"] for s in range(20)}
    assert rates == {30, 15, 10}


def test_alpha_is_composed_on_the_background(tmp_path):
    write_animation(tmp_path / "a.webp", 4, 100, alpha=True)
    right = UnlabelledClips(tmp_path, 16, num_frames=2, fps=10, background="#00ff00")[0, 0]["pixels"][:, :, :, -4:]
    assert torch.equal(right[0, :, 0, 0], torch.tensor([-1.0, 1.0, -1.0]))


def test_alpha_of_vp9_is_composed(tmp_path):
    with av.open(str(tmp_path / "a.webm"), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=10, options={"auto-alt-ref": "0"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuva420p"
        for i in range(6):
            rgba = np.dstack([grey(i), np.repeat([[255] * 16 + [0] * 16], 32, 0).astype(np.uint8)])
            frame = av.VideoFrame.from_ndarray(rgba, format="rgba")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames, _, _ = decode(tmp_path / "a.webm", 32, "#0000ff")
    assert len(frames) == 6
    assert np.abs(frames[:, 16, 28].astype(int) - [0, 0, 255]).max() < 12
    assert np.abs(frames[3, 16, 4].astype(int) - (8 + 3 * STEP)).max() < 12


def test_frames_that_are_not_square_are_cropped_at_the_centre(tmp_path):
    write_video(tmp_path / "a.mp4", count=8, size=(64, 32))
    frames, _, _ = decode(tmp_path / "a.mp4", 16)
    assert frames.shape == (8, 16, 16, 3)


def test_crop_is_the_same_for_all_frames(tmp_path):
    ramp = np.dstack([np.tile(np.arange(64, dtype=np.uint8) * 3, (64, 1))] * 3)
    ramp[:, :, 1] = ramp[:, :, 0].T
    images = [Image.fromarray(np.dstack([ramp[:, :, :2], np.full((64, 64), i, np.uint8)])) for i in range(9)]
    images[0].save(tmp_path / "a.webp", save_all=True, append_images=images[1:], duration=100, lossless=True)
    clips = UnlabelledClips(tmp_path, 64, num_frames=4, fps=10, crop=24)
    corners = set()
    for seed in range(8):
        pixels = clips[0, seed]["pixels"]
        assert pixels.shape == (4, 3, 24, 24)
        assert (pixels[:, :2] == pixels[:1, :2]).all()
        corners.add(tuple(pixels[0, :2, 0, 0].tolist()))
    assert len(corners) > 4


# ---- determinism ----


def same(a: dict, b: dict) -> bool:
    return torch.equal(a["pixels"], b["pixels"]) and all(a[k] == b[k] for k in a if k != "pixels")


def first(samples: list[dict]) -> dict:
    return {**samples[0], "pixels": to_pixels(samples[0]["pixels"])}


def test_same_key_same_bits_in_any_order_and_process(clip_folder):
    make = lambda **kw: UnlabelledClips(clip_folder, 24, 6, FrameRateCurriculum(), crop=16, **kw)  # noqa: E731
    keys = [(i % 7, 1000 + i, i / 14) for i in range(14)]
    clips = make()
    once = [clips[key] for key in keys]
    assert len({s["fps"] for s in once}) == 14
    for other in (make(), make(cache_bytes=0), make(cache_bytes=100_000), pickle.loads(pickle.dumps(clips))):
        assert all(same(a, other[key]) for a, key in list(zip(once, keys, strict=True))[::-1])
    batches = [[key] for key in keys]
    for workers in (0, 2):
        loader = DataLoader(make(), batch_sampler=batches, collate_fn=first, num_workers=workers)
        assert all(same(a, b) for a, b in zip(once, loader, strict=True))


def test_cache_stays_within_its_bound(clip_folder):
    clips = UnlabelledClips(clip_folder, 16, 4, 30, cache_bytes=100_000)
    for i in range(7):
        clips[i, i]
        assert clips.cache.used <= 100_000


# ---- pictures ----


def test_captions_from_text_and_json(tmp_path):
    picture(tmp_path / "one.png", caption="a red square\n\n  red   thing \n")
    picture(tmp_path / "sub.jpg", caption=None)
    (tmp_path / "sub.json").write_text(json.dumps({"caption": "just one", "width": 3}))
    (tmp_path / "deep").mkdir()
    picture(tmp_path / "deep" / "two.webp", caption="from text")
    (tmp_path / "deep" / "two.json").write_text(json.dumps({"captions": ["from json", "from text"]}))
    images = CaptionedImages(tmp_path, 32)
    by_key = {key: images.captions(i) for i, key in enumerate(images.keys)}
    assert by_key == {
        "one": ["a red square", "red thing"],
        "sub": ["just one"],
        "two": ["from text", "from json"],
    }
    sample = images[images.keys.index("one"), 7]
    assert sample["pixels"].shape == (1, 3, 32, 32) and sample["pixels"].dtype == torch.float32
    assert sample["skipped"] == [] and sample["key"] == "one"
    assert {images[images.keys.index("one"), s]["caption"] for s in range(20)} == {"a red square", "red thing"}


def test_include_is_a_set_or_a_function(tmp_path):
    for name in "abc":
        picture(tmp_path / f"{name}.png")
    assert CaptionedImages(tmp_path, 8, include={"a", "c", "z"}).keys == ["a", "c"]
    assert CaptionedImages(tmp_path, 8, include=lambda key: key != "a").keys == ["b", "c"]
    with pytest.raises(UserError, match="include"):
        CaptionedImages(tmp_path, 8, include={"z"})


def test_exif_orientation_and_unusual_modes(tmp_path):
    upright = np.zeros((40, 40, 3), np.uint8)
    upright[:20] = 255  # white above black
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to show
    Image.fromarray(np.rot90(upright)).save(tmp_path / "exif.png", exif=exif)
    Image.fromarray(np.full((40, 40), 51400, np.uint16)).save(tmp_path / "grey16.png")
    Image.new("CMYK", (40, 40), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=100)
    palette = Image.new("P", (40, 40), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    palette.save(tmp_path / "palette.png")
    palette.save(tmp_path / "clear.png", transparency=1)
    Image.new("LA", (40, 40), (255, 0)).save(tmp_path / "la.png")
    Image.new("1", (40, 40), 1).save(tmp_path / "bit.png")
    Image.fromarray(np.full((40, 40), 0.5, np.float32)).save(tmp_path / "float.tif")
    for path in list(tmp_path.iterdir()):
        path.with_suffix(".txt").write_text("x")
    images = CaptionedImages(tmp_path, 40, background="#ff00ff")
    found = {}
    for i, key in enumerate(images.keys):
        sample = images[i, 0]
        assert sample["key"] == key, sample["skipped"]
        found[key] = ((sample["pixels"][0] + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert (found["exif"] == upright).all()
    assert found["grey16"][0, 0].tolist() == [200, 200, 200]
    assert np.abs(found["cmyk"][20, 20] - [255, 0, 0]).max() < 12
    assert found["palette"][0, 0].tolist() == [10, 200, 30]
    assert found["clear"][0, 0].tolist() == [255, 0, 255]
    assert found["la"][0, 0].tolist() == [255, 0, 255]
    assert found["bit"][0, 0].tolist() == [255, 255, 255]
    assert np.abs(found["float"][0, 0] - 127.5).max() <= 0.5


def test_alpha_is_composed_before_resizing(tmp_path):
    # hidden black under full transparency must not darken the edge
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[:, :30] = 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("white on white")
    assert (CaptionedImages(tmp_path, 16)[0, 0]["pixels"] == 1).all()


# ---- shards ----


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def encoded(color, kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 40), color).save(file, kind)
    return file.getvalue()


def write_shard(path, count=6, start=0):
    with tarfile.open(path, "w") as tar:
        for i in range(start, start + count):
            stem = f"{i:09d}"
            add(tar, f"{stem}.jpg", encoded((10 * i, 0, 0), "JPEG"))
            add(tar, f"{stem}.txt", f"number {i}".encode())
            add(tar, f"{stem}.json", json.dumps({"caption": f"number {i}", "status": "success"}).encode())
    return path


def test_image_shards(tmp_path):
    write_shard(tmp_path / "00000.tar")
    write_shard(tmp_path / "00001.tar", start=6)
    for root in (tmp_path, [tmp_path / "00000.tar", tmp_path / "00001.tar"]):
        images = CaptionedImages(root, 32)
        assert images.keys == [f"{i:09d}" for i in range(12)]
        for i in (11, 0, 7):
            sample = images[i, 0]
            assert sample["caption"] == f"number {i}" and images.captions(i) == [f"number {i}"]
            assert abs((sample["pixels"][0, 0].mean() + 1) * 127.5 - 10 * i) < 3
    assert CaptionedImages(tmp_path / "00001.tar", 32, include={"000000008"})[0, 0]["caption"] == "number 8"


def test_webdataset_reads_the_same_shards_in_the_same_order(tmp_path):
    wds = pytest.importorskip("webdataset")
    path = write_shard(tmp_path / "00000.tar")
    theirs = [s["__key__"] for s in wds.WebDataset(str(path), shardshuffle=False)]
    assert theirs == CaptionedImages(path, 8).keys


@pytest.mark.parametrize("keep", [700, 3000, 4096, 10_000, 12_288, 18_001])  # between, in headers and in members
def test_a_truncated_shard_keeps_its_whole_members(tmp_path, keep):
    path = write_shard(tmp_path / "00000.tar")
    data = path.read_bytes()
    with tarfile.open(path) as tar:
        ends = {m.name: m.offset_data + m.size for m in tar}
    pictures = sum(end <= keep for name, end in ends.items() if name.endswith(".jpg"))
    captioned = sum(end <= keep for name, end in ends.items() if name.endswith(".txt"))
    path.write_bytes(data[:keep])
    if not pictures:  # within the first picture
        with pytest.raises(UserError, match="no usable file"):
            CaptionedImages(tmp_path, 8)
        return
    images = CaptionedImages(tmp_path, 8)
    assert len(images) == pictures < 6
    for i in range(captioned):
        sample = images[i, 0]
        assert sample["caption"] == f"number {i}" and sample["skipped"] == [(str(path), "truncated shard")]


def test_clip_shards_hold_every_kind(tmp_path, clip_folder):
    with tarfile.open(tmp_path / "clips.tar", "w") as tar:
        for path in sorted(clip_folder.iterdir()):
            add(tar, f"part/{path.stem}-{path.suffix[1:]}{path.suffix}", path.read_bytes())
    shards, files = UnlabelledClips(tmp_path, 16, 4, 30), UnlabelledClips(clip_folder, 16, 4, 30)
    assert len(shards) == len(files) == 7
    for i in range(7):
        assert shards[i, i]["skipped"] == []
    by_kind = {item.media.extension: i for i, item in enumerate(files.items)}
    for i, item in enumerate(shards.items):
        assert torch.equal(shards[i, 5]["pixels"], files[by_kind[item.media.extension], 5]["pixels"])


# ---- bad files ----


def cut_file(path, keep):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def make_bad_clips(folder):
    noise = random.Random(0).randbytes
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "empty.gif").write_bytes(b"")
    (folder / "noise.mp4").write_bytes(noise(5000))
    (folder / "noise.webp").write_bytes(noise(5000))
    (folder / "text.webm").write_text("this is no video\n" * 50)
    (folder / "playlist.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://192.0.2.1/a.ts\n")
    (folder / "concat.mp4").write_text("ffconcat version 1.0\nfile good.mp4\n")
    write_audio(folder / "audio.mp4")
    write_video(folder / "single.mp4", count=1)
    write_animation(folder / "single.webp", 1)
    write_animation(folder / "single.gif", 1)
    cut_file(write_video(folder / "cut.mp4"), 0.5)  # its index, at the end, is gone
    cut_file(write_video(folder / "cutfast.mp4", options={"movflags": "faststart"}), 0.6)  # index kept, data gone
    cut_file(write_video(folder / "cut.webm", codec="libvpx-vp9"), 0.5)
    cut_file(write_animation(folder / "cut.webp"), 0.5)
    cut_file(write_animation(folder / "cut.gif"), 0.5)
    cut_file(write_animation(folder / "cut.apng"), 0.5)
    return sorted(p for p in folder.iterdir())


def test_bad_clips_are_replaced_and_named(tmp_path, monkeypatch):
    bad = make_bad_clips(tmp_path)
    write_video(tmp_path / "good.mp4", count=40)
    clips = UnlabelledClips(tmp_path, 16, 4, 30)
    assert len(clips) == len(bad) + 1
    report = SkipReport()
    for i in range(len(clips)):
        sample = clips[i, i]
        assert sample["key"] == "good"
        report.add(sample["skipped"])
    assert [path for path, _ in report] == [str(p) for p in bad]
    reasons = {path.rpartition("/")[2]: reason for path, reason in report}
    assert reasons["empty.mp4"] == reasons["empty.gif"] == "empty file"
    assert reasons["audio.mp4"] == "no video track"
    assert reasons["single.mp4"] == reasons["single.webp"] == reasons["single.gif"] == "only one frame"
    assert reasons["text.webm"] == reasons["playlist.mp4"] == reasons["noise.mp4"] == "not a video"
    assert all(len(r) < 100 and "\n" not in r for r in reasons.values())
    # remembered: nothing is opened again, and the samples stay the same
    before = [clips[i, i] for i in range(len(clips))]
    monkeypatch.setattr("makeavideo.data.index.Source.open", None)
    monkeypatch.setattr("makeavideo.data.index.Source.read", None)
    assert all(same(clips[i, i], before[i]) for i in range(len(clips)))


def test_replacements_do_not_depend_on_what_was_read_before(tmp_path):
    make_bad_clips(tmp_path)
    for name in "abcd":
        write_animation(tmp_path / f"{name}.gif", 8)
    fresh = lambda: UnlabelledClips(tmp_path, 16, 4, 30)  # noqa: E731
    keys = [(i, 50 + i) for i in range(0, len(fresh()), 3)]
    used = fresh()
    for key in keys[::-1]:
        used[key]
    assert all(same(used[key], fresh()[key]) for key in keys)


def test_bad_pictures_are_replaced_and_named(tmp_path):
    (tmp_path / "text.png").write_text("not a picture at all")
    (tmp_path / "empty.jpg").write_bytes(b"")
    for kind in ("png", "jpg", "webp"):
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"cut{kind}.{kind}")
        cut_file(tmp_path / f"cut{kind}.{kind}", 0.5)
    Image.new("1", (8100, 8100)).save(tmp_path / "bomb.png")
    Image.new("1", (20000, 20000)).save(tmp_path / "huge.png")
    for path in list(tmp_path.iterdir()):
        path.with_suffix(".txt").write_text("x")
    picture(tmp_path / "silent.png", caption=None)
    picture(tmp_path / "blank.png", caption="\n \n")
    picture(tmp_path / "badjson.png", caption=None)
    (tmp_path / "badjson.json").write_text("{")
    picture(tmp_path / "listjson.png", caption=None)
    (tmp_path / "listjson.json").write_text('{"caption": 3}')
    picture(tmp_path / "zgood.png")
    images = CaptionedImages(tmp_path, 16)
    report = SkipReport()
    for i in range(len(images)):
        sample = images[i, i]
        assert (sample["key"], sample["caption"]) == ("zgood", "a picture")
        report.add(sample["skipped"])
    reasons = {path.rpartition("/")[2]: reason for path, reason in report}
    assert len(reasons) == len(images) - 1 == 11
    assert reasons["text.png"] == "not a picture" and reasons["empty.jpg"] == "empty file"
    assert reasons["bomb.png"] == reasons["huge.png"] == "more than 64 megapixels"
    assert {reasons[f"{n}.png"] for n in ("silent", "blank", "badjson", "listjson")} == {"no caption"}


def test_a_file_deleted_meanwhile_is_replaced(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    images = CaptionedImages(tmp_path, 8)
    (tmp_path / "a.png").unlink()
    sample = images[0, 0]
    assert sample["key"] == "b" and sample["skipped"] == [(str(tmp_path / "a.png"), "No such file or directory")]


def test_nothing_readable_is_a_user_error(tmp_path):
    make_bad_clips(tmp_path)
    with pytest.raises(UserError, match=r"can be read") as error:
        UnlabelledClips(tmp_path, 16)[3, 1]
    assert str(tmp_path) in str(error.value) and "audio.mp4: no video track" in str(error.value)


def test_wrong_folders_and_settings_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        CaptionedImages(tmp_path / "none", 8)
    with pytest.raises(UserError, match="no usable file"):
        CaptionedImages(tmp_path, 8)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "._a.mp4").write_text("x")
    with pytest.raises(UserError, match="no usable file"):
        UnlabelledClips(tmp_path, 8)
    write_animation(tmp_path / "a.gif", 4)
    for wrong in (
        {"background": "blu"},
        {"crop": 9},
        {"short": "cut"},
        {"num_frames": 0},
        {"fps": 0},
        {"frame_skip": 0},
    ):
        with pytest.raises(UserError):
            UnlabelledClips(tmp_path, 8, **wrong)


# ---- curriculum and report ----


def test_curriculum_moves_from_high_to_low_rates():
    curriculum = FrameRateCurriculum(low=1, high=30, start=(5, 2), end=(2, 5))
    assert curriculum.parameters(0.5) == (3.5, 3.5)
    means = []
    for progress in (0.0, 0.5, 1.0):
        for rng in (random.Random(0), np.random.default_rng(0)):
            drawn = [curriculum.sample(rng, progress) for _ in range(4000)]
            assert min(drawn) >= 1 and max(drawn) <= 30
            a, b = curriculum.parameters(progress)
            assert np.mean(drawn) == pytest.approx(1 + 29 * a / (a + b), abs=0.4)
            means.append(np.mean(drawn))
    assert means == sorted(means, reverse=True) or means[0] > means[2] > means[4]
    assert FrameRateCurriculum.constant(12).sample(random.Random(1), 0.3) == 12
    for wrong in ({"low": 0}, {"low": 5, "high": 4}, {"start": (0, 1)}, {"end": (1,)}):
        with pytest.raises(UserError):
            FrameRateCurriculum(**wrong)


def test_skip_report_names_each_file_once():
    report = SkipReport()
    assert report.text() == "" and len(report) == 0 and not report.fresh
    report.add([("b.mp4", "no video track"), ("a.mp4", "empty file")])
    report.add([("b.mp4", "no video track")])
    assert report.fresh and len(report) == 2
    assert report.text() == "Skipped 2 files: a.mp4 (empty file); b.mp4 (no video track)."
    assert not report.fresh
    report.add([(f"c{i}", "x") for i in range(30)])
    assert report.text(limit=2).endswith("b.mp4 (no video track); and 30 more.")
