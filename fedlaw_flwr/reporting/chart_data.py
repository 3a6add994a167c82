"""The numbers behind the report's charts, as plain JSON values: rounds, measurements, and a row for each silo."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedlaw_flwr.events.record import EXCLUDED_AT, Run
from fedlaw_flwr.events.types import RoundEnded
from fedlaw_flwr.reporting.explanations import is_reviewed, is_taken_apart, score_of
from fedlaw_flwr.reporting.in_short import parts

# What a chart can show of a number: more digits only make the page larger.
_DIGITS, _FINE = 3, 4
_STATE = {"counted": "w", "excluded": "x", "rejected": "r", "silent": "s", "absent": "a", "": "-"}


def chart_data(run: Run, silos: Sequence[str], label: str, others: Mapping[str, Run]) -> dict[str, Any]:
    """Everything the charts draw.

    Args:
        run: The run.
        silos: Its silos in the order of the rows.
        label: What the run is called beside others.
        others: Runs whose measurements are laid over this one's, by label.

    Returns:
        `rounds`: a list for each figure of a round. `silos`: for each silo, a list for each figure, a value a round.
        `learned`: the weight rounds, with the same for scores. `measured`: the measurements of this and other runs.
    """
    rounds = run.rounds
    words = parts(run)
    excluded = {event.round: run.excluded_in(event.round) for event in rounds}
    deciding = run.deciding.round if run.deciding else None
    learned = [event for event in rounds if event.scores is not None]
    reviewed = [event for event in rounds if is_reviewed(event)]
    return {
        "rounds": {
            "number": [event.round for event in rounds],
            "phase": [event.phase for event in rounds],
            "skipped": [event.skipped for event in rounds],
            "seconds": [short(event.seconds) for event in rounds],
            "down": [event.bytes_down for event in rounds],
            "up": [event.bytes_up for event in rounds],
            "exchanges": [
                [[short(one.seconds), one.bytes_down, one.bytes_up] for one in event.exchanges] for event in rounds
            ],
            "clip": [short(event.clip) for event in rounds],
            "without": [len(excluded[event.round]) for event in rounds],
        },
        "excludedAt": EXCLUDED_AT,
        "deciding": deciding,
        "frozenAfter": frozen_after(run),
        "silos": {
            "state": ["".join(_STATE[word] for word in words[silo]) for silo in silos],
            "weight": _table(silos, [event.weight_of for event in rounds]),
            "loss": _table(silos, [_by_silo(event, event.losses) for event in rounds]),
            "norm": _table(silos, [_by_silo(event, event.norms) for event in rounds]),
        },
        "learned": {
            "number": [event.round for event in learned],
            "alignment": _table(silos, [_scored(event, event.alignment) for event in learned]),
            "score": _table(silos, [_scored(event, event.scores) for event in learned], _FINE),
            "lowest": [_lowest(event) for event in learned],
        },
        "reviewed": {
            "number": [event.round for event in reviewed],
            "approval": _table(silos, [_by_silo(event, event.approval or ()) for event in reviewed]),
            "assent": _table(silos, [_by_silo(event, event.assent or ()) for event in reviewed]),
        },
        "marks": exclusions(run, excluded),
        "measured": [measurements(label, run), *(measurements(label, other) for label, other in others.items())],
        "terms": {silo: found for silo in silos if (found := terms(run, silo)) is not None},
        "review": review(run),
    }


def frozen_after(run: Run) -> int | None:
    """The last round that learned weights, if rounds with frozen weights came after it."""
    last = run.learned_by(run.rounds[-1].round) if run.rounds else None
    return last.round if last is not None and last.round < run.rounds[-1].round else None


def exclusions(run: Run, excluded: Mapping[int, frozenset[str]]) -> list[dict[str, Any]]:
    """The rounds in which silos began to be excluded, with who began and who came back."""
    found, before = [], frozenset[str]()
    for event in run.rounds:
        if event.skipped:
            continue
        now = excluded[event.round]
        lost = [silo for silo in run.silos if silo in now - before]
        back = [silo for silo in run.silos if silo in before - now and silo in event.silos]
        if lost or back:
            found.append({"round": event.round, "lost": lost, "back": back})
        before = now
    return found


def measurements(label: str, run: Run) -> dict[str, Any]:
    """The model's metrics, with the bytes and seconds that the run had spent until then."""
    spent: dict[int, tuple[int, float]] = {0: (0, 0.0)}
    total, seconds = 0, 0.0
    for event in run.rounds:
        total, seconds = total + event.bytes_down + event.bytes_up, seconds + event.seconds
        spent[event.round] = (total, seconds)
    events = run.evaluations
    names = {
        name
        for event in events
        for name, value in event.metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "num-examples"
    }
    return {
        "label": label,
        "round": [event.round for event in events],
        "bytes": [spent.get(event.round, (total, seconds))[0] for event in events],
        "seconds": [short(spent.get(event.round, (total, seconds))[1]) for event in events],
        "metrics": {name: [short(event.metrics.get(name), _FINE) for event in events] for name in sorted(names)},
    }


def terms(run: Run, silo: str) -> dict[str, Any] | None:
    """What each term of a silo's last score added or took, beside the median of the silos that got weight."""
    event = run.learned_by(run.deciding.round) if run.deciding else None
    if event is None or not is_taken_apart(run, event) or silo not in (event.scored or ()):
        return None
    found = score_of(run, event, silo)
    beta = float(run.settings["beta"])
    pairs = {
        "before": found.before,
        "alignment": found.alignment,
        "loss": (-beta * found.loss[0], -beta * found.loss[1]),
    }
    return {
        "round": event.round,
        "score": short(found.score),
        "lowest": short(found.lowest),
        "rank": found.rank,
        "scored": found.scored,
        "decided": found.decided,
        "terms": [[name, short(own), short(others), short(own - others)] for name, (own, others) in pairs.items()],
    }


def review(run: Run) -> dict[str, Any] | None:
    """Who vouches for whom in the last weight round with peer review; None in a run without any."""
    found = [(event, event.support) for event in run.rounds if event.support is not None]
    if not found:
        return None
    last, support = found[-1]
    return {
        "round": last.round,
        "silos": list(last.silos),
        "support": [[short(value, 3) for value in row] for row in support],
        "vouching": list(last.vouching or ()),
        "reviewers": list(last.reviewers or ()),
    }


def _table(silos: Sequence[str], rounds: Sequence[Mapping[str, float]], digits: int = _DIGITS) -> list[list[Any]]:
    """A row a silo, a value a round; empty rows where no round has any value."""
    if not any(rounds):
        return []
    return [[short(values.get(silo), digits) for values in rounds] for silo in silos]


def _by_silo(event: RoundEnded, values: Sequence[float]) -> dict[str, float]:
    return dict(zip(event.silos, values, strict=True)) if values else {}


def _scored(event: RoundEnded, values: Sequence[float] | None) -> dict[str, float]:
    return dict(zip(event.scored or (), values or (), strict=True)) if values else {}


def _lowest(event: RoundEnded) -> float | None:
    """The least score that got weight in a weight round."""
    weights = event.weight_of
    kept = [h for silo, h in _scored(event, event.scores).items() if weights.get(silo, 0.0) > EXCLUDED_AT]
    return short(min(kept), _FINE) if kept else None


def short(value: Any, digits: int = _DIGITS) -> Any:
    """The number with this many digits; None for one that JSON cannot hold."""
    if value is None or isinstance(value, int):
        return value
    number = float(value)
    if not math.isfinite(number):
        return None
    text = float(f"{number:.{digits}g}")
    return int(text) if text == int(text) and abs(text) < 1e15 else text
