"""Every way to hold the strategy wrong ends the run in its first round, with one sentence that says what to do."""

import warnings

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord, RecordDict
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from scripted import ScriptedGrid, record_of, reply, stopped_clock

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.engines.in_process import InProcessGrid
from fedlaw_flwr.events.folder import RunFailed
from fedlaw_flwr.events.types import RoundEnded
from fedlaw_flwr.strategy import FedLAW, RuleStrategy

TARGET = np.array([1.0, -1.0, 2.0, 0.5], np.float32)
START = {"w": np.zeros(4, np.float32), "b": np.zeros(1, np.float32)}


def trained(received):
    return {"w": received.arrays["w"] - 0.1 * (received.arrays["w"] - TARGET), "b": received.arrays["b"]}


def silo(i, **metrics):
    """An honest silo that reports these metrics; a callable is handed what the silo received."""

    def answer(received):
        content = reply(trained(received), None, partition=i)
        content["metrics"] = MetricRecord(
            {key.replace("__", "-"): value(received) if callable(value) else value for key, value in metrics.items()}
        )
        return content

    return answer


def distance(received):
    return float(np.sum((received.arrays["w"] - TARGET) ** 2))


def start(strategy, scripts, rounds=3, arrays=None):
    events = []
    strategy.on_event, strategy.startup_timeout = events.append, 5.0
    with stopped_clock():
        result = strategy.start(ScriptedGrid(scripts), record_of(arrays or START), num_rounds=rounds, timeout=30)
    return result, [event for event in events if isinstance(event, RoundEnded)]


def eight(**metrics):
    return [silo(i, **metrics) for i in range(8)]


def opposite(i, **metrics):
    def answer(received):
        content = silo(i, **metrics)(received)
        away = {key: 2 * received.arrays[key] - value for key, value in trained(received).items()}
        content["arrays"] = record_of(away)
        return content

    return answer


@pytest.mark.parametrize("key", ["train_loss", "train-loss", "mse_loss"])
def test_without_a_loss_key_the_silos_loss_is_found_and_read_in_both_exchanges(key):
    scripts = [silo(i, **{key: distance}) for i in range(8)]
    _, rounds = start(FedLAW(max_byzantine=2, lr=0.1), scripts)
    assert not any(event.skipped for event in rounds)
    np.testing.assert_allclose(rounds[0].losses, [np.sum(TARGET**2)] * 8)
    np.testing.assert_allclose(rounds[0].trial_losses, [np.sum((0.9 * TARGET) ** 2)] * 8, rtol=1e-5)


def test_where_one_hostile_silo_sends_other_names_no_bit_depends_on_whether_the_key_was_given_or_found():
    scripts = [*eight(train_loss=distance)[:7], silo(7, loss=0.0, other_loss=1.0, **{"train-loss": 2.0})]
    given, found = (start(FedLAW(max_byzantine=2, lr=0.1, loss_key=key), scripts)[1] for key in ("train_loss", None))
    assert [event.scores for event in given] == [event.scores for event in found] != [None] * 3
    assert all("silo 7" not in event.silos for event in found)


def test_a_wrong_loss_key_ends_the_run_and_says_which_key_the_silos_send():
    with pytest.raises(RunFailed) as failure:
        start(FedLAW(max_byzantine=2, lr=0.1, loss_key="loss"), eight(train_loss=1.0, num__examples=10))
    assert str(failure.value) == (
        "round 1 did not move the model: 8 of 8 silos are set aside for one reason: no number under the loss key "
        "'loss' (metrics: 'num-examples', 'train_loss'); the silos send 'train_loss': loss_key='train_loss' reads it, "
        "and so does FedLAW without a loss_key"
    )


def test_one_honest_sounding_liar_does_not_keep_the_run_from_saying_so():
    scripts = [*eight(train_loss=1.0)[:7], silo(7, loss=1.0)]
    with pytest.raises(RunFailed, match="7 of 8 silos are set aside for one reason"):
        start(FedLAW(max_byzantine=2, lr=0.1, loss_key="loss"), scripts)


def test_b_liars_that_are_set_aside_alike_do_not_end_the_run():
    scripts = [*eight(loss=1.0)[:5], *[silo(i, cost=1.0) for i in range(5, 8)]]
    _, rounds = start(FedLAW(max_byzantine=3, lr=0.1, loss_key="loss"), scripts)
    assert not any(event.skipped for event in rounds)


def test_clients_without_a_loss_end_the_run_and_learn_what_works_without_one():
    with pytest.raises(RunFailed, match=r"no metric has \"loss\".*'num-examples'.*variant='alignment'.*RuleStrategy"):
        start(FedLAW(max_byzantine=2, lr=0.1), eight(num__examples=10))


def test_the_learner_alignment_excludes_attackers_of_clients_that_report_no_loss():
    scripts = [*eight(num__examples=10)[:6], opposite(6, num__examples=10), opposite(7, num__examples=10)]
    result, rounds = start(FedLAW(max_byzantine=2, lr=0.1, beta=0.1, variant="alignment"), scripts, rounds=40)
    assert rounds[-1].weight_of["silo 6"] == rounds[-1].weight_of["silo 7"] == 0
    assert rounds[-1].losses == ()
    np.testing.assert_allclose(result.arrays["w"].numpy(), TARGET, atol=0.1)


def test_a_rule_needs_no_loss():
    result, rounds = start(RuleStrategy("cw_median", max_byzantine=2, lr=0.1), eight(num__examples=10))
    assert not any(event.skipped for event in rounds) and rounds[-1].losses == ()
    np.testing.assert_allclose(result.arrays["w"].numpy(), (1 - 0.9**3) * TARGET, rtol=1e-5)


def test_clients_that_reply_some_of_the_arrays_end_the_run_and_learn_what_the_initial_model_must_be():
    def partial(i):
        def answer(received):
            return reply({"w": trained(received)["w"]}, 1.0, partition=i)

        return answer

    with pytest.raises(RunFailed, match=r"array 'b' is missing \(1 of 2 are\); initial_arrays must hold exactly"):
        start(FedLAW(max_byzantine=2, lr=0.1), [partial(i) for i in range(8)])


def test_two_metrics_that_may_be_the_loss_end_the_run_in_its_first_exchange_with_both_names():
    grid = ScriptedGrid(eight(a_loss=1.0, b_loss=2.0))
    with stopped_clock(), pytest.raises(InputError, match=r"'a_loss', 'b_loss': name the one .*loss_key='a_loss'"):
        FedLAW(max_byzantine=2, lr=0.1).start(grid, record_of(START), num_rounds=3)
    assert {(received.round, received.exchange) for received in grid.received} == {(1, 1)}


def test_clients_that_reply_another_data_type_end_the_run_and_learn_what_the_initial_model_must_have():
    def double(i):
        return lambda received: reply({k: v.astype(np.float64) for k, v in trained(received).items()}, 1.0, partition=i)

    with pytest.raises(
        RunFailed, match=r"has dtype float64, the model's is float32; initial_arrays must have the data"
    ):
        start(FedLAW(max_byzantine=2, lr=0.1), [double(i) for i in range(8)])


def reviewing(i, balanced=True):
    """A silo that sends a review if it is asked for one, with or without the loss that it is the gradient of."""

    def answer(received):
        content = silo(i, loss=distance)(received)
        if received.reply == "review":
            content["review"] = record_of({"w": 2 * (received.arrays["w"] - TARGET), "b": received.arrays["b"]})
            if balanced:
                content["metrics"]["balanced-loss"] = distance(received)
        return content

    return answer


def test_peer_review_of_clients_that_send_no_reviews_ends_in_round_1_and_says_how_they_would():
    with pytest.raises(RunFailed) as failure:
        start(FedLAW(max_byzantine=2, lr=0.1, variant="review"), eight(loss=distance), rounds=50)
    assert str(failure.value) == (
        "round 1 did not move the model: 8 of 8 silos are set aside for one reason: it sends no review; "
        "ClientApp(mods=[review_mod(...)]) of fedlaw_flwr.apps.review_mod makes PyTorch clients review; "
        "FedLAW(variant='fedlaw') needs no reviews"
    )


@pytest.mark.parametrize("key", [None, "loss"])
def test_reviews_without_their_loss_end_the_run_and_say_what_sends_both(key):
    scripts = [reviewing(i, balanced=False) for i in range(8)]
    with pytest.raises(RunFailed, match=r"under the loss key 'balanced-loss' .*review_mod\(\.\.\.\)"):
        start(FedLAW(max_byzantine=2, lr=0.1, variant="review", loss_key=key), scripts)


def test_b_silos_without_a_review_do_not_end_the_run():
    scripts = [*[reviewing(i) for i in range(6)], *eight(loss=distance)[6:]]
    _, rounds = start(FedLAW(max_byzantine=2, lr=0.1, variant="review"), scripts)
    assert not any(event.skipped for event in rounds)


def test_a_client_app_that_raises_everywhere_ends_the_run_with_what_it_said():
    def broken(received):
        raise KeyError("learning_rate")

    with pytest.raises(RunFailed, match=r"8 of 8 silos .* error 2: KeyError: 'learning_rate'"):
        start(FedLAW(max_byzantine=2, lr=0.1), [broken] * 8)


def test_silos_that_are_merely_silent_in_round_1_do_not_end_the_run():
    def late(i):
        return lambda received: silo(i, loss=1.0)(received) if received.round > 1 else None

    _, rounds = start(FedLAW(max_byzantine=2, lr=0.1), [late(i) for i in range(8)])
    assert [event.skipped for event in rounds] == [True, False, False]


def test_trees_are_refused_before_anything_is_sent_with_the_reason():
    model = {"0": np.frombuffer(b"trees of XGBoost", np.uint8)}
    grid = ScriptedGrid(eight(loss=1.0))
    with pytest.raises(InputError, match="bytes, as of XGBoost's trees"):
        FedLAW(max_byzantine=2, lr=0.1).start(grid, record_of(model), num_rounds=1)
    assert grid.received == []


# -- legacy clients ----------------------------------------------------------------------------------------------


class Legacy(NumPyClient):
    def __init__(self, sign):
        self.sign = sign

    def fit(self, parameters, config):
        w, b = parameters
        assert config["lr"] == 0.1
        return [w - self.sign * 0.1 * (w - TARGET), b], 10, {"train_loss": float(np.sum((w - TARGET) ** 2))}

    def evaluate(self, parameters, config):
        return float(np.sum((parameters[0] - TARGET) ** 2)), 10, {"accuracy": 0.5}


def legacy_grid(hostile=()):
    def client_fn(context: Context):
        return Legacy(-1 if context.node_config["partition-id"] in hostile else 1).to_client()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        app = ClientApp(client_fn=client_fn)
    return InProcessGrid(app, 8)


def test_legacy_clients_end_the_run_and_learn_which_two_arguments_speak_to_them():
    with pytest.raises(RunFailed, match=r"arrayrecord_key='fitins.parameters', configrecord_key='fitins.config'"):
        FedLAW(max_byzantine=2, lr=0.1).start(legacy_grid(), record_of(START), num_rounds=3)


@pytest.mark.parametrize("model", [START, {"0": START["w"], "1": START["b"]}], ids=["state dict", "list of arrays"])
def test_with_flowers_own_two_arguments_legacy_clients_train_and_attackers_are_excluded(model):
    keys = {"arrayrecord_key": "fitins.parameters", "configrecord_key": "fitins.config"}
    events = []
    strategy = FedLAW(max_byzantine=2, lr=0.1, beta=0.1, fraction_evaluate=1.0, on_event=events.append, **keys)
    result = strategy.start(legacy_grid(hostile=(3, 5)), record_of(model), num_rounds=40)
    last = [event for event in events if isinstance(event, RoundEnded)][-1]
    weights = list(last.weights)  # in the order of node ids, as nobody says which partition it is
    assert [i for i, weight in enumerate(weights) if weight == 0] == [3, 5]
    np.testing.assert_allclose(next(iter(result.arrays.values())).numpy(), TARGET, atol=0.1)
    assert set(result.evaluate_metrics_clientapp[40]) == {"loss", "accuracy"}
    assert isinstance(result.arrays, ArrayRecord) and list(result.arrays) == list(model)


def test_a_legacy_reply_whose_parts_are_junk_is_that_silos_alone():
    from fedlaw_flwr.protocol.legacy import standard

    junk = RecordDict({"fitres.status": ConfigRecord({"code": 0}), "fitres.metrics": MetricRecord({"loss": 1.0})})
    assert "arrays" not in standard(junk, ["w"]) and dict(standard(junk, ["w"])["metrics"]) == {}
