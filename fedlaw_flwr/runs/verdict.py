"""What a run came to: accuracy, who was caught and who was wronged, bytes and seconds, from its events alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fedlaw_flwr.tasks import OWN

EXCLUDED_AT = 1e-4
"""A silo counts as excluded when its weight is at most this (FedLAW, Table 7)."""

MEASURED = {"evaluate": "on the test set", "silo-evaluation": "median over the silos, as they say"}
"""Where a metric was taken, by the kind of event that has it: on the server's examples or by silos on their own."""


@dataclass(frozen=True)
class Verdict:
    """The figures of one run.

    Counts of silos are None for a rule that gives silos no weights (a median, say), and where nobody knows who is
    honest: among silos with data of their own.
    """

    strategy: str
    measured: str  # where accuracy was taken, a value of MEASURED
    rounds: int
    held: int
    accuracy: float | None
    validation_accuracy: float | None
    attack_success: float | None
    attackers: int
    caught: int | None
    honest: int
    wronged: int | None
    mass_on_attackers: float | None
    bytes_down: int
    bytes_up: int
    seconds: float

    @property
    def detection(self) -> dict[str, float]:
        """Precision, recall, F1 and accuracy of "excluded means Byzantine" (FedLAW, Table 7); empty without weights."""
        if self.caught is None or self.wronged is None:
            return {}
        flagged = self.caught + self.wronged
        precision = self.caught / flagged if flagged else 0.0
        recall = self.caught / self.attackers if self.attackers else 0.0
        right = self.caught + self.honest - self.wronged
        return {
            "precision": precision,
            "recall": recall,
            "f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
            "accuracy": right / (self.attackers + self.honest),
        }


def evaluations(events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The events that tell metrics of the model, a round each: the server's or, where it measured none, the silos'."""
    found = [event for event in events if event["kind"] in MEASURED]
    central = [event for event in found if event["kind"] == "evaluate"]
    return central or found


def weights_of(event: Mapping[str, Any]) -> dict[str, float]:
    """The weight of each silo in a round event, by name; empty if the round gave none."""
    return dict(zip(event["silos"], event["weights"], strict=True)) if event.get("weights") else {}


def set_aside(events: Iterable[Mapping[str, Any]]) -> dict[int, set[str]]:
    """The silos whose replies the gate set aside, by round."""
    found: dict[int, set[str]] = {}
    for event in events:
        if event["kind"] == "quarantine":
            found.setdefault(event["round"], set()).add(event["silo"])
    return found


def excluded(weights: Mapping[str, float], aside: Iterable[str]) -> set[str]:
    """Who has no weight in a round that gave some, or was set aside in it."""
    return {silo for silo, weight in weights.items() if weight <= EXCLUDED_AT} | set(aside)


def mass_on(attackers: Iterable[str], weights: Mapping[str, float]) -> float | None:
    """The share of the weight that attackers hold; None where there are no weights."""
    return sum(weights.get(silo, 0.0) for silo in attackers) if weights else None


def verdict(events: Iterable[Mapping[str, Any]]) -> Verdict:
    """The verdict on a run, by its last round with weights: excluded is who had none or was set aside by the gate.

    A silo that was merely silent in that round is neither caught nor wronged.
    """
    settings: Mapping[str, Any] = {}
    attackers: set[str] = set()
    events = list(events)
    metrics = {"kind": "evaluate"} | dict(evaluations(events)[-1] if evaluations(events) else {})
    weights: dict[str, float] = {}
    last = 0
    rounds = held = down = up = 0
    seconds = 0.0
    for event in events:
        if event["kind"] == "run":
            settings, attackers = event["settings"], set(event["attackers"])
        elif event["kind"] == "round":
            rounds, held = rounds + 1, held + bool(event["held"])
            down, up, seconds = down + event["bytes-down"], up + event["bytes-up"], seconds + event["seconds"]
            if weights_of(event):
                weights, last = weights_of(event), event["round"]
    honest = int(settings.get("num-silos", 0)) - len(attackers)
    judged = bool(weights) and settings.get("task") != OWN
    out = excluded(weights, set_aside(events).get(last, ()))
    return Verdict(
        strategy=str(settings.get("strategy", "")),
        measured=MEASURED[metrics["kind"]],
        rounds=rounds,
        held=held,
        accuracy=metrics.get("accuracy"),
        validation_accuracy=metrics.get("validation-accuracy"),
        attack_success=metrics.get("attack-success"),
        attackers=len(attackers),
        caught=len(out & attackers) if judged else None,
        honest=honest,
        wronged=len(out - attackers) if judged else None,
        mass_on_attackers=mass_on(attackers, weights) if judged else None,
        bytes_down=down,
        bytes_up=up,
        seconds=seconds,
    )
