"""Every other aggregation rule as a Flower strategy: one exchange a round; the gate, roster and events of FedLAW."""

import logging
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from flwr.app import ConfigRecord
from flwr.serverapp import Grid

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.sampling import first_that
from fedlaw_flwr.core.setting import documented
from fedlaw_flwr.core.simplex import byzantine_count
from fedlaw_flwr.core.state import Part, State, Stateful
from fedlaw_flwr.protocol.layout import Layout, Model, combine_buffers
from fedlaw_flwr.protocol.round import Channel, RoundExchanges
from fedlaw_flwr.rules import RULES, Aggregator, RuleSettings, check, check_fraction, holds
from fedlaw_flwr.strategy.base import MatrixStrategy

_log = logging.getLogger("flwr")


@documented
@dataclass(eq=False, repr=False)
class RuleStrategy(MatrixStrategy):
    """theta <- theta - rule(delta_1, ..., delta_m), delta_i = theta - psi_i, for any rule of `fedlaw_flwr.rules`.

    All silos count alike, whatever number of examples they claim, unless `rule_settings` gives fedavg a `size_cap`.
    Where fewer silos answer than there are, the number of attackers stays what it was. Then the rule's own condition
    must hold for the silos that answered, or the round is skipped.

    {arguments}
        rule: A name in RULES. Default: 'fedavg'.
        rule_settings: The rule's numbers, thresholds in units of g. `f` is replaced by max_byzantine.
        on_event: As in `FedLAW`.
        attackers: As in `FedLAW`.
        check_task: As in `FedLAW`.
        on_round_end: As in `FedLAW`.
        configure: As in `FedLAW`.
        train_metrics_aggr_fn: As in `FedLAW`.
        evaluate_metrics_aggr_fn: As in `FedLAW`.
        run_dir: As in `FedLAW`.
        checkpoint: As in `FedLAW`.
        ledger_dir: As in `FedLAW`.

    Raises:
        ValueError: If there is no such rule, or a value is not allowed.

    Example:
        >>> RuleStrategy("multi_krum", max_byzantine=3, lr=0.1)  # doctest: +SKIP
    """

    rule: str = "fedavg"
    rule_settings: RuleSettings = field(default_factory=RuleSettings, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rule not in RULES:
            raise InputError(f"rule={self.rule!r}: allowed are {', '.join(sorted(RULES))}")

    def _rescale(self, alpha: float) -> None:
        super()._rescale(alpha)
        self.aggregate.scale = alpha

    def summary(self) -> None:
        """Logs the rule and its numbers."""
        _log.info("%s: %s", self.rule, self.rule_settings)

    def _begin(self, n: int, layout: Layout) -> None:
        self.n = n
        self.rule_settings = replace(self.rule_settings, f=byzantine_count(self.max_byzantine, n))
        check(self.rule, n, self.rule_settings)
        check_fraction(self.rule, self.fraction_train, n, self.rule_settings)
        self.aggregate = Aggregator(self.rule, self.rule_settings, scale=self._alpha)

    def _parts(self) -> dict[str, Stateful]:
        return {**super()._parts(), "rule": self.aggregate, "silos": Part(self._count, self._recount)}

    def _count(self) -> State:
        return State({"n": self.n})

    def _recount(self, state: State) -> None:
        self.n = int(state.values["n"])
        f = byzantine_count(self.max_byzantine, self.n)
        self.rule_settings = self.aggregate.settings = replace(self.rule_settings, f=f)

    def _resize(self, n: int) -> int:
        f = byzantine_count(self.max_byzantine, n)
        settings = replace(self.rule_settings, f=f)
        check(self.rule, n, settings)
        self.n, self.rule_settings, self.aggregate.settings = n, settings, settings
        return f

    def _fewest(self) -> int:
        return first_that(lambda m: holds(self.rule, m, self.rule_settings), self.n)

    @property
    def _size(self) -> tuple[int, int]:
        return self.n, self.rule_settings.f

    def _channel(self, grid: Grid, config: ConfigRecord, timeout: float) -> Channel:
        return replace(super()._channel(grid, config, timeout), sizes=self.rule_settings.size_cap > 0)

    def _round(self, exchanges: RoundExchanges, model: Model) -> tuple[Model | None, dict[str, Any]]:
        exchanges.first(model)
        replies = exchanges.replies
        m, n = len(replies.silos), max(self.n, exchanges.asked.there)
        if n > self.n:  # silos joined: b is of all there are
            self.n, f = n, byzantine_count(self.max_byzantine, n)
            self.rule_settings = self.aggregate.settings = replace(self.rule_settings, f=f)
        if m < max(1, self.quorum):
            return None, {"reason": f"{m} silos gave usable replies and the quorum is {self.quorum}"}
        try:
            check(self.rule, m, self.rule_settings)
        except ValueError as reason:
            return None, {"reason": f"{m} silos gave usable replies: {reason}"}
        if self.rule_settings.size_cap and not replies.sizes.any():
            return None, {"reason": f"all {m} silos with usable replies claim 0 examples, and size-cap weighs by them"}
        found = self.aggregate(replies.updates, exchanges.server_round, self._is_honest(replies.silos), replies.sizes)
        weighted = np.ones(m, bool) if found.kept is None else found.kept
        buffers = combine_buffers(model.layout, replies.buffers[weighted]) if model.buffers.size else None
        account: dict[str, Any] = {
            "phase": "rule",
            "silos": tuple(silo.name for silo in replies.silos),
            "losses": tuple(replies.losses.tolist()) if np.isfinite(replies.losses).any() else (),
            "norms": tuple((replies.norms / self._alpha).tolist()),
        }
        if found.weights is not None:
            account["weights"] = tuple(found.weights.tolist())
        if found.kept is not None:
            account["kept"] = tuple(silo.name for silo, kept in zip(replies.silos, found.kept, strict=True) if kept)
        return model.stepped(found.update.astype(np.float64), buffers), account
