"""Every rule and every attack as settings of one app: each runs to its end, and what it sends is finite."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedlaw_flwr.apps.byzantine.simulated import app
from fedlaw_flwr.attacks import ATTACKS
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import ReplyRejected
from fedlaw_flwr.rules import RULES
from fedlaw_flwr.simulation.in_process import run_in_process

SMALL = {
    "num-silos": 12,
    "num-rounds": 2,
    "local-epochs": 1,
    "byzantine": 2,
    "max-byzantine": 2,
    "partition": "iid",
}
PAIRS = [("fedlaw", attack) for attack in ATTACKS] + [(rule, "lie") for rule in RULES]


@pytest.mark.parametrize(("strategy", "attack"), PAIRS, ids="-".join)
def test_the_pair_runs_to_its_end_and_leaves_a_finite_model(strategy, attack, tmp_path):
    run_in_process(app, Settings.read({**SMALL, "strategy": strategy, "attack": attack}), tmp_path / "run")
    run = Run.read(tmp_path / "run")
    assert run.end.status == "completed"
    assert [event.skipped for event in run.rounds] == [False, False]
    assert not [event for event in run.missing if isinstance(event, ReplyRejected)]
    model = load_file(tmp_path / "run" / "model.safetensors")
    assert all(np.isfinite(array).all() for array in model.values())


@pytest.mark.parametrize(("name", "value"), [("bucket-size", 2), ("nnm", True)])
def test_bucketing_and_mixing_stand_around_any_rule(name, value, tmp_path):
    changed = {**SMALL, "strategy": "krum", "max-byzantine": 1, name: value}
    run_in_process(app, Settings.read(changed), tmp_path / "run")
    kept = [set(event.kept) for event in Run.read(tmp_path / "run").rounds]
    assert all(len(names) > 1 for names in kept)  # what plain Krum never does
