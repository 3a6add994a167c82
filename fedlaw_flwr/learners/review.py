"""Peer review: weights from what silos say of one another's updates, in one exchange (docs/research/peer-review.md)."""

from dataclasses import replace

import numpy as np

from fedlaw_flwr.core.blocks import Vector
from fedlaw_flwr.core.state import State, Stateful, gathered, restore_all
from fedlaw_flwr.core.support import PairMeans, SiloMeans, rank_support, relative_support
from fedlaw_flwr.core.vouching import vouching_sets
from fedlaw_flwr.learners import fedlaw
from fedlaw_flwr.learners.interface import Judge, Judgement, Learner, PeerEvidence, Pieces, Rows
from fedlaw_flwr.learners.options import WeightOptions

_LOSS, _NORM = 2.0, 5.0
_LARGEST_Z = 3.0
_NORMAL_MAD = 1.4826  # makes the MAD of a normal sample its standard deviation


class PeerReview(Judge):
    """Weights for the group of silos that vouches most for itself, and for whoever that group does not object to.

    With delta_i = theta - psi_i the update of silo i and r_j the gradient of reviewer j's class-balanced loss at theta:

        M_ij = <delta_i, r_j> / (|delta_i| |r_j|)     how much i's update would lower j's loss, first order
        R_ij = half the rank of M_ij among reviewer j's, spread evenly over [-1, 1],
               and half M_ij / (2 rms_j), cut to [-1, 1]     the voice of reviewer j, however loud, is 1 at most
        a_i  = 2 mean(-z_i) - 5 mean(e_i)             z_i = (f_i - median f) / 1.4826 MAD, cut at +-3
        v_j(S) = sum_{i in S, i != j} Rbar_ij         what member j says of the set S
        S    = argmax over sets of s silos of (s / k) sum of the k smallest v_j(S), j in S, + sum_{i in S} a_i

    Bars and means are over the weight rounds so far, s = m - b', and k = m - 2b' is how many honest silos any set of s
    has at least: a group of liars that praise one another gains nothing by that while honest members object. Silo i is
    excluded if it is outside S and mean_{j in S} Mbar_ij < 0: its update would raise the loss of those who vouch for
    one another. All others weigh alike; nobody need be excluded. So at least s silos carry weight, none of them more
    than 1/s. A silo without a review is judged and has no voice.

    Where the operator trusts reviewers, or the server has examples of its own, theirs are the only voices: S is then
    the s silos that they rate best.

    Shapes: delta (m, d), r (m, d), M and R (m, m), f, z, e, a, v (m,).
    Source: this project, docs/research/peer-review.md. The sub-problem is FedLAW's (ICLR 2026, Section 4): weights for
    most alignment and least loss. Reviews by peers are from Passeri, Agiollo and Omicini 2023 and FedTest
    (arXiv 2501.11167); a server's own gradient as a judge is FLTrust's (Cao et al. 2021).

    Args:
        without: Parts left out, for ablations: rank, size (M / 2 rms; with both out M itself), set, evidence, loss,
            norm, mean, trim.
    """

    def __init__(self, without: frozenset[str] = frozenset()) -> None:
        self._without = without
        self._ranks, self._support = PairMeans(), PairMeans()
        self._root_ranks, self._root_support = SiloMeans(), SiloMeans()
        self._low_loss, self._excess = SiloMeans(), SiloMeans()

    def __call__(self, evidence: PeerEvidence) -> Judgement:
        """See the class."""
        if "mean" in self._without:
            self.forget()
        self._add(evidence)
        found = np.nan_to_num(self._support.over(evidence.silos))
        ranks = np.nan_to_num(self._ranks.over(evidence.silos))
        if evidence.root is not None or evidence.trusted.any():
            vouching, approval = self._by_trusted(evidence, found, ranks)
        else:
            vouching = self._vouching(evidence, ranks)
            approval = mean_without_self(found, vouching)
        included = approval >= 0
        if "evidence" in self._without:
            included[:] = False
        included[vouching] = True
        return Judgement(included / included.sum(), vouching, approval)

    def forget(self) -> None:
        """Forgets all rounds."""
        for means in (self._ranks, self._support, self._root_ranks, self._root_support, self._low_loss, self._excess):
            means.forget()

    def state(self) -> State:
        """The sums over the weight rounds so far."""
        return gathered(self._parts())

    def restore(self, state: State) -> None:
        """Goes on from these sums."""
        restore_all(self._parts(), state)

    def _parts(self) -> dict[str, Stateful]:
        return {
            "ranks": self._ranks,
            "support": self._support,
            "root-ranks": self._root_ranks,
            "root-support": self._root_support,
            "low-loss": self._low_loss,
            "excess": self._excess,
        }

    def _add(self, evidence: PeerEvidence) -> None:
        """Takes in what this round says."""
        silos = evidence.silos
        self._support.add(silos, evidence.support)
        self._ranks.add(silos, self._voice(evidence.support))
        if evidence.root is not None:
            self._root_support.add(silos, evidence.root)
            self._root_ranks.add(silos, self._voice(evidence.root[:, None])[:, 0])
        self._low_loss.add(silos, -robust_z(evidence.losses))
        self._excess.add(silos, evidence.excess)

    def _voice(self, found: Vector) -> Vector:
        """R of one round."""
        forms = {"rank": rank_support, "size": relative_support}
        kept = [form(found) for part, form in forms.items() if part not in self._without]
        voice: Vector = np.mean(kept, axis=0) if kept else found
        return voice

    def _vouching(self, evidence: PeerEvidence, ranks: Vector) -> Rows:
        """S."""
        m, s, bonus = len(evidence.silos), evidence.simplex.s, self._bonus(evidence)
        if "set" in self._without:
            return best(mean_without_self(ranks, np.arange(m)) + bonus, s)
        voices = s if "trim" in self._without else min(s, max(1, m - 2 * evidence.simplex.b))
        return vouching_sets(ranks, bonus, s, voices)[0].members

    def _by_trusted(self, evidence: PeerEvidence, found: Vector, ranks: Vector) -> tuple[Rows, Vector]:
        """The s silos that trusted reviewers rate best, and the mean support by these reviewers."""
        voices = [found[:, j] for j in np.flatnonzero(evidence.trusted)]
        said = [ranks[:, j] for j in np.flatnonzero(evidence.trusted)]
        if evidence.root is not None:
            voices.append(self._root_support.over(evidence.silos))
            said.append(self._root_ranks.over(evidence.silos))
        rated = np.mean(said, axis=0) + self._bonus(evidence)
        return best(rated, evidence.simplex.s), np.mean(voices, axis=0)

    def _bonus(self, evidence: PeerEvidence) -> Vector:
        """a, (m,)."""
        bonus = np.zeros(len(evidence.silos))
        if "loss" not in self._without:
            bonus += _LOSS * self._low_loss.over(evidence.silos)
        if "norm" not in self._without:
            bonus -= _NORM * self._excess.over(evidence.silos)
        return bonus


def robust_z(values: Vector) -> Vector:
    """z_i = (f_i - median) / 1.4826 MAD, cut at +-3, (m,); NaN stays NaN, and without a spread every z is 0."""
    known = values[np.isfinite(values)]
    if not known.size:
        return values
    middle = np.median(known)
    spread = _NORMAL_MAD * np.median(np.abs(known - middle))
    if not spread > 0:
        return np.where(np.isfinite(values), 0.0, np.nan)
    z: Vector = np.clip((values - middle) / spread, -_LARGEST_Z, _LARGEST_Z)
    return z


def mean_without_self(found: Vector, members: Rows) -> Vector:
    """The mean of each row over the columns of members, its own left out, (m,); 0 for a member alone."""
    voices = np.zeros(len(found))
    voices[members] = 1.0
    others = voices.sum() - voices
    off = found - np.diag(np.diag(found))
    mean: Vector = np.divide(off @ voices, others, out=np.zeros(len(found)), where=others > 0)
    return mean


def best(scores: Vector, count: int) -> Rows:
    """The rows of the largest scores, ascending by row; of equal scores the lower rows."""
    return np.sort(np.argsort(-scores, kind="stable")[:count])


def build(options: WeightOptions) -> Pieces:
    """FedLAW's pieces with a judge in place of exchange 2."""
    return replace(fedlaw.build(options), judge=PeerReview(frozenset(filter(None, options.review_without.split(",")))))


LEARNER = Learner(
    "equal weights for the silos that vouch for one another, by reviews, and those they do not object to; one exchange",
    "ours, docs/research/peer-review.md",
    build,
    needs_loss=False,
)
