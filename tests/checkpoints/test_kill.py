"""A server killed at any instant: the resumed run ends with the model, weights and events of one never killed."""

import shutil

import pytest
from crashes import ROUNDS, N, every_instant, resumptions, start, told

from fedlaw_flwr import FedLAW, RuleStrategy
from fedlaw_flwr.apps.byzantine.batched import SimulatedSilos
from fedlaw_flwr.apps.byzantine.simulated import app
from fedlaw_flwr.checkpoints.store import CHECKPOINTS, rounds_in
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.events.folder import MODEL, SETTINGS
from fedlaw_flwr.ledger.verify import Written, verify
from fedlaw_flwr.rules import RuleSettings
from fedlaw_flwr.simulation.in_process import run_batched, run_in_process


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    """The page for browsers is made after the run, from its events; a hundred of them take minutes."""
    monkeypatch.setattr("fedlaw_flwr.strategy.account.Account._report", lambda account: "")


STEPS = 40
"""A server that goes on with a run finishes a round in this many steps on the disk, and no second one."""


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
        assert not wrong_in_ledger(place), place
        assert again.verdict == result.verdict, place
        assert metrics_of(again) == metrics_of(result), place


def events_say_the_end(place):
    file = place / "events.jsonl"
    return file.exists() and '"status": "completed"}\n' in file.read_text()


def wrong_in_ledger(place):
    return [one.what for one in verify(Written.read(place), ended=True) if one.kind == "wrong"]


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
        assert killed < 5 * ROUNDS, "a server that lives for a round and more must bring the run on"
        with every_instant(place, tmp_path / "killed") as copies:
            start(make(place), resume=True)
        # The next server is killed at this step, so none lives for much longer than a round.
        if len(copies) > STEPS and not events_say_the_end(copies[STEPS]):
            shutil.rmtree(place)
            shutil.copytree(copies[STEPS], place)
        shutil.rmtree(tmp_path / "killed")
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


def test_what_python_told_the_run_between_two_rounds_is_done_though_the_server_is_killed_before_the_next(tmp_path):
    def make(place):
        def tell(done):
            if done.round == 2:
                strategy.remove("silo 1")

        strategy = FedLAW(max_byzantine=2, weight_rounds=2, checkpoint=place, on_round_end=tell)
        return strategy

    whole = tmp_path / "whole"
    with every_instant(whole, tmp_path / "killed") as copies:
        start(make(whole))
    assert [(event["silo"], event["n"]) for event in told(whole) if event["kind"] == "removed"] == [("silo 1", 7)]
    after_2 = [place for place in copies if [*rounds_in(place / CHECKPOINTS), 0][0] == 2]
    for place in (after_2[0], after_2[len(after_2) // 2], after_2[-1]):
        start(make(place), resume=True)
        assert (place / MODEL).read_bytes() == (whole / MODEL).read_bytes() and told(place) == told(whole)


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
