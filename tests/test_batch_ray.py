"""`make-a-video batch --ray local`: a real cluster on this machine, workers and drivers that are killed."""

import contextlib
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from conftest import interruptible, one_thread
from test_batch import SMALL, lines_of, made_in, wait_for, write
from test_cli import command, run

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]  # starting a cluster takes half a minute of a core
LONG = ["--size", "64", "--steps", "4"]
RAY = ["--ray", "local", "--workers"]


@pytest.fixture
def start(tiny_model):
    """Starts the command; what still runs at the end is killed."""
    started = []

    def call(prompts: Path, out: Path, workers: int, *options: str) -> subprocess.Popen:
        arguments = command("batch", prompts, out, "--model", tiny_model, *RAY, workers, *options)
        started.append(subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible))
        return started[-1]

    yield call
    for process in started:
        process.kill()


def family(process: subprocess.Popen) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def ended(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


def at_work(process: subprocess.Popen) -> list[psutil.Process]:
    """The workers that make a video."""
    found = []
    for one in family(process):
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie is one too
            found += [one] if "Worker.make" in " ".join(one.cmdline()) else []
    return found


def test_the_same_bytes_as_without_and_nothing_twice(start, tiny_model, tmp_path):
    prompts = write(tmp_path / "a.csv", "prompt,size,output", "a cat,16,a.mp4", "a cat,5,", "a rocket,64,sub/b.webp")
    with one_thread():  # as a worker: a file says how many threads made it
        here = run("batch", prompts, tmp_path / "here", "--model", tiny_model, *SMALL)
    process = start(prompts, tmp_path / "there", 2, *SMALL)
    _, said = process.communicate(timeout=300)
    assert (process.returncode, here.returncode) == (1, 1)
    assert "2 made, 0 there already, 1 failed" in said and "line 3: --size 5 is not possible" in said
    one, two = made_in(tmp_path / "here"), made_in(tmp_path / "there")
    assert {name: data for name, (data, _) in one.items()} == {name: data for name, (data, _) in two.items()}
    assert [(told["line"], told["status"]) for told in lines_of(tmp_path / "there")] == [
        *((2, "made"), (3, "failed"), (4, "made"))
    ]
    assert "0 made, 2 there already" in run("batch", prompts, tmp_path / "there", "--model", tiny_model, *SMALL).stderr


def test_a_worker_and_the_driver_are_killed(start, tmp_path):
    """The worker's video is made by another one; the driver takes the cluster along, and the next one goes on."""
    out, prompts = tmp_path / "out", write(tmp_path / "a.txt", *["a cat", "a rocket", "a red cat"] * 4)
    process = start(prompts, out, 2, *LONG)
    wait_for(lambda: at_work(process))
    at_work(process)[0].kill()
    wait_for(lambda: len(made_in(out)) >= 4)
    helpers = family(process)
    process.kill()
    process.communicate(timeout=60)
    left = made_in(out)
    assert 4 <= len(left) < 12
    wait_for(lambda: all(ended(one) for one in helpers))
    process = start(prompts, out, 2, *LONG)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0 and f"{12 - len(left)} made, {len(left)} there already" in said
    after = made_in(out)
    assert len(after) == 12 and left.items() <= after.items()
    assert sorted(told["line"] for told in lines_of(out)) == list(range(1, 13))


def test_a_prompt_that_kills_its_workers_is_given_up(start, tmp_path):
    prompts = write(tmp_path / "a.csv", "prompt,num_frames,size", "a rocket,4000,192", "a cat,3,16", "a red cat,3,16")
    process = start(prompts, tmp_path / "out", 1)
    for _ in range(2):
        wait_for(lambda: at_work(process))
        (worker,) = at_work(process)
        worker.kill()
        wait_for(lambda worker=worker: ended(worker))
    _, said = process.communicate(timeout=300)
    assert process.returncode == 1 and "line 2: Its worker died 2 times" in said
    assert [told["status"] for told in lines_of(tmp_path / "out")] == ["failed", "made", "made"]


def test_what_the_cluster_does_not_have_is_one_sentence(start, tmp_path):
    process = start(write(tmp_path / "a.txt", "a cat"), tmp_path / "out", 1000, *SMALL)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 2 and "not 1000: choose fewer" in said and "Traceback" not in said


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_what_is_stopped_says_so(how, start, tmp_path):
    out = tmp_path / "out"
    process = start(write(tmp_path / "a.txt", *["a cat"] * 8), out, 1, *LONG)
    wait_for(lambda: len(made_in(out)) >= 1)
    helpers = family(process)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2 and f"Stopped: {len(made_in(out))} of 8 videos are made" in said
    assert len(lines_of(out)) == len(made_in(out))
    wait_for(lambda: all(ended(one) for one in helpers))
