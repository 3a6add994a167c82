"""The batched engine: every silo's reply is the one it gives alone, whatever it trains on, attacks with or fails at.

Tolerances: a product of matrices summed in another order differs in the last bits of float32 (relative 6e-8); trained
parameters of size 0.1 to 1 then differ by some 1e-7 after tens of steps, a trained loss by as much. 2e-6 allows ten
times that. Forged updates are divided by alpha and multiplied again, or scaled by at most 4. Weights are sums of losses
and inner products of whole updates: 1e-5. In float64, where no rounding is in the way, the engines agree to 1e-12.

Over rounds there is one thing more: models 1e-8 apart can lie on two sides of a ReLU's kink, and then the gradient of
one example through one unit is there or not. Seed 0 has such a case (digits, loss_median, round 3: the norm of one
update by 1.6e-4), in which the sequential engine shows the same jump between the two models. Seed 1 has none.
"""

import os
import tempfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from scripted import stopped_clock
from torch import nn

from fedlaw_flwr.apps.byzantine.batched import SimulatedSilos
from fedlaw_flwr.apps.byzantine.simulated import app
from fedlaw_flwr.apps.experiment import build_strategy
from fedlaw_flwr.attacks import ATTACKS, load_attack
from fedlaw_flwr.attacks.lie import z_max
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.core.partition import Partition
from fedlaw_flwr.engines import batched
from fedlaw_flwr.engines.batched import BatchedGrid
from fedlaw_flwr.engines.in_process import InProcessGrid
from fedlaw_flwr.engines.stacked import AnyNets, NotStackable, Perceptrons, slices, stacked, train_together
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import NoReply, ReplyRejected, RoundEnded
from fedlaw_flwr.simulation.in_process import run_batched, run_in_process
from fedlaw_flwr.tasks import TASKS, load_task
from fedlaw_flwr.tasks.base import Examples
from fedlaw_flwr.tasks.choice import Choice
from fedlaw_flwr.tasks.models import cnn, mlp, seeded
from fedlaw_flwr.tasks.pooled import PooledTask
from fedlaw_flwr.training.local import Job, local_round

N = 8
CLOSE = {"rtol": 1e-5, "atol": 2e-6}
DATA = os.environ.get("FEDLAW_DATA_DIR", "")
# Dirichlet silos hold from a few to hundreds of examples; of 60 a batch, nearly every silo's last one is short.
UNEQUAL = {"num-silos": N, "partition": "dirichlet", "byzantine": 2, "max-byzantine": 2, "local-epochs": 2}
CASES = [
    (task, attack)
    for task in ("digits", "breast_cancer")
    for attack in ("none", *ATTACKS)
    if attack == "none" or TASKS[task].is_image or not load_attack(attack).needs_images
]


def settings_for(**more):
    return Settings.read({**UNEQUAL, "batch-size": 60, **{key.replace("_", "-"): value for key, value in more.items()}})


def sequential(settings):
    return InProcessGrid(app, settings.num_silos, settings.as_config())


def all_at_once(settings, silos_per_batch=64, silos=None):
    return BatchedGrid(
        silos or SimulatedSilos(settings), settings.num_silos, settings.as_config(), silos_per_batch=silos_per_batch
    )


def model_of(settings):
    task = load_task(settings.task, settings.partition_plan(), settings.seed, Choice(settings.data_dir))
    return ArrayRecord(task.build_model(settings.seed).state_dict())


def replies(grid, settings, *, asked=lambda silo: "update", arrays=None, pulled=range(N), kind="train", **config):
    """Every silo's reply to one exchange, in order of the silos; pulled one at a time in the order given."""
    arrays = arrays or model_of(settings)
    common = {"server-round": 25, "exchange": 1, "lr": settings.lr} | config
    messages = [
        Message(
            RecordDict({"arrays": arrays, "config": ConfigRecord({**common, "reply": asked(silo)})}), silo + 2, kind
        )
        for silo in range(settings.num_silos)
    ]
    sent = list(grid.push_messages(messages))
    found = {silo: next(iter(grid.pull_messages([sent[silo]]))) for silo in pulled}
    return [found[silo] for silo in sorted(found)]


def flat(reply, record="arrays"):
    return np.concatenate([array.numpy().ravel() for array in reply.content[record].values()])


def assert_same(first, second):
    """The same replies: errors and records alike, numbers to rounding."""
    assert len(first) == len(second)
    for silo, (one, other) in enumerate(zip(first, second, strict=True)):
        assert one.has_error() == other.has_error(), silo
        if one.has_error():
            assert one.error == other.error
            continue
        assert list(one.content) == list(other.content) and one.content["silo"] == other.content["silo"]
        assert one.content["metrics"]["num-examples"] == other.content["metrics"]["num-examples"]
        np.testing.assert_allclose(one.content["metrics"]["loss"], other.content["metrics"]["loss"], **CLOSE)
        if "arrays" in one.content:
            assert list(one.content["arrays"]) == list(other.content["arrays"])
            np.testing.assert_allclose(flat(one), flat(other), err_msg=f"silo {silo}", **CLOSE)


@pytest.mark.parametrize(
    ("task", "attack", "loss_at"),
    [(*case, "received") for case in CASES] + [("digits", attack, "trained") for attack in ("none", *ATTACKS)],
)
def test_every_reply_of_both_exchanges_is_the_one_the_silo_gives_alone(task, attack, loss_at):
    settings = settings_for(task=task, attack=attack, loss_at=loss_at)
    here, there = sequential(settings), all_at_once(settings)
    assert_same(replies(here, settings), replies(there, settings))
    thrift = {"exchange": 2, "asked": lambda silo: "update" if silo % 3 else "loss"}
    assert_same(replies(here, settings, **thrift), replies(there, settings, **thrift))


@pytest.mark.parametrize("attack", ["none", *ATTACKS])
def test_a_review_is_the_one_the_silo_gives_alone_and_changes_nothing_else(attack):
    settings = settings_for(attack=attack)
    asked = {"asked": lambda silo: "review"}
    here, there = (replies(grid(settings), settings, **asked) for grid in (sequential, all_at_once))
    assert_same(here, there)
    updates = replies(sequential(settings), settings)
    for silo, (one, other, update) in enumerate(zip(here, there, updates, strict=True)):
        if one.has_error():
            continue
        assert set(one.content) == set(other.content) == {"metrics", "silo", "arrays", "review"}
        np.testing.assert_allclose(flat(one, "review"), flat(other, "review"), err_msg=f"silo {silo}", **CLOSE)
        balanced = [each.content["metrics"]["balanced-loss"] for each in (one, other)]
        np.testing.assert_allclose(*balanced, **CLOSE)
        if attack not in ("support_max", "review_max"):  # which move otherwise where they are reviewed
            np.testing.assert_array_equal(flat(one), flat(update))


@pytest.mark.parametrize("attack", ["label_flipping", "inverse_gradient", "bad_mouthing", "support_max"])
def test_peer_review_ends_with_the_same_weights_and_model_in_both_engines(attack):
    settings = settings_for(attack=attack, variant="review", num_rounds=3, weight_rounds=2, seed=1)
    found = []
    for grid in (sequential(settings), all_at_once(settings)):
        events = []
        with stopped_clock():
            result = build_strategy(settings, events.append).start(
                grid, model_of(settings), num_rounds=3, timeout=60, train_config=ConfigRecord({"lr": settings.lr})
            )
        found.append((result.arrays, [event for event in events if isinstance(event, RoundEnded)]))
    (here, mine), (there, theirs) = found
    assert [event.weights for event in mine] == [event.weights for event in theirs]
    assert [event.vouching for event in mine] == [event.vouching for event in theirs]
    assert len(mine[0].exchanges) == 1 and mine[0].support is not None and mine[2].support is None
    for key, array in here.items():
        np.testing.assert_allclose(array.numpy(), there[key].numpy(), **CLOSE)


@pytest.mark.parametrize("loss_at", ["received", "trained"])
@pytest.mark.parametrize("attack", ["label_flipping", "backdoor"])
def test_a_poisoner_may_take_its_loss_on_its_own_examples_and_its_update_stays(attack, loss_at):
    chosen = settings_for(attack=attack, loss_at=loss_at, poison_loss="own")
    own, there = replies(sequential(chosen), chosen), replies(all_at_once(chosen), chosen)
    assert_same(own, there)
    poisoned, honest = (
        replies(sequential(settings), settings)
        for settings in (settings_for(attack=attack, loss_at=loss_at), settings_for(loss_at=loss_at))
    )
    attackers = chosen.attack_plan().attackers
    for silo in range(N):
        assert flat(own[silo]).tolist() == flat(poisoned[silo]).tolist()
        losses = [each[silo].content["metrics"]["loss"] for each in (own, poisoned, honest)]
        if silo not in attackers:
            assert losses[0] == losses[1]
        elif loss_at == "received":
            assert losses[0] == losses[2] != losses[1]  # of the same model on the same examples as an honest silo's
        else:
            assert losses[0] != losses[1]
            assert attack != "label_flipping" or losses[0] > losses[1]  # labels it can fit, it fits


@pytest.mark.parametrize(("task", "attack"), CASES)
def test_three_rounds_end_with_the_same_weights_and_model(task, attack):
    settings = settings_for(task=task, attack=attack, batch_size=32, local_epochs=1, seed=1)
    events, models = [], []
    for grid in (sequential(settings), all_at_once(settings, 5)):
        seen = []
        train = ConfigRecord(
            {"lr": settings.lr, "local-epochs": settings.local_epochs, "batch-size": settings.batch_size}
        )
        with stopped_clock("fedlaw_flwr.protocol.roster"):
            result = build_strategy(settings, seen.append).start(grid, model_of(settings), 3, train_config=train)
        events.append([event for event in seen if isinstance(event, RoundEnded | NoReply | ReplyRejected)])
        models.append(np.concatenate([array.numpy().ravel() for array in result.arrays.values()]))
    for one, other in zip(*events, strict=True):
        assert type(one) is type(other) and one.round == other.round
        if isinstance(one, RoundEnded):
            assert one.silos == other.silos and one.bytes_up == other.bytes_up
            np.testing.assert_allclose(one.weights, other.weights, atol=1e-5)
            np.testing.assert_allclose(one.norms, other.norms, rtol=1e-5)
    np.testing.assert_allclose(*models, rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("silos_per_batch", [1, 3, 7])
def test_how_many_train_together_is_no_matter(silos_per_batch):
    settings = settings_for(attack="min_max:2,label_flipping:1")
    assert_same(replies(all_at_once(settings), settings), replies(all_at_once(settings, silos_per_batch), settings))


def test_neither_is_the_number_of_threads_nor_the_order_of_pulling():
    settings = settings_for(attack="lie")
    before = replies(all_at_once(settings, 5), settings)
    torch.set_num_threads(3)
    try:
        assert_same(before, replies(all_at_once(settings, 5), settings, pulled=(4, 0, 7, 6, 5, 1, 2, 3)))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=9), st.integers(1, 12))
def test_a_pass_takes_every_example_once_and_pads_no_batch(sizes, width):
    sizes.sort(reverse=True)
    seen = [[] for _ in sizes]
    for start, rows, count in slices(sizes, width):
        for row in range(rows.start, rows.stop):
            assert count == min(width, sizes[row] - start)
            seen[row] += range(start, start + count)
    assert seen == [list(range(size)) for size in sizes]


def made_up(build, shape=(3, 8, 8), num_silos=5, count=150):
    """A task of four labels over random images, dealt unequally."""
    rng = np.random.default_rng(5)
    inputs, labels = rng.normal(size=(count, *shape)).astype(np.float32), rng.integers(0, 4, count)
    return PooledTask(
        "made up",
        Partition("dirichlet", num_silos, concentration=1.0),
        0,
        Choice(),
        load=lambda: (inputs, labels),
        build=build,
        num_labels=4,
        input_shape=shape,
        is_image=True,
    )


def jobs_of(task, num_silos=5, **more):
    asked = {"lr": 0.05, "epochs": 2, "batch_size": 8, "loss_at": "trained", "wants_update": True} | more
    return [
        Job(silo=silo, examples=task.load_train(silo), poison="", seed=0, server_round=1, exchange=1, **asked)
        for silo in range(num_silos)
    ]


def assert_trained_alike(model, task, jobs, rtol=1e-5, atol=2e-6):
    together = train_together(model, task, jobs)
    for job, found in zip(jobs, together, strict=True):
        alone = task.build_model(0)
        alone.load_state_dict(model.state_dict())
        expected = local_round(alone, task, job)
        assert found.loss == pytest.approx(expected.loss, rel=rtol)
        assert list(found.state) == list(expected.state)
        for key, value in expected.state.items():
            np.testing.assert_allclose(found.state[key], value, rtol=rtol, atol=atol, err_msg=key)
    assert max(float((found.state[key] - value).abs().max()) for key, value in model.state_dict().items()) > 0.01


def test_the_cnn_with_group_norm_trains_as_it_does_alone():
    task = made_up(lambda: cnn(4, channels=3, side=8))
    model = task.build_model(0)
    assert isinstance(stacked(model, 2), AnyNets)
    # Group norm divides by deviations of 8 channels of few pixels: rounding grows in it.
    assert_trained_alike(model, task, jobs_of(task), atol=2e-5)


def test_the_perceptron_by_hand_is_the_one_by_autograd(monkeypatch):
    task = made_up(lambda: mlp(192, 20, 10, 4))
    model = task.build_model(0)
    assert isinstance(stacked(model, 2), Perceptrons)
    assert_trained_alike(model, task, jobs_of(task))
    monkeypatch.setattr("fedlaw_flwr.engines.stacked._is_perceptron", lambda model: False)
    assert isinstance(stacked(model, 2), AnyNets)
    assert_trained_alike(model, task, jobs_of(task))


@pytest.mark.parametrize("build", [lambda: cnn(4, channels=3, side=8).double(), lambda: mlp(192, 20, 10, 4).double()])
def test_in_float64_nothing_but_the_last_digits_differs(build):
    task = made_up(build)
    jobs = [
        replace(job, examples=Examples(job.examples.inputs.double(), job.examples.targets)) for job in jobs_of(task)
    ]
    assert_trained_alike(task.build_model(0), task, jobs, rtol=1e-12, atol=1e-12)


def test_a_frozen_layer_stays_as_it_is_and_a_net_almost_a_perceptron_is_not_taken_for_one():
    def build():
        net = mlp(192, 20, 4)
        net[1].weight.requires_grad_(False)
        return net

    task = made_up(build)
    model = task.build_model(0)
    assert isinstance(stacked(model, 2), AnyNets)
    assert_trained_alike(model, task, jobs_of(task))
    together = train_together(model, task, jobs_of(task))
    assert all(torch.equal(found.state["1.weight"], model[1].weight) for found in together)
    for other in (nn.Sequential(nn.Linear(3, 3), nn.ReLU()), nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False))):
        assert isinstance(stacked(other, 2), AnyNets)


def test_a_batch_larger_than_any_silo_is_one_step_an_epoch():
    task = made_up(lambda: mlp(192, 20, 4))
    assert_trained_alike(task.build_model(0), task, jobs_of(task, batch_size=1000, loss_at="received"))


def test_a_model_with_batch_norm_is_refused_by_the_stack_and_trained_silo_by_silo_by_the_grid(monkeypatch):
    def normed(self, seed):
        return seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.Linear(6, 10)), seed)

    warned = []
    monkeypatch.setattr(batched._log, "warning", lambda *said: warned.append(said))
    monkeypatch.setattr(PooledTask, "build_model", normed)
    with pytest.raises(NotStackable, match="buffers"):
        stacked(normed(None, 0), 2)
    settings = settings_for(attack="lie", batch_size=7)
    found = replies(all_at_once(settings), settings)
    assert "2.running_mean" in found[0].content["arrays"]
    assert_same(replies(sequential(settings), settings), found)
    assert len(warned) == 1 and "NotStackable: the model has buffers" in warned[0][1]


class Failing(SimulatedSilos):
    """Silo 2's examples cannot be read, silo 5's have a label there is not."""

    def _job(self, message, silo, poison):
        job = super()._job(message, silo, poison)
        if silo == 2:
            raise OSError("its disk is gone")
        if silo == 5:
            return replace(job, examples=Examples(job.examples.inputs, job.examples.targets + 10))
        return job


def test_a_silo_that_fails_is_that_silos_error_and_no_one_elses():
    settings = settings_for(attack="none")
    expected = replies(sequential(settings), settings)
    for silos_per_batch in (3, 8):
        found = replies(all_at_once(settings, silos_per_batch, Failing(settings)), settings)
        assert found[2].error.code == 2 and found[2].error.reason == "OSError: its disk is gone"
        assert found[5].error.code == 2 and found[5].error.reason.startswith("IndexError: Target 1")
        sound = [silo for silo in range(N) if silo not in (2, 5)]
        assert_same([expected[silo] for silo in sound], [found[silo] for silo in sound])


def test_a_message_the_silos_cannot_use_is_an_error_of_each():
    settings = settings_for(attack="none")
    for grid in (sequential(settings), all_at_once(settings)):
        assert all("lr='fast'" in reply.error.reason for reply in replies(grid, settings, lr="fast"))
        other = ArrayRecord({"w": torch.zeros(3)})
        assert all("RuntimeError: Error(s) in loading" in r.error.reason for r in replies(grid, settings, arrays=other))
        assert not any(reply.has_error() for reply in replies(grid, settings))


def test_what_is_no_training_message_is_answered_by_the_app():
    settings = settings_for()
    one, other = (replies(grid, settings, kind="evaluate") for grid in (sequential(settings), all_at_once(settings)))
    for reply, same in zip(one, other, strict=True):  # the accuracy of a class without examples is NaN
        np.testing.assert_equal(dict(reply.content["metrics"]), dict(same.content["metrics"]))
    assert one[0].content["metrics"]["accuracy"] >= 0


@pytest.fixture
def together(monkeypatch):
    """The silos of every batch that was trained, in order."""
    seen, real = [], train_together

    def spy(model, task, jobs):
        seen.append([job.silo for job in jobs])
        return real(model, task, jobs)

    monkeypatch.setattr(batched, "train_together", spy)
    return seen


def test_a_batch_is_trained_when_its_first_reply_is_pulled_and_no_larger_than_asked(together):
    settings = settings_for(attack="label_flipping")
    grid = all_at_once(settings, 3)
    replies(grid, settings, pulled=range(3))
    assert together == [[0, 1, 2]]
    replies(grid, settings, exchange=2)
    assert together == [[0, 1, 2], [0, 1, 2], [3, 4, 5], [6, 7]]


@pytest.mark.parametrize("silos_per_batch", [3, 8])
@pytest.mark.parametrize("attack", ["lie", "loss_median", "ipm:2,min_sum:1"])
def test_colluders_are_trained_once_in_an_exchange_and_leave_no_files(
    attack, silos_per_batch, together, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    settings = settings_for(attack=attack)
    replies(all_at_once(settings, silos_per_batch), settings)
    poisoned = 2 if attack == "loss_median" else 0  # each trains on flipped labels, and honestly for the coalition
    assert sorted(silo for batch in together for silo in batch) == sorted(
        [*range(N), *(settings.attack_plan().members(attack) if poisoned else ())]
    )
    assert max(map(len, together)) <= silos_per_batch and not list(tmp_path.iterdir())


def test_an_omniscient_attacker_forges_from_the_honest_updates_of_all():
    settings = settings_for(attack="lie", knowledge="omniscient")
    start = np.concatenate([array.numpy().ravel() for array in model_of(settings).values()]).astype(np.float64)
    honest = [flat(r) for r in replies(all_at_once(settings_for(attack="none")), settings)]
    g = (start - np.array(honest)) / settings.lr
    expected = start - settings.lr * (g.mean(axis=0) + z_max(N, 2) * g.std(axis=0))
    found = replies(all_at_once(settings, 3), settings)
    for silo in settings.attack_plan().attackers:
        np.testing.assert_allclose(flat(found[silo]), expected, **CLOSE)
    colluding = replies(all_at_once(settings_for(attack="lie")), settings)
    assert np.abs(flat(colluding[silo]) - expected).max() > 1e-3


def test_the_other_engines_refuse_omniscience_in_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"knowledge='omniscient': .*--engine batched"):
        run_in_process(app, settings_for(attack="lie", knowledge="omniscient"), tmp_path / "run")


def test_silos_per_batch_is_at_least_one():
    with pytest.raises(ValueError, match="silos-per-batch=0"):
        all_at_once(settings_for(), 0)


@pytest.mark.skipif(not DATA, reason="FEDLAW_DATA_DIR names no folder of torchvision's")
@pytest.mark.parametrize("task", ["mnist", "cifar10"])
def test_silos_with_real_images_reply_what_they_reply_alone(task):
    settings = settings_for(task=task, data_dir=DATA, num_silos=400, batch_size=64, lr=0.05, local_epochs=1)
    try:
        load_task(task, settings.partition_plan(), 0, Choice(DATA)).load_test()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    assert_same(replies(sequential(settings), settings), replies(all_at_once(settings), settings, pulled=range(N)))


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["inverse_gradient", "lie"])
def test_three_rounds_in_ray_give_the_same_weights_and_losses(attack, tmp_path):
    from fedlaw_flwr.simulation.flwr_run import simulate

    settings = settings_for(attack=attack, num_rounds=3)
    simulate(settings, tmp_path / "ray", lambda event: None)
    run_batched(SimulatedSilos, settings, tmp_path / "batched")
    rounds = [Run.read(tmp_path / name).rounds for name in ("ray", "batched")]
    for one, other in zip(*rounds, strict=True):
        assert one.silos == other.silos
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-5)
        np.testing.assert_allclose(one.losses, other.losses, **CLOSE)
        np.testing.assert_allclose(one.norms, other.norms, rtol=1e-5)
