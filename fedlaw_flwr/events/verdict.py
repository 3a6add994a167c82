"""What a run came to in figures: accuracy, who was caught, who was wrongly excluded, bytes and seconds."""

from dataclasses import dataclass

from fedlaw_flwr.events.record import Run, weight_on


@dataclass(frozen=True)
class Verdict:
    """The figures of one run.

    Counts of silos are None for a rule that says neither whom it weighs nor whom it keeps (a median, say), and where
    nobody knows who is honest: among silos with data of their own.

    Attributes:
        strategy: The name of the strategy.
        measured: Where the metrics were taken, in words.
        rounds: How many rounds there were.
        skipped_rounds: How many of them kept the model as it was.
        accuracy: The accuracy of the last model measured, from 0 to 1; None where none was.
        validation_accuracy: The same on validation data.
        attack_success: The share of triggered examples that get the backdoor's label; None without such an attack.
        attackers: How many silos are known to attack.
        caught: How many of them are excluded.
        honest: How many silos are not known to attack.
        wrongly_excluded: How many of them are excluded.
        weight_on_attackers: The share of the weight that attackers have in the deciding round; None without weights.
        bytes_down: Bytes of the records sent to the silos.
        bytes_up: Bytes of the records of their replies.
        seconds: Seconds in rounds.
    """

    strategy: str
    measured: str
    rounds: int
    skipped_rounds: int
    accuracy: float | None
    validation_accuracy: float | None
    attack_success: float | None
    attackers: int
    caught: int | None
    honest: int
    wrongly_excluded: int | None
    weight_on_attackers: float | None
    bytes_down: int
    bytes_up: int
    seconds: float

    @property
    def detection(self) -> dict[str, float]:
        """Precision, recall, F1 and accuracy of "excluded means Byzantine" (FedLAW, Table 7); empty without counts."""
        if self.caught is None or self.wrongly_excluded is None:
            return {}
        flagged = self.caught + self.wrongly_excluded
        precision = self.caught / flagged if flagged else 0.0
        recall = self.caught / self.attackers if self.attackers else 0.0
        right = self.caught + self.honest - self.wrongly_excluded
        return {
            "precision": precision,
            "recall": recall,
            "f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
            "accuracy": right / (self.attackers + self.honest),
        }


def verdict(run: Run) -> Verdict:
    """The verdict on a run; who is excluded is what `Run` says."""
    metrics = run.last_metrics
    is_judged = run.is_judged and run.is_honesty_known
    return Verdict(
        strategy=str(run.settings.get("strategy", "")),
        measured=run.measured,
        rounds=len(run.rounds),
        skipped_rounds=sum(event.skipped for event in run.rounds),
        accuracy=metrics.get("accuracy"),
        validation_accuracy=metrics.get("validation-accuracy"),
        attack_success=metrics.get("attack-success"),
        attackers=len(run.attackers),
        caught=len(run.caught) if is_judged else None,
        honest=int(run.settings.get("num-silos", 0)) - len(run.attackers),
        wrongly_excluded=len(run.wrongly_excluded) if is_judged else None,
        weight_on_attackers=weight_on(run.attackers, run.final_weights) if is_judged else None,
        bytes_down=sum(event.bytes_down for event in run.rounds),
        bytes_up=sum(event.bytes_up for event in run.rounds),
        seconds=sum(event.seconds for event in run.rounds),
    )
