"""One plain sentence about each silo: whether it counted at the end and, if not, what spoke against it."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import NoReply, ReplyRejected, RoundEnded
from fedlaw_flwr.reporting.explanations import by_most_rounds, is_reviewed, is_taken_apart, score_of
from fedlaw_flwr.reporting.figures import strategy_name

# More changes than this of one silo are no longer read.
_CHANGES = 30


def in_short(run: Run, silo: str, words: Sequence[str]) -> str:
    """What became of a silo, in one sentence for a reader who knows no formula.

    Args:
        run: The run.
        silo: The silo's name.
        words: Its part in each round, as `parts` gives it.
    """
    deciding = run.deciding
    if deciding is None:
        return "No round moved the model, so no silo counted."
    if silo not in deciding.silos:
        return _not_there(run, deciding, silo)
    if silo not in run.excluded:
        return _counted(run, deciding, silo, words)
    if deciding.phase == "rule":
        return f"{strategy_name(run.settings)} left its update out in round {deciding.round}."
    return _excluded(run, deciding, silo)


def parts(run: Run) -> dict[str, list[str]]:
    """The part that each silo had in each round, in a word, by silo and in the order of the rounds.

    The words are "counted", "excluded", "rejected", "silent", "absent" and, where the round says nothing of it, "".
    """
    missed = {(miss.silo, miss.round): miss.kind for miss in run.missing}
    found: dict[str, list[str]] = {silo: [] for silo in run.silos}
    for event in run.rounds:
        there, excluded = set(event.silos), run.excluded_in(event.round)
        judged = bool(event.weights) or event.kept is not None
        for silo, words in found.items():
            word = missed.get((silo, event.round), "")
            if not word and not event.skipped:
                in_model = "excluded" if silo in excluded else "counted" if judged else ""
                word = in_model if silo in there else "absent"
            words.append(word)
    return found


def changes(run: Run, silo: str, words: Sequence[str]) -> list[tuple[int, str]]:
    """The rounds in which a silo's part (`parts`) changed, and how, in order; of very many the last."""
    found: list[tuple[RoundEnded, str]] = []
    before = ""
    for event, word in zip(run.rounds, words, strict=True):
        if word and word != before:
            found.append((event, word))
            before = word
    shown = found[-_CHANGES:]
    told = [(event.round, _said(run, event, silo, word)) for event, word in shown]
    if len(shown) < len(found):
        told.insert(
            0, (found[0][0].round, f"{len(found) - len(shown)} changes from here on are left out of this list.")
        )
    return told


def told_by_reviewers(event: Any, silo: str) -> str:
    """What the silos that vouch for each other say of one silo's update; empty in a round without peer review.

    A value of `support` below 0 says that the update would raise the reviewer's loss.
    """
    row = support_of(event, silo)
    vouching = set(event.vouching or ())
    said = [value for reviewer, value in row.items() if reviewer in vouching and reviewer != silo]
    if not said:
        return ""
    against = sum(value < 0 for value in said)
    one, its = len(said) == 1, "its" if against == 1 and len(said) == 1 else "their"
    group = "the one silo that vouches" if one else f"the {len(said)} silos that vouch for each other"
    verb = "says" if against == 1 else "say"
    return f"{against} of {group} {verb} its update would raise {its} loss"


def support_of(event: Any, silo: str) -> Mapping[str, float]:
    """Each valid review of one silo's update by the reviewer's name; empty in a round without peer review."""
    support, silos = event.support, event.silos
    if support is None or silo not in silos:
        return {}
    row = support[silos.index(silo)]
    return {reviewer: value for reviewer, value in zip(silos, row, strict=True) if value is not None}


def _said(run: Run, event: RoundEnded, silo: str, word: str) -> str:
    if word in ("rejected", "silent"):
        missed = run.missed(silo, event.round)
        what = "Its reply was rejected" if word == "rejected" else "It gave no reply"
        return f"{what}: {missed.reason}." if missed else f"{what}."
    if word == "absent":
        return "It was not online."
    if word == "excluded":
        return _lost_weight(run, event, silo) if event.weights else "Its update was left out."
    return f"It counts with weight {event.weight_of[silo]:.3g}." if event.weights else "It counts."


def _lost_weight(run: Run, event: RoundEnded, silo: str) -> str:
    if is_reviewed(event):
        return f"It has no weight: {_reviewed(event, silo)}."
    if is_taken_apart(run, event) and silo in (event.scored or ()):
        return f"It has no weight: {_reason(run, event, silo)}."
    return "It has no weight."


def _reviewed(event: Any, silo: str) -> str:
    """What peer review holds against a silo without weight."""
    if silo not in event.silos:
        return "it was not there when weights were last learned"
    told = told_by_reviewers(event, silo)
    approval = dict(zip(event.silos, event.approval or (), strict=False)).get(silo, 0.0)
    assent = dict(zip(event.silos, event.assent or (), strict=False)).get(silo, 0.0)
    if assent < min(approval, 0.0):
        return "its own review says that the updates of the silos that vouch for each other would raise its loss"
    if told and not told.startswith("0 of"):
        return told
    if approval < 0:
        return "on average, the silos that vouch for each other say its update would raise their loss"
    return f"it was not among the {len(event.vouching)} silos that vouch most for each other"


def _not_there(run: Run, deciding: RoundEnded, silo: str) -> str:
    missed = run.missed(silo, deciding.round)
    if isinstance(missed, ReplyRejected):
        return f"Its reply was rejected in round {deciding.round}: {missed.reason}."
    if isinstance(missed, NoReply):
        return f"It gave no reply in round {deciding.round}."
    if not any(silo in event.silos for event in run.rounds):
        return "No usable reply ever came under this name."
    return f"It was not online in round {deciding.round}."


def _counted(run: Run, deciding: RoundEnded, silo: str, words: Sequence[str]) -> str:
    attacked = "It attacked, and still counted" if silo in run.attackers and run.is_judged else "It counted"
    weight = run.weight(silo)
    if weight is None:
        return f"{attacked}." if deciding.kept is not None else "Its update went into the step."
    share = f"an equal share is {1 / len(deciding.silos):.3g}"
    # How often it had none is what a reader of a near miss wants to know.
    none, rounds = words.count("excluded"), words.count("excluded") + words.count("counted")
    ever = f"; it had no weight in {none} of {rounds} rounds" if none else ""
    return f"{attacked}: weight {weight:.3g} at the end ({share}){ever}."


def _excluded(run: Run, deciding: RoundEnded, silo: str) -> str:
    learned = run.learned_by(deciding.round)
    if learned is None:
        return "It was given no weight, and no round learned any."
    number = learned.round
    if is_reviewed(learned):
        if mostly := by_most_rounds(run, learned, silo):
            return mostly
        said = _reviewed(learned, silo)
        return f"{said[0].upper()}{said[1:]} (round {number})."
    if silo in (learned.unscored or ()):
        return f"It answered the model and not the trial model in round {number}."
    if silo not in (learned.scored or ()):
        return f"It was not there in round {number}, the last that learned weights."
    if not is_taken_apart(run, learned):
        return f"It got no weight in round {number}."
    event, since = learned, run.excluded_since(silo, deciding.round)
    if score_of(run, learned, silo).decided == "before":
        # What spoke against it is what the round says in which it lost its weight.
        began = run.learned_by(since)
        if began is not None and silo in (began.scored or ()):
            event = began
        elif began is not None and silo in (began.unscored or ()):
            return f"It answered the model and not the trial model in round {began.round}, and lost its weight."
    said = _reason(run, event, silo)
    kept_out = f", and has had no weight since round {since}" if since < event.round else ""
    return f"{said[0].upper()}{said[1:]} in round {event.round}{kept_out}."


def _reason(run: Run, event: RoundEnded, silo: str) -> str:
    """What spoke against a silo in a weight round, without a number."""
    found = score_of(run, event, silo)
    own, others = found.alignment
    if found.decided == "alignment":
        if own < 0 < others:
            return "it pointed against the others"
        far = own < others / 2
        return f"it agreed {'far ' if far else ''}less with the others than those that got weight"
    if found.decided == "loss":
        far = found.loss[0] > 2 * found.loss[1] > 0
        return f"its loss was {'far ' if far else ''}above that of the silos that got weight"
    if found.decided == "before":
        return "it came with less weight than the others and did not make up for it"
    return "its score was below the lowest that got weight, and no single term stood out"
