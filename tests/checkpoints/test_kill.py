"""A server killed at any instant: the resumed run ends with the model, the weights and the events of one never killed."""

import shutil

import numpy as np
import pytest
from crashes import every_instant, resumptions, told
from flwr.app import ConfigRecord
from scripted import ScriptedGrid, record_of, reply, stopped_clock

from fedlaw_flwr import FedLAW, RuleStrategy
from fedlaw_flwr.apps.byzantine.batched import SimulatedSilos
from fedlaw_flwr.apps.byzantine.simulated import app
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.events.folder import MODEL, SETTINGS
from fedlaw_flwr.rules import RuleSettings
from fedlaw_flwr.simulation.in_process import run_batched, run_in_process

N, ROUNDS = 8, 4


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    """The page for browsers is made after the run, from its events; a hundred of them take minutes."""
    monkeypatch.setattr("fedlaw_flwr.strategy.account.Account._report", lambda account: "")


START = {"w": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), "steps": np.array(7)}


def gradient(received):
    """Silo i's: towards a point of its own, with noise that depends on the model, the round and the silo alone."""
    rng = np.random.default_rng([received.silo, received.round, received.exchange])
    w = received.arrays["w"].astype(np.float64)
    return (w - 0.1 * received.silo + rng.normal(0, 0.05, w.shape)).astype(np.float32)


def honest(received):
    g = gradient(received)
    wanted = {**received.arrays, "w": received.arrays["w"] - np.float32(0.1) * g} if received.reply != "loss" else None
    return reply(wanted, float(np.square(g).mean()), partition=received.silo)


def flipped(received):
    w = received.arrays["w"] + np.float32(0.4) * gradient(received)
    return reply({**received.arrays, "w": w}, 0.01, partition=received.silo)


def unreliable(received):
    """Silent in round 2, junk in round 3, silent at round 1's trial model."""
    if received.round == 2 or (received.round, received.exchange) == (1, 2):
        return None
    if received.round == 3:
        return reply({"w": np.full((3, 4), np.nan, np.float32), "steps": np.array(7)}, 1.0, partition=received.silo)
    return honest(received)


def grid(node_ids=None):
    return ScriptedGrid([honest] * (N - 2) + [flipped, unreliable], node_ids=node_ids)


def start(strategy, node_ids=None, **more):
    with stopped_clock():
        return strategy.start(
            grid(node_ids),
            record_of(START),
            num_rounds=ROUNDS,
            timeout=5,
            train_config=ConfigRecord({"lr": 0.1}),
            **more,
        )


STRATEGIES = {
    "fedlaw": lambda place: FedLAW(max_byzantine=2, weight_rounds=2, checkpoint=place),
    "cclip": lambda place: RuleStrategy("cclip", max_byzantine=2, lr=0.1, checkpoint=place),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_whatever_the_instant_a_run_is_killed_at_the_resumed_run_is_that_of_a_server_never_killed(tmp_path, name):
    make, whole = STRATEGIES[name], tmp_path / "whole"
    with every_instant(whole, tmp_path / "killed") as copies:
        result = start(make(whole))
    assert len(copies) > 80  # each a step on the disk: begun, the events, two files and a clean-up in every round
    expected, events = (whole / MODEL).read_bytes(), told(whole)
    for place in copies if name == "fedlaw" else copies[1::3]:
        if events_say_the_end(place):
            continue
        again = start(make(place), resume=True)
        assert (place / MODEL).read_bytes() == expected, place
        assert told(place) == events, place
        assert again.verdict == result.verdict, place
        assert metrics_of(again) == metrics_of(result), place


def events_say_the_end(place):
    file = place / "events.jsonl"
    return file.exists() and '"status": "completed"}\n' in file.read_text()


def metrics_of(result):
    return {
        number: {name: value for name, value in one.items() if name != "seconds"}
        for number, one in result.train_metrics_clientapp.items()
    }


def test_a_run_killed_again_and_again_while_it_is_resumed_ends_the_same(tmp_path):
    make, whole = STRATEGIES["fedlaw"], tmp_path / "whole"
    start(make(whole))
    place, killed = tmp_path / "run", 0
    while not events_say_the_end(place):
        with every_instant(place, tmp_path / f"killed {killed}") as copies:
            start(make(place), resume=True)
        # The next server is killed at its 25th step, so none lives for much longer than a round.
        if len(copies) > 25 and not events_say_the_end(copies[25]):
            shutil.rmtree(place)
            shutil.copytree(copies[25], place)
        killed += 1
    assert killed > ROUNDS - 1
    assert (place / MODEL).read_bytes() == (whole / MODEL).read_bytes() and told(place) == told(whole)
    assert len(resumptions(place)) == killed - 1


def test_silos_are_known_again_by_what_they_say_they_are_and_not_by_flowers_node_id(tmp_path):
    make, whole = STRATEGIES["fedlaw"], tmp_path / "whole"
    with every_instant(whole, tmp_path / "killed") as copies:
        start(make(whole))
    for place in copies[60::5]:
        if not events_say_the_end(place):
            start(make(place), resume=True, node_ids=[1000 + 7 * i for i in range(N)])
            assert (place / MODEL).read_bytes() == (whole / MODEL).read_bytes(), place


SMALL = {"task": "breast_cancer", "num-silos": 6, "num-rounds": 4, "weight-rounds": 3, "max-byzantine": 1}
SMALL |= {"local-epochs": 1, "byzantine": 1, "attack": "label_flipping"}


def run_again(engine, place, values):
    values = dict(values)
    if (place / SETTINGS).exists():
        values["resume"] = place.name
    engine(Settings.read(values), place)


ENGINES = {
    "in-process": lambda settings, place: run_in_process(app, settings, place),
    "batched": lambda settings, place: run_batched(SimulatedSilos, settings, place, silos_per_batch=4),
}


@pytest.mark.parametrize(
    "engine, more",
    [
        ("in-process", {}),
        ("batched", {"variant": "review"}),
        ("batched", {"strategy": "cclip", "bucket-size": 2}),
        ("batched", {"score-decay": 0.5, "attack": "sign_flip"}),
    ],
)
def test_an_experiment_killed_at_many_instants_ends_bit_for_bit_as_if_it_had_not_been(tmp_path, engine, more):
    run, whole = ENGINES[engine], tmp_path / "whole"
    with every_instant(whole, tmp_path / "killed") as copies:
        run(Settings.read(SMALL | more), whole)
    expected, events = (whole / MODEL).read_bytes(), told(whole)
    chosen = [place for place in copies[3::11] if not events_say_the_end(place)]
    assert len(chosen) > 6
    for place in chosen:
        run_again(run, place, SMALL | more)
        assert (place / MODEL).read_bytes() == expected, place
        assert told(place) == events, place


@pytest.mark.parametrize("variant", ["momentum", "stable", "falling", "relearn_from_equal", "bsum"])
def test_every_way_to_learn_weights_knows_again_what_it_had_learned(tmp_path, variant):
    whole = tmp_path / "whole"
    with every_instant(whole, tmp_path / "killed") as copies:
        start(FedLAW(max_byzantine=2, variant=variant, weight_rounds=3, checkpoint=whole))
    place = copies[len(copies) * 2 // 3]
    start(FedLAW(max_byzantine=2, variant=variant, weight_rounds=3, checkpoint=place), resume=True)
    assert (place / MODEL).read_bytes() == (whole / MODEL).read_bytes() and told(place) == told(whole)
    assert resumptions(place)[0]["checkpoint"] in (1, 2, 3)


def test_the_rule_strategy_keeps_its_buckets_and_its_number_of_silos(tmp_path):
    def make(place):
        numbers = RuleSettings(bucket_size=2, seed=3)
        return RuleStrategy("cw_median", rule_settings=numbers, max_byzantine=1, lr=0.1, checkpoint=place)

    whole = tmp_path / "whole"
    with every_instant(whole, tmp_path / "killed") as copies:
        start(make(whole))
    place = copies[len(copies) // 2]
    start(make(place), resume=True)
    assert (place / MODEL).read_bytes() == (whole / MODEL).read_bytes() and told(place) == told(whole)
