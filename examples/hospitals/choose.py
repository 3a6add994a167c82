"""How run.py's settings were chosen: on validation records of the honest hospitals; no test is looked at."""

import argparse
import itertools
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path
from statistics import mean

from federation import prepare, train
from hospitals import HOSPITALS

from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import EvaluatedBySilos
from fedlaw_flwr.records import tabular
from fedlaw_flwr.records.holdout import hold_back
from fedlaw_flwr.tasks.classification import ClassificationTask

VALIDATION = 0.25
"""The share of what a hospital would train on that it keeps for choosing; what it holds back for its test stays out."""


ROUNDS = (5, 10, 20)
BETAS = {"fedlaw": (0.01, 0.1, 1.0)}


def task(data_path: str, options: Mapping[str, str | int | float | bool]) -> ClassificationTask:
    """The tabular task without its test: a quarter of the training records, by `choose-seed`, takes its place."""
    options = dict(options)
    seed = int(options.pop("choose-seed"))
    found = tabular.task(data_path, options)
    kept, validation = hold_back(found.train, VALIDATION, seed)
    return replace(found, train=kept, test=validation)


def main() -> None:
    """Prints AUC and loss after ROUNDS: means over the splits and the honest hospitals, each on its own validation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strategy", nargs="+", default=["fedlaw", "fedavg"])
    parser.add_argument("--lr", nargs="+", type=float, default=[0.03, 0.1, 0.3, 1.0])
    parser.add_argument("--local-epochs", nargs="+", type=int, default=[1, 3])
    parser.add_argument("--splits", type=int, default=3, help="how many validation splits are averaged")
    chosen = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    logging.getLogger("fedlaw.silo").setLevel(logging.ERROR)
    print("strategy  beta  epochs    lr  " + "  ".join(f"AUC, loss after {rounds:2}" for rounds in ROUNDS))
    with tempfile.TemporaryDirectory() as scratch:
        federations = [
            prepare(Path(scratch) / str(split), HOSPITALS, 0, task="choose:task", options={"choose-seed": split})
            for split in range(chosen.splits)
        ]
        for strategy in chosen.strategy:
            for beta, epochs, lr in itertools.product(BETAS.get(strategy, (0.01,)), chosen.local_epochs, chosen.lr):
                changed = {
                    "num-rounds": max(ROUNDS),
                    "lr": lr,
                    "local-epochs": epochs,
                    "beta": beta,
                    "strategy": strategy,
                }
                folder = Path(scratch) / f"{strategy}-{beta}-{epochs}-{lr}"
                runs = [
                    train(federation, folder / str(split), changed).run for split, federation in enumerate(federations)
                ]
                figures = "  ".join(f"{on_validation(runs, rounds):>18}" for rounds in ROUNDS)
                print(f"{strategy:8}  {beta:4g}  {epochs:6}  {lr:4g}  {figures}", flush=True)


def on_validation(runs: Sequence[Run], rounds: int) -> str:
    """AUC and loss of the model after so many rounds; NaN for a model that has diverged."""
    honest = [f"silo {index}" for index, hospital in enumerate(HOSPITALS) if not hospital.fault]
    said = [
        event.by_silo
        for run in runs
        for event in run.events
        if isinstance(event, EvaluatedBySilos) and event.round == rounds
    ]
    auc, loss = (
        mean(by_silo.get(name, {}).get(silo, nan) for by_silo in said for silo in honest) for name in ("auc", "loss")
    )
    return f"{auc:.4f}, {loss:.3g}"


if __name__ == "__main__":
    main()
