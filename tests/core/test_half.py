"""float16 and back: NumPy's own conversions of every number there is."""

import numpy as np

from fedlaw_flwr.core.half import to_half, to_single

EVERY = np.arange(2**16, dtype=np.uint16).view(np.float16)
FINITE = EVERY[np.isfinite(EVERY)]


def test_every_finite_float16_becomes_the_same_number():
    np.testing.assert_array_equal(to_single(FINITE), FINITE.astype(np.float32))
    assert np.signbit(to_single(FINITE)).tolist() == np.signbit(FINITE).tolist()


def test_every_float16_up_to_1_comes_back():
    small = FINITE[np.abs(FINITE) <= 1]
    np.testing.assert_array_equal(to_half(small.astype(np.float32)), small)


def test_between_two_of_them_the_nearer_one_is_taken():
    numbers = np.random.default_rng(0)
    singles = np.concatenate([numbers.uniform(-1, 1, 50_000), 10 ** numbers.uniform(-9, 0, 50_000)]).astype(np.float32)
    ours, numpys = to_half(singles), singles.astype(np.float16)
    off = ours != numpys
    assert off.mean() < 1e-2
    ours_off, numpys_off = (np.abs(half[off].astype(np.float64) - singles[off]) for half in (ours, numpys))
    np.testing.assert_allclose(
        ours_off, numpys_off, rtol=0, atol=2e-11
    )  # a tie, or so small that float32 rounds it too


def test_they_are_read_in_rows_and_columns_that_lie_apart():
    halves = FINITE[:2000].reshape(40, 50)[:, 7:31]
    np.testing.assert_array_equal(to_single(halves), halves.astype(np.float32))
