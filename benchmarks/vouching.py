"""How far the search for the set that vouches for itself ends from the best one, and its seconds: prints two tables.

`python -m benchmarks.vouching`
"""

import time
from itertools import combinations
from statistics import median

import numpy as np

from fedlaw_flwr.core.support import rank_support
from fedlaw_flwr.core.vouching import value, vouching_sets


def instance(rng: np.random.Generator, m: int, lift: float, honest: int) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of normal supports, those among the first `honest` silos lifted; and what silos add by themselves."""
    found = rng.normal(size=(m, m))
    found[:honest, :honest] += lift
    np.fill_diagonal(found, np.nan)
    return np.nan_to_num(rank_support(found)), 0.3 * rng.normal(size=m)


def gaps(voices: float, trials: int) -> tuple[int, float]:
    """How many of the trials end below the global optimum, and by how much at most for each member of the set."""
    rng = np.random.default_rng(0)
    missed, worst = 0, 0.0
    for trial in range(trials):
        m = int(rng.integers(6, 17))
        size = int(rng.integers(m // 2, m))
        ranks, bonus = instance(rng, m, float(trial % 3), size)
        k = max(1, round(voices * size))
        best = max(value(ranks, bonus, np.array(chosen), k) for chosen in combinations(range(m), size))
        gap = best - vouching_sets(ranks, bonus, size, k)[0].value
        missed += gap > 1e-9
        worst = max(worst, gap / size)
    return missed, worst


def main() -> None:
    """Prints both tables."""
    trials = 60
    print("| voices counted | trials, 6 to 16 silos | below the global optimum | by at most, a member |")
    print("|---|---|---|---|")
    for name, voices in (("all", 1.0), ("half", 0.5), ("a third", 1 / 3)):
        missed, worst = gaps(voices, trials)
        print(f"| {name} | {trials} | {missed} | {worst:.3f} |")
    print("\n| silos | voices counted | noise alone, seconds | a group that vouches for itself, seconds |")
    print("|---|---|---|---|")
    for m in (20, 200, 1000):
        for voices in (0, m // 5):
            seconds = []
            for lift in (0.0, 0.5):
                took = []
                for seed in range(3):
                    ranks, bonus = instance(np.random.default_rng(seed), m, lift, 3 * m // 5)
                    begun = time.process_time()
                    vouching_sets(ranks, bonus, 3 * m // 5, voices)
                    took.append(time.process_time() - begun)
                seconds.append(median(took))
            print(f"| {m} | {voices or 'all'} | {seconds[0]:.3f} | {seconds[1]:.3f} |")


if __name__ == "__main__":
    main()
