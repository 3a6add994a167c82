"""Whole runs in this process: the same numbers for the same seed, attacks that attack, folders that lose nothing."""

import json
from dataclasses import replace

import numpy as np
import pytest
from finished_runs import SMALL, exchanged, finished, update
from safetensors.numpy import load_file

from fedlaw_flwr.apps.byzantine.simulated import app
from fedlaw_flwr.apps.experiment import build_strategy, warnings_of
from fedlaw_flwr.apps.honest import app as honest_app
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.events.folder import RunFailed, RunFolder, read_events
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import (
    Evaluated,
    NoReply,
    ReplyRejected,
    RoundEnded,
    RunEnded,
    RunStarted,
    Warned,
)
from fedlaw_flwr.events.verdict import verdict
from fedlaw_flwr.strategy import FedLAW, RuleStrategy


def numbers(run):
    """All that events say except how long it took."""
    timed = ("seconds", "exchanges", "settings")
    return [{key: value for key, value in event.to_dict().items() if key not in timed} for event in run.events]


def started(*attackers):
    """The first event of a run of four silos, of which these attack."""
    return RunStarted(settings={"num-silos": 4, "strategy": "x"}, attackers=dict.fromkeys(attackers, "lie"))


def test_two_runs_of_one_seed_are_the_same_to_the_last_bit(tmp_path):
    first, second = finished(tmp_path, "a"), finished(tmp_path, "b")
    assert numbers(first) == numbers(second)
    models = [load_file(tmp_path / name / "model.safetensors") for name in "ab"]
    for key in models[0]:
        np.testing.assert_array_equal(models[0][key], models[1][key])


def test_another_seed_is_another_run(tmp_path):
    assert numbers(finished(tmp_path, "a")) != numbers(finished(tmp_path, "b", seed=1))


def test_fedlaw_catches_every_inverse_gradient_and_ends_above_fedavg(tmp_path):
    common = {"num_silos": 20, "num_rounds": 10, "local_epochs": 3, "q": 0.6, "byzantine": 0.2}
    law, avg = (verdict(finished(tmp_path, name, strategy=name, **common)) for name in ("fedlaw", "fedavg"))
    assert (law.caught, law.attackers, law.wrongly_excluded) == (4, 4, 0)
    assert avg.caught == 0 and avg.weight_on_attackers == pytest.approx(0.2)
    assert law.accuracy > avg.accuracy + 0.05


def test_the_verdict_of_a_run_counts_what_its_events_say(tmp_path):
    run = finished(tmp_path)
    found = verdict(run)
    last = dict(zip(run.rounds[-1].silos, run.rounds[-1].weights, strict=True))
    assert found.rounds == 3 and found.bytes_up == sum(event.bytes_up for event in run.rounds)
    assert found.caught == sum(last[silo] <= 1e-4 for silo in run.attackers)
    assert found.wrongly_excluded == sum(weight <= 1e-4 for silo, weight in last.items() if silo not in run.attackers)
    assert set(found.detection) == {"precision", "recall", "f1", "accuracy"}


def test_detection_scores_agree_with_a_count_by_hand():
    silos = tuple(f"silo {i}" for i in range(4))
    last = RoundEnded(round=1, skipped=False, silos=silos, weights=(0.0, 0.0, 0.5, 0.5))
    found = verdict(Run.of([started("silo 0", "silo 2"), last]))
    assert found.detection == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "accuracy": 0.5}


def test_who_is_rejected_is_caught_and_who_is_silent_is_not():
    junk = ReplyRejected(round=1, exchange=1, silo="silo 0", reason="junk")
    silent = NoReply(round=1, exchange=1, silo="silo 1", reason="no answer")
    last = RoundEnded(round=1, skipped=False, silos=("silo 2", "silo 3"), weights=(0.5, 0.5))
    run = Run.of([started("silo 0", "silo 1"), junk, silent, last])
    found = verdict(run)
    assert (found.caught, found.attackers, found.wrongly_excluded) == (1, 2, 0)
    assert (run.caught, run.absent, run.got_through) == ({"silo 0"}, {"silo 1"}, set())


def test_the_last_round_that_moved_the_model_decides():
    first = RoundEnded(round=1, skipped=False, silos=("silo 0", "silo 1"), weights=(0.0, 1.0))
    later = ReplyRejected(round=2, exchange=1, silo="silo 1", reason="junk")
    run = Run.of([started("silo 0"), first, later, RoundEnded(round=2, skipped=True, reason="too few")])
    assert (run.deciding, run.excluded) == (first, {"silo 0"})
    assert run.excluded_in(2) == set()  # a skipped round gives no weights


def test_a_rule_that_only_selects_excludes_whom_it_left_out_and_one_that_does_neither_judges_nobody():
    silos = ("silo 0", "silo 1", "silo 2")
    junk = ReplyRejected(round=1, exchange=1, silo="silo 3", reason="junk")
    selecting = RoundEnded(round=1, skipped=False, phase="rule", silos=silos, kept=("silo 1", "silo 2"))
    run = Run.of([started("silo 0"), junk, selecting])
    found = verdict(run)
    assert (found.caught, found.wrongly_excluded, found.weight_on_attackers) == (1, 1, None)
    assert run.wrongly_excluded == {"silo 3"}
    median = verdict(Run.of([started("silo 0"), junk, RoundEnded(round=1, skipped=False, phase="rule", silos=silos)]))
    assert (median.caught, median.wrongly_excluded, median.detection) == (None, None, {})


def test_a_rejected_node_that_never_said_which_silo_it_is_is_neither_caught_nor_wrongly_excluded():
    junk = ReplyRejected(round=1, exchange=1, silo="node 7", reason="its reply cannot be read")
    last = RoundEnded(round=1, skipped=False, silos=("silo 0", "silo 1"), weights=(0.5, 0.5))
    run = Run.of([started("silo 3"), junk, last])
    assert (run.caught, run.wrongly_excluded, run.absent) == (set(), set(), {"silo 3"})


def test_a_silo_is_excluded_since_the_first_round_of_the_stretch_and_absence_does_not_break_it():
    rounds = [
        RoundEnded(round=1, skipped=False, silos=("silo 0", "silo 1"), weights=(0.5, 0.5)),
        RoundEnded(round=2, skipped=False, silos=("silo 0", "silo 1"), weights=(0.0, 1.0)),
        RoundEnded(round=3, skipped=False, silos=("silo 1",), weights=(1.0,)),
        ReplyRejected(round=4, exchange=1, silo="silo 0", reason="junk"),
        RoundEnded(round=4, skipped=False, silos=("silo 1",), weights=(1.0,)),
    ]
    assert Run.of([started("silo 0"), *rounds]).excluded_since("silo 0", 4) == 2


def test_a_round_with_frozen_weights_is_one_exchange(tmp_path):
    rounds = finished(tmp_path, weight_rounds=1).rounds
    assert [len(event.exchanges) for event in rounds] == [2, 1, 1]
    assert rounds[1].bytes_up < rounds[0].bytes_up


def test_a_finished_run_folder_holds_settings_events_and_model(tmp_path):
    run = finished(tmp_path)
    assert run.events[-1] == RunEnded(status="completed")
    assert json.loads((tmp_path / "run" / "events.jsonl").read_text().splitlines()[0])["version"] == 2
    assert Settings.read(json.loads((tmp_path / "run" / "settings.json").read_text())).num_silos == 10
    assert (
        sum(array.size for array in load_file(tmp_path / "run" / "model.safetensors").values())
        == 64 * 65 + 65 * 32 + 330
    )


def test_a_run_folder_is_never_overwritten(tmp_path):
    finished(tmp_path)
    with pytest.raises(FileExistsError, match="already holds a run"):
        finished(tmp_path)


def test_a_failed_run_says_why_in_its_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        finished(tmp_path, task="mnist", data_dir=str(tmp_path))
    last = list(read_events(tmp_path / "run"))[-1]
    assert last.status == "failed" and "no MNIST" in last.reason


def test_examples_that_cannot_be_dealt_end_the_run_before_its_first_round(tmp_path):
    with pytest.raises(ValueError, match="examples to deal"):
        finished(tmp_path, num_silos=3000, max_byzantine=0.1, attack="none")
    assert not Run.read(tmp_path / "run").rounds


def test_a_run_that_never_moved_the_model_has_failed(tmp_path):
    with pytest.raises(RunFailed, match="none of 3 rounds moved the model"):
        finished(tmp_path, attack="silencing", byzantine=5, max_byzantine=0.4)
    assert Run.read(tmp_path / "run").end.status == "failed"


def test_a_line_still_being_written_is_not_read(tmp_path):
    with RunFolder.create(Settings.read(SMALL | {"run-dir": str(tmp_path)})) as folder:
        folder.write(Warned(reason="x"))
        with (tmp_path / "events.jsonl").open("a") as raw:
            raw.write('{"kind": "ha')
        assert list(read_events(tmp_path)) == [Warned(reason="x")]
        with (tmp_path / "events.jsonl").open("a") as raw:
            raw.write('lf"}\n')


def test_an_inverse_gradient_is_exactly_the_honest_one_reversed():
    settings = Settings.read(SMALL)
    attacker = min(settings.attack_plan().attackers)
    honest, forged = (update(*exchanged(client, attacker, settings)) for client in (honest_app, app))
    assert np.abs(honest).max() > 1e-3
    np.testing.assert_allclose(forged, -honest, atol=1e-6)


def test_label_flipping_trains_on_other_labels_and_leaves_the_honest_alone():
    settings = Settings.read(SMALL | {"attack": "label_flipping"})
    attackers = settings.attack_plan().attackers
    for silo in range(10):
        honest, seen = (update(*exchanged(client, silo, settings)) for client in (honest_app, app))
        assert np.array_equal(honest, seen) == (silo not in attackers)


def test_the_honest_app_never_attacks_whatever_the_run_configuration_says(tmp_path):
    attacked, clean = (
        finished(tmp_path, name, honest_app, attack=attack)
        for name, attack in (("a", "inverse_gradient"), ("b", "none"))
    )
    accuracies = [
        [event.metrics["accuracy"] for event in run.events if isinstance(event, Evaluated)] for run in (attacked, clean)
    ]
    assert accuracies[0] == accuracies[1]


def test_where_only_the_loss_is_asked_no_arrays_are_sent():
    reply, _ = exchanged(app, 0, Settings.read(SMALL | {"attack": "none"}), reply="loss")
    assert not reply.content.array_records and np.isfinite(reply.content["metrics"]["loss"])
    assert reply.content["silo"]["partition-id"] == 0


def test_the_loss_is_taken_where_loss_at_says():
    losses = {}
    for at in ("trained", "received"):
        settings = Settings.read(SMALL | {"attack": "none", "loss-at": at})
        losses[at] = exchanged(honest_app, 3, settings)[0].content["metrics"]["loss"]
    assert losses["trained"] < losses["received"]


def test_a_server_message_that_is_no_number_is_refused_by_name():
    reply, _ = exchanged(honest_app, 0, Settings.read(SMALL), lr="fast")
    assert reply.has_error() and "lr='fast'" in reply.error.reason


def test_an_attacked_label_is_warned_about():
    settings = Settings.read({"attack": "label_flipping", "byzantine": 0.2, "q": 0.9})
    assert "attackers own the whole group of label" in warnings_of(settings)[0]
    assert warnings_of(Settings.read({"partition": "iid", "attack": "label_flipping"})) == []
    assert warnings_of(Settings.read({})) == []


def test_more_attackers_than_max_byzantine_are_warned_about():
    many = Settings.read({"attack": "lie", "byzantine": 6, "max-byzantine": 0.2, "partition": "iid"})
    (sentence,) = warnings_of(many)
    assert sentence.startswith("6 silos attack and max-byzantine=0.2 says at most 4 of 20")
    assert warnings_of(replace(many, byzantine=4)) == []
    mixed = replace(many, attack="lie:2,sign_flip:3")
    assert warnings_of(mixed)[0].startswith("5 silos attack")


def test_a_share_of_attackers_without_an_attack_is_warned_about():
    (sentence,) = warnings_of(Settings.read({"byzantine": 0.3}))
    assert sentence.startswith("byzantine=0.3 has no effect: attack='none', so nobody attacks")
    assert warnings_of(Settings.read({"byzantine": 0})) == []


def test_a_sleeper_that_would_never_wake_is_warned_about():
    asleep = Settings.read({"attack": "sleeper", "num-rounds": 20, "partition": "iid"})
    assert "never attacks" in warnings_of(asleep)[0]
    assert warnings_of(replace(asleep, num_rounds=21)) == []


def test_the_strategy_setting_decides_the_strategy():
    assert isinstance(build_strategy(Settings.read({"strategy": "fedlaw"})), FedLAW)
    krum = build_strategy(Settings.read({"strategy": "krum", "max-byzantine": 3}))
    assert isinstance(krum, RuleStrategy) and krum.rule == "krum"
