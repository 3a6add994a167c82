"""Whether numbers of the silo's data stand, one after another, in something else: rolling hashes of both, compared.

Only values as they are are found: scaled, rounded or memorised by a model they are not.
"""

import numpy as np
from numpy.typing import NDArray

_BASE = 0x9E3779B97F4A7C15  # odd, so it has an inverse modulo 2^64
_INVERSE = pow(_BASE, -1, 2**64)
_CHUNK = 2**18  # values hashed at once: some copies of this many, whatever the size of the model

Hashes = NDArray[np.uint64]


def windows(values: NDArray[np.generic], length: int) -> Hashes:
    """A 64-bit hash of every run of `length` values.

    The hash of the run at i is sum_k mix(x[i + k]) B^k modulo 2^64 (Karp and Rabin 1987), with the values taken as
    float32 and -0 as 0. Equal runs have equal hashes wherever they stand.

    Args:
        values: The values (..., n).
        length: How many values are in a run.

    Returns:
        The hashes (..., n - length + 1); none where n < length.
    """
    n = values.shape[-1]
    if n < length:
        return np.empty((*values.shape[:-1], 0), np.uint64)
    sums = np.zeros((*values.shape[:-1], n + 1), np.uint64)
    np.cumsum(_mixed(values) * _powers(_BASE, n), axis=-1, out=sums[..., 1:])
    found: Hashes = (sums[..., length:] - sums[..., :-length]) * _powers(_INVERSE, n - length + 1)
    return found


def telling(runs: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Which runs would not stand in an array by chance.

    A run is telling if it has four different values or, in runs of 32 values and more, eight changes from one value to
    the next. Zeros, a line of an identity matrix and a line of a causal mask have neither.

    Args:
        runs: The runs (k, length).

    Returns:
        The mask (k,) of telling runs.
    """
    length = runs.shape[1]
    ordered = np.sort(runs, axis=1)
    different = 1 + np.count_nonzero(ordered[:, 1:] != ordered[:, :-1], axis=1)
    changes = np.count_nonzero(runs[:, 1:] != runs[:, :-1], axis=1)
    found: NDArray[np.bool_] = (different >= 4) | ((length >= 32) & (changes >= 8))
    return found


def fingerprints(runs: NDArray[np.generic]) -> Hashes:
    """The hashes of the telling ones of these runs (k, length)."""
    found: Hashes = windows(runs, runs.shape[1])[telling(runs), 0] if runs.size else np.empty(0, np.uint64)
    return found


def standing(sought: Hashes, length: int, array: NDArray[np.generic]) -> Hashes:
    """Which of these hashes of runs of this length are those of a run in the array, flattened."""
    if not len(sought):
        return sought
    sought, values = np.unique(sought), array.reshape(-1)
    if np.iscomplexobj(values):
        values = np.ascontiguousarray(values).view(values.real.dtype)
    found = np.zeros(len(sought), bool)
    for start in range(0, len(values) - length + 1, _CHUNK):
        hashes = windows(values[start : start + _CHUNK + length - 1], length)
        places = np.minimum(np.searchsorted(sought, hashes), len(sought) - 1)
        found[places[sought[places] == hashes]] = True
    return sought[found]


def _mixed(values: NDArray[np.generic]) -> Hashes:
    """The bits of each value spread over 64 (splitmix64): those of round numbers end in zeros, which would collide."""
    z = (values.astype(np.float32) + np.float32(0)).view(np.uint32).astype(np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _powers(base: int, n: int) -> Hashes:
    """1, base, base^2, ... (n,), modulo 2^64."""
    factors = np.full(n, base, np.uint64)
    factors[:1] = 1
    powers: Hashes = np.cumprod(factors, dtype=np.uint64)
    return powers
