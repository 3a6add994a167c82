"""Why a silo has no weight, or an attacker has some: the score term by term, compared with those that kept weight."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedlaw_flwr.guards import raise_low_losses
from fedlaw_flwr.runs.pictures import (
    strategy_name,
)
from fedlaw_flwr.runs.record import Run
from fedlaw_flwr.runs.verdict import EXCLUDED_AT

Event = Mapping[str, Any]

# Beside terms above this a weight of 0.05 is less than their rounding.
_HUGE = 1e12


@dataclass(frozen=True)
class Score:
    """A silo's score in one weight round, h = standing + alignment - beta loss, term by term.

    Each term is (its own, the median over the silos that got weight); the standing is the weight it came with or, where
    scores have a memory, what earlier rounds said of it.
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
        losses, _ = raise_low_losses(losses, float(run.settings.get("loss-fence", 3.0)))
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
        what = f"earlier rounds spoke for it with {standing}" if _remembers(run) else f"it came with weight {standing}"
        instead = f"{found.score + others - own:+.3g}, where {found.lowest:+.3g} got weight"
        return (
            f"{what}, and that decided: with the others' its score would have been {instead} "
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
    before = "earlier rounds" if _remembers(run) else "weight before"
    return (
        f"Round {learned['round']}: its score {found.score:+.3g} ranks {found.rank} of {found.scored}: alignment "
        f"{_pair(*found.alignment, 2, '+')}, loss {_pair(*found.loss, 3)}, {before} {_pair(*found.standing, 2)}."
    )


def _remembers(run: Run) -> bool:
    """Whether a score gathered the evidence of earlier rounds too."""
    return bool(run.settings.get("memory"))


def _pair(own: float, others: float, digits: int, sign: str = "") -> str:
    """Both numbers, with as many digits as it takes to tell them apart."""
    for enough in range(digits, 7):
        pair = f"{own:{sign}.{enough}g}", f"{others:{sign}.{enough}g}"
        if pair[0] != pair[1]:
            break
    return f"{pair[0]} against {pair[1]}"
