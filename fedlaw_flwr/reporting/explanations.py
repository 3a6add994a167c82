"""Why a silo has no weight, or an attacker has some: the score term by term, compared with those that kept weight."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fedlaw_flwr.core.losses import raise_low_losses
from fedlaw_flwr.events.record import EXCLUDED_AT, Run
from fedlaw_flwr.events.types import NoReply, ReplyRejected, RoundEnded
from fedlaw_flwr.reporting.figures import strategy_name

# Beside terms above this a weight of 0.05 is less than their rounding.
_HUGE = 1e12


@dataclass(frozen=True)
class Score:
    """A silo's score in one weight round, h = before + alignment - beta loss, term by term.

    Each term is a pair: the silo's own, and the median over the silos that got weight.

    Attributes:
        before: The weight it came with or, with score decay, what earlier rounds gathered for it.
        alignment: (beta / alpha) times the inner product of its update with z.
        loss: Its loss at the trial model, after the loss filter.
        score: h, its score.
        lowest: The least score that got weight.
        highest_loss: The largest loss that got weight.
        rank: Its rank among the scores; 1 is the largest.
        scored: How many silos were scored.
        decided: The term that kept it from weight: "alignment", "loss", "before" or, where none stands out, "order".
    """

    before: tuple[float, float]
    alignment: tuple[float, float]
    loss: tuple[float, float]
    score: float
    lowest: float
    highest_loss: float
    rank: int
    scored: int
    decided: str


def score_of(run: Run, event: RoundEnded, silo: str) -> Score:
    """The terms of one silo's score in a weight round, and which of them decided.

    If the silo would still lie below every score that got weight with the others' weight before, this round's evidence
    keeps it out, and the term further from the median decides. Otherwise the weight it came with decides. BSUM looks at
    losses alone.

    Raises:
        ValueError: If the silo was not scored in that round.
    """
    scored = event.scored or ()
    beta, row = float(run.settings["beta"]), scored.index(silo)
    h, alignment = np.array(event.scores), np.array(event.alignment)
    losses = np.array(event.trial_losses)
    if run.settings.get("variant") == "alignment":
        losses = np.zeros_like(losses)  # it reads none
    if event.losses_raised:
        losses, _ = raise_low_losses(losses, float(run.settings.get("loss-fence", 3.0)))
    alignment = np.nan_to_num(alignment, nan=-_HUGE, posinf=_HUGE, neginf=-_HUGE)
    # What is left of a weight beside a huge term is noise; so is 1e-18 of a weight of 0.
    before = np.where(np.abs(h) < _HUGE, np.round(h - alignment + beta * losses, 12), 0.0)
    kept = np.array([run.weights[event.round][name] > EXCLUDED_AT for name in scored])

    def term(values: Any) -> tuple[float, float]:
        return float(values[row]) + 0.0, float(np.median(values[kept])) + 0.0

    lowest = float(h[kept].min())
    own, others = term(before)
    evidence = {
        "alignment": term(alignment)[1] - term(alignment)[0],
        "loss": beta * (term(losses)[0] - term(losses)[1]),
    }
    decided = max(evidence, key=lambda name: evidence[name])
    if run.settings.get("variant") == "bsum":
        decided = "loss"
    elif h[row] + others - own >= lowest and own < others:
        decided = "before"
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


def is_taken_apart(run: Run, event: RoundEnded) -> bool:
    """Whether a weight round says of its scores what `score_of` needs: beta, alignments, losses, and the weights."""
    return "beta" in run.settings and bool(event.scores and event.alignment and event.trial_losses and event.weights)


def is_reviewed(event: RoundEnded) -> bool:
    """Whether a weight round learned its weights from what silos say of one another's updates."""
    return event.vouching is not None


def by_most_rounds(run: Run, learned: RoundEnded, silo: str) -> str:
    """Says so where the weights that were frozen after this round of peer review are not those of the round itself.

    Empty where the silo had weight in the round and has some at the end, or neither.
    """
    if not learned.weights or silo not in learned.silos:
        return ""
    had = learned.weight_of[silo] > EXCLUDED_AT
    if had != (silo in run.excluded):
        return ""
    rounds = [one for one in run.rounds if one.round <= learned.round and is_reviewed(one) and silo in one.silos]
    count = sum(one.weight_of[silo] > EXCLUDED_AT for one in rounds if one.weights)
    kept = "so it kept none" if had else "so it kept some"
    return f"It had weight in {count} of {len(rounds)} weight rounds, of which later ones count more, {kept}."


def reviewed_why(run: Run, event: RoundEnded, silo: str) -> str:
    """What peer review says of a silo in a weight round, in numbers."""
    if silo not in event.silos:
        return f"{_missed(run.missed(silo, event.round), event.round)}. That round was the last to learn weights."
    vouching = event.vouching or ()
    text = f"Round {event.round}: it is {'' if silo in vouching else 'not '}among the {len(vouching)} that vouch most"
    text += " for each other."
    for values, said in (
        (event.approval, "Relative support by these silos, mean over the rounds so far"),
        (event.assent, "Relative support that its own review gives them"),
    ):
        if values:
            of = dict(zip(event.silos, values, strict=True))
            theirs = float(np.median([of[name] for name in vouching if name in of]))
            text += f" {said}: {_pair(of[silo], theirs, 2, '+')} (their median)."
    if silo not in (event.reviewers or ()):
        text += " It sent no valid review."
    return f"{text} {by_most_rounds(run, event, silo)}".rstrip()


def why(run: Run, silo: str) -> str:
    """Why a silo has no weight at the end, or why an attacker has some; empty for the rest."""
    if run.deciding is None:
        return ""
    if silo not in run.deciding.silos:
        return _why_not_used(run, run.deciding, silo)
    if run.deciding.phase == "rule":
        return _why_by_rule(run, run.deciding, silo)
    learned = run.learned_by(run.deciding.round)
    if learned is not None and "beta" not in run.settings and silo in run.excluded | run.got_through:
        return (
            "The events do not name the settings (there is no event of kind run, and no settings.json beside them), so "
            "the terms of its score are not known."
        )
    if silo in run.excluded:
        return _why_excluded(run, run.deciding, silo, learned)
    return _why_through(run, silo, learned) if silo in run.attackers else ""


def _why_not_used(run: Run, deciding: RoundEnded, silo: str) -> str:
    """Why the deciding round has no usable reply of the silo, and whether any round ever had one."""
    seen = [event.round for event in run.rounds if silo in event.silos]
    past = f"last used in round {seen[-1]}" if seen else "never used in any round"
    if not seen and not any(event.silo == silo for event in run.missing):
        return f"No usable reply ever came under this name{' (see the nodes below)' if run.nameless else ''}."
    return f"{_missed(run.missed(silo, deciding.round), deciding.round)}; {past}."


def _missed(event: ReplyRejected | NoReply | None, number: int) -> str:
    if event is None:
        return f"Not online in round {number}"
    what = "Rejected" if isinstance(event, ReplyRejected) else "Silent"
    return f"{what} in round {event.round}, exchange {event.exchange}: {event.reason}"


def _why_by_rule(run: Run, deciding: RoundEnded, silo: str) -> str:
    number, rule, weight = deciding.round, strategy_name(run.settings), run.weight(silo)
    if silo in run.excluded:
        if deciding.kept is None or silo in deciding.kept:
            return f"{rule} gave it weight {weight:.2g} in round {number}."
        times = [silo in event.kept for event in run.rounds if event.kept is not None and silo in event.silos]
        return f"Left out by {rule} in round {number}, as in {times.count(False)} of its {len(times)} rounds."
    if silo not in run.attackers:
        return ""
    if weight is None:
        return f"Kept by {rule} in round {number}." if deciding.kept is not None else ""
    return f"{rule} gave it weight {weight:.3g} in round {number}; equal shares are {1 / len(deciding.silos):.3g}."


def _why_excluded(run: Run, deciding: RoundEnded, silo: str, learned: RoundEnded | None) -> str:
    if learned is None:
        return "It has been given no weight, and no round learned any."
    number = learned.round
    if is_reviewed(learned):
        return reviewed_why(run, learned, silo)
    if silo in (learned.unscored or ()):
        return f"{_unscored(run, silo, number)}, so it has no score and lost its weight."
    if silo not in (learned.scored or ()):
        return (
            f"{_missed(run.missed(silo, number), number)}. That round was the last to learn weights, and a silo "
            "without a score has no weight until it has one."
        )
    if not is_taken_apart(run, learned):
        return f"Round {number} gave it no weight; its events do not say from which terms."
    found = score_of(run, learned, silo)
    lost = _lost_in(run, silo, deciding.round)
    text = f"Round {number}: {_evidence(run, found)}"
    return f"{_how_it_began(run, silo, lost)} {text}" if found.decided == "before" and lost is not learned else text


def _unscored(run: Run, silo: str, number: int) -> str:
    missed = run.missed(silo, number)
    what = "rejected" if isinstance(missed, ReplyRejected) else "silent"
    said = f" ({what}: {missed.reason})" if missed else ""
    return f"In round {number} it answered the model and not the trial model{said}"


def _lost_in(run: Run, silo: str, number: int) -> RoundEnded:
    """The round in which a silo lost the weight it lacks in this one: a skipped one too, if it was unscored in it."""
    start = run.excluded_since(silo, number)
    had = [n for n, weights in run.weights.items() if n < start and weights.get(silo, 0.0) > EXCLUDED_AT]
    since = [event for event in run.rounds if max(had, default=0) < event.round <= start]
    unscored = [event for event in since if silo in (event.unscored or ())]
    return unscored[0] if unscored else since[-1]


def _how_it_began(run: Run, silo: str, event: RoundEnded) -> str:
    """How a silo lost the weight that it now lacks."""
    if silo in (event.unscored or ()):
        return f"{_unscored(run, silo, event.round)}, and has had no weight since."
    if silo not in (event.scored or ()) or not is_taken_apart(run, event):
        return f"No weight since round {event.round}, where it had no score."
    return f"No weight since round {event.round}: {_evidence(run, score_of(run, event, silo))}"


def _evidence(run: Run, found: Score) -> str:
    """The deciding term against the others', the other terms, and the score against the least that got weight."""
    alignment, loss = _pair(*found.alignment, 2, "+"), _pair(*found.loss, 3)
    before = _pair(*found.before, 2)
    if run.settings.get("variant") == "bsum":
        return _evidence_bsum(found)
    ending = f"Score {found.score:+.3g}; the least that got weight was {found.lowest:+.3g}."
    if found.decided == "alignment":
        verb = "points against" if found.alignment[0] < 0 < found.alignment[1] else "agrees less with"
        return f"its update {verb} the others: alignment {alignment} (loss {loss}). {ending}"
    if found.decided == "loss":
        return f"its loss is {_above(*found.loss)} the others': {loss} (alignment {alignment}). {ending}"
    if found.decided == "before":
        own, others = found.before
        what = f"earlier rounds gave it {before}" if is_decaying(run) else f"it came with weight {before}"
        instead = f"{found.score + others - own:+.3g}, where {found.lowest:+.3g} got weight"
        return (
            f"{what}, and that decided: with the others' value its score would have been {instead} "
            f"(alignment {alignment}, loss {loss})."
        )
    return (
        f"its score {found.score:+.3g} ranks {found.rank} of {found.scored} and no term of it stands out: "
        f"alignment {alignment}, loss {loss}, {_named_before(run)} {before}."
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


def _why_through(run: Run, silo: str, learned: RoundEnded | None) -> str:
    """Why an attacker has weight."""
    if learned is None:
        return "No round learned weights: all that answer weigh alike."
    if is_reviewed(learned):
        return reviewed_why(run, learned, silo)
    if silo not in (learned.scored or ()):
        return f"It keeps the weight it was given before round {learned.round}, in which it was not scored."
    if not is_taken_apart(run, learned):
        return f"Round {learned.round} gave it weight; its events do not say from which terms."
    found = score_of(run, learned, silo)
    if run.settings.get("variant") == "bsum":
        return f"Round {learned.round}: its loss {_pair(*found.loss, 3)} is low enough."
    return (
        f"Round {learned.round}: its score {found.score:+.3g} ranks {found.rank} of {found.scored}: alignment "
        f"{_pair(*found.alignment, 2, '+')}, loss {_pair(*found.loss, 3)}, {_named_before(run)} "
        f"{_pair(*found.before, 2)}."
    )


def is_decaying(run: Run) -> bool:
    """Whether a score gathered the evidence of earlier rounds too."""
    return bool(run.settings.get("score-decay"))


def _named_before(run: Run) -> str:
    return "earlier rounds" if is_decaying(run) else "weight before"


def _pair(own: float, others: float, digits: int, sign: str = "") -> str:
    """Both numbers, with as many digits as it takes to tell them apart."""
    for enough in range(digits, 7):
        pair = f"{own:{sign}.{enough}g}", f"{others:{sign}.{enough}g}"
        if pair[0] != pair[1]:
            break
    return f"{pair[0]} against {pair[1]}"
