"""The same strategy line for clients in four frameworks; trees are refused. A framework not installed is skipped."""

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "frameworks"
HOSTILE = ["node 3", "node 6", "node 10"]  # partitions 1, 4 and 8
LIBRARIES = {"pytorch": "torch", "lightning": "pytorch_lightning", "sklearn": "sklearn", "jax": "jax"}


@pytest.fixture
def run(monkeypatch):
    """The example's command as a module; its neighbours are found as they are from its folder."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield importlib.import_module("run")
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(FOLDER)):
            del sys.modules[name]


@pytest.mark.slow  # seconds each; Lightning and JAX are loaded first
@pytest.mark.parametrize("framework", LIBRARIES)
def test_one_strategy_line_excludes_the_hostile_whatever_the_clients_are_written_in(run, framework):
    pytest.importorskip(LIBRARIES[framework], reason=f"pip install {LIBRARIES[framework]}: CI's slow job has it")
    (averaged, protected), verdict = run.main([framework, "--rounds", "6"])
    assert [row.silo for row in verdict if row.weight == 0] == HOSTILE
    assert protected > 0.85 and protected > averaged + 0.3


def test_the_two_strategies_differ_in_one_line():
    (line,) = [line for line in (FOLDER / "run.py").read_text().splitlines() if "FedLAW(" in line]
    assert line.strip() == "protected = train(framework, FedLAW(max_byzantine=3), chosen.rounds)"


@pytest.mark.slow
def test_trees_of_xgboost_are_refused_before_anything_is_sent_and_the_reason_said(run):
    pytest.importorskip("xgboost", reason="pip install xgboost: CI's slow job has it")
    with pytest.raises(SystemExit, match=r"^error: .*bytes, as of XGBoost's trees: .*no rule here applies"):
        run.main(["xgboost"])


@pytest.mark.parametrize("framework", LIBRARIES)
def test_the_page_says_what_each_framework_reaches(framework):
    page = (FOLDER / "README.md").read_text()
    assert f"| `{framework}` |" in page
