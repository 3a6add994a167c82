"""The projection against a sort of the same numbers, as a ratio: `python -m benchmarks.projection`."""

import time

import numpy as np

from fedlaw_flwr.core.projection import project

_REPEATS = 5


def main() -> None:
    """Prints, for n up to a million, the median seconds of a projection and its ratio to np.sort, taken in turn."""
    rng = np.random.default_rng(0)
    for n in (1_000, 100_000, 1_000_000):
        h = rng.normal(size=n)
        s = int(0.9 * n)
        pairs = []
        for _ in range(_REPEATS):
            began = time.perf_counter()
            project(h, s, 1.2 / s)
            between = time.perf_counter()
            np.sort(h)
            pairs.append((between - began, time.perf_counter() - between))
        seconds = float(np.median([projection for projection, _ in pairs]))
        ratio = float(np.median([projection / sort for projection, sort in pairs]))
        print(f"n = {n:>9,}: {seconds:.4f} s, {ratio:.1f} times np.sort")


if __name__ == "__main__":
    main()
