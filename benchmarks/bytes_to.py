"""Bytes until the model reaches 80 % with 40 % attackers: `python -m benchmarks.bytes_to [--task mnist ...]`.

Twenty silos, the batched engine, three seeds, digits unless MNIST is asked for. All that the server sends and receives
is counted, to the end of the first round whose model reaches the accuracy on test data. Nothing is chosen by these
figures.
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import performance
from benchmarks.machine import described
from benchmarks.one_run import run_of
from fedlaw_flwr.events.record import Run

METHODS: dict[str, dict[str, Any]] = {
    "FedLAW": {"loss-only-replies": True},
    "FedLAW, every silo sends its update": {"loss-only-replies": False},
    "peer review": {"variant": "review"},
    "FedAvg": {"strategy": "fedavg"},
    "Bulyan": {"strategy": "bulyan", "beyond-guarantee": True},
}
ATTACKS = ("label_flipping", "inverse_gradient")
TABLES = {"digits": "bytes_to", "mnist": "bytes_to-mnist"}
"""The table of each task on the page."""
WORLD = {"num-silos": 20, "q": 0.6, "byzantine": 0.4, "max-byzantine": 0.4, "beta": 0.01, "keep-checkpoints": 0}


def reached(run: Run, accuracy: float) -> tuple[int, int] | None:
    """The first round whose model has this accuracy on test data, and the bytes both ways up to its end."""
    total = 0
    for event in run.rounds:
        total += event.bytes_down + event.bytes_up
        if run.accuracies.get(event.round, 0.0) >= accuracy:
            return event.round, total
    return None


def one(task: Mapping[str, Any], attack: str, method: str, seed: int, rounds: int) -> Run:
    """A run that measures its model after every round; the task, its folder and its number of examples are given."""
    values = {**WORLD, **task, **METHODS[method], "attack": attack, "seed": seed, "num-rounds": rounds}
    return run_of(values, evaluate_every=1)


def row_of(attack: str, method: str, found: Sequence[tuple[int, int] | None], best: Sequence[float]) -> dict[str, Any]:
    """What the table has of a method under an attack: medians over the seeds that got there, and how many did."""
    there = [one for one in found if one is not None]
    return {
        "attack": attack,
        "method": method,
        "reached": len(there),
        "seeds": len(found),
        "rounds": median(rounds for rounds, _ in there) if there else None,
        "megabytes": round(median(total for _, total in there) / 1e6, 2) if there else None,
        "best": round(100 * median(best), 1),
    }


def main() -> None:
    """Runs all, and writes the figures and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--accuracy", type=float, default=0.8)
    parser.add_argument("--attacks", nargs="+", default=ATTACKS)
    parser.add_argument("--task", choices=TABLES, default="digits")
    parser.add_argument("--data-dir", default="", help="torchvision's folder, for MNIST")
    parser.add_argument("--examples", type=int, default=0, help="of the training split so many are dealt; 0: all")
    parser.add_argument("--out", type=Path, default=performance.FIGURES, help="the JSON file; its table goes beside it")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    task = {"task": chosen.task, "data-dir": chosen.data_dir, "train-examples": chosen.examples}
    rows = []
    for attack in chosen.attacks:
        for method in METHODS:
            runs = [one(task, attack, method, seed, chosen.rounds) for seed in chosen.seeds]
            best = [max(run.accuracies.values(), default=0.0) for run in runs]
            rows.append(row_of(attack, method, [reached(run, chosen.accuracy) for run in runs], best))
            print(rows[-1], flush=True)
    machine = described(("numpy", "torch", "scikit-learn"))
    told = {"accuracy": chosen.accuracy, "most": chosen.rounds, "examples": chosen.examples}
    figures = {"machine": machine, **told, "rows": rows}
    performance.write(chosen.out, TABLES[chosen.task], figures)


if __name__ == "__main__":
    main()
