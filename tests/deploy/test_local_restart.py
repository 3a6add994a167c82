"""One silo of a local federation started anew, its processes stand-ins: ended whole, and tried until it is let in."""

import sys
import time

import pytest

from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder
from fedlaw_flwr.deploy.local import LocalFederation
from fedlaw_flwr.deploy.preparation import init, render

TEXT = "name: clinics\nsuperlink: {host: localhost}\nrun: {max-byzantine: 0}\nsilos: [{name: aachen}, {name: bonn}]\n"
# A node that is refused the second time it starts, as Flower's is until the SuperLink has noticed that it had gone. It
# does not end when it is asked to, and what it said before must not be taken for what it says now.
NODE = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
tries = pathlib.Path(sys.argv[1])
number = len(tries.read_text()) + 1 if tries.exists() else 1
tries.write_text("x" * number)
if number == 2:
    print("Failed to activate SuperNode. Exit Code: 305", flush=True)
    sys.exit(305)
print("SuperNode ID: 7", flush=True)
time.sleep(300)
"""
# A silo's own process, without data: it listens at once.
DATA = """
import socket, sys, time
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
time.sleep(300)
"""


@pytest.fixture
def one_silo(tmp_path, monkeypatch):
    """A local federation whose processes are stand-ins."""
    (tmp_path / "federation.yaml").write_text(TEXT)
    federation = Federation.read(tmp_path / "federation.yaml")
    local = LocalFederation(federation, FederationFolder.beside(tmp_path / "federation.yaml", "clinics"))
    init(federation, local.folder, drill=True)
    render(federation, local.folder)

    def stand_in(self, name):
        if name.endswith("-data"):
            path = self._sockets() / f"{name.removesuffix('-data')}.sock"
            path.unlink(missing_ok=True)
            return [sys.executable, "-c", DATA, str(path)]
        script = NODE if name.endswith("-node") else "import time; time.sleep(300)"
        return [sys.executable, "-c", script, str(tmp_path / f"{name}.tries")]

    monkeypatch.setattr(LocalFederation, "_command", stand_in)
    for wait in ("deploy.local._END", "simulation.processes._STOP"):
        monkeypatch.setattr(f"fedlaw_flwr.{wait}", 0.3)
    yield local
    local.down()


def test_a_silo_started_anew_is_tried_again_until_the_server_lets_its_node_in(one_silo, tmp_path):
    one_silo.start("superlink")
    one_silo.start_silo("aachen")
    while "SuperNode ID" not in one_silo.log("aachen-node").read_text():
        time.sleep(0.05)
    before = {name: one_silo.pid(name) for name in one_silo.names if one_silo.pid(name)}
    one_silo.restart_silo("aachen")
    after = {name: one_silo.pid(name) for name in one_silo.names if one_silo.pid(name)}
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] == after[name]} == {"superlink"}
    assert (tmp_path / "aachen-node.tries").read_text() == "xxx"
    said = one_silo.log("aachen-node").read_text().splitlines()
    assert said == ["SuperNode ID: 7", "Failed to activate SuperNode. Exit Code: 305", "SuperNode ID: 7"]


def test_what_runs_already_is_left_alone_when_others_are_started(one_silo, tmp_path):
    one_silo.start("superlink")
    one_silo.let_in(["aachen"])
    before = {name: one_silo.pid(name) for name in one_silo.names if one_silo.pid(name)}
    (tmp_path / "bonn-node.tries").write_text("x")  # so that bonn's is refused at first
    one_silo.let_in(["aachen", "bonn"])
    assert before == {name: one_silo.pid(name) for name in before}
    assert [(tmp_path / f"{silo}-node.tries").read_text() for silo in ("aachen", "bonn")] == ["x", "xxx"]


def test_a_silo_needs_a_superlink_to_be_restarted_and_one_that_is_not_let_in_is_said(one_silo, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="the SuperLink is not running"):
        one_silo.restart_silo("aachen")
    one_silo.start("superlink")
    monkeypatch.setattr("fedlaw_flwr.deploy.local._LET_IN", 0.0)
    (tmp_path / "aachen-node.tries").write_text("x")  # refused at first: on a busy machine it is let in too soon
    with pytest.raises(TimeoutError, match="not let in within 0 s: aachen; see"):
        one_silo.restart_silo("aachen")
