"""Under which name the loss is: found in what all but b silos send, and unmoved by what b liars make up."""

import pytest
from flwr.app import MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.protocol.exchange import Outcome
from fedlaw_flwr.protocol.gate import Rejected
from fedlaw_flwr.protocol.loss_key import LossFinder, candidates, likeliest, metrics_of
from fedlaw_flwr.protocol.roster import Silo


def content(**metrics):
    return RecordDict({"metrics": MetricRecord({key.replace("__", "-"): value for key, value in metrics.items()})})


def settled(*replies, byzantine=1, needed=True, rejected=0):
    """A finder after an exchange with these replies, its losses by number and who is rejected."""
    finder, silos = LossFinder(byzantine, 0.0, needed), [Silo(i, f"silo {i}") for i in range(len(replies))]
    outcome = Outcome(answered=list(silos))
    outcome.rejected = {Silo(100 + i, f"junk {i}"): "junk" for i in range(rejected)}
    for silo, one in zip(silos, replies, strict=True):
        finder.look(silo, one)
    losses = finder.settle(outcome)
    return finder, {silo.node_id: loss for silo, loss in losses.items()}, outcome


@pytest.mark.parametrize(
    ("metrics", "key"),
    [
        ({"loss": 0.5, "accuracy": 0.9}, "loss"),
        ({"train_loss": 0.5, "num-examples": 10}, "train_loss"),
        ({"train-loss": 0.5}, "train-loss"),
        ({"train_loss": 0.5, "val_loss": 0.7}, "train_loss"),
        ({"loss": 0.5, "train_loss": 0.6}, "loss"),
        ({"LogLoss": 0.5, "accuracy": 0.9}, "LogLoss"),
    ],
)
def test_the_loss_is_found_under_the_names_that_flower_apps_use(metrics, key):
    finder, losses, outcome = settled(*[content(**metrics)] * 6)
    assert finder.key == key and losses == dict.fromkeys(range(6), 0.5) and len(outcome.answered) == 6


def test_two_candidates_are_a_question_with_both_names():
    with pytest.raises(InputError, match=r"2 metrics that may be the loss, 'a_loss', 'b_loss'.*loss_key='a_loss'"):
        settled(*[content(a_loss=0.1, b_loss=0.2)] * 6)


liars = st.dictionaries(
    st.sampled_from(["loss", "train_loss", "train-loss", "my_loss", "xloss", "accuracy"]),
    st.one_of(st.floats(0, 5), st.lists(st.floats(0, 5), max_size=2)),
    max_size=6,
)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.lists(liars, max_size=3), st.sampled_from(["loss", "train_loss", "objective_loss"]))
def test_b_liars_change_neither_the_name_nor_an_honest_loss(replies, key):
    honest = [RecordDict({"metrics": MetricRecord({key: 0.25, "accuracy": 0.5})})] * (8 - len(replies))
    lying = [RecordDict({"metrics": MetricRecord(reply)}) for reply in replies]
    finder, losses, _ = settled(*honest, *lying, byzantine=3)
    assert finder.key == key
    assert [losses[i] for i in range(5)] == [0.25] * 5


def test_a_silo_without_the_loss_that_the_others_send_is_rejected_with_the_names_it_sends():
    finder, losses, outcome = settled(*[content(train_loss=0.5)] * 5, content(cost=0.5))
    assert finder.key == "train_loss" and 5 not in losses
    (reason,) = outcome.rejected.values()
    assert reason == "no number under the loss key 'train_loss' (metrics: 'cost')"


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -1.0, 1e31])
def test_a_loss_that_the_gate_would_reject_is_rejected_here_too(loss):
    _, losses, outcome = settled(*[content(loss=0.5)] * 5, content(loss=loss))
    assert 5 not in losses and len(outcome.rejected) == 1


def test_where_nobody_sends_a_loss_every_reply_is_rejected_for_one_reason_that_names_what_is_sent():
    finder, losses, outcome = settled(*[content(accuracy=0.5, num__examples=3)] * 6)
    assert finder.key is None and not losses and not outcome.answered
    reasons = set(outcome.rejected.values())
    assert reasons == {"no metric has \"loss\" in its name (metrics: 'accuracy', 'num-examples')"}


def test_where_no_loss_is_needed_replies_without_one_are_taken():
    finder, losses, outcome = settled(*[content(accuracy=0.5)] * 5, RecordDict(), needed=False)
    assert finder.key is None and not losses and len(outcome.answered) == 6


def test_where_a_loss_is_needed_a_reply_without_metrics_is_rejected_as_the_gate_does():
    with pytest.raises(Rejected, match="0 MetricRecords"):
        settled(RecordDict())


def test_too_few_replies_to_outvote_the_liars_decide_nothing():
    finder, losses, outcome = settled(*[content(loss=0.5)] * 4, byzantine=2)
    assert finder.key is None and not losses and len(outcome.answered) == 4


def test_junk_counts_as_identified_so_that_the_honest_rest_is_enough():
    finder, _, _ = settled(*[content(loss=0.5)] * 4, byzantine=2, rejected=2)
    assert finder.key == "loss"


def test_of_a_reply_with_very_many_metrics_those_named_like_a_loss_are_kept():
    many = RecordDict({"m": MetricRecord({f"a{i:05}": 1.0 for i in range(10_000)} | {"z_loss": 2.0})})
    found = metrics_of(many)
    assert len(found) == 64 and found["z_loss"] == 2.0


def test_a_list_under_the_name_is_no_loss():
    assert candidates([metrics_of(content(loss=[1.0]))] * 4, 3) == []


@pytest.mark.parametrize(
    ("names", "meant"),
    [(["num-examples", "train_loss"], "train_loss"), (["a", "b"], None), (["val_loss", "train_los_loss"], "val_loss")],
)
def test_the_name_that_was_most_likely_meant(names, meant):
    assert likeliest(names, "loss") == meant
