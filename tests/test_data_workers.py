"""Processes that share work give it in order, and one that is killed is one sentence."""

import multiprocessing
import os
import signal
import time

import psutil
import pytest

from makeavideo import UserError
from makeavideo.data.indexing import build_index
from makeavideo.data.pack import pack
from makeavideo.data.workers import mapped
from tiny_clips import picture


def process(number: int) -> tuple[int, int]:
    return number, os.getpid()


def killed(*arguments, **options):
    """As Linux does it where memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_results_come_in_order_and_one_worker_is_this_process():
    made = list(mapped(process, range(20), 2))
    assert [number for number, _ in made] == list(range(20)) and os.getpid() not in {pid for _, pid in made}
    assert list(mapped(process, range(2), 1)) == [(0, os.getpid()), (1, os.getpid())]


def test_a_killed_process_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    picture(tmp_path / "data" / "a.png")
    monkeypatch.setattr("makeavideo.data.indexing.look_through", killed)
    monkeypatch.setattr("makeavideo.data.pack.encode_item", killed)
    with pytest.raises(UserError, match="was killed, maybe for want of memory: start again with fewer --workers"):
        build_index([str(tmp_path / "data")], tmp_path / "set.index", workers=2)
    with pytest.raises(UserError, match="was killed, maybe"):
        pack(tmp_path / "data", tmp_path / "packed", 8, workers=2)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("set")) == []


def tells_and_stays(pipe) -> None:
    pipe.send(os.getpid())
    time.sleep(600)


def test_workers_end_with_a_process_that_is_killed():
    here, there = multiprocessing.Pipe()
    driver = multiprocessing.Process(target=lambda: list(mapped(tells_and_stays, [there, there], 2)))
    driver.start()
    workers = [psutil.Process(here.recv()) for _ in range(2)]
    driver.kill()
    driver.join()
    gone, alive = psutil.wait_procs(workers, 30)
    for left in alive:
        left.kill()
    assert len(gone) == 2
