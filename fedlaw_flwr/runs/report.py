"""A run explained on one page: what happened, who got how much weight and why, what it cost; from its events alone."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedlaw_flwr.guards import raise_low_losses
from fedlaw_flwr.runs.folder import EVENTS, read_events
from fedlaw_flwr.runs.pictures import (
    accuracy_curve,
    attackers_of,
    by_number,
    settings_of,
    strategy_name,
    weights_svg,
)
from fedlaw_flwr.runs.report_page import Cost, GateRow, Page, SiloRow, render
from fedlaw_flwr.runs.verdict import EXCLUDED_AT, weights_of
from fedlaw_flwr.settings import Settings
from fedlaw_flwr.weighting import Simplex

Event = Mapping[str, Any]

# More rows than this are no longer read; the rest is in the events.
_GATE_ROWS = 300
# More names than this in a sentence are no longer read; the table has them all.
_NAMES = 8


def write_report(folder: Path) -> Path:
    """Writes report.html, which needs nothing but itself, into a run folder and returns its path.

    Raises FileNotFoundError if the folder holds no run, ModuleNotFoundError, saying what to install, without the
    `report` extra.
    """
    run = Run.read(folder)
    text = render(page_of(run, weights_svg(run.events)))
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


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


def page_of(run: Run, picture: str = "") -> Page:
    """All that the report says of a run."""
    rows = silo_rows(run)
    gate = gate_rows(run.gate)
    return Page(
        title=f"{strategy_name(run.settings)} on {run.settings.get('task', 'an unknown task')}: {run.name}",
        alarm=alarm(run),
        story=story(run),
        warnings=[event["reason"] for event in run.events if event["kind"] == "warning"],
        picture=picture,
        legend=legend(run),
        attack_known=bool(run.attackers),
        has_weights=bool(run.weights),
        silos=rows,
        notes=notes(run),
        gate=gate[:_GATE_ROWS],
        gate_more=len(gate) - len(gate[:_GATE_ROWS]),
        held=held_rounds(run.rounds),
        costs=costs(run.rounds),
        settings=settings_rows(run.settings),
    )


# What happened


def alarm(run: Run) -> str:
    """What must be known before anything else: the run failed or did not end. Empty for a completed run."""
    end = next((event for event in run.events if event["kind"] == "end"), None)
    if end is not None and end["status"] == "completed":
        return ""
    done = f"after round {run.rounds[-1]['round']}" if run.rounds else "before its first round was over"
    if end is None:
        return f"The run has not ended, or was killed, {done}. What follows is what there is so far."
    return f"The run failed {done}: {end.get('reason', 'no reason was given')}. What follows is what there was until then."


def story(run: Run) -> list[str]:
    """What happened, in three sentences: the task and the attack, who was wronged or caught, the accuracy."""
    return [_what(run), _who(run), _accuracy(run)] if run.final else [_what(run), _accuracy(run)]


def _what(run: Run) -> str:
    settings, planned = run.settings, run.settings.get("num-rounds")
    rounds = f"{len(run.rounds)} rounds" if len(run.rounds) == planned else f"{len(run.rounds)} of {planned} rounds"
    attacks = ", ".join(f"{attack} by {count}" for attack, count in Counter(run.attackers.values()).items())
    return (
        f"{settings.get('num-silos', '?')} silos learned {settings.get('task', '?')} together for {rounds} "
        f"with {strategy_name(settings)}; "
        + (f"{len(run.attackers)} of them attacked ({attacks})." if attacks else "none of them was made to attack.")
    )


def _who(run: Run) -> str:
    """Losses first: attackers that kept weight, honest silos that lost theirs, silos that were not there."""
    assert run.final is not None
    silos = run.silos()
    excluded = [silo for silo in silos if run.is_excluded(silo)]
    absent = [silo for silo in silos if not run.is_there(silo)]
    if not run.weights and "kept" not in run.final:
        return f"{strategy_name(run.settings)} gives silos no weights of their own, so nobody is caught or wronged by name."
    lost = "got no weight" if run.weights else f"had nothing of their updates used in round {run.final['round']}"
    attackers = [silo for silo in silos if silo in run.attackers]
    through = [silo for silo in attackers if run.is_there(silo) and silo not in excluded]
    wronged = [silo for silo in excluded if silo not in run.attackers]
    parts = []
    if through:
        parts.append(f"{len(through)} of {len(attackers)} attackers got through: {_names(through)}{_share(run, through)}")
    if wronged:
        who = "honest silos" if attackers else "silos"
        parts.append(f"{len(wronged)} {who} {lost} at the end: {_names(wronged)}{_room(run)}")
    caught = [silo for silo in attackers if silo in excluded]
    if caught:
        parts.append(f"{len(caught)} of {len(attackers)} attackers {lost} at the end: {_names(caught)}{_since(run, caught)}")
    if attackers and not wronged:
        parts.append("no honest silo was excluded")
    elif not excluded:
        parts.append("every silo that answered carries weight")
    if absent:
        parts.append(f"{len(absent)} without a usable reply in round {run.final['round']}: {_names(absent)}")
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _names(silos: Sequence[str]) -> str:
    shown = ", ".join(silos[:_NAMES])
    return shown if len(silos) <= _NAMES else f"{shown} and {len(silos) - _NAMES} more"


def _share(run: Run, silos: Sequence[str]) -> str:
    return f" (together {100 * sum(run.weight(silo) or 0.0 for silo in silos):.1f} % of the weight)" if run.weights else ""


def _since(run: Run, silos: Sequence[str]) -> str:
    if not run.weights or run.final is None:
        return ""
    last = max(run.without_since(silo, run.final["round"]) for silo in silos)
    return f" (the last of them from round {last} on)" if len(silos) > 1 else f" (from round {last} on)"


def _room(run: Run) -> str:
    """How many silos FedLAW must leave without weight, whoever they are."""
    if run.settings.get("strategy") != "fedlaw":
        return ""
    settings = run.settings
    simplex = Simplex.for_federation(
        settings["num-silos"], settings["max-byzantine"], settings.get("s", 0), settings.get("t", 0.0)
    )
    if simplex.s == simplex.n:
        return ""
    return (
        f" (at most s = {simplex.s} of {simplex.n} silos may carry weight, so {simplex.n - simplex.s} or more get none "
        "even when nobody attacks)"
    )


def _accuracy(run: Run) -> str:
    curve = accuracy_curve(run.events)
    if not curve:
        return "No accuracy on a test set was measured."
    first, last = min(curve), max(curve)
    if first == last:
        return f"Accuracy on the test set was {_percent(curve[last])} after round {last}, the only one it was measured in."
    best = max(curve, key=lambda number: curve[number])
    verb = "fell" if curve[last] < curve[first] else "rose"
    peak = f", below its best of {_percent(curve[best])} in round {best}" if curve[best] - curve[last] >= 0.01 else ""
    return (
        f"Accuracy on the test set {verb} from {_percent(curve[first])} in round {first} "
        f"to {_percent(curve[last])} in round {last}{peak}."
    )


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
