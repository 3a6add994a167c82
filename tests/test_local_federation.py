"""A federation of real processes, TLS and node keys: equal to its simulation, and what happens when a part fails."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from client_app import simulated
from fedlaw_flwr.deploy.certificates import make_node_key
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder
from fedlaw_flwr.deploy.local import LocalFederation
from fedlaw_flwr.deploy.preflight import reach
from fedlaw_flwr.deploy.preparation import init, render
from fedlaw_flwr.runs.folder import read_events
from fedlaw_flwr.runs.in_process import run_in_process
from fedlaw_flwr.settings import Settings

pytestmark = pytest.mark.slow

# An exchange takes 5 to 8 s on two idle cores, and up to 25 on busy ones: who has not answered by then is silent.
DEADLINE = 60.0
# Flower notices that a node is gone after up to this long.
NOTICED = 90.0

PARTS = ("data", "node", "app")

TEXT = """\
name: test
superlink:
  host: 127.0.0.1
  port: {port}
run:
  task: digits
  partition: dirichlet
  concentration: 1.0
  seed: 0
  num-rounds: 3
  weight-rounds: 2
  max-byzantine: 1
  quorum: 4
  timeout: {deadline}
silos:
  - name: silo-0
  - name: silo-1
  - name: silo-2
    attack: inverse_gradient
  - name: silo-3
  - name: silo-4
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    """The federation, all five silos online; ended, whatever the tests did to it."""
    place = tmp_path_factory.mktemp("federation")
    file = place / "federation.yaml"
    file.write_text(TEXT.format(port=free_port(), deadline=DEADLINE))
    federation = Federation.read(file)
    folder = FederationFolder.beside(file, federation.name)
    init(federation, folder, drill=True)
    render(federation, folder)
    processes = LocalFederation(federation, folder)
    try:
        processes.up()
        yield processes
    finally:
        processes.down()
    assert not [name for name in processes.names if processes.pid(name)]


@pytest.fixture(scope="module")
def finished(up):
    """The folder of one undisturbed run, 3 rounds."""
    return up.run(lambda event: None)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def rounds(folder: Path) -> list[dict]:
    return [event for event in read_events(folder) if event["kind"] == "round"]


def events(folder: Path, kind: str) -> list[dict]:
    return [event for event in read_events(folder) if event["kind"] == kind]


def weights(event: dict) -> dict[str, float]:
    return dict(zip(event["silos"], event["weights"], strict=True))


def wait_for(what, seconds: float, why: str):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.3)
    raise AssertionError(f"{why} within {seconds:.0f} s")


@pytest.fixture
def whole(up, finished):
    """All five silos online again, whatever the test before did to them."""
    for name in up.names:
        if up.pid(name):
            up.stop(name, signal.SIGCONT)
    up.start("superlink")
    for silo in (one.name for one in up.federation.silos):
        if up.control().silos().get(silo) != "online" or not all(up.pid(f"{silo}-{part}") for part in PARTS):
            bring_back(up, silo)


def bring_back(up: LocalFederation, silo: str) -> None:
    """A node that was killed is let back in once the SuperLink has noticed that it is gone."""

    def back() -> bool:
        up.start_silo(silo)
        time.sleep(3)
        return up.control().silos().get(silo) == "online" and bool(up.pid(f"{silo}-node"))

    wait_for(back, 2 * NOTICED, f"{silo} did not come back")


def test_it_equals_the_simulation_of_the_same_seed(up, finished, tmp_path):
    settings = up.federation.settings().model_copy(
        update={"drills": "", "attack": "inverse_gradient", "byzantine": 1, "quorum": 0}
    )
    settings = Settings.read(settings.as_config())
    assert settings.known_attacks() == {"silo 2": "inverse_gradient"}
    run_in_process(simulated.app, settings, tmp_path / "simulated")
    real, twin = rounds(finished), rounds(tmp_path / "simulated")
    assert len(real) == len(twin) == 3
    for one, other in zip(real, twin, strict=True):
        assert one["silos"] == [name.replace(" ", "-") for name in other["silos"]]
        for key in ("weights", "losses", "norms", "clip"):
            np.testing.assert_allclose(one[key], other[key], atol=1e-4, err_msg=key)
    accuracy = [events(folder, "evaluate")[-1]["accuracy"] for folder in (finished, tmp_path / "simulated")]
    assert abs(accuracy[0] - accuracy[1]) < 0.01


def test_the_hostile_silo_ends_with_no_weight(finished):
    assert weights(rounds(finished)[-1])["silo-2"] == 0.0


def test_a_node_whose_key_is_not_registered_is_refused(up, finished, tmp_path):
    make_node_key(tmp_path / "node.key", tmp_path / "node.pub")
    log, ended = start_node(up, tmp_path / "node.key", up.folder.ca_certificate, tmp_path)
    assert ended, log
    assert "Failed to activate SuperNode" in log and "305" in log
    assert set(up.control().silos().values()) == {"online"}


def test_a_second_node_with_a_silos_key_is_refused(up, finished, tmp_path):
    log, ended = start_node(up, up.folder.private_key("silo-1"), up.folder.ca_certificate, tmp_path)
    assert ended, log
    assert "Failed to activate SuperNode" in log and "305" in log
    assert up.control().silos()["silo-1"] == "online"


def test_a_silo_that_trusts_another_authority_does_not_connect(up, finished, tmp_path):
    other = FederationFolder(tmp_path / "other")
    init(up.federation, other)
    log, _ = start_node(up, up.folder.private_key("silo-1"), other.ca_certificate, tmp_path)
    assert re.search(r"certificate verify failed|CERTIFICATE_VERIFY_FAILED|SSL", log), log
    assert up.control().silos()["silo-1"] == "online"


def test_plain_http_gets_nothing_from_the_tls_port(up, finished):
    address = f"127.0.0.1:{up.port('superlink')}"
    with pytest.raises(httpx.HTTPError):
        httpx.post(f"http://{address}/v1/control/list-runs", timeout=5)
    assert up.pid("superlink")
    assert set(up.control().silos().values()) == {"online"}


def test_the_port_answers_nobody_who_does_not_check_who_it_is(up, finished):
    with pytest.raises(httpx.ConnectError, match="certificate"):
        httpx.get(f"https://127.0.0.1:{up.port('superlink')}/health", timeout=5)


def test_preflight_knows_the_server_and_warns_of_what_it_lets_in(up, finished, tmp_path):
    known, exposed = reach(up.federation, up.folder)
    assert known.ok and "answers with this federation's certificate" in known.what
    assert not exposed.ok and "control interface is reachable" in exposed.what
    other = FederationFolder(tmp_path / "other")
    init(up.federation, other)
    (foreign,) = reach(up.federation, other)
    assert not foreign.ok and "shows a certificate that is not this federation's" in foreign.what


def test_the_verdict_and_the_metrics_name_the_drill(up, finished):
    from prometheus_client.core import CollectorRegistry
    from prometheus_client.exposition import generate_latest

    from fedlaw_flwr.runs.metrics import RunMetrics
    from fedlaw_flwr.runs.verdict import verdict

    found = verdict(read_events(finished))
    assert (found.attackers, found.caught, found.honest, found.wronged) == (1, 1, 4, 0)
    registry = CollectorRegistry()
    registry.register(RunMetrics(up.runs))
    text = generate_latest(registry).decode()
    assert f'fedlaw_weight{{run="{finished.name}",silo="silo-2"}} 0.0' in text
    assert f'fedlaw_run_state{{run="{finished.name}",state="completed"}} 1.0' in text


def test_a_silo_stopped_past_the_deadline_is_silent_for_the_round_and_comes_back(up, whole):
    def disturb(event):
        if event["kind"] == "round" and event["round"] == 1:
            up.stop("silo-3-node", signal.SIGSTOP)
        if event["kind"] == "silent":
            up.stop("silo-3-node", signal.SIGCONT)

    folder = up.run(disturb, {"timeout": 40.0, "num-rounds": 4, "weight-rounds": 4})
    silent = events(folder, "silent")
    assert [(event["silo"], event["round"]) for event in silent][:1] == [("silo-3", 2)]
    assert {event["silo"] for event in silent} == {"silo-3"}
    assert not any(event["held"] for event in rounds(folder))
    assert "silo-3" in rounds(folder)[-1]["silos"]


def test_a_node_killed_between_the_exchanges_dodged_and_loses_its_weight_until_scored_again(up, whole):
    killed = []

    def answers(silo):
        return up.log(f"{silo}-data").read_text().count("answered in")

    def disturb(event):
        if event["kind"] == "round" and event["round"] == 1:
            before = {silo: answers(silo) for silo in ("silo-0", "silo-1")}
            wait_for(lambda: answers("silo-1") > before["silo-1"], DEADLINE, "silo-1 did not answer exchange 1")
            up.stop("silo-1-data", signal.SIGSTOP)  # its answer is out; the next message finds nobody
            wait_for(lambda: answers("silo-0") > before["silo-0"] + 1, DEADLINE, "exchange 2 did not come")
            up.stop("silo-1-node", signal.SIGKILL)
            up.stop("silo-1-data", signal.SIGCONT)
            killed.append(True)

    folder = up.run(disturb, {"num-rounds": 3, "weight-rounds": 3, "timeout": 3 * DEADLINE})
    assert killed
    second, third = rounds(folder)[1:]
    assert second["exchanges"][0]["answered"] == 5 and second["exchanges"][1]["answered"] == 4
    assert second["dodged"] == ["silo-1"] and weights(second)["silo-1"] == 0.0
    assert "silo-1" not in third["silos"]
    assert not any(event["held"] for event in rounds(folder))


def test_a_superlink_killed_in_mid_run_and_started_again_loses_nothing(up, finished, whole):
    def disturb(event):
        if event["kind"] == "round" and event["round"] == 1:
            up.stop("superlink", signal.SIGKILL)
            wait_for(lambda: not up.pid("superlink"), 10, "the SuperLink did not end")
            up.start("superlink")

    folder = up.run(disturb, {"timeout": 3 * DEADLINE})
    again, before = rounds(folder), rounds(finished)
    assert [event["round"] for event in again] == [1, 2, 3]
    assert all(event["exchanges"][0]["answered"] == 5 for event in again)
    for one, other in zip(again, before, strict=True):
        np.testing.assert_allclose(one["weights"], other["weights"], atol=1e-12)


def test_a_silo_that_joins_in_round_3_has_no_weight_until_it_is_scored(up, whole):
    up.stop("silo-4-node", signal.SIGTERM)
    wait_for(lambda: up.control().silos()["silo-4"] != "online", NOTICED, "silo-4 did not go offline")

    def disturb(event):
        if event["kind"] == "round" and event["round"] == 2:
            up.start_silo("silo-4")
            up.control().wait_online(["silo-4"], NOTICED)
            # Round 3 may have asked already; from the next one on it takes part.

    folder = up.run(disturb, {"num-rounds": 5, "weight-rounds": 5})
    seen = [event["silos"] for event in rounds(folder)]
    assert all("silo-4" not in silos for silos in seen[:2])
    joined = next(index for index, silos in enumerate(seen) if "silo-4" in silos)
    assert joined in (2, 3)
    assert weights(rounds(folder)[-1])["silo-4"] > 0.0
    assert not any(event["held"] for event in rounds(folder))


def test_a_silos_own_process_that_died_is_one_silos_named_failure(up, whole):
    up.stop("silo-0-data", signal.SIGKILL)
    folder = up.run(lambda event: None, {"num-rounds": 1})
    (first,) = [event for event in events(folder, "silent") if event["exchange"] if event["silo"] == "silo-0"][:1]
    assert "the silo's own process did not answer" in first["reason"]
    assert rounds(folder)[0]["exchanges"][0]["answered"] == 4 and not rounds(folder)[0]["held"]


def start_node(up: LocalFederation, key: Path, authority: Path, place: Path) -> tuple[str, bool]:
    """A SuperNode with this key that trusts this authority: what it says, and whether it ends by itself within 20 s."""
    log = place / "node.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                str(Path(sys.executable).parent / "flower-supernode"),
                *("--superlink", f"127.0.0.1:{up.port('superlink')}", "--root-certificates", str(authority)),
                *("--auth-supernode-private-key", str(key), "--host", "127.0.0.1", "--port", str(free_port())),
                *("--isolation", "process", "--max-retries", "2"),
            ],
            env={
                **os.environ,
                "FLWR_HOME": str(place),
                "FLWR_TELEMETRY_ENABLED": "0",
                "FLWR_DISABLE_UPDATE_CHECK": "1",
            },
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        process.wait(20)
        ended = True
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        ended = False
    return log.read_text(), ended
