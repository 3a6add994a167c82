"""`fedlaw deploy pardon | remove`: the order is left for the server, carried out before the next round, and told."""

import errno
import json
import os
import time

import numpy as np
import pytest
from flwr.app import MetricRecord
from scripted import ScriptedGrid, record_of, reply, stopped_clock
from typer.testing import CliRunner

from fedlaw_flwr.cli.main import app
from fedlaw_flwr.core import durable
from fedlaw_flwr.core.durable import Lock
from fedlaw_flwr.core.errors import InputError, NotThere, sentence_of
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder
from fedlaw_flwr.deploy.local import LocalFederation
from fedlaw_flwr.events.folder import read_events
from fedlaw_flwr.events.orders import ORDERS, Order, give, newest, read_orders
from fedlaw_flwr.ledger.verify import Written
from fedlaw_flwr.strategy import FedLAW

NAMES = ["aachen", "bonn", "celle", "dresden", "essen", "fulda", "gera", "halle"]


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    monkeypatch.setattr("fedlaw_flwr.strategy.account.Account._report", lambda account: "")


@pytest.fixture
def federation(tmp_path):
    """The federation.yaml of eight silos, and where the server of a local federation has its run folders."""
    file = tmp_path / "federation.yaml"
    silos = "\n".join(f"  - name: {name}" for name in NAMES)
    file.write_text(f"name: clinics\nsuperlink: {{host: localhost}}\nrun: {{max-byzantine: 0.25}}\nsilos:\n{silos}\n")
    read = Federation.read(file)
    return file, LocalFederation(read, FederationFolder.beside(file, read.name)).runs


def fedlaw(command, file, *rest):
    done = CliRunner().invoke(app, ["deploy", command, str(file), *rest])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def honest(received):
    theta = received.arrays.get("w", np.zeros(4, np.float32))
    content = {"w": theta - np.float32(0.1) * (theta - 1)}
    return reply(content, float(np.square(theta - 1).sum()))


def held(runs, scripts, between, rounds):
    """A run in the server's folder of runs, `between(round)` called after each round."""
    folder = runs / "run-1"
    folder.mkdir(parents=True)
    grid = ScriptedGrid(scripts, NAMES)
    strategy = FedLAW(max_byzantine=0.25, lr=0.1, checkpoint=folder, startup_timeout=5.0)

    def after(server_round, arrays):
        between(server_round)
        return MetricRecord({"w0": float(arrays["w"].numpy()[0])})

    with stopped_clock():
        strategy.start(grid, record_of({"w": np.zeros(4, np.float32)}), rounds, 30, evaluate_fn=after)
    return grid, folder


def test_a_silo_that_sat_out_is_asked_again_and_another_is_out_of_the_run(federation):
    file, runs = federation
    said = {}

    def operate(server_round):
        if server_round == 4:
            said["pardon"] = fedlaw("pardon", file, "dresden")
            said["remove"] = fedlaw("remove", file, "halle")

    recovers = [*[honest] * 3, lambda received: honest(received) if received.round > 3 else None, *[honest] * 4]
    grid, folder = held(runs, recovers, operate, 6)
    assert said["pardon"] == "dresden is asked again from the next round on"
    assert said["remove"].startswith("halle is out of this run from the next round on; `fedlaw deploy unregister`")
    asked = {number: {NAMES[silo] for silo in grid.asked(number, 1)} for number in range(1, 7)}
    assert asked[3] == set(NAMES) and asked[4] == set(NAMES) - {"dresden"}
    assert asked[5] == asked[6] == set(NAMES) - {"halle"}
    told = [event.to_dict() for event in read_events(folder) if event.kind in ("sits-out", "pardoned", "removed")]
    assert [(one["kind"], one["round"], one["silo"]) for one in told] == [
        ("sits-out", 3, "dresden"),
        ("pardoned", 5, "dresden"),
        ("removed", 5, "halle"),
    ]
    assert (told[2]["n"], told[2]["b"]) == (7, 2)  # a quarter of seven, rounded up
    ledger = Written.read(folder)
    assert [line["silo"] for kind in ("pardoned", "removed") for line in ledger.of(kind)] == ["dresden", "halle"]


@pytest.mark.parametrize("command", ["pardon", "remove"])
def test_a_silo_that_the_federation_does_not_name_is_refused_and_nothing_is_left_for_the_server(federation, command):
    file, runs = federation
    refused = []

    def operate(server_round):
        for name in ("berlin", "../bonn", ""):
            with pytest.raises(InputError) as caught:
                fedlaw(command, file, name)
            refused.append(str(caught.value))

    _, folder = held(runs, [honest] * 8, operate, 1)
    assert refused[0] == f"silo 'berlin': federation.yaml names {', '.join(NAMES)}" and len(refused) == 6
    assert not (folder / ORDERS).exists()


@pytest.mark.parametrize("command", ["pardon", "remove"])
def test_what_cannot_be_carried_out_is_a_warning_and_the_run_goes_on(federation, command):
    file, runs = federation
    twice = 2 if command == "remove" else 1
    operate = lambda server_round: server_round == 1 and [fedlaw(command, file, "bonn") for _ in range(twice)]  # noqa: E731
    _, folder = held(runs, [honest] * 8, operate, 2)
    warned = [event.reason for event in read_events(folder) if event.kind == "warning"]
    why = {"pardon": "no silo of this name sits out", "remove": "no silo of this name takes part"}
    assert warned == [f"{command} bonn: {why[command]}"]


@pytest.mark.parametrize("command", ["pardon", "remove"])
def test_without_a_run_that_goes_on_there_is_nobody_to_tell(federation, command):
    file, runs = federation
    with pytest.raises(NotThere, match="no run goes on here; a silo sits out for one run"):
        fedlaw(command, file, "bonn")
    _, folder = held(runs, [honest] * 8, lambda server_round: None, 1)
    with pytest.raises(NotThere, match="no run goes on here"):
        fedlaw(command, file, "bonn")
    assert not (folder / ORDERS).exists()


def lying(folder, age, *events):
    """A run folder whose events were written so many seconds ago."""
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    written = time.time() - age
    os.utime(folder / "events.jsonl", (written, written))
    return folder


def test_an_order_goes_to_the_run_that_a_server_is_writing_or_to_the_last_that_may_be_resumed(tmp_path):
    end = {"kind": "end", "status": "completed"}
    dead = lying(tmp_path / "run-1", 300)
    assert newest(tmp_path) == dead  # its server went down
    ended = lying(tmp_path / "run-2", 200, end)
    with pytest.raises(NotThere, match="no run goes on here"):
        newest(tmp_path)  # nobody goes back to the first
    going = lying(tmp_path / "run-3", 100)
    lock = Lock(going, "the run")
    later = lying(tmp_path / "run-4", 0)
    assert newest(tmp_path) == going
    lock.release()
    assert newest(tmp_path) == later
    lock = Lock(ended, "the run")  # its server writes the report
    assert newest(tmp_path) == later
    lock.release()


def test_an_order_for_which_there_is_no_room_leaves_nothing_behind(tmp_path, monkeypatch):
    run = lying(tmp_path / "run-1", 0)
    give(run, Order("pardon", "bonn"))

    class Full:
        def __getattr__(self, name):
            return getattr(os, name)

        written = 0

        def write(self, handle, content):
            self.written += 1
            if self.written == 1:
                return os.write(handle, content[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(durable, "os", Full())
        with pytest.raises(OSError) as full:
            give(run, Order("remove", "bonn"))
    assert sentence_of(full.value) == f"{run / ORDERS}: No space left on device; make room and try again"
    assert read_orders(run, 0) == [Order("pardon", "bonn")]
    give(run, Order("remove", "aachen"))
    assert read_orders(run, 1) == [Order("remove", "aachen")]
