"""What it costs to keep reviews in float16: support, ranks and weights beside those of float32.

`python -m benchmarks.review_memory`
"""

import logging

import numpy as np

from benchmarks.one_run import run_of
from fedlaw_flwr.core.support import rank_support
from fedlaw_flwr.protocol import round as exchanges

WORLD = {"task": "digits", "num-silos": 20, "num-rounds": 10, "q": 0.9, "byzantine": 0.4, "max-byzantine": 0.4}


def supports(dtype: type[np.floating], attack: str) -> list[tuple[np.ndarray, tuple[float, ...] | None]]:
    """M and the weights of each round, with reviews kept in this dtype."""
    before, exchanges._REVIEW = exchanges._REVIEW, dtype
    try:
        run = run_of({**WORLD, "variant": "review", "attack": attack})
    finally:
        exchanges._REVIEW = before
    return [(np.array(event.support, dtype=float), event.weights) for event in run.rounds]


def main() -> None:
    """Prints a line for each attack."""
    logging.disable(logging.CRITICAL)
    print("| attack | largest difference of M | ranks that differ | rounds with other weights |")
    print("|---|---|---|---|")
    for attack in ("none", "label_flipping", "inverse_gradient"):
        half, single = supports(np.float16, attack), supports(np.float32, attack)
        pairs = list(zip(half, single, strict=True))
        largest = max(float(np.nanmax(np.abs(one[0] - other[0]))) for one, other in pairs)
        ranks = [(rank_support(one[0]), rank_support(other[0])) for one, other in pairs]
        moved = sum(int(np.nansum(np.abs(one - other) > 1e-9)) for one, other in ranks)
        known = sum(int(np.isfinite(one).sum()) for one, _ in ranks)
        other_weights = sum(one[1] != other[1] for one, other in pairs)
        print(f"| {attack} | {largest:.4f} | {moved} of {known} | {other_weights} of {len(pairs)} |")


if __name__ == "__main__":
    main()
