"""When a run is submitted again, and which run a server left unfinished."""

import os

import pytest
from scripted_runs import Scripted

from fedlaw_flwr.apps.shipped import server
from fedlaw_flwr.config.settings import SettingsError
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.deploy.attempts import Attempts
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.unfinished import needed, unfinished


def test_a_run_is_resumed_for_as_long_as_each_server_gets_further():
    attempts = Attempts({"num-rounds": 9})
    assert attempts.resume == "" and attempts.changed == {"num-rounds": 9}
    assert all(attempts.again("run-1", round_number) for round_number in (0, 4, 4, 5, 5, 5))
    assert attempts.changed == {"num-rounds": 9, "resume": "run-1"} and attempts.resume == "run-1"
    assert not attempts.again("run-1", 5)


def test_the_newest_run_is_unfinished_if_it_has_checkpoints_and_no_end(tmp_path):
    assert unfinished(tmp_path) == "" == unfinished(tmp_path / "none")
    older, newer = Scripted(tmp_path / "run-2"), Scripted(tmp_path / "run-1")
    for place, written in ((older.folder, 100), (newer.folder, 200)):
        os.utime(place / "events.jsonl", (written, written))
    assert unfinished(tmp_path) == ""  # it kept no checkpoints
    for one in (older, newer):
        (one.folder / "checkpoints").mkdir()
    assert unfinished(tmp_path) == "run-1" == needed("run-1")
    newer.end()
    assert unfinished(tmp_path) == ""  # an older one is not what anybody waits for
    with pytest.raises(InputError, match="there is nothing to resume"):
        needed("")


@pytest.mark.parametrize("name", ["../elsewhere", "/etc", "a/b", "..", ".", "run 1", "run-1\n"])
def test_a_deployed_server_takes_the_name_of_a_run_and_no_path(tmp_path, monkeypatch, name):
    monkeypatch.setenv(server.RUNS, str(tmp_path / "runs"))
    with pytest.raises(SettingsError, match=r"resume=.*: the name of a run folder is expected, and no path"):
        server.main(None, _context({"resume": name}))
    assert list(tmp_path.iterdir()) == []


def test_a_deployed_server_looks_for_a_run_in_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(server.RUNS, str(tmp_path / "runs"))
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/runs/run-7: there is no run to resume here"):
        server.main(None, _context({"resume": "run-7"}))


def _context(run_config):
    from flwr.app import Context, RecordDict

    return Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config=run_config)


def test_a_federation_names_no_run_to_resume(tmp_path):
    text = "name: f\nsuperlink: {host: h.example}\nrun: {resume: run-1}\nsilos: [{name: a}, {name: b}]\n"
    (tmp_path / "federation.yaml").write_text(text)
    with pytest.raises(InputError, match=r"run\.resume cannot be set: it is about one run"):
        Federation.read(tmp_path / "federation.yaml")
