"""The `fedlaw` command as a person uses it: names, mistakes in one sentence, a run and its report."""

import subprocess
import sys
from pathlib import Path

import pytest

FEDLAW = Path(sys.executable).parent / "fedlaw"


def fedlaw(*arguments, cwd):
    return subprocess.run([str(FEDLAW), *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_list_prints_every_strategy_attack_and_task_with_its_source(tmp_path):
    out = fedlaw("list", cwd=tmp_path).stdout
    for name in ("fedlaw", "bulyan", "cclip", "label_flipping", "inverse_gradient", "digits", "cifar100", "ICLR 2026"):
        assert name in out


@pytest.mark.parametrize(
    "engine", [["in-process"], ["batched", "--silos-per-batch", "7"]], ids=lambda engine: engine[0]
)
def test_a_run_in_this_process_ends_with_a_table_a_folder_and_a_report(engine, tmp_path):
    done = fedlaw("run", "--engine", *engine, "num-rounds=2", "local-epochs=1", "attack=inverse_gradient", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "attackers caught" in done.stdout
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name in done.stdout.replace("\n", "")
    assert (folder / "report.html").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["strategy=fedlow"], "did you mean 'fedlaw'"),
        (["num-rounds=2.5"], "num-rounds=2.5"),
        (["task=mnist", "data-dir=/no/such"], "data-dir='/no/such'"),
        (["rounds"], "name=value"),
        (["--engine", "in-process", "knowledge=omniscient", "attack=lie"], "use `fedlaw run --engine batched`"),
        (["--engine", "batched", "--silos-per-batch", "0"], "silos-per-batch"),
        (["--engine", "rai"], "engine='rai': allowed are ray, in-process, batched"),
    ],
)
def test_a_mistake_is_one_sentence_without_a_traceback_and_exit_code_2(arguments, said, tmp_path):
    done = fedlaw("run", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "runs").exists()


def test_verbose_shows_the_traceback_as_well(tmp_path):
    done = fedlaw("--verbose", "run", "q=1.4", cwd=tmp_path)
    assert "Traceback" in done.stdout + done.stderr and done.returncode == 2
