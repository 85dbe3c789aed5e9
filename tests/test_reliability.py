"""What the soak found, or would have: each fault with what must be instead."""

import sqlite3
import subprocess
import sys
import types

import gradio as gr
import pytest
import torch
from diffusers import DiffusionPipeline
from fastapi import FastAPI
from safetensors.torch import load_file, save_file

from conftest import interruptible
from makeavideo import UserError
from makeavideo.cli import main as command
from makeavideo.pipeline import MakeAVideoPipeline
from makeavideo.serving import CALLS_KEPT, PAGES_KEPT, bound_sessions
from makeavideo.votes.page import Page
from makeavideo.votes.store import Store
from makeavideo.web.jobs import PREVIEWS_KEPT, Jobs
from studio_page import wait_until
from tiny_votes import fake_pairs


def test_diffusers_own_door_is_guarded_too(tiny_model, tmp_path):
    """`DiffusionPipeline.from_pretrained` finds the class, and never gives random numbers in place of weights."""
    import shutil

    pipe = DiffusionPipeline.from_pretrained(tiny_model)
    assert type(pipe) is MakeAVideoPipeline
    same = MakeAVideoPipeline.from_pretrained(tiny_model)
    assert all(torch.equal(a, b) for a, b in zip(pipe.decoder.parameters(), same.decoder.parameters(), strict=True))
    model = shutil.copytree(tiny_model, tmp_path / "model")
    file = next((model / "prior").glob("*.safetensors"))
    whole = load_file(file)
    lost = min(whole)
    save_file({key: tensor for key, tensor in whole.items() if key != lost}, file, {"format": "pt"})
    with pytest.raises(UserError, match=f"it lacks weights, {lost}"):
        DiffusionPipeline.from_pretrained(model)


def test_calls_over_http_are_forgotten():
    """Gradio kept each of them, with a copy of the page: 0.3 MB a job, 6.5 % more memory after 200."""
    with gr.Blocks() as page:
        gr.State(0)
    gr.mount_gradio_app(FastAPI(), page, path="/")
    bound_sessions(page)
    held = page.state_holder
    held["browser"]
    for number in range(100):
        held[f"{number:032x}"]
    assert len(held.session_data) == len(held.time_last_used) == CALLS_KEPT + 1 and "browser" in held
    assert f"{99:032x}" in held
    for number in range(300):
        held[f"page{number}"]
    assert len(held.session_data) == PAGES_KEPT and "page299" in held


def test_previews_of_old_jobs_are_forgotten():
    def work(job) -> str:
        job.show(bytes(1000), "large")
        return "made.mp4"

    jobs = Jobs(work, 50)
    all_of_them = [jobs.submit("generate", None) for _ in range(20)]
    wait_until(lambda: all(job.over for job in all_of_them))
    assert [bool(job.preview) for job in all_of_them] == [False] * (20 - PREVIEWS_KEPT) + [True] * PREVIEWS_KEPT


def test_ctrl_c_before_anything_is_made_is_no_silence(monkeypatch, capsys):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "makeavideo.media.reader", types.SimpleNamespace(probe=interrupted))
    monkeypatch.setattr(sys, "argv", ["make-a-video", "info", "x.mp4"])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == command.INTERRUPTED
    assert capsys.readouterr().err.strip().endswith("make-a-video: Stopped before anything was made.")


def test_the_page_says_that_a_vote_cannot_be_kept(tmp_path, monkeypatch):
    pairs = fake_pairs(tmp_path, 2)
    store = Store.create(tmp_path / "v.sqlite", pairs)
    with gr.Blocks():
        page = Page(store, {pair.name: pair for pair in pairs})
    hand = store.hand_out("Ada")

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("makeavideo.votes.store._connect", full)
        told = page.said(page.on_save)("Ada", hand.token, "left", "left")
    assert list(told) == [page.message] and "is full: free some space, and save again" in told[page.message]
    page.said(page.on_save)("Ada", hand.token, "left", "left")
    assert len(store.votes()) == 2


def test_an_upload_that_a_killed_studio_left_half_goes(uploads, tmp_path, monkeypatch):
    from makeavideo.media.disk import temporary_in

    with monkeypatch.context() as patched:
        patched.setattr("makeavideo.media.disk.os.getpid", lambda: 2**22 + 1)  # of a process that is no more
        left = temporary_in(uploads.folder)
    left.write_bytes(b"half")
    (tmp_path / "a.png").write_bytes(b"whole")
    uploads.keep(tmp_path / "a.png", "a.png")
    assert not left.exists() and len([file for file in uploads.folder.iterdir() if file.is_file()]) == 1


def test_ctrl_c_at_the_very_end_is_no_silent_death():
    """Once Python had put its handlers away, a signal ended a command without a word."""
    code = (
        "import atexit, signal, sys\n"
        "atexit.register(lambda: print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN))\n"
        "from makeavideo.cli.main import main\n"
        "sys.argv = ['make-a-video', '--help']\n"
        "main()"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=interruptible)
    assert made.returncode == 0 and made.stdout.endswith("True\n")
