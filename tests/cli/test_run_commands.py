"""The commands on run folders: watch, runs, report, compare, figures, export."""

import re
import subprocess
import sys
import threading
from pathlib import Path
from urllib.request import urlopen

import pytest
from scripted_runs import AGREES, ALIKE, Scripted, but
from typer.testing import CliRunner

from fedlaw_flwr.cli import runs as commands
from fedlaw_flwr.cli.main import app
from fedlaw_flwr.core.errors import InputError, NotThere

FEDLAW = Path(sys.executable).parent / "fedlaw"


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Two runs, one of FedLAW and one of a median."""
    monkeypatch.setattr(commands.console, "width", 160)
    law = Scripted(tmp_path / "runs" / "law", attackers=["silo 3"], max_byzantine=1)
    law.learned(but(AGREES, silo_3=-0.5), ALIKE).frozen().end()
    Scripted(tmp_path / "runs" / "group" / "median", strategy="cw_median").by_rule().end("failed", reason="x")
    return tmp_path / "runs" / "law", tmp_path / "runs" / "group" / "median"


def done(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_runs_are_listed_with_how_they_ended_and_their_figures(two):
    told = done("runs", two[0].parent).splitlines()
    assert re.search(r"group/median +failed +cw_median +digits +none +1/3 +30.0 % +- +-", told[1])
    assert re.search(r"law +completed +fedlaw +digits +inverse_gradient +2/3 +50.0 % +1/1 +0/5", told[2])


def test_a_folder_without_runs_is_told_so(tmp_path):
    with pytest.raises(InputError, match="there is no run here"):
        done("runs", tmp_path)


def test_a_run_that_is_over_can_be_watched_too(two):
    told = done("watch", two[0])
    assert "round 1: silo 3 gets no weight (attacker)" in told and "fedlaw  round   2/3  accuracy  50.0 %" in told
    assert re.search(r"attackers caught +│ 1 of 1", told)


def test_a_run_is_followed_until_it_ends(tmp_path):
    run = Scripted(tmp_path / "run")
    watched = subprocess.Popen([FEDLAW, "watch", tmp_path / "run"], stdout=subprocess.PIPE, text=True)
    try:
        assert "round   0/3" in watched.stdout.readline()
        run.learned(AGREES, ALIKE).end()
        told, _ = watched.communicate(timeout=60)
    finally:
        watched.kill()
    assert "round   1/3  accuracy  30.0 %" in told and "honest silos wrongly excluded" in told
    assert watched.returncode == 0


def test_the_report_of_a_run_is_served_while_it_is_watched(two):
    watched = subprocess.Popen([FEDLAW, "watch", two[0], "--serve"], stdout=subprocess.PIPE, text=True)
    timer = threading.Timer(60, watched.kill)
    timer.start()
    try:
        address = re.search(r"http://127\.0\.0\.1:\d+/", watched.stdout.readline())[0]
        with urlopen(address, timeout=30) as page:
            assert b"FedLAW on digits: 6 silos, 1 of them attacker" in page.read()
    finally:
        timer.cancel()
        watched.kill()
        watched.communicate()


def test_a_report_goes_where_it_is_wanted(two, tmp_path):
    assert done("report", two[0], "--out", tmp_path / "page.html").strip() == str(tmp_path / "page.html")
    assert not (two[0] / "report.html").exists()
    assert done("report", *two).strip() == str(two[0] / "comparison.html")


def test_runs_are_compared_in_the_terminal_and_on_a_page(two):
    told = done("compare", *two)
    assert re.search(r"accuracy on the test set +│ 50.0 % │ +30.0 %", told)
    assert re.search(r"strategy +│ fedlaw +│ cw_median", told)
    assert f"page: {two[0] / 'comparison.html'}" in told and (two[0] / "comparison.html").is_file()
    with pytest.raises(InputError, match="name two run folders or more"):
        done("compare", two[0])


def test_figures_fit_a_column_and_are_written_in_three_kinds(two, tmp_path):
    from matplotlib.image import imread

    told = done("figures", *two, "--out", tmp_path / "figures").split()
    names = {Path(path).name for path in told}
    assert names == {f"{name}.{kind}" for name in ("accuracy", "weights-1") for kind in ("png", "svg", "pdf")}
    assert imread(tmp_path / "figures" / "accuracy.png").shape[1] == 680  # 3.4 inches at 200 points an inch
    assert (tmp_path / "figures" / "accuracy.pdf").read_bytes().startswith(b"%PDF")
    before = (tmp_path / "figures" / "weights-1.pdf").read_bytes()
    done("figures", *two, "--out", tmp_path / "figures")
    assert (tmp_path / "figures" / "weights-1.pdf").read_bytes() == before


def test_only_known_trackers_are_written_for(two):
    with pytest.raises(InputError, match="allowed are tensorboard, mlflow"):
        done("export", "elsewhere", two[0])


@pytest.mark.parametrize("command", ["watch", "report", "figures"])
def test_a_folder_without_a_run_is_refused_by_every_command(tmp_path, command):
    with pytest.raises(NotThere, match="there is no run here"):
        done(command, tmp_path)
