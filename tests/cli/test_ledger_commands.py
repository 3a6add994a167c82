"""`fedlaw ledger verify | heads | why` on the ledger of a run."""

import json

import numpy as np
import pytest
from scripted import ScriptedGrid, record_of, reply, stopped_clock
from typer.testing import CliRunner

from fedlaw_flwr.cli.main import app
from fedlaw_flwr.ledger.kept import keep_head
from fedlaw_flwr.ledger.verify import Written
from fedlaw_flwr.strategy import FedLAW

TARGET = np.array([1.0, -1.0, 2.0, 0.5], np.float32)


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    """A run of six silos, the last of which sends junk, and the heads that two of them kept."""
    folder = tmp_path_factory.mktemp("federation")

    def silo(i):
        def answer(received):
            keep_head(folder / f"heads-{i}", [received.config], f"silo {i}")
            theta = received.arrays.get("w", TARGET)
            step = np.float32("nan") if i == 5 else np.float32(0.1)
            return reply({"w": theta - step * (theta - TARGET)}, float(np.sum((theta - TARGET) ** 2)), partition=i)

        return answer

    strategy = FedLAW(max_byzantine=1, lr=0.1, run_dir=folder / "run", startup_timeout=5.0)
    with stopped_clock():
        strategy.start(ScriptedGrid([silo(i) for i in range(6)]), record_of({"w": np.zeros(4, np.float32)}), 3, 30)
    return folder


@pytest.fixture
def changed(federation, tmp_path):
    """A copy of the run in which someone gave silo 2 more weight."""
    copy = tmp_path / "run"
    copy.mkdir()
    for file in (federation / "run").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    lines = (copy / "ledger.jsonl").read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if '"silo":"silo 2"' in line)
    entry = json.loads(lines[at])
    lines[at] = json.dumps({**entry, "weight": 0.99}, separators=(",", ":"))
    (copy / "ledger.jsonl").write_text("\n".join(lines) + "\n")
    return copy


def fedlaw(*arguments):
    done = CliRunner().invoke(app, ["ledger", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return 2, str(done.exception)
    return done.exit_code, " ".join(done.output.split())


def test_a_ledger_is_held_against_what_a_silo_kept(federation):
    code, said = fedlaw(
        "verify", federation / "run", "--heads", federation / "heads-0", "--heads", federation / "heads-3"
    )
    assert code == 0 and "WRONG" not in said
    assert "8 heads that silos kept are in it, the last of the end" in said
    assert "model.safetensors is the model of the last round" in said


def test_without_heads_it_is_said_what_stays_open(federation):
    code, said = fedlaw("verify", federation / "run")
    assert code == 0 and "--heads FILE takes what a silo kept" in said


def test_a_change_is_wrong_and_the_exit_code_says_so(changed, federation):
    code, said = fedlaw("verify", changed)
    assert code == 1 and "WRONG" in said and "a line here was edited, cut or moved" in said
    code, said = fedlaw("verify", changed, "--heads", federation / "heads-0")
    assert code == 1 and "heads that silos kept are in it" not in said


def test_another_model_in_the_folder_is_found(changed):
    from safetensors.numpy import save_file

    save_file({"w": np.zeros(4, np.float32)}, changed / "model.safetensors")
    assert "is not the model that the ledger names after round 3" in fedlaw("verify", changed)[1]
    (changed / "model.safetensors").write_bytes(b"junk")
    assert fedlaw("verify", changed)[0] == 1


def test_a_ledger_cut_off_before_its_end_is_found_by_the_events_beside_it(changed, federation):
    whole = (federation / "run" / "ledger.jsonl").read_text().splitlines()
    (changed / "ledger.jsonl").write_text("\n".join(whole[:-2]) + "\n")
    assert "the ledger stops before that" in fedlaw("verify", changed)[1]


def test_silos_compare_their_heads(federation):
    code, said = fedlaw("heads", federation / "heads-0", federation / "heads-3")
    assert code == 0 and "the heads tell one story" in said and said.count("4 heads, the last of the end") == 2


def test_a_server_that_tells_another_story_is_found_by_two_silos(federation, tmp_path):
    from fedlaw_flwr.ledger.heads import Head
    from fedlaw_flwr.ledger.keys import ServerKey

    key = ServerKey.load(federation / "run" / "ledger.key")
    head = Written.read(federation / "run").heads[2]
    other = Head.signed(key, head.run, head.attempt, head.round, head.last, head.lines, "f" * 64)
    (tmp_path / "bonn.jsonl").write_text(other.text() + "\n")
    code, said = fedlaw("heads", federation / "heads-0", tmp_path / "bonn.jsonl")
    assert code == 1 and "WRONG" in said and "one ledger has one of them" in said


def test_heads_of_one_silo_alone_or_of_no_common_run_are_said_to_be_so(federation, tmp_path):
    assert fedlaw("heads", federation / "heads-0") == (
        2,
        "there is nothing to compare with: name the heads of two silos or more",
    )
    (tmp_path / "none.jsonl").write_text("")
    assert "no run is in all of them" in fedlaw("heads", federation / "heads-0", tmp_path / "none.jsonl")[1]


def test_why_tells_of_one_silo_round_by_round(federation, monkeypatch):
    monkeypatch.setattr("fedlaw_flwr.cli.ledger.console.width", 250)
    code, said = fedlaw("why", federation / "run", "silo 0")
    assert code == 0 and said.count("weight") >= 3 and "alignment" in said and " B in " in said
    code, said = fedlaw("why", federation / "run", "silo 5")
    assert code == 0 and said.count("rejected") == 3 and "array 'w' has a value that is not finite" in said


def test_why_warns_of_a_ledger_that_was_changed(changed):
    code, said = fedlaw("why", changed, "silo 2")
    assert code == 1 and "do not trust what follows" in said


def test_a_silo_or_a_ledger_that_is_not_there_is_told(federation, tmp_path):
    code, said = fedlaw("why", federation / "run", "silo 33")
    assert code == 2 and said == "silo='silo 33': the ledger has no line of it; did you mean 'silo 3'?"
    code, said = fedlaw("verify", tmp_path)
    assert code == 2 and "there is no ledger here" in said
