"""What keeps a simulation from waiting for ever: its own Ray, a bound on silence, and as many nodes as silos."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict
from flwr.superlink.grid import InMemoryGrid
from scripted import ScriptedGrid

from fedlaw_flwr.apps import server
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.events.folder import RunFailed, RunFolder, read_events
from fedlaw_flwr.events.types import RunEnded, Warned
from fedlaw_flwr.protocol.roster import Roster
from fedlaw_flwr.simulation import flwr_run
from fedlaw_flwr.simulation.flwr_run import Flower, longest_silence, simulate

SETTINGS = Settings.read({"num-silos": 4, "max-byzantine": 1})


# -- whose Ray -------------------------------------------------------------------------------------------------


def environment_of(place: Path) -> dict[str, str]:
    """What a process that is started for a simulation finds in its environment."""
    flwr = Flower(place, place / "log", 1)
    script = "import os\nfor name, value in os.environ.items(): print(name, value, sep='=')"
    assert flwr.start(["-c", script], program=Path(sys.executable).name).wait(30) == 0
    return dict(line.split("=", 1) for line in (place / "log").read_text().splitlines() if "=" in line)


@pytest.mark.parametrize("cluster", ["10.255.255.1:6379", "ray://gone.example.org:10001", "auto", None])
def test_what_is_started_makes_a_ray_of_its_own_whatever_cluster_is_named_or_was_left(tmp_path, monkeypatch, cluster):
    if cluster is not None:
        monkeypatch.setenv("RAY_ADDRESS", cluster)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example.org:3128")
    found = environment_of(tmp_path)
    assert found["RAY_ADDRESS"] == "local"  # without it, Ray takes the cluster that `ray start` noted in /tmp/ray
    assert "RAY_JOB_CONFIG_JSON_ENV_VAR" not in found
    assert {"localhost", "127.0.0.1"} <= set(found["NO_PROXY"].split(","))


@pytest.mark.parametrize(("said", "told"), [("10.255.255.1:6379", True), ("auto", True), ("local", False), ("", False)])
def test_a_cluster_that_is_named_is_said_not_to_be_used(tmp_path, monkeypatch, said, told):
    def nothing(folder):
        raise RunFailed("stopped here")

    monkeypatch.setattr(flwr_run, "superlink", nothing)
    monkeypatch.setenv("RAY_ADDRESS", said)
    seen = []
    with pytest.raises(RunFailed, match="stopped here"):
        simulate(SETTINGS, tmp_path / "run", seen.append)
    reason = f"RAY_ADDRESS={said} is not used: this run starts a Ray of its own on this machine"
    assert seen == ([Warned(reason=reason)] if told else [])


def test_ray_gets_a_short_folder_where_the_temporary_one_has_no_room_for_its_sockets(tmp_path, monkeypatch):
    deep = tmp_path / ("x" * 60)
    deep.mkdir()
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    assert "RAY_TMPDIR" not in environment_of(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with flwr_run._empty_folder() as home:
        assert home.parent == Path("/tmp")
        assert environment_of(home)["RAY_TMPDIR"] == str(home)
        session = home / "ray" / "session_2026-11-26_01-55-02_123456_1234567" / "sockets" / "plasma_store"
        assert len(os.fsencode(session)) <= 107
    assert not home.exists()


# -- how long ----------------------------------------------------------------------------------------------------


@pytest.fixture
def sleeping():
    """A `flwr run` that does not end."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(flwr_run, "_POLL", 0.01)


def test_a_run_in_which_nothing_happens_is_given_up_with_what_flower_said_last(tmp_path, sleeping):
    (tmp_path / "flower.log").write_text("INFO starting\nRuntimeError: the cluster is gone\n")
    with pytest.raises(
        RunFailed, match=r"nothing has happened for 0 s.* said last: RuntimeError: the cluster is gone; its"
    ):
        list(flwr_run._follow(tmp_path, sleeping, 0.0))


def test_every_event_begins_the_time_anew(tmp_path, sleeping, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with RunFolder.create(replace(SETTINGS, run_dir=str(tmp_path))) as folder:
        events = []
        with pytest.raises(RunFailed, match="nothing has happened for 60 s"):
            folder.write(Warned(reason="0"))
            for event in flwr_run._follow(tmp_path, sleeping, 50.0):
                events.append(event)
                now[0] += 40.0
                if len(events) < 4:  # 120 s in all
                    folder.write(Warned(reason=str(len(events))))
                else:
                    now[0] += 20.0
    assert [event.reason for event in events] == ["0", "1", "2", "3"]


def test_a_run_that_is_complete_is_not_waited_for_though_flower_does_not_end(tmp_path, sleeping, monkeypatch):
    monkeypatch.setattr(flwr_run, "_SETTLE", 0.0)
    with RunFolder.create(replace(SETTINGS, run_dir=str(tmp_path))):
        pass
    assert list(flwr_run._follow(tmp_path, sleeping, 1e9)) == [RunEnded(status="completed")]


def test_a_slow_but_lawful_round_is_never_given_up():
    slow = Settings.read({"num-silos": 4, "max-byzantine": 1, "timeout": 7200.0, "startup-timeout": 900.0})
    assert longest_silence(slow) > 900 + 3 * 7200  # two exchanges and the silos' own evaluation


def test_a_flwr_that_does_not_answer_or_start_a_run_is_told(tmp_path, monkeypatch):
    log = tmp_path / "flower.log"
    log.write_text("Error: of the server that this run is resumed from\n")
    flwr = Flower(tmp_path, log, 1)
    with pytest.raises(RunFailed, match="flwr run did not start a run: it said nothing; its log is"):
        flwr.judge(tmp_path)
    with log.open("a") as more:
        more.write("│ Error: the port is taken │\n")
    with pytest.raises(RunFailed, match="flwr run did not start a run: Error: the port is taken; its log is"):
        flwr.judge(tmp_path)
    with log.open("a") as more:
        more.write("started run 7\nValueError: no such thing\n")

    def hangs(*arguments, timeout, **options):
        raise subprocess.TimeoutExpired("flwr", timeout)

    monkeypatch.setattr(subprocess, "run", hangs)
    with pytest.raises(RunFailed, match="the run is unknown: ValueError: no such thing"):
        flwr.judge(tmp_path)


# -- how many nodes ----------------------------------------------------------------------------------------------


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(server, "_SETTLE", 0.0)
    monkeypatch.setattr(server, "_POLL", 0.0)


@pytest.mark.parametrize("nodes", [1, 3, 5, 12])
def test_another_number_of_nodes_than_silos_is_refused_with_both_numbers(at_once, nodes):
    with pytest.raises(InputError) as caught:
        server.check_simulation(ScriptedGrid([lambda received: None] * nodes), SETTINGS)
    assert str(caught.value) == (
        f"num-supernodes={nodes} silos are simulated and num-silos=4: both must be the same number; flwr run takes "
        f"--federation-config 'num-supernodes=4' and --run-config 'num-silos={nodes}'"
    )


def test_the_shortest_startup_timeout_still_lets_flower_make_its_nodes(at_once):
    server.check_simulation(ScriptedGrid([lambda received: None] * 4), replace(SETTINGS, startup_timeout=1e-9))


def test_the_same_number_is_taken_and_nobody_waits_for_more(at_once):
    grid = ScriptedGrid([lambda received: None] * 4)
    server.check_simulation(grid, SETTINGS)
    assert grid.all_present


def test_nodes_that_flower_is_still_making_are_waited_for(monkeypatch):
    now, counts = [0.0], iter([0, 0, 1, 2, 4])
    grids = {count: ScriptedGrid([lambda received: None] * max(count, 1)) for count in (0, 1, 2, 4)}

    def refresh(self, grid):
        count = next(counts, 4)
        return list(grids[count].get_nodes()) if count else []

    monkeypatch.setattr(Roster, "refresh", refresh)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    server.check_simulation(grids[4], SETTINGS)
    assert now[0] >= server._SETTLE


def test_a_simulation_fails_at_once_in_its_folder_and_a_cluster_of_ray_is_said(at_once, tmp_path, monkeypatch):
    class Simulated(ScriptedGrid, InMemoryGrid):
        """Flower's grid of a simulation, as far as the server can tell."""

    monkeypatch.setenv("RAY_ADDRESS", "10.255.255.1:6379")
    config = {**SETTINGS.as_config(), "run-dir": str(tmp_path)}
    context = Context(1, 0, {}, RecordDict(), config)
    with pytest.raises(InputError, match="num-supernodes=5 silos are simulated and num-silos=4"):
        server.main(Simulated([lambda received: None] * 5), context)
    warned, ended = read_events(tmp_path)
    assert warned.reason.startswith("RAY_ADDRESS=10.255.255.1:6379: Flower simulates on that cluster")
    assert ended.status == "failed" and "num-supernodes=5" in ended.reason
