"""Where every random number comes from: one seed, named streams, no process-global state.

A stream is named by what it is for and, where that applies, by silo, round and exchange. Two streams with
different names are independent (`numpy.random.SeedSequence` spawns from the whole key), and a stream does not
depend on which process draws it, on how many workers there are, or on the order in which replies arrive.
"""

import numpy as np

# The numbers are part of the key: changing one changes every result made with it, so they only ever grow.
_PURPOSES = {
    "split": 1,
    "partition": 2,
    "attackers": 3,
    "model": 4,
    "batches": 5,
    "attack": 6,
    "rule": 7,
    "coalition": 8,
    "torch": 9,
    "root": 10,
    "sample": 11,
}


def sequence(seed: int, purpose: str, *key: int) -> np.random.SeedSequence:
    """The seed sequence of the stream (seed, purpose, *key).

    Args:
        seed: The seed of the run, at least 0.
        purpose: What the stream is for: a purpose that this module knows, such as "partition" or "batches".
        *key: What else names the stream, usually silo, round, exchange; each at least 0.

    Raises:
        KeyError: For a purpose that this module does not know.
        ValueError: For a negative number.
    """
    return np.random.SeedSequence(entropy=seed, spawn_key=(_PURPOSES[purpose], *key))


def generator(seed: int, purpose: str, *key: int) -> np.random.Generator:
    """A NumPy generator on the stream (seed, purpose, *key)."""
    return np.random.default_rng(sequence(seed, purpose, *key))


def integer(seed: int, purpose: str, *key: int) -> int:
    """One number in [0, 2**63) from the stream (seed, purpose, *key), for libraries that want a plain seed."""
    return int(sequence(seed, purpose, *key).generate_state(1, np.uint64)[0] >> np.uint64(1))
