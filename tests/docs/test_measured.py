"""What the benchmarks of docs/performance.md compute beside the clock: slopes, operations, bytes, and their tables."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import bytes_to, engines, growth, performance, whole_rounds
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import Evaluated, RoundEnded

MACHINE = {"processor": "one", "versions": "two"}


def test_the_slopes_are_the_exponents_that_the_figures_were_made_with():
    rows = [
        {"n": n, "d": d, "seconds": 1e-9 * n * d, "bytes": 5.0 * n**0.5 * d}
        for n in (10, 30, 100)
        for d in (10**4, 10**5, 10**6)
    ]
    found = growth.slopes(rows, least=0)
    assert len(found) == 6
    for row in found:
        assert (row["seconds"], row["bytes"]) == (1.0, 1.0 if row["fixed"] == "n" else 0.5)


def test_a_small_federation_is_measured_and_its_memory_is_more_than_its_matrix():
    found = growth.measure(8, 300_000)
    assert found["seconds"] > 0 and found["bytes"] > 8 * 300_000 * 4


def test_the_operations_of_a_round_are_those_that_pytorch_counts():
    widths, examples, tested = [6, 5, 3], 8, 4
    settings = Settings.read({"max-byzantine": 0.25, "local-epochs": 2})
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))

    def count(steps, losses):
        with FlopCounterMode(display=False) as counter:
            for _ in range(steps):
                net(torch.ones(examples, 6)).sum().backward()
            for size in losses:
                with torch.no_grad():
                    net(torch.ones(size, 6))
        return counter.get_total_flops()

    # Exchange 1: two epochs. Exchange 2: the same of three quarters of the silos. A loss in each, and the test.
    expected = 2 * count(1, []) * 1.75 + count(0, [examples, examples, tested])
    assert engines.operations(widths, examples, tested, settings) == expected


def test_bytes_are_counted_up_to_the_end_of_the_round_that_got_there():
    def ended(number):
        return RoundEnded(round=number, skipped=False, seconds=1.0, bytes_down=10, bytes_up=5, exchanges=())

    accuracies = {0: 0.1, 1: 0.5, 2: 0.8, 3: 0.9}
    events = [Evaluated(round=0, metrics={"accuracy": 0.1})]
    for number in (1, 2, 3):
        events += [ended(number), Evaluated(round=number, metrics={"accuracy": accuracies[number]})]
    run = Run.of(events)
    assert bytes_to.reached(run, 0.8) == (2, 30)
    assert bytes_to.reached(run, 0.95) is None
    row = bytes_to.row_of("none", "FedAvg", [(2, 3_000_000), None, (4, 5_000_000)], [0.9, 0.7, 0.8])
    assert (row["reached"], row["seeds"], row["rounds"], row["megabytes"], row["best"]) == (2, 3, 3, 4.0, 80.0)
    assert "| none | FedAvg | 2 of 3 | 3 | 4.0 | 80.0 % |" in performance.bytes_to({"machine": MACHINE, "rows": [row]})


def test_a_strategy_is_held_against_its_own_baseline_turn_by_turn():
    taken = {name: [(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)] for name in whole_rounds.METHODS}
    taken["FedLAW"] = [(1.1, 2.0), (2.2, 8.0), (33.0, 6.0)]
    found = whole_rounds.found(20, "FedLAW", taken)
    assert (found.base, found.seconds, found.ratio, found.cpu_ratio) == ("Flower's FedAvg", 2.2, pytest.approx(1.1), 1)
    assert whole_rounds.found(20, "peer review", taken).base == "Flower's FedAvg, silos take a review too"


def test_a_round_counts_each_exchange_and_a_strategy_answers_to_the_same_silos(monkeypatch):
    from flwr.app import ArrayRecord

    from benchmarks.honest_silo import client_app, task_of
    from fedlaw_flwr.engines.in_process import InProcessGrid

    values = {"task": "digits", "num-silos": 6, "batch-size": 64, "local-epochs": 1}
    arrays = ArrayRecord(task_of(tuple(sorted(values.items())))[1].build_model(0).state_dict())
    clock = iter(np.arange(100.0))
    monkeypatch.setattr(whole_rounds, "cpu_seconds", lambda: next(clock))
    for name, method in whole_rounds.METHODS.items():
        grid = InProcessGrid(client_app(values), 6)
        seconds, cpu = whole_rounds.one_turn(method, grid, 6, arrays, 2)
        assert seconds > 0 and cpu == 1 / (2 if name == "FedLAW" else 1), name
