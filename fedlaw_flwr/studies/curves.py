"""What a run's rounds came to, as a small CSV beside the table: accuracy, exchanges, and where the weight lay."""

import csv
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedlaw_flwr.runs.verdict import excluded, mass_on, set_aside, weights_of

FIELDS = ("round", "exchanges", "accuracy", "validation_accuracy", "mass", "caught", "wronged", "weights")
NAMED = 20
"""Up to so many silos, every silo's weight is kept."""


@dataclass(frozen=True)
class Point:
    """One round. exchanges: all up to its end; mass, caught, wronged: the share of weight on attackers, and how many
    attackers and honest silos have none or were set aside by the gate; None without weights. weights: silo i's in
    place i, nan where it gave no usable reply; empty without weights and for more than NAMED silos."""

    round: int
    exchanges: int
    accuracy: float | None
    validation_accuracy: float | None
    mass: float | None
    caught: int | None
    wronged: int | None
    weights: tuple[float, ...]


def points_of(events: Iterable[Mapping[str, Any]]) -> list[Point]:
    """A point for each round in a run's events, and for round 0 where the first model was measured."""
    events = list(events)
    started: Mapping[str, Any] = next((event for event in events if event["kind"] == "run"), {})
    attackers, n = set(started.get("attackers", ())), int(started.get("settings", {}).get("num-silos", 0))
    aside = set_aside(events)
    measured = {event["round"]: event for event in events if event["kind"] == "evaluate"}
    points, exchanges = [], 0
    rounds = {event["round"]: event for event in events if event["kind"] == "round"}
    for number in sorted({*rounds, *([0] if 0 in measured else [])}):
        event = rounds.get(number, {})
        exchanges += len(event.get("exchanges", ()))
        weights = weights_of(event)
        out = excluded(weights, aside.get(number, ()))
        points.append(
            Point(
                round=number,
                exchanges=exchanges,
                accuracy=measured.get(number, {}).get("accuracy"),
                validation_accuracy=measured.get(number, {}).get("validation-accuracy"),
                mass=mass_on(attackers, weights),
                caught=len(out & attackers) if weights else None,
                wronged=len(out - attackers) if weights else None,
                weights=tuple(weights.get(f"silo {i}", math.nan) for i in range(n)) if weights and n <= NAMED else (),
            )
        )
    return points


def write_points(points: Iterable[Point], path: Path) -> None:
    """Writes the file at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        for point in points:
            numbers = [getattr(point, field) for field in FIELDS[:-1]]
            cells = ["" if n is None else f"{n:.5g}" if isinstance(n, float) else n for n in numbers]
            writer.writerow([*cells, " ".join(f"{weight:.4g}" for weight in point.weights)])
    os.replace(part, path)


def read_points(path: Path) -> list[Point]:
    """The points in such a file."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Point(
                round=int(row["round"]),
                exchanges=int(row["exchanges"]),
                accuracy=_number(row["accuracy"]),
                validation_accuracy=_number(row["validation_accuracy"]),
                mass=_number(row["mass"]),
                caught=int(row["caught"]) if row["caught"] else None,
                wronged=int(row["wronged"]) if row["wronged"] else None,
                weights=tuple(float(weight) for weight in row["weights"].split()),
            )
            for row in csv.DictReader(file)
        ]


def _number(text: str) -> float | None:
    return float(text) if text else None
