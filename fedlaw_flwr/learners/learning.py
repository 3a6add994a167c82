"""The aggregation weights of one federation, round by round: what the strategy asks of a way to learn them.

NumPy only: it is given what silos sent and says what to do next; it sends nothing and knows no model.
"""

from dataclasses import replace

import numpy as np

from fedlaw_flwr.core.blocks import Floats, Vector, scale
from fedlaw_flwr.core.clipping import clip_threshold
from fedlaw_flwr.core.clusters import cap_cluster_weight
from fedlaw_flwr.core.direction import Direction
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.one_thread import one_blas_thread
from fedlaw_flwr.core.sampling import enough_asked
from fedlaw_flwr.core.simplex import Simplex, capped, default_cap
from fedlaw_flwr.core.standing import Sample
from fedlaw_flwr.core.state import State, Stateful, gathered, restore_all
from fedlaw_flwr.core.step import step_like
from fedlaw_flwr.core.support import along, cosines, peer_support
from fedlaw_flwr.learners import load_learner
from fedlaw_flwr.learners.decisions import Account, Reviews, Skip, Step, Trial, Updates
from fedlaw_flwr.learners.interface import Evidence, Judge, Mask, PeerEvidence, Pieces, Rows
from fedlaw_flwr.learners.options import WeightOptions, check_start

_LONG = 1.5
"""A norm up to so many times the clip threshold is no evidence against a silo."""
_LARGEST_EXCESS = 3.0


class WeightLearning:
    """The weights of one run: `open` a round with what exchange 1 brought; `close` it with what exchange 2 brought.

    Args:
        options: How weights are learned.
        n: How many silos there are.
        max_byzantine: b, the most of them that may be Byzantine: a count (int) or a fraction (float).
        alpha: The step of the silos' local training; None: found in the first round that has enough replies.
        quorum: The fewest usable replies that move the model.
        fraction: The share of the silos that is asked in a round. Default: 1.

    Attributes:
        alpha: As in the arguments; may be set anew from round to round.

    Raises:
        ValueError: If the settings cannot hold for n silos.
    """

    def __init__(
        self,
        options: WeightOptions,
        n: int,
        max_byzantine: int | float,
        alpha: float | None,
        quorum: int,
        fraction: float = 1.0,
    ) -> None:
        self._options, self._max_byzantine, self.alpha, self._quorum = options, max_byzantine, alpha, quorum
        self.simplex = Simplex.for_federation(n, max_byzantine, options.s, options.t)
        check_start(options, self.simplex)
        check_fraction(options, fraction, self.simplex, quorum)
        self._schedule = options.schedule()
        self.pieces: Pieces = load_learner(options.variant).build(options)

    def asks_for_reviews(self, round_number: int) -> bool:
        """Whether exchange 1 of this round asks every silo for its review."""
        return self.pieces.judge is not None and self.pieces.standing.learns(round_number)

    def resize(self, n: int) -> None:
        """Takes another number of silos; b is of as many.

        Raises:
            InputError: If `max_byzantine`, s and t cannot hold for n silos; nothing has changed then.
        """
        self.simplex = Simplex.for_federation(n, self._max_byzantine, self._options.s, self._options.t)

    @one_blas_thread()
    def open(self, round_number: int, first: Updates) -> Trial | Step | Skip:
        """Clips the updates and says what follows: a trial, a step with frozen weights, or a skipped round."""
        m = len(first.silos)
        if first.asked > self.simplex.n:  # silos joined: b is of all there are
            self.resize(first.asked)
        federation = self._simplex_in(round_number)
        if first.sample is not None:
            federation = federation.sampled(self.simplex.n - (len(first.pool) - len(first.sample)))
        present = self._among(federation, m, first.rejected)
        if present is None:
            return Skip(self._too_few(m, first.rejected))
        if self.alpha is None:
            self.alpha = step_like(first.norms, self._options.beta)
        clip = self._clip(first, present.b)
        units = self._units(first, present.b)
        account = self._account(first, clip, units)
        standing = self.pieces.standing
        learns, sample = standing.learns(round_number), self._sample(first)
        prior = sample.prior if sample is not None and learns else 0.0
        w = standing.over(first.silos, prior)
        w = cap_cluster_weight(w if sample is None else capped(w, present.t), units, present.t)
        if not learns:
            account.phase = "frozen"
            missing = standing.missing(first.silos if first.sample is None else first.pool)
            drawn = 0.0 if first.sample is None else standing.missing(first.silos, first.sample)
            if missing <= 0.5 < drawn:
                return Skip(
                    f"of the weight of the silos drawn {drawn:.0%} did not answer, or none of them has any", account
                )
            if missing > 0.5:
                self._relearn()
                return Skip(
                    f"{missing:.0%} of the learned weight belongs to silos that did not answer; weights are learned "
                    "again from the next round",
                    account,
                )
            conflicts = self._conflicts(first, w)
            if not conflicts.size:
                return _step(w, account)
            account.phase, account.conflicts = "learning", conflicts
            if self.pieces.judge is not None:  # this round asked for no reviews
                self._relearn()
                return Skip("silos with weight point against the step; reviews are asked for again", account)
        if self.pieces.judge is not None:
            return self._judged(self.pieces.judge, first, present, clip, account, round_number)
        largest = float(first.norms.max(initial=0.0))
        direction = Direction(first.updates.shape[1], clip, largest, first.updates.dtype)
        return Trial(w, direction, np.full(m, np.nan), account, first, federation, units, round_number)

    @one_blas_thread()
    def close(self, trial: Trial, rejected: int) -> Step | Skip:
        """Learns the weights from what the trial brought, or skips the round where it brought too little.

        Args:
            trial: The trial, with its losses filled in and the updates of silos with weight added up.
            rejected: How many replies to the trial model the gate rejected.
        """
        first, account = trial._updates, trial.account
        identified = first.rejected + rejected
        scored = np.flatnonzero(np.isfinite(trial.losses))
        simplex = self._among(trial._simplex, scored.size, identified)
        z = trial.direction.over(float(trial.weights[scored].sum()))
        if simplex is None or z is None:
            account.unscored = self._forfeit(first, scored)
            if z is None:
                return Skip("no silo that carries weight answered at the trial model", account)
            return Skip(self._too_few(scored.size, identified, "the trial model's "), account)
        units = np.unique(trial._units[scored], return_inverse=True)[1].reshape(-1)
        sizes = np.bincount(units)
        if sizes.max() > 1:  # a cluster takes one place, and all its members are taken for identified attackers
            simplex = trial._simplex.among(sizes.size, identified + int(sizes[sizes > 1].sum())) or simplex
        evidence, raised = self._evidence(trial, scored, units, z, simplex)
        scores = self.pieces.score(evidence)
        learned = evidence.per_silo(self.pieces.select(scores, evidence) / sizes)
        account.unscored = self._forfeit(first, scored)
        self.pieces.standing.learn(evidence.silos, learned, trial._round, self._sample(first))
        account.scored, account.trial_losses = scored, trial.losses[scored]
        account.raised, account.scores = scored[raised], evidence.per_silo(scores)
        account.alignment = evidence.per_silo(evidence.alignment) * self._options.beta / self._scale
        w = np.zeros(len(first.silos))
        w[scored] = learned
        return _step(w, account)

    def state(self) -> State:
        """What was learned so far: alpha, how many silos there are, and what every piece keeps."""
        found = gathered(self._parts())
        return State({**found.values, "alpha": self.alpha, "n": self.simplex.n}, found.arrays)

    def restore(self, state: State) -> None:
        """Goes on from what `state` said.

        Raises:
            InputError: If the state is of another way to learn weights.
        """
        values = dict(state.values)
        alpha, n = values.pop("alpha"), int(values.pop("n"))
        restore_all(self._parts(), State(values, state.arrays))
        self.alpha = None if alpha is None else float(alpha)
        self.simplex = Simplex.for_federation(n, self._max_byzantine, self._options.s, self._options.t)

    def _parts(self) -> dict[str, Stateful]:
        parts: dict[str, Stateful] = {"standing": self.pieces.standing, "score": self.pieces.score}
        return parts if self.pieces.judge is None else {**parts, "judge": self.pieces.judge}

    def _judged(
        self,
        judge: Judge,
        first: Updates,
        present: Simplex,
        clip: float | None,
        account: Account,
        round_number: int,
    ) -> Step | Skip:
        """Learns the weights from the reviews, or keeps the model where too few came.

        A silo that withholds its review lowers no b': with fewer than m - b' valid reviews nothing is learned. Where
        voices are trusted, nothing is learned without one of them, and one is enough; where the server has a review of
        its own, none of theirs is needed.
        """
        reviews = first.reviews
        assert reviews is not None, "asks_for_reviews says in which rounds"
        if missing := self._missing_voices(reviews, present):
            return Skip(missing, account)
        norms = first.norms if clip is None else np.minimum(first.norms, clip)
        supported, agreed = peer_support(first.updates, reviews.gradients, norms, reviews.norms)
        evidence = PeerEvidence(
            silos=first.silos,
            support=supported,
            agreement=agreed,
            root=None if reviews.root is None else _support_of(reviews.root, first.updates, norms),
            losses=reviews.losses,
            excess=_excess(first.norms, clip_threshold(first.norms, present.b)),
            trusted=reviews.trusted,
            simplex=present,
        )
        judgement = judge(evidence)
        account.reviewers = np.flatnonzero(np.isfinite(reviews.norms))
        account.vouching, account.support = judgement.vouching, evidence.support
        account.approval, account.assent = judgement.approval, judgement.assent
        account.balanced_losses = reviews.losses
        self.pieces.standing.learn(first.silos, judgement.lasting, round_number, self._sample(first))
        followed = judgement.followed[np.nan_to_num(reviews.norms[judgement.followed]) > 0]
        length = self._options.review_step * float(judgement.weights @ norms)
        return _step(judgement.weights, account, along(reviews.gradients, reviews.norms, followed, length))

    def _missing_voices(self, reviews: Reviews, present: Simplex) -> str:
        """Why these reviews are too few to learn from; empty where they are enough."""
        valid = np.isfinite(reviews.norms)
        if reviews.root is not None:
            return ""
        if names := self._options.trusted_names:
            if (valid & reviews.trusted).any():
                return ""
            return (
                f"none of the trusted silos ({', '.join(sorted(names))}) sent a valid review, and no other voice counts"
            )
        needed = present.n - present.b
        if valid.sum() >= needed:
            return ""
        return (
            f"{valid.sum()} of {present.n} silos sent a valid review and {needed} are needed (m - b', which no missing "
            "review lowers)"
        )

    def _evidence(self, trial: Trial, scored: Rows, units: Rows, z: Floats, simplex: Simplex) -> tuple[Evidence, Mask]:
        """What the trial says of the silos scored, and whose loss the filter changed."""
        sizes = np.bincount(units)
        losses, raised = self.pieces.filter_losses(trial.losses[scored])
        weights = np.bincount(units, trial.weights[scored])
        alignment = np.bincount(units, self.pieces.align(trial._updates.updates, z)[scored]) / sizes
        evidence = Evidence(
            silos=[trial._updates.silos[row] for row in scored],
            units=units,
            weights=weights / weights.sum(),
            alignment=alignment,
            losses=np.bincount(units, losses) / sizes,
            alpha=self._scale,
            simplex=simplex,
            sampled=trial._updates.sample is not None,
        )
        return evidence, raised

    def _sample(self, first: Updates) -> Sample | None:
        """Who was asked, where that was not everyone. All but b of those who can be asked are waited for."""
        if first.sample is None:
            return None
        return Sample(first.sample, 1.0 / self.simplex.n, max(1, len(first.pool) - self.simplex.b))

    @property
    def _scale(self) -> float:
        return 1.0 if self.alpha is None else self.alpha  # None only while no silo moves

    def _clip(self, first: Updates, byzantine: int) -> float | None:
        """Scales every update above the round's threshold down to it, in place; returns the threshold, if any."""
        threshold = self.pieces.clip(first.norms, byzantine, self._scale, first.honest)
        if threshold is not None:
            for row in np.flatnonzero(first.norms > threshold):
                scale(first.updates[row], threshold / first.norms[row])
        return threshold

    def _units(self, first: Updates, byzantine: int) -> Rows:
        """A label for each silo, shared by those of a cluster; every silo's own where none are looked for."""
        find = self.pieces.find_clusters
        return np.arange(len(first.silos)) if find is None else find(first.updates, byzantine)

    def _account(self, first: Updates, clip: float | None, units: Rows) -> Account:
        shared = None
        if self.pieces.find_clusters is not None:
            shared = [np.flatnonzero(units == label) for label in np.flatnonzero(np.bincount(units) > 1)]
        return Account(
            losses=first.losses,
            norms=first.norms / self._scale,
            clip=None if clip is None else clip / self._scale,
            clusters=shared,
        )

    def _conflicts(self, first: Updates, w: Vector) -> Rows:
        """Who points against the step with frozen weights; none where that is not looked for."""
        find = self.pieces.find_conflicts
        found: Rows = np.empty(0, np.intp) if find is None else find(first.updates, w)
        if found.size and self.pieces.forget_on_conflict:
            self._relearn()
        return found

    def _relearn(self) -> None:
        self.pieces.standing.relearn()
        self.pieces.score.forget()
        if self.pieces.judge is not None:
            self.pieces.judge.forget()

    def _forfeit(self, first: Updates, scored: Rows) -> Rows:
        """Takes the weight of silos that answered exchange 1 and not exchange 2; returns their rows."""
        unscored = np.setdiff1d(np.arange(len(first.silos)), scored)
        silos = [first.silos[row] for row in unscored.tolist()]
        self.pieces.standing.forfeit(silos)
        self.pieces.score.forfeit(silos)
        return unscored

    def _simplex_in(self, round_number: int) -> Simplex:
        """D(s, t) of this round: that of the federation, or one of those that lead down to it from s_start."""
        if not self._options.s_start:
            return self.simplex
        first = max(self._options.s_start, self.simplex.s)
        s = self._schedule.carriers(round_number, first, self.simplex.s)
        return replace(self.simplex, s=s, t=self._options.t or default_cap(s))

    def _among(self, simplex: Simplex, present: int, identified: int) -> Simplex | None:
        """The weights allowed over the silos present; None where too few are."""
        return simplex.among(present, identified) if present >= self._quorum else None

    def _too_few(self, present: int, identified: int, which: str = "") -> str:
        needed = max(2 * max(0, self.simplex.b - identified) + 2, self._quorum)
        return f"{present} silos gave {which}usable replies and {needed} are needed (2b+2, quorum {self._quorum})"


def _excess(norms: Vector, threshold: float) -> Vector:
    """e_i = min(3, max(0, log(|delta_i| / 1.5 C))), (m,); 3 for any norm where C is 0."""
    if threshold <= 0:
        return np.where(norms > 0, _LARGEST_EXCESS, 0.0)
    with np.errstate(divide="ignore"):
        return np.clip(np.log(norms / (_LONG * threshold)), 0.0, _LARGEST_EXCESS)


def _support_of(root: Vector, updates: Floats, norms: Vector) -> Vector:
    """The support of each update by the server's own review, (m,)."""
    return cosines(updates, root[None, :], norms, np.array([np.linalg.norm(root)]))[:, 0]


def _step(w: Vector, account: Account, besides: Vector | None = None) -> Step:
    account.weights = w
    return Step(w, account, besides)


def check_fraction(options: WeightOptions, fraction: float, simplex: Simplex, quorum: int) -> None:
    """Checks that a part of the silos can be asked in a round.

    Raises:
        InputError: If too few are asked, or if the way to learn weights needs every silo in every round.
    """
    if fraction >= 1:
        return
    if not load_learner(options.variant).samples:
        raise InputError(
            f"fraction-train={fraction:g}: variant={options.variant!r} compares the same silos from round to round; "
            "set fraction-train to 1, or take another variant"
        )
    enough_asked(fraction, simplex.n, 2 * simplex.b + 2, f"2b+2 with b={simplex.b}, all of whom may be among them")
    enough_asked(fraction, simplex.n, quorum, f"the quorum is {quorum}")
