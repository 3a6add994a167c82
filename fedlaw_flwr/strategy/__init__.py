"""Flower strategies: FedLAW with its two exchanges a round, and the one-exchange rules beside it."""

from fedlaw_flwr.strategy.fedlaw import FedLAW
from fedlaw_flwr.strategy.rule import RuleStrategy

__all__ = ["FedLAW", "RuleStrategy"]
