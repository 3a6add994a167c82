"""What a silo holds back for its own test: chosen by the records' content and a seed, not by their order in a file."""

import hashlib
from math import floor

import numpy as np
import torch
from numpy.typing import NDArray

from fedlaw_flwr.core import seeding
from fedlaw_flwr.tasks.base import Examples


def hold_back(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """Splits the examples into train and test.

    Each is in an order of its own: by a hash of content, keyed by (seed, "split").
    Of each class the first floor(share * count) examples of that order are held back. If that gives none, share is not
    0 and there are at least two examples, the first of the most frequent class is held back. So a query without ORDER
    BY or a file sorted anew gives the same split and the same batches. Equal records hash alike, yet one may lie on
    each side.

    Args:
        examples: All examples of the silo.
        share: The share of each class that is held back.
        seed: The seed of the split.

    Returns:
        The examples as (train, test).
    """
    order = _by_content(examples, seed)
    targets = examples.targets.numpy()[order]
    held = np.zeros(len(order), dtype=bool)
    labels, counts = np.unique(targets, return_counts=True)
    for label, count in zip(labels, counts, strict=True):
        # A billionth: 0.29 * 100 is 28.999999999999996.
        held[np.flatnonzero(targets == label)[: floor(share * count + 1e-9)]] = True
    if share > 0 and len(order) > 1 and not held.any():
        held[np.flatnonzero(targets == labels[counts.argmax()])[0]] = True
    return _picked(examples, order[~held]), _picked(examples, order[held])


def _by_content(examples: Examples, seed: int) -> NDArray[np.intp]:
    """The positions of the examples in the order of their hashes."""
    key = seeding.sequence(seed, "split").generate_state(8).tobytes()
    inputs, targets = examples.inputs.contiguous().numpy(), examples.targets.numpy().astype(np.int64)
    digests = [
        hashlib.blake2b(row.tobytes() + target.tobytes(), key=key, digest_size=16).digest()
        for row, target in zip(inputs, targets, strict=True)
    ]
    return np.array(sorted(range(len(digests)), key=digests.__getitem__), dtype=np.intp)


def _picked(examples: Examples, chosen: NDArray[np.intp]) -> Examples:
    where = torch.from_numpy(chosen)
    return Examples(examples.inputs[where], examples.targets[where])
