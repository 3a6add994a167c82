"""Peer review: weights from what silos say of one another's updates, in one exchange (docs/research/peer-review.md)."""

from dataclasses import replace

import numpy as np

from fedlaw_flwr.core.blocks import Vector
from fedlaw_flwr.core.losses import median_and_deviation
from fedlaw_flwr.core.state import State, gathered, restore_all
from fedlaw_flwr.core.support import PairMeans, SiloMeans, contrast, rank_support, relative_support
from fedlaw_flwr.core.vouching import vouching_sets
from fedlaw_flwr.learners import fedlaw
from fedlaw_flwr.learners.interface import Judge, Judgement, Learner, PeerEvidence, Pieces, Rows
from fedlaw_flwr.learners.options import WeightOptions

_LOSS, _NORM = 2.0, 5.0
_ROOT = 4.0
_ODDEST = 3.0
_BELOW = 2.0
"""How much more a loss counts that is too low than one that is too high, beyond one standard deviation."""
_CONTRAST = 0.75
"""How much of what all reviewers say of a silo is taken from what each one says, so that each says whom it prefers."""
_AGREEMENT = 0.25
"""The share of a voice that agreement of reviews has; support has the rest."""
_DECAY = 0.7
"""What a round counts for when the next one comes."""
_LASTING = 0.85
"""What a round counts for when the next one comes, where it is asked who had weight in most of them."""
_OBJECTION = -0.08
"""Mean relative support below this is an objection. 0 would exclude more honest silos where nobody attacks."""


class PeerReview(Judge):
    """Weights for the group of silos that vouches most for itself, and for whoever has no quarrel with that group.

    With delta_i = theta - psi_i the update of silo i and r_j the gradient of reviewer j's class-balanced loss at theta:

        M_ij = <delta_i, r_j> / (|delta_i| |r_j|)     how much i's update would lower j's loss, first order
        A_ij = <r_i, r_j> / (|r_i| |r_j|)             how far i and j agree on which way their losses fall
        V(X)_ij  half the rank of X_ij among reviewer j's, spread evenly over [-1, 1],
                 and half X_ij / (2 rms_j), cut to [-1, 1]
        R_ij = 3/4 V(M_ij - 3/4 mean_j M_ij) + 1/4 V(A)_ij    the voice of reviewer j, however loud, is 1 at most
        a_i  = -2 mean(p_i) - 5 mean(e_i) + 4 mean(g_i)     e_i, 0 to 3, the excess of the norm; g_i below
        p_i  = min(3, max(z_i, 0, 2 (-z_i - 1)))            z_i = (f_i - median f) / 1.4826 MAD
        v_j(S) = sum_{i in S, i != j} Rbar_ij         what member j says of the set S
        S    = argmax over sets of s silos of (s / k) sum of the k smallest v_j(S), j in S, + sum_{i in S} a_i

    Bars and means are over the weight rounds so far; a round counts 0.7 times what the next one does. s = m - b', and
    k = m - 2b' is how many honest silos any set of s has at least: a group of liars that praise one another gains
    nothing by that while honest members object. Each reviewer's support is taken less three quarters of what all
    say, so that an update that pleases everyone a little, as a mean of honest updates does, joins no group by that.
    A loss below the median gains nothing, and one far below it counts against the silo: a loss is what a silo claims.

    Silo i is excluded if it is outside S and either says no to the other: the mean over j in S of the relative support
    M_ij / (2 rms_j), which j gives i, or of that which i gives j, is below -0.08. A silo can write its own review as it
    likes; that takes away the second reason, not the first. All others weigh alike; nobody need be excluded. So in a
    weight round at least s silos carry weight, none of them more than 1/s. A silo without a review is judged and has no
    voice.

    The model then steps by sum_i w_i delta_i, and along the reviews of S by rho (sum_i w_i |delta_i|) mean_{j in S} r_j
    / |r_j|, rho = `review_step`: reviews are balanced by class, updates are not. The mean is over the members with a
    valid review that is not 0, or, where the operator trusts reviewers, over those. The weights that are frozen go in
    equal parts to the silos that had weight in most of the weight rounds, of which each counts 0.85 times what the next
    one does; where no silo had, to those of the last round. They may be fewer than s. A model that suits S leaves its
    members little to agree on, so that now and then another set wins a round; the next round's reviews show that it
    harms the model.

    Where the server has examples of its own, g_i is the relative support that its review gives silo i, else 0; a silo
    outside S is then excluded if mean(g_i) is below -0.08 as well. Where the operator trusts reviewers, theirs are the
    only voices: S is the s silos with the most of their mean relative support plus a_i, and a silo outside S is
    excluded if that support is below 0.

    Shapes: delta (m, d), r (m, d), M, A, V and R (m, m), f, z, e, a, v (m,).
    Source: this project, docs/research/peer-review.md. The sub-problem is FedLAW's (ICLR 2026, Section 4): weights for
    most alignment and least loss. Reviews by peers are from Passeri, Agiollo and Omicini 2023 and FedTest
    (arXiv 2501.11167); a server's own gradient as a judge is FLTrust's (Cao et al. 2021).

    Args:
        without: Parts left out, for ablations: rank, size (X / 2 rms; with both out X itself), contrast, agreement,
            set, evidence, assent (a silo's own objection to the set), loss, norm, mean, decay, trim, majority (the
            last round's weights are frozen).
    """

    def __init__(self, without: frozenset[str] = frozenset()) -> None:
        self._without = without
        decay = 1.0 if "decay" in without else _DECAY
        self._voices, self._relative = PairMeans(decay), PairMeans(decay)
        self._root, self._odd_loss, self._excess = (SiloMeans(decay) for _ in range(3))
        self._weighed = SiloMeans(1.0 if "decay" in without else _LASTING)

    def __call__(self, evidence: PeerEvidence) -> Judgement:
        """See the class."""
        if "mean" in self._without:
            for means in self._parts().values():
                if means is not self._weighed:
                    means.forget()
        self._add(evidence)
        silos = evidence.silos
        relative = np.nan_to_num(self._relative.over(silos))
        if evidence.trusted.any():
            vouching, approval = self._by_trusted(evidence, relative)
            followed = np.flatnonzero(evidence.trusted)
            assent = np.zeros(len(silos))
            included = approval >= 0
        else:
            vouching = followed = self._vouching(evidence, np.nan_to_num(self._voices.over(silos)))
            approval, assent = mean_without_self(relative, vouching), mean_without_self(relative.T, vouching)
            included = approval >= _OBJECTION
            if "assent" not in self._without:
                included &= assent >= _OBJECTION
            if evidence.root is not None:
                included &= self._root.over(silos) >= _OBJECTION
        if "evidence" in self._without:
            included[:] = False
        included[vouching] = True
        self._weighed.add(silos, included.astype(np.float64))
        mostly = self._weighed.over(silos) > 0.5
        if "majority" in self._without or not mostly.any():
            mostly = included
        return Judgement(included / included.sum(), mostly / mostly.sum(), vouching, followed, approval, assent)

    def forget(self) -> None:
        """Forgets all rounds."""
        for means in self._parts().values():
            means.forget()

    def state(self) -> State:
        """The sums over the weight rounds so far."""
        return gathered(self._parts())

    def restore(self, state: State) -> None:
        """Goes on from these sums."""
        restore_all(self._parts(), state)

    def _parts(self) -> dict[str, PairMeans | SiloMeans]:
        return {
            "voices": self._voices,
            "relative": self._relative,
            "root": self._root,
            "odd-loss": self._odd_loss,
            "excess": self._excess,
            "weighed": self._weighed,
        }

    def _add(self, evidence: PeerEvidence) -> None:
        """Takes in what this round says."""
        silos, found = evidence.silos, evidence.support
        self._relative.add(silos, relative_support(found))
        voices = self._voice(found if "contrast" in self._without else contrast(found, _CONTRAST))
        if "agreement" not in self._without:
            agreed = self._voice(evidence.agreement)
            both = (1 - _AGREEMENT) * voices + _AGREEMENT * agreed
            voices = np.where(np.isfinite(agreed), both, voices)  # of a silo without a review, support alone
        self._voices.add(silos, voices)
        if evidence.root is not None:
            self._root.add(silos, relative_support(evidence.root[:, None])[:, 0])
        self._odd_loss.add(silos, oddness(evidence.losses))
        self._excess.add(silos, evidence.excess)

    def _voice(self, found: Vector) -> Vector:
        """V of one round."""
        forms = {"rank": rank_support, "size": relative_support}
        kept = [form(found) for part, form in forms.items() if part not in self._without]
        voice: Vector = np.mean(kept, axis=0) if kept else found
        return voice

    def _vouching(self, evidence: PeerEvidence, voices: Vector) -> Rows:
        """S."""
        m, s, bonus = len(evidence.silos), evidence.simplex.s, self._bonus(evidence)
        if "set" in self._without:
            return best(mean_without_self(voices, np.arange(m)) + bonus, s)
        counting = s if "trim" in self._without else min(s, max(1, m - 2 * evidence.simplex.b))
        return vouching_sets(voices, bonus, s, counting)[0].members

    def _by_trusted(self, evidence: PeerEvidence, relative: Vector) -> tuple[Rows, Vector]:
        """The s silos that trusted reviewers rate best, and the mean relative support by these reviewers."""
        approval: Vector = relative[:, evidence.trusted].mean(axis=1)
        return best(approval + self._bonus(evidence), evidence.simplex.s), approval

    def _bonus(self, evidence: PeerEvidence) -> Vector:
        """a, (m,)."""
        bonus = np.zeros(len(evidence.silos))
        if "loss" not in self._without:
            bonus -= _LOSS * self._odd_loss.over(evidence.silos)
        if "norm" not in self._without:
            bonus -= _NORM * self._excess.over(evidence.silos)
        if evidence.root is not None:
            bonus += _ROOT * self._root.over(evidence.silos)
        return bonus


def oddness(losses: Vector) -> Vector:
    """How much a reported loss speaks against a silo: p_i = min(3, max(z_i, 0, 2 (-z_i - 1))), (m,), 0 to 3.

    z_i = (f_i - median f) / 1.4826 MAD is how far the loss is above the median, in robust standard deviations. A loss
    more than one of them below the median counts against the silo too: to claim a low loss costs an attacker nothing.

    Args:
        losses: f, (m,); NaN where none was reported.

    Returns:
        NaN where the loss is; 0 for all where the losses have no spread.
    """
    known = losses[np.isfinite(losses)]
    if not known.size:
        return losses
    median, deviation = median_and_deviation(known)
    if not deviation > 0:
        return np.where(np.isfinite(losses), 0.0, np.nan)
    z = (losses - median) / deviation
    odd: Vector = np.clip(np.maximum(z, -_BELOW * (z + 1)), 0.0, _ODDEST)
    return odd


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
