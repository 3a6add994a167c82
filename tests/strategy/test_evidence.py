"""What a strategy writes into the ledger: a line for each silo and round, and heads that reach the silos."""

import json
from contextlib import suppress

import numpy as np
import pytest
from flwr.app import Error, MetricRecord
from scripted import ScriptedGrid, record_of, reply, stopped_clock

from fedlaw_flwr.events.folder import RunFailed, read_events
from fedlaw_flwr.events.types import RoundEnded
from fedlaw_flwr.ledger.heads import head_of
from fedlaw_flwr.ledger.verify import Written, verify
from fedlaw_flwr.protocol.exchange import content_digest, payload_bytes
from fedlaw_flwr.strategy import FedLAW, RuleStrategy

TARGET = np.array([1.0, -1.0, 2.0, 0.5], np.float32)
START = {"w": np.zeros(4, np.float32)}


def silo(i, sign=1.0):
    def answer(received):
        theta = received.arrays.get("w", TARGET)
        loss = float(np.sum((theta - TARGET) ** 2))
        if received.message_type == "evaluate":
            return reply(None, loss)
        return reply({"w": theta - np.float32(0.1 * sign) * (theta - TARGET)}, loss, partition=i)

    return answer


def started(folder, scripts=None, rounds=3, simulated=False, strategy=None, **settings):
    """The grid of a run in this folder, and the ledger as it lies there afterwards."""
    strategy = strategy or FedLAW(**{"max_byzantine": 2, "lr": 0.1, "beta": 0.1, "run_dir": folder} | settings)
    strategy.startup_timeout = 5.0
    grid = ScriptedGrid(
        scripts or [silo(i, -1.0 if i > 5 else 1.0) for i in range(8)], names=[f"s{i}" for i in range(8)]
    )
    if simulated:
        grid.all_present = True
    with stopped_clock(), suppress(RunFailed):
        strategy.start(grid, record_of(START), rounds, 30)
    return grid, Written.read(folder)


def heads_sent(grid):
    return [head_of(received.config.get("ledger-head")) for received in grid.received]


def test_each_round_has_a_line_for_each_silo_with_the_numbers_of_the_rounds_event(tmp_path):
    _, ledger = started(tmp_path / "run")
    rounds = [event for event in read_events(tmp_path / "run") if isinstance(event, RoundEnded)]
    lines = list(ledger.of("silo"))
    assert [(line["round"], line["silo"]) for line in lines] == [(k, f"s{i}") for k in (1, 2, 3) for i in range(8)]
    for line in lines:
        event, row = rounds[line["round"] - 1], int(line["silo"][1:])
        assert line["loss"] == event.losses[row] and line["norm"] == event.norms[row]
        assert line["weight"] == event.weights[row] and line["clipped"] == (event.norms[row] > event.clip)
        assert line["score"] == event.scores[row] and line["alignment"] == event.alignment[row]
        assert line["trial-loss"] == event.trial_losses[row]
        assert line["verdict"] == ("weight" if event.weights[row] > 1e-4 else "no weight")
        assert [one["exchange"] for one in line["arrived"]] == [1, 2]
    assert {line["verdict"] for line in lines if line["round"] == 3} == {"weight", "no weight"}
    assert [one.kind for one in verify(ledger, ended=True)] == ["ok", "ok", "ok", "note"]


def test_what_arrived_is_named_by_its_digest_and_its_bytes(tmp_path):
    sent = []

    def noted(received):
        content = silo(0)(received)
        sent.append((content_digest(content), payload_bytes(content)))
        return content

    _, ledger = started(tmp_path / "run", [noted, *(silo(i) for i in range(1, 8))])
    arrived = [
        (one["digest"], one["bytes"]) for line in ledger.of("silo") if line["silo"] == "s0" for one in line["arrived"]
    ]
    assert arrived == sent[: len(arrived)] and len(arrived) == 6  # the seventh answers the last head


def test_replies_that_differ_in_one_bit_a_name_or_a_metric_have_other_digests():
    contents = [
        reply({"w": np.zeros(4, np.float32)}, 1.0),
        reply({"w": np.array([0, 0, 0, -0.0], np.float32)}, 1.0),
        reply({"v": np.zeros(4, np.float32)}, 1.0),
        reply({"w": np.zeros(4, np.float32)}, 1.5),
        reply({"w": np.zeros(4, np.float32)}, 1),
        reply(None, 1.0),
    ]
    assert len({content_digest(content) for content in contents}) == len(contents)
    assert content_digest(contents[0]) == content_digest(reply({"w": np.zeros(4, np.float32)}, 1.0))


def test_a_silo_that_fails_has_its_reason_and_what_came(tmp_path):
    def junk(received):
        return reply({"w": np.full(4, np.nan, np.float32)}, 1.0)

    def flees(received):
        return silo(6)(received) if received.exchange == 1 else None

    scripts = [*(silo(i) for i in range(4)), junk, lambda received: Error(2, "no data"), flees, lambda received: None]
    _, ledger = started(tmp_path / "run", scripts, rounds=1)
    said = {line["silo"]: line for line in ledger.of("silo")}
    assert {name: line["verdict"] for name, line in said.items() if name > "s3"} == {
        "s4": "rejected",
        "s5": "silent",
        "s6": "unscored",
        "s7": "silent",
    }
    assert said["s4"]["reason"] == "exchange 1: array 'w' has a value that is not finite"
    assert said["s5"]["reason"] == "exchange 1: error 2: no data"
    assert said["s6"]["reason"] == "exchange 2: no answer within 30 s" and said["s6"]["weight"] == 0
    assert said["s7"]["reason"] == "exchange 1: no answer within 30 s" and said["s7"]["arrived"] == []
    assert len(said["s4"]["arrived"][0]["digest"]) == 64 and "loss" not in said["s4"]
    assert said["s5"]["arrived"][0]["bytes"] == 0 and "digest" not in said["s5"]["arrived"][0]


@pytest.mark.parametrize(
    ("rule", "verdicts"), [("cw_median", {"used"}), ("krum", {"weight", "no weight"}), ("bulyan", {"kept", "left out"})]
)
def test_the_verdict_of_a_rule_says_whom_it_kept_where_it_keeps_some(tmp_path, rule, verdicts):
    strategy = RuleStrategy(rule, max_byzantine=1, lr=0.1, run_dir=tmp_path / "run")
    _, ledger = started(tmp_path / "run", strategy=strategy)
    assert {line["verdict"] for line in ledger.of("silo")} == verdicts


def test_a_skipped_round_is_a_line_with_its_reason(tmp_path):
    def absent_later(i):
        return lambda received: silo(i)(received) if received.round == 1 else None

    scripts = [silo(0), silo(1), *(absent_later(i) for i in range(2, 8))]
    _, ledger = started(tmp_path / "run", scripts, rounds=2)
    first, second = ledger.of("round")
    assert not first["skipped"] and second["skipped"] and "usable" in second["reason"]
    assert first["model"] == second["model"]
    assert [line["verdict"] for line in ledger.of("silo") if line["round"] == 2][:3] == ["skipped", "skipped", "silent"]


# -- heads on their way --------------------------------------------------------------------------------------------


def test_every_message_brings_the_head_of_the_round_before_and_a_last_one_that_of_the_end(tmp_path):
    grid, ledger = started(tmp_path / "run", rounds=2, fraction_evaluate=1.0)
    by_round = {(head.last, head.round): head for head in ledger.heads}
    for received, head in zip(grid.received, heads_sent(grid), strict=True):
        over = received.message_type == "query"
        done = received.round if received.message_type == "evaluate" or over else received.round - 1
        assert head == by_round[over, done] and head.is_genuine
    queries = [received for received in grid.received if received.message_type == "query"]
    assert [received.silo for received in queries] == list(range(8)) and {q.reply for q in queries} == {"head"}
    assert not any(received.arrays for received in queries)
    assert [one.kind for one in verify(ledger, [*heads_sent(grid)], ended=True)] == ["ok"] * 4


def test_a_silo_that_cannot_answer_a_query_changes_nothing(tmp_path):
    def refuses(received):
        if received.message_type == "query":
            raise ValueError("no query function is registered")
        return silo(received.silo)(received)

    _, ledger = started(tmp_path / "run", [refuses] * 8)
    assert ledger.heads[-1].last and next(ledger.of("end"))["status"] == "completed"


def test_the_silos_of_a_simulation_are_sent_no_heads_and_the_ledger_is_there(tmp_path):
    grid, ledger = started(tmp_path / "run", simulated=True)
    assert heads_sent(grid) == [None] * len(grid.received) and not any("ledger-head" in r.config for r in grid.received)
    assert ledger.heads[-1].last


def test_without_a_run_folder_nothing_is_written_and_nothing_is_sent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    strategy = FedLAW(max_byzantine=2, lr=0.1, startup_timeout=5.0)
    grid = ScriptedGrid([silo(i) for i in range(8)])
    with stopped_clock():
        strategy.start(grid, record_of(START), 2, 30)
    assert not any("ledger-head" in received.config for received in grid.received)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_ends_its_ledger_with_the_reason(tmp_path):
    _, ledger = started(tmp_path / "run", [lambda received: reply({"w": START["w"]}, float("nan"))] * 8)
    end = next(ledger.of("end"))
    assert end["status"] == "failed" and end["reason"].startswith("RunFailed: round 1 did not move the model")
    assert ledger.heads[-1].last and {line["verdict"] for line in ledger.of("silo")} == {"rejected"}


def test_the_servers_own_key_signs_where_it_has_one(tmp_path):
    key = tmp_path / "keys" / "server.key"
    _, first = started(tmp_path / "one", server_key=str(key))
    _, second = started(tmp_path / "two", server_key=str(key))
    assert first.key == second.key and first.run != second.run
    assert not (tmp_path / "one" / "ledger.key").exists()
    assert started(tmp_path / "three")[1].key != first.key and (tmp_path / "three" / "ledger.key").exists()


def test_what_silos_say_of_the_model_is_in_the_ledger(tmp_path):
    _, ledger = started(tmp_path / "run", rounds=1, fraction_evaluate=1.0)
    (line,) = ledger.of("evaluation")
    assert line["round"] == 1 and len(line["by-silo"]["loss"]) == 8


def test_a_silo_without_a_review_has_the_reason_in_its_line(tmp_path):
    def reviewing(i):
        def answer(received):
            content = silo(i)(received)
            if received.reply == "review":
                content["review"] = record_of({"w": 2 * (received.arrays["w"] - TARGET)})
                content["metrics"] = MetricRecord({**content["metrics"], "balanced-loss": 1.0})
            return content

        return answer

    scripts = [silo(0), *(reviewing(i) for i in range(1, 8))]
    _, ledger = started(tmp_path / "run", scripts, rounds=2, variant="review")
    said = {line["silo"]: line.get("no-review") for line in ledger.of("silo")}
    assert said["s0"] == "it sends no review" and not any(said[f"s{i}"] for i in range(1, 8))
    assert all("approval" in line for line in ledger.of("silo"))


def test_the_lines_are_json_and_small(tmp_path):
    _, ledger = started(tmp_path / "run")
    sizes = [len(line) for line in ledger.lines if '"kind":"silo"' in line]
    assert max(sizes) < 800 and all(json.loads(line) for line in ledger.lines)
