"""The real thing: `flwr run` in Ray, its numbers against this process's, its failures told, nothing left running."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fedlaw_flwr.apps.byzantine.simulated import app
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.events.folder import RunFailed, read_events
from fedlaw_flwr.events.types import Evaluated, RoundEnded
from fedlaw_flwr.simulation.flwr_run import simulate, superlink
from fedlaw_flwr.simulation.in_process import run_in_process

PROJECT = Path(__file__).parents[2]
SMALL = {"num-silos": 6, "num-rounds": 3, "local-epochs": 1, "attack": "inverse_gradient", "max-byzantine": 1}


def flower_processes():
    """Flower's and Ray's processes that this process's tests led to: those of a process beside it have its name."""
    found, worker = set(), os.environ.get("PYTEST_XDIST_WORKER")
    for process in psutil.process_iter(["pid", "cmdline", "environ"]):
        if (process.info["environ"] or {}).get("PYTEST_XDIST_WORKER") != worker:
            continue
        line = " ".join(process.info["cmdline"] or [])
        if any(name in line for name in ("flower-superlink", "flwr-simulation", "raylet", "flower-superexec")):
            found.add(process.pid)
    return found


def numbers(path):
    """What the rounds and evaluations of a run say, times left out."""
    kept = ("round", "silos", "losses", "norms", "weights", "scores", "alignment", "skipped", "metrics")
    return [
        {key: getattr(event, key) for key in kept if hasattr(event, key)}
        for event in read_events(path)
        if isinstance(event, RoundEnded | Evaluated)
    ]


def test_ray_gives_the_numbers_of_this_process_to_the_last_bit_and_leaves_nothing_running(tmp_path):
    before = flower_processes()
    settings = Settings.read(SMALL | {"byzantine": 1})
    seen = []
    simulate(settings, tmp_path / "ray", seen.append)
    run_in_process(app, settings, tmp_path / "here")
    assert numbers(tmp_path / "ray") == numbers(tmp_path / "here")
    assert seen == list(read_events(tmp_path / "ray"))
    assert flower_processes() <= before


@pytest.mark.slow
def test_two_silos_at_a_time_or_one_make_no_difference(tmp_path):
    settings = Settings.read(SMALL | {"byzantine": 1, "seed": 4})
    simulate(settings, tmp_path / "one", lambda event: None, cpus_per_silo=2)
    simulate(settings, tmp_path / "two", lambda event: None, cpus_per_silo=1)
    assert numbers(tmp_path / "one") == numbers(tmp_path / "two")


@pytest.mark.slow
def test_a_failed_run_is_told_whatever_flwr_run_returns(tmp_path):
    settings = Settings.read(SMALL | {"task": "mnist", "data-dir": str(tmp_path)})
    before = flower_processes()
    with pytest.raises(RunFailed, match=r"finished:failed: .*no MNIST"):
        simulate(settings, tmp_path / "run", lambda event: None)
    assert flower_processes() <= before


@pytest.mark.slow
def test_flwr_run_itself_works_with_run_config_and_refuses_a_wrong_type(tmp_path):
    with superlink(tmp_path) as flwr:
        for rounds, status in (("1", "completed"), ("2.5", "failed")):
            config = f'num-rounds={rounds} num-silos=4 max-byzantine=1 run-dir="{tmp_path / status}"'
            federation = "num-supernodes=4 client-resources-num-cpus=1"
            command = ["run", str(PROJECT), "local-fedlaw", "--stream", "--federation-config", federation]
            process = flwr.start([*command, "--run-config", config])
            process.wait(timeout=300)
    assert list(read_events(tmp_path / "completed"))[-1].status == "completed"
    log = (tmp_path / "flower.log").read_text(errors="replace")
    assert "num-rounds=2.5: an integer is expected" in log
    assert not (tmp_path / "failed").exists()


@pytest.mark.slow
def test_another_directorys_packages_of_the_same_names_are_never_run(tmp_path):
    """A stranger's package of our app's or our own name in the working directory must not be found before ours."""
    for name in ("client_app", "fedlaw_simulation", "fedlaw_flwr"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('a stranger was imported')\n")
    fedlaw = Path(sys.executable).parent / "fedlaw"
    arguments = [f"{key}={value}" for key, value in (SMALL | {"byzantine": 1, "num-rounds": 1}).items()]
    done = subprocess.run(
        [str(fedlaw), "run", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_told_to_end_takes_everything_it_started_with_it(number, tmp_path):
    before = flower_processes()
    fedlaw = Path(sys.executable).parent / "fedlaw"
    process = subprocess.Popen([str(fedlaw), "run", "num-rounds=50"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not flower_processes() - before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert flower_processes() - before
    process.send_signal(number)
    assert process.wait(timeout=60) == 128 + number
    assert flower_processes() <= before


@pytest.mark.slow
def test_a_run_is_not_kept_by_the_address_of_a_ray_cluster_that_is_gone(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    seen = []
    simulate(Settings.read(SMALL | {"num-rounds": 1}), tmp_path / "run", seen.append)
    assert "RAY_ADDRESS=127.0.0.1:1 is not used" in seen[0].reason and seen[-1].status == "completed"


@pytest.mark.slow
def test_flwr_run_with_more_nodes_than_silos_fails_at_once_with_both_numbers(tmp_path):
    with superlink(tmp_path) as flwr:
        config = f'num-rounds=1 num-silos=4 max-byzantine=1 run-dir="{tmp_path / "run"}"'
        command = ["run", str(PROJECT), "local-fedlaw", "--stream", "--run-config", config]
        federation = "num-supernodes=5 client-resources-num-cpus=1"
        flwr.start([*command, "--federation-config", federation]).wait(timeout=300)
        with pytest.raises(RunFailed, match="num-supernodes=5 silos are simulated and num-silos=4"):
            flwr.judge(tmp_path / "run")
