"""Every format with real files: what is written is read back, and what fails leaves nothing behind."""

import io
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from conftest import interruptible
from makeavideo import UserError
from makeavideo.media import containers, disk
from makeavideo.media.contact_sheet import contact_sheet
from makeavideo.media.formats import FORMATS, check_writable
from makeavideo.media.pictures import to_rgb
from makeavideo.media.reader import probe, read_recipe, read_video
from makeavideo.media.writer import Terminated, VideoWriter, terminate_as_interrupt, write_video

ENDINGS = [".mp4", ".webm", ".gif", ".webp", ""]
MIN_PSNR = {".mp4": 36, ".webm": 36, ".gif": 33, ".webp": 36, "": 99}
RECIPE = {"prompt": "une fusée 🚀 décolle\n«日本»", "seed": 7, "settings": {"steps": 30, "guidance": 4.5}, "none": None}


def make_clip(num_frames: int = 12, size: int = 64) -> np.ndarray:
    """A soft coloured disc that crosses a white ground: uint8 (num_frames, size, size, 3)."""
    y, x = np.mgrid[0:size, 0:size] / size
    frames = []
    for i in range(num_frames):
        centre = 0.25 + 0.5 * i / max(num_frames - 1, 1)
        inside = 1 / (1 + np.exp(((x - centre) ** 2 + (y - 0.5) ** 2 - 0.04) * 200))[..., None]
        colour = np.stack([0.9 - 0.5 * x, 0.2 + 0.6 * y, 0.3 + 0 * x], axis=-1)
        frames.append(np.round(255 * (inside * colour + 1 - inside)).astype(np.uint8))
    return np.stack(frames)


CLIP = make_clip()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(np.float64) - b) ** 2)
    return 10 * np.log10(255**2 / max(error, 1e-10))


def decode_elsewhere(path: Path) -> np.ndarray:
    """The frames by another way than ours: ffmpeg if there is one, else FFmpeg's defaults through PyAV."""
    if shutil.which("ffmpeg"):
        command = [
            "ffmpeg",
            "-v",
            "error",
            "-i",
            path,
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
            "-fps_mode",
            "passthrough",
        ]
        raw = subprocess.run([*command, "-"], check=True, capture_output=True).stdout
        return np.frombuffer(raw, np.uint8).reshape(-1, *CLIP.shape[1:])
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def content(path: Path) -> bytes | dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(path.iterdir())} if path.is_dir() else path.read_bytes()


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


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


def boxes(data: bytes) -> list[str]:
    found, place = [], 0
    while place < len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        found.append(name.decode())
        place += length
    return found


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
    with pytest.raises(TypeError):
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


# Nothing is left when something fails


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("after", [0, 5])
def test_frames_that_fail_half_way(tmp_path: Path, ending: str, after: int) -> None:
    def frames():
        yield from CLIP[:after]
        raise RuntimeError("out of ideas")

    path = tmp_path / f"clip{ending}"
    with pytest.raises(RuntimeError, match="out of ideas"):
        write_video(path, frames(), 24, RECIPE)
    assert names(tmp_path) == []

    write_video(path, CLIP[:2], 24)
    before = content(path)
    with pytest.raises(RuntimeError, match="out of ideas"):
        write_video(path, frames(), 24, RECIPE)
    assert names(tmp_path) == [path.name] and content(path) == before


def test_wrong_frames(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    for bad in (CLIP.astype(np.float32), CLIP[..., :1], CLIP[:, 0]):
        with pytest.raises(ValueError, match="a frame must be uint8"):
            write_video(path, bad, 24)
    with pytest.raises(ValueError, match="first one's size"):
        write_video(path, [CLIP[0], CLIP[0, :32]], 24)
    with pytest.raises(ValueError, match="no frames"):
        write_video(path, [], 24)
    with pytest.raises(UserError, match="needs even sides"):
        write_video(path, CLIP[:, :63], 24)
    with pytest.raises(UserError, match=r"a \.png holds one picture"):
        write_video(tmp_path / "clip.png", CLIP, 24)
    assert names(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on file size")
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_full_disk_is_one_sentence(tmp_path: Path, ending: str) -> None:
    import resource

    noise = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"^cannot write .*: file too large$"):
            write_video(tmp_path / f"clip{ending}", noise, 24)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_interrupt_can_keep_what_there_is(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"clip{ending}"
    with pytest.raises(KeyboardInterrupt), VideoWriter(path, 24, RECIPE, keep_partial=False) as writer:
        writer.write(CLIP[0])
        raise KeyboardInterrupt
    assert names(tmp_path) == []
    with pytest.raises(KeyboardInterrupt), VideoWriter(path, 24, RECIPE, keep_partial=True) as writer:
        for frame in CLIP[:7]:
            writer.write(frame)
        raise KeyboardInterrupt
    assert names(tmp_path) == [path.name]
    assert read_video(path).frames.shape[0] == writer.num_frames == 7 and read_recipe(path) == RECIPE


def picture_of(index: int, size: int = 64) -> np.ndarray:
    """A frame whose grey level and shifting grain tell its index."""
    grain = np.random.default_rng(index).integers(-12, 13, (size, size, 3))
    return np.clip(20 + index * 7 % 200 + grain, 0, 255).astype(np.uint8)


# Writes frames without end, and says how each call ended.
ENDLESS = """
import itertools, signal, sys
sys.path.insert(0, sys.argv[3])
from test_video import picture_of
from makeavideo import UserError
from makeavideo.media.writer import VideoWriter, terminate_as_interrupt
if sys.argv[2] == "exit":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
if sys.argv[2].startswith("limit"):
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2][5:]), resource.RLIM_INFINITY))
def run():
    with VideoWriter(sys.argv[1], 24, {"seed": 7}) as writer:
        try:
            for i in itertools.count():
                writer.write(picture_of(i))
                if i == 60:
                    print("going", flush=True)
        except UserError as error:
            print("given", i, "kept", writer.num_frames, flush=True)
            print(error)
if sys.argv[2] == "exit":
    run()
else:
    with terminate_as_interrupt():
        run()
"""


def start_endless(path: Path, mode: str) -> subprocess.Popen:
    command = [sys.executable, "-c", ENDLESS, str(path), mode, str(Path(__file__).parent)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, preexec_fn=interruptible, **pipes)


def assert_holds_the_first_frames(path: Path, count: int | None = None) -> int:
    """Every frame is there, none is missing, and the recipe too."""
    clip = read_video(path)
    assert count is None or len(clip.frames) == count
    tick = {".gif": 0.01, ".webp": 0.001, ".webm": 0.001}.get(path.suffix, 1e-6)
    assert np.abs(clip.times - np.arange(len(clip.times)) / 24).max() <= tick / 2 + 1e-9
    expected = np.array([picture_of(i).mean() for i in range(len(clip.frames))])
    assert np.abs(clip.frames.mean(axis=(1, 2, 3)) - expected).max() < 3
    assert read_recipe(path) == {"seed": 7}
    assert probe(path).num_frames == len(clip.frames)
    return len(clip.frames)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("mode", ["ctrl-c", "terminate", "exit"])
def test_a_real_signal_leaves_a_playable_file(tmp_path: Path, ending: str, mode: str) -> None:
    path = tmp_path / f"clip{ending}"
    process = start_endless(path, mode)
    assert process.stdout.readline() == "going\n"
    process.send_signal(signal.SIGINT if mode == "ctrl-c" else signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert {"ctrl-c": "KeyboardInterrupt", "terminate": "Terminated", "exit": ""}[mode] in errors
    assert process.returncode == (143 if mode == "exit" else process.returncode) != 0
    assert names(tmp_path) == [path.name]
    assert assert_holds_the_first_frames(path) > 60
    if ending == ".mp4":
        order = boxes(path.read_bytes())
        assert order.index("moov") < order.index("mdat") and "moof" not in order


def assert_the_disk_was_full(path: Path, process: subprocess.Popen, reason: str, at_most_lost: int) -> int:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    given, kept = (int(word) for word in output.split("given ")[1].split("\n")[0].split(" kept "))
    sentence = output.strip().splitlines()[-1]
    assert re.fullmatch(
        rf"cannot write more to .*: {reason}; its first {kept} frames \({kept / 24:.1f} s\) are kept in "
        rf"{re.escape(str(path))}, free some space and start again for the rest",
        sentence,
    )
    assert names(path.parent) == [path.name]
    assert 0 <= given + 1 - kept <= at_most_lost, (given, kept)
    return assert_holds_the_first_frames(path, kept)


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on file size")
@pytest.mark.parametrize(("ending", "lost"), [(".mp4", 100), (".webm", 60), (".webp", 2), (".gif", 120)])
def test_a_limit_on_the_file_leaves_a_playable_file(tmp_path: Path, ending: str, lost: int) -> None:
    """No reserve helps against it: what the encoder holds back is lost, and a gif's frames wait in large files."""
    path = tmp_path / f"clip{ending}"
    assert assert_the_disk_was_full(path, start_endless(path, "limit250000"), "file too large", lost) > 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 640 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=640k", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here: it needs Linux and root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_full_disk_leaves_a_playable_file(small_disk: Path, ending: str) -> None:
    path = small_disk / f"clip{ending}"
    process = start_endless(path, "")
    assert assert_the_disk_was_full(path, process, "no space left on device", 1) > 20
    with pytest.raises(UserError, match="no space left"), VideoWriter(small_disk / f"other{ending}", 24) as writer:
        for i in range(200):  # there is no room for even one
            writer.write(np.random.default_rng(i).integers(0, 256, (512, 512, 3), dtype=np.uint8))
    assert path.name in names(small_disk) and not any(name.startswith(".") for name in names(small_disk))


def test_fragments_stay_where_there_is_no_room_for_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(containers.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    path = write_video(tmp_path / "clip.mp4", make_clip(60), 24, RECIPE)
    assert "moof" in boxes(path.read_bytes()) and names(tmp_path) == ["clip.mp4"]
    clip = read_video(path)
    assert psnr(clip.frames, make_clip(60)) > 36 and clip.fps == 24 and read_recipe(path) == RECIPE


def test_a_full_disk_can_leave_what_was_there_before(small_disk: Path) -> None:
    path = small_disk / "clip.mp4"
    write_video(path, CLIP, 24)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"no space left on device$"):
        write_video(path, (picture_of(i, 256) for i in range(2000)), 24)
    assert names(small_disk) == ["clip.mp4"] and path.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_terminate_as_interrupt() -> None:
    called = []
    before = signal.signal(signal.SIGTERM, lambda *_: called.append("before"))
    try:
        with pytest.raises(Terminated), terminate_as_interrupt():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        assert issubclass(Terminated, KeyboardInterrupt)
        os.kill(os.getpid(), signal.SIGTERM)
        assert called == ["before"]

        def elsewhere() -> None:
            with terminate_as_interrupt():
                called.append("thread")

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert called == ["before", "thread"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_writer_by_hand(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "clip.mp4", 24)
    reused = np.empty_like(CLIP[0])
    for frame in CLIP:
        reused[:] = frame  # the caller may use one buffer for all
        writer.write(reused)
    assert names(tmp_path)[0].startswith(".")
    assert writer.close() == writer.close() == tmp_path / "clip.mp4"
    assert psnr(read_video(writer.path).frames, CLIP) > 36
    with pytest.raises(ValueError, match="closed already"):
        writer.write(CLIP[0])
    other = VideoWriter(tmp_path / "other.webp", 24)
    other.write(CLIP[0])
    other.abort()
    assert names(tmp_path) == ["clip.mp4"]


# Where to write


def test_check_writable_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("x")
    for path, sentence in {
        "": "is not a file name",
        tmp_path / "clip.avi": r"the ending \.avi is unknown, use \.mp4, \.webm, \.gif, \.webp, \.png",
        tmp_path / "v1.5": r"the ending \.5 is unknown",
        tmp_path / ".mp4": "nothing before its ending",
        tmp_path / "folder.mp4": "a folder of that name exists",
        tmp_path / "file": "a file of that name exists",
        f"{tmp_path}/file/": "a file of that name exists",
        tmp_path / "file" / "clip.mp4": "part of the path is a file",
        tmp_path / "mine": r"holds other things \(diary\.txt\)",
        tmp_path / ("n" * 300 + ".mp4"): "file name too long",
    }.items():
        with pytest.raises(UserError, match=sentence) as caught:
            check_writable(path)
        assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["file", "folder.mp4", "mine"]
    assert all(ending in FORMATS for ending in ENDINGS)


def test_check_writable_in_a_folder_that_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(disk.tempfile, "TemporaryFile", refuse)  # the tests may run as root, who may write anywhere
    with pytest.raises(UserError, match="is not writable, permission denied"):
        check_writable(tmp_path / "clip.mp4")


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 51])
def test_impossible_frame_rates(tmp_path: Path, fps: float) -> None:
    with pytest.raises(UserError, match=r"frame rate is .* between 0\.01 and 50 for \.gif"):
        write_video(tmp_path / "clip.gif", CLIP, fps)
    assert names(tmp_path) == []


def test_what_is_known_beforehand_is_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one picture"):
        check_writable(tmp_path / "clip.png", num_frames=2)
    with pytest.raises(UserError, match=r"64x63 pixels: \.mp4 needs even sides"):
        check_writable(tmp_path / "clip.mp4", size=(63, 64))
    assert check_writable(tmp_path / "clip.MP4", size=(64, 64), num_frames=2, fps=24) == tmp_path / "clip.MP4"


def test_missing_folders_are_created(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a" / "b" / "clip.webp", CLIP[:2], 24)
    assert names(path.parent) == ["clip.webp"]


def test_relative_names_and_colons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_video("a:b 100%d.mp4", CLIP[:2], 24)
    assert names(tmp_path) == ["a:b 100%d.mp4"]
    assert probe("a:b 100%d.mp4").num_frames == 2


def test_folders_of_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    write_video(f"{folder}/", CLIP, 8)  # an empty one that exists
    assert len(names(folder)) == len(CLIP)
    write_video(folder, CLIP[:3], 8)  # a shorter clip leaves none of the longer one's pictures
    assert names(folder) == ["frame_00000.png", "frame_00001.png", "frame_00002.png"]
    assert read_video(folder).fps == 8
    with_dot = write_video(f"{tmp_path}/v1/", CLIP[:1], 8)
    assert names(with_dot) == ["frame_00000.png"]
    assert names(tmp_path) == ["frames", "v1"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_links_and_permissions(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real" / "clip.webp", tmp_path / "link.webp")
    write_video(tmp_path / "link.webp", CLIP[:2], 24)
    assert (tmp_path / "link.webp").is_symlink() and names(tmp_path / "real") == ["clip.webp"]
    (tmp_path / "plain").write_text("x")  # has the permissions that new files get
    assert (tmp_path / "real" / "clip.webp").stat().st_mode == (tmp_path / "plain").stat().st_mode


# Reading what others wrote


def write_av(path: Path, codec: str, pix_fmt: str, frames: np.ndarray, fps: int = 10, **options: str) -> Path:
    """A file by PyAV alone; RGBA frames keep their transparency if `pix_fmt` can."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pix_fmt
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgba" if frame.shape[2] == 4 else "rgb24")
            container.mux(stream.encode(picture.reformat(format=pix_fmt)))
        container.mux(stream.encode(None))
    return path


def half_transparent() -> np.ndarray:
    rgba = np.zeros((4, 64, 64, 4), dtype=np.uint8)
    rgba[:, :, 16:48] = (200, 30, 60, 255)
    rgba[:, :, 48:] = (0, 0, 255, 0)
    return rgba


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mov", "qtrle", "argb"),
        ("a.mov", "png", "rgba"),
        ("a.mkv", "ffv1", "bgra"),
        ("a.webm", "libvpx-vp9", "yuva420p"),
    ],
)
def test_transparency_in_videos(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    path = write_av(tmp_path / name, codec, pix_fmt, half_transparent())
    clip = read_video(path, background="#00ff00")
    assert clip.frames.shape == (4, 64, 64, 3) and clip.fps == 10
    close = 12 if codec == "libvpx-vp9" else 1
    assert np.abs(clip.frames[:, :, 2:12].astype(int) - (0, 255, 0)).max() <= close
    assert np.abs(clip.frames[:, :, 52:].astype(int) - (0, 255, 0)).max() <= close
    assert np.abs(clip.frames[:, :, 22:42].astype(int) - (200, 30, 60)).max() <= close


@pytest.mark.parametrize("ending", [".gif", ".webp", ".png"])
def test_transparency_in_pictures(tmp_path: Path, ending: str) -> None:
    images = [Image.fromarray(frame) for frame in half_transparent()[:2]]
    images[1].putpixel((20, 20), (0, 0, 0, 255))  # so that the second frame is not dropped
    options = {"lossless": True} if ending == ".webp" else {"disposal": 2} if ending == ".gif" else {}
    path = tmp_path / f"a{ending}"
    images[0].save(path, save_all=True, append_images=images[1:], duration=100, **options)
    clip = read_video(path, background="blue")
    assert clip.frames.shape == (2, 64, 64, 3) and clip.fps == 10
    assert (clip.frames[:, :, :16] == (0, 0, 255)).all() and (clip.frames[:, :, 48:] == (0, 0, 255)).all()
    assert (clip.frames[0, :, 16:48] == (200, 30, 60)).all()
    with pytest.raises(UserError, match="is not a colour"):
        read_video(path, background="bleu")


def test_half_transparency_is_composed_exactly() -> None:
    alpha = np.arange(256, dtype=np.uint8)
    rgba = np.stack([np.full(256, 10, np.uint8)] * 3 + [alpha], axis=-1)[None]
    exact = 10 * (alpha / 255) + 250 * (1 - alpha / 255)
    assert np.abs(np.asarray(to_rgb(Image.fromarray(rgba), (250, 250, 250)))[0, :, 0] - exact).max() <= 0.5 + 1e-9


def test_uneven_times(tmp_path: Path) -> None:
    images = [Image.fromarray(frame) for frame in CLIP[:4]]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=[100, 200, 0, 40])
    clip = read_video(tmp_path / "a.gif")
    assert clip.times.tolist() == pytest.approx([0, 0.1, 0.3, 0.4])  # no delay is played as 0.1 s
    assert clip.fps == pytest.approx(4 / 0.44)

    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=1000)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        for frame, ms in zip(CLIP, [0, 40, 90, 400], strict=False):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p")
            picture.pts, picture.time_base = ms, Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    assert read_video(tmp_path / "a.mkv").times.tolist() == pytest.approx([0, 0.04, 0.09, 0.4])


def test_max_frames(tmp_path: Path) -> None:
    for ending in ENDINGS:
        path = write_video(tmp_path / f"clip{ending}", CLIP, 24)
        assert len(read_video(path, max_frames=5).frames) == 5


def test_turned_by_the_camera(tmp_path: Path) -> None:
    """A telephone held upright stores a lying picture and a matrix: x' = -y, y' = x, a quarter turn clockwise."""
    path = write_video(tmp_path / "clip.mp4", CLIP[:, :32], 24)
    data = path.read_bytes()
    straight = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    place = data.index(straight, data.index(b"tkhd"))
    path.write_bytes(data[:place] + turned + data[place + 36 :])
    frames = read_video(path).frames
    assert frames.shape == (12, 64, 32, 3)
    assert psnr(frames, np.rot90(CLIP[:, :32], -1, axes=(1, 2))) > 30


def test_content_counts_not_the_name(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.webp", CLIP, 24, RECIPE).rename(tmp_path / "clip.mp4")
    assert probe(path).codec == "webp" and len(read_video(path).frames) == len(CLIP)


def test_files_that_are_no_videos(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("This is not a video.\n" * 100)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "subtitles.mp4").write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    for name, sentence in {
        "text.mp4": "is not a video that can be read",
        "empty.mp4": "is empty",
        "folder": "holds no png pictures",
        "subtitles.mp4": "is not a video that can be read",
        "sound.mp4": "has no video stream",
        "missing.mp4": "does not exist",
    }.items():
        for reader in (read_video, probe, read_recipe):
            with pytest.raises(UserError, match=sentence) as caught:
                reader(tmp_path / name)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", [".mp4", ".webm", ".gif", ".webp", ".png"])
def test_cut_off_files(tmp_path: Path, ending: str) -> None:
    path = write_video(tmp_path / f"clip{ending}", CLIP if ending != ".png" else CLIP[:1], 24)
    data = path.read_bytes()
    for part in (0.02, 0.3, 0.7, 0.97):
        path.write_bytes(data[: int(len(data) * part)])
        for reader in (read_video, probe):
            with pytest.raises(UserError, match="cut off"):
                reader(path)


def test_mkv_of_unknown_length_is_whole(tmp_path: Path) -> None:
    """A live recording does not say how long it is."""
    stream = io.BytesIO()
    stream.seekable = lambda: False
    with av.open(stream, "w", format="matroska", options={"live": "1"}) as container:
        track = container.add_stream("ffv1", rate=10)
        track.height, track.width, track.pix_fmt = 64, 64, "yuv420p"
        for frame in CLIP:
            container.mux(track.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p")))
        container.mux(track.encode(None))
    (tmp_path / "a.mkv").write_bytes(stream.getvalue())
    assert len(read_video(tmp_path / "a.mkv").frames) == len(CLIP)


# Contact sheets and start-up


def test_contact_sheet_of_clips() -> None:
    clips = [np.full((n, 8, 12, 3), 0, np.uint8) for n in (16, 3)]
    for clip in clips:
        clip[...] = np.linspace(0, 200, len(clip)).astype(np.uint8)[:, None, None, None]
    sheet = contact_sheet(clips, columns=3)
    pixels = np.asarray(sheet)
    assert sheet.mode == "RGB" and pixels.shape == (2 + 2 * 10, 2 + 3 * 14, 3)
    assert pixels[5, 5, 0] == 0 and pixels[5, 2 + 2 * 14 + 5, 0] == 200  # first and last frame
    assert pixels[15, 2 + 14 + 5, 0] == 100
    labelled = np.asarray(contact_sheet(np.stack([clips[1]] * 2), 3, ["rocket " * 40, "日本 🚀\nline two"]))
    assert labelled.shape == (2 + 2 * 24, 44, 3)
    assert labelled[2:16].min() < 128  # there is ink


def test_contact_sheet_of_pictures() -> None:
    assert contact_sheet(CLIP, columns=5).size == (2 + 5 * 66, 2 + 3 * 66)
    assert contact_sheet(list(CLIP[:3]), columns=2, labels=["a", "b", "c"]).size == (2 + 2 * 66, 2 + 2 * 80)
    for clips, columns, labels in (([], 2, None), (CLIP, 0, None), (CLIP, 2, ["a"]), (CLIP.astype(float), 2, None)):
        with pytest.raises(ValueError):
            contact_sheet(clips, columns, labels)


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
