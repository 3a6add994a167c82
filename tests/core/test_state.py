"""Parts of the server that say what they know and take it back, through JSON and arrays."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.history import ScoreHistory
from fedlaw_flwr.core.schedule import Schedule
from fedlaw_flwr.core.standing import Standing
from fedlaw_flwr.core.state import Part, State, gathered, restore_all
from fedlaw_flwr.core.support import PairMeans, SiloMeans

NAMES = ["silo-a 0f", "silo-b 1e", "partition 3", "partition 4"]
WEIGHTS = st.lists(st.floats(0, 1), min_size=4, max_size=4)


def on_disk(state):
    """The state as it comes back from a file of JSON."""
    return State(json.loads(json.dumps(dict(state.values))), dict(state.arrays))


@given(WEIGHTS, st.integers(1, 9), st.booleans())
def test_a_standing_that_was_written_down_gives_the_same_weights_bit_for_bit(weights, round_number, again):
    standing, other = Standing(Schedule(5)), Standing(Schedule(5))
    standing.learn(NAMES, np.array(weights), round_number)
    if again:
        standing.relearn()
    other.restore(on_disk(standing.state()))
    for silos in (NAMES, NAMES[2:], ["nobody", NAMES[0]]):
        assert other.over(silos).tolist() == standing.over(silos).tolist()
        assert other.missing(silos) == standing.missing(silos)
    assert [other.learns(r) for r in range(1, 12)] == [standing.learns(r) for r in range(1, 12)]


@given(WEIGHTS, WEIGHTS)
def test_histories_and_means_go_on_as_if_they_had_not_been_written_down(first, second):
    history, means, pairs = ScoreHistory(), SiloMeans(), PairMeans()
    history.add(NAMES, np.array(first), 0.5)
    means.add(NAMES, np.array(first))
    pairs.add(NAMES[:3], np.outer(first, second)[:3, :3])
    others = ScoreHistory(), SiloMeans(), PairMeans()
    for other, one in zip(others, (history, means, pairs), strict=True):
        other.restore(on_disk(one.state()))
    mine, again = (one.add(NAMES, np.array(second), 0.5).tolist() for one in (history, others[0]))
    assert mine == again
    for one, other in ((means, others[1]), (pairs, others[2])):
        one.add(NAMES, np.array(second) if one is means else np.outer(second, first))
        other.add(NAMES, np.array(second) if one is means else np.outer(second, first))
        np.testing.assert_array_equal(one.over(NAMES), other.over(NAMES))


def test_each_part_is_given_its_own_and_parts_may_be_made_of_parts():
    taken = {}

    def part(name):
        return Part(lambda: State({"n": name}, {"x": np.array([len(name)])}), lambda s: taken.update({name: s}))

    inner = {"one": part("one"), "three": part("three")}
    outer = Part(lambda: gathered(inner), lambda state: restore_all(inner, state))
    state = on_disk(gathered({"outer": outer, "other": part("other")}))
    assert sorted(state.arrays) == ["other.x", "outer.one.x", "outer.three.x"]
    restore_all({"outer": outer, "other": part("other")}, state)
    assert {name: (one.values["n"], one.arrays["x"].tolist()) for name, one in taken.items()} == {
        "one": ("one", [3]),
        "three": ("three", [5]),
        "other": ("other", [5]),
    }


def test_a_state_of_other_parts_is_refused_and_nothing_of_it_is_taken():
    taken = []
    parts = {"a": Part(State, taken.append), "b": Part(State, taken.append)}
    with pytest.raises(InputError, match="b is missing; c is not known here"):
        restore_all(parts, State({"a": {}, "c": {}}))
    assert taken == []


def test_what_is_split_off_and_the_rest_are_the_whole():
    state = State({"a": 1, "ab": 2}, {"a.x": np.zeros(1), "ab.x": np.ones(1)})
    own, rest = state.split("a")
    assert (own.values, list(own.arrays)) == ({"a": 1}, ["a.x"])
    assert (rest.values, list(rest.arrays)) == ({"ab": 2}, ["ab.x"])
