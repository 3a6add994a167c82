"""Bucketing: shuffled updates are averaged a few at a time before any rule sees them."""

import numpy as np

from fedlaw_flwr.core.blocks import Floats, Vector
from fedlaw_flwr.rules.interface import PreAggregation
from fedlaw_flwr.rules.matrix import check_matrix, mix


def bucket_mixing(n: int, size: int, random: np.random.Generator) -> Vector:
    """The matrix M with M X the bucket means: a random permutation cut into buckets.

    Every row is in exactly one bucket. The last bucket holds the n mod size rows left over and is their mean, so that
    no row is duplicated or shrunk: as in the authors' code, where the formula would divide by size there too.

    Args:
        n: How many rows there are.
        size: How many rows a bucket holds.
        random: Draws the permutation.

    Returns:
        M, (ceil(n/size), n).

    Raises:
        ValueError: Unless 1 <= size <= n.
    """
    if not 1 <= size <= n:
        raise ValueError(f"size={size}: a bucket holds 1 to n={n} updates")
    mixing: Vector = np.zeros((-(-n // size), n))
    mixing[np.arange(n) // size, random.permutation(n)] = 1.0
    mixing /= mixing.sum(axis=1, keepdims=True)
    return mixing


def bucketing(updates: Floats, size: int, random: np.random.Generator) -> Floats:
    """y_j = mean of the x_i in bucket j.

    At most f buckets hold a Byzantine row, so the rule that follows keeps its f. Permutation equivariant in
    distribution only: the buckets come from random. Source: Karimireddy, He and Jaggi, ICLR 2022 (Byzantine-robust
    learning on heterogeneous datasets via bucketing).

    Args:
        updates: (n, d), one update a row.
        size: How many rows a bucket holds, 1 to n.
        random: Draws the buckets.

    Returns:
        (ceil(n/size), d), of updates' dtype.

    Raises:
        ValueError: Where `check_matrix` or `bucket_mixing` does.
    """
    check_matrix(updates)
    return mix(bucket_mixing(updates.shape[0], size, random), updates)


PRE_AGGREGATION = PreAggregation(
    summary="shuffle the updates and average them bucket_size at a time, before any rule",
    source="Karimireddy, He and Jaggi, ICLR 2022",
)
