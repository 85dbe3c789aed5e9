"""Workers on a Ray cluster: a process with the model each, and a loop that hands out the jobs.

Actors and tasks of Ray's core, not Ray Data: of a prompt that kills its worker Ray Data says no more than that a block
is lost. Nothing on the machines of the workers is needed but this package and the model; files travel through Ray, and
only the process that the user started writes them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
import socket
import tempfile
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..media.disk import temporary_in
from ..orders import Additions, Machine
from .jobs import Job
from .making import Made, NoRoom, first_line, make

ATTEMPTS = 2
"""Workers that a job may lose before it is given up."""
BAD_STARTS = 3
"""Workers that may be lost one after the other while they load the model."""


@dataclass(frozen=True)
class Cluster:
    """What to use of which cluster.

    address: "local" starts one on this machine; "auto" or HOST:PORT is one that runs.
    workers: processes, each with the model; None: one a GPU, or as many as there are processors for.
    threads: of a worker.

    Raises:
        UserError: an address that is none.
    """

    address: str
    workers: int | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        if self.address not in ("local", "auto") and not re.fullmatch(r"[\w.-]+:\d{1,5}", self.address):
            raise UserError(f"--ray {self.address} is not possible: choose local, auto or HOST:PORT.")

    def knock(self) -> None:
        """Raises UserError where nobody answers at the address: Ray would wait for minutes."""
        host, colon, port = self.address.partition(":")
        if colon:
            try:
                socket.create_connection((host, int(port)), 10).close()
            except (OSError, OverflowError) as error:
                told = f"There is no Ray cluster at {self.address} ({first_line(error)})"
                raise UserError(f"{told}: give local, auto or the address of one.") from None


class Worker:
    """An actor.

    `load` is no `__init__`, whose errors Ray gives back as text. It raises UserError where the model cannot be loaded,
    or has not the weights that the batch was planned with.
    """

    def load(self, folder: Path, weights: str, machine: Machine, threads: int, additions: Additions) -> None:
        import torch

        from ..orders import Model

        torch.set_num_threads(threads)
        self.model = Model(folder, machine, additions)
        if self.model.weights != weights:
            raise UserError(f"The model {folder} on {os.uname().nodename} has other weights: copy it there again.")

    def make(self, job: Job) -> Made:
        """With the bytes of the file."""
        place = temporary_in(Path(tempfile.gettempdir()))  # which clears away what a killed worker left there
        place.mkdir(mode=0o700)
        path = place / f"video{Path(job.name).suffix}"
        try:
            made = make(self.model, job, path)
            return made if made.error is not None else replace(made, data=path.read_bytes())
        except NoRoom as error:
            return Made(job, {}, error=str(error))
        finally:
            shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def connected(cluster: Cluster) -> Iterator[tuple[int, dict[str, float]]]:
    """(workers, what each of them takes of the cluster), as long as it is open.

    Raises:
        UserError: Ray is not installed, cannot be reached, or has not so much.
    """
    # of a cluster that is started here: Ray would tell its makers, and give way to whatever else runs (niceness 15)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
    except ImportError:
        raise UserError("--ray needs Ray: pip install 'makeavideo[ray]'.") from None
    cluster.knock()
    stop = signal.getsignal(signal.SIGTERM)
    try:
        try:
            ray.init(cluster.address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            told = f"There is no Ray cluster at {cluster.address} ({first_line(error)})"
            raise UserError(f"{told}: give local, auto or the address of one.") from None
        signal.signal(signal.SIGTERM, stop)  # Ray has put its own there
        yield room_in(cluster, ray.cluster_resources())
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, stop)


def room_in(cluster: Cluster, has: Mapping[str, float]) -> tuple[int, dict[str, float]]:
    """See `connected`."""
    gpus = int(has.get("GPU", 0))
    takes = {"num_cpus": float(cluster.threads), "num_gpus": 1.0 if gpus else 0.0}
    most = int(has.get("CPU", 0) // cluster.threads)
    most = min(gpus, most) if gpus else most
    workers = cluster.workers or most
    if not 1 <= workers <= most:
        threads = "1 thread" if cluster.threads == 1 else f"{cluster.threads} threads"
        raise UserError(f"The cluster has room for {most} workers of {threads}, not {workers or 1}: choose fewer.")
    return workers, takes


class Crew:
    """The workers, each of which has one job at most; in place of one that dies another one begins.

    Args:
        count: of workers, `takes` what each of them takes of the cluster.
        arguments: of `Worker.load`.
    """

    def __init__(self, count: int, takes: dict[str, float], *arguments: Any) -> None:
        import ray

        self._actor = ray.remote(Worker).options(max_restarts=0, **takes)
        self._count, self._arguments = count, arguments
        self._jobs: deque[Job] = deque()
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Job | None]] = {}
        """What is waited for -> the worker, and its job; None: it loads the model."""
        self._lost: Counter[str] = Counter()
        """Workers that were lost over a job, by its name; "" while they loaded the model, one after the other."""

    def run(self, jobs: Sequence[Job]) -> Iterator[Made]:
        """What comes of the jobs, as they are done.

        Raises:
            UserError: the model cannot be loaded there.
        """
        import ray

        self._jobs.extend(jobs)
        for _ in range(min(self._count, len(jobs))):
            self._start()
        left = len(jobs)
        while left:
            (done,), _ = ray.wait(list(self._busy), num_returns=1)
            made = self._result(done)
            self._hand_out()
            if made is not None:
                left -= 1
                yield made

    def _start(self) -> None:
        worker: Any = self._actor.remote()
        self._busy[worker.load.remote(*self._arguments)] = (worker, None)

    def _hand_out(self) -> None:
        while self._jobs and self._idle:
            worker, job = self._idle.pop(), self._jobs.popleft()
            self._busy[worker.make.remote(job)] = (worker, job)

    def _result(self, done: Any) -> Made | None:
        """Of a job; None where a worker has loaded the model, or is lost and its job waits for another one."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        worker, job = self._busy.pop(done)
        try:
            made: Made | None = ray.get(done)  # type: ignore[assignment]
        except RayTaskError as error:
            if job is None:
                raise UserError(first_line(error.cause)) from None
            made = Made(job, {}, error=first_line(error.cause))
        except RayError as error:
            return self._lose(job, error)
        self._lost[""] = 0
        self._idle.append(worker)
        return made

    def _lose(self, job: Job | None, error: Exception) -> Made | None:
        """A worker is gone: killed, out of memory, or its machine is."""
        name = job.name if job is not None else ""
        self._lost[name] += 1
        if job is None and self._lost[name] >= BAD_STARTS:
            raise UserError(f"The workers die while they load the model ({first_line(error)}): choose fewer --workers.")
        given_up = job is not None and self._lost[name] >= ATTEMPTS
        if job is not None and not given_up:
            self._jobs.appendleft(job)
        if self._jobs and not self._idle:
            self._start()
        return (
            Made(job, {}, error=f"Its worker died {ATTEMPTS} times: {first_line(error)}") if job and given_up else None
        )
