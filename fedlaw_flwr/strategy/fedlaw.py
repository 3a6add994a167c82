"""FedLAW as a Flower strategy: the model and the aggregation weights learned together, two exchanges a round."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from fedlaw_flwr import gate
from fedlaw_flwr.blocks import Vector, add_multiple, inner_products, scale, weighted_sum
from fedlaw_flwr.exchange import Ask
from fedlaw_flwr.guards import clip_threshold, coalitions, raise_low_losses
from fedlaw_flwr.layout import Layout, Model, combine_buffers
from fedlaw_flwr.projection import project
from fedlaw_flwr.roster import Silo
from fedlaw_flwr.strategy.base import MatrixStrategy, Shared
from fedlaw_flwr.strategy.exchanges import Exchanges, Replies
from fedlaw_flwr.weighting import Schedule, Simplex, Weights, default_cap, least_loss, one_voice, score

_log = logging.getLogger("flwr")


# Unclipped updates of exchange 2 are taken to stay within this many times the largest of exchange 1.
_FAR = 1024.0
_UTTER = 1e30


@dataclass(frozen=True)
class _Trial:
    """What exchange 2 brought: which rows of exchange 1 were scored, their losses, and z = sum_i w_i delta~_i."""

    scored: NDArray[np.intp]
    losses: Vector
    direction: Vector | None


class FedLAW(MatrixStrategy):
    """Byzantine-robust FedLAW (ICLR 2026, Algorithm 2, in delta form). A drop-in for Flower's FedAvg.

    A weight round, with delta_i = theta - psi_i = alpha g_i from the silos' trained weights psi_i:
        exchange 1   theta    -> D, f          trial theta~ = theta - sum_i w_i delta_i
        exchange 2   theta~   -> z = sum_i w_i delta~_i, f~
        h = w + (beta / alpha) D z - beta f~;  w <- projection of h on D(s, t);  theta <- theta - sum_i w_i delta_i
    variant "bsum" takes w <- argmin over D(s, t) of sum_i w_i f~_i instead (Appendix B). Once weights are held a
    round is exchange 1 alone. The delta form presumes that silos run plain SGD with the step lr.

    lr: alpha; None takes `lr` of train_config. beta: step of the weights. max_byzantine: b, a count (int) or a
    fraction of the silos (float). s, t: sparsity and cap; 0 means s = n - b and t = 1/(s-10) or 12/(11 s). s_start: s
    of the first round, lowered to s over the weight rounds, for a b that is not known (I.2; 0: s from the first on).
    weight_rounds, refresh_every, warm_rounds: when w is learned (`Schedule`). loss_filter: MAD filter of Appendix C;
    loss_fence: how many deviations below the median its fence stands. clip: "rank" (the (m-b')-th smallest norm),
    "none", a norm in units of g, or "oracle" (largest honest norm; experiments).
    memory: 0 is the paper's score, h = w + e with e the evidence of this round; above it the score is 1/m + y, where
    y <- memory y + e gathers the evidence of all rounds (`Weights.remember`), silos without weight included.
    coalition_distance: silos whose updates point the same way, give or take this much, are a coalition, which is
    scored and weighed as one silo (0: off; `guards.coalitions`). watch: a held round in which a silo that carries
    weight points against the step, <delta_i, D'w> < 0, is a weight round.
    thrift: exchange 2 asks silos without weight for their loss alone. loss_key, loss_floor: where a reply's loss is,
    and the least it may be (None: any). buffers: pattern of float arrays that are no parameters. num_silos: how many
    there are (0: those online at the start, waited for at most `wait` seconds). quorum: fewest answers that move the
    model. ledger: called with an event for all that happens. attackers: partitions known to be Byzantine, in an
    experiment, for clip="oracle" only. Source: arXiv 2511.03529, Sections 3 and 4, Appendices B, C and I.
    """

    def __init__(
        self,
        *,
        beta: float = 0.01,
        s: int = 0,
        t: float = 0.0,
        s_start: int = 0,
        variant: str = "fedlaw",
        weight_rounds: int = 20,
        refresh_every: int = 0,
        warm_rounds: int = 0,
        clip: str | float = "rank",
        loss_filter: bool = True,
        loss_fence: float = 3.0,
        memory: float = 0.0,
        coalition_distance: float = 0.0,
        watch: bool = False,
        thrift: bool = True,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(**shared)
        if s_start and weight_rounds - warm_rounds < 2:
            raise ValueError(
                f"s_start={s_start}, weight_rounds={weight_rounds}: s is lowered over the weight rounds, 2 or more"
            )
        if not 0 < beta < float("inf"):
            raise ValueError(f"beta={beta}: the step of the weights must be a finite number above 0")
        if weight_rounds < -1:
            raise ValueError(f"weight_rounds={weight_rounds}: allowed are -1 (always) and more")
        if refresh_every < 0:
            raise ValueError(f"refresh_every={refresh_every}: allowed are 0 (never) and more")
        if variant not in ("fedlaw", "bsum"):
            raise ValueError(f"variant={variant!r}: allowed are 'fedlaw' and 'bsum'")
        if clip not in ("rank", "none", "oracle") and not (isinstance(clip, int | float) and 0 < clip < float("inf")):
            raise ValueError(f"clip={clip!r}: allowed are 'rank', 'none', 'oracle' or a norm above 0, in units of g")
        if not 0 <= loss_fence < float("inf"):
            raise ValueError(f"loss_fence={loss_fence}: deviations below the median are a finite number of at least 0")
        if not 0 <= coalition_distance < 2:
            raise ValueError(f"coalition_distance={coalition_distance}: between unit vectors it is in [0, 2), 0 is off")
        if not 0 <= memory <= 1:
            raise ValueError(f"memory={memory}: the share of its evidence that a silo keeps is in [0, 1]")
        if memory and variant == "bsum":
            raise ValueError(f"memory={memory}: variant 'bsum' goes by this round's losses alone; leave memory at 0")
        self.memory, self.coalition_distance, self.watch = memory, coalition_distance, watch
        self.beta, self.s, self.t, self.s_start, self.variant = beta, s, t, s_start, variant
        self.schedule = Schedule(weight_rounds, refresh_every, warm_rounds)
        self.clip, self.loss_filter, self.loss_fence, self.thrift = clip, loss_filter, loss_fence, thrift

    def summary(self) -> None:
        """Logs the settings that decide what the run can withstand."""
        _log.info(
            "FedLAW: max-byzantine=%s, lr=%s, beta=%g, variant=%s, clip=%s, loss-filter=%s, learning w in %s rounds",
            *(self.max_byzantine, self.lr, self.beta, self.variant, self.clip, self.loss_filter),
            ("all" if self.schedule.weight_rounds < 0 else f"the first {self.schedule.weight_rounds}")
            + (f" but {self.schedule.warm_rounds}" if self.schedule.warm_rounds else ""),
        )

    def _begin(self, n: int, layout: Layout) -> None:
        self.simplex = x = Simplex.for_federation(n, self.max_byzantine, self.s, self.t)
        if self.s_start and not x.s <= self.s_start <= n:
            raise ValueError(f"s_start={self.s_start}: with n={n} silos and s={x.s}, allowed are {x.s} to {n}")
        self.weights = Weights(self.schedule)
        _log.info(
            "FedLAW: %d silos, at most %d Byzantine: at most %d carry weight, none above %.4g", x.n, x.b, x.s, x.t
        )

    # -- one round ---------------------------------------------------------------------------------------------

    def _round(self, exchanges: Exchanges, model: Model) -> tuple[Model | None, dict[str, Any]]:
        replies = exchanges.first(model)
        m, unmasked = len(replies.silos), len(replies.outcome.rejected)
        if (n := replies.outcome.asked) > self.simplex.n:  # silos joined: b is of all there are
            self.simplex = Simplex.for_federation(n, self.max_byzantine, self.s, self.t)
        now = self._simplex_in(exchanges.server_round)
        simplex = self._among(now, m, unmasked)
        if simplex is None:
            return None, {"reason": self._too_few(m, unmasked)}
        limit = self._clip(replies, simplex.b)
        coalition = self._coalitions(replies, simplex.b)
        report: dict[str, Any] = {
            "silos": [silo.name for silo in replies.silos],
            "losses": replies.losses.tolist(),
            "norms": (replies.norms / self._alpha).tolist(),
            "clip": None if limit is None else limit / self._alpha,
        }
        if self.coalition_distance:
            report["coalitions"] = _members(replies.silos, coalition)
        learning = self.weights.learns(exchanges.server_round)
        keys = [silo.node_id for silo in replies.silos]
        report["phase"] = "learned" if learning else "held"
        w = one_voice(self.weights.over(keys), coalition, simplex.t)
        if not learning:
            missing = self.weights.missing(keys)
            if missing > 0.5:
                self.weights.learn_again()
                return None, report | {
                    "reason": f"{missing:.0%} of the learned weight belongs to silos that did not answer; "
                    "weights are learned again from the next round"
                }
            turned = self._turned(replies, w) if self.watch else []
            if not turned:
                return self._step(replies, model, w, report)
            report |= {"phase": "learned", "turned": turned}
        trial = self._try(exchanges, replies, model, w, limit)
        unmasked += len(exchanges.outcomes[-1].rejected)
        simplex = self._among(now, trial.scored.size, unmasked)
        if simplex is None or trial.direction is None:
            report["dodged"] = self._dodged(replies, trial)
            if trial.direction is None:
                return None, report | {"reason": "no silo that carries weight answered at the trial model"}
            return None, report | {"reason": self._too_few(trial.scored.size, unmasked, "the trial model's ")}
        labels = np.unique(coalition[trial.scored], return_inverse=True)[1].reshape(-1)
        sizes = np.bincount(labels)
        if sizes.max() > 1:  # a coalition takes one place, and all its members are unmasked
            simplex = now.among(sizes.size, unmasked + int(sizes[sizes > 1].sum())) or simplex
        w = self._learn(exchanges.server_round, replies, w, trial, labels, simplex, report)
        return self._step(replies, model, w, report)

    def _clip(self, replies: Replies, byzantine: int) -> float | None:
        """Scales every update above the round's threshold down to it, in place; returns the threshold, if any."""
        if self.clip == "none":
            return None
        if self.clip == "rank":
            limit = clip_threshold(replies.norms, byzantine)
        elif self.clip == "oracle":
            limit = float(replies.norms[self._is_honest(replies.silos)].max(initial=0.0))
        else:
            limit = float(self.clip) * self._alpha
        for row in np.flatnonzero(replies.norms > limit):
            scale(replies.updates[row], limit / replies.norms[row])
        return limit

    def _turned(self, replies: Replies, w: Vector) -> list[str]:
        """Who carries weight and points against the step that would be taken: <delta_i, sum_j w_j delta_j> < 0."""
        along = inner_products(replies.updates, weighted_sum(w, replies.updates))
        return [replies.silos[int(row)].name for row in np.flatnonzero((w > 0) & (along < 0))]

    def _coalitions(self, replies: Replies, byzantine: int) -> NDArray[np.intp]:
        """A label for each silo, shared by those that say the same; everybody's own where that is not looked for."""
        if not self.coalition_distance:
            return np.arange(len(replies.silos))
        return coalitions(replies.updates, self.coalition_distance, byzantine)

    def _try(self, exchanges: Exchanges, replies: Replies, model: Model, w: Vector, limit: float | None) -> _Trial:
        """Exchange 2: the trial model to everyone of exchange 1; updates are summed as they come, never kept."""
        trial = model.stepped(weighted_sum(w, replies.updates), self._buffers(replies, w, model))
        rows = {silo.node_id: row for row, silo in enumerate(replies.silos)}
        losses = np.full(len(rows), np.nan)
        update = np.empty_like(model.parameters)
        total = np.zeros(update.size)
        quantum = _quantum(limit if limit is not None else _FAR * float(replies.norms.max(initial=0.0)))

        def receive(ask: Ask, content: RecordDict) -> None:
            row = rows[ask.silo.node_id]
            loss = gate.read_loss(content, self.loss_key, self.loss_floor)
            if w[row] > 0:
                size = gate.read_update(content, trial, update)
                shrink = 1.0 if limit is None or size <= limit else limit / size
                add_multiple(total, update, w[row] * shrink, quantum)
            losses[row] = loss

        asks = [
            Ask(silo, "update" if w[row] > 0 or not self.thrift else "loss") for row, silo in enumerate(replies.silos)
        ]
        exchanges.second(trial, asks, receive)
        scored = np.flatnonzero(np.isfinite(losses))
        weight = float(w[scored].sum())
        if weight > 0:
            total /= weight
        return _Trial(scored, losses[scored], total if weight > 0 else None)

    def _learn(
        self,
        server_round: int,
        replies: Replies,
        w: Vector,
        trial: _Trial,
        labels: NDArray[np.intp],
        simplex: Simplex,
        report: dict[str, Any],
    ) -> Vector:
        """The new weights of the silos scored; 0 for those that answered exchange 1 and dodged exchange 2.

        labels: of those scored; silos that share one are scored and weighed as one, by their mean update and loss.
        """
        losses, low = trial.losses, trial.losses < -np.inf
        if self.loss_filter:
            losses, low = raise_low_losses(trial.losses, self.loss_fence)
        assert trial.direction is not None
        sizes, held = np.bincount(labels), np.bincount(labels, w[trial.scored])
        held = held / held.sum()
        inner = np.bincount(labels, inner_products(replies.updates, trial.direction)[trial.scored]) / sizes
        losses = np.bincount(labels, losses) / sizes
        h = score(np.zeros_like(held) if self.memory else held, inner, losses, self._alpha, self.beta)
        h = np.nan_to_num(h, nan=-_UTTER, posinf=_UTTER, neginf=-_UTTER)  # unclipped updates can exceed float64
        if self.memory:
            keys = [replies.silos[row].node_id for row in trial.scored]
            y = self.weights.remember(keys, h[labels], self.memory)
            h = 1.0 / sizes.size + np.bincount(labels, y) / sizes
        if self.variant == "bsum":
            learned = least_loss(losses, simplex.s, simplex.t)
        else:
            learned = project(h, simplex.s, simplex.t)
        learned, h, inner = (learned / sizes)[labels], h[labels], inner[labels]
        silos = [replies.silos[row] for row in trial.scored]
        dodged = self._dodged(replies, trial)
        self.weights.learn([silo.node_id for silo in silos], learned, server_round)
        report |= {
            "scored": [silo.name for silo in silos],
            "trial-losses": trial.losses.tolist(),
            "losses-raised": [silo.name for silo, raised in zip(silos, low, strict=True) if raised],
            "alignment": (inner * self.beta / self._alpha).tolist(),
            "scores": h.tolist(),
            "dodged": dodged,
        }
        everyone = np.zeros(len(replies.silos))
        everyone[trial.scored] = learned
        return everyone

    def _dodged(self, replies: Replies, trial: _Trial) -> list[str]:
        """Takes their weight from the silos that answered exchange 1 and not exchange 2; returns their names."""
        scored = set(trial.scored.tolist())
        dodged = [silo for row, silo in enumerate(replies.silos) if row not in scored]
        self.weights.dodge([silo.node_id for silo in dodged])
        return [silo.name for silo in dodged]

    def _step(self, replies: Replies, model: Model, w: Vector, report: dict[str, Any]) -> tuple[Model, dict[str, Any]]:
        """theta - sum_i w_i delta_i, with the weighted silos' buffers."""
        following = model.stepped(weighted_sum(w, replies.updates), self._buffers(replies, w, model))
        return following, report | {"weights": w.tolist()}

    def _buffers(self, replies: Replies, w: Vector, model: Model) -> NDArray[np.floating]:
        weighted = np.flatnonzero(w > 0)
        return combine_buffers(model.layout, replies.buffers[weighted]) if model.buffers.size else model.buffers

    def _simplex_in(self, server_round: int) -> Simplex:
        """D(s, t) of this round: that of the federation, or one of those it is lowered to it from."""
        if not self.s_start:
            return self.simplex
        s = self.schedule.carriers(server_round, max(self.s_start, self.simplex.s), self.simplex.s)
        return replace(self.simplex, s=s, t=self.t or default_cap(s))

    def _among(self, simplex: Simplex, present: int, unmasked: int) -> Simplex | None:
        """The feasible weights over those present, None where too few are."""
        return simplex.among(present, unmasked) if present >= self.quorum else None

    def _too_few(self, present: int, unmasked: int, which: str = "") -> str:
        needed = max(2 * max(0, self.simplex.b - unmasked) + 2, self.quorum)
        return f"{present} silos gave {which}usable replies and {needed} are needed (2b+2, quorum {self.quorum})"

    @property
    def _alpha(self) -> float:
        assert self.lr is not None
        return self.lr


def _members(silos: Sequence[Silo], labels: NDArray[np.intp]) -> list[list[str]]:
    """The names of those who share a label, a list for each label that two or more share."""
    together = [np.flatnonzero(labels == k) for k in np.flatnonzero(np.bincount(labels) > 1)]
    return [[silos[int(row)].name for row in rows] for rows in together]


def _quantum(limit: float) -> float:
    """A power of two fine enough to lose nothing and coarse enough that sums of its multiples are exact in float64.

    Contributions to z have norms of at most w_i limit, so their sums stay below limit; in multiples of limit / 2**50
    they are then exact in any order, and the order in which replies arrive cannot change a bit of the result.
    """
    return float(2.0 ** (np.ceil(np.log2(limit)) - 50)) if limit > 0 else 0.0
