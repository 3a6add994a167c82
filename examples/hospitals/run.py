"""Six hospitals, three of them with faulty records: what is seen before training, and who carries weight after it."""

import argparse
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from federation import MAX_BYZANTINE, Federation, Outcome, prepare, train
from hospitals import HOSPITALS, Hospital

from fedlaw_flwr.config.settings import STRATEGIES
from fedlaw_flwr.core.simplex import Simplex
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.reporting.explanations import score_of, why
from fedlaw_flwr.reporting.report import write_report

CHOSEN: dict[str, dict[str, Any]] = {
    "fedlaw": {"num-rounds": 20, "local-epochs": 1, "lr": 1.0, "beta": 0.01},
    "fedavg": {"num-rounds": 10, "local-epochs": 1, "lr": 0.3},
}
"""By choose.py, on validation records of the honest hospitals; other strategies take what FedAvg takes."""


def told_before(federation: Federation) -> list[str]:
    """What is noticed before any training: at the server from the summaries, at each hospital by its own check."""
    noticed = [f"{name}: {sentence}" for name, said in federation.noticed.items() for sentence in said]
    quiet = [name for name, said in federation.noticed.items() if not said]
    return [
        "Where six summaries become a schema (`fedlaw schema agree`):",
        *_first(federation.agreed),
        "At each hospital, told to its own people alone (`fedlaw check`):",
        *(_first(noticed) if noticed else ()),
        f"  {', '.join(quiet)}: nothing",
    ]


def _first(sentences: Sequence[str], shown: int = 2) -> list[str]:
    more = [f"  and {len(sentences) - shown} more"] if len(sentences) > shown else []
    return [f"  {sentence}" for sentence in sentences[:shown] or ("nothing",)] + more


def bound(hospitals: tuple[Hospital, ...]) -> list[str]:
    """What FedLAW's feasible weights mean for so many honest hospitals."""
    simplex = Simplex.for_federation(len(hospitals), MAX_BYZANTINE)
    honest = sum(not hospital.fault for hospital in hospitals)
    left = 1 - min(honest, simplex.s) * simplex.t
    told = (
        f"FedLAW is told that at most {MAX_BYZANTINE} of {len(hospitals)} are faulty: {simplex.s} carry weight, "
        f"none above {simplex.t:.3f}."
    )
    if left <= 1e-9:
        return [told, f"{honest} are honest and can carry all of it."]
    return [told, f"{honest} are honest and can carry {1 - left:.3f}; the other {left:.3f} must go to a faulty one."]


def table(federation: Federation, outcomes: Mapping[str, Outcome]) -> list[str]:
    """A line for each hospital, and one for the honest ones' held-back records together."""
    head = f"{'hospital':9}{'records':>8}{'malignant':>11}  {'what is wrong':18}"
    lines = [
        f"{'':48}" + "".join(f"{name:>20}" for name in outcomes),
        head + "".join(f"{'weight':>10}{'own AUC':>10}" for _ in outcomes),
    ]
    for index, hospital in enumerate(federation.hospitals):
        line = (
            f"{hospital.name:9}{len(hospital):8}{hospital.malignant / len(hospital):11.0%}  {hospital.fault or '-':18}"
        )
        for outcome in outcomes.values():
            line += f"{_figure(outcome.run.weight(f'silo {index}'))}{_figure(outcome.own_auc.get(f'silo {index}'))}"
        lines.append(line)
    count = len(federation.honest_test())
    together = f"the honest hospitals' {count} held-back records"
    return [*lines, f"{together:48}" + "".join(f"{_figure(outcome.auc, 20)}" for outcome in outcomes.values())]


def _figure(value: float | None, width: int = 10) -> str:
    return f"{'-' if value is None else f'{value:.3f}':>{width}}"


def reasons(federation: Federation, run: Run) -> list[str]:
    """Why a hospital has no weight, and the score of a faulty one that has some."""
    found = []
    for index, hospital in enumerate(federation.hospitals):
        silo = f"silo {index}"
        sentence = why(run, silo)
        if sentence:
            found.append(f"  {hospital.name}: {sentence}")
        elif hospital.fault and run.deciding is not None and (event := run.learned_by(run.deciding.round)):
            score = score_of(run, event, silo)
            found.append(
                f"  {hospital.name} is faulty and carries weight: in round {event.round} its score "
                f"{score.score:+.3g} ranks {score.rank} of {score.scored}."
            )
    return found


def main(arguments: Sequence[str] | None = None) -> tuple[Federation, dict[str, Outcome]]:
    """The command; returns what it has printed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, help="instead of the number chosen for each strategy")
    parser.add_argument("--folder", type=Path, help="where files, runs and reports go, a new folder (a temporary one)")
    parser.add_argument("--strategy", nargs="+", choices=STRATEGIES, default=["fedlaw", "fedavg"])
    parser.add_argument("--seed", type=int, default=0, help="deals the records, begins the model, orders the batches")
    parser.add_argument("--repaired", action="store_true", help="rowan heeds the check and repairs its export first")
    chosen = parser.parse_args(arguments)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    logging.getLogger("fedlaw.silo").setLevel(logging.ERROR)  # the checks' warnings, printed below
    if chosen.folder and chosen.folder.exists():
        parser.error(f"--folder {chosen.folder}: it is there already; name a new one")
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="hospitals-"))
    hospitals = tuple(replace(hospital, factor=1.0) for hospital in HOSPITALS) if chosen.repaired else HOSPITALS

    print(f"{sum(map(len, hospitals))} records at {len(hospitals)} hospitals.\n\nBefore training\n")
    federation = prepare(folder / "data", hospitals, chosen.seed)
    print("\n".join(told_before(federation)))
    print("\nAfter training\n\n" + "\n".join(bound(hospitals)) + "\n")
    outcomes = {}
    for strategy in chosen.strategy:
        changed = {**CHOSEN.get(strategy, CHOSEN["fedavg"]), "strategy": strategy}
        if chosen.rounds is not None:
            changed["num-rounds"] = chosen.rounds
        outcomes[strategy] = train(federation, folder / strategy, changed)
    print("\n".join(table(federation, outcomes)))
    for strategy, outcome in outcomes.items():
        if said := reasons(federation, outcome.run):
            print(f"\n{strategy}:", *said, sep="\n")
    print("\n" + "\n".join(f"report: {write_report(folder / strategy)}" for strategy in outcomes))
    return federation, outcomes


if __name__ == "__main__":
    main()
