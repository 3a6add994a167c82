"""FedLAW as a Flower strategy: sends the model and the trial model, and asks a weight learner what follows."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import ArrayRecord
from numpy.typing import NDArray

from fedlaw_flwr.core.setting import documented
from fedlaw_flwr.core.state import Stateful
from fedlaw_flwr.learners import load_learner
from fedlaw_flwr.learners.decisions import Reviews, Skip, Step, Trial, Updates
from fedlaw_flwr.learners.learning import WeightLearning
from fedlaw_flwr.learners.options import WeightOptions, check_together
from fedlaw_flwr.protocol.layout import Layout, Model
from fedlaw_flwr.protocol.roster import Silo
from fedlaw_flwr.protocol.round import Replies, RoundExchanges
from fedlaw_flwr.strategy.advice import on_variant
from fedlaw_flwr.strategy.base import MatrixStrategy

_log = logging.getLogger("flwr")
_MOST_SUPPORT = 200  # silos up to which an event has the whole matrix of who supports whom


@documented
@dataclass(kw_only=True, eq=False, repr=False)
class FedLAW(MatrixStrategy, WeightOptions):
    """Byzantine-robust FedLAW (ICLR 2026, Algorithm 2, in delta form). A drop-in for Flower's FedAvg.

    A weight round, with delta_i = theta - psi_i = alpha g_i from the silos' trained weights psi_i:

        exchange 1   theta    -> Delta, f      trial theta~ = theta - sum_i w_i delta_i
        exchange 2   theta~   -> z = sum_i w_i delta~_i, f~
        h = w + (beta / alpha) Delta z - beta f~;  w <- projection of h on D(s, t);  theta <- theta - sum_i w_i delta_i

    Once weights are frozen a round is exchange 1 alone. `variant` names other ways to learn the weights. The delta form
    is the paper's where silos run plain SGD with the step lr; without lr, alpha is `core.step.step_like`. Source: arXiv
    2511.03529, Sections 3 and 4, Appendices B, C, I.

    {arguments}
        on_event: Called with each event of the run as it happens (`fedlaw_flwr.events.types`).
        attackers: The partitions known to be Byzantine, in an experiment; read by clip="oracle" only.
        check_task: Called once with what each silo says it learns; returns what is wrong with it, a sentence each.
        root_review: With variant="review": called with the model, returns the gradient of the class-balanced loss on
            examples that the server trusts, by parameter (`fedlaw_flwr.training.reviews.review`). It is a voice beside
            the silos' reviews. Default: None, the silos' reviews alone.
        on_round_end: Called after each round with a `RoundDone`; several in a list.
        configure: configure(round, config) changes, or returns, what goes to the silos in a round. An lr in it is the
            alpha of that round.
        train_metrics_aggr_fn: As in Flower's FedAvg. It is handed the replies of the silos with weight, without arrays.
        evaluate_metrics_aggr_fn: As in Flower's FedAvg; None: means and medians by the silos' learned weights.
        run_dir: A folder for events, settings, model, ledger and report of the run; None: none is written.
        checkpoint: The same folder, with a checkpoint after every round, from which `start(..., resume=True)` goes on
            after the server ended, however it ended. None: no checkpoints.
        ledger_dir: A folder for the ledger of a run whose other files somebody else writes; None: that of the run.

    Raises:
        ValueError: If a value is not allowed, or the settings do not hold together.

    Example:
        >>> strategy = FedLAW(max_byzantine=3, lr=0.1)
    """

    root_review: Callable[[ArrayRecord], Mapping[str, NDArray[np.floating]]] | None = None

    def __post_init__(self) -> None:
        MatrixStrategy.__post_init__(self)
        check_together(self)

    def summary(self) -> None:
        """Logs the settings that decide what the run can withstand."""
        _log.info(
            "FedLAW: max-byzantine=%s, lr=%s, beta=%g, variant=%s, clip=%s, loss-filter=%s, learning w in %s rounds",
            *(self.max_byzantine, self.lr, self.beta, self.variant, self.clip, self.loss_filter),
            ("all" if self.weight_rounds < 0 else f"the first {self.weight_rounds}")
            + (f" but {self.warm_rounds}" if self.warm_rounds else ""),
        )

    def _begin(self, n: int, layout: Layout) -> None:
        self.learning = WeightLearning(self, n, self.max_byzantine, self._step, self.quorum, self.fraction_train)
        x = self.learning.simplex
        _log.info(
            "FedLAW: %d silos, at most %d Byzantine: at most %d carry weight, none above %.4g", x.n, x.b, x.s, x.t
        )
        if advice := on_variant(self.variant, x.n, x.b):
            _log.info("To consider: %s", advice)

    def _parts(self) -> dict[str, Stateful]:
        return {**super()._parts(), "weights": self.learning}

    def _resize(self, n: int) -> int:
        self.learning.resize(n)
        return self.learning.simplex.b

    def _fewest(self) -> int:
        return 2 * max(0, self.learning.simplex.b - self.attendance.identified) + 2

    @property
    def _size(self) -> tuple[int, int]:
        return self.learning.simplex.n, self.learning.simplex.b

    def _round(self, exchanges: RoundExchanges, model: Model) -> tuple[Model | None, dict[str, Any]]:
        reviewed = self.learning.asks_for_reviews(exchanges.server_round)
        exchanges.first(model, reviewed)
        replies = exchanges.replies
        reviews = self._reviews(replies, model) if reviewed else None
        decision = self.learning.open(exchanges.server_round, self._updates(exchanges, reviews))
        if isinstance(decision, Trial):
            rejected = self._try(exchanges, replies.moved(model, decision.weights), decision)
            decision = self.learning.close(decision, rejected)
        account = _told(replies.silos, decision)
        if isinstance(decision, Step):
            return replies.moved(model, decision.weights, decision.besides), account
        return None, account

    def _reviews(self, replies: Replies, model: Model) -> Reviews:
        """The reviews of exchange 1 as the weight learner sees them, with the server's own."""
        assert replies.reviews is not None
        return Reviews(
            gradients=replies.reviews,
            norms=replies.review_norms,
            losses=replies.balanced_losses,
            trusted=np.array([silo.name in self.trusted_names for silo in replies.silos], bool),
            root=None if self.root_review is None else model.layout.gradient(self.root_review(model.arrays())),
        )

    def _rescale(self, alpha: float) -> None:
        super()._rescale(alpha)
        self.learning.alpha = alpha

    @property
    def _needs_lr(self) -> bool:
        return False

    @property
    def _needs_loss(self) -> bool:
        return load_learner(self.variant).needs_loss

    def _updates(self, exchanges: RoundExchanges, reviews: Reviews | None) -> Updates:
        """Exchange 1 as the weight learner sees it."""
        replies, asked = exchanges.replies, exchanges.asked
        sampled = self.fraction_train < 1
        return Updates(
            silos=[self.roster.key(silo) for silo in replies.silos],
            updates=replies.updates,
            losses=replies.losses,
            norms=replies.norms,
            asked=asked.there,
            rejected=len(replies.outcome.rejected) + self.attendance.identified,
            honest=self._is_honest(replies.silos),
            reviews=reviews,
            sample=frozenset(map(self.roster.key, asked.silos)) if sampled else None,
            pool=frozenset(map(self.roster.key, asked.pool)) if sampled else frozenset(),
        )

    def _try(self, exchanges: RoundExchanges, trial_model: Model, trial: Trial) -> int:
        """Exchange 2: the trial model to everyone of exchange 1. Returns how many replies the gate rejected.

        Updates are added up as they come and never kept.
        """

        def receive(row: int, loss: float, update: NDArray[np.floating] | None, norm: float) -> None:
            if update is not None:
                trial.direction.add(update, norm, trial.weights[row])
            trial.losses[row] = loss

        carriers = trial.carriers
        asked = carriers if self.loss_only_replies else np.ones_like(carriers)
        return len(exchanges.second(trial_model, asked, carriers, receive).rejected)

    @property
    def _loss_floor(self) -> float | None:
        return None if self.loss_floor == "none" else float(self.loss_floor)


def _told(silos: Sequence[Silo], decision: Step | Skip) -> dict[str, Any]:
    """What the round's event says of the weights."""
    account = decision.account
    said: dict[str, Any] = {"reason": decision.reason} if isinstance(decision, Skip) else {}
    if account is None:
        return said
    said |= {
        "phase": account.phase,
        "silos": tuple(silo.name for silo in silos),
        "norms": tuple(account.norms.tolist()),
        "clip": account.clip,
    }
    for name in ("losses", "trial_losses", "alignment", "scores", "approval", "assent", "weights"):
        values = getattr(account, name)
        said[name] = None if values is None else tuple(values.tolist())
    if account.balanced_losses is not None:
        said["balanced_losses"] = tuple(_known(account.balanced_losses))
    if account.support is not None and len(silos) <= _MOST_SUPPORT:
        said["support"] = tuple(tuple(_known(row.round(4))) for row in account.support)
    if not np.isfinite(account.losses).any():  # the silos report none
        said["losses"] = ()
    said |= {"losses_raised": _names(silos, account.raised)}
    for name in ("conflicts", "scored", "unscored", "reviewers", "vouching"):
        said[name] = _names(silos, getattr(account, name))
    if account.clusters is not None:
        said["clusters"] = tuple(_names(silos, rows) for rows in account.clusters)
    return said


def _known(values: NDArray[np.floating]) -> list[float | None]:
    """The numbers, None in place of NaN."""
    return [value if np.isfinite(value) else None for value in values.tolist()]


def _names(silos: Sequence[Silo], rows: NDArray[np.intp] | None) -> tuple[str, ...] | None:
    return None if rows is None else tuple(silos[int(row)].name for row in rows)
