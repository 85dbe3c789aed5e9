"""What fails leaves nothing behind; what is stopped, or fills the disk, leaves a file that plays."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from conftest import interruptible
from makeavideo import UserError
from makeavideo.media import containers
from makeavideo.media.reader import probe, read_recipe, read_video
from makeavideo.media.writer import Terminated, VideoWriter, terminate_as_interrupt, write_video
from media_files import CLIP, ENDINGS, RECIPE, boxes, content, make_clip, names, picture_of, psnr


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
    for bad in (CLIP.astype(np.float32), CLIP[..., :1], CLIP[:, 0], CLIP.astype(int)):
        with pytest.raises(UserError, match="in memory"):
            write_video(path, bad, 24)
    with pytest.raises(UserError, match="first one's size, 64x64 pixels, not 64x32"):
        write_video(path, [CLIP[0], CLIP[0, :32]], 24)
    with pytest.raises(UserError, match="no frames"):
        write_video(path, [], 24)
    for bad in (None, 5, "frames", {"frames": CLIP}):
        with pytest.raises(UserError, match="is no video in memory: give pictures"):
            write_video(path, bad, 24)
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


# Writes frames without end, and says how each call ended.
ENDLESS = """
import itertools, signal, sys
sys.path.insert(0, sys.argv[3])
from media_files import picture_of
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


# Interrupts the n-th step of Python's own machine inside `write`, for every n, and leaves one whole file each time.
EVERY_STEP = """
import itertools, sys
sys.path.insert(0, sys.argv[2])
from media_files import CLIP
from makeavideo.media.reader import probe
from makeavideo.media.writer import Terminated, VideoWriter
def interrupt(at):
    steps = itertools.count(1)
    def trace(frame, event, arg):
        frame.f_trace_opcodes = True
        if event == "opcode" and next(steps) == at:
            sys.settrace(None)
            raise Terminated
        return trace
    with VideoWriter(sys.argv[1], 24) as writer:
        writer.write(CLIP[0])
        sys.settrace(trace)
        writer.write(CLIP[1])
        sys.settrace(None)
for at in itertools.count(1):
    print("step", at, flush=True)
    try:
        interrupt(at)
    except Terminated:
        assert probe(sys.argv[1]).num_frames in (1, 2)
    else:
        break
"""


def test_an_interrupt_at_any_step_leaves_nothing_locked(tmp_path: Path) -> None:
    """concurrent.futures hung at step 218: the lock that it had just taken was never given back."""
    command = [sys.executable, "-c", EVERY_STEP, str(tmp_path / "clip.gif"), str(Path(__file__).parent)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, f"{run.stdout[-20:]}{run.stderr}"
    assert run.stdout.count("step") > 50


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("ending", [".mp4", ".webm"])
def test_a_kill_leaves_what_was_whole(tmp_path: Path, ending: str) -> None:
    """Nothing can give it its name, but every second that was done plays."""
    process = start_endless(tmp_path / f"clip{ending}", "")
    assert process.stdout.readline() == "going\n"
    process.kill()
    process.communicate(timeout=60)
    (name,) = names(tmp_path)
    count = 0
    with av.open(str(tmp_path / name)) as container, contextlib.suppress(av.error.FFmpegError):
        for _ in container.decode(video=0):
            count += 1
    assert name.startswith(".makeavideo-") and container.metadata and count > 20


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("ending", [".mp4", ""])
def test_what_a_killed_run_left_goes_with_the_next_one(tmp_path: Path, ending: str) -> None:
    """And nothing of one that still runs."""
    running, killed = (start_endless(tmp_path / f"{name}{ending}", "") for name in ("running", "killed"))
    for process in (running, killed):
        assert process.stdout.readline() == "going\n"
    (left,) = (name for name in names(tmp_path) if f"-{killed.pid}-" in name)
    killed.kill()
    killed.communicate(timeout=60)
    assert left in names(tmp_path)
    write_video(tmp_path / f"next{ending}", CLIP[:2], 24)
    after = names(tmp_path)
    running.kill()
    running.communicate(timeout=60)
    assert left not in after and f"next{ending}" in after
    assert any(f"-{running.pid}-" in name for name in after)


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
