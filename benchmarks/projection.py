"""The projection against a sort of the same numbers, as a ratio: `python -m benchmarks.projection`.

CPU seconds, taken in turn, medians of nine; they go into docs/performance.json and its table.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks import performance
from benchmarks.arithmetic import LIBRARIES
from benchmarks.machine import described
from fedlaw_flwr.core.projection import project

_REPEATS = 9
_LEAST_SECONDS = 0.02  # a call is repeated until the clock can tell


def measure(n: int) -> dict[str, float]:
    """The median seconds of a projection with s = 0.9 n and t = 1.2/s, and its ratio to np.sort."""
    h = np.random.default_rng(0).normal(size=n)
    s = int(0.9 * n)
    calls = max(1, int(_LEAST_SECONDS / (1e-7 * n + 1e-5)))
    pairs = []
    for _ in range(_REPEATS):
        began = time.process_time()
        for _ in range(calls):
            project(h, s, 1.2 / s)
        between = time.process_time()
        for _ in range(calls):
            np.sort(h)
        pairs.append(((between - began) / calls, (time.process_time() - between) / calls))
    return {
        "n": n,
        "seconds": float(np.median([ours for ours, _ in pairs])),
        "sorts": float(np.median([ours / sort for ours, sort in pairs])),
    }


def main() -> None:
    """Measures n up to a million, and writes the figures and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=performance.FIGURES, help="the JSON file; its table goes beside it")
    chosen = parser.parse_args()
    rows = []
    with threadpool_limits(1):
        for n in (1_000, 10_000, 100_000, 1_000_000):
            rows.append(measure(n))
            print(f"n = {n:>9,}: {rows[-1]['seconds']:.6f} s, {rows[-1]['sorts']:.1f} times np.sort", flush=True)
    performance.write(chosen.out, "projection", {"machine": described(LIBRARIES), "rows": rows})


if __name__ == "__main__":
    main()
