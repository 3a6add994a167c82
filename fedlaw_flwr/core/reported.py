"""What silos say of the model, put together by their learned weights so that no lie moves it far."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BOUNDED = {
    *("accuracy", "acc", "auc", "auroc", "auprc", "f1", "precision", "recall", "sensitivity", "specificity", "dice"),
    *("iou", "jaccard"),
}


@dataclass(frozen=True)
class Reported:
    """One metric over the silos that report it, each counted by its share of their weight.

    Attributes:
        shown: The mean where the metric is bounded by [0, 1], else the median.
        mean: The weighted mean of the values counted.
        median: Their weighted median.
        spread: The weighted median of their distance from it.
    """

    shown: float
    mean: float
    median: float
    spread: float


def together(name: str, by_silo: Mapping[str, float], weights: Mapping[str, float] | None) -> Reported | None:
    """A metric over silos, by weight.

    With shares v_i = w_i / sum of w over the silos that report it, the mean is sum_i v_i x_i. Of a metric in [0, 1] a
    silo moves it by at most v_i, whatever it says: a value outside [0, 1] is not counted. The mean of another metric
    (a loss) can be moved at will by one silo, and the weighted median cannot unless half of the weight lies: it is
    shown.

    Args:
        name: The metric's name; a word in it such as accuracy, auc or f1 says that it is a share. It is taken for one
            only if silos with more than half of the weight report a value in [0, 1].
        by_silo: The value that each silo reports.
        weights: The weight of each silo; one without any has 0. None: all alike.

    Returns:
        The metric; None where no silo with weight reports it.
    """
    silos = list(by_silo)
    x = np.array([by_silo[silo] for silo in silos], float)
    w = np.array([1.0 if weights is None else max(weights.get(silo, 0.0), 0.0) for silo in silos])
    bounded = False
    if _BOUNDED & set(re.split(r"[^a-z0-9]+", name.lower())):
        inside = (x >= 0) & (x <= 1)
        bounded = bool(2 * w[inside].sum() > w.sum())
        if bounded:
            x, w = x[inside], w[inside]
    if not w.sum() > 0:
        return None
    mean = float(x[0] + w @ (x - x[0]) / w.sum())  # so that the mean of equal values is that value
    median = weighted_median(x, w)
    spread = weighted_median(np.abs(x - median), w)
    return Reported(mean if bounded else median, mean, median, spread)


def weighted_median(x: NDArray[np.float64], w: NDArray[np.float64]) -> float:
    """The least x with half of the weight at or below it; halfway to the next where that is exactly half.

    With equal weights it is the median.

    Args:
        x: The values, (k,).
        w: Their weights, (k,), at least 0, not all 0.
    """
    order = np.argsort(x, kind="stable")
    order = order[w[order] > 0]
    x, below = x[order], np.cumsum(w[order])
    half = below[-1] / 2
    at = int(np.searchsorted(below, half * (1 - 1e-12)))
    tied = at + 1 < len(x) and math.isclose(below[at], half, rel_tol=1e-12)
    return float((x[at] + x[at + 1]) / 2) if tied else float(x[at])


def by_class(
    told: Mapping[str, Sequence[float | None]], weights: Mapping[str, float] | None
) -> tuple[float | None, ...] | None:
    """The accuracy of each class: the weighted mean over the silos that hold examples of it.

    Args:
        told: The accuracy of each class at each silo; None where it holds no example. Lists of another length than
            that of most of the weight are not counted.
        weights: The weight of each silo; None: all alike.

    Returns:
        A value for each class, None where no silo with weight holds it; None where no silo with weight tells any.
    """
    shares = {silo: 1.0 if weights is None else max(weights.get(silo, 0.0), 0.0) for silo in told}
    lengths: dict[int, float] = {}
    for silo, values in told.items():
        lengths[len(values)] = lengths.get(len(values), 0.0) + shares[silo]
    if not any(lengths.values()):
        return None
    count = max(lengths, key=lambda length: lengths[length])
    found: list[float | None] = []
    for label in range(count):
        held = [(shares[silo], values[label]) for silo, values in told.items() if len(values) == count]
        pairs = [(share, value) for share, value in held if value is not None and share > 0]
        total = sum(share for share, _ in pairs)
        found.append(sum(share * value for share, value in pairs) / total if total > 0 else None)
    return tuple(found)
