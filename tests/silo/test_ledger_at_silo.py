"""A run whose messages go the real way to silos' own processes: heads that they keep, budgets, the key they know."""

import json
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from forked_silo import silo
from scripted import ScriptedGrid, record_of, stopped_clock

from fedlaw_flwr.apps.shipped.client import SiloFailed, hand_over
from fedlaw_flwr.config.document import DocumentError
from fedlaw_flwr.events.folder import read_events
from fedlaw_flwr.ledger.heads import Head, read_heads
from fedlaw_flwr.ledger.kept import not_of_the_key
from fedlaw_flwr.ledger.keys import ServerKey, fingerprint
from fedlaw_flwr.ledger.verify import Written, verify
from fedlaw_flwr.silo.config import SiloConfig
from fedlaw_flwr.strategy import FedLAW

NAMES = ["aachen", "bonn", "celle"]


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    monkeypatch.setattr("fedlaw_flwr.strategy.account.Account._report", lambda account: "")


class Delivering(ScriptedGrid):
    """Every message goes through the ClientApp that Flower ships to the process that listens at the silo's socket."""

    def __init__(self, places: list[Path]) -> None:
        super().__init__([self._undelivered] * len(places), NAMES)
        self._places = places

    def _undelivered(self, received):
        raise AssertionError("a message went another way")

    def _answer(self, key: str) -> list[Message]:
        waiting = self._waiting.pop(key)
        place, message = self._places[waiting.received.silo], waiting._message
        context = Context(1, message.metadata.dst_node_id, {"socket": str(place / "silo.sock")}, RecordDict(), {})
        try:
            return [hand_over(message, context)]
        except SiloFailed as error:
            return [Message(Error(2, str(error)), reply_to=message)]


@contextmanager
def silos(*keys: dict[str, str], policy: str = "exchanges-per-day: 100\n"):
    """A silo's process for each of these silo.yaml; their folders."""
    with ExitStack() as stack:
        places = []
        for more in keys:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedlaw-")))
            stack.enter_context(silo(place, policy, **more))
            places.append(place)
        yield places


def start(places, folder, rounds=3, resume=False, after=None, **more):
    """A run over these silos; its grid."""
    grid = Delivering(places)
    strategy = FedLAW(
        max_byzantine=0, lr=0.1, startup_timeout=5.0, **more, **({"checkpoint": folder} if folder else {})
    )

    def evaluate(server_round, arrays):
        if after:
            after(server_round)
        return MetricRecord({"w0": float(arrays["w"].numpy()[0])})

    with stopped_clock():
        config = ConfigRecord({"step": 0.1, "lr": 0.1})
        arrays = record_of({"w": np.zeros(4, np.float32)})
        strategy.start(grid, arrays, rounds, 30, config, evaluate_fn=evaluate, resume=resume)
    return grid


def used(place: Path) -> int:
    """How many exchanges a silo counted."""
    return len(json.loads((place / "state" / "budget.json").read_text()))


class Killed(BaseException):
    """The server's end, which no part of it handles."""


def test_the_heads_that_silos_keep_end_with_the_last_line_of_the_ledger(tmp_path):
    with silos({}, {}, {}) as places:
        start(places, tmp_path / "run")
        ledger = Written.read(tmp_path / "run")
        for place in places:
            kept = read_heads(place / "state" / "heads")
            # That of round 3 is followed by the end's before another message brings it.
            assert kept == [head for head in ledger.heads if (head.round, head.last) != (3, False)]
            assert kept[-1].last and kept[-1].lines == len(ledger.lines) - 1  # all but the line that has its signature
            assert [one.kind for one in verify(ledger, kept, ended=True)] == ["ok"] * 4
            assert used(place) == 6  # two exchanges a round, and none for the last head


def test_a_round_that_is_run_again_counts_again_at_the_silos_and_is_named_in_the_ledger(tmp_path):
    def die_in_round_2(server_round):
        if server_round == 2:  # its silos have answered, and its checkpoint is not written
            raise Killed

    with silos({}, {}, {}, policy="exchanges-per-day: 7\n") as places:
        with pytest.raises(Killed):
            start(places, tmp_path / "run", after=die_in_round_2)
        assert [used(place) for place in places] == [4] * 3
        start(places, tmp_path / "run", resume=True)
        # Round 1, and round 2 twice: six exchanges. The first of round 3 is the seventh, and the next is one too many.
        assert [used(place) for place in places] == [7] * 3
    refused = [event for event in read_events(tmp_path / "run") if event.kind == "silent"]
    assert {(one.round, one.exchange, one.silo) for one in refused} == {(3, 2, name) for name in NAMES}
    assert all(one.reason.endswith("policy: 7 exchanges in 24 h are used up") for one in refused)
    ledger = Written.read(tmp_path / "run")
    (resumed,) = ledger.of("resumed")
    assert resumed["round"] == 1 and resumed["abandoned-round"] == 2
    assert [one["round"] for one in resumed["abandons"]] == [2, 2]  # the second is that of the end it came to
    assert not [one for one in verify(ledger, ended=True) if one.kind == "wrong"]


def test_a_silo_that_knows_the_server_s_key_refuses_the_messages_of_a_server_with_another(tmp_path):
    ours, other = (ServerKey.load(tmp_path / name) for name in ("ours.key", "other.key"))
    right, wrong = ({"server_key": fingerprint(key.public)} for key in (ours, other))
    with silos(right, {}, wrong) as places:
        start(places, tmp_path / "run", rounds=1, server_key=str(tmp_path / "ours.key"))
        assert [used(place) for place in places[:2]] == [2, 2]
        assert not (places[2] / "state" / "budget.json").exists()  # it is refused before anything is counted
        # What it was sent is kept all the same: it is evidence.
        assert {head.key for head in read_heads(places[2] / "state" / "heads")} == {ours.public}
        assert "and SHA256:" in (places[2] / "log").read_text()
        assert f"signed with {right['server_key']}\n" in (places[2] / "log").read_text()  # whole, to be compared
    (refused,) = [event for event in read_events(tmp_path / "run") if event.kind == "silent"]
    assert refused.silo == "celle" and refused.reason.endswith(
        f"the server's ledger is signed with {right['server_key'][:23]}…, and {wrong['server_key'][:23]}… is expected "
        "(server-key in silo.yaml)"
    )


def test_a_server_that_keeps_no_ledger_gets_nothing_from_a_silo_that_knows_its_key(tmp_path):
    pinned = {"server_key": fingerprint(ServerKey.fresh().public)}
    with silos(pinned, {}, {}) as places:
        start(places, None, rounds=1)
        assert not (places[0] / "state" / "budget.json").exists() and used(places[1]) == 2
        assert f"brings no head of a ledger signed with {pinned['server_key'][:23]}…" in (places[0] / "log").read_text()


def test_which_heads_a_pinned_key_takes():
    key, other = ServerKey.fresh(), ServerKey.fresh()
    pinned = fingerprint(key.public)

    def wrong(text, message_type="train"):
        return not_of_the_key([{"lr": 0.1}, {} if text is None else {"ledger-head": text}], pinned, message_type)

    def head(signs, **changed):
        text = Head.signed(signs, "a" * 32, 1, 0, False, 1, "b" * 64).text()
        return json.dumps({**json.loads(text), **changed}) if changed else text

    assert wrong(head(key)) == wrong(head(key), "query") == wrong(None, "query.task") == ""
    assert "brings no head of a ledger" in wrong(None)
    for forged in ("", "junk", head(key, round=1), head(other, key=key.public), head(key, signature="0" * 128)):
        assert "that nobody signed" in wrong(forged) and "that nobody signed" in wrong(forged, "query")
    told = f"signed with {fingerprint(other.public)[:23]}…, and {pinned[:23]}… is expected"
    assert wrong(head(other)) == f"the server's ledger is {told}"


@pytest.mark.parametrize("value", ["SHA256:short", "ab" * 32, "MD5:" + "a" * 43, "SHA256:" + "a" * 44])
def test_what_is_no_fingerprint_is_refused_with_its_line(tmp_path, value):
    (tmp_path / "silo.yaml").write_text(f"name: bonn\nserver-key: {value}\n")
    with pytest.raises(DocumentError, match=r"silo.yaml:2: .*the fingerprint of the server's key is expected"):
        SiloConfig.read(tmp_path / "silo.yaml")


def test_a_client_is_not_told_the_key():
    assert "server-key" not in SiloConfig(name="bonn", server_key=fingerprint(ServerKey.fresh().public)).node_config()
