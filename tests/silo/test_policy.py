"""What a silo's own policy limits: before anything is trained, before anything is sent, and whatever a run says."""

import json
import math
import socket
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.common.serde import message_to_proto
from flwr.supercore.task_identity import TaskIdentity
from forked_silo import silo
from scipy.optimize import brentq
from scipy.stats import norm

from fedlaw_flwr.apps.shipped.client import SiloFailed, hand_over, send
from fedlaw_flwr.config.document import DocumentError
from fedlaw_flwr.silo.budget import DAY, Budget, Used
from fedlaw_flwr.silo.config import SiloConfig
from fedlaw_flwr.silo.policy import Policy, Privacy, Refused, update_norm, without_review
from fedlaw_flwr.silo.privacy import reseed, sigma, spent, with_noise, with_noisy_review
from fedlaw_flwr.silo.serve import SiloProcess

NOTHING = Used(0, 0.0)
CONTEXT = Context(1, 7, {}, RecordDict(), {})
STATE = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bias": np.array([1.0, -1.0], np.float16),
    "temperature": np.array(2.0, np.float32),
    "batches": np.array(5, np.int64),
}


def policy(text: str) -> Policy:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "policy.yaml"
        path.write_text(text)
        return Policy.read(path)


def asked(state: dict[str, np.ndarray] | None = None, kind: str = "train", **config) -> Message:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 0, 1, 7
    content = {"config": ConfigRecord(config)} | ({"arrays": record(state)} if state is not None else {})
    message = Message(RecordDict(content), dst_node_id=7, message_type=kind)
    message.metadata.__dict__["_message_id"] = "the-message"
    return message


def replied(message: Message, state: dict[str, np.ndarray] | None = None, **metrics) -> Message:
    content = {"metrics": MetricRecord(metrics)} | ({"arrays": record(state)} if state is not None else {})
    return Message(RecordDict(content), reply_to=message)


def record(state: dict[str, np.ndarray]) -> ArrayRecord:
    return ArrayRecord({key: Array(value) for key, value in state.items()})


def values(message: Message) -> dict[str, np.ndarray]:
    return {key: array.numpy() for key, array in message.content["arrays"].items()}


def moved(step: float) -> dict[str, np.ndarray]:
    return {key: np.asarray(value + step, value.dtype) for key, value in STATE.items()}


# -- the file ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("exchange-per-day: 3\n", ":1: exchange-per-day: there is no such key; did you mean 'exchanges-per-day'?"),
        (
            "runs: [1]\nexchanges-per-day: 0\n",
            ":2: exchanges-per-day=0: a number above 0 is expected; for no limit, leav",
        ),
        ("largest-update-norm: .inf\n", ":1: largest-update-norm=inf: a number above 0 is expected"),
        ("seconds-per-day: yes\n", ":1: seconds-per-day=True: a number is expected"),
        (
            "message-types: [train, tell]\n",
            ":1: message-types.1='tell': input should be 'train', 'evaluate' or 'query'",
        ),
        ("message-types: []\n", ":1: message-types=[]: list should have at least 1 item"),
        ("minimum-records: -1\n", ":1: minimum-records=-1: input should be greater than or equal to 0"),
        ("privacy:\n  clip: 1.0\n  delta: 1e-5\n", ":1: privacy.epsilon is missing"),
        ("privacy:\n  clip: 1.0\n  epsilon: 1.0\n  delta: 1.5\n", ":4: privacy.delta=1.5: input should be less than 1"),
        ("privacy:\n  clip: 1.0\n  noise: 1.0\n", ":3: privacy.noise: there is no such key; allowed are clip, epsilon"),
        ("", ":1: a mapping of these keys is expected: message-types, runs"),
    ],
)
def test_what_is_wrong_in_the_file_is_told_with_its_line(tmp_path, text, sentence):
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(DocumentError) as caught:
        Policy.read(tmp_path / "policy.yaml")
    assert f"{tmp_path}/policy.yaml{sentence}" in str(caught.value)


@pytest.mark.parametrize(("text", "sentence"), [(None, "cannot be read"), ("runs: 3\n", "policy.yaml:1: runs=3")])
def test_a_silo_whose_policy_is_missing_or_wrong_does_not_start(tmp_path, text, sentence):
    (tmp_path / "silo.yaml").write_text("name: bonn\nclient: private_client:app\npolicy: policy.yaml\n")
    if text is not None:
        (tmp_path / "policy.yaml").write_text(text)
    config = SiloConfig.read(tmp_path / "silo.yaml")
    assert config.policy == str(tmp_path / "policy.yaml")
    with pytest.raises(DocumentError, match=sentence):
        SiloProcess(config)


# -- before anything is trained ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "run", "config", "sentence"),
    [
        ("message-types: [train]\n", "query", 1, {}, "messages of type query are not answered, train are"),
        ("message-types: [train]\n", "evaluate.mine", 1, {}, "messages of type evaluate are not answered, train are"),
        ("runs: [7, 8]\n", "train", 9, {"task": "digits"}, "run 9 is not among the runs allowed"),
        ("tasks: [own]\n", "train", 1, {"task": "digits"}, "the run's task is not among the tasks allowed"),
        ("tasks: [own]\n", "train", 1, {}, "the run's task is not among the tasks allowed"),
        ("exchanges-per-day: 200\n", "train", 1, {}, "200 exchanges in 24 h are used up"),
        ("seconds-per-day: 3600\n", "train", 1, {}, "3600 seconds in 24 h are used up"),
    ],
)
def test_each_limit_refuses_what_is_beyond_it_in_one_sentence(text, kind, run, config, sentence):
    with pytest.raises(Refused) as caught:
        policy(text).check_message(asked(kind=kind), run, config, Used(200, 3600.0))
    assert str(caught.value) == sentence


def test_each_limit_allows_what_is_within_it():
    text = "message-types: [train]\nruns: [7]\ntasks: [own]\nexchanges-per-day: 200\nseconds-per-day: 3600\n"
    limits = policy(text)
    assert limits.check_message(asked(kind="train"), 7, {"task": "own"}, Used(199, 3599.9)) is None
    assert limits.seconds_left(Used(0, 3599.5)) == 0.5
    assert Policy().check_message(asked(kind="query"), 9, {}, Used(10**9, 1e9)) is None


# -- before anything is sent ---------------------------------------------------------------------------------------


def test_the_norm_is_that_of_all_floating_point_arrays_together():
    step = {"weight": 3.0, "bias": -2.0, "temperature": 1.0}
    sent = {key: np.asarray(value + step.get(key, 100), value.dtype) for key, value in STATE.items()}
    # 6 * 3^2 + 2 * 2^2 + 1^2; the count of batches moved by 100 and is no part of it
    assert update_norm(record(STATE), record(sent)) == pytest.approx(math.sqrt(63), rel=1e-6)


def test_the_norm_of_half_precision_is_taken_in_double():
    zeros, ones = np.zeros(4_000_000, np.float16), np.full(4_000_000, 0.5, np.float16)
    assert update_norm(record({"w": zeros}), record({"w": ones})) == 1000.0


def test_an_update_above_the_largest_norm_is_not_sent_and_how_far_it_was_off_is_not_told():
    limits, message = policy("largest-update-norm: 3.5\n"), asked(STATE)
    assert limits.check_reply(message, replied(message, moved(1.0))) is None  # the norm is 3
    with pytest.raises(Refused) as caught:
        limits.check_reply(message, replied(message, moved(1.25)))
    assert str(caught.value) == "the update's norm is above largest-update-norm=3.5"
    for what in (math.nan, math.inf):
        with pytest.raises(Refused):
            limits.check_reply(message, replied(message, STATE | {"temperature": np.array(what, np.float32)}))


def test_arrays_that_are_no_update_of_the_model_received_are_not_sent():
    limits = policy("largest-update-norm: 1000\n")
    message = asked(STATE)
    other_key = {("other" if key == "bias" else key): value for key, value in STATE.items()}
    two = replied(message, STATE)
    two.content["more"] = record(STATE)
    for reply in (
        replied(message, STATE | {"patients": np.zeros(3)}),
        replied(message, other_key),
        replied(message, STATE | {"bias": np.zeros(3, np.float16)}),
        two,
    ):
        with pytest.raises(Refused, match="are not an update of the model received"):
            limits.check_reply(message, reply)
    question = asked(kind="query")
    with pytest.raises(Refused, match="are not an update of the model received"):
        limits.check_reply(question, replied(question, STATE))


def test_a_reply_without_arrays_has_no_norm():
    message = asked(STATE)
    assert policy("largest-update-norm: 0.001\n").check_reply(message, replied(message, loss=0.5)) is None


def test_a_reply_from_too_few_records_or_from_an_unknown_number_is_not_sent():
    limits, message = policy("minimum-records: 50\n"), asked(STATE)
    assert limits.check_reply(message, replied(message, STATE, **{"num-examples": 50})) is None
    for metrics in ({"num-examples": 49}, {}, {"num-examples": math.nan}, {"num-examples": [100, 100]}):
        with pytest.raises(Refused) as caught:
            limits.check_reply(message, replied(message, STATE, **metrics))
        assert str(caught.value) == "not from the 50 records that minimum-records asks for"
    evaluation, question = asked(STATE, "evaluate"), asked(kind="query")
    with pytest.raises(Refused):
        limits.check_reply(evaluation, replied(evaluation, **{"num-examples": 49}))
    assert limits.check_reply(question, replied(question)) is None


# -- the budget ----------------------------------------------------------------------------------------------------


def test_exchanges_and_their_seconds_are_counted_across_restarts(tmp_path):
    path = tmp_path / "state" / "budget.json"
    for start in (1000.0, 2000.0):
        Budget(path, longest=60.0).begin(start)
        Budget(path, longest=60.0).end(start + 12.5)
    assert Budget(path, longest=60.0).used(3000.0) == Used(2, 25.0)


def test_an_exchange_counts_for_24_hours(tmp_path):
    budget = Budget(tmp_path / "budget.json", longest=60.0)
    for start in (0.0, 1000.0):
        budget.begin(start)
        budget.end(start + 5)
    assert [budget.used(now).exchanges for now in (DAY - 1, DAY, 1000 + DAY - 1, 1000 + DAY)] == [2, 1, 1, 0]
    budget.begin(2 * DAY)
    assert len((tmp_path / "budget.json").read_text().split("],")) == 1  # what counts no more is not kept


def test_an_exchange_that_never_ended_counts_for_the_longest_one_may_take(tmp_path):
    budget = Budget(tmp_path / "budget.json", longest=60.0)
    budget.begin(1000.0)
    assert budget.used(1001.0) == Used(1, 60.0)
    budget.end(5000.0)  # as long as the process was away, not as long as it trained
    assert budget.used(5001.0) == Used(1, 60.0)


def test_an_end_is_noted_once_and_a_clock_that_went_back_gives_nothing_back(tmp_path):
    budget = Budget(tmp_path / "budget.json", longest=60.0)
    budget.end(900.0)
    budget.begin(1000.0)
    budget.end(1007.0)
    budget.end(1050.0)
    assert budget.used(1060.0) == Used(1, 7.0)
    budget.begin(1060.0)
    budget.end(1000.0)
    assert budget.used(1000.0) == Used(2, 7.0)


@pytest.mark.parametrize("junk", ["", "[[1", "{}x", "[1, 2]", '[["a", 1]]'])
def test_a_damaged_budget_is_not_taken_for_an_empty_one(tmp_path, junk):
    (tmp_path / "budget.json").write_text(junk)
    with pytest.raises(ValueError, match=r"budget\.json is damaged"):
        Budget(tmp_path / "budget.json", longest=60.0).used(1000.0)


# -- privacy -------------------------------------------------------------------------------------------------------

SILENT = Privacy(clip=2.0, epsilon=1e9, delta=0.5, sensitivity=1e-9)  # noise of 1e-18: what is left is the clip


def test_the_update_is_clipped_as_a_whole_to_the_norm_given():
    message = asked(STATE)
    out = values(with_noise(message, replied(message, moved(1.0)), CONTEXT, SILENT))
    for key in ("weight", "temperature"):
        np.testing.assert_allclose(out[key] - STATE[key], 2 / 3, rtol=1e-6)  # the norm was 3
    np.testing.assert_allclose(out["bias"].astype(float) - STATE["bias"], 2 / 3, atol=2**-11)
    assert {key: (array.dtype, array.shape) for key, array in out.items()} == {
        key: (array.dtype, array.shape) for key, array in STATE.items()
    }


def test_an_update_within_the_norm_and_one_of_zero_are_left_as_they_are():
    message = asked(STATE)
    for step in (0.5, 0.0):
        out = values(with_noise(message, replied(message, moved(step)), CONTEXT, SILENT))
        for key in ("weight", "bias", "temperature"):
            np.testing.assert_allclose(out[key], moved(step)[key], rtol=1e-6, atol=1e-15)


def test_integers_go_back_as_they_came():
    message = asked(STATE)
    assert values(with_noise(message, replied(message, moved(1.0)), CONTEXT, SILENT))["batches"] == 5


def test_complex_arrays_are_clipped_and_noised_in_their_real_and_imaginary_parts():
    state = {"weight": np.zeros(2000, np.complex64), "bias": np.zeros((), np.complex128)}
    trained = {"weight": np.full(2000, 3 - 4j, np.complex64), "bias": np.array(1j)}
    message = asked(state)
    large = Privacy(clip=2.0, epsilon=1e9, delta=1e-5)  # as good as no noise
    clipped = values(with_noise(message, replied(message, trained), CONTEXT, large))
    assert np.sqrt(sum(np.sum(np.abs(value) ** 2) for value in clipped.values())) == pytest.approx(2.0, rel=1e-3)
    assert clipped["weight"].dtype == np.complex64 and clipped["bias"].shape == ()
    np.testing.assert_allclose(clipped["weight"] / clipped["weight"][0], 1, rtol=1e-3)
    privacy = Privacy(clip=1.0, epsilon=1.0, delta=1e-5)
    noised = values(with_noise(message, replied(message, state), CONTEXT, privacy))["weight"]
    assert np.std(noised.real) == pytest.approx(sigma(privacy), rel=0.1)
    assert np.std(noised.imag) == pytest.approx(sigma(privacy), rel=0.1)


def test_a_mask_with_minus_infinity_has_no_norm_and_goes_back_as_it_came():
    mask = np.triu(np.full((3, 3), -np.inf, np.float32), 1)
    message = asked(STATE | {"mask": mask})
    reply = replied(message, moved(1.0) | {"mask": mask})
    limited = policy("largest-update-norm: 1000")
    limited.check_reply(message, reply)
    noised = values(with_noise(message, reply, CONTEXT, Privacy(clip=1.0, epsilon=1.0, delta=1e-5)))
    np.testing.assert_array_equal(noised["mask"], mask)
    # Something of this silo's in it is an update that no limit holds.
    told = replied(message, moved(1.0) | {"mask": np.where(np.isfinite(mask), np.float32(4711), mask)})
    with pytest.raises(Refused, match="norm is above"):
        limited.check_reply(message, told)
    with pytest.raises(Refused, match="not finite"):
        with_noise(message, told, CONTEXT, Privacy(clip=1.0, epsilon=1.0, delta=1e-5))


def test_noise_has_the_size_the_formula_says_and_no_two_draws_are_alike():
    # 200,000 coordinates: the sample's deviation is off by 0.16 % (one sigma), so that 1.5 % happens once in 1e20.
    privacy = Privacy(clip=1.0, epsilon=0.9, delta=1e-5)
    theta = {"w": np.full(200_000, 3.0, np.float32), "b": np.zeros((), np.float32)}
    message = asked(theta)
    one, other = (values(with_noise(message, replied(message, theta), CONTEXT, privacy)) for _ in range(2))
    expected = 2.0 * math.sqrt(2 * math.log(1.25 / 1e-5)) / 0.9
    assert sigma(privacy) == pytest.approx(expected)
    for noise in (one["w"] - 3.0, other["w"] - 3.0, (one["w"] - other["w"]) / math.sqrt(2)):
        assert np.std(noise) == pytest.approx(expected, rel=0.015)
        assert abs(np.mean(noise)) < 10 * expected / math.sqrt(noise.size)
    assert one["b"] != 0 and one["b"] != other["b"]  # Flower's mod alone passes a scalar by


def test_noise_does_not_depend_on_seeds_and_leaves_the_process_s_generator_alone():
    privacy, message = Privacy(clip=1.0, epsilon=1.0, delta=1e-5), asked(STATE)
    drawn = []
    for _ in range(2):
        np.random.seed(0)
        drawn.append(values(with_noise(message, replied(message, STATE), CONTEXT, privacy))["weight"])
        after = np.random.normal()
    assert not np.array_equal(drawn[0], drawn[1])
    assert after == np.random.RandomState(0).normal()


def test_metrics_leave_as_they_are_and_a_reply_without_arrays_is_not_touched():
    message, privacy = asked(STATE), Privacy(clip=1.0, epsilon=1.0, delta=1e-5)
    loss = replied(message, loss=0.25)
    assert with_noise(message, loss, CONTEXT, privacy) is loss
    reply = replied(message, moved(1.0), loss=0.25)
    noised = with_noise(message, reply, CONTEXT, privacy)
    assert noised.content["metrics"] == reply.content["metrics"]
    np.testing.assert_array_equal(values(reply)["weight"], moved(1.0)["weight"])  # the input is as it was


def test_what_cannot_be_clipped_is_refused():
    message, privacy = asked(STATE), Privacy(clip=1.0, epsilon=1.0, delta=1e-5)
    broken = STATE | {"temperature": np.array(np.nan, np.float32)}
    with pytest.raises(Refused, match="not finite"):
        with_noise(message, replied(message, broken), CONTEXT, privacy)
    with pytest.raises(Refused, match="not an update of the model received"):
        with_noise(message, replied(message, STATE | {"more": np.zeros(2)}), CONTEXT, privacy)


@pytest.mark.parametrize("epsilon", [0.1, 0.9, 8.0, 50.0])
@pytest.mark.parametrize("exchanges", [1, 20, 365])
def test_what_exchanges_spend_is_the_epsilon_of_the_exact_gaussian_mechanism(epsilon, exchanges):
    privacy = Privacy(clip=0.5, epsilon=epsilon, delta=1e-5)
    mu = math.sqrt(exchanges) * 1.0 / sigma(privacy)

    def excess(e: float) -> float:  # Balle and Wang 2018, Theorem 8, by scipy and in logarithms
        return norm.cdf(mu / 2 - e / mu) - np.exp(e + norm.logcdf(-mu / 2 - e / mu)) - 1e-5

    exact = brentq(excess, 0, 1e6, xtol=1e-9, rtol=1e-12)
    # Where a tail is below the smallest float it is left out, which never makes the epsilon smaller.
    assert exact * (1 - 1e-9) <= spent(privacy, exchanges) <= exact * (1 + (1e-9 if exact < 500 else 1e-3))


def test_the_formulas_epsilon_bounds_what_is_spent_below_1_and_is_far_too_small_at_50():
    small, large = (Privacy(clip=1.0, epsilon=epsilon, delta=1e-5) for epsilon in (0.99, 50.0))
    assert spent(small, 1) < 0.99
    assert spent(large, 1) > 90


def test_a_fork_begins_with_generators_of_its_own():
    import torch

    drawn = []
    for _ in range(2):
        np.random.seed(0)
        torch.manual_seed(0)
        reseed()
        drawn.append((np.random.random(), float(torch.rand(()))))
    assert drawn[0][0] != drawn[1][0] and drawn[0][1] != drawn[1][1]


# -- in the silo's own process -------------------------------------------------------------------------------------


def ask(folder: Path, kind: str = "train", run: int = 1, run_config=None, state=STATE, **config) -> Message:
    message = asked(state, kind, **{"step": 0.1, "server-round": 1, **config})
    context = Context(run, 7, {"socket": str(folder / "silo.sock")}, RecordDict(), dict(run_config or {}))
    return hand_over(message, context)


def test_a_refusal_reaches_the_server_as_a_sentence_and_the_budget_outlives_a_restart(short):
    # What a run says under the policy's names is not so much as looked at.
    generous = {
        "exchanges-per-day": 10**6,
        "largest-update-norm": 1e9,
        "minimum-records": 0,
        "policy": "",
        "tasks": "own",
    }
    text = "exchanges-per-day: 4\nlargest-update-norm: 1.0\nminimum-records: 50\ntasks: [digits]\n"
    allowed = {"task": "digits", **generous}
    with silo(short, text):
        with pytest.raises(
            SiloFailed, match=r"^refused by bonn's policy: the run's task is not among the tasks allowed$"
        ):
            ask(short, run_config=generous)
        assert ask(short, run_config=allowed).content["metrics"]["loss"] == 0.25  # the first of four
        with pytest.raises(SiloFailed) as too_large:
            ask(short, run_config=allowed, step=1.0)  # the second: it was trained
        with pytest.raises(SiloFailed, match=r"^refused by bonn's policy: not from the 50 records that"):
            ask(short, run_config=allowed, **{"num-examples": 49})
    assert str(too_large.value) == "refused by bonn's policy: the update's norm is above largest-update-norm=1"
    with silo(short, text):
        assert "arrays" in ask(short, run=2, run_config=allowed).content  # the same round of another run: the fourth
        for run in (2, 3):
            with pytest.raises(SiloFailed, match=r"^refused by bonn's policy: 4 exchanges in 24 h are used up$"):
                ask(short, run=run, run_config=allowed)
    log = (short / "log").read_text()
    assert "3 exchanges, " in log and log.count("refused by bonn's policy") == 5


def test_a_message_is_ended_when_the_seconds_of_the_day_are_used_up(short):
    with silo(short, "seconds-per-day: 0.5\n"):
        started = time.monotonic()
        with pytest.raises(SiloFailed, match="did not answer"):
            ask(short, sleep=60)
        assert time.monotonic() - started < 30
        with pytest.raises(SiloFailed, match=r"^refused by bonn's policy: 0\.5 seconds in 24 h are used up$"):
            ask(short)
    assert "what was left of seconds-per-day=0.5" in (short / "log").read_text()


def test_a_silo_that_is_stopped_while_it_trains_counts_what_it_trained(short):
    with silo(short, "seconds-per-day: 3600\n"):
        header = json.dumps({"run-id": 1, "node-id": 7, "run-config": {}}).encode()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(short / "silo.sock"))
            send(connection, header, message_to_proto(asked(STATE, step=0.1, sleep=60)).SerializeToString())
            while not (short / "state" / "budget.json").exists():
                time.sleep(0.02)
    used = Budget(short / "state" / "budget.json", longest=3600.0).used(time.time())
    assert used.exchanges == 1 and used.seconds < 30


def test_a_silo_with_a_damaged_budget_does_not_start(short):
    (short / "state").mkdir()
    (short / "state" / "budget.json").write_text("[[")
    config = SiloConfig(name="bonn", client="private_client:app", state=str(short / "state"), socket=str(short / "s"))
    with pytest.raises(ValueError, match=r"budget\.json is damaged"):
        SiloProcess(config).run()
    assert not (short / "s").exists()


def test_two_forks_give_different_noise_and_a_loss_passes_without(short):
    with silo(short, "exchanges-per-day: 100\nprivacy:\n  clip: 1.0\n  epsilon: 0.9\n  delta: 1e-5\n"):
        one, other = ask(short), ask(short)
        loss, evaluated = ask(short, reply="loss"), ask(short, kind="evaluate")
    for what in ("pid", "drawn"):  # a client that draws from NumPy's generator draws another number in every fork
        assert one.content["process"][what] != other.content["process"][what]
    for key in ("weight", "temperature"):
        assert np.all(values(one)[key] != values(other)[key])
    assert "arrays" not in loss.content and loss.content["metrics"]["loss"] == 0.25
    assert evaluated.content["metrics"]["loss"] == 0.5
    assert "one exchange spends an epsilon of 0.669, 100 in a day 9.13;" in (short / "log").read_text()


@pytest.fixture
def short():
    """A folder with a name short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="fedlaw-") as name:
        yield Path(name)


# -- reviews -------------------------------------------------------------------------------------------------------


def reviewed(message, state, review):
    reply = replied(message, state, loss=0.5, **{"num-examples": 10, "balanced-loss": 0.7})
    reply.content["review"] = record(review)
    return reply


def test_reviews_are_off_until_the_policy_allows_them_and_the_update_goes_all_the_same():
    message = asked(STATE, reply="review")
    assert Policy().refuses_review(message) and not policy("reviews: true").refuses_review(message)
    assert not Policy().refuses_review(asked(STATE, reply="update"))
    left = without_review(reviewed(message, moved(1.0), STATE), message)
    assert "review" not in left.content and dict(left.content["metrics"]) == {"loss": 0.5, "num-examples": 10}
    np.testing.assert_array_equal(values(left)["weight"], moved(1.0)["weight"])


def test_a_review_is_no_part_of_the_updates_norm():
    message = asked(STATE, reply="review")
    huge = {"weight": np.full((2, 3), 1e6, np.float32)}
    limited = policy("reviews: true\nlargest-update-norm: 4")
    limited.check_reply(message, reviewed(message, moved(1.0), huge))
    with pytest.raises(Refused, match="norm is above"):
        limited.check_reply(message, reviewed(message, moved(2.0), STATE))


def test_a_review_is_clipped_and_noised_for_itself():
    message = asked(STATE, reply="review")
    review = {"weight": np.full((2, 3), 3.0, np.float32)}
    reply = reviewed(message, moved(1.0), review)
    clipped = with_noisy_review(message, reply, CONTEXT, SILENT)
    out = clipped.content["review"]["weight"].numpy()
    assert np.linalg.norm(out) == pytest.approx(2.0, rel=1e-5)
    np.testing.assert_array_equal(values(clipped)["weight"], moved(1.0)["weight"])
    both = with_noise(message, clipped, CONTEXT, SILENT)
    assert set(both.content) == {"arrays", "metrics", "review"}
    np.testing.assert_array_equal(both.content["review"]["weight"].numpy(), out)
    noised = with_noisy_review(message, reply, CONTEXT, Privacy(clip=1.0, epsilon=0.1, delta=1e-5))
    assert np.abs(noised.content["review"]["weight"].numpy()).max() > 10
    plain = replied(message, moved(1.0), loss=0.5)
    assert with_noisy_review(message, plain, CONTEXT, SILENT) is plain


def test_a_review_is_a_release_of_its_own_in_the_privacy_budget():
    privacy, review = Privacy(clip=1.0, epsilon=0.5, delta=1e-5), Privacy(clip=3.0, epsilon=0.5, delta=1e-5)
    # The same ratio of sensitivity to noise: k updates with k reviews spend what 2 k updates do.
    assert spent(privacy, 10, review) == pytest.approx(spent(privacy, 20), rel=1e-9)
    louder = Privacy(clip=1.0, epsilon=1.0, delta=1e-5)
    assert spent(privacy, 1, louder) > spent(privacy, 1, review)


def test_reviews_beside_privacy_need_their_own_numbers():
    with pytest.raises(DocumentError, match="needs review-privacy"):
        policy("reviews: true\nprivacy: {clip: 1.0, epsilon: 1.0, delta: 0.00001}")
    with pytest.raises(DocumentError, match="needs privacy and reviews"):
        policy("review-privacy: {clip: 1.0, epsilon: 1.0, delta: 0.00001}")
    both = "privacy: {clip: 1.0, epsilon: 1.0, delta: 0.00001}\n"
    assert policy(f"reviews: true\n{both}review-{both}").review_privacy == Privacy(clip=1.0, epsilon=1.0, delta=1e-5)
