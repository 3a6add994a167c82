"""A finished run as its folder tells it: events sorted into rounds, weights, quarantines and the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedlaw_flwr.runs.folder import EVENTS, read_events
from fedlaw_flwr.runs.pictures import (
    attackers_of,
    by_number,
    settings_of,
)
from fedlaw_flwr.runs.verdict import EXCLUDED_AT, weights_of

Event = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """A run's events by kind. weights: of every round that gave any, by round and silo; final: the round that says
    who carries weight at the end, the last to move the model, or None."""

    name: str
    events: Sequence[Event]
    settings: Mapping[str, Any]
    attackers: Mapping[str, str]
    rounds: Sequence[Event]
    weights: Mapping[int, Mapping[str, float]]
    gate: Sequence[Event]
    final: Event | None

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """The run in a folder, whether it ended, failed or goes on. Raises FileNotFoundError if there is none."""
        if not (folder / EVENTS).exists():
            raise FileNotFoundError(f"{folder}: there is no run here ({EVENTS} is missing); name a run folder")
        events = list(read_events(folder))
        rounds = [event for event in events if event["kind"] == "round"]
        return cls(
            name=folder.resolve().name,
            events=events,
            settings=settings_of(events, folder),
            attackers=attackers_of(events),
            rounds=rounds,
            weights={event["round"]: weights_of(event) for event in rounds if event.get("weights")},
            gate=[event for event in events if event["kind"] in ("quarantine", "silent")],
            final=next((event for event in reversed(rounds) if not event["held"]), None),
        )

    def weight(self, silo: str) -> float | None:
        """What the silo carries at the end: None if it was not there, or if the rule gives silos no weights."""
        return self.weights.get(self.final["round"], {}).get(silo) if self.final else None

    @property
    def judges(self) -> bool:
        """Whether the rule says, by weights or by what it kept, whose updates went into the final model."""
        return self.final is not None and ("kept" in self.final or bool(self.weights.get(self.final["round"])))

    def is_there(self, silo: str) -> bool:
        """Whether its reply went into the final round."""
        return self.final is not None and silo in self.final["silos"]

    def is_excluded(self, silo: str) -> bool:
        """Whether it is in the final round and nothing of it went into the model."""
        if self.final is None or not self.is_there(silo):
            return False
        weight = self.weight(silo)
        if weight is not None:
            return weight <= EXCLUDED_AT
        return "kept" in self.final and silo not in self.final["kept"]

    def missed(self, silo: str, server_round: int) -> Event | None:
        """The event that says why a silo's reply is missing in a round; None if it was not online or not missing."""
        return next((e for e in self.gate if e["silo"] == silo and e["round"] == server_round), None)

    def learned_by(self, server_round: int) -> Event | None:
        """The last round up to this one in which weights were learned."""
        return next((e for e in reversed(self.rounds) if e["round"] <= server_round and "scores" in e), None)

    def without_since(self, silo: str, server_round: int) -> int:
        """The first round of the unbroken stretch without weight that ends in this one, absences left out."""
        start = server_round
        for number in sorted((n for n in self.weights if n <= server_round), reverse=True):
            weight = self.weights[number].get(silo)
            if weight is not None and weight > EXCLUDED_AT:
                break
            start = number if weight is not None else start
        return start

    def silos(self) -> list[str]:
        """Every silo that answered, was set aside, was silent or is known to attack, in order of its number."""
        names = {name for event in self.rounds for name in event.get("silos", ())}
        names |= {event["silo"] for event in self.gate} | set(self.attackers)
        return sorted(names, key=by_number)

    def nameless(self) -> list[str]:
        """Nodes that never replied, in a federation without registered names: which silos they are is not known."""
        used = {silo for event in self.rounds for silo in event.get("silos", ())}
        names = {event["silo"] for event in self.gate if event["silo"].startswith("node ")}
        return sorted(names - used, key=by_number)
