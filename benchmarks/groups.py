"""Who carries weight or is selected, and why, group by group: `python -m benchmarks.groups runs/grid/NAME/RUN`.

For runs with q-groups, where the silos of a group share a label. The mechanisms that docs/research/results.md describes
are read from these tables.
"""

import argparse
from pathlib import Path

import numpy as np

from fedlaw_flwr.core.blocks import Vector
from fedlaw_flwr.events.record import EXCLUDED_AT, Run
from fedlaw_flwr.events.types import RoundEnded

GROUPS = 10
WEIGHT_ROUNDS = (1, 2, 3, 5, 8, 10, 12, 15, 18, 20)
RULE_ROUNDS = (1, 5, 10, 20, 40, 60, 80, 100, 150, 200)


def table(folder: Path) -> str:
    """Markdown: a line a group (* attacks), a column a round.

    FedLAW's weight rounds: silos that carry weight, mean alignment (beta / alpha) <delta_i, z> in thousandths, mean
    loss f~ at the trial model. Of a rule that selects: silos it kept, and the mean norm of the group's updates.
    Raises ValueError for a run that has neither.
    """
    run = Run.read(folder)
    size = run.settings["num-silos"] // GROUPS
    attacking = {_group(silo, size) for silo in run.attackers}
    rounds = {event.round: event for event in run.rounds}
    learned = [number for number in WEIGHT_ROUNDS if number in rounds and rounds[number].scores is not None]
    chosen = learned or [number for number in RULE_ROUNDS if number in rounds and rounds[number].kept is not None]
    if not chosen:
        raise ValueError(f"{folder}: no round in it learned weights, and its rule selects no silos")
    cell = _learned if learned else _selected
    lines = [
        "| group | " + " | ".join(f"round {number}" for number in chosen) + " |",
        "|---" * (len(chosen) + 1) + "|",
    ]
    for group in range(GROUPS):
        cells = [cell(rounds[number], group, size) for number in chosen]
        lines.append(f"| {group}{'*' * (group in attacking)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _selected(event: RoundEnded, group: int, size: int) -> str:
    kept = sum(_group(silo, size) == group for silo in event.kept or ())
    norms = [norm for silo, norm in zip(event.silos, event.norms, strict=True) if _group(silo, size) == group]
    return f"{kept}, {np.mean(norms):.1f}" if norms else f"{kept}, none heard"


def _learned(event: RoundEnded, group: int, size: int) -> str:
    scored = np.array([_group(silo, size) == group for silo in event.scored or ()])
    carriers = sum(weight > EXCLUDED_AT and _group(silo, size) == group for silo, weight in event.weight_of.items())
    if not scored.any():
        return f"{carriers}, none scored"
    alignment: Vector = 1e3 * np.array(event.alignment)[scored]
    losses: Vector = np.array(event.trial_losses)[scored]
    return f"{carriers}, {alignment.mean():.1f}, {losses.mean():.2f}"


def _group(silo: str, size: int) -> int:
    return int(silo.rpartition(" ")[2]) // size


def main() -> None:
    """Prints the table of one run folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    print(table(parser.parse_args().folder))


if __name__ == "__main__":
    main()
