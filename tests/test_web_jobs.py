"""The queue of the studio: bounded, in order, fair."""

import threading
import time

import pytest

from makeavideo.errors import UserError
from makeavideo.web.jobs import Job, Jobs, Stopped
from studio_page import wait_until


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
