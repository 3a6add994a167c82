"""A federation of real processes, TLS and node keys: equal to its simulation, and what happens when a part fails."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from real_federation import assert_agrees, events, free_port, local_federation, rounds, simulated_twin
from safetensors.numpy import load_file

from fedlaw_flwr.deploy.certificates import make_node_key
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder
from fedlaw_flwr.deploy.local import LocalFederation
from fedlaw_flwr.deploy.preflight import reach
from fedlaw_flwr.deploy.preparation import init, rotate
from fedlaw_flwr.events.folder import MODEL
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import Evaluated, NoReply, ReplyRejected, RoundEnded, RunEnded

pytestmark = pytest.mark.slow

# An exchange takes 5 to 8 s on two idle cores, and up to 25 on busy ones: who has not answered by then is silent.
DEADLINE = 60.0
# Flower notices that a node is gone after up to this long.
NOTICED = 90.0

PARTS = ("data", "node", "app")
PROGRAMS, CHECKOUT = Path(sys.executable).parent, Path(__file__).parents[2]

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
  weight-rounds: 3
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
    text = TEXT.format(port=free_port(), deadline=DEADLINE)
    with local_federation(tmp_path_factory.mktemp("federation"), text) as processes:
        yield processes
    assert not [name for name in processes.names if processes.pid(name)]


@pytest.fixture(scope="module")
def finished(up):
    """The folder of one undisturbed run, 3 rounds."""
    return up.run(lambda event: None)


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
    seen = up.control().silos()
    for silo in (one.name for one in up.federation.silos):
        if seen.get(silo) != "online" or not all(up.pid(f"{silo}-{part}") for part in PARTS):
            bring_back(up, silo)


def bring_back(up: LocalFederation, silo: str) -> None:
    """A node that was killed is let back in once the SuperLink has noticed that it is gone."""

    def back() -> bool:
        up.start_silo(silo)
        time.sleep(3)
        return up.control().silos().get(silo) == "online" and bool(up.pid(f"{silo}-node"))

    wait_for(back, 2 * NOTICED, f"{silo} did not come back")


def restart(up: LocalFederation, name: str) -> None:
    """Ends one process, if it runs, and starts it anew."""
    if up.pid(name):
        up.stop(name)
        wait_for(lambda: not up.pid(name), 20, f"{name} did not end")
    up.start(name)


# -- what a run is compared with -------------------------------------------------------------------------------


def assert_same_model(one: Path, other: Path, atol: float) -> None:
    """The final models of two runs, tensor by tensor."""
    first, second = load_file(one / MODEL), load_file(other / MODEL)
    assert first.keys() == second.keys() and first
    for key, tensor in first.items():
        np.testing.assert_allclose(tensor, second[key], rtol=0, atol=atol, err_msg=key)


# -- from the command line -------------------------------------------------------------------------------------


def test_the_readme_s_commands_run_the_demo_to_what_its_simulation_says_and_leave_no_process(tmp_path):
    file = tmp_path / "deploy" / "federation.yaml"
    file.parent.mkdir()
    demo = (CHECKOUT / file.relative_to(tmp_path)).read_text()
    file.write_text(demo.replace("port: 9443", f"port: {free_port()}"))
    readme, page = ((CHECKOUT / name).read_text() for name in ("README.md", "docs/how-to/deploy.md"))

    def fedlaw(line: str, documented: str = readme) -> str:
        assert f"\nfedlaw {line}" in documented
        done = subprocess.run(
            [PROGRAMS / "fedlaw", *line.split()],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    with contextlib.ExitStack() as after:
        assert "A drill" in fedlaw("deploy init --drill deploy/federation.yaml")
        after.callback(fedlaw, "deploy local down deploy/federation.yaml")
        assert "5 silos are online" in fedlaw("deploy local up deploy/federation.yaml")
        started = processes_under(tmp_path)
        assert len(started) >= 2 + 5 * len(PARTS)
        assert "5 silos are online" in fedlaw("deploy local up deploy/federation.yaml")
        assert processes_under(tmp_path) == started
        status = fedlaw("deploy local status deploy/federation.yaml", page).splitlines()
        assert sum("-node" in line and line.endswith("online") for line in (row.rstrip() for row in status)) == 5
        assert not any("not running" in line for line in status)
        told = fedlaw("deploy run deploy/federation.yaml")
        assert "1 of 1" in told and "silo-2: weight 0.000 (a drill)" in told
        assert "answered in" in fedlaw("deploy local logs deploy/federation.yaml silo-2-data", page)
    assert processes_under(tmp_path) == []

    run = Path(re.search(r"^run folder: (\S+/run-\d+)", told, re.MULTILINE)[1])
    twin = simulated_twin(Federation.read(file), tmp_path / "simulated")
    assert len(rounds(run)) == 10
    assert_agrees(run, twin)
    assert rounds(run)[-1].weight_of["silo-2"] == 0.0


def processes_under(folder: Path) -> list[int]:
    """The ids of the processes whose Flower home lies in this folder, in order."""
    homes = ((process, process.info["environ"] or {}) for process in psutil.process_iter(["environ"]))
    return sorted(process.pid for process, environ in homes if environ.get("FLWR_HOME", "").startswith(str(folder)))


# -- an undisturbed run ----------------------------------------------------------------------------------------


def test_it_equals_the_simulation_of_the_same_seed(up, finished, tmp_path):
    twin = simulated_twin(up.federation, tmp_path / "simulated")
    assert_agrees(finished, twin)
    assert_same_model(finished, twin, atol=1e-4)


def test_the_hostile_silo_ends_with_no_weight(finished):
    assert rounds(finished)[-1].weight_of["silo-2"] == 0.0


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

    from fedlaw_flwr.events.verdict import verdict
    from fedlaw_flwr.reporting.prometheus import RunMetrics

    found = verdict(Run.read(finished))
    assert (found.attackers, found.caught, found.honest, found.wrongly_excluded) == (1, 1, 4, 0)
    registry = CollectorRegistry()
    registry.register(RunMetrics(up.runs))
    text = generate_latest(registry).decode()
    assert f'fedlaw_weight{{run="{finished.name}",silo="silo-2"}} 0.0' in text
    assert f'fedlaw_run_state{{run="{finished.name}",state="completed"}} 1.0' in text


# -- a run while strangers try to get in -----------------------------------------------------------------------


@dataclass(frozen=True)
class Besieged:
    """One run in whose first rounds four who do not belong tried to get in, and what each of them was told."""

    folder: Path
    nodes: dict[str, "Node"] = field(default_factory=dict)
    plain_http: list[Exception | None] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture(scope="module")
def besieged(up, finished, tmp_path_factory):
    """The same run as `finished`, with all four of them at it from the end of round 1 on."""
    place = tmp_path_factory.mktemp("strangers")
    other = FederationFolder(place / "other")
    init(up.federation, other)
    for name in ("unregistered", "deceived"):
        make_node_key(place / f"{name}.key", place / f"{name}.pub")
    control = up.control()
    # Only the certificate it trusts keeps this one out: its key is good, and nobody else's.
    control.register({"deceived": str(place / "deceived.pub")})
    strangers = {
        "unregistered": (place / "unregistered.key", up.folder.ca_certificate),
        "second": (up.folder.private_key("silo-1"), up.folder.ca_certificate),
        "deceived": (place / "deceived.key", other.ca_certificate),
    }
    siege = Besieged(place / "not yet")

    def disturb(event):
        if isinstance(event, RoundEnded) and event.round == 1:
            for name, (key, authority) in strangers.items():
                siege.nodes[name] = after.enter_context(Node(up, key, authority, place / name))
            siege.plain_http.append(answer_to_plain_http(up))
            for name in ("unregistered", "second"):
                wait_for(lambda node=siege.nodes[name]: node.ended, DEADLINE, f"the {name} node did not end")
            refused = siege.nodes["deceived"]
            wait_for(lambda: "certificate" in refused.log(), DEADLINE, "the deceived node went on")
            siege.seen.append(control.silos())

    with contextlib.ExitStack() as after:
        after.callback(control.unregister, "deceived")
        folder = up.run(disturb)
        siege.seen.append(control.silos())
        yield Besieged(folder, siege.nodes, siege.plain_http, siege.seen)


def answer_to_plain_http(up: LocalFederation) -> Exception | None:
    """What comes of speaking plain HTTP to the TLS port: None for an answer, else the client's error."""
    try:
        httpx.post(f"http://127.0.0.1:{up.port('superlink')}/v1/control/list-runs", timeout=5)
    except httpx.HTTPError as error:
        return error
    return None


def test_a_node_whose_key_is_not_registered_is_refused(besieged):
    log = besieged.nodes["unregistered"].log()
    assert besieged.nodes["unregistered"].ended, log
    assert "Failed to activate SuperNode" in log and "305" in log


def test_a_second_node_with_a_silos_key_is_refused(besieged):
    log = besieged.nodes["second"].log()
    assert besieged.nodes["second"].ended, log
    assert "Failed to activate SuperNode" in log and "305" in log
    assert [seen["silo-1"] for seen in besieged.seen] == ["online", "online"]


def test_a_silo_that_trusts_another_authority_does_not_connect_even_with_a_registered_key(besieged):
    log = besieged.nodes["deceived"].log()
    assert "Failed to activate SuperNode" not in log  # it never got as far as showing its key
    assert re.search(r"certificate verify failed|CERTIFICATE_VERIFY_FAILED", log), log
    assert [seen["deceived"] for seen in besieged.seen] == ["registered", "registered"]


def test_plain_http_gets_nothing_from_the_tls_port(up, besieged):
    (refused,) = besieged.plain_http
    assert isinstance(refused, httpx.TransportError)  # not an answer of any status
    assert up.pid("superlink")


def test_a_run_is_not_disturbed_by_any_of_them(up, besieged, finished):
    silos = dict.fromkeys((silo.name for silo in up.federation.silos), "online")
    assert besieged.seen == [{**silos, "deceived": "registered"}] * 2
    assert events(besieged.folder, RunEnded)[-1].status == "completed"
    assert_undisturbed(besieged.folder, finished)
    # They came while it ran: the last event was written after all three had been refused.
    ended = max((node.place / "node.log").stat().st_mtime for node in besieged.nodes.values() if node.ended)
    assert (besieged.folder / "events.jsonl").stat().st_mtime > ended


def assert_undisturbed(run: Path, finished: Path) -> None:
    """Five answers in every exchange, nobody silent or rejected, and the weights and the model of `finished`."""
    assert events(run, NoReply) == [] and events(run, ReplyRejected) == []
    again, before = rounds(run), rounds(finished)
    assert [event.round for event in again] == [event.round for event in before]
    for one, other in zip(again, before, strict=True):
        assert [exchange.answered for exchange in one.exchanges] == [5, 5]
        np.testing.assert_allclose(one.weights, other.weights, rtol=0, atol=1e-12)
    assert_same_model(run, finished, atol=1e-7)


# -- parts that fail -------------------------------------------------------------------------------------------


def test_a_silo_stopped_past_the_deadline_is_silent_for_the_round_and_comes_back(up, whole):
    def disturb(event):
        if isinstance(event, RoundEnded) and event.round == 1:
            up.stop("silo-3-node", signal.SIGSTOP)
        if isinstance(event, NoReply):
            up.stop("silo-3-node", signal.SIGCONT)

    # Shorter than the 33 s after which Flower itself may give up a node that no longer sends its heartbeat.
    folder = up.run(disturb, {"timeout": 25.0, "num-rounds": 4, "weight-rounds": 4})
    silent = events(folder, NoReply)
    assert [(event.silo, event.round) for event in silent][:1] == [("silo-3", 2)]
    assert silent[0].reason == "no answer within 25 s"
    assert {event.silo for event in silent} == {"silo-3"}
    assert not any(event.skipped for event in rounds(folder))
    assert "silo-3" in rounds(folder)[-1].silos


def test_a_node_killed_between_the_exchanges_is_unscored_and_loses_its_weight_until_scored_again(up, whole):
    killed = []

    def answers(silo):
        return up.log(f"{silo}-data").read_text().count("answered in")

    def disturb(event):
        if isinstance(event, RoundEnded) and event.round == 1:
            before = {silo: answers(silo) for silo in ("silo-0", "silo-1")}
            wait_for(lambda: answers("silo-1") > before["silo-1"], DEADLINE, "silo-1 did not answer exchange 1")
            up.stop("silo-1-data", signal.SIGSTOP)  # its answer is out; the next message finds nobody
            wait_for(lambda: answers("silo-0") > before["silo-0"] + 1, DEADLINE, "exchange 2 did not come")
            up.stop("silo-1-node", signal.SIGKILL)
            up.stop("silo-1-data", signal.SIGCONT)
            killed.append(True)
        if isinstance(event, RoundEnded) and event.round == 2:
            bring_back(up, "silo-1")

    folder = up.run(disturb, {"num-rounds": 5, "weight-rounds": 5, "timeout": 3 * DEADLINE})
    assert killed
    (silent,) = events(folder, NoReply)
    assert (silent.silo, silent.round, silent.exchange) == ("silo-1", 2, 2)
    assert silent.reason.startswith("error 5: ")  # Flower's word for a node that is gone
    second, third = rounds(folder)[1:3]
    assert [exchange.answered for exchange in second.exchanges] == [5, 4]
    assert second.unscored == ("silo-1",) and second.weight_of["silo-1"] == 0.0
    assert "silo-1" not in third.silos
    last = rounds(folder)[-1]
    assert "silo-1" in last.scored and last.weight_of["silo-1"] > 0.0
    assert not any(event.skipped for event in rounds(folder))


def test_a_superlink_killed_in_mid_run_and_started_again_loses_nothing(up, finished, whole):
    def disturb(event):
        if isinstance(event, RoundEnded) and event.round == 1:
            up.stop("superlink", signal.SIGKILL)
            wait_for(lambda: not up.pid("superlink"), 10, "the SuperLink did not end")
            up.start("superlink")

    folder = up.run(disturb, {"timeout": 3 * DEADLINE})
    assert [event.round for event in rounds(folder)] == [1, 2, 3]
    assert_undisturbed(folder, finished)


# -- who comes and goes ----------------------------------------------------------------------------------------


def test_a_silo_that_joins_in_round_3_has_no_weight_until_it_is_scored(up, whole):
    forget(up, "silo-4")
    up.up([silo.name for silo in up.federation.silos[:4]])
    assert "silo-4" not in up.control().silos()

    def disturb(event):
        if isinstance(event, RoundEnded) and event.round == 2:
            up.stop("silo-1-data", signal.SIGSTOP)  # round 3 waits for it, however long the newcomer takes to start
            up.up()  # registers the fifth silo's key, and starts it
            up.stop("silo-1-data", signal.SIGCONT)
            # Round 3 may have asked already; from the next one on it takes part.

    folder = up.run(disturb, {"num-rounds": 5, "weight-rounds": 5, "timeout": 3 * DEADLINE})
    seen = [event.silos for event in rounds(folder)]
    assert all("silo-4" not in silos for silos in seen[:2])
    joined = next(index for index, silos in enumerate(seen) if "silo-4" in silos)
    assert joined in (2, 3)
    # What went into the first score of each, h = w + alignment - beta f~: the newcomer's w is 0, the others' is not.
    first, before = rounds(folder)[joined], rounds(folder)[joined - 1].weight_of
    assert first.scored == first.silos and not first.losses_raised
    beta = up.federation.settings().beta
    came_with = np.array(first.scores) - first.alignment + beta * np.array(first.trial_losses)
    np.testing.assert_allclose(came_with, [before.get(silo, 0.0) for silo in first.silos], rtol=0, atol=1e-9)
    # Scored, it carries weight in this round's step already: the rest beside three silos at the cap t = 12 / (11 s).
    assert first.weight_of["silo-4"] == pytest.approx(1 - 3 * 12 / (11 * 4))
    assert first.weight_of["silo-2"] == 0.0
    assert rounds(folder)[-1].weight_of["silo-4"] > 0.0
    assert not any(event.skipped for event in rounds(folder))


def forget(up: LocalFederation, silo: str) -> None:
    """Makes a silo one that has never been here: ended, without state, its key one the SuperLink never saw."""
    for part in PARTS:
        up.stop(f"{silo}-{part}")
    wait_for(lambda: not any(up.pid(f"{silo}-{part}") for part in PARTS), 20, f"{silo} did not end")
    up.control().unregister(silo)
    rotate(up.federation, up.folder, silo, None)
    shutil.rmtree(up.path / "state" / silo, ignore_errors=True)


def test_a_silo_whose_key_was_replaced_takes_part_with_the_new_one_and_the_old_one_is_refused(up, whole, tmp_path):
    old = tmp_path / "old.key"
    shutil.copy(up.folder.private_key("silo-3"), old)
    rotate(up.federation, up.folder, "silo-3", None)
    control = up.control()
    control.unregister("silo-3")
    control.register({"silo-3": str(up.folder.public_key("silo-3"))})
    assert control.silos()["silo-3"] == "registered"  # by a key that no node has used yet
    restart(up, "silo-3-node")
    up.start_silo("silo-3")
    control.wait_online(["silo-3"], NOTICED)
    with Node(up, old, up.folder.ca_certificate, tmp_path / "old") as node:
        wait_for(lambda: node.ended, DEADLINE, "the node with the old key did not end")
        assert "Failed to activate SuperNode" in node.log() and "305" in node.log()
    folder = up.run(lambda event: None, {"num-rounds": 1})
    assert [exchange.answered for exchange in rounds(folder)[0].exchanges] == [5, 5]
    assert rounds(folder)[0].weight_of["silo-3"] > 0.0
    assert control.silos()["silo-3"] == "online"


# -- a silo's own process --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def failing(up, finished):
    """A run in which silo-0's process is dead at first, silo-1's dies after round 1, and both are started again after
    round 2, silo-0's with a silo.yaml that names another task than the run's."""
    own = up.folder.silo("silo-0") / "silo.yaml"
    right = own.read_text()
    assert "task: digits" in right

    def disturb(event):
        if isinstance(event, RoundEnded) and event.round == 1:
            up.stop("silo-1-data", signal.SIGKILL)
        if isinstance(event, RoundEnded) and event.round == 2:
            own.write_text(right.replace("task: digits", "task: breast_cancer"))
            up.start("silo-0-data")
            up.start("silo-1-data")

    up.stop("silo-0-data", signal.SIGKILL)
    try:
        # In a skipped round nothing is scored, so a round is one exchange. With strikes silo-0 would soon sit out.
        yield up.run(disturb, {"num-rounds": 6, "weight-rounds": 1, "quorum": 0, "strikes": 0})
    finally:
        own.write_text(right)
        restart(up, "silo-0-data")


def test_a_silos_own_process_that_died_is_one_silos_named_failure(failing):
    (first,) = [event for event in events(failing, NoReply) if event.silo == "silo-0"][:1]
    assert first.round == 1 and "the silo's own process did not answer" in first.reason
    assert rounds(failing)[0].exchanges[0].answered == 4 and not rounds(failing)[0].skipped


def test_with_fewer_than_2b_plus_2_answers_rounds_are_skipped_until_enough_answer(failing):
    skipped = [event.skipped for event in rounds(failing)]
    missing = skipped.count(True)
    assert missing >= 1 and skipped == [False] + missing * [True] + (5 - missing) * [False] and not skipped[-1]
    for event in rounds(failing)[1 : 1 + missing]:
        assert event.reason == "3 silos gave usable replies and 4 are needed (2b+2, quorum 0)"
        assert [exchange.answered for exchange in event.exchanges] == [3]
    # Skipped is kept: each skipped round's model measures exactly what round 1's did, and the next one moves.
    losses = [event.metrics["loss"] for event in events(failing, Evaluated)[1:]]
    assert losses[: 1 + missing] == (1 + missing) * losses[:1] and losses[1 + missing] != losses[0]


def test_a_client_that_raises_is_one_line_to_the_server_and_all_of_it_in_the_silos_own_log(up, failing):
    last = [event for event in events(failing, NoReply) if event.round == 6]
    assert [event.silo for event in last] == ["silo-0"]
    told = re.search(r"(\w+) in the silo's client; its own log has the rest under (\w{8})\b", last[0].reason)
    assert told and told[1] == "RuntimeError" and "size mismatch" not in last[0].reason
    own = up.log("silo-0-data").read_text()
    rest = own.partition(f"failure {told[2]}\n")[2]
    assert rest.startswith("Traceback") and "size mismatch" in rest
    assert "could not be handed over" not in own
    assert not rounds(failing)[-1].skipped and rounds(failing)[-1].exchanges[0].answered == 4


class Node:
    """A SuperNode with this key that trusts this authority, started beside the federation; killed on leaving."""

    def __init__(self, up: LocalFederation, key: Path, authority: Path, place: Path) -> None:
        self.place = place
        place.mkdir()
        with (place / "node.log").open("wb") as out:
            self._process = subprocess.Popen(
                [
                    str(PROGRAMS / "flower-supernode"),
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

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process.poll() is not None

    def log(self) -> str:
        """What it has said."""
        return (self.place / "node.log").read_text()

    def __enter__(self) -> "Node":
        return self

    def __exit__(self, *error: object) -> None:
        if not self.ended:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
