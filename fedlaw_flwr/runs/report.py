"""A run explained on one page: what happened, who got how much weight and why, what it cost; from its events alone."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
# Beside terms above this a weight of 0.05 is less than their rounding.
_HUGE = 1e12
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
    return (
        f"The run failed {done}: {end.get('reason', 'no reason was given')}. What follows is what there was until then."
    )


def story(run: Run) -> list[str]:
    """What happened, in three sentences: the task and the attack, who was wronged or caught, the accuracy."""
    return [_what(run), _who(run), _accuracy(run)] if run.final else [_what(run), _accuracy(run)]


def _what(run: Run) -> str:
    settings, planned = run.settings, run.settings.get("num-rounds")
    done = len(run.rounds)
    rounds = f"{done} round{'s' * (done != 1)}" if done == planned else f"{done} of {planned} rounds"
    return (
        f"{settings.get('num-silos', '?')} silos learned {settings.get('task', '?')} together for {rounds} "
        f"with {strategy_name(settings)}; {_attack(run)}."
    )


def _attack(run: Run) -> str:
    kinds = Counter(run.attackers.values())
    if kinds:
        return f"{len(run.attackers)} of them attacked ({', '.join(f'{kind} by {kinds[kind]}' for kind in kinds)})"
    if all(event["kind"] != "run" for event in run.events) and run.settings.get("attack", "none") != "none":
        return f"the attack was to be {run.settings['attack']}"
    return "none of them was made to attack"


def _who(run: Run) -> str:
    """Losses first: attackers that kept weight, honest silos that lost theirs, silos that were not there."""
    assert run.final is not None
    if not run.judges:
        return f"{strategy_name(run.settings)} gives silos no weights, so nobody is caught or wronged by name."
    number, nameless = run.final["round"], run.nameless()
    silos = [silo for silo in run.silos() if silo not in nameless]
    excluded = [silo for silo in silos if run.is_excluded(silo)]
    absent = [silo for silo in silos if not run.is_there(silo)]
    attackers = [silo for silo in silos if silo in run.attackers]
    through = [silo for silo in attackers if run.is_there(silo) and silo not in excluded]
    wronged = [silo for silo in excluded if silo not in run.attackers]
    caught = [silo for silo in excluded if silo in run.attackers]
    lost = "ended with no weight" if run.weights else f"had no part in the step of round {number}"
    parts = []
    if through:
        parts.append(f"{_of(through, attackers, 'attacker')} got through: {_names(through)}{_share(run, through)}")
    if wronged:
        honest = [silo for silo in silos if silo not in run.attackers]
        who = _of(wronged, honest, "honest silo" if attackers else "silo")
        parts.append(f"{who} {lost}: {_names(wronged)}{_room(run)}")
    if caught:
        parts.append(f"{_of(caught, attackers, 'attacker')} {lost}{_since(run, caught)}: {_names(caught)}")
    if attackers and not wronged:
        parts.append("no honest silo was excluded")
    elif not excluded:
        parts.append("no silo was excluded")
    if absent:
        parts.append(f"{_of(absent, silos, 'silo')} gave no usable reply in round {number}: {_names(absent)}")
    if nameless:
        parts.append(f"nodes that never said which silo they are: {_names(nameless)}")
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _of(some: Sequence[str], group: Sequence[str], noun: str) -> str:
    if len(group) == 1:
        return f"the one {noun}"
    return f"all {len(group)} {noun}s" if len(some) == len(group) else f"{len(some)} of {len(group)} {noun}s"


def _names(silos: Sequence[str]) -> str:
    shown = ", ".join(silos[:_NAMES])
    return shown if len(silos) <= _NAMES else f"{shown} and {len(silos) - _NAMES} more"


def _share(run: Run, silos: Sequence[str]) -> str:
    return (
        f" (together {100 * sum(run.weight(silo) or 0.0 for silo in silos):.1f} % of the weight)" if run.weights else ""
    )


def _since(run: Run, silos: Sequence[str]) -> str:
    if not run.weights or run.final is None:
        return ""
    began = [run.without_since(silo, run.final["round"]) for silo in silos]
    return f" ({'' if min(began) == max(began) else 'the last of them '}since round {max(began)})"


def _room(run: Run) -> str:
    """Whether FedLAW's s forced as many out of weight, whoever they are, or would have let more carry some."""
    assert run.final is not None
    settings, learned = run.settings, run.learned_by(run.final["round"])
    if settings.get("strategy") != "fedlaw" or learned is None:
        return ""
    number, scored = learned["round"], len(learned["scored"])
    rejected = sum(exchange["rejected"] for exchange in learned["exchanges"])
    federation = Simplex.for_federation(
        settings["num-silos"], settings["max-byzantine"], settings.get("s", 0), settings.get("t", 0.0)
    )
    simplex = federation.among(scored, rejected)
    if simplex is None:
        return ""
    room = simplex.s - sum(weight > EXCLUDED_AT for weight in run.weights[number].values())
    if room > 0:
        return f" (s = {federation.s} would have let {room} more carry weight in round {number})"
    return (
        f" (s = {federation.s} let at most {simplex.s} of the {scored} scored in round {number} carry weight, so "
        f"{scored - simplex.s} had to get none, attackers or not)"
    )


def _accuracy(run: Run) -> str:
    curve = accuracy_curve(run.events)
    if not curve:
        return "No accuracy on a test set was measured."
    first, last = min(curve), max(curve)
    if first == last:
        return (
            f"Accuracy on the test set was {_percent(curve[last])} after round {last}, the only one it was measured in."
        )
    best = max(curve, key=lambda number: curve[number])
    verb = "fell" if curve[last] < curve[first] else "rose"
    peak = f", below its best of {_percent(curve[best])} in round {best}" if curve[best] - curve[last] >= 0.01 else ""
    return (
        f"Accuracy on the test set {verb} from {_percent(curve[first])} in round {first} "
        f"to {_percent(curve[last])} in round {last}{peak}."
    )


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


# One row per silo


def silo_rows(run: Run) -> list[SiloRow]:
    """A row for every silo, the losses first: attackers that got through, honest silos excluded, silos not there."""
    clipped, raised, losses = _counted(run.rounds)
    missed = Counter((event["silo"], event["kind"]) for event in run.gate)
    without = _rounds_without(run)
    rows = []
    for silo in run.silos():
        outcome, is_loss = _outcome(run, silo)
        rows.append(
            SiloRow(
                name=silo,
                attack=run.attackers.get(silo),
                outcome=outcome,
                is_loss=is_loss,
                weight=run.weight(silo),
                first_without=min(without[silo], default=None),
                rounds_without=len(without[silo]),
                quarantined=missed[silo, "quarantine"],
                silent=missed[silo, "silent"],
                clipped=clipped[silo],
                raised=raised[silo],
                median_loss=statistics.median(losses[silo]) if losses[silo] else None,
                why=why(run, silo),
            )
        )
    return sorted(rows, key=lambda row: not row.is_loss)


def _counted(rounds: Iterable[Event]) -> tuple[Counter[str], Counter[str], dict[str, list[float]]]:
    """How often each silo was clipped, how often its loss was raised, and every loss it reported of the model."""
    clipped: Counter[str] = Counter()
    raised: Counter[str] = Counter()
    losses: dict[str, list[float]] = defaultdict(list)
    for event in rounds:
        limit = event.get("clip")
        for silo, norm, loss in zip(
            event.get("silos", ()), event.get("norms", ()), event.get("losses", ()), strict=True
        ):
            clipped[silo] += limit is not None and norm > limit
            losses[silo].append(loss)
        raised.update(event.get("losses-raised", ()))
    return clipped, raised, losses


def _rounds_without(run: Run) -> dict[str, list[int]]:
    """The rounds that gave weights and none to this silo, whatever the cause, from the first it was known in."""
    known: dict[str, int] = {}
    for event in run.gate:
        known.setdefault(event["silo"], event["round"])
    for event in run.rounds:
        for silo in event.get("silos", ()):
            known[silo] = min(event["round"], known.get(silo, event["round"]))
    without: dict[str, list[int]] = defaultdict(list)
    for silo, first in known.items():
        for number, weights in run.weights.items():
            if number >= first and weights.get(silo, 0.0) <= EXCLUDED_AT:
                without[silo].append(number)
    return without


def _outcome(run: Run, silo: str) -> tuple[str, bool]:
    """What became of a silo, and whether that is a loss: an attacker that got through or an honest silo excluded."""
    attacker = silo in run.attackers
    if not run.judges:
        return "", False
    if not run.is_there(silo):
        return "attacker, not there" if attacker else "not there", False
    if run.is_excluded(silo):
        if attacker:
            return "attacker caught", False
        return ("honest, excluded", True) if run.attackers else ("excluded", False)
    return ("attacker got through", True) if attacker else ("", False)


# Why


@dataclass(frozen=True)
class Score:
    """A silo's score in one weight round, h = standing + alignment - beta loss, term by term.

    Each term is (its own, the median over the silos that got weight); the standing is the weight it came with.
    lowest: the least score that got weight; highest_loss: the largest loss that did. decided: "alignment", "loss",
    "standing" or "order", the term that kept it from weight; rank: 1 for the largest score of `scored`.
    """

    standing: tuple[float, float]
    alignment: tuple[float, float]
    loss: tuple[float, float]
    score: float
    lowest: float
    highest_loss: float
    rank: int
    scored: int
    decided: str


def score_of(run: Run, event: Event, silo: str) -> Score:
    """The terms of one silo's score in a weight round, and which of them decided.

    With the others' standing and still below every score that got weight, it is this round's evidence that keeps it
    out, the term further from the median deciding; else it is the standing it came with. BSUM looks at losses alone.
    """
    beta, row = float(run.settings["beta"]), list(event["scored"]).index(silo)
    h, alignment = np.array(event["scores"]), np.array(event["alignment"])
    losses = np.array(event["trial-losses"])
    if event["losses-raised"]:
        losses, _ = raise_low_losses(losses)
    alignment = np.nan_to_num(alignment, nan=-_HUGE, posinf=_HUGE, neginf=-_HUGE)
    # What is left of a weight beside a huge term is noise; so is 1e-18 of a weight of 0.
    standing = np.where(np.abs(h) < _HUGE, np.round(h - alignment + beta * losses, 12), 0.0)
    kept = np.array([run.weights[event["round"]][name] > EXCLUDED_AT for name in event["scored"]])

    def term(values: Any) -> tuple[float, float]:
        return float(values[row]) + 0.0, float(np.median(values[kept])) + 0.0

    lowest = float(h[kept].min())
    own, others = term(standing)
    evidence = {
        "alignment": term(alignment)[1] - term(alignment)[0],
        "loss": beta * (term(losses)[0] - term(losses)[1]),
    }
    decided = max(evidence, key=lambda name: evidence[name])
    if run.settings.get("variant") == "bsum":
        decided = "loss"
    elif h[row] + others - own >= lowest and own < others:
        decided = "standing"
    elif evidence[decided] <= 0:
        decided = "order"
    return Score(
        (own, others),
        term(alignment),
        term(losses),
        float(h[row]),
        lowest,
        float(losses[kept].max()),
        int(np.sum(h > h[row])) + 1,
        h.size,
        decided,
    )


def why(run: Run, silo: str) -> str:
    """Why a silo has no weight at the end, or why an attacker has some; empty for the rest."""
    if run.final is None:
        return ""
    number = run.final["round"]
    if not run.is_there(silo):
        return _why_not_there(run, silo)
    if run.final["phase"] == "rule":
        return _why_by_rule(run, silo)
    learned = run.learned_by(number)
    if run.is_excluded(silo):
        return _why_excluded(run, silo, learned)
    return _why_through(run, silo, learned) if silo in run.attackers else ""


def _why_not_there(run: Run, silo: str) -> str:
    """It is not in the final round: what the gate says of that, and whether it ever was in one."""
    assert run.final is not None
    number = run.final["round"]
    seen = [event["round"] for event in run.rounds if silo in event.get("silos", ())]
    past = f"last used in round {seen[-1]}" if seen else "never used in any round"
    if not seen and not any(event["silo"] == silo for event in run.gate):
        return f"No usable reply ever came under this name{' (see the nodes below)' if run.nameless() else ''}."
    missed = run.missed(silo, number)
    return f"{_missed(missed, number)}; {past}."


def _missed(event: Event | None, number: int) -> str:
    if event is None:
        return f"Not online in round {number}"
    what = "Set aside" if event["kind"] == "quarantine" else "Silent"
    return f"{what} in round {event['round']}, exchange {event['exchange']}: {event['reason']}"


def _why_by_rule(run: Run, silo: str) -> str:
    assert run.final is not None
    number, rule = run.final["round"], strategy_name(run.settings)
    weight = run.weight(silo)
    if run.is_excluded(silo):
        if silo in run.final.get("kept", (silo,)):
            return f"{rule} gave it weight {weight:.2g} in round {number}."
        times = [silo in event["kept"] for event in run.rounds if "kept" in event and silo in event["silos"]]
        return f"Left out by {rule} in round {number}, as in {times.count(False)} of its {len(times)} rounds."
    if silo not in run.attackers:
        return ""
    if weight is None:
        return f"Kept by {rule} in round {number}." if "kept" in run.final else ""
    return f"{rule} gave it weight {weight:.3g} in round {number}; equal shares are {1 / len(run.final['silos']):.3g}."


def _why_excluded(run: Run, silo: str, learned: Event | None) -> str:
    if learned is None:
        return "It has been given no weight, and no round learned any."
    number = learned["round"]
    if silo in learned["dodged"]:
        return f"{_dodged(run, silo, number)}, so it has no score and lost its weight."
    if silo not in learned["scored"]:
        return (
            f"{_missed(run.missed(silo, number), number)}. That round was the last to learn weights, and a silo "
            "without a score carries none until it has one."
        )
    found = score_of(run, learned, silo)
    lost = _lost_in(run, silo, number)
    text = f"Round {number}: {_evidence(run, found)}"
    return f"{_how_it_began(run, silo, lost)} {text}" if found.decided == "standing" and lost is not learned else text


def _dodged(run: Run, silo: str, number: int) -> str:
    missed = run.missed(silo, number)
    said = f" ({'set aside' if missed['kind'] == 'quarantine' else 'silent'}: {missed['reason']})" if missed else ""
    return f"In round {number} it answered the model and not the trial model{said}"


def _lost_in(run: Run, silo: str, number: int) -> Event:
    """The round in which a silo lost the weight it lacks in this one: a held one too, if it dodged the score in it."""
    start = run.without_since(silo, number)
    had = [n for n, weights in run.weights.items() if n < start and weights.get(silo, 0.0) > EXCLUDED_AT]
    since = [event for event in run.rounds if max(had, default=0) < event["round"] <= start]
    dodged = [event for event in since if silo in event.get("dodged", ())]
    return dodged[0] if dodged else since[-1]


def _how_it_began(run: Run, silo: str, event: Event) -> str:
    """How a silo lost the weight that it now lacks."""
    number = event["round"]
    if silo in event.get("dodged", ()):
        return f"{_dodged(run, silo, number)}, and has had no weight since."
    if silo not in event.get("scored", ()):
        return f"No weight since round {number}, where it had no score."
    return f"No weight since round {number}: {_evidence(run, score_of(run, event, silo))}"


def _evidence(run: Run, found: Score) -> str:
    """The deciding term against the others', the other terms, and the score against the least that got weight."""
    alignment, loss = _pair(*found.alignment, 2, "+"), _pair(*found.loss, 3)
    standing = _pair(*found.standing, 2)
    if run.settings.get("variant") == "bsum":
        return _evidence_bsum(found)
    ending = f"Score {found.score:+.3g}; the least that got weight was {found.lowest:+.3g}."
    if found.decided == "alignment":
        verb = "points against" if found.alignment[0] < 0 < found.alignment[1] else "agrees less with"
        return f"its update {verb} the others: alignment {alignment} (loss {loss}). {ending}"
    if found.decided == "loss":
        return f"its loss is {_above(*found.loss)} the others': {loss} (alignment {alignment}). {ending}"
    if found.decided == "standing":
        own, others = found.standing
        instead = f"{found.score + others - own:+.3g}, where {found.lowest:+.3g} got weight"
        return (
            f"it came with weight {standing}, and that decided: with the others' its score would have been {instead} "
            f"(alignment {alignment}, loss {loss})."
        )
    return (
        f"its score {found.score:+.3g} ranks {found.rank} of {found.scored} and no term of it stands out: "
        f"alignment {alignment}, loss {loss}, standing {standing}."
    )


def _evidence_bsum(found: Score) -> str:
    own, most = found.loss[0], found.highest_loss
    if own > most:
        return (
            f"its loss {_pair(own, most, 3).replace('against', 'is above')}, the largest that got weight "
            f"(median {found.loss[1]:.3g}); variant bsum gives weight to the smallest losses alone."
        )
    return f"its loss {own:.3g} equals the largest that got weight, and of equal losses the first silo comes first."


def _above(own: float, others: float) -> str:
    return "far above" if own > 2 * others > 0 else "above"


def _why_through(run: Run, silo: str, learned: Event | None) -> str:
    """Why an attacker carries weight."""
    if learned is None:
        return "No round learned weights: all that answer weigh alike."
    if silo not in learned["scored"]:
        return f"It keeps the weight it was given before round {learned['round']}, in which it was not scored."
    found = score_of(run, learned, silo)
    if run.settings.get("variant") == "bsum":
        return f"Round {learned['round']}: its loss {_pair(*found.loss, 3)} is low enough."
    return (
        f"Round {learned['round']}: its score {found.score:+.3g} ranks {found.rank} of {found.scored}: alignment "
        f"{_pair(*found.alignment, 2, '+')}, loss {_pair(*found.loss, 3)}, weight before {_pair(*found.standing, 2)}."
    )


def _pair(own: float, others: float, digits: int, sign: str = "") -> str:
    """Both numbers, with as many digits as it takes to tell them apart."""
    for enough in range(digits, 7):
        pair = f"{own:{sign}.{enough}g}", f"{others:{sign}.{enough}g}"
        if pair[0] != pair[1]:
            break
    return f"{pair[0]} against {pair[1]}"


# What a reader must know to read the table


def legend(run: Run) -> str:
    """How the columns of the silos' table are to be read."""
    if run.final is None:
        return "No round moved the model, so no silo has been given any weight."
    parts = [f"The outcome is that of round {run.final['round']}, the last that moved the model."]
    if run.weights:
        parts.append(f"A weight of at most {EXCLUDED_AT:g} counts as none.")
    learned = run.learned_by(run.final["round"])
    if learned is not None:
        parts.append(
            f"Weights were last learned in round {learned['round']}: a silo's score is the weight it came with + its "
            'alignment - beta times its loss on the trial model; "against" gives the median of those that got weight.'
        )
    parts.append("The median loss is of what a silo reported of the model, over all rounds.")
    if run.attackers and run.judges:
        parts.append(
            "Shaded: attackers that got through and honest silos excluded. Who attacks is known in experiments only."
        )
    return " ".join(parts)


def notes(run: Run) -> list[str]:
    """What makes rows of the table less certain than they look."""
    found = []
    if run.nameless():
        found.append(
            'A silo without a registered name is a "node" until a reply says which silo it is: a node here never gave '
            "any, or is one of the numbered silos before its first."
        )
    names = [Counter[str](event.get("silos", ())) for event in run.rounds]
    doubles = sorted({silo for counted in names for silo, count in counted.items() if count > 1})
    found += [f"More than one node called itself {silo} in one round; its row mixes them." for silo in doubles]
    return found


# What was set aside, held, and spent


def gate_rows(events: Iterable[Event]) -> list[GateRow]:
    """Events of one silo with one reason together, in the order they began."""
    groups: dict[tuple[str, str, int, str], list[int]] = defaultdict(list)
    for event in events:
        groups[event["silo"], event["kind"], event["exchange"], event["reason"]].append(event["round"])
    return [
        GateRow(spans(rounds), len(rounds), exchange, silo, "silent" if kind == "silent" else "set aside", reason)
        for (silo, kind, exchange, reason), rounds in groups.items()
    ]


def held_rounds(rounds: Iterable[Event]) -> list[tuple[str, str]]:
    """The rounds that kept the model, by reason."""
    groups: dict[str, list[int]] = defaultdict(list)
    for event in rounds:
        if event["held"]:
            groups[str(event.get("reason", "no reason was given"))].append(event["round"])
    return [(spans(numbers), reason) for reason, numbers in groups.items()]


def spans(numbers: Sequence[int]) -> str:
    """1-3, 7 for [1, 2, 3, 7]."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def costs(rounds: Sequence[Event]) -> list[Cost]:
    """Bytes and seconds of exchange 1, of exchange 2, of the server between them, and of all."""
    if not rounds:
        return []
    names = ("Exchange 1: the model", "Exchange 2: the trial model")
    kinds = [[event["exchanges"][at] for event in rounds if len(event["exchanges"]) > at] for at in range(len(names))]
    found = [_cost(name, kind) for name, kind in zip(names, kinds, strict=True) if kind]
    seconds = sum(event["seconds"] for event in rounds)
    everything = _cost("All rounds", [exchange for kind in kinds for exchange in kind])
    own = Cost("The server's own work", len(rounds), seconds - everything.seconds)
    return [*found, own, replace(everything, times=len(rounds), seconds=seconds)]


def _cost(name: str, exchanges: Sequence[Event]) -> Cost:
    keys = ("answered", "rejected", "silent", "bytes-down", "bytes-up", "seconds")
    sums: dict[str, Any] = {key.replace("-", "_"): sum(exchange[key] for exchange in exchanges) for key in keys}
    return Cost(name, len(exchanges), **sums)


def settings_rows(settings: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Name, value and, where the value is another, the default (None: it is the default)."""
    defaults = Settings().as_config()
    return [
        (name, _shown(value), f"default {_shown(defaults[name])}" if defaults.get(name, value) != value else None)
        for name, value in settings.items()
    ]


def _shown(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()  # as it is written in a setting
    return "(empty)" if value == "" else value
