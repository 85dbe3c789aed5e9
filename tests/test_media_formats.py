"""Every format with real files: what is written is read back, and other readers agree."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from makeavideo import UserError
from makeavideo.media import containers
from makeavideo.media.reader import probe, read_recipe, read_video
from makeavideo.media.writer import write_video
from media_files import CLIP, ENDINGS, MIN_PSNR, RECIPE, boxes, content, decode_elsewhere, make_clip, names, psnr

# Round trips


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_written_is_read_back(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"clip{ending}"
    assert write_video(path, iter(CLIP), 24, RECIPE) == path
    assert names(tmp_path) == [path.name]

    clip = read_video(path)
    assert clip.frames.dtype == np.uint8 and clip.frames.shape == CLIP.shape
    assert psnr(clip.frames, CLIP) > MIN_PSNR[ending]
    assert clip.fps == 24
    tick = {".gif": 0.01, ".webp": 0.001, ".webm": 0.001}.get(ending, 1e-6)
    assert np.abs(clip.times - np.arange(len(CLIP)) / 24).max() <= tick / 2 + 1e-9

    info = probe(path)
    assert (info.width, info.height, info.num_frames, info.fps) == (64, 64, len(CLIP), 24)
    assert info.duration == pytest.approx(len(CLIP) / 24, abs=0.006)
    assert info.codec == {".mp4": "h264", ".webm": "vp9", ".gif": "gif", ".webp": "webp", "": "png"}[ending]
    assert info.recipe == RECIPE == read_recipe(path)


@pytest.mark.parametrize("ending", [".mp4", ".webm", ".gif"])
def test_other_readers_agree(tmp_path: Path, ending: str) -> None:
    path = write_video(tmp_path / f"clip{ending}", CLIP, 24)
    frames = decode_elsewhere(path)
    assert frames.shape == CLIP.shape
    assert psnr(frames, CLIP) > MIN_PSNR[ending] - 3  # FFmpeg's default scaler is coarser than ours


def test_colours_are_neither_darker_nor_shifted(tmp_path: Path) -> None:
    for ending in (".mp4", ".webm"):
        frames = read_video(write_video(tmp_path / f"clip{ending}", CLIP, 24)).frames.astype(float)
        assert np.abs((frames - CLIP).mean(axis=(0, 1, 2))).max() < 0.5
        assert frames[:, :4, :4].min() >= 253  # the white ground stays white


@pytest.mark.parametrize("fps", [1, 7.5, 12, 23.976, 29.97, 30, 50])
@pytest.mark.parametrize("ending", [".mp4", ".webm", ".gif", ".webp"])
def test_frame_rates(tmp_path: Path, ending: str, fps: float) -> None:
    path = write_video(tmp_path / f"clip{ending}", CLIP[:6, :16, :16], fps)
    info = probe(path)
    # A gif of six frames cannot tell 23.976 from 24: it counts hundredths
    assert info.fps == pytest.approx(fps, rel=1e-3 if ending in (".mp4", ".webm") or fps == int(fps) else 0.03)
    assert info.duration == pytest.approx(6 / fps, abs=0.011)


@pytest.mark.parametrize("ending", [*ENDINGS, ".png"])
def test_a_single_frame(tmp_path: Path, ending: str) -> None:
    path = write_video(tmp_path / f"clip{ending}", CLIP[:1], 8, RECIPE)
    assert read_video(path).frames.shape == (1, 64, 64, 3)
    info = probe(path)
    assert info.num_frames == 1 and info.recipe == RECIPE
    if ending != ".png":
        assert info.duration == pytest.approx(1 / 8, abs=0.006)


@pytest.mark.parametrize("ending", ENDINGS)
def test_frames_that_stand_still_all_count(tmp_path: Path, ending: str) -> None:
    still = np.repeat(CLIP[:1], 8, axis=0)
    info = probe(write_video(tmp_path / f"clip{ending}", still, 10))
    assert info.num_frames == 8 and info.duration == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("ending", [".gif", ".webp"])
def test_a_still_background_does_not_flicker(tmp_path: Path, ending: str) -> None:
    frames = read_video(write_video(tmp_path / f"clip{ending}", CLIP, 24)).frames.astype(int)
    still_rows = np.flatnonzero((CLIP[:1] == CLIP).all(axis=(0, 2, 3)))
    above = still_rows[still_rows < 32][:-1]  # a webp's rectangles start at even rows, so one more may be touched
    assert len(above) >= 4
    assert (frames[:, above] == frames[:1, above]).all()


@pytest.mark.parametrize("shape", [(1, 1), (63, 17), (2, 130)])
@pytest.mark.parametrize("ending", [".gif", ".webp", ".png"])
def test_odd_sizes_where_the_format_can(tmp_path: Path, ending: str, shape: tuple[int, int]) -> None:
    count = 1 if ending == ".png" else 3
    frames = np.random.default_rng(0).integers(0, 256, (count, *shape, 3), dtype=np.uint8)
    assert read_video(write_video(tmp_path / f"clip{ending}", frames, 24)).frames.shape == frames.shape


def test_webp_rectangles_at_odd_places(tmp_path: Path) -> None:
    """Grey, so that only the places count, not the coarser grid of the colours."""
    frames = np.full((5, 32, 32, 3), 200, dtype=np.uint8)
    for i, (top, left) in enumerate([(3, 5), (31, 31), (0, 0), (7, 30)], start=1):
        frames[i:, top:, left:] = 40 * i
    assert psnr(read_video(write_video(tmp_path / "clip.webp", frames, 10)).frames, frames) > 38


def test_longer_and_larger(tmp_path: Path) -> None:
    """76 frames at 128 pixels from a generator: more than the encoders hold back."""
    frames = make_clip(76, 128)
    path = write_video(tmp_path / "clip.mp4", (frame for frame in frames), 24)
    clip = read_video(path)
    assert clip.frames.shape == frames.shape and psnr(clip.frames, frames) > 38
    assert path.stat().st_size < 100_000


# What the files are


def test_mp4_plays_everywhere(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", CLIP, 24, RECIPE)
    order = boxes(path.read_bytes())
    assert order.index("moov") < order.index("mdat")  # faststart
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.pix_fmt == "yuv420p" and stream.codec_context.name == "h264"
        assert stream.codec_context.colorspace == 1 and stream.codec_context.color_range == 1
        assert "creation_time" not in {**container.metadata, **stream.metadata}
        assert json.loads(container.metadata["comment"]) == RECIPE
    if shutil.which("ffprobe"):
        command = ["ffprobe", "-v", "error", "-show_streams", "-show_format", "-of", "json", str(path)]
        said = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        assert said["streams"][0]["pix_fmt"] == "yuv420p" and said["streams"][0]["codec_name"] == "h264"
        assert json.loads(said["format"]["tags"]["comment"]) == RECIPE


def test_gif_and_webp_loop_for_ever(tmp_path: Path) -> None:
    for ending in (".gif", ".webp"):
        with Image.open(write_video(tmp_path / f"clip{ending}", CLIP, 24, RECIPE)) as image:
            assert image.info["loop"] == 0 and image.n_frames == len(CLIP) and image.is_animated


def test_recipes_are_where_other_tools_look(tmp_path: Path) -> None:
    with Image.open(write_video(tmp_path / "a.gif", CLIP, 24, RECIPE)) as image:
        assert json.loads(image.info["comment"]) == RECIPE
    with Image.open(write_video(tmp_path / "a.webp", CLIP, 24, RECIPE)) as image:
        assert json.loads(image.getexif().get_ifd(0x8769)[0x9286].removeprefix(b"ASCII\0\0\0")) == RECIPE
    folder = write_video(tmp_path / "a", CLIP, 24, RECIPE)
    assert names(folder) == [f"frame_{i:05d}.png" for i in range(len(CLIP))]
    with Image.open(folder / "frame_00000.png") as image:
        assert json.loads(image.text["Comment"]) == RECIPE
    with av.open(str(write_video(tmp_path / "a.webm", CLIP, 24, RECIPE))) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
        assert json.loads(tags["comment"]) == RECIPE


@pytest.mark.parametrize("ending", [*ENDINGS, ".png"])
def test_long_and_strange_recipes(tmp_path: Path, ending: str) -> None:
    prompt = '火🚀é"\\\n\t\0' * 1300  # 10 kB as text, three times as much as ASCII
    lone = "\ud83d"  # half a character: JSON can, UTF-8 cannot
    recipe = {"prompt": prompt, "lone": lone, "empty": {}, "seed": 2**63}
    path = write_video(tmp_path / f"é {'日本'}{ending}", CLIP[:1], 24, recipe)
    assert read_recipe(path) == recipe


def test_no_recipe(tmp_path: Path) -> None:
    for ending in [*ENDINGS, ".png"]:
        assert read_recipe(write_video(tmp_path / f"clip{ending}", CLIP[:1], 24)) is None
    Image.new("RGB", (8, 8)).save(tmp_path / "other.gif", comment="made by hand")
    assert read_recipe(tmp_path / "other.gif") is None


def test_a_recipe_json_cannot_hold_is_refused_before_writing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written as JSON"):
        write_video(tmp_path / "clip.mp4", CLIP, 24, {"prompt": object()})
    assert names(tmp_path) == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_same_frames_same_bytes(tmp_path: Path, ending: str) -> None:
    first = content(write_video(tmp_path / f"first{ending}", CLIP, 24, RECIPE))
    for i in range(2):
        assert content(write_video(tmp_path / f"again{i}{ending}", CLIP, 24, RECIPE)) == first


def test_same_bytes_from_x264_many_times(tmp_path: Path) -> None:
    """Its macroblock tree gave other bytes in one run of ten at this size; see _ENCODERS."""
    rng = np.random.default_rng(0)
    clip = np.clip(make_clip(48).astype(int) + rng.integers(-9, 10, (48, 64, 64, 3)), 0, 255).astype(np.uint8)
    assert len({write_video(tmp_path / "clip.mp4", clip, 24).read_bytes() for _ in range(12)}) == 1


def test_webm_without_vp9(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoders = [entry for entry in containers._ENCODERS[".webm"] if entry[0] != "libvpx-vp9"]
    if encoders[0][0] in av.codecs_available:
        monkeypatch.setitem(containers._ENCODERS, ".webm", encoders)
        path = write_video(tmp_path / "clip.webm", CLIP, 24, RECIPE)
        clip = read_video(path)
        assert probe(path).codec in ("av1", "libdav1d") and probe(path).recipe == RECIPE
        assert clip.frames.shape == CLIP.shape and psnr(clip.frames, CLIP) > 33
    monkeypatch.setitem(containers._ENCODERS, ".webm", [("no-such-encoder", {})])
    with pytest.raises(UserError, match=r"cannot write \.webm"):
        write_video(tmp_path / "other.webm", CLIP, 24)
    assert "other.webm" not in names(tmp_path)


def test_importing_is_light() -> None:
    program = "import sys, makeavideo.media.writer; print([m for m in ('torch', 'av', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory in Linux's units")
def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path) -> None:
    program = """
import sys, numpy as np
from makeavideo.media.writer import write_video
def memory():  # resident, MiB; the kernel's own peak is inherited from the parent
    return int(open("/proc/self/statm").read().split()[1]) * 4 // 1024
def frames(n):
    for i in range(n):
        yield np.full((160, 160, 3), i % 256, np.uint8)
        if i in (50, n - 1):
            peaks.append(memory())
for ending in (".gif", ".webp", ".mp4"):
    peaks = []
    write_video(f"{sys.argv[1]}/clip{ending}", frames(300), 24)
    print(ending, peaks[1] - peaks[0])
"""
    result = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    grown = {line.split()[0]: int(line.split()[1]) for line in result.stdout.splitlines()}
    assert len(grown) == 3 and max(grown.values()) < 8, (
        grown
    )  # MiB; 250 frames are 18 MiB, 24 as FFmpeg's gif holds them


@pytest.mark.parametrize("ending", [".mp4", ".webm", ".webp"])
def test_quality_is_the_encoders(tmp_path, ending):
    noise = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    files = [write_video(tmp_path / f"{quality}{ending}", noise, 24, quality=quality) for quality in (5, 50, 95)]
    assert files[0].stat().st_size < files[1].stat().st_size < files[2].stat().st_size
    errors = [np.abs(read_video(file).frames.astype(int) - noise).mean() for file in files]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize(("name", "quality"), [("a.gif", 50), ("a.png", 50), ("a", 50), ("a.mp4", 0), ("a.webp", 101)])
def test_a_quality_that_is_none_is_refused(tmp_path, name, quality):
    with pytest.raises(UserError, match="quality"):
        write_video(tmp_path / name, CLIP[:1], 24, quality=quality)
    assert not list(tmp_path.iterdir())
