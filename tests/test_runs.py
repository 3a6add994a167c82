"""Whole runs in this process: the same numbers for the same seed, attacks that attack, folders that lose nothing."""

import json

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from safetensors.numpy import load_file

from client_app.honest import app as honest_app
from client_app.simulated import app
from fedlaw_flwr.engine.in_process import InProcessGrid
from fedlaw_flwr.runs.experiment import build_strategy, warnings_of
from fedlaw_flwr.runs.folder import RunFailed, RunFolder, read_events
from fedlaw_flwr.runs.in_process import run_in_process
from fedlaw_flwr.runs.verdict import verdict
from fedlaw_flwr.settings import Settings
from fedlaw_flwr.strategy import FedLAW, OneExchange
from fedlaw_flwr.tasks import load_task

SMALL = {"num-silos": 10, "num-rounds": 3, "local-epochs": 1, "attack": "inverse_gradient"}


def finished(tmp_path, name="run", client=app, **settings):
    chosen = Settings.read(SMALL | {key.replace("_", "-"): value for key, value in settings.items()})
    run_in_process(client, chosen, tmp_path / name)
    return list(read_events(tmp_path / name))


def numbers(events):
    """All an event says except how long it took."""
    timed = ("seconds", "exchanges", "settings")
    return [{key: value for key, value in event.items() if key not in timed} for event in events]


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
    assert (law.caught, law.attackers, law.wronged) == (4, 4, 0)
    assert avg.caught == 0 and avg.mass_on_attackers == pytest.approx(0.2)
    assert law.accuracy > avg.accuracy + 0.05


def test_the_verdict_of_a_run_counts_what_its_events_say(tmp_path):
    events = finished(tmp_path)
    found = verdict(events)
    rounds = [event for event in events if event["kind"] == "round"]
    last = dict(zip(rounds[-1]["silos"], rounds[-1]["weights"], strict=True))
    attackers = next(event["attackers"] for event in events if event["kind"] == "run")
    assert found.rounds == 3 and found.bytes_up == sum(event["bytes-up"] for event in rounds)
    assert found.caught == sum(last[silo] <= 1e-4 for silo in attackers)
    assert found.wronged == sum(weight <= 1e-4 for silo, weight in last.items() if silo not in attackers)
    assert set(found.detection) == {"precision", "recall", "f1", "accuracy"}


def test_detection_scores_agree_with_a_count_by_hand():
    weights = [0.0, 0.0, 0.5, 0.5]
    events = [
        {"kind": "run", "settings": {"num-silos": 4, "strategy": "x"}, "attackers": {"silo 0": "lie", "silo 2": "lie"}},
        {
            "kind": "round",
            "round": 1,
            "held": False,
            "bytes-down": 1,
            "bytes-up": 1,
            "seconds": 1.0,
            "silos": [f"silo {i}" for i in range(4)],
            "weights": weights,
        },
    ]
    assert verdict(events).detection == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "accuracy": 0.5}


def test_set_aside_by_the_gate_is_caught_and_silent_is_not():
    run = {"kind": "run", "settings": {"num-silos": 4, "strategy": "x"}, "attackers": {"silo 0": "a", "silo 1": "a"}}
    junk = {"kind": "quarantine", "round": 1, "exchange": 1, "silo": "silo 0", "reason": "junk"}
    silent = {"kind": "silent", "round": 1, "exchange": 1, "silo": "silo 1", "reason": "no answer"}
    last = {"kind": "round", "round": 1, "held": False, "bytes-down": 1, "bytes-up": 1, "seconds": 1.0}
    found = verdict([run, junk, silent, {**last, "silos": ["silo 2", "silo 3"], "weights": [0.5, 0.5]}])
    assert (found.caught, found.attackers, found.wronged) == (1, 2, 0)


def test_a_round_whose_weights_are_held_is_one_exchange(tmp_path):
    rounds = [event for event in finished(tmp_path, weight_rounds=1) if event["kind"] == "round"]
    assert [len(event["exchanges"]) for event in rounds] == [2, 1, 1]
    assert rounds[1]["bytes-up"] < rounds[0]["bytes-up"]


def test_a_finished_run_folder_holds_settings_events_and_model(tmp_path):
    events = finished(tmp_path)
    assert events[-1] == {"kind": "end", "status": "completed"}
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
    assert last["status"] == "failed" and "no MNIST" in last["reason"]


def test_examples_that_cannot_be_dealt_end_the_run_before_its_first_round(tmp_path):
    with pytest.raises(ValueError, match="examples to deal"):
        finished(tmp_path, num_silos=3000, max_byzantine=0.1, attack="none")
    assert not [event for event in read_events(tmp_path / "run") if event["kind"] == "round"]


def test_a_run_that_never_moved_the_model_has_failed(tmp_path):
    with pytest.raises(RunFailed, match="none of 3 rounds moved the model"):
        finished(tmp_path, attack="silencing", byzantine=5, max_byzantine=0.4)
    assert list(read_events(tmp_path / "run"))[-1]["status"] == "failed"


def test_a_line_still_being_written_is_not_read(tmp_path):
    with RunFolder.create(Settings.read(SMALL | {"run-dir": str(tmp_path)})) as folder:
        folder.write({"kind": "x"})
        with (tmp_path / "events.jsonl").open("a") as raw:
            raw.write('{"kind": "ha')
        assert list(read_events(tmp_path)) == [{"kind": "x"}]
        with (tmp_path / "events.jsonl").open("a") as raw:
            raw.write('lf"}\n')


def exchanged(client, node, settings, **config):
    """One train message answered by one silo of a grid, and the model it was sent."""
    grid = InProcessGrid(client, settings.num_silos, settings.as_config())
    task = load_task(settings.task, settings.partition_plan(), settings.seed)
    arrays = ArrayRecord(task.build_model(0).state_dict())
    config = ConfigRecord({"server-round": 1, "exchange": 1, "lr": 0.1} | config)
    message = Message(RecordDict({"arrays": arrays, "config": config}), node + 2, "train")
    return next(iter(grid.send_and_receive([message]))), arrays


def update(reply, arrays):
    sent, got = arrays.to_torch_state_dict(), reply.content["arrays"].to_torch_state_dict()
    return np.concatenate([(sent[key] - got[key]).numpy().ravel() for key in sent])


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
        [event["accuracy"] for event in events if event["kind"] == "evaluate"] for events in (attacked, clean)
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


def test_a_sleeper_that_would_never_wake_is_warned_about():
    asleep = Settings.read({"attack": "sleeper", "num-rounds": 20, "partition": "iid"})
    assert "never attacks" in warnings_of(asleep)[0]
    assert warnings_of(asleep.model_copy(update={"num_rounds": 21})) == []


def test_the_strategy_setting_decides_the_strategy():
    assert isinstance(build_strategy(Settings.read({"strategy": "fedlaw"})), FedLAW)
    krum = build_strategy(Settings.read({"strategy": "krum", "max-byzantine": 3}))
    assert isinstance(krum, OneExchange) and krum.rule == "krum"
