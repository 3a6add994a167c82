"""The scale in the place of a step that nobody names."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlaw_flwr.core.step import ALIGNMENT, step_like

norms = st.lists(st.floats(1e-3, 1e3), min_size=5, max_size=15)


def test_the_median_updates_alignment_with_itself_is_what_was_wanted():
    alpha = step_like(np.array([1.0, 2.0, 3.0]), beta=0.01)
    assert 0.01 / alpha * 2.0**2 == pytest.approx(ALIGNMENT)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(norms, st.floats(1e-3, 1e3))
def test_the_alignment_term_does_not_depend_on_how_long_the_updates_are(lengths, factor):
    plain, scaled = (step_like(np.array(lengths) * by, 0.01) for by in (1.0, factor))
    assert scaled / factor**2 == pytest.approx(plain)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(norms, st.lists(st.floats(0, 1e300), max_size=4))
def test_b_liars_of_2b_plus_1_move_it_no_further_than_between_the_honest_extremes(honest, lies):
    honest = [*honest, *[honest[0]] * len(lies)]  # more honest than hostile
    found = step_like(np.array([*honest, *lies]), 0.01)
    assert step_like(np.full(3, min(honest)), 0.01) <= found * (1 + 1e-12)
    assert found <= step_like(np.full(3, max(honest)), 0.01) * (1 + 1e-12)


@pytest.mark.parametrize("length", [0.0, 1e-170, 1e200])
def test_where_nobody_moves_or_all_diverge_there_is_none(length):
    assert step_like(np.full(5, length), 0.01) is None
