"""The rows of an experiment over seeds: mean and deviation, beside the paper's, as CSV and as Markdown."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from fedlaw_flwr.studies.plan import Experiment, PlannedRun
from fedlaw_flwr.studies.table import Row, key_of

DETECTION = ("precision", "recall", "f1", "detection_accuracy")


@dataclass(frozen=True)
class Cell:
    """One method under one choice of every axis.

    A method's name up to a comma is the paper's: "CClip, tau 0.1" stands beside its CClip.

    Attributes:
        accuracy: The mean over seeds, in per cent.
        deviation: The standard deviation over seeds (n - 1), in points; None for one seed.
        paper: The paper's value, in per cent; None where it has none.
        paper_deviation: The paper's deviation; None where it has none.
        detection: The mean of each of DETECTION. Empty for a rule without weights and for FedAvg, which excludes
            nobody.
        paper_detection: The paper's mean of each of DETECTION, of FedLAW alone.
        stuck: In how many runs no round moved the model.
        held: The most rounds of a run in which the model stayed where it was.
    """

    method: str
    axes: Mapping[str, str]
    seeds: tuple[int, ...]
    accuracy: float
    deviation: float | None
    validation: float | None
    paper: float | None
    paper_deviation: float | None
    detection: Mapping[str, float]
    paper_detection: Mapping[str, float]
    mass: float | None
    attack_success: float | None
    stuck: int
    held: int
    settings: str

    @property
    def difference(self) -> float | None:
        """Ours less the paper's, in points."""
        return None if self.paper is None else self.accuracy - self.paper


def cells_of(experiment: Experiment, rows: Iterable[Row]) -> list[Cell]:
    """A cell for each combination of a method and the axes that has a row, in the experiment's order."""
    paper, detection = read_paper(experiment.paper), _read_detection(experiment.paper_detection)
    found = {key_of(row): row for row in rows}
    grouped: dict[tuple[str, str], tuple[PlannedRun, list[Row]]] = {}
    for planned in experiment.runs:
        row = found.get(planned.key)
        if row is None or not _is_finite(row["accuracy"]):
            continue
        values = " ".join(f"{name}={value}" for name, value in sorted(planned.values.items()))
        grouped.setdefault((planned.method, values), (planned, []))[1].append(row)
    return [_cell(planned, experiment.axes, own, paper, detection) for planned, own in grouped.values()]


def _cell(
    planned: PlannedRun,
    axes: Sequence[str],
    rows: Sequence[Row],
    paper: Mapping[tuple[str, ...], tuple[float, float]],
    detection: Mapping[tuple[str, ...], Mapping[str, float]],
) -> Cell:
    """The cell of these rows, which differ in the seed alone; planned: the run of one of them."""
    method, values, first = planned.method, planned.values, rows[0]
    excludes = values.get("strategy") != "fedavg"
    accuracies = [100 * float(row["accuracy"]) for row in rows]
    place = (first["task"], first["attack"], first["q"], first["byzantine"])
    name = method.partition(",")[0]
    theirs = paper.get((*place, name))
    return Cell(
        method=method,
        axes={axis: f"{values[axis]}" for axis in axes if axis in values},
        seeds=tuple(int(row["seed"]) for row in rows),
        accuracy=mean(accuracies),
        deviation=stdev(accuracies) if len(rows) > 1 else None,
        validation=_mean(rows, "validation_accuracy", 100),
        paper=theirs and theirs[0],
        paper_deviation=theirs and theirs[1],
        detection={name: value for name in DETECTION if excludes and (value := _mean(rows, name)) is not None},
        paper_detection=detection.get(place, {}) if name == "FedLAW" else {},
        mass=_mean(rows, "mass_on_attackers", 100),
        attack_success=_mean(rows, "attack_success", 100),
        stuck=sum(bool(row["failed"]) for row in rows),
        held=max(int(row["held"] or 0) for row in rows),
        settings=first["settings"],
    )


def _is_finite(text: str) -> bool:
    """Whether a cell holds a number that can be averaged."""
    return bool(text) and math.isfinite(float(text))


def _mean(rows: Sequence[Row], field: str, factor: float = 1) -> float | None:
    values = [factor * float(row[field]) for row in rows if row[field]]
    return mean(values) if values else None


def read_paper(path: Path | None) -> dict[tuple[str, ...], tuple[float, float]]:
    """The paper's cells by (task, attack, q, fraction, method): mean and deviation, in per cent."""
    if path is None:
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {
            (row["task"], row["attack"], row["q"], row["byzantine"], row["method"]): (
                float(row["mean"]),
                float(row["deviation"]),
            )
            for row in csv.DictReader(file)
        }


def _read_detection(path: Path | None) -> dict[tuple[str, ...], dict[str, float]]:
    """The paper's mean of each of DETECTION by (task, attack, q, fraction)."""
    found: dict[tuple[str, ...], dict[str, float]] = {}
    if path is not None:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                name = "detection_accuracy" if row["metric"] == "accuracy" else row["metric"]
                place = (row["task"], row["attack"], row["q"], row["byzantine"])
                found.setdefault(place, {})[name] = float(row["mean"])
    return found


def markdown(experiment: Experiment, cells: Sequence[Cell]) -> str:
    """A line a cell: the axes, the method, ours, the paper's, the difference, and who was excluded (the paper's in
    brackets)."""
    axes = experiment.varied
    theirs = any(cell.paper is not None for cell in cells)
    head = [*axes, "method", "seeds", "validation", "test accuracy", *(["paper", "difference"] if theirs else [])]
    head += ["precision", "recall", "F1", "accuracy of exclusion", "weight on attackers"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for cell in cells:
        line = [*(cell.axes.get(axis, "") for axis in axes), cell.method, _seeds(cell)]
        line += [_with(cell.validation, None), _with(cell.accuracy, cell.deviation)]
        if theirs:
            line += [_with(cell.paper, cell.paper_deviation), "" if cell.paper is None else f"{cell.difference:+.1f}"]
        line += [_beside(cell.detection.get(name), cell.paper_detection.get(name)) for name in DETECTION]
        line.append("" if cell.mass is None else f"{cell.mass:.1f} %")
        lines.append("| " + " | ".join(line) + " |")
    return "\n".join(lines)


def _seeds(cell: Cell) -> str:
    """The seeds, and what a reader must know of their runs before trusting the figures."""
    seeds = " ".join(map(str, cell.seeds))
    if cell.stuck:
        return f"{seeds} ({cell.stuck} never moved)"
    return f"{seeds} ({cell.held} rounds skipped)" if cell.held else seeds


def own_settings(experiment: Experiment) -> dict[str, dict[str, object]]:
    """What every run of a method has alike and the experiment's runs have not: what its name stands for."""
    common = common_settings(experiment)
    own: dict[str, dict[str, object]] = {}
    for method in experiment.methods:
        values = [planned.values for planned in experiment.runs if planned.method == method]
        own[method] = {
            name: value
            for name, value in (values[0] if values else {}).items()
            if name not in (*common, *experiment.axes) and all(other.get(name) == value for other in values)
        }
    return own


def common_settings(experiment: Experiment) -> dict[str, object]:
    """The settings, names and values, that every run of the experiment has alike; but for the seed."""
    values = [planned.values for planned in experiment.runs]
    return {name: value for name, value in values[0].items() if all(other.get(name) == value for other in values)}


def write_summary(cells: Iterable[Cell], path: Path) -> None:
    """A CSV line a cell, accuracies in per cent."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        head = ("method", "seeds", "mean", "deviation", "validation", "paper", "paper_deviation", "difference")
        writer.writerow([*head, *DETECTION, "mass_on_attackers", "attack_success", "settings"])
        for cell in cells:
            numbers = [cell.accuracy, cell.deviation, cell.validation, cell.paper, cell.paper_deviation]
            numbers += [cell.difference, *(cell.detection.get(name) for name in DETECTION), cell.mass]
            figures = ["" if n is None else f"{n:.4g}" for n in [*numbers, cell.attack_success]]
            writer.writerow([cell.method, " ".join(map(str, cell.seeds)), *figures, cell.settings])


def _beside(ours: float | None, theirs: float | None) -> str:
    return ("" if ours is None else f"{ours:.2f}") + ("" if theirs is None else f" ({theirs:.2f})")


def _with(value: float | None, deviation: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if deviation is None else f"{value:.1f} ± {deviation:.1f}"
