"""Clusters of silos whose updates point the same way, and a cap on the weight of each."""

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.core import blocks
from fedlaw_flwr.core.blocks import Floats
from fedlaw_flwr.core.distances import connected, squared_distances
from fedlaw_flwr.core.projection import project

Vector = NDArray[np.float64]


def cap_cluster_weight(w: Vector, labels: NDArray[np.intp], t: float) -> Vector:
    """The weights w with the joint weight of no cluster above t; the other silos with weight share the excess.

    P w are the sums of w by label, over the g clusters and single silos with weight. Then v = argmin ||v - P w|| over v
    in D(g, t), with t read as at least 1/g. The members of a cluster share its v alike. A silo without weight gets
    none.

    Args:
        w: The weight of each silo, (m,).
        labels: The cluster of each silo, (m,), as `clusters` returns it.
        t: The most weight of one silo.

    Returns:
        The new weights, (m,). Where no two silos with weight share a label these are w, to the bit.
    """
    carriers = np.flatnonzero(w > 0)
    labels = np.unique(labels[carriers], return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(labels)
    if sizes.size == carriers.size:
        return w.copy()
    together = project(np.bincount(labels, w[carriers]), sizes.size, max(t, 1.0 / sizes.size))
    capped = np.zeros_like(w)
    capped[carriers] = (together / sizes)[labels]
    return capped


def clusters(updates: Floats, distance: float, largest: int) -> NDArray[np.intp]:
    """Finds the clusters: silos whose updates point the same way, give or take `distance`.

    Silos i and j are linked where the chord between the directions of their updates, ||x_i/|x_i| - x_j/|x_j|||, is at
    most `distance`, whatever their norms. A cluster is a connected component. A component of more than `largest` silos
    has honest ones among it, so its silos keep labels of their own. So do silos whose update is 0. Sums are accumulated
    in float64, in m^2 d operations.

    Args:
        updates: The updates, (m, d).
        distance: The longest chord of a link; 0.05 is 3 degrees.
        largest: b', the most silos a cluster may have.

    Returns:
        A label 0 .. g-1 for each silo, (m,). The silos of a cluster share one label.
    """
    squared = squared_distances(updates)
    norms = np.array([blocks.norm(row) for row in updates])
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        # |x - y|^2 = (|x| - |y|)^2 + |x| |y| chord^2: the part that lengths alone explain is taken out
        chord = np.sqrt(np.maximum(squared - np.subtract.outer(norms, norms) ** 2, 0.0) / np.outer(norms, norms))
        linked = chord <= distance
    labels = np.arange(norms.size)
    for members in connected(linked):
        if members.size <= largest:
            labels[members] = members[0]
    return np.unique(labels, return_inverse=True)[1].reshape(-1)
