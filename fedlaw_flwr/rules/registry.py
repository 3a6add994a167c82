"""Every rule by the name its users know. A new rule is a new file and a line here."""

from fedlaw_flwr.rules import (
    bucketing,
    bulyan,
    caf,
    cclip,
    cw_median,
    fedavg,
    huber,
    ideal,
    krum,
    multi_krum,
    nnm,
    rfa,
    trimmed_mean,
)
from fedlaw_flwr.rules.interface import PreAggregation, Rule

RULES: dict[str, Rule] = {
    "fedavg": fedavg.RULE,
    "krum": krum.RULE,
    "multi_krum": multi_krum.RULE,
    "trimmed_mean": trimmed_mean.RULE,
    "cw_median": cw_median.RULE,
    "bulyan": bulyan.RULE,
    "cclip": cclip.RULE,
    "rfa": rfa.RULE,
    "huber": huber.RULE,
    "caf": caf.RULE,
    "ideal": ideal.RULE,
}

PRE_AGGREGATIONS: dict[str, PreAggregation] = {
    "bucketing": bucketing.PRE_AGGREGATION,
    "nnm": nnm.PRE_AGGREGATION,
}
