"""What operators see: Flower's answers read, runs followed, figures for Prometheus; without a process being started."""

import json
import sys

import pytest
from fake_flwr import FLWR
from prometheus_client.core import CollectorRegistry
from prometheus_client.exposition import generate_latest

from fedlaw_flwr.deploy.control import Control, ControlError, follow
from fedlaw_flwr.events.folder import RunFailed
from fedlaw_flwr.reporting.prometheus import RunMetrics, serve
from fedlaw_flwr.simulation.processes import processes_with

# Stands in for `flwr`: answers by its arguments as Flower 1.41 and 1.42 do, its nodes kept in the file named first.


@pytest.fixture
def control(tmp_path):
    script = tmp_path / "flwr.py"
    script.write_text(FLWR)
    return Control([sys.executable, str(script), str(tmp_path / "nodes")], "here", tmp_path / "registered.json")


def test_a_silo_is_registered_once_and_known_by_its_name(control, tmp_path):
    assert control.silos() == {}
    for _ in range(2):
        control.register({"aachen": "aachen.pub"})
    control.register({"bonn": "bonn.pub"})
    assert control.silos() == {"aachen": "registered", "bonn": "registered"}
    assert json.loads((tmp_path / "registered.json").read_text()) == {"aachen": "100", "bonn": "101"}


def test_a_key_taken_back_can_be_followed_by_another(control):
    control.register({"aachen": "old.pub"})
    control.unregister("aachen")
    assert control.silos() == {}
    control.register({"aachen": "new.pub"})
    assert control.silos() == {"aachen": "registered"}
    with pytest.raises(ControlError, match="no node was registered from here as bonn"):
        control.unregister("bonn")


def test_a_run_is_submitted_with_its_changed_settings_as_toml(control, tmp_path):
    assert control.submit("app", {"num-rounds": 3, "strategy": "krum", "thrift": False}) == "77"
    assert json.loads((tmp_path / "asked").read_text()) == [
        *("run", "app", "here", "--run-config", 'num-rounds=3 strategy="krum" thrift=false', "--format", "json"),
    ]
    assert control.status("77") == "finished:completed"


def test_what_flower_refuses_is_said_in_its_words(control):
    with pytest.raises(ControlError, match="flwr stop 77: Run 77 is over"):
        control.stop("77")


def test_a_command_that_cannot_answer_is_said_with_its_last_line(tmp_path):
    broken = Control([sys.executable, "-c", "raise SystemExit('no connection')"], "here", tmp_path / "r.json")
    with pytest.raises(ControlError, match="flwr supernode list: no connection"):
        broken.silos()


def test_silos_that_do_not_come_online_are_named(control):
    control.register({"aachen": "aachen.pub"})
    with pytest.raises(TimeoutError, match="not online after 0 s: aachen, bonn"):
        control.wait_online(["aachen", "bonn"], timeout=0.0)


def write(folder, *events):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "events.jsonl").open("a") as log:
        log.writelines(json.dumps(event) + "\n" for event in events)


RUN = {"kind": "run", "version": 2, "settings": {}, "attackers": {}}


def test_a_run_is_followed_to_its_end(tmp_path):
    write(tmp_path / "run", RUN, {"kind": "end", "status": "completed"}, {"kind": "warning", "reason": "late"})
    assert [event.kind for event in follow(tmp_path / "run", lambda: False)] == ["run", "end"]


def test_a_run_that_ended_without_a_word_is_not_followed_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("fedlaw_flwr.deploy.control._POLL", 0.01)
    monkeypatch.setattr("fedlaw_flwr.deploy.control._ASK", 0.01)
    write(tmp_path / "run", RUN)
    assert [event.kind for event in follow(tmp_path / "run", lambda: True)] == ["run"]


def test_what_a_run_writes_while_it_is_asked_whether_it_is_over_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("fedlaw_flwr.deploy.control._POLL", 0.01)
    monkeypatch.setattr("fedlaw_flwr.deploy.control._ASK", 0.01)
    write(tmp_path / "run", RUN)

    def over():
        write(tmp_path / "run", {"kind": "end", "status": "completed"})
        return True

    assert [event.kind for event in follow(tmp_path / "run", over)] == ["run", "end"]


def test_a_superlink_that_is_away_for_a_while_ends_no_following(tmp_path, monkeypatch):
    monkeypatch.setattr("fedlaw_flwr.deploy.control._POLL", 0.01)
    monkeypatch.setattr("fedlaw_flwr.deploy.control._ASK", 0.01)
    write(tmp_path / "run", RUN)
    answers = iter([ControlError("away"), ControlError("away"), True])

    def over():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert [event.kind for event in follow(tmp_path / "run", over)] == ["run"]
    monkeypatch.setattr("fedlaw_flwr.deploy.control._PATIENCE", 0.0)
    answers = iter([ControlError("away")] * 2)
    with pytest.raises(ControlError, match="away"):
        list(follow(tmp_path / "run", over))


def test_a_run_that_never_begins_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr("fedlaw_flwr.deploy.control._POLL", 0.01)
    monkeypatch.setattr("fedlaw_flwr.deploy.control._ASK", 0.01)
    with pytest.raises(RunFailed, match="no run folder appeared"):
        list(follow(tmp_path / "run", lambda: False, begin_within=0.0))


ROUND = {"kind": "round", "skipped": False, "seconds": 2.5, "bytes-down": 100, "bytes-up": 40}


def figures(runs) -> str:
    registry = CollectorRegistry()
    registry.register(RunMetrics(runs))
    return generate_latest(registry).decode()


def test_the_figures_are_the_newest_runs(tmp_path):
    write(tmp_path / "run-1", RUN, {**ROUND, "round": 1}, {"kind": "end", "status": "failed"})
    write(
        tmp_path / "run-2",
        RUN,
        {**ROUND, "round": 1, "silos": ["aachen", "bonn"], "weights": [0.75, 0.25]},
        {"kind": "rejected", "round": 2, "exchange": 1, "silo": "bonn", "reason": "NaN"},
        {"kind": "silent", "round": 2, "exchange": 1, "silo": "aachen", "reason": "timeout"},
        {"kind": "silent", "round": 2, "exchange": 2, "silo": "aachen", "reason": "timeout"},
        {**ROUND, "round": 2, "skipped": True},
        {"kind": "evaluation", "round": 2, "metrics": {"accuracy": 0.5}},
    )
    text = figures(tmp_path)
    for line in (
        'fedlaw_round{run="run-2"} 2.0',
        'fedlaw_rounds_skipped_total{run="run-2"} 1.0',
        'fedlaw_seconds_total{run="run-2"} 5.0',
        'fedlaw_round_seconds{run="run-2"} 2.5',
        'fedlaw_bytes_total{direction="down",run="run-2"} 200.0',
        'fedlaw_bytes_total{direction="up",run="run-2"} 80.0',
        'fedlaw_weight{run="run-2",silo="aachen"} 0.75',
        'fedlaw_rejected_total{run="run-2",silo="bonn"} 1.0',
        'fedlaw_silent_total{run="run-2",silo="aachen"} 2.0',
        'fedlaw_accuracy{run="run-2"} 0.5',
        'fedlaw_run_state{run="run-2",state="running"} 1.0',
        'fedlaw_run_state{run="run-2",state="failed"} 0.0',
    ):
        assert line in text
    assert "run-1" not in text


def test_the_figures_say_who_sits_out_who_came_and_went_and_how_often_the_run_was_resumed(tmp_path):
    out = {"kind": "sits-out", "round": 3, "strikes": 3, "reason": "timeout"}
    write(
        tmp_path / "run-1",
        RUN,
        {**ROUND, "round": 1},
        {**out, "silo": "bonn"},
        {**out, "silo": "celle"},
        {"kind": "resumed", "round": 4, "checkpoint": 3},
        {"kind": "pardoned", "round": 4, "silo": "bonn"},
        {**out, "round": 7, "silo": "bonn"},
        {"kind": "pardoned", "round": 8, "silo": "bonn"},
        {"kind": "joined", "round": 8, "silo": "dresden"},
        {"kind": "removed", "round": 9, "silo": "aachen", "n": 3, "b": 0},
        {"kind": "resumed", "round": 9, "checkpoint": 8},
    )
    text = figures(tmp_path)
    for line in (
        'fedlaw_sitting_out{run="run-1",silo="bonn"} 0.0',
        'fedlaw_sitting_out{run="run-1",silo="celle"} 1.0',
        'fedlaw_sat_out_total{run="run-1",silo="bonn"} 2.0',
        'fedlaw_sat_out_total{run="run-1",silo="celle"} 1.0',
        'fedlaw_pardoned_total{run="run-1",silo="bonn"} 2.0',
        'fedlaw_joined_total{run="run-1",silo="dresden"} 1.0',
        'fedlaw_removed_total{run="run-1",silo="aachen"} 1.0',
        'fedlaw_resumed_total{run="run-1"} 2.0',
    ):
        assert line in text
    assert 'fedlaw_sitting_out{run="run-1",silo="aachen"}' not in text


def test_before_any_run_there_are_no_figures_and_without_a_folder_a_sentence(tmp_path):
    assert figures(tmp_path) == ""
    with pytest.raises(ValueError, match="there is no such folder"):
        serve(tmp_path / "missing", "127.0.0.1", 0)


def test_a_process_is_found_by_its_environment(tmp_path):
    import subprocess

    process = subprocess.Popen([sys.executable, "-c", "input()"], env={"FEDLAW_TEST": str(tmp_path)}, stdin=-1)
    try:
        assert processes_with("FEDLAW_TEST", str(tmp_path)) == [process.pid]
        assert processes_with("FEDLAW_TEST", "other", [process.pid]) == []
    finally:
        process.communicate(b"\n")
    assert processes_with("FEDLAW_TEST", str(tmp_path), [process.pid]) == []
