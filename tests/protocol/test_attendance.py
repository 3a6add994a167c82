"""Strikes: what counts, what does not, who sits out, who comes back; and that all of it survives the server."""

import json

import pytest

from fedlaw_flwr.core.state import State
from fedlaw_flwr.protocol.attendance import Attendance
from fedlaw_flwr.protocol.exchange import NOT_SENT, Outcome
from fedlaw_flwr.protocol.roster import Silo

NAMES = ("aachen", "bonn", "chemnitz", "dresden")
SILOS = [Silo(node, name) for node, name in enumerate(NAMES, start=100)]
LATE = "no answer within 30 s"
ERROR = "error 2: ValueError: no data"
JUNK = "array 'w' is missing (1 of 6 are)"


def exchange(silent=None, rejected=None, silos=SILOS):
    by_name = {silo.name: silo for silo in silos}
    silent, rejected = silent or {}, rejected or {}
    answered = [silo for silo in silos if silo.name not in {**silent, **rejected}]
    return Outcome(
        answered=answered,
        silent={by_name[name]: reason for name, reason in silent.items()},
        rejected={by_name[name]: reason for name, reason in rejected.items()},
    )


def noted(attendance, *rounds, most=1, silos=SILOS):
    """Takes these rounds, each an exchange or two; returns who sits out after them."""
    for number, outcomes in enumerate(rounds, start=1):
        attendance.note(number, outcomes if isinstance(outcomes, tuple) else (outcomes,), silos, most)
    return sorted(attendance.sitting_out)


@pytest.mark.parametrize(
    "outcomes",
    [
        (exchange(silent={"bonn": LATE}),),
        (exchange(silent={"bonn": ERROR}),),
        (exchange(rejected={"bonn": JUNK}),),
        (exchange(), exchange(silent={"bonn": LATE})),
    ],
    ids=["silent", "error", "rejected", "silent at the trial model"],
)
def test_three_rounds_in_a_row_without_a_usable_reply_and_a_silo_sits_out(outcomes):
    attendance = Attendance(limit=3)
    assert noted(attendance, outcomes, outcomes) == []
    assert noted(attendance, outcomes) == ["bonn"]
    assert [silo.name for silo in attendance.able(SILOS)] == ["aachen", "chemnitz", "dresden"]


@pytest.mark.parametrize(
    ("outcomes", "why"),
    [
        ((exchange(silent={"bonn": NOT_SENT}),), "the SuperLink would not take the message"),
        ((exchange(silent=dict.fromkeys(NAMES, LATE)),), "nobody at all answered"),
        ((exchange(rejected={"bonn": JUNK, "aachen": JUNK}),), "more than b were rejected: the model is at fault"),
        ((exchange(silent={"bonn": ERROR, "aachen": ERROR}),), "more than b failed: the settings are at fault"),
        ((exchange(), exchange(rejected={"bonn": "the loss is inf"})), "a liar's trial model made the loss infinite"),
        ((exchange(), exchange(silent={"bonn": ERROR})), "a liar's trial model made the client fail"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_the_silo_s_own_doing_is_no_strike(outcomes, why):
    assert noted(Attendance(limit=1), outcomes, outcomes, outcomes) == [], why


def test_a_flapping_silo_never_sits_out_and_a_round_it_was_not_asked_in_changes_nothing():
    down, up = exchange(silent={"bonn": LATE}), exchange()
    assert noted(Attendance(limit=2), down, up, down, up, down) == []
    without = [silo for silo in SILOS if silo.name != "bonn"]
    attendance = Attendance(limit=2)
    noted(attendance, down)
    noted(attendance, exchange(silos=without), silos=without)
    assert noted(attendance, down) == ["bonn"]


def test_all_but_one_may_sit_out_for_silence():
    assert noted(Attendance(limit=1), exchange(silent=dict.fromkeys(NAMES[1:], LATE))) == list(NAMES[1:])


def test_no_strikes_are_counted_where_the_limit_is_0():
    assert noted(Attendance(limit=0), *[exchange(silent={"bonn": LATE})] * 9) == []


def test_only_a_silo_whose_every_reply_was_rejected_stays_identified():
    junk, late = exchange(rejected={"bonn": JUNK}), exchange(silent={"bonn": LATE})
    always, mixed = Attendance(limit=2), Attendance(limit=2)
    noted(always, junk, junk)
    noted(mixed, junk, late)
    assert (always.identified, mixed.identified) == (1, 0)
    always.pardon("bonn")
    assert always.identified == 0


def test_a_pardoned_silo_begins_anew_and_a_pardon_of_nobody_is_told():
    attendance, down = Attendance(limit=2), exchange(silent={"bonn": LATE})
    noted(attendance, down, down)
    assert attendance.pardon("bonn") and not attendance.pardon("bonn") and not attendance.pardon("berlin")
    assert noted(attendance, down) == [] and noted(attendance, down) == ["bonn"]


def test_a_removed_silo_is_not_asked_and_no_longer_there():
    attendance = Attendance()
    attendance.arrived(SILOS)
    assert attendance.remove("bonn") and not attendance.remove("bonn") and not attendance.remove("berlin")
    asked = attendance.ask(1, SILOS)
    assert [silo.name for silo in asked.silos] == ["aachen", "chemnitz", "dresden"]
    assert (len(asked.pool), asked.there) == (3, 3)


def test_one_that_sits_out_is_still_there_for_n():
    attendance = Attendance(limit=1)
    noted(attendance, exchange(silent={"bonn": LATE}))
    asked = attendance.ask(2, SILOS)
    assert (len(asked.silos), len(asked.pool), asked.there) == (3, 3, 4)


def test_rounds_in_which_nobody_answered_are_counted():
    attendance, nobody = Attendance(), exchange(silent=dict.fromkeys(NAMES, LATE))
    noted(attendance, nobody, nobody)
    assert attendance.unheard == 2
    noted(attendance, exchange())
    assert attendance.unheard == 0


def test_in_a_simulation_strikes_follow_a_silo_from_its_node_to_the_partition_it_claims():
    attendance = Attendance(limit=2)
    unnamed, named = [Silo(7, "node 7"), SILOS[0]], [Silo(7, "silo 3"), SILOS[0]]
    noted(attendance, exchange(silent={"node 7": LATE}, silos=unnamed), silos=unnamed)
    assert noted(attendance, exchange(rejected={"silo 3": JUNK}, silos=named), silos=named) == ["silo 3"]


def test_a_second_node_with_the_same_claim_frees_nobody():
    attendance = Attendance(limit=1)
    first = [Silo(7, "silo 3"), SILOS[0]]
    assert noted(attendance, exchange(silent={"silo 3": LATE}, silos=first), silos=first) == ["silo 3"]
    both = [Silo(7, "silo 3 (node 7)"), Silo(9, "silo 3 (node 9)")]
    assert [silo.node_id for silo in attendance.able(both)] == [9]


# -- samples -------------------------------------------------------------------------------------------------------

MANY = [f"clinic-{number:02}" for number in range(20)]


def drawn(attendance, server_round, nodes=range(20), names=MANY):
    return [
        silo.name
        for silo in attendance.ask(server_round, [Silo(n, s) for n, s in zip(nodes, names, strict=True)]).silos
    ]


def test_a_sample_depends_on_seed_and_names_and_not_on_node_ids():
    one, other = Attendance(fraction=0.5, seed=4), Attendance(fraction=0.5, seed=4)
    for server_round in range(1, 6):
        found = drawn(one, server_round)
        assert len(found) == 10 and found == sorted(found)
        assert found == drawn(other, server_round, nodes=range(9000, 8980, -1))
    assert drawn(one, 1) != drawn(Attendance(fraction=0.5, seed=5), 1)


def test_at_least_so_many_are_asked_where_there_are_as_many():
    attendance = Attendance(fraction=0.1)
    silos = [Silo(n, name) for n, name in enumerate(MANY)]
    assert len(attendance.ask(1, silos, least=10).silos) == 10
    assert len(attendance.ask(1, silos[:7], least=10).silos) == 7


def test_nodes_without_a_name_are_all_asked_once_and_then_drawn_by_the_partition_they_claim():
    """Node ids are random in Flower's simulation: samples by them would not be the same in two runs."""
    samples = []
    for nodes in ([11, 12, 13, 14, 15, 16], [96, 95, 94, 93, 92, 91]):
        attendance = Attendance(fraction=0.5)
        first = attendance.ask(1, [Silo(node, f"node {node}") for node in nodes])
        assert len(first.silos) == 6
        named = [Silo(node, f"silo {partition}") for partition, node in enumerate(nodes)]
        samples.append([[silo.name for silo in attendance.ask(r, named).silos] for r in range(2, 6)])
    assert samples[0] == samples[1] and all(len(one) == 3 for one in samples[0])


def test_a_node_that_never_says_who_it_is_is_drawn_like_the_others_after_its_first_round():
    attendance = Attendance(fraction=0.5)
    silos = [Silo(7, "node 7"), *(Silo(n, name) for n, name in enumerate(MANY, start=100))]
    assert "node 7" in [silo.name for silo in attendance.ask(1, silos).silos]
    later = [len(attendance.ask(r, silos).silos) for r in range(2, 20)]
    assert set(later) == {11}
    assert sum("node 7" in [silo.name for silo in attendance.ask(r, silos).silos] for r in range(2, 20)) < 18


def test_those_who_sit_out_are_not_drawn():
    attendance = Attendance(limit=1, fraction=0.5)
    out = [Silo(n, name) for n, name in enumerate(MANY)]
    attendance.note(1, (exchange(silent=dict.fromkeys(MANY[:10], LATE), silos=out),), out, 4)
    asked = attendance.ask(2, out)
    assert (len(asked.silos), len(asked.pool), asked.there) == (5, 10, 20)
    assert {silo.name for silo in asked.silos} <= set(MANY[10:])


# -- state ---------------------------------------------------------------------------------------------------------


def test_the_state_is_json_without_node_ids_and_another_process_goes_on_from_it():
    first = Attendance(limit=2, fraction=0.5)
    first.arrived(SILOS)
    noted(first, exchange(silent={"bonn": LATE, "dresden": LATE}), exchange(silent={"bonn": LATE}))
    first.remove("aachen")
    first.orders = 3
    text = json.dumps(first.state().values)
    assert not any(str(silo.node_id) in text for silo in SILOS)
    second = Attendance(limit=2, fraction=0.5)
    second.restore(State(json.loads(text)))
    again = [Silo(silo.node_id + 1000, silo.name) for silo in SILOS]  # a new SuperLink, new node ids
    assert second.state() == first.state()
    assert [silo.name for silo in second.able(again)] == ["chemnitz", "dresden"]
    assert second.arrived(again) == [] and second.orders == 3
    for attendance, silos in ((first, SILOS), (second, again)):
        noted(attendance, exchange(silent={"chemnitz": LATE}, silos=silos), silos=silos)
    assert second.state() == first.state()


def test_a_state_of_another_version_is_refused():
    with pytest.raises(ValueError, match="version 9 where 1 is expected"):
        Attendance().restore(State({"version": 9}))
