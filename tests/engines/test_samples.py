"""A part of the silos a round, on digits: it trains, finds the attackers, and is the same sample in every engine."""

import pytest

from fedlaw_flwr.apps.byzantine.batched import SimulatedSilos
from fedlaw_flwr.apps.byzantine.simulated import app
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.simulation.in_process import run_batched, run_in_process

HALF = {"attack": "label_flipping", "fraction-train": 0.5, "evaluate-every": 0}


@pytest.mark.parametrize("variant", ["fedlaw", "review"])
def test_half_of_the_silos_a_round_learn_digits_and_give_the_attackers_no_weight(tmp_path, variant):
    run_batched(SimulatedSilos, Settings.read({**HALF, "variant": variant, "num-rounds": 24}), tmp_path / "run")
    run = Run.read(tmp_path / "run")
    assert run.caught == set(run.attackers) and len(run.attackers) == 4
    assert run.accuracies[24] > 0.9
    assert len(run.rounds[0].asked) == 20 and {len(event.asked) for event in run.rounds[1:]} == {10}
    assert len({frozenset(event.asked) for event in run.rounds}) > 20
    assert all(sum(event.weight_of.get(silo, 0.0) for silo in run.attackers) == 0 for event in run.rounds[20:])
    assert len(run.wrongly_excluded) <= (4 if variant == "fedlaw" else 0)


def test_every_engine_draws_the_same_samples(tmp_path):
    settings = Settings.read({**HALF, "num-rounds": 4, "local-epochs": 1})
    run_batched(SimulatedSilos, settings, tmp_path / "batched")
    run_in_process(app, settings, tmp_path / "in-process")
    one, other = (Run.read(tmp_path / name) for name in ("batched", "in-process"))
    assert [event.asked for event in one.rounds] == [event.asked for event in other.rounds]
