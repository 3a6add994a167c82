"""Whose images are whose: scikit-learn's handwritten digits, dealt to ten clients, and a share that no client has."""

from functools import lru_cache

import numpy as np
from sklearn.datasets import load_digits

CLIENTS = 10
BATCH = 16


def share(number: int):
    """Images as 64 numbers from 0 to 1, and their digits; number 10 is the share that no client has."""
    images, digits = _all()
    return images[number :: CLIENTS + 1], digits[number :: CLIENTS + 1]


def batches(count: int, epochs: int, seed: int):
    """The rows of each batch. The same seed gives the same batches: FedLAW asks a client about two models a round."""
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        order = rng.permutation(count)
        yield from (order[begin : begin + BATCH] for begin in range(0, count, BATCH))


@lru_cache(maxsize=1)
def _all():
    found = load_digits()
    return (found.data / 16).astype(np.float32), found.target
