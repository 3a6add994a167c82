"""A federation of real processes whose server dies: what goes on by itself, and what one command takes up again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from real_federation import events, free_port, local_federation, rounds
from safetensors.numpy import load_file

from fedlaw_flwr.deploy.unfinished import unfinished
from fedlaw_flwr.events.folder import EVENTS, MODEL
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import RoundEnded, RunResumed

pytestmark = pytest.mark.slow

PROGRAMS = Path(sys.executable).parent
# An exchange took 40 s on two busy cores. A message that is lost costs the whole `timeout`, so that is not much longer;
# nothing here waits without an end, or a run that cannot go on would hold up every test after it.
LONGEST = 1200

TEXT = """\
name: test
superlink:
  host: 127.0.0.1
  port: {port}
run:
  task: breast_cancer
  seed: 0
  num-rounds: 3
  weight-rounds: 2
  max-byzantine: 0
  local-epochs: 1
  timeout: 240
silos:
  - name: silo-0
  - name: silo-1
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    """The federation, both silos online; ended, whatever the tests did to it."""
    with local_federation(tmp_path_factory.mktemp("federation"), TEXT.format(port=free_port())) as processes:
        yield processes


@pytest.fixture(scope="module")
def undisturbed(up) -> Path:
    return up.run(lambda event: None)


def server_apps(up) -> list[psutil.Process]:
    """The processes in which Flower runs a ServerApp: what the SuperExec has started."""
    return psutil.Process(up.pid("server-app")).children(recursive=True)


def assert_the_same(one: Path, other: Path) -> None:
    """The same weights and the same model: silos draw their batches from seed, silo and round alone."""
    assert [event.round for event in rounds(one)] == [1, 2, 3] and Run.read(one).end.status == "completed"
    assert [event.weight_of for event in rounds(one)] == [event.weight_of for event in rounds(other)]
    mine, theirs = load_file(one / MODEL), load_file(other / MODEL)
    assert {key: value.tobytes() for key, value in mine.items()} == {
        key: value.tobytes() for key, value in theirs.items()
    }


def test_the_process_of_the_serverapp_is_killed_and_the_run_goes_on_without_a_person(up, undisturbed):
    killed = []

    def kill_after_round_1(event):
        if isinstance(event, RoundEnded) and not killed:
            killed.extend(server_apps(up))
            for process in killed:
                process.kill()

    folder = up.run(kill_after_round_1)
    assert killed
    (resumed,) = events(folder, RunResumed)
    assert resumed.checkpoint in (0, 1) and resumed.round == resumed.checkpoint + 1
    assert_the_same(folder, undisturbed)


@pytest.mark.skipif("FEDLAW_POWER_CUT" not in os.environ, reason="two to ten minutes: make test-kills")
def test_everything_is_killed_as_by_a_power_cut_and_one_command_takes_the_run_up_again(up, undisturbed):
    before = set(up.runs.iterdir())
    follower = subprocess.Popen([PROGRAMS / "fedlaw", "deploy", "run", up.folder.file], stdout=subprocess.DEVNULL)

    def begun():
        return [run for run in set(up.runs.iterdir()) - before if (run / EVENTS).exists() and rounds(run)]

    try:
        wait_for(lambda: follower.poll() is not None or begun(), LONGEST)
        assert follower.poll() is None, "the run ended before it was cut"
        (cut,) = begun()
    finally:
        follower.kill()
        follower.wait()
    cut_the_power(up)
    assert unfinished(up.runs) == cut.name
    up.up()
    command = [PROGRAMS / "fedlaw", "deploy", "resume", up.folder.file]
    resumed = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LONGEST, check=False
    )
    assert resumed.returncode == 0, resumed.stdout
    assert events(cut, RunResumed) and unfinished(up.runs) == ""
    assert_the_same(cut, undisturbed)


def cut_the_power(up) -> None:
    """Kills every process of the federation, with all that it started, before any of them notices that another went."""
    pids = [pid for pid in map(up.pid, up.names) if pid]
    assert len(pids) == len(up.names)
    for pid in pids:
        os.killpg(pid, signal.SIGSTOP)
    for pid in pids:
        os.killpg(pid, signal.SIGKILL)
    wait_for(lambda: not any(map(up.pid, up.names)), 30)


def wait_for(what, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        time.sleep(0.3)
