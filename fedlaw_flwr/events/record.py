"""A run as its events tell it: rounds, weights, measurements, and the one rule that says who is excluded."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fedlaw_flwr.core.errors import NotThere
from fedlaw_flwr.events.folder import EVENTS, SETTINGS, read_events
from fedlaw_flwr.events.types import (
    Evaluated,
    EvaluatedBySilos,
    Event,
    NoReply,
    NoReview,
    Pardoned,
    Removed,
    ReplyRejected,
    RoundEnded,
    RunEnded,
    RunResumed,
    RunStarted,
    SitsOut,
    current_settings,
)

EXCLUDED_AT = 1e-4
"""A silo counts as excluded when its weight is at most this (FedLAW, Table 7)."""

OWN_TASK = "own"
"""What the setting `task` says where every silo learns from data of its own (`tasks.OWN`, which lies a floor above)."""


@dataclass(frozen=True)
class Run:
    """One run, read from its events; the verdict, the report, the pictures and the metrics all read it.

    The *deciding round* is the last round that moved the model. A silo is excluded if its weight in that round is at
    most `EXCLUDED_AT`, or if its reply was rejected in that round. Where a rule gives no weights and selects silos, the
    silos it left out are excluded. A silo that was merely silent, or not online, is absent: it is neither caught nor
    wrongly excluded. Where a part of the silos is asked in a round, each is judged by the last round up to the deciding
    one that asked it. A silo that sits out because the gate rejected its replies stays excluded.

    Attributes:
        name: The name of the run folder; empty where there is none.
        events: All events, in order.
        settings: The settings of the run by their names in files.
        attackers: The attack of each silo known to attack.
    """

    name: str
    events: tuple[Event, ...]
    settings: Mapping[str, Any]
    attackers: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """The run in a folder, whether it has ended, has failed or goes on.

        Raises:
            FileNotFoundError: If the folder holds no run.
        """
        if not (folder / EVENTS).exists():
            raise NotThere(f"{folder}: there is no run here ({EVENTS} is missing); name a run folder")
        run = cls.of(read_events(folder), folder.resolve().name)
        if run.settings or not (folder / SETTINGS).exists():
            return run
        written = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))  # it failed before its first event
        return cls(run.name, run.events, current_settings(written), run.attackers)

    @classmethod
    def of(cls, events: Iterable[Event], name: str = "") -> "Run":
        """The run that these events tell of."""
        events = tuple(events)
        started = next((event for event in events if isinstance(event, RunStarted)), None)
        settings, attackers = (started.settings, started.attackers) if started else ({}, {})
        for event in events:
            if isinstance(event, RunResumed) and event.changed:
                settings = {**settings, **event.changed}
        return cls(name, events, settings, attackers)

    # -- the events by kind ------------------------------------------------------------------------------------

    @cached_property
    def is_started(self) -> bool:
        """Whether the run got as far as its first event."""
        return any(isinstance(event, RunStarted) for event in self.events)

    @cached_property
    def end(self) -> RunEnded | None:
        """How the run ended; None while it goes on, or if it was killed."""
        return next((event for event in reversed(self.events) if isinstance(event, RunEnded)), None)

    @cached_property
    def rounds(self) -> tuple[RoundEnded, ...]:
        """Every round, in order."""
        return tuple(event for event in self.events if isinstance(event, RoundEnded))

    @cached_property
    def weights(self) -> dict[int, dict[str, float]]:
        """The weights of every round that gave any, by round and silo."""
        return {event.round: event.weight_of for event in self.rounds if event.weights}

    @cached_property
    def missing(self) -> tuple[ReplyRejected | NoReply, ...]:
        """Every reply that was rejected or did not come, in order."""
        return tuple(event for event in self.events if isinstance(event, ReplyRejected | NoReply))

    @cached_property
    def unreviewed(self) -> tuple[NoReview, ...]:
        """Every review that was missing or not valid, in order."""
        return tuple(event for event in self.events if isinstance(event, NoReview))

    @cached_property
    def evaluations(self) -> tuple[Evaluated | EvaluatedBySilos, ...]:
        """The measurements of the model, a round each: the server's or, where it has no examples, the silos'."""
        central = tuple(event for event in self.events if isinstance(event, Evaluated))
        return central or tuple(event for event in self.events if isinstance(event, EvaluatedBySilos))

    @property
    def accuracies(self) -> dict[int, float]:
        """The accuracy by round where one was measured; round 0 is the first model."""
        return {event.round: event.metrics["accuracy"] for event in self.evaluations if "accuracy" in event.metrics}

    @property
    def last_metrics(self) -> Mapping[str, Any]:
        """The metrics of the last model measured; empty where none was."""
        return self.evaluations[-1].metrics if self.evaluations else {}

    @property
    def measured(self) -> str:
        """Where the metrics were taken, in words."""
        return measured(self.evaluations[-1]) if self.evaluations else MEASURED[Evaluated]

    @property
    def learned(self) -> str:
        """What is learned: the task or, where silos have data of their own, what they call it; "?" if nobody says."""
        task = str(self.settings.get("task", "?"))
        if task != OWN_TASK:
            return task
        started = next((event for event in self.events if isinstance(event, RunStarted)), None)
        own = started.own_task if started else None
        return f"{own}, from data of their own," if own else "from data of their own"

    # -- who is excluded ---------------------------------------------------------------------------------------

    @cached_property
    def deciding(self) -> RoundEnded | None:
        """The last round that moved the model; None where none did."""
        return next((event for event in reversed(self.rounds) if not event.skipped), None)

    @property
    def final_weights(self) -> Mapping[str, float]:
        """The weights of the deciding round; empty where the rule gives none."""
        return self.weights.get(self.deciding.round, {}) if self.deciding else {}

    @property
    def is_judged(self) -> bool:
        """Whether the rule says, by weights or by what it kept, whose updates went into the deciding round."""
        return self.deciding is not None and (self.deciding.kept is not None or bool(self.final_weights))

    @property
    def is_honesty_known(self) -> bool:
        """Whether it is known who is honest: not where silos have data of their own, but for a rehearsal."""
        return knows_honest(self.settings)

    def excluded_in(self, round: int) -> frozenset[str]:
        """Who is excluded in a round; empty where the rule says neither whom it weighs nor whom it keeps."""
        event = self._round(round)
        if event is None or (not event.weights and event.kept is None):
            return frozenset()
        without = {silo for silo, weight in event.weight_of.items() if weight <= EXCLUDED_AT}
        if not event.weights and event.kept is not None:
            without = set(event.silos) - set(event.kept)
        return frozenset(without | self._rejected.get(round, set()) | self._out_in(round))

    def caught_in(self, round: int) -> frozenset[str]:
        """Attackers that are excluded in a round."""
        return self.excluded_in(round) & set(self.attackers)

    def wrongly_excluded_in(self, round: int) -> frozenset[str]:
        """Silos excluded in a round that are not known to attack. A node that never named its silo does not count."""
        return self.excluded_in(round) - set(self.attackers) - set(self.nameless)

    @cached_property
    def excluded(self) -> frozenset[str]:
        """Who is excluded in the deciding round."""
        if self.deciding is None or self.deciding.asked is None:
            return self.excluded_in(self.deciding.round) if self.deciding else frozenset()
        asked = {silo: one.round for silo in self.silos if (one := self._last_asked(silo)) is not None}
        gone = {round: self.excluded_in(round) for round in set(asked.values())}
        judged = {silo for silo, round in asked.items() if silo in gone[round]}
        return frozenset(judged | self._out_in(self.deciding.round))

    @cached_property
    def caught(self) -> frozenset[str]:
        """Attackers that are excluded in the deciding round."""
        return self.excluded & set(self.attackers)

    @cached_property
    def wrongly_excluded(self) -> frozenset[str]:
        """Silos excluded in the deciding round that are not known to attack."""
        return self.excluded - set(self.attackers) - set(self.nameless)

    @cached_property
    def absent(self) -> frozenset[str]:
        """Silos of which the deciding round has no usable reply, and no rejected one either."""
        if self.deciding is None:
            return frozenset()
        left_out = {silo for silo in self.silos if self._was_heard(silo)} if self.deciding.asked is not None else set()
        return frozenset(self.silos) - set(self.deciding.silos) - self.excluded - left_out

    @cached_property
    def got_through(self) -> frozenset[str]:
        """Attackers whose updates went into the deciding round; empty where the rule says nothing of that."""
        if self.deciding is None or not self.is_judged:
            return frozenset()
        return frozenset(silo for silo in self.deciding.silos if silo in self.attackers) - self.excluded

    # -- one silo ----------------------------------------------------------------------------------------------

    @cached_property
    def silos(self) -> tuple[str, ...]:
        """Every silo that answered, was rejected, was silent or is known to attack, in order of its number."""
        names = {name for event in self.rounds for name in event.silos}
        names |= {event.silo for event in self.missing} | set(self.attackers)
        return tuple(sorted(names, key=by_number))

    @cached_property
    def nameless(self) -> tuple[str, ...]:
        """Nodes without a usable reply, in a federation without registered names: which silos they are is not known."""
        used = {silo for event in self.rounds for silo in event.silos}
        names = {event.silo for event in self.missing if event.silo.startswith("node ")}
        return tuple(sorted(names - used, key=by_number))

    def weight(self, silo: str) -> float | None:
        """The silo's weight in the deciding round: None if it gave no usable reply, or if the rule gives no weights."""
        return self.final_weights.get(silo)

    def missed(self, silo: str, round: int) -> ReplyRejected | NoReply | None:
        """The event that says why a silo's reply is missing in a round; None if it was not online or not missing."""
        return next((event for event in self.missing if event.silo == silo and event.round == round), None)

    def learned_by(self, round: int) -> RoundEnded | None:
        """The last round up to this one in which weights were learned, from scores or by peer review."""
        return next((e for e in reversed(self.rounds) if e.round <= round and _learned(e)), None)

    def excluded_since(self, silo: str, round: int) -> int:
        """The first round of the unbroken stretch of exclusion that ends in this one; absences do not break it."""
        start = round
        for number in sorted((n for n in self.weights if n <= round), reverse=True):
            if silo in self.excluded_in(number):
                start = number
            elif silo in self.weights[number]:
                break
        return start

    @cached_property
    def _rejected(self) -> dict[int, set[str]]:
        """The silos whose reply was rejected, by round."""
        found: dict[int, set[str]] = {}
        for event in self.missing:
            if isinstance(event, ReplyRejected):
                found.setdefault(event.round, set()).add(event.silo)
        return found

    def _out_in(self, round: int) -> set[str]:
        """Who sits out in a round because the gate rejected its replies."""
        out: set[str] = set()
        for event in self.events:
            if isinstance(event, SitsOut) and event.identified and event.round < round:
                out.add(event.silo)
            elif isinstance(event, Pardoned | Removed) and event.round <= round:
                out.discard(event.silo)
        return out

    def _last_asked(self, silo: str) -> RoundEnded | None:
        """The last round up to the deciding one that moved the model and asked this silo."""
        assert self.deciding is not None
        return next(
            (
                event
                for event in reversed(self.rounds)
                if event.round <= self.deciding.round
                and not event.skipped
                and (event.asked is None or silo in event.asked)
            ),
            None,
        )

    def _was_heard(self, silo: str) -> bool:
        """Whether the last such round has a usable reply of this silo."""
        asked = self._last_asked(silo)
        return asked is not None and silo in asked.silos

    @cached_property
    def _by_number(self) -> dict[int, RoundEnded]:
        return {event.round: event for event in self.rounds}

    def _round(self, round: int) -> RoundEnded | None:
        return self._by_number.get(round)


def _learned(event: RoundEnded) -> bool:
    return event.scores is not None or event.vouching is not None


MEASURED: Mapping[type[Event], str] = {
    Evaluated: "on the test set",
    EvaluatedBySilos: "median over the silos, as they say",
}
"""Where a metric was taken, by the kind of event that has it: on the server's examples, or by silos on their own."""

BY_WEIGHT = "by the silos, as they say, each counted by its weight"
"""Where a metric was taken that silos report and that is put together by their weights."""


def measured(event: Evaluated | EvaluatedBySilos) -> str:
    """Where this measurement was taken, in words."""
    if isinstance(event, EvaluatedBySilos) and event.weights is not None:
        return BY_WEIGHT
    return MEASURED[type(event)]


def knows_honest(settings: Mapping[str, Any]) -> bool:
    """Whether it is known who is honest in a run with these settings.

    Not where silos have data of their own, unless it is a rehearsal, which names those it mislabelled as drills.
    """
    return settings.get("task") != OWN_TASK or bool(settings.get("drills"))


def weight_on(attackers: Iterable[str], weights: Mapping[str, float]) -> float | None:
    """The share of the weight that attackers have; None where there are no weights."""
    return sum(weights.get(silo, 0.0) for silo in attackers) if weights else None


def by_number(name: str) -> list[tuple[int, str]]:
    """A sort key that puts silo 2 before silo 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)]
