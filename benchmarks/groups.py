"""Who carries weight and why, group by group: `python -m benchmarks.groups runs/grid/NAME/RUN` prints a run.

For runs with q-groups, where the silos of a group share a label. The mechanisms in docs/results.md are read from this.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from fedlaw_flwr.blocks import Vector
from fedlaw_flwr.runs.folder import read_events
from fedlaw_flwr.runs.verdict import EXCLUDED_AT

GROUPS = 10
ROUNDS = (1, 2, 3, 5, 8, 10, 12, 15, 18, 20)


def table(folder: Path) -> str:
    """Markdown: a line a group (* attacks) in some weight rounds: silos that carry weight, mean alignment, mean loss.

    Alignment is (beta / alpha) <delta_i, z>, in thousandths; the loss is f~ at the trial model.
    """
    events = list(read_events(folder))
    run = next(event for event in events if event["kind"] == "run")
    size = run["settings"]["num-silos"] // GROUPS
    attacking = {_number(silo) // size for silo in run["attackers"]}
    rounds = {event["round"]: event for event in events if event["kind"] == "round" and "scores" in event}
    chosen = [number for number in ROUNDS if number in rounds]
    lines = [
        "| group | " + " | ".join(f"round {number}" for number in chosen) + " |",
        "|---" * (len(chosen) + 1) + "|",
    ]
    for group in range(GROUPS):
        cells = [_cell(rounds[number], group, size) for number in chosen]
        lines.append(f"| {group}{'*' * (group in attacking)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(event: dict[str, Any], group: int, size: int) -> str:
    scored = np.array([_number(silo) // size == group for silo in event["scored"]])
    carriers = sum(
        weight > EXCLUDED_AT and _number(silo) // size == group
        for silo, weight in zip(event["silos"], event["weights"], strict=True)
    )
    if not scored.any():
        return f"{carriers}, none scored"
    alignment: Vector = 1e3 * np.array(event["alignment"])[scored]
    losses: Vector = np.array(event["trial-losses"])[scored]
    return f"{carriers}, {alignment.mean():.1f}, {losses.mean():.2f}"


def _number(silo: str) -> int:
    return int(silo.rpartition(" ")[2])


def main() -> None:
    """Prints the table of one run folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    print(table(parser.parse_args().folder))


if __name__ == "__main__":
    main()
