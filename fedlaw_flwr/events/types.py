"""The events of a run: what each kind says, and how it stands in `events.jsonl`, one JSON object a line.

In the file a name has hyphens and a value that is not known is left out. `from_dict` also reads version 1, which runs
of release 0.1 wrote.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

VERSION = 2
"""The version of the events written today; the `run` event says it. Version 1 said none."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that happened in a run.

    Attributes:
        kind: The kind of event, as in the file.
    """

    kind: ClassVar[str] = ""

    def to_dict(self) -> dict[str, Any]:
        """The event as it stands in the file: JSON's types, names with hyphens, nothing that is None."""
        values = {"kind": self.kind}
        for one in fields(self):
            value = getattr(self, one.name)
            if value is not None:
                values[one.name.replace("_", "-")] = _plain(value)
        return values


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """The settings of the run and, in an experiment, which silos attack and how.

    Attributes:
        settings: Every setting by its name, with hyphens.
        attackers: The attack of each Byzantine silo, by the silo's name; empty where nobody knows.
        own_task: What the silos call their task, where they have data of their own.
        version: The version of the events.
    """

    kind = "run"
    settings: Mapping[str, Any]
    attackers: Mapping[str, str] = field(default_factory=dict)
    own_task: str | None = None
    version: int = VERSION


@dataclass(frozen=True, kw_only=True)
class Warned(Event):
    """Something a reader of the run should know before believing its numbers.

    Attributes:
        reason: What it is, one sentence.
    """

    kind = "warning"
    reason: str


@dataclass(frozen=True, kw_only=True)
class ReplyRejected(Event):
    """The gate rejected a silo's reply: the silo takes no part in this round, and it counts as identified as faulty.

    Attributes:
        round: The round, from 1.
        exchange: 1, the model sent out; 2, the trial model.
        silo: The silo's name.
        reason: What is wrong with the reply.
    """

    kind = "rejected"
    round: int
    exchange: int
    silo: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class NoReply(Event):
    """A silo gave no reply within the timeout, or an error in place of one.

    Attributes:
        round: The round, from 1.
        exchange: 1, the model sent out; 2, the trial model.
        silo: The silo's name.
        reason: How long the server waited, or the error.
    """

    kind = "silent"
    round: int
    exchange: int
    silo: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class NoReview(Event):
    """A silo's reply is usable but its review of the model is not: it is judged like any other, and has no voice.

    Attributes:
        round: The round, from 1.
        silo: The silo's name.
        reason: What is wrong with the review, or that there is none.
    """

    kind = "no-review"
    round: int
    silo: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class NotAdmitted(Event):
    """A silo that learns something else than was agreed takes no part in the run.

    Attributes:
        round: The round before which the silo was asked, from 1.
        silo: The silo's name.
        reason: In what its task differs from the agreed one.
    """

    kind = "not-admitted"
    round: int
    silo: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class SitsOut(Event):
    """A silo sits out: too many rounds in a row it was asked and gave no usable reply. It is not asked again.

    Attributes:
        round: The last round in which it was asked.
        silo: The silo's name.
        strikes: How many rounds in a row.
        reason: Why its last reply is missing or was rejected.
        identified: Whether the gate rejected its reply in each of them: it then counts as an attacker for as long as it
            sits out, so that b' stays lowered.
    """

    kind = "sits-out"
    round: int
    silo: str
    strikes: int
    reason: str
    identified: bool = False

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        return (
            f"{self.silo} sits out after round {self.round}: no usable reply in {self.strikes} rounds in a row "
            f"({self.reason}); `fedlaw deploy pardon` lets it in again"
        )


@dataclass(frozen=True, kw_only=True)
class Pardoned(Event):
    """The operator lets a silo back in: it is asked again.

    Attributes:
        round: The first round in which it is asked again.
        silo: The silo's name.
    """

    kind = "pardoned"
    round: int
    silo: str

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        return f"{self.silo} was pardoned and is asked again from round {self.round} on"


@dataclass(frozen=True, kw_only=True)
class Removed(Event):
    """The operator takes a silo out of the federation for good. Nothing else makes n and b smaller.

    Attributes:
        round: The first round without it.
        silo: The silo's name.
        n: How many silos there are now.
        b: The most of them that may be Byzantine.
    """

    kind = "removed"
    round: int
    silo: str
    n: int
    b: int

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        left = f"{self.n} silos are left, at most {self.b} of them Byzantine"
        return f"{self.silo} was removed before round {self.round}: {left}"


@dataclass(frozen=True, kw_only=True)
class Joined(Event):
    """A silo is online that was not there when the run began. Where weights are frozen it has none.

    Attributes:
        round: The first round in which it can be asked.
        silo: The silo's name.
    """

    kind = "joined"
    round: int
    silo: str

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        return f"{self.silo} joined before round {self.round}"


@dataclass(frozen=True, kw_only=True)
class TaskNotStated(Event):
    """A silo does not say what it learns; it takes part.

    Attributes:
        round: The round before which the silo was asked, from 1.
        silo: The silo's name.
        reason: What is missing.
    """

    kind = "task-not-stated"
    round: int
    silo: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ExchangeTotals:
    """One exchange of a round in numbers.

    Attributes:
        answered: Silos with a usable reply.
        rejected: Silos whose reply the gate rejected.
        silent: Silos without a reply.
        bytes_down: Bytes of the records sent to the silos.
        bytes_up: Bytes of the records of their replies.
        seconds: How long the exchange took.
    """

    answered: int = 0
    rejected: int = 0
    silent: int = 0
    bytes_down: int = 0
    bytes_up: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RoundEnded(Event):
    """One round: what arrived, how it was scored, the weights of the step.

    Attributes:
        round: The round, from 1.
        skipped: Whether the model was kept as it was.
        reason: Why the round was skipped.
        seconds: How long the round took.
        bytes_down: Bytes of the records sent to the silos.
        bytes_up: Bytes of the records of their replies.
        exchanges: The one or two exchanges of the round.
        phase: "learning", weights were learned; "frozen", weights stayed; "rule", another rule than FedLAW.
        silos: The silos with a usable reply, m of them.
        losses: f, the loss of each of them as reported, (m,); empty where they report none.
        norms: The norm of each update as it came, units of g, (m,).
        clip: The clip threshold, units of g; None: not clipped.
        weights: The weight of each silo in the step, (m,); None where the rule gives none.
        kept: The silos whose updates the rule kept; None for a rule that selects none.
        clusters: The clusters found; None where none are looked for.
        conflicts: The silos with weight that pointed against the step while weights were frozen.
        scored: The silos scored at the trial model, k of them; None in a round without exchange 2.
        trial_losses: f~, their losses at the trial model as reported, (k,).
        losses_raised: The silos whose loss at the trial model was raised to the fence.
        alignment: The alignment term of each score, (beta / alpha) <delta_i, z>, (k,).
        scores: The score h of each, (k,).
        unscored: The silos that sent an update and did not answer at the trial model: their weight is 0.
        reviewers: The silos with a valid review; None in a round without reviews.
        vouching: With peer review: the silos of the set that vouches most for itself.
        support: By how much the update of silo i (row) would lower the loss of reviewer j (column), to first order, as
            a cosine, (m, m), rounded to four digits; None on the diagonal and where j sent no valid review. Written for
            at most 200 silos.
        approval: The mean relative support of each silo by the vouching set, over the rounds so far, (m,): from -1, its
            update raises their losses, to 1, it lowers them.
        assent: The mean relative support that each silo's own review gives the vouching set, likewise, (m,).
        balanced_losses: The class-balanced loss of each silo as reported, (m,); None where there is none.
        asked: The silos drawn for this round; None where everyone who could be asked was.
    """

    kind = "round"
    round: int
    skipped: bool
    reason: str | None = None
    seconds: float = 0.0
    bytes_down: int = 0
    bytes_up: int = 0
    exchanges: tuple[ExchangeTotals, ...] = ()
    phase: str | None = None
    silos: tuple[str, ...] = ()
    losses: tuple[float, ...] = ()
    norms: tuple[float, ...] = ()
    clip: float | None = None
    weights: tuple[float, ...] | None = None
    kept: tuple[str, ...] | None = None
    clusters: tuple[tuple[str, ...], ...] | None = None
    conflicts: tuple[str, ...] | None = None
    scored: tuple[str, ...] | None = None
    trial_losses: tuple[float, ...] | None = None
    losses_raised: tuple[str, ...] | None = None
    alignment: tuple[float, ...] | None = None
    scores: tuple[float, ...] | None = None
    unscored: tuple[str, ...] | None = None
    reviewers: tuple[str, ...] | None = None
    vouching: tuple[str, ...] | None = None
    support: tuple[tuple[float | None, ...], ...] | None = None
    approval: tuple[float, ...] | None = None
    assent: tuple[float, ...] | None = None
    balanced_losses: tuple[float | None, ...] | None = None
    asked: tuple[str, ...] | None = None

    @property
    def weight_of(self) -> dict[str, float]:
        """The weight of each silo by name; empty where the round gave none."""
        return dict(zip(self.silos, self.weights, strict=True)) if self.weights else {}


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """Metrics of the model on the server's examples.

    Attributes:
        round: The round whose model was measured; 0 is the first model.
        metrics: Each metric by name; those on validation data begin with `validation-`.
        by_class: The accuracy of each class, None for a class without examples; None where it was not taken.
    """

    kind = "evaluation"
    round: int
    metrics: Mapping[str, Any]
    by_class: tuple[float | None, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluatedBySilos(Event):
    """Metrics of the model as the silos report them on examples of their own.

    Attributes:
        round: The round whose model was measured.
        metrics: What is shown of each metric, by name: the mean over the silos by weight where it is bounded by [0, 1],
            else the median by weight. Where there are no `weights`, a release before 0.2 wrote the plain median.
        by_silo: What each silo reports, by metric and silo.
        means: The mean by weight, by name.
        medians: The median by weight, by name.
        spreads: The median by weight of the distance from that median, by name.
        weights: The weight with which each silo counts, by silo; all alike where the rule gives none.
        by_class: The accuracy of each class, the mean by weight over the silos that hold the class; None for a class
            that no silo with weight holds.
        by_class_of: The accuracy of each class at each silo, by silo; None for a class that the silo does not hold.
    """

    kind = "silo-evaluation"
    round: int
    metrics: Mapping[str, float]
    by_silo: Mapping[str, Mapping[str, float]]
    means: Mapping[str, float] | None = None
    medians: Mapping[str, float] | None = None
    spreads: Mapping[str, float] | None = None
    weights: Mapping[str, float] | None = None
    by_class: tuple[float | None, ...] | None = None
    by_class_of: Mapping[str, tuple[float | None, ...]] | None = None


@dataclass(frozen=True, kw_only=True)
class RunResumed(Event):
    """The server had ended before the run did, and the run goes on from a checkpoint.

    Events written after that checkpoint do not stand: they are in `abandoned`, and no longer lines of the file.

    Attributes:
        round: The first round that is run now.
        checkpoint: The round whose checkpoint was taken, 0 the one before the first round; None: there was none yet,
            and the run begins anew.
        abandoned_round: The last round the server had begun; the rounds from `round` to this one are run again, and
            silos count what they are asked again; None: it had begun none.
        abandoned: The lines of events that no longer stand, as they were written.
        refused: The checkpoints that could not be used, newer than the one taken, and why, a sentence each.
        changed: The settings that were changed on purpose, by name, with their new values.
    """

    kind = "resumed"
    round: int
    checkpoint: int | None = None
    abandoned_round: int | None = None
    abandoned: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    changed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        last = self.abandoned_round
        again = "" if last is None else f" again, since the server ended in round {last}"
        begins = f"the run goes on with round {self.round}{again}"
        if self.checkpoint is None:
            begins = "the server ended before its first checkpoint, and the run begins anew"
        changed = f"; changed: {', '.join(f'{name}={value}' for name, value in self.changed.items())}"
        return begins + changed * bool(self.changed) + "".join(f"; not used: {why}" for why in self.refused)


@dataclass(frozen=True, kw_only=True)
class RunEnded(Event):
    """How the run ended; always the last event of a run that was not killed.

    Attributes:
        status: "completed" or "failed".
        reason: Why it failed.
    """

    kind = "end"
    status: str
    reason: str | None = None


KINDS: dict[str, type[Event]] = {
    one.kind: one
    for one in (
        RunStarted,
        Warned,
        ReplyRejected,
        NoReply,
        NoReview,
        NotAdmitted,
        TaskNotStated,
        SitsOut,
        Pardoned,
        Removed,
        Joined,
        RoundEnded,
        Evaluated,
        EvaluatedBySilos,
        RunResumed,
        RunEnded,
    )
}
"""Every kind of event by its name in the file."""

OnEvent = Callable[[Event], None]
"""Where events go as they happen."""


def from_dict(values: Mapping[str, Any]) -> Event | None:
    """The event of one line of `events.jsonl`; None for a kind that this release does not know.

    Raises:
        ValueError: If the line lacks what its kind must say.
    """
    values = _version_2(values)
    kind = KINDS.get(str(values.get("kind")))
    if kind is None:
        return None
    named = {name.replace("-", "_"): value for name, value in values.items()}
    known = {one.name: _tuples(named[one.name]) for one in fields(kind) if one.name in named}
    if "exchanges" in known:
        known["exchanges"] = tuple(_totals(one) for one in known["exchanges"])
    try:
        return kind(**known)
    except TypeError as error:
        raise ValueError(f"an event of kind {kind.kind!r} is not whole: {error}") from None


_KINDS_OF_1 = {
    "quarantine": "rejected",
    "turned-away": "not-admitted",
    "unseen": "task-not-stated",
    "evaluate": "evaluation",
}
_NAMES_OF_1 = {"held": "skipped", "coalitions": "clusters", "turned": "conflicts", "dodged": "unscored"}
_PHASES_OF_1 = {"learned": "learning", "held": "frozen"}
_SETTINGS_OF_1 = {
    "thrift": "loss-only-replies",
    "memory": "score-decay",
    "coalition-distance": "cluster-distance",
    "watch": "relearn-on-conflict",
    "wait": "startup-timeout",
}


def current_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run under today's names, whichever release wrote them."""
    return {_SETTINGS_OF_1.get(name, name): value for name, value in values.items()}


def _version_2(values: Mapping[str, Any]) -> dict[str, Any]:
    """The line as version 2 writes it, whichever version it is of; the two share no name with different meanings."""
    line = {_NAMES_OF_1.get(name, name): value for name, value in values.items()}
    line["kind"] = _KINDS_OF_1.get(str(line.get("kind")), line.get("kind"))
    if line["kind"] == "run" and "settings" in line:
        line["settings"] = current_settings(line["settings"])
    if line["kind"] == "round":
        line["phase"] = _PHASES_OF_1.get(line.get("phase", ""), line.get("phase"))
    if line["kind"] in ("evaluation", "silo-evaluation") and "metrics" not in line:
        rest = {name: line.pop(name) for name in list(line) if name not in ("kind", "round", "by-silo")}
        line["metrics"] = rest
    return line


def _totals(values: Mapping[str, Any]) -> ExchangeTotals:
    known = {one.name for one in fields(ExchangeTotals)}
    named = {name.replace("-", "_"): value for name, value in values.items()}
    return ExchangeTotals(**{name: value for name, value in named.items() if name in known})


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _tuples(one) for name, one in value.items()}
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """The value in JSON's types."""
    if isinstance(value, ExchangeTotals):
        return {one.name.replace("_", "-"): getattr(value, one.name) for one in fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value
