"""Real processes, killed for good: `fedlaw resume` ends each run as if nothing had happened."""

import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from crashes import resumptions, told

from fedlaw_flwr.events.folder import EVENTS, MODEL
from fedlaw_flwr.events.record import Run

pytestmark = pytest.mark.slow

FEDLAW = Path(sys.executable).parent / "fedlaw"
SETTINGS = [
    "task=breast_cancer",
    "num-silos=6",
    "max-byzantine=1",
    "byzantine=1",
    "attack=sign_flip",
    "weight-rounds=6",
]


def command(place, engine, *more):
    return [FEDLAW, "run", *SETTINGS, f"run-dir={place}", "--engine", engine, *more]


def kill(process):
    """Kills it and all that it started, as a power cut does."""
    everything = [*psutil.Process(process.pid).children(recursive=True), process]
    for one in everything:
        one.kill()
    process.wait()
    psutil.wait_procs(everything[:-1], timeout=30)


def wait_for(place, round_number, process):
    """Returns in the middle of a run, after this round."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if (place / EVENTS).exists() and len(Run.read(place).rounds) >= round_number:
            return
        time.sleep(0.02)
    raise AssertionError(f"round {round_number} was not seen: exit code {process.poll()}")


@pytest.mark.parametrize("engine", ["in-process", "batched"])
def test_a_process_killed_in_several_rounds_ends_with_the_bits_of_one_that_was_not(tmp_path, engine):
    rounds, whole, place = "num-rounds=12", tmp_path / "whole", tmp_path / "run"
    subprocess.run(command(whole, engine, rounds), check=True, stdout=subprocess.DEVNULL)
    rng, process = random.Random(7), subprocess.Popen(command(place, engine, rounds), stdout=subprocess.DEVNULL)
    for round_number in (2, 5, 9):
        wait_for(place, round_number, process)
        time.sleep(rng.uniform(0, 0.1))
        kill(process)
        process = subprocess.Popen([FEDLAW, "resume", place], stdout=subprocess.DEVNULL)
    assert process.wait(300) == 0
    assert len(resumptions(place)) == 3
    assert (place / MODEL).read_bytes() == (whole / MODEL).read_bytes() and told(place) == told(whole)


def test_flwr_run_killed_with_all_it_started_goes_on_although_every_node_has_another_id(tmp_path):
    whole, place = tmp_path / "whole", tmp_path / "run"
    subprocess.run(command(whole, "in-process", "num-rounds=5"), check=True, stdout=subprocess.DEVNULL)
    process = subprocess.Popen(command(place, "ray", "num-rounds=5"), stdout=subprocess.DEVNULL)
    wait_for(place, 2, process)
    kill(process)
    subprocess.run([FEDLAW, "resume", place], check=True, stdout=subprocess.DEVNULL, timeout=500)
    assert resumptions(place) and [one.round for one in Run.read(place).rounds] == [1, 2, 3, 4, 5]
    weights = [[event["weights"] for event in told(one) if event["kind"] == "round"] for one in (place, whole)]
    assert weights[0] == weights[1] and (place / MODEL).read_bytes() == (whole / MODEL).read_bytes()
