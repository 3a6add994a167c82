"""The arguments that Flower's FedAvg has, the hooks, and a run whose clients name no step."""

import json

import numpy as np
import pytest
from flwr.app import ConfigRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords
from scripted import ScriptedGrid, record_of, reply, stopped_clock

from fedlaw_flwr.events.folder import RunFailed, read_events
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import Evaluated, EvaluatedBySilos, NoReview, RoundEnded, RunEnded, RunStarted, Warned
from fedlaw_flwr.strategy import FedLAW, RuleStrategy

TARGET = np.array([1.0, -1.0, 2.0, 0.5], np.float32)
START = {"w": np.zeros(4, np.float32)}


def silo(i, sign=1.0, step=0.1, **metrics):
    def answer(received):
        theta = received.arrays["w"]
        loss = float(np.sum((theta - TARGET) ** 2))
        if received.message_type == "evaluate":
            content = reply(None, loss, partition=i)
        else:
            content = reply({"w": theta - sign * step * (theta - TARGET)}, loss, partition=i)
        content["metrics"] = MetricRecord({"loss": loss, "num-examples": 10 * (i + 1), **metrics})
        return content

    return answer


def eight(*hostile, **more):
    return [silo(i, -1.0 if i in hostile else 1.0, **more) for i in range(8)]


def start(strategy=None, scripts=None, rounds=3, config=None, evaluate_fn=None, **settings):
    events = []
    if strategy is None:
        strategy = FedLAW(**{"max_byzantine": 2, "lr": 0.1, "beta": 0.1} | settings)
    strategy.on_event, strategy.startup_timeout = events.append, 5.0
    grid = ScriptedGrid(scripts or eight())
    with stopped_clock():
        result = strategy.start(
            grid, record_of(START), rounds, 30, ConfigRecord(config) if config else None, evaluate_fn=evaluate_fn
        )
    return result, events, grid, strategy


def of(events, kind):
    return [event for event in events if isinstance(event, kind)]


# -- evaluation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"fraction_evaluate": 0.5}, 4),
        ({"fraction_evaluate": 0.9}, 7),  # as Flower rounds: down
        ({"fraction_evaluate": 0.1}, 2),
        ({"fraction_evaluate": 0.1, "min_evaluate_nodes": 5}, 5),
        ({"fraction_evaluate": 1.0, "min_evaluate_nodes": 50}, 8),
        ({"fraction_evaluate": 0.0, "min_evaluate_nodes": 5}, 0),
    ],
)
def test_as_many_silos_measure_each_model_as_flower_would_ask(settings, count):
    _, _, grid, _ = start(**settings)
    asked = [sorted(r.silo for r in grid.received if r.message_type == "evaluate" and r.round == k) for k in (1, 2, 3)]
    assert [len(one) for one in asked] == [count] * 3


def test_another_part_of_the_silos_measures_from_round_to_round_and_the_same_in_every_run():
    def asked():
        _, _, grid, _ = start(fraction_evaluate=0.5, rounds=6)
        return [[r.silo for r in grid.received if r.message_type == "evaluate" and r.round == k] for k in range(1, 7)]

    first = asked()
    assert first == asked() and len({tuple(one) for one in first}) > 1


@pytest.mark.parametrize("name", ["min_available_nodes", "min_train_nodes"])
def test_a_run_waits_for_as_many_silos_as_it_is_told(name):
    with pytest.raises(TimeoutError, match="8 silos are online after 5 s and 9 are needed"):
        start(**{name: 9})


# -- metrics -------------------------------------------------------------------------------------------------------


def test_flowers_own_aggregation_of_train_metrics_gets_the_silos_with_weight():
    result, events, _, _ = start(
        scripts=eight(6, 7, accuracy=0.5), rounds=20, train_metrics_aggr_fn=aggregate_metricrecords
    )
    last = of(events, RoundEnded)[-1]
    assert last.weight_of["silo 6"] == last.weight_of["silo 7"] == 0
    assert result.train_metrics_clientapp[20]["accuracy"] == pytest.approx(0.5)
    seen = []
    start(
        scripts=eight(6, 7),
        rounds=20,
        train_metrics_aggr_fn=lambda records, key: seen.append((records, key)) or MetricRecord(),
        weighted_by_key="n",
    )
    records, key = seen[-1]
    assert key == "n" and {record["metrics"]["num-examples"] for record in records} <= {10, 20, 30, 40, 50, 60}
    assert all("arrays" not in record for record in records)


def test_a_silo_with_other_metrics_does_not_break_flowers_aggregation():
    scripts = [*eight()[:7], silo(7, extra=1.0)]
    result, events, _, _ = start(scripts=scripts, train_metrics_aggr_fn=aggregate_metricrecords)
    assert "extra" not in result.train_metrics_clientapp[3] and not of(events, Warned)


def test_an_aggregation_that_fails_is_a_warning_and_not_the_end():
    def broken(records, key):
        raise KeyError("f1")

    result, events, _, _ = start(train_metrics_aggr_fn=broken, evaluate_metrics_aggr_fn=broken, fraction_evaluate=1.0)
    assert {event.reason for event in of(events, Warned)} == {
        "train_metrics_aggr_fn failed: KeyError: 'f1'",
        "evaluate_metrics_aggr_fn failed: KeyError: 'f1'",
    }
    assert set(result.evaluate_metrics_clientapp[3]) == {"loss"}  # the medians in their place


def test_a_persons_own_aggregation_of_evaluations_is_in_flowers_result_and_the_medians_in_the_events():
    result, events, _, _ = start(
        fraction_evaluate=1.0, evaluate_metrics_aggr_fn=lambda records, key: MetricRecord({"silos": len(records)})
    )
    assert dict(result.evaluate_metrics_clientapp[1]) == {"silos": 8}
    assert set(of(events, EvaluatedBySilos)[0].metrics) == {"loss"}


# -- per round -----------------------------------------------------------------------------------------------------


def test_configure_changes_what_silos_are_sent_in_both_exchanges_and_alpha_with_it():
    def halve(server_round, config):
        config["lr"] = 0.1 * 0.5 ** (server_round - 1)

    _, events, grid, _ = start(configure=halve, config={"lr": 0.1, "epochs": 3}, lr=None)
    sent = {(r.round, r.exchange): r.config["lr"] for r in grid.received}
    assert sent == {(k, e): 0.1 * 0.5 ** (k - 1) for k in (1, 2, 3) for e in (1, 2)}
    assert all(r.config["epochs"] == 3 for r in grid.received)
    first, second, _ = of(events, RoundEnded)  # the updates shrink as 0.9^k, norms in units of g double besides
    assert second.norms[0] / first.norms[0] == pytest.approx(2 * 0.9, rel=1e-5)


def test_a_config_that_is_returned_takes_the_place_of_the_other():
    _, _, grid, _ = start(configure=lambda server_round, config: {"lr": 0.2, "round": server_round}, config={"x": 1})
    assert {(r.config["lr"], r.config["round"]) for r in grid.received} == {(0.2, 1), (0.2, 2), (0.2, 3)}
    assert not any("x" in r.config for r in grid.received)


@pytest.mark.parametrize("lr", [0.0, -1.0, float("nan"), "fast"])
def test_a_step_that_is_none_is_refused_by_round_and_value(lr):
    with pytest.raises(ValueError, match=r"configure: lr=.* in round 1"):
        start(configure=lambda server_round, config: {"lr": lr})


def test_callbacks_get_the_model_the_event_and_the_metrics_of_each_round():
    seen, again = [], []
    result, events, *_ = start(
        on_round_end=[seen.append, again.append],
        evaluate_fn=lambda server_round, arrays: MetricRecord({"accuracy": server_round / 10}),
        fraction_evaluate=1.0,
    )
    assert [done.round for done in seen] == [1, 2, 3] and seen == again
    assert [done.metrics["accuracy"] for done in seen] == [0.1, 0.2, 0.3]
    assert [done.event for done in seen] == of(events, RoundEnded)
    np.testing.assert_array_equal(seen[-1].arrays["w"].numpy(), result.arrays["w"].numpy())
    assert "loss" in seen[0].silo_metrics and seen[0].train_metrics["exchanges"] == 2


def test_a_callback_can_end_the_run_early():
    def stop_early(done):
        if done.round == 2:
            done.stop("good enough")

    result, events, *_ = start(on_round_end=stop_early, rounds=9)
    assert len(of(events, RoundEnded)) == 2 and sorted(result.train_metrics_clientapp) == [1, 2]


# -- the account ---------------------------------------------------------------------------------------------------


def test_a_run_folder_has_events_settings_model_and_report_and_a_last_line_says_where(tmp_path, caplog):
    caplog.set_level("INFO", logger="flwr")
    start(scripts=eight(6, 7), rounds=20, run_dir=tmp_path / "run")
    run = Run.read(tmp_path / "run")
    assert len(run.rounds) == 20 and run.end.status == "completed" and run.settings["num-silos"] == 8
    assert run.excluded == {"silo 6", "silo 7"}
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["num-silos"] == 8
    from safetensors.numpy import load_file

    np.testing.assert_allclose(load_file(tmp_path / "run" / "model.safetensors")["w"], TARGET, atol=0.3)
    report = tmp_path / "run" / "report.html"
    assert "silo 6" in report.read_text(encoding="utf-8")
    assert caplog.messages[-1] == f"No weight at the end: silo 6, silo 7. Report: {report}"


def test_a_folder_that_holds_a_run_is_refused_before_anything_is_sent(tmp_path):
    start(run_dir=tmp_path, rounds=1)
    grid = ScriptedGrid(eight())
    with pytest.raises(FileExistsError, match="already holds a run"):
        FedLAW(lr=0.1, run_dir=tmp_path).start(grid, record_of(START))
    assert grid.received == []


def test_a_run_that_fails_says_so_in_its_folder(tmp_path):
    with pytest.raises(RunFailed):
        start(scripts=[lambda received: reply({}, 1.0)] * 8, run_dir=tmp_path)
    *_, last = read_events(tmp_path)
    assert isinstance(last, RunEnded) and last.status == "failed" and "round 1" in last.reason


def test_who_watches_the_events_is_not_told_of_the_folders_own(tmp_path):
    _, events, *_ = start(run_dir=tmp_path, rounds=1)
    assert not of(events, RunStarted) and of(list(read_events(tmp_path)), RunStarted)


def test_the_verdict_is_a_table_and_the_result_shows_it_in_a_notebook():
    def junk(received):
        return reply({"w": np.full(4, np.nan, np.float32)}, 1.0, partition=5)

    scripts = eight(7)
    scripts[5], scripts[6] = junk, lambda received: None if received.round == 20 else silo(6)(received)
    result, _, _, strategy = start(
        scripts=scripts, rounds=20, strikes=0, evaluate_fn=lambda k, arrays: MetricRecord({"accuracy": 0.25})
    )
    table = strategy.verdict()
    assert list(table) == list(result.verdict) and len(table) == 8
    by_name = {row.silo: row for row in table}
    assert by_name["silo 0"].outcome == "weight" and by_name["silo 0"].weight > 0
    assert (by_name["silo 5"].outcome, by_name["silo 5"].rejected) == ("rejected", 20)
    assert "not finite" in by_name["silo 5"].reason
    assert (by_name["silo 6"].outcome, by_name["silo 6"].silent) == ("absent", 1)
    assert by_name["silo 7"].outcome == "no weight" and by_name["silo 7"].excluded_since is not None
    lines = str(table).splitlines()
    assert lines[0].split() == ["silo", "weight", "outcome", "rejected", "silent", "reason"] and len(lines) == 9
    shown = result._repr_html_()
    assert "accuracy 0.25" in shown and shown.count("<tr>") == 9 and "silo 7" in shown


def test_names_of_silos_are_escaped_in_a_notebook():
    grid = ScriptedGrid(eight(), names=[f"<b>{i}" for i in range(8)])
    strategy = FedLAW(max_byzantine=2, lr=0.1, startup_timeout=5.0)
    with stopped_clock():
        shown = strategy.start(grid, record_of(START), 1, 30)._repr_html_()
    assert "<b>" not in shown and "&lt;b&gt;0" in shown


# -- no step named ---------------------------------------------------------------------------------------------------


def scaled(i, length):
    """Clients whose parameters are in other units: model, update and all are `length` times as long."""

    def answer(received):
        theta = received.arrays["w"] / np.float32(length)
        own = TARGET + 0.1 * np.cos(np.arange(4) * (i + 1)).astype(np.float32)
        moved = theta - (-1 if i > 5 else 1) * np.float32(0.1) * (theta - own)
        return reply({"w": moved * np.float32(length)}, float(np.sum((theta - own) ** 2)), partition=i)

    return answer


def test_without_a_step_no_weight_depends_on_how_long_the_updates_are():
    found = []
    for length in (1.0, 1e-3, 30.0):
        _, events, grid, _ = start(scripts=[scaled(i, length) for i in range(8)], lr=None, rounds=6)
        assert not any("lr" in r.config for r in grid.received)
        last = of(events, RoundEnded)[-1]
        assert last.weight_of["silo 6"] == last.weight_of["silo 7"] == 0
        found.append([event.scores for event in of(events, RoundEnded)])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-3, atol=1e-4)


def test_liars_of_any_length_do_not_move_the_scale():
    def vast(i):
        return lambda received: reply({"w": received.arrays["w"] + np.float32(1e20)}, 1.0, partition=i)

    scripts = [*eight()[:6], vast(6), vast(7)]
    strategy = FedLAW(max_byzantine=2, beta=0.1)
    start(strategy, scripts, rounds=1)
    honest = 0.1 * np.linalg.norm(TARGET)
    from fedlaw_flwr.core.step import ALIGNMENT

    assert strategy.learning.alpha == pytest.approx(0.1 * honest**2 / ALIGNMENT, rel=1e-5)


def test_clients_that_do_not_move_at_first_get_their_scale_when_they_do():
    still = [lambda r, i=i: silo(i, step=0.0 if r.round == 1 else 0.1)(r) for i in range(8)]
    strategy = FedLAW(max_byzantine=2, beta=0.1)
    _, events, *_ = start(strategy, still, rounds=3)
    assert strategy.learning.alpha is not None and len(of(events, RoundEnded)) == 3


def test_a_rule_still_asks_for_the_step():
    with pytest.raises(ValueError, match=r"lr is needed.*give it to the strategy \(lr=0.1\) or .* in train_config"):
        start(RuleStrategy("cclip", max_byzantine=2))


def test_a_strategy_without_a_step_can_be_started_again_with_one():
    strategy = FedLAW(max_byzantine=2)
    start(strategy, config={"lr": 0.1})
    assert strategy.learning.alpha == 0.1 and strategy.lr is None
    start(strategy, config={"lr": 0.2})
    assert strategy.learning.alpha == 0.2


def test_a_record_without_metrics_is_nobodys_metrics():
    from fedlaw_flwr.strategy.metrics import agreeing

    assert agreeing([RecordDict(), RecordDict({"a": MetricRecord(), "b": MetricRecord()})]) == []


# -- what silos say of the model -----------------------------------------------------------------------------------


def telling(i, value=0.8, loss=None, classes=None):
    """An honest silo that reports this accuracy, and this loss of the model it evaluates."""
    honest = silo(i, accuracy=value)

    def answer(received):
        content = honest(received)
        if received.message_type == "evaluate":
            told = dict(content["metrics"]) | ({} if loss is None else {"loss": loss})
            content["metrics"] = MetricRecord(told | ({} if classes is None else {"accuracy-by-class": classes}))
        return content

    return answer


def evaluated(scripts, rounds=3):
    _, events, *_ = start(scripts=scripts, rounds=rounds, fraction_evaluate=1.0)
    return of(events, EvaluatedBySilos)[-1], of(events, RoundEnded)[-1]


@pytest.mark.parametrize("lie", [0.0, 1.0, 1e9, -1e9])
def test_a_silo_that_lies_about_its_accuracy_moves_what_is_shown_by_no_more_than_its_weight(lie):
    honest, ended = evaluated([telling(i) for i in range(8)])
    lied, _ = evaluated([telling(i, lie if i == 3 else 0.8) for i in range(8)])
    assert honest.metrics["accuracy"] == pytest.approx(0.8)
    moved = abs(lied.metrics["accuracy"] - honest.metrics["accuracy"])
    assert moved <= ended.weight_of["silo 3"] + 1e-9
    assert moved > 0.01 or not 0 <= lie <= 1  # within [0, 1] it counts for what its weight is
    assert lied.weights == ended.weight_of and lied.by_silo["accuracy"]["silo 3"] == lie


def test_of_a_loss_the_weighted_median_is_shown_and_a_lie_leaves_it_where_it_was():
    honest, _ = evaluated([telling(i, loss=0.5) for i in range(8)])
    lied, _ = evaluated([telling(i, loss=1e29 if i == 3 else 0.5) for i in range(8)])
    assert lied.metrics["loss"] == lied.medians["loss"] == honest.metrics["loss"] == 0.5
    assert lied.means["loss"] > 1e27 and lied.spreads["loss"] == 0


def test_silos_without_weight_have_no_say_and_stay_to_be_seen():
    scripts = [silo(i, -1.0, accuracy=0.1) if i > 5 else telling(i) for i in range(8)]
    found, ended = evaluated(scripts, rounds=20)
    assert ended.weight_of["silo 6"] == 0 == found.weights["silo 7"]
    assert found.metrics["accuracy"] == pytest.approx(0.8)
    assert found.by_silo["accuracy"]["silo 6"] == 0.1


def test_where_a_rule_gives_no_weights_all_silos_count_alike():
    strategy = RuleStrategy("cw_median", max_byzantine=2, lr=0.1, fraction_evaluate=1.0)
    _, events, *_ = start(strategy, scripts=[telling(i, i / 10) for i in range(8)])
    assert of(events, EvaluatedBySilos)[-1].metrics["accuracy"] == pytest.approx(0.35)


def test_accuracy_by_class_is_put_together_and_kept_by_silo():
    nan = float("nan")
    scripts = [telling(i, classes=[0.9, nan] if i % 2 else [nan, 0.4]) for i in range(7)]
    found, _ = evaluated([*scripts, telling(7, classes=["junk"])])  # which Flower refuses: that silo is silent
    assert found.by_class == (0.9, 0.4)
    assert found.by_class_of["silo 1"] == (0.9, None) and found.by_class_of["silo 2"] == (None, 0.4)


def test_the_servers_own_accuracy_by_class_is_in_the_event_and_not_among_its_figures():
    def measure(server_round, arrays):
        return MetricRecord({"accuracy": 0.5, "accuracy-by-class": [0.25, 0.75, float("nan")]})

    result, events, *_ = start(evaluate_fn=measure)
    last = of(events, Evaluated)[-1]
    assert last.by_class == (0.25, 0.75, None) and last.metrics == {"accuracy": 0.5}
    assert result.evaluate_metrics_serverapp[3]["accuracy-by-class"][0] == 0.25


def test_a_silo_without_a_voice_is_logged_once_with_its_reason_and_at_the_end_with_its_rounds(caplog):
    caplog.set_level("INFO", logger="flwr")

    def reviewing(i):
        def answer(received):
            content = silo(i)(received)
            if received.reply == "review" and i:
                content["review"] = record_of({"w": 2 * (received.arrays["w"] - TARGET)})
                content["metrics"] = MetricRecord({**content["metrics"], "balanced-loss": 1.0})
            return content

        return answer

    _, events, *_ = start(scripts=[reviewing(i) for i in range(8)], rounds=5, variant="review")
    assert len(of(events, NoReview)) == 5
    said = [record.getMessage() for record in caplog.records if "voice" in record.getMessage()]
    assert said == [
        "round 1: silo 0 has no voice in peer review: it sends no review",
        "silo 0 had no voice in peer review in 5 rounds: it sends no review",
    ]
