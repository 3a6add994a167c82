"""The defences FedLAW is compared with: pure functions of an (n, d) matrix, a rule a file, NumPy only.

`from fedlaw_flwr.rules.krum import krum` takes one home; `Aggregator("krum", RuleSettings(f=2))` runs it over rounds.
"""

from fedlaw_flwr.rules.aggregator import Aggregator, check, check_fraction, holds
from fedlaw_flwr.rules.interface import Aggregate, Rule, RuleOptions, RuleSettings
from fedlaw_flwr.rules.registry import PRE_AGGREGATIONS, RULES

__all__ = [
    "PRE_AGGREGATIONS",
    "RULES",
    "Aggregate",
    "Aggregator",
    "Rule",
    "RuleOptions",
    "RuleSettings",
    "check",
    "check_fraction",
    "holds",
]
