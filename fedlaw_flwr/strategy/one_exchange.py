"""Every other aggregation rule as a Flower strategy: one exchange a round, the same gate, roster and ledger."""

import logging
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
from flwr.app import ConfigRecord
from flwr.serverapp import Grid

from fedlaw_flwr.layout import Layout, Model, combine_buffers
from fedlaw_flwr.rules import RULES, Aggregator, RuleSettings, check
from fedlaw_flwr.strategy.base import MatrixStrategy, Shared
from fedlaw_flwr.strategy.exchanges import Channel, Exchanges
from fedlaw_flwr.weighting import byzantine_count

_log = logging.getLogger("flwr")


class OneExchange(MatrixStrategy):
    """theta <- theta - rule(delta_1, ..., delta_m), delta_i = theta - psi_i, for any rule of `fedlaw_flwr.rules`.

    rule: a name in RULES. rule_settings: the rule's numbers, thresholds in units of g; its `f` is replaced by
    max_byzantine (a count, or a fraction of the silos). Silos weigh alike whatever size they claim, unless
    rule_settings give fedavg a size_cap. The rest is as in `FedLAW`. With m < n silos answering, f stays what it
    was and the rule's own condition must hold for m, or the model is held.
    """

    def __init__(
        self,
        rule: str = "fedavg",
        *,
        rule_settings: RuleSettings | None = None,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(**({"loss_floor": None} | shared))  # no rule reads the losses: any is right
        if rule not in RULES:
            raise ValueError(f"rule={rule!r}: allowed are {', '.join(sorted(RULES))}")
        self.rule, self.rule_settings = rule, rule_settings or RuleSettings(f=0)

    def summary(self) -> None:
        """Logs the rule and its numbers."""
        _log.info("%s: %s", self.rule, self.rule_settings)

    def _begin(self, n: int, layout: Layout) -> None:
        assert self.lr is not None
        self.n = n
        self.rule_settings = replace(self.rule_settings, f=byzantine_count(self.max_byzantine, n))
        check(self.rule, n, self.rule_settings)
        self.aggregate = Aggregator(self.rule, self.rule_settings, scale=self.lr)

    def _channel(self, grid: Grid, config: ConfigRecord, timeout: float) -> Channel:
        return replace(super()._channel(grid, config, timeout), sizes=self.rule_settings.size_cap > 0)

    def _round(self, exchanges: Exchanges, model: Model) -> tuple[Model | None, dict[str, Any]]:
        assert self.lr is not None
        replies = exchanges.first(model)
        m, n = len(replies.silos), max(self.n, replies.outcome.asked)
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
        report: dict[str, Any] = {
            "phase": "rule",
            "silos": [silo.name for silo in replies.silos],
            "losses": replies.losses.tolist(),
            "norms": (replies.norms / self.lr).tolist(),
        }
        if found.weights is not None:
            report["weights"] = found.weights.tolist()
        if found.kept is not None:
            report["kept"] = [silo.name for silo, kept in zip(replies.silos, found.kept, strict=True) if kept]
        return model.stepped(found.update.astype(np.float64), buffers), report
