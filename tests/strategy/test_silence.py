"""Silence over rounds: silos that sit out, come back, join late or leave; what ends a run; and samples of the silos."""

import json
from collections import Counter

import numpy as np
import pytest
from flwr.app import MetricRecord
from pulled import START, TARGET, honest, inverse, silent
from scripted import Late, ScriptedGrid, record_of, reply, stopped_clock

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.events.orders import ORDERS, Order, give, newest
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.rules import RULES
from fedlaw_flwr.strategy import FedLAW, RuleStrategy
from fedlaw_flwr.strategy.base import TooFewSilos

NAMES = ("aachen", "bonn", "chemnitz", "dresden", "essen", "freiburg", "gera", "hamm", "ilmenau", "jena")


def junk(received):
    return reply({"w": np.full(4, np.nan, np.float32)}, 0.5, partition=received.silo)


def during(rounds, script, otherwise):
    return lambda received: script(received) if received.round in rounds else otherwise(received)


def ten(**replaced):
    scripts = [honest(i) for i in range(10)]
    for name, script in replaced.items():
        scripts[int(name[1:])] = script
    return scripts


class Held:
    """A run that was held, with what its events say."""

    def __init__(self, scripts, rounds=8, between=None, names=NAMES, grid=None, strategy=None, stops="", **settings):
        self.grid = grid or ScriptedGrid(scripts, names)
        given = {"max_byzantine": 2, "lr": 0.1, "beta": 0.1, "startup_timeout": 5.0} | settings
        self.strategy = strategy or FedLAW(**given)
        self.events, self.result = [], None
        self.strategy.on_event = self.events.append

        def after(server_round, arrays):
            if between:
                between(server_round, self)
            return MetricRecord({"w0": float(arrays["w"].numpy()[0])})

        with stopped_clock() as self.clock:
            try:
                self.result = self.strategy.start(
                    self.grid, record_of(START), num_rounds=rounds, timeout=30, evaluate_fn=after
                )
            except TooFewSilos as error:
                assert stops and stops in str(error), error
                self.result = error.result
            else:
                assert not stops

    def of(self, kind):
        return [event for event in self.events if event.kind == kind]

    @property
    def rounds(self):
        return self.of("round")

    def asked(self, server_round):
        return {self.grid.names[silo] for silo in self.grid.asked(server_round, 1)}


# -- sitting out and coming back -----------------------------------------------------------------------------------


def test_a_silent_silo_costs_three_deadlines_and_is_then_asked_no_more():
    held = Held(ten(s3=silent))
    assert [(event.round, event.silo, event.identified) for event in held.of("sits-out")] == [(3, "dresden", False)]
    assert ["dresden" in held.asked(k) for k in range(1, 9)] == [True] * 3 + [False] * 5
    assert sum(held.clock.slept) == pytest.approx(2 + 3 * 30, rel=0.02)  # 2 s until they have settled; no waiting later
    assert not any(event.skipped for event in held.rounds)


def test_three_junk_replies_make_a_silo_sit_out_and_it_stays_one_of_the_b():
    """Eight of ten send junk at b = 4: what is left of the honest would be too few if b' rose again."""
    held = Held(ten(s0=junk, s1=junk, s2=junk, s3=junk), max_byzantine=4)
    assert {(event.silo, event.identified) for event in held.of("sits-out")} == {(name, True) for name in NAMES[:4]}
    assert len(held.asked(8)) == 6 and not any(event.skipped for event in held.rounds)
    assert set(NAMES[:4]) <= Run.of(held.events).excluded


def test_who_sits_out_for_silence_lowers_no_b():
    """Six usable replies are enough for b = 2 and not for b = 3: silence must not make the rest a majority."""
    scripts = ten(s0=silent, s1=silent, s2=silent, s3=silent)
    assert not any(event.skipped for event in Held(scripts).rounds)
    held = Held(scripts, max_byzantine=3, stops="6 silos still take part and 8 are needed")
    assert all(event.skipped for event in held.rounds) and len(held.rounds) == 3


def test_honest_silos_that_leave_for_good_do_not_make_the_rest_a_majority():
    def leave(k, held):
        if k == 2:
            held.grid.online -= {0, 1, 2, 3}

    attackers = dict.fromkeys(("s7", "s8", "s9"), inverse(9))
    held = Held(ten(**attackers), between=leave, max_byzantine=3, rejoin_timeout=60.0, stops="6 silos still take part")
    assert len(held.rounds) == 2
    w = held.rounds[-1].weight_of
    assert sum(w[name] for name in NAMES[7:]) == 0
    assert sum(held.clock.slept) >= 60  # they were waited for


def test_a_federation_that_comes_back_in_time_goes_on():
    def leave(k, held):
        if k == 2:
            held.grid.online -= set(range(6))
            back = held.grid.get_nodes

            def later():
                if held.clock.now > gone + 100:
                    held.grid.online |= set(range(6))
                return back()

            gone, held.grid.get_nodes = held.clock.now, later

    held = Held(ten(), between=leave)
    assert len(held.rounds) == 8 and not any(event.skipped for event in held.rounds)


def test_all_but_one_silent_is_a_clear_end_and_the_model_so_far_is_kept():
    scripts = [honest(0), *(during(range(4, 99), silent, honest(i)) for i in range(1, 10))]
    held = Held(scripts, rounds=20, stops="the run ends before round 7: 1 silos still take part and 6 are needed")
    assert [event.skipped for event in held.rounds] == [False] * 3 + [True] * 3
    assert held.result.arrays["w"].numpy().any()
    assert len(held.of("sits-out")) == 9 and "bonn" in str([event.silo for event in held.of("sits-out")])


def test_a_line_on_which_nobody_answers_strikes_nobody_and_ends_the_run():
    scripts = [during(range(3, 99), silent, honest(i)) for i in range(10)]
    held = Held(scripts, rounds=20, stops="in 3 rounds in a row nobody answered")
    assert len(held.rounds) == 5 and not held.of("sits-out")


def test_with_no_strikes_a_silent_silo_is_asked_for_ever():
    held = Held(ten(s3=silent), strikes=0)
    assert all("dresden" in held.asked(k) for k in range(1, 9))


def test_a_flapping_silo_is_asked_for_ever_and_keeps_its_weight_while_it_is_away():
    flapping = during({2, 4, 6, 8}, silent, honest(3))
    held = Held(ten(s3=flapping))
    assert not held.of("sits-out")
    assert [("dresden" in event.weight_of) for event in held.rounds] == [True, False] * 4
    assert held.rounds[6].weight_of["dresden"] > 0


def test_a_slow_silo_is_a_silent_one_and_the_trial_model_has_a_deadline_of_its_own():
    slow = lambda received: Late(honest(3)(received), 200 if received.exchange == 2 else 0)  # noqa: E731
    held = Held(ten(s3=slow), trial_timeout=5.0)
    assert [event.reason for event in held.of("silent")] == ["no answer within 5 s"] * 3
    assert [event.silo for event in held.of("sits-out")] == ["dresden"]
    assert sum(held.clock.slept) < 3 * 6


def test_silos_that_measure_the_model_have_a_deadline_of_their_own_and_who_sits_out_is_not_asked():
    def deaf(received):
        return None if received.message_type == "evaluate" or received.silo == 3 else honest(received.silo)(received)

    held = Held(ten(s3=deaf, s4=deaf), rounds=5, fraction_evaluate=1.0, evaluate_timeout=2.0)
    evaluated = [r.silo for r in held.grid.received if r.message_type == "evaluate"]
    assert Counter(evaluated)[3] == 2 and Counter(evaluated)[4] == 5
    assert sum(held.clock.slept) < 3 * 31 + 5 * 3


# -- what the operator says ----------------------------------------------------------------------------------------


def test_a_pardon_lets_a_silo_back_in_from_the_next_round_on():
    back = during({1, 2, 3}, silent, honest(3))
    held = Held(ten(s3=back), between=lambda k, held: held.strategy.pardon("dresden") if k == 5 else None)
    assert ["dresden" in held.asked(k) for k in range(1, 9)] == [True] * 3 + [False] * 2 + [True] * 3
    assert [(event.round, event.silo) for event in held.of("pardoned")] == [(6, "dresden")]
    assert held.rounds[-1].weight_of["dresden"] > 0


def test_orders_in_the_run_folder_are_carried_out_before_the_next_round(tmp_path):
    def tell(k, held):
        if k == 4:
            give(newest(tmp_path), Order("pardon", "dresden"))
            give(newest(tmp_path), Order("remove", "essen"))
        if k == 5:
            with (tmp_path / "run" / ORDERS).open("a") as orders:
                orders.write('no json\n{"order": "stop", "silo": "bonn"}\n{"order": "pardon", "silo"')

    held = Held(ten(s3=during({1, 2, 3}, silent, honest(3))), between=tell, run_dir=tmp_path / "run")
    assert held.asked(4) == set(NAMES) - {"dresden"} and held.asked(5) == set(NAMES) - {"essen"}
    assert [event.reason for event in held.of("warning")] == [
        "an order that is not understood: 'no json'",
        "an order that is not understood: 'bonn'",
    ]
    assert held.strategy.attendance.orders == 4
    with pytest.raises(FileNotFoundError, match="no run goes on here"):
        newest(tmp_path)
    with pytest.raises(InputError, match="run has ended"):
        give(tmp_path / "run", Order("pardon", "bonn"))


def test_only_a_removal_makes_n_and_b_smaller():
    def tell(k, held):
        if k == 3:
            for name in ("aachen", "bonn", "berlin", "aachen"):
                held.strategy.remove(name)

    held = Held(ten(), between=tell, max_byzantine=0.2)
    assert [(event.silo, event.n, event.b) for event in held.of("removed")] == [("aachen", 9, 2), ("bonn", 8, 2)]
    assert len(held.of("warning")) == 2 and held.asked(4) == set(NAMES[2:])
    assert held.strategy.learning.simplex.n == 8
    fewer = Held(
        ten(),
        between=lambda k, held: [held.strategy.remove(n) for n in NAMES[:5]] if k == 3 else None,
        max_byzantine=0.2,
    )
    assert fewer.of("removed")[-1].b == 1 and fewer.strategy.learning.simplex.b == 1


def test_a_removal_that_b_does_not_allow_is_refused_in_a_sentence():
    held = Held(ten(), between=lambda k, held: held.strategy.remove("aachen") if k == 3 else None, max_byzantine=4)
    assert "remove aachen: max-byzantine=4 of n=9 silos" in held.of("warning")[0].reason
    assert held.asked(4) == set(NAMES)


def test_a_rule_takes_a_removal_too():
    strategy = RuleStrategy("trimmed_mean", lr=0.1, max_byzantine=0.2, startup_timeout=5.0)
    held = Held(
        ten(),
        between=lambda k, held: [held.strategy.remove(n) for n in NAMES[:5]] if k == 2 else None,
        strategy=strategy,
    )
    assert held.strategy.rule_settings.f == held.strategy.aggregate.settings.f == 1 and len(held.rounds) == 8


# -- joining late --------------------------------------------------------------------------------------------------


def test_a_silo_that_joins_late_is_told_and_n_and_b_count_it():
    grid = ScriptedGrid(ten(), NAMES)
    grid.online = set(range(8))
    held = Held(
        None, grid=grid, between=lambda k, held: grid.online.update({8, 9}) if k == 6 else None, max_byzantine=0.25
    )
    assert [(event.round, event.silo) for event in held.of("joined")] == [(7, "ilmenau"), (7, "jena")]
    assert (held.strategy.learning.simplex.n, held.strategy.learning.simplex.b) == (10, 3)


# -- min-silos -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("least", [9, 0.85])
def test_below_min_silos_no_round_begins_and_the_run_ends(least):
    held = Held(ten(s1=silent, s2=silent), min_silos=least, stops="8 silos still take part and 9 are needed")
    assert len(held.rounds) == 3 and not any(event.skipped for event in held.rounds)


# -- samples -------------------------------------------------------------------------------------------------------


def numbers(held):
    return [event.to_dict() | {"seconds": 0, "exchanges": 0} for event in held.rounds]


def test_a_fraction_of_1_is_a_run_without_it_to_the_bit():
    attacked = ten(s3=inverse(3), s4=inverse(4))
    plain, whole = Held(attacked), Held(attacked, fraction_train=1.0, seed=7)
    assert numbers(plain) == numbers(whole)
    assert plain.result.arrays["w"].data == whole.result.arrays["w"].data


def test_samples_are_the_same_whatever_the_nodes_are_called():
    one = Held(ten(), fraction_train=0.6, names=NAMES)
    other = Held(ten(), fraction_train=0.6, grid=ScriptedGrid(ten(), NAMES, node_ids=list(range(99, 89, -1))))
    again = Held(ten(), fraction_train=0.6, seed=1)
    assert numbers(one) == numbers(other) and numbers(one) != numbers(again)
    assert one.result.arrays["w"].data == other.result.arrays["w"].data
    assert all(len(event.asked) == 6 and set(event.silos) == set(event.asked) for event in one.rounds)


@pytest.mark.parametrize("settings", [{}, {"score_decay": 0.9}, {"variant": "alignment"}, {"s": 10, "t": 0.2}])
def test_half_of_the_silos_a_round_find_the_attackers_and_the_target(settings):
    scripts = [honest(i) for i in range(18)] + [inverse(18), inverse(19)]
    names = [f"clinic-{i:02}" for i in range(20)]
    held = Held(scripts, 60, names=names, fraction_train=0.5, weight_rounds=12, max_byzantine=2, **settings)
    run = Run.of(held.events)
    assert {"clinic-18", "clinic-19"} <= run.excluded
    assert not any(event.skipped for event in held.rounds)
    assert all(sum(event.weight_of.get(name, 0.0) for name in names[18:]) == 0 for event in held.rounds[12:])
    np.testing.assert_allclose(held.result.arrays["w"].numpy(), TARGET, atol=0.2)
    for event in held.rounds:  # t_k of s=10, t=0.2 is 0.2 * 10 / 5
        assert max(event.weights) <= max(0.4, 1 / np.count_nonzero(event.weights)) + 1e-9


def test_attackers_that_hide_from_every_weight_round_have_no_weight_when_weights_are_frozen():
    """A silo that no weight round has scored must not come back to a share that was never learned."""
    hiding = during(range(1, 13), silent, inverse(9))
    held = Held(ten(s8=hiding, s9=hiding), 30, fraction_train=0.8, weight_rounds=10, strikes=0)
    frozen = [event for event in held.rounds if event.phase == "frozen" and not event.skipped]
    assert frozen and any("jena" in event.silos for event in frozen)
    assert all(event.weight_of.get(name, 0.0) == 0 for event in frozen for name in ("ilmenau", "jena"))


def test_a_sample_with_too_few_usable_replies_keeps_the_model():
    held = Held(ten(s3=silent), fraction_train=0.6, strikes=0)
    assert {event.skipped for event in held.rounds if "dresden" in event.asked} == {True}
    assert {event.skipped for event in held.rounds if "dresden" not in event.asked} == {False}
    assert "5 silos gave usable replies and 6 are needed" in next(e.reason for e in held.rounds if e.skipped)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_rule_runs_on_a_sample_with_b_unchanged(rule):
    strategy = RuleStrategy(rule, lr=0.1, max_byzantine=1, fraction_train=0.7, startup_timeout=5.0)
    held = Held(ten(), strategy=strategy)
    assert not any(event.skipped for event in held.rounds)
    assert all(len(event.asked) == 7 for event in held.rounds) and strategy.rule_settings.f == 1


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        (FedLAW(max_byzantine=2, lr=0.1, fraction_train=0.5), "asks 5 in a round, and 6 are needed .* at least 0.51"),
        (FedLAW(max_byzantine=0, lr=0.1, fraction_train=0.5, variant="stable"), "variant='stable' compares the same"),
        (FedLAW(max_byzantine=0, lr=0.1, fraction_train=0.5, quorum=9), "the quorum is 9"),
        (RuleStrategy("krum", max_byzantine=2, lr=0.1, fraction_train=0.6), "7 are needed .*krum needs with f=2"),
        (RuleStrategy("bulyan", max_byzantine=1, lr=0.1, fraction_train=0.6), "7 are needed .*bulyan needs with f=1"),
    ],
    ids=["2b+2", "variant", "quorum", "krum", "bulyan"],
)
def test_a_sample_too_small_is_refused_before_anything_is_sent_with_the_number_that_would_do(strategy, said):
    strategy.startup_timeout = 5.0
    grid = ScriptedGrid(ten(), NAMES)
    with pytest.raises(InputError, match=said), stopped_clock():
        strategy.start(grid, record_of(START), 1)
    assert grid.received == []


def test_attendance_survives_a_server_that_ends_between_two_rounds():
    """As a checkpoint will store it: strikes and samples go on where they were, under other node ids."""
    scripts = ten(s3=silent, s4=during({5, 6}, silent, honest(4)))
    whole = Held(scripts, 8, fraction_train=0.8)
    states = []
    Held(scripts, 8, fraction_train=0.8, between=lambda k, held: states.append(held.strategy.attendance.state().values))
    assert json.loads(json.dumps(states[-1])) == whole.strategy.attendance.state().values
