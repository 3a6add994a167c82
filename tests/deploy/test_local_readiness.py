"""`fedlaw deploy local up` says that silos can take part once they can, and otherwise whose fault it is; stand-ins."""

import json
import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest
from stand_ins import LISTENS, stand_in_federation
from typer.testing import CliRunner

from fedlaw_flwr.cli.main import app
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.deploy.local import LocalFederation
from fedlaw_flwr.events.folder import RunFailed
from fedlaw_flwr.simulation.processes import folder_for_sockets, free_port, holder_of, without_proxy

BAD_CELL = "records.csv: row 300,001: age='n/a' is no number; name it under missing, or correct it"


@pytest.fixture
def federation(tmp_path, monkeypatch):
    """Makes the federation of these stand-ins; every process is ended after the test."""
    made: list[LocalFederation] = []

    def make(**scripts: str) -> LocalFederation:
        made.append(
            stand_in_federation(
                tmp_path, monkeypatch, free_port(), {name.replace("_", "-"): text for name, text in scripts.items()}
            )
        )
        return made[-1]

    yield make
    for local in made:
        local.down()


def running(local: LocalFederation) -> list[str]:
    return [name for name in local.names if local.pid(name)]


def ends(words: str) -> str:
    return f"import sys, time; time.sleep(0.2); print({words!r}, file=sys.stderr, flush=True); sys.exit(2)"


# -- the data of a silo ----------------------------------------------------------------------------------------


def test_a_silo_is_waited_for_until_its_data_are_loaded_and_the_operator_is_told(federation, tmp_path, monkeypatch):
    monkeypatch.setattr("fedlaw_flwr.deploy.local._QUIET", 0.0)
    loading = f"import os, time\nwhile not os.path.exists({str(tmp_path / 'loaded')!r}): time.sleep(0.05)\n{LISTENS}"
    local = federation(bonn_data=loading)
    told = []

    def say(sentence):
        told.append((sentence, local.listens("bonn")))
        (tmp_path / "loaded").touch()

    local.up(say=say)
    ((sentence, listened),) = told
    assert "the data of" in sentence and "bonn" in sentence and not listened
    assert local.listens("aachen") and local.listens("bonn")


def test_a_bad_cell_is_the_sentence_of_up_though_the_node_is_online(federation, tmp_path):
    local = federation(bonn_data=ends(f"2026-11-26 INFO reading\nerror: {BAD_CELL}"))
    result = CliRunner().invoke(app, ["deploy", "local", "up", str(tmp_path / "federation.yaml")])
    assert isinstance(result.exception, RunFailed) and "online" not in result.output
    assert "What was started runs on" in result.output
    log = local.log("bonn-data")
    assert str(result.exception) == f"bonn's own process ended before it could answer: {BAD_CELL}; its log is {log}"


def test_every_silo_whose_data_are_wrong_is_named(federation):
    local = federation(aachen_data=ends("error: one thing"), bonn_data=ends("error: another\nand its second line"))
    with pytest.raises(RunFailed) as caught:
        local.up()
    first, second = str(caught.value).splitlines()
    assert first.startswith("aachen's own process") and "one thing; its log" in first
    assert second.startswith("bonn's own process") and "another and its second line; its log" in second


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "SIGKILL, as the system does where memory runs out",
        ),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "it was ended by SIGSEGV; its log is"),
        ("def f(): raise KeyError('größe')\nf()", "KeyError: 'größe'; its log is"),
        ("pass", "it said nothing; its log is"),
    ],
)
def test_a_process_that_ends_without_a_sentence_is_told_by_how_it_ended(federation, script, said):
    local = federation(aachen_data=script)
    with pytest.raises(RunFailed, match="aachen's own process ended before it could answer") as caught:
        local.up()
    assert said in str(caught.value)


def test_once_the_data_are_mended_up_starts_what_is_missing(federation, tmp_path):
    mended = tmp_path / "mended"
    script = f"import os, sys\nif not os.path.exists({str(mended)!r}): sys.exit('error: {'x' * 9}')\n{LISTENS}"
    local = federation(bonn_data=script)
    with pytest.raises(RunFailed, match="xxxxxxxxx"):
        local.up()
    before = {name: local.pid(name) for name in running(local)}
    assert "bonn-data" not in before
    mended.touch()
    local.up()
    assert {name: local.pid(name) for name in before} == before and local.listens("bonn")


def test_data_that_load_for_too_long_and_a_server_that_ends_are_said(federation, monkeypatch):
    local = federation(bonn_data="import time; time.sleep(300)")
    monkeypatch.setattr("fedlaw_flwr.deploy.local._LOADING", 0.0)
    with pytest.raises(TimeoutError, match=r"still loading after 0 s: .*bonn"):
        local.up()
    local.stop("superlink")
    monkeypatch.setattr("fedlaw_flwr.deploy.local._LOADING", 60.0)
    while local.pid("superlink"):
        pass
    with pytest.raises(RunFailed, match="the SuperLink has ended: it was ended by SIGTERM"):
        local.let_in(["bonn"])


def test_a_node_that_is_not_let_in_is_told_with_its_own_last_sentence(federation, monkeypatch):
    monkeypatch.setattr("fedlaw_flwr.deploy.local._LET_IN", 3.0)
    local = federation(bonn_node="print('no such key file: node.key', flush=True)")
    with pytest.raises(
        TimeoutError, match=r"not let in within 3 s: bonn; see .*bonn's node: no such key file: node\.key"
    ):
        local.up()


def test_silos_whose_sockets_a_tidied_temporary_folder_took_are_started_anew(federation):
    local = federation()
    local.up()
    whole = {name: local.pid(name) for name in running(local)}
    shutil.rmtree(local._sockets())
    local.up()
    changed = {name for name in whole if local.pid(name) != whole[name]}
    assert changed == {f"{silo}-{part}" for silo in ("aachen", "bonn") for part in ("data", "node", "app")}
    (local._sockets() / "bonn.sock").unlink()
    local.up()
    assert local.listens("aachen") and local.listens("bonn")


def test_status_and_a_run_say_which_silo_does_not_listen_yet(federation, tmp_path):
    local = federation(bonn_data="import time; time.sleep(300)")
    for name in local.names:
        local.start(name)
    while not local.listens("aachen"):
        pass
    status = CliRunner().invoke(
        app, ["deploy", "local", "status", str(tmp_path / "federation.yaml")], env={"COLUMNS": "160"}
    )
    (loading,) = [line for line in status.output.splitlines() if "does not listen yet" in line]
    assert loading.startswith("bonn-data")


def test_a_run_that_ends_without_a_word_in_its_folder_is_told_by_what_the_server_said_last(federation, monkeypatch):
    local = federation(
        server_app="print('MemoryError: no room for 3 models', flush=True); import time; time.sleep(300)"
    )
    local.up()
    while b"MemoryError" not in local._said("server-app"):
        pass
    monkeypatch.setattr("fedlaw_flwr.deploy.local.follow", lambda folder, is_over, before: iter([]))
    with pytest.raises(
        RunFailed, match=r"run 77 is finished:completed and wrote no end; .* MemoryError: no room for 3 models"
    ):
        local.run(print)


# -- ports -----------------------------------------------------------------------------------------------------


def test_a_taken_port_of_a_node_is_said_before_anything_is_started(federation):
    local = federation()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        local.path.mkdir()
        (local.path / "ports.json").write_text(json.dumps({"bonn-node": port}))
        with pytest.raises(InputError) as caught:
            local.up()
        assert holder_of(port).endswith(f"process {os.getpid()}")
    assert str(caught.value).startswith(f"port {port} of bonn's node is taken by ")
    assert f"process {os.getpid()}: end that, or take the line " in str(caught.value)
    assert str(local.path / "ports.json") in str(caught.value)
    assert running(local) == []
    local.up()  # given back, it is used


def test_a_taken_port_of_the_server_is_said_and_its_own_is_none(federation):
    local = federation()
    with socket.socket() as listener:
        listener.bind(("", local.port("superlink")))
        listener.listen()
        with pytest.raises(
            InputError, match=f"port {local.port('superlink')} of the SuperLink is taken by .*federation.y"
        ):
            local.up()
    assert running(local) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read: Expecting"),
        ("[1]", "an object of names and ports is expected"),
        ('{"bonn-node": "9094"}', "bonn-node has '9094', and a port is 1 to 65535"),
        ('{"bonn-node": 70000}', "bonn-node has 70000, and a port is 1 to 65535"),
        ('{"bonn-node": true}', "bonn-node has True"),
        # Below the ports that the operating system gives out, of which the SuperLink has one.
        ('{"aachen-node": 20999, "bonn-node": 20999}', "aachen's node and bonn-node have one port, 20999"),
    ],
)
def test_a_file_of_ports_that_holds_none_is_said(federation, text, said):
    local = federation()
    local.path.mkdir()
    (local.path / "ports.json").write_text(text)
    with pytest.raises(InputError) as caught:
        local.up()
    assert said in str(caught.value) and str(local.path / "ports.json") in str(caught.value)
    assert running(local) == []


def test_a_pid_that_was_half_written_is_no_process(federation):
    local = federation()
    (local.path / "homes" / "superlink").mkdir(parents=True)
    (local.path / "homes" / "superlink" / "pid").write_text("")
    assert local.pid("superlink") == 0


# -- paths and names of this machine -----------------------------------------------------------------------------


def test_a_temporary_folder_too_long_for_sockets_is_passed_over_or_said(federation, tmp_path, monkeypatch):
    deep = tmp_path / ("x" * 90)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    local = federation()
    local.up()
    assert local._sockets().parent == Path("/tmp")
    local.down()
    monkeypatch.setattr("fedlaw_flwr.simulation.processes._USUAL", deep)
    (tmp_path / "sub").mkdir()
    with pytest.raises(InputError, match=f"the temporary folder {deep} is too long .* set TMPDIR to a shorter folder"):
        local.up()
    assert running(local) == []


def test_a_folder_of_sockets_has_room_for_the_longest_of_them():
    folder = folder_for_sockets(room=46)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / ("s" * 40 + ".sock")))
    finally:
        shutil.rmtree(folder)


def test_a_proxy_of_the_environment_is_not_between_processes_of_this_machine():
    changed = without_proxy({"HTTP_PROXY": "http://proxy:3128", "no_proxy": "example.org,localhost"})
    assert changed["no_proxy"] == "example.org,localhost,127.0.0.1" and changed["NO_PROXY"] == "localhost,127.0.0.1"
    assert changed["HTTP_PROXY"] == "http://proxy:3128"
