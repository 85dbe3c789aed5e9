"""What the votes say, and the report of it."""

import csv
import json

import pytest
from typer.testing import CliRunner

from makeavideo.cli import votes
from makeavideo.errors import UserError
from makeavideo.votes.statistics import figures, fleiss_kappa, share, write_csv
from makeavideo.votes.store import Store
from tiny_votes import choose, fake_pairs


def test_kappa_by_hand():
    # agreement of each pair 1, 0.6, 1, 0.4: 0.75 on average; 12 of 20 votes are for A, so chance gives 0.6^2 + 0.4^2
    assert fleiss_kappa([(5, 0), (4, 1), (0, 5), (3, 2)]) == pytest.approx((0.75 - 0.52) / 0.48)
    assert fleiss_kappa([(3, 0), (0, 3)]) == 1
    assert fleiss_kappa([(1, 1), (1, 1)]) == -1
    assert fleiss_kappa([]) is fleiss_kappa([(1, 0), (0, 1)]) is fleiss_kappa([(3, 0), (3, 0)]) is None


def test_intervals_are_exact():
    from scipy.stats import beta

    found = share(13, 20)
    assert found["percent"] == 65
    assert found["low"] == pytest.approx(100 * beta.ppf(0.025, 13, 8))
    assert found["high"] == pytest.approx(100 * beta.ppf(0.975, 14, 7))
    assert share(5, 5)["low"] == pytest.approx(100 * 0.025 ** (1 / 5)) and share(5, 5)["high"] == 100
    assert share(0, 0)["percent"] is None


@pytest.fixture
def rated(tmp_path) -> Store:
    """Four pairs, three raters: quality goes 3:0, 2:1, 1:2, 0:3 to A, faithfulness always to B."""
    pairs = fake_pairs(tmp_path, 4)
    store = Store.create(tmp_path / "v.sqlite", pairs, raters=3)
    for i, rater in enumerate(("ada", "bob", "cyd")):
        wanted = {f"{j:02d}": {"quality": "A" if i < 3 - j else "B", "faithfulness": "B"} for j in range(4)}
        choose(store, rater, wanted)
    return store


def test_report(rated, tmp_path):
    found = figures(rated)
    assert (found["pairs"], found["raters"], found["raters_a_pair"]) == (4, 3, 3)
    quality, faithfulness = found["questions"]["quality"], found["questions"]["faithfulness"]
    assert (quality["majority"]["wins"], quality["majority"]["total"], quality["finished_pairs"]) == (2, 4, 4)
    assert (quality["raw"]["wins"], quality["raw"]["total"]) == (6, 12)
    # agreement of each pair 1, 1/3, 1/3, 1; half of the votes are for A
    assert quality["kappa"] == pytest.approx((2 / 3 - 1 / 2) / (1 / 2))
    assert faithfulness["majority"]["percent"] == 0 and faithfulness["kappa"] is None
    assert faithfulness["majority"]["high"] == pytest.approx(100 * (1 - 0.025 ** (1 / 4)))

    done = CliRunner().invoke(
        votes.app,
        ["report", str(rated.path), "--csv", str(tmp_path / "v.csv"), "--json", str(tmp_path / "v.json")],
    )
    assert done.exit_code == 0, done.output
    assert "A, majority of each pair    50.0 %     [6.8, 93.2]  2 of 4" in done.output
    assert "agreement (Fleiss kappa)   0.33" in done.output and "not defined" in done.output
    assert json.loads((tmp_path / "v.json").read_text()) == found
    with (tmp_path / "v.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24 and {row["prompt"] for row in rows} == {f"prompt {i}" for i in range(4)}
    with pytest.raises(UserError, match="Cannot write"):
        write_csv(tmp_path / "no" / "folder.csv", [])


def test_report_without_votes(tmp_path):
    Store.create(tmp_path / "v.sqlite", fake_pairs(tmp_path, 1))
    done = CliRunner().invoke(votes.app, ["report", str(tmp_path / "v.sqlite")])
    assert done.exit_code == 0 and "no votes yet" in done.output


def test_compare_is_short_for_compare_serve(tmp_path):
    for arguments in (["x", "y"], ["serve", "x", "y"], ["--port", "0", "x", "y"]):
        done = CliRunner().invoke(votes.app, arguments)
        assert isinstance(done.exception, UserError) and "no folder x" in str(done.exception)
    done = CliRunner().invoke(votes.app, ["x", "y", "--host", "a..b"])
    assert isinstance(done.exception, UserError) and str(done.exception).endswith("choose another --host.")
