"""Multi-Krum: the mean of the m updates that Krum likes best."""

import numpy as np

from fedlaw_flwr.core.blocks import Floats
from fedlaw_flwr.rules.interface import Aggregate, Call, Rule
from fedlaw_flwr.rules.krum import DEFINED, GUARANTEE, krum_scores


def multi_krum(updates: Floats, f: int, m: int | None = None) -> Floats:
    """(1/m) sum of the m rows with the lowest Krum scores (all scored once).

    Of equal scores the lower row goes first.
    Source: Blanchard et al., NeurIPS 2017, the Multi-Krum variant, for which that paper proves nothing; Krum's
    n >= 2f + 3 is asked for in its place.

    Args:
        updates: (n, d), one update a row.
        f: Rows assumed Byzantine, a count.
        m: How many rows are averaged. Default: n - f, which is ByzFL's; FedLAW (I.2) took n - f - 2.

    Returns:
        (d,), of updates' dtype.

    Raises:
        ValueError: Unless 1 <= m <= n and n >= f + 3.
    """
    return _select(updates, f, m).update


def _select(updates: Floats, f: int, m: int | None) -> Aggregate:
    scores = krum_scores(updates, f)
    n = scores.size
    m = n - f if m is None else m
    if not 1 <= m <= n:
        raise ValueError(f"m={m}: Multi-Krum averages 1 to n={n} rows")
    kept = np.zeros(n, dtype=bool)
    kept[np.argsort(scores, kind="stable")[:m]] = True
    return Aggregate.mean_of(updates, kept)


def _run(updates: Floats, call: Call) -> Aggregate:
    return _select(updates, call.settings.f, call.settings.krum_m)


RULE = Rule(
    summary="the mean of the m updates (n-f unless set) with the lowest Krum scores",
    source="Blanchard et al., NeurIPS 2017, Multi-Krum",
    guarantee=GUARANTEE,
    defined=DEFINED,
    run=_run,
)
