"""`make-a-video evaluate` on small folders."""

import json
import sys

import pytest
from typer.testing import CliRunner

from makeavideo.cli.evaluate import app
from makeavideo.errors import UserError
from tiny_evaluation import run


def test_commands(networks, folders, tmp_path):
    real, made = folders / "real", folders / "made"
    output = tmp_path / "new" / "fvd.json"
    found = run("fvd", real, made, "--protocol", "original", "--frames", "8", "--bootstrap", 5, "-o", output)
    assert found == json.loads(output.read_text())
    assert found["settings"]["protocol"]["num_frames"] == 8
    assert run("fid", real, made, "--network", networks / "inception.pt", "--trust", "--frames", 2, "--bootstrap", 3)
    assert run("is", made, "--network", networks / "c3d.pt", "--trust", "--clips", "--splits", 1, "--bootstrap", 0)
    assert run("clipsim", made, "--clip", networks / "clip", "--frames", 2)["measure"] == "CLIPSIM"
    assert run("retrieval", made, "--clip", networks / "clip", "--frames", 2)["measure"] == "text-video retrieval"
    assert run("motion", made, "--max-videos", 3)["counts"]["videos"] == 3


def test_a_missing_extra_is_one_sentence(monkeypatch, folders):
    monkeypatch.delitem(sys.modules, "makeavideo.evaluation.frechet", raising=False)
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(UserError, match=r"pip install \"makeavideo\[evaluation\]\""):
        CliRunner().invoke(app, ["fvd", str(folders / "real"), str(folders / "made")], catch_exceptions=False)
