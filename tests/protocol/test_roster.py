"""Who takes part: an order that does not hang on who answers first, names people know, claims that buy nothing."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import ScriptedGrid, stopped_clock

from fedlaw_flwr.core.state import State
from fedlaw_flwr.protocol.roster import Roster, Silo


def grid_of(names, node_ids):
    return ScriptedGrid([lambda received: None] * len(names), names, node_ids=node_ids)


def nameless(*node_ids):
    return grid_of([""] * len(node_ids), node_ids)


def node_ids(silos):
    return [silo.node_id for silo in silos]


def test_a_registered_name_orders_and_labels_a_silo():
    silos = Roster().refresh(grid_of(["clinic", "archive", "bank"], [5, 9, 7]))
    assert silos == [Silo(9, "archive"), Silo(7, "bank"), Silo(5, "clinic")]
    assert [str(silo) for silo in silos] == ["archive", "bank", "clinic"]


def test_without_names_the_first_claimed_partition_orders_and_labels_from_then_on():
    roster, grid = Roster(), nameless(30, 10, 20)
    assert [silo.name for silo in roster.refresh(grid)] == ["node 10", "node 20", "node 30"]
    for node_id, partition in ((10, 2), (20, 0), (30, 1)):
        roster.claim(node_id, partition)
    assert roster.refresh(grid) == [Silo(20, "silo 0"), Silo(30, "silo 1"), Silo(10, "silo 2")]


def test_silos_that_never_made_a_claim_come_after_those_that_did():
    roster, grid = Roster(), nameless(1, 2, 3)
    roster.claim(3, 5)
    assert node_ids(roster.refresh(grid)) == [3, 1, 2]


def test_the_first_claim_stands_and_none_is_no_claim():
    roster = Roster()
    for partition in (None, 4, 0, None):
        roster.claim(1, partition)
    assert roster.partition(Silo(1, "anything")) == 4
    assert roster.partition(Silo(2, "anything")) is None


def test_a_claim_never_changes_the_name_or_the_place_of_a_registered_silo():
    roster, grid = Roster(), grid_of(["b", "a"], [1, 2])
    roster.claim(1, 0)
    roster.claim(2, 9)
    assert roster.refresh(grid) == [Silo(2, "a"), Silo(1, "b")]


def test_two_silos_that_claim_one_partition_are_told_apart_by_name():
    roster, grid = Roster(), nameless(10, 20, 30)
    for node_id, partition in ((10, 3), (20, 3), (30, 4)):
        roster.claim(node_id, partition)
    assert [silo.name for silo in roster.refresh(grid)] == ["silo 3 (node 10)", "silo 3 (node 20)", "silo 4"]


@pytest.mark.parametrize("genuine", [7, 3], ids=["higher node id", "lower node id"])
def test_a_second_node_with_a_registered_name_is_refused_for_as_long_as_the_first_is_online(genuine):
    """However often it is seen: the second round after its arrival is where it used to slip in."""
    impostor = 10 - genuine
    grid, roster = grid_of(["clinic", "bank", "clinic"], [genuine, 5, impostor]), Roster()
    grid.online = {0, 1}
    assert set(node_ids(roster.refresh(grid))) == {genuine, 5}
    grid.online = {0, 1, 2}
    for _ in range(4):
        assert set(node_ids(roster.refresh(grid))) == {genuine, 5}


def test_the_first_node_of_a_name_takes_its_place_again_when_it_comes_back():
    grid, roster = grid_of(["clinic", "clinic"], [7, 3]), Roster()
    seen = []
    for grid.online in ({0}, {0, 1}, {1}, {0, 1}):
        seen.append(node_ids(roster.refresh(grid)))
    assert seen == [[7], [7], [3], [7]]


def test_a_node_keeps_the_name_under_which_it_was_first_seen():
    grid, roster = grid_of(["clinic", "bank"], [7, 3]), Roster()
    roster.refresh(grid)
    grid.names[1] = "clinic"
    assert roster.refresh(grid) == [Silo(3, "bank"), Silo(7, "clinic")]


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.permutations(range(5)), st.lists(st.sampled_from([None, 0, 1, 2, 7]), min_size=5, max_size=5))
def test_the_order_depends_on_claims_and_node_ids_and_not_on_who_spoke_first(arrival, claims):
    orders = []
    for order in (arrival, range(5)):
        roster, grid = Roster(), nameless(*range(2, 7))
        roster.refresh(grid)
        for index in order:
            roster.claim(index + 2, claims[index])
        orders.append(roster.refresh(grid))
    assert orders[0] == orders[1]
    assert len({silo.name for silo in orders[0]}) == 5


# -- waiting for silos -------------------------------------------------------------------------------------------


class Joining(ScriptedGrid):
    """A grid on which, at the k-th look (the last for good), just the silos of schedule[k] are online."""

    def __init__(self, count, schedule):
        super().__init__([lambda received: None] * count)
        self.schedule, self.looks = iter(schedule), 0

    def get_nodes(self):
        self.looks += 1
        self.online = next(self.schedule, self.online)
        return super().get_nodes()


def test_the_run_starts_when_enough_silos_are_online_and_no_more_have_come_for_a_while():
    grid = Joining(4, [set(), {0}, {0, 1}, {0, 1}, {0, 1, 2}, {0, 1, 2, 3}])
    with stopped_clock() as clock:
        silos = Roster().wait(grid, at_least=2, timeout=60, settle=2.0)
    assert node_ids(silos) == [2, 3, 4, 5]
    assert 1000 + 5 * 0.2 + 2.0 <= clock.now <= 1000 + 5 * 0.2 + 2.5


def test_too_few_silos_by_the_deadline_are_an_error_that_says_how_many_there_are():
    with stopped_clock() as clock, pytest.raises(TimeoutError, match="2 silos are online after 30 s and 5 are needed"):
        Roster().wait(nameless(2, 3), at_least=5, timeout=30)
    assert 1030 <= clock.now < 1031


def test_no_silo_at_all_is_an_error_too():
    with stopped_clock(), pytest.raises(TimeoutError, match="0 silos are online"):
        Roster().wait(Joining(3, [set()]), at_least=1, timeout=5)


def test_silos_that_come_just_in_time_are_waited_for_to_settle():
    grid = Joining(3, [{0}] * 24 + [{0, 1, 2}])
    with stopped_clock() as clock:
        assert len(Roster().wait(grid, at_least=3, timeout=5.0)) == 3
    assert clock.now >= 1000 + 24 * 0.2 + 2.0


def test_one_silo_that_comes_and_goes_cannot_put_off_the_start_for_ever():
    flapping = itertools.islice(itertools.cycle([{0, 1}, {0, 1, 2}]), 10_000)
    grid = Joining(3, flapping)
    with stopped_clock() as clock:
        assert len(Roster().wait(grid, at_least=2, timeout=10)) >= 2
    assert clock.now < 1013


def test_a_second_node_of_one_name_does_not_count_as_a_second_silo():
    with stopped_clock(), pytest.raises(TimeoutError, match="1 silos are online"):
        Roster().wait(grid_of(["clinic", "clinic"], [2, 3]), at_least=2, timeout=5)


class Keyed(ScriptedGrid):
    """Nodes with registered names and public keys."""

    def __init__(self, names, node_ids, public_keys):
        super().__init__([lambda received: None] * len(names), names, node_ids=node_ids)
        self.public_keys = dict(zip(node_ids, public_keys, strict=True))

    def get_nodes(self):
        nodes = list(super().get_nodes())
        for node in nodes:
            node.public_key = self.public_keys[node.node_id]
        return nodes


def restored(roster):
    other = Roster()
    other.restore(State(json.loads(json.dumps(dict(roster.state().values)))))
    return other


def test_a_registered_silo_is_known_by_name_and_key_whatever_its_node_id():
    before, after = Roster(), Roster()
    [one] = before.refresh(Keyed(["clinic"], [2], [b"key"]))
    [same] = after.refresh(Keyed(["clinic"], [99], [b"key"]))
    assert before.key(one) == after.key(same) and before.key(one).startswith("clinic ")
    roster = Roster()
    [other] = roster.refresh(Keyed(["clinic"], [2], [b"another key"]))
    assert roster.key(other) != before.key(one)


def test_a_simulated_silo_is_known_by_its_first_claim_and_nobody_takes_that_from_it():
    roster = Roster()
    first, second = roster.refresh(nameless(2, 3))
    assert roster.key(first) == "node 2"
    roster.claim(2, 7)
    assert roster.key(first) == "partition 7"
    roster.claim(3, 7)
    assert (roster.key(first), roster.key(second)) == ("partition 7", "partition 7 (node 3)")


def test_after_a_resumption_a_partition_has_its_key_again_under_any_node_id():
    roster = Roster()
    for silo in roster.refresh(nameless(2, 3)):
        roster.claim(silo.node_id, silo.node_id - 2)
    again = restored(roster)
    one, other = again.refresh(nameless(50, 40))
    again.claim(50, 0)
    again.claim(40, 1)
    assert {again.key(one), again.key(other)} == {"partition 0", "partition 1"}
    assert again.silo(50).name == "silo 0"  # no node of before stands in its way


def test_nodes_that_outlive_the_server_keep_their_names_their_claims_and_their_keys():
    roster = Roster()
    grid = nameless(2, 3)
    roster.refresh(grid)
    roster.claim(3, 0)
    again = restored(roster)
    assert [silo.name for silo in again.refresh(grid)] == ["silo 0", "node 2"]
    assert again.key(again.silo(3)) == "partition 0"


def test_who_was_left_out_and_who_was_asked_is_still_so_after_a_resumption():
    def grid(ids):
        return Keyed(["a", "b", "c"], ids, [b"1", b"2", b"3"])

    roster = Roster()
    a, b, _ = roster.refresh(grid([2, 3, 4]))
    roster.exclude(a)
    roster.note_asked(b)
    again = restored(restored(roster))
    b, c = again.refresh(grid([12, 13, 14]))
    assert (b.name, c.name) == ("b", "c") and again.was_asked(b) and not again.was_asked(c)
