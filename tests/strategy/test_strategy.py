"""What the strategies do when silos are silent, late, hostile or gone, and what they refuse."""

from contextlib import nullcontext

import numpy as np
import pytest
from flwr.app import ConfigRecord, MetricRecord
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping
from pulled import START, TARGET, honest, inverse, silent
from scripted import ScriptedGrid, record_of, reply, stopped_clock

from fedlaw_flwr.events.folder import RunFailed
from fedlaw_flwr.rules import RuleSettings
from fedlaw_flwr.strategy import FedLAW, RuleStrategy


def but(script, otherwise, when):
    """script, except where when(received): then otherwise(received)."""
    return lambda received: otherwise(received) if when(received) else script(received)


def junk(received):
    return reply({"w": np.full(4, np.nan, np.float32)}, 0.5, partition=received.silo)


def run(scripts, rounds=4, strategy=None, grid=None, between=None, fails="", **settings):
    """fails: what the error says where no round moves the model; there is no result then."""
    events, result = [], None
    grid = grid or ScriptedGrid(scripts)
    if strategy is None:
        strategy = FedLAW(**{"max_byzantine": 2, "lr": 0.1, "beta": 0.1, "startup_timeout": 5.0} | settings)
    strategy.on_event = lambda event: events.append(event.to_dict())

    def after(server_round, arrays):
        if between:
            between(server_round, grid)
        return MetricRecord({"w0": float(arrays["w"].numpy()[0])})

    with stopped_clock(), pytest.raises(RunFailed, match=fails) if fails else nullcontext():
        result = strategy.start(grid, record_of(START), num_rounds=rounds, timeout=30, evaluate_fn=after)
    return result, events, [event for event in events if event["kind"] == "round"], grid


def weights(event):
    return dict(zip(event["silos"], event["weights"], strict=True))


def eight(**replaced):
    scripts = [honest(i) for i in range(8)]
    for name, script in replaced.items():
        scripts[int(name[1:])] = script
    return scripts


def test_an_attacker_ends_without_weight_and_the_model_reaches_the_honest_target():
    result, _, rounds, _ = run(eight(s3=inverse(3), s6=inverse(6)), rounds=60, max_byzantine=2)
    final = weights(rounds[-1])
    assert final["silo 3"] == 0 and final["silo 6"] == 0
    np.testing.assert_allclose(result.arrays["w"].numpy(), TARGET, atol=0.15)


def test_junk_is_rejected_with_its_reason_and_the_run_goes_on():
    _, events, rounds, _ = run(eight(s5=junk))
    rejected = [event for event in events if event["kind"] == "rejected"]
    assert {event["silo"] for event in rejected} == {"silo 5"}
    assert "not finite" in rejected[0]["reason"]
    assert all(not event["skipped"] for event in rounds)
    assert "silo 5" not in weights(rounds[-1])


def test_a_round_is_skipped_where_too_few_answer_to_tell_honest_from_hostile():
    _, _, rounds, _ = run(eight(s0=silent, s1=silent, s2=silent), strikes=0, fails="none of 4 rounds moved the model")
    assert [event["skipped"] for event in rounds] == [True] * 4
    assert "5 silos gave usable replies and 6 are needed" in rounds[0]["reason"]


def test_junk_from_every_attacker_cannot_stop_the_run_because_it_identifies_them():
    _, _, rounds, _ = run(eight(s0=junk, s1=junk, s2=junk), max_byzantine=3)
    assert not any(event["skipped"] for event in rounds)


def test_a_missed_quorum_skips_the_round():
    _, events, rounds, _ = run(
        eight(s0=silent), strikes=0, quorum=8, fails="none of 4 rounds .* 7 silos gave usable replies and 8"
    )
    assert all(event["skipped"] for event in rounds)
    assert [event["metrics"]["w0"] for event in events if event["kind"] == "evaluation"] == [START["w"][0]] * 5


def test_who_answers_exchange_1_and_not_exchange_2_has_no_weight_in_that_round():
    unscored = but(inverse(4), silent, lambda r: r.exchange == 2)
    _, _, rounds, _ = run(eight(s4=unscored), strikes=0)
    for event in rounds:
        assert event["unscored"] == ["silo 4"]
        assert weights(event)["silo 4"] == 0


def test_an_unscored_silo_regains_weight_only_by_being_scored():
    once = but(honest(4), silent, lambda r: (r.round, r.exchange) == (2, 2))
    _, _, rounds, _ = run(eight(s4=once))
    assert weights(rounds[0])["silo 4"] > 0
    assert weights(rounds[1])["silo 4"] == 0
    assert weights(rounds[2])["silo 4"] > 0


def test_a_silo_unscored_in_the_last_weight_round_has_no_weight_once_weights_are_frozen():
    once = but(honest(4), silent, lambda r: (r.round, r.exchange) == (2, 2))
    _, _, rounds, _ = run(eight(s4=once), weight_rounds=2)
    assert [weights(event)["silo 4"] for event in rounds[1:]] == [0, 0, 0]


def test_an_absent_silo_keeps_its_weight_while_weights_are_frozen():
    away = but(honest(4), silent, lambda r: r.round == 3)
    _, _, rounds, _ = run(eight(s4=away), weight_rounds=2)
    before, during, after = weights(rounds[1]), weights(rounds[2]), weights(rounds[3])
    assert "silo 4" not in during and sum(during.values()) == pytest.approx(1)
    assert after == pytest.approx(before)


def test_a_late_joiner_has_no_weight_until_it_is_scored():
    grid = ScriptedGrid(eight())
    grid.online = set(range(7))
    _, _, rounds, _ = run(None, grid=grid, between=lambda k, g: g.online.add(7) if k == 2 else None, weight_rounds=2)
    assert "silo 7" not in weights(rounds[1])
    assert weights(rounds[2])["silo 7"] == 0
    assert weights(rounds[3])["silo 7"] == 0


def test_a_late_joiner_during_the_weight_rounds_is_scored_and_may_gain_weight():
    grid = ScriptedGrid(eight())
    grid.online = set(range(7))
    _, _, rounds, _ = run(None, grid=grid, between=lambda k, g: g.online.add(7) if k == 2 else None)
    assert weights(rounds[3])["silo 7"] > 0


def test_weights_are_learned_again_when_most_of_the_learned_weight_is_gone():
    def leave(k, grid):
        if k == 2:
            grid.online -= {0, 1, 2, 3, 4}

    _, _, rounds, _ = run(eight(), rounds=5, between=leave, weight_rounds=2, max_byzantine=0)
    assert rounds[2]["skipped"] and "learned again" in rounds[2]["reason"]
    assert rounds[3]["phase"] == "learning" and not rounds[3]["skipped"]


def test_with_s_start_fewer_and_fewer_silos_carry_weight_until_s_do():
    # bsum gives weight to exactly s silos at the default cap of 12/(11 s).
    _, _, rounds, _ = run(eight(), rounds=5, variant="bsum", s_start=8, weight_rounds=3, max_byzantine=2)
    assert [np.count_nonzero(event["weights"]) for event in rounds] == [8, 7, 6, 6, 6]
    assert max(rounds[0]["weights"]) == pytest.approx(12 / 88) and max(rounds[2]["weights"]) == pytest.approx(12 / 66)


def test_in_warm_rounds_weights_are_equal_and_one_exchange_is_made():
    _, _, rounds, grid = run(eight(), rounds=5, weight_rounds=4, warm_rounds=2, max_byzantine=2)
    assert [event["phase"] for event in rounds] == ["frozen", "frozen", "learning", "learning", "frozen"]
    assert [bool(grid.asked(k, 2)) for k in range(1, 6)] == [False, False, True, True, False]
    for event in rounds[:2]:
        assert not event.get("reason") and event["weights"] == pytest.approx([1 / 8] * 8)
    assert np.count_nonzero(rounds[4]["weights"]) <= 6


def test_refresh_every_learns_again_in_one_round_of_so_many():
    _, _, rounds, grid = run(eight(), rounds=9, weight_rounds=2, refresh_every=3)
    assert [event["phase"] for event in rounds] == ["learning"] * 2 + ["frozen", "frozen", "learning"] * 2 + ["frozen"]
    assert [bool(grid.asked(k, 2)) for k in range(1, 10)] == [event["phase"] == "learning" for event in rounds]


def test_updates_are_clipped_to_a_norm_no_larger_than_the_largest_honest_one():
    def shout(received):
        return reply({"w": received.arrays["w"] + 1e6}, 0.5, partition=2)

    _, _, rounds, _ = run(eight(s2=shout), rounds=1)
    honest_norms = [n for silo, n in zip(rounds[0]["silos"], rounds[0]["norms"], strict=True) if silo != "silo 2"]
    assert rounds[0]["clip"] <= max(honest_norms)


def test_a_loss_forged_to_zero_is_raised_to_the_fence_and_the_silo_stays():
    def forged(received):
        arrays = None if received.reply == "loss" else {"w": received.arrays["w"] + np.float32(0.01)}
        return reply(arrays, 0.0, partition=1)

    _, _, rounds, _ = run([*eight(s1=forged), honest(8)], rounds=1)
    assert rounds[0]["losses-raised"] == ["silo 1"]
    assert "silo 1" in rounds[0]["scored"]


def test_claiming_to_be_huge_buys_nothing():
    def huge(received):
        content = inverse(3)(received)
        content["metrics"]["num-examples"] = 10**12
        return content

    modest, boastful = run(eight(s3=inverse(3))), run(eight(s3=huge))
    assert modest[2][-1]["weights"] == boastful[2][-1]["weights"]


def test_a_claimed_partition_of_another_changes_only_the_order_of_rows():
    _, _, rounds, _ = run(eight(s5=lambda r: honest(2)(r)))
    assert not any(event["skipped"] for event in rounds)
    assert len(rounds[-1]["silos"]) == 8


def test_bytes_are_counted_per_exchange_both_ways():
    rounds = run(eight(), rounds=1)[2]
    first, second = rounds[0]["exchanges"]
    assert rounds[0]["bytes-up"] == first["bytes-up"] + second["bytes-up"]
    array = len(record_of(START)["w"].data)
    assert first["bytes-down"] > 8 * array and first["bytes-up"] > 8 * array


def test_a_silo_that_ignores_the_hint_and_sends_its_arrays_is_still_right():
    def chatty(i):
        def answer(received):
            theta = received.arrays["w"]
            return reply({"w": theta - 0.1 * (theta - TARGET)}, 0.2, partition=i)

        return answer

    _, events, rounds, _ = run([chatty(i) for i in range(8)], max_byzantine=2, s=6, t=1 / 6)
    assert not [event for event in events if event["kind"] == "rejected"]
    assert not any(event["skipped"] for event in rounds)


def test_buffers_are_the_median_of_the_weighted_and_integers_stay_the_servers():
    start = {
        "w": np.zeros(4, np.float32),
        "bn.running_var": np.ones(2, np.float32),
        "bn.num_batches_tracked": np.int64(0),
    }

    def with_buffers(i, variance):
        def answer(received):
            w = received.arrays["w"]
            arrays = {
                "w": w - 0.1 * (w - TARGET),
                "bn.running_var": np.full(2, variance, np.float32),
                "bn.num_batches_tracked": np.int64(99),
            }
            return reply(arrays, 0.2, partition=i)

        return answer

    values = [1.0, 2.0, 3.0, 4.0, 5.0, -1e9]
    strategy = FedLAW(max_byzantine=0, lr=0.1, startup_timeout=5.0, weight_rounds=0)
    with stopped_clock():
        grid = ScriptedGrid([with_buffers(i, v) for i, v in enumerate(values)])
        arrays = strategy.start(grid, record_of(start), num_rounds=1, timeout=30).arrays
    np.testing.assert_allclose(arrays["bn.running_var"].numpy(), 2.5)
    assert arrays["bn.num_batches_tracked"].numpy() == 0


def test_flowers_result_has_the_model_and_every_rounds_metrics():
    result, _, _, _ = run(eight(), rounds=3)
    assert sorted(result.evaluate_metrics_serverapp) == [0, 1, 2, 3]
    assert sorted(result.train_metrics_clientapp) == [1, 2, 3]
    assert result.train_metrics_clientapp[1]["exchanges"] == 2


def test_evaluation_on_silos_takes_medians_so_that_one_liar_moves_nothing():
    def script(i):
        def answer(received):
            if received.message_type == "evaluate":
                return reply(None, 1e9 if i == 0 else 0.5, partition=i)
            return honest(i)(received)

        return answer

    result, *_ = run([script(i) for i in range(8)], rounds=1, fraction_evaluate=1.0)
    assert result.evaluate_metrics_clientapp[1]["loss"] == 0.5


class TestRuleStrategy:
    """The other rules over the same gate."""

    def test_fedavg_weighs_silos_alike(self):
        result, _, rounds, grid = run(eight(), 1, RuleStrategy("fedavg", lr=0.1, startup_timeout=5.0))
        expected = np.mean([0.1 * (TARGET + 0.05 * np.cos(np.arange(4) * (i + 1))) for i in range(8)], axis=0)
        np.testing.assert_allclose(result.arrays["w"].numpy(), expected, rtol=1e-5)
        assert rounds[0]["weights"] == pytest.approx([1 / 8] * 8)
        assert grid.asked(1, 2) == {}

    def test_a_selecting_rule_says_whom_it_kept(self):
        strategy = RuleStrategy("multi_krum", lr=0.1, max_byzantine=1, startup_timeout=5.0)
        _, _, rounds, _ = run(eight(s3=inverse(3)), 1, strategy)
        assert "silo 3" not in rounds[0]["kept"] and len(rounds[0]["kept"]) == 7

    def test_the_round_is_skipped_while_the_rules_condition_fails(self):
        strategy = RuleStrategy("krum", lr=0.1, max_byzantine=2, startup_timeout=5.0)
        _, _, rounds, _ = run(eight(s0=silent, s1=silent), 1, strategy, fails="none of 1 rounds .* krum")
        assert rounds[0]["skipped"] and "krum" in rounds[0]["reason"]

    def test_a_rule_that_cannot_hold_is_refused_before_anything_is_sent(self):
        grid = ScriptedGrid(eight())
        with pytest.raises(ValueError, match="bulyan"):
            run(None, 1, RuleStrategy("bulyan", lr=0.1, max_byzantine=2, startup_timeout=5.0), grid)
        assert grid.received == []

    def test_thresholds_are_in_units_of_g(self):
        settings = RuleSettings(cclip_tau=0.5)
        result, *_ = run(
            eight(), 1, RuleStrategy("cclip", lr=0.1, max_byzantine=1, rule_settings=settings, startup_timeout=5.0)
        )
        # Every delta is longer than tau * alpha, so their clipped mean is at most tau * alpha long.
        assert np.linalg.norm(result.arrays["w"].numpy()) == pytest.approx(0.5 * 0.1, rel=1e-2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"fraction_train": 0.0}, "fraction_train=0.0"),
        ({"fraction_train": 1.5}, "fraction_train=1.5"),
        ({"min_silos": -1}, "min_silos=-1"),
        ({"strikes": -1}, "strikes=-1"),
        ({"lr": -1.0}, "lr=-1.0"),
        ({"beta": 0.0}, "beta=0.0"),
        ({"beta": float("inf")}, "beta=inf"),
        ({"lr": float("inf")}, "lr=inf"),
        ({"max_byzantine": True}, "max_byzantine=True"),
        ({"quorum": -1}, "quorum=-1"),
        ({"weight_rounds": -5}, "weight_rounds=-5"),
        ({"variant": "sum"}, "variant='sum'"),
        ({"clip": "hard"}, "clip='hard'"),
        ({"clip": -2.0}, "clip=-2.0"),
        ({"fraction_evaluate": 2.0}, "fraction_evaluate=2.0"),
        ({"warm_rounds": 3, "weight_rounds": 3}, "warm_rounds=3: of weight_rounds=3 these are the first"),
        ({"s_start": 8, "weight_rounds": -1}, "s_start=8, weight_rounds=-1"),
    ],
)
def test_a_wrong_setting_is_refused_by_name_and_value(settings, said):
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        FedLAW(**{"lr": 0.1} | settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_byzantine": 4, "num_silos": 8}, "max-byzantine=4 of n=8"),
        ({"s": 3, "t": 0.2}, r"s\*t = 0.6 < 1"),
        ({"s": 9}, "s=9"),
        ({"s_start": 5}, "s_start=5: with n=8 silos and s=6, allowed are 6 to 8"),
    ],
)
def test_what_cannot_hold_for_this_federation_is_refused_before_anything_is_sent(settings, said):
    grid = ScriptedGrid(eight())
    with pytest.raises(ValueError, match=said):
        run(None, grid=grid, **settings)
    assert grid.received == []


def test_two_different_steps_are_refused():
    with pytest.raises(ValueError, match="must be the same"), stopped_clock():
        FedLAW(lr=0.1).start(ScriptedGrid(eight()), record_of(START), train_config=ConfigRecord({"lr": 0.2}))


def test_the_step_may_come_from_the_train_config_alone():
    grid = ScriptedGrid(eight())
    with stopped_clock():
        strategy = FedLAW(max_byzantine=2)
        strategy.start(grid, record_of(START), 1, 30, ConfigRecord({"lr": 0.1, "momentum": 0.0}))
    assert grid.received[0].config["lr"] == 0.1 and grid.received[0].config["momentum"] == 0.0


def test_flowers_privacy_wrapper_is_refused_with_the_reason():
    wrapped = DifferentialPrivacyServerSideFixedClipping(
        FedLAW(lr=0.1), noise_multiplier=0.1, clipping_norm=1.0, num_sampled_clients=8
    )
    with pytest.raises(RuntimeError, match=r"one exchange of two"), stopped_clock():
        wrapped.start(ScriptedGrid(eight()), record_of(START), num_rounds=1)


def test_silos_that_do_not_come_online_are_counted_in_the_error():
    grid = ScriptedGrid(eight())
    grid.online = {0, 1, 2}
    with pytest.raises(TimeoutError, match="3 silos are online after 5 s and 8 are needed"):
        run(None, grid=grid, num_silos=8)


def test_a_silo_that_has_all_weight_and_is_never_scored_loses_it_and_the_run_goes_on():
    def greedy(received):
        if received.exchange == 2 and received.round > 1:
            return None
        arrays = None if received.reply == "loss" else {"w": received.arrays["w"] + np.float32(0.1)}
        return reply(arrays, 0.0, partition=3)

    _, _, rounds, _ = run(eight(s3=greedy), max_byzantine=1, t=1.0, beta=5.0, loss_filter=False)
    assert weights(rounds[0])["silo 3"] == 1
    assert rounds[1]["skipped"] and rounds[1]["unscored"] == ["silo 3"]
    assert not rounds[2]["skipped"] and weights(rounds[2])["silo 3"] == 0


@pytest.mark.parametrize("clip", ["rank", "none"])
def test_losses_and_updates_of_any_size_cannot_end_the_run(clip):
    def vast(received):
        arrays = None if received.reply == "loss" else {"w": np.full(4, 3e38, np.float32)}
        return reply(arrays, 1e30, partition=5)

    fails = "none of 4 rounds moved the model" if clip == "none" else ""
    result, events, rounds, _ = run(eight(s5=vast), beta=2.0, clip=clip, fails=fails)
    measured = [event["metrics"]["w0"] for event in events if event["kind"] == "evaluation"]
    assert len(rounds) == 4 and np.isfinite(measured).all()
    if clip == "rank":
        assert np.isfinite(result.arrays["w"].numpy()).all()
        assert weights(rounds[-1])["silo 5"] == 0


@pytest.mark.parametrize("clip", ["rank", "none"])
def test_no_bit_of_a_score_depends_on_which_reply_comes_first(clip):
    found = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        late = dict(enumerate(rng.permutation(8)))
        grid = ScriptedGrid(eight(s3=inverse(3)), late=lambda r, late=late: int(late[r.silo]))
        found.append([event["scores"] for event in run(None, grid=grid, clip=clip)[2]])
    assert all(scores == found[0] for scores in found)


def test_a_strategy_can_be_started_again_on_another_model():
    strategy = FedLAW(max_byzantine=1, lr=0.1, startup_timeout=5.0)
    grid = ScriptedGrid(
        [lambda r, i=i: reply({k: v * 0.9 for k, v in r.arrays.items()}, 1.0, partition=i) for i in range(6)]
    )
    with stopped_clock():
        strategy.start(grid, record_of({"w": np.ones(4, np.float32)}), num_rounds=1, timeout=30)
        wide = strategy.start(grid, record_of({"w": np.full(4, 1 + 1e-12)}), num_rounds=1, timeout=30)
    np.testing.assert_allclose(wide.arrays["w"].numpy(), 0.9 * (1 + 1e-12), rtol=1e-15)


@pytest.mark.parametrize("name", ["num-examples", "num_examples"])
def test_the_medians_of_an_evaluation_hold_no_number_of_examples(name):
    def script(i):
        def answer(received):
            if received.message_type == "evaluate":
                content = reply(None, 0.5, partition=i)
                content["metrics"] = MetricRecord({"loss": 0.5, "auc": 0.9, name: 10 * i})
                return content
            return honest(i)(received)

        return answer

    result, events, *_ = run([script(i) for i in range(8)], rounds=1, fraction_evaluate=1.0)
    assert dict(result.evaluate_metrics_clientapp[1]) == {"loss": 0.5, "auc": 0.9}
    (told,) = [event for event in events if event["kind"] == "silo-evaluation"]
    assert set(told["metrics"]) == set(told["by-silo"]) == {"loss", "auc"}


def test_a_junk_evaluation_costs_only_itself():
    def script(i):
        def answer(received):
            if received.message_type == "evaluate":
                return ValueError("bytes that cannot be read") if i == 0 else reply(None, 0.5, partition=i)
            return honest(i)(received)

        return answer

    result, *_ = run([script(i) for i in range(8)], rounds=1, fraction_evaluate=1.0)
    assert result.evaluate_metrics_clientapp[1]["loss"] == 0.5


def test_a_metric_one_silo_invents_is_not_the_federations():
    def script(i):
        return lambda r: (
            reply(None, 0.5, loss_key="x" if i == 0 else "loss", partition=i)
            if r.message_type == "evaluate"
            else honest(i)(r)
        )

    result, *_ = run([script(i) for i in range(8)], rounds=1, fraction_evaluate=1.0)
    assert "x" not in result.evaluate_metrics_clientapp[1]


def test_one_silo_with_twenty_metric_records_has_no_say():
    def many(received):
        content = reply(None, 9.0, partition=0)
        for number in range(20):
            content[f"more {number}"] = MetricRecord({"loss": 9.0})
        return content

    def script(i):
        def answer(received):
            if received.message_type != "evaluate":
                return honest(i)(received)
            return many(received) if i == 0 else reply(None, 0.5, partition=i)

        return answer

    result, *_ = run([script(i) for i in range(8)], rounds=1, fraction_evaluate=1.0)
    assert result.evaluate_metrics_clientapp[1]["loss"] == 0.5


def test_a_fraction_of_byzantine_silos_is_of_all_who_joined():
    grid = ScriptedGrid([honest(i) for i in range(12)])
    grid.online = set(range(6))
    strategy = FedLAW(max_byzantine=0.25, lr=0.1, startup_timeout=5.0)
    run(None, grid=grid, strategy=strategy, between=lambda k, g: g.online.update(range(12)) if k == 1 else None)
    assert (strategy.learning.simplex.n, strategy.learning.simplex.b) == (12, 3)


def test_with_a_fraction_enough_silos_are_waited_for_to_tell_honest_from_hostile():
    grid = ScriptedGrid([honest(i) for i in range(3)])
    with pytest.raises(TimeoutError, match="3 silos are online after 5 s and 4 are needed"):
        run(None, grid=grid, max_byzantine=0.2)


# -- peer review ---------------------------------------------------------------------------------------------------


def reviewing(i, script=None, sign=1.0):
    """The silo's answer with a review of the received model: the gradient of its own loss, or the reverse of it."""
    centre = TARGET + 0.05 * np.cos(np.arange(4) * (i + 1)).astype(np.float32)

    def answer(received):
        content = (script or honest(i))(received)
        if received.reply == "review":
            theta = received.arrays["w"]
            content["review"] = record_of({"w": sign * (theta - centre)})
            content["metrics"]["balanced-loss"] = float(np.sum((theta - centre) ** 2)) + 0.01
        return content

    return answer


def reviewers(**replaced):
    scripts = [reviewing(i) for i in range(8)]
    for name, script in replaced.items():
        scripts[int(name[1:])] = script
    return scripts


REVIEW = {"variant": "review", "max_byzantine": 2}


def test_peer_review_takes_one_exchange_a_round_and_finds_the_attackers_in_the_first():
    hostile = {"s3": reviewing(3, inverse(3), -1.0), "s6": reviewing(6, inverse(6), -1.0)}
    result, _, rounds, grid = run(reviewers(**hostile), rounds=30, weight_rounds=3, **REVIEW)
    assert {message.exchange for message in grid.received} == {1}
    assert [set(grid.asked(number, 1).values()) for number in (1, 3, 4)] == [{"review"}, {"review"}, {"update"}]
    for event in (rounds[0], rounds[-1]):
        assert [name for name, weight in weights(event).items() if not weight] == ["silo 3", "silo 6"]
    assert rounds[0]["vouching"] == [f"silo {i}" for i in (0, 1, 2, 4, 5, 7)]
    assert rounds[0]["support"][3][0] < 0 < rounds[0]["support"][1][0] and rounds[0]["support"][1][1] is None
    np.testing.assert_allclose(result.arrays["w"].numpy(), TARGET, atol=0.2)


def test_a_silo_without_a_review_is_named_keeps_its_weight_and_has_no_voice():
    _, events, rounds, _ = run(reviewers(s5=honest(5)), rounds=2, weight_rounds=1, **REVIEW)
    (told,) = [event for event in events if event["kind"] == "no-review"]
    assert told["silo"] == "silo 5" and "sends no review" in told["reason"]
    assert weights(rounds[0])["silo 5"] > 0 and "silo 5" not in rounds[0]["reviewers"]
    assert [row[5] for row in rounds[0]["support"]] == [None] * 8


def test_withheld_reviews_hold_the_model_and_never_select_a_weaker_rule():
    withheld = {f"s{i}": but(reviewing(i), honest(i), lambda received: received.round < 3) for i in (0, 1, 2)}
    _, _, rounds, grid = run(reviewers(**withheld), rounds=3, weight_rounds=1, **REVIEW)
    assert [event["skipped"] for event in rounds] == [True, True, False]
    assert "5 of 8 silos sent a valid review and 6 are needed" in rounds[0]["reason"]
    for number in (1, 2, 3):  # a round that learned nothing is made up for
        assert set(grid.asked(number, 1).values()) == {"review"}
    models = [message.arrays["w"] for message in grid.received if message.silo == 4]
    np.testing.assert_array_equal(models[0], models[2])


def test_a_junk_review_costs_a_silo_its_voice_alone():
    def junk_review(received):
        content = honest(4)(received)
        content["review"] = record_of({"w": np.full(4, np.nan, np.float32)})
        content["metrics"]["balanced-loss"] = 1.0
        return content

    _, events, rounds, _ = run(reviewers(s4=junk_review), rounds=1, **REVIEW)
    (told,) = [event for event in events if event["kind"] == "no-review"]
    assert told["reason"] == "review: array 'w' has a value that is not finite"
    assert weights(rounds[0])["silo 4"] > 0


def test_two_sets_of_arrays_are_rejected_where_no_review_was_asked_for():
    unasked = but(reviewing(4), lambda received: reviewing(4)(received), lambda received: False)

    def always(received):
        content = unasked(received)
        content["review"] = record_of({"w": np.ones(4, np.float32)})
        return content

    _, events, _, _ = run(eight(s4=always), rounds=1)
    assert any("2 ArrayRecords" in event["reason"] for event in events if event["kind"] == "rejected")


@pytest.mark.parametrize("towards, out", [(1.0, {4, 5, 6, 7}), (-1.0, {0, 1, 2, 3})])
def test_the_servers_own_review_decides_between_two_halves_that_contradict_each_other(towards, out):
    hostile = {f"s{i}": reviewing(i, inverse(i), -1.0) for i in (4, 5, 6, 7)}
    _, _, rounds, _ = run(
        reviewers(**hostile),
        rounds=2,
        max_byzantine=3,
        root_review=lambda arrays: {"w": towards * (arrays["w"].numpy() - TARGET)},
        **{name: value for name, value in REVIEW.items() if name != "max_byzantine"},
    )
    without = {silo for silo, weight in weights(rounds[0]).items() if weight == 0}
    assert without and without < {f"silo {i}" for i in out}


def test_names_of_trusted_silos_are_their_registered_names():
    names = [f"bank-{i}" for i in range(8)]
    hostile = {f"s{i}": reviewing(i, inverse(i), -1.0) for i in (3, 6)}
    grid = ScriptedGrid(reviewers(**hostile), names)
    _, _, rounds, _ = run(None, rounds=1, grid=grid, trusted="bank-0,bank-1", **REVIEW)
    assert weights(rounds[0])["bank-3"] == weights(rounds[0])["bank-6"] == 0
