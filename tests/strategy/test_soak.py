"""300 rounds with every class of fault at once end within a point of the run without any (`benchmarks/soak.py`)."""

import pytest

from benchmarks.soak import FALLS_SILENT, KILLED_EVERY, PARDON, REMOVE, ROUNDS, growth, name_of, soak


@pytest.mark.slow  # two to four minutes on two idle cores; fifteen were measured on two busy ones
def test_every_fault_at_once_costs_less_than_a_point_and_no_memory_and_is_in_the_events():
    plain, soaked = soak(faults=False), soak()
    assert soaked.accuracies[ROUNDS] > plain.accuracies[ROUNDS] - 0.01
    assert [event.abandoned_round for event in soaked.of("resumed")] == list(
        range(KILLED_EVERY, ROUNDS + 1, KILLED_EVERY)
    )
    assert soaked.wrong == []
    for kind in ("sits-out", "pardoned", "removed", "joined", "resumed"):
        assert [line["silo"] for line in soaked.ledger if line["kind"] == kind and "silo" in line] == [
            event.silo for event in soaked.of(kind) if hasattr(event, "silo")
        ]
    told = {(line["round"], line["silo"], line["verdict"]) for line in soaked.ledger if line["kind"] == "silo"}
    for verdict, kind in (("silent", "silent"), ("rejected", "rejected")):
        assert {(event.round, event.silo, verdict) for event in soaked.of(kind) if event.exchange == 1} <= told
    assert len(soaked.of("round")) == ROUNDS and not any(event.skipped for event in soaked.of("round"))
    assert growth(soaked.resident) < 16  # twelve servers after one another in one process; 4.9 was measured
    assert growth(plain.resident) < 5
    assert max(soaked.resident) < soaked.resident[0] + 20  # the second run begins with what is kept of the first
    cast, out = soaked.cast, {event.silo: event for event in soaked.of("sits-out")}
    assert out[name_of(cast.junk)].identified and out[name_of(cast.junk)].round == 3
    assert out[name_of(cast.mute)].round == FALLS_SILENT + 2 and not out[name_of(cast.mute)].identified
    assert [(event.round, event.silo) for event in soaked.of("pardoned")] == [(PARDON + 1, name_of(cast.pardoned))]
    assert [(event.round, event.n, event.b) for event in soaked.of("removed")] == [(REMOVE + 1, 19, 4)]
    assert [event.silo for event in soaked.of("joined")] == [name_of(cast.late)]
    silent = {event.silo for event in soaked.of("silent")}
    assert {name_of(silo) for silo in (cast.flapping, cast.slow, cast.mute, cast.pardoned)} <= silent
    last = soaked.of("round")[-1].weight_of
    assert last[name_of(cast.huge)] == 0 and last[name_of(cast.pardoned)] > 0 and name_of(cast.late) in last
