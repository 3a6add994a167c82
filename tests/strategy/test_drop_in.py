"""FedLAW on a ClientApp that is not ours, and Flower's own strategy on ours."""

import quickstart_client
import torch
from flwr.app import ArrayRecord, ConfigRecord
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from fedlaw_flwr.apps.byzantine.simulated import app as our_app
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.engines.in_process import InProcessGrid
from fedlaw_flwr.strategy import FedLAW
from fedlaw_flwr.tasks import load_task
from fedlaw_flwr.training.local import evaluate

N = 10
RUN_CONFIG = {"local-epochs": 2}


def accuracy_on_silos(strategy, app=quickstart_client.app):
    grid = InProcessGrid(app, N, RUN_CONFIG)
    torch.manual_seed(0)
    return strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(quickstart_client.Net().state_dict()),
        num_rounds=8,
        train_config=ConfigRecord({"lr": 0.1}),
    )


def one_in_five_hostile(partition):
    """The same app, except that silos 0 and 5 reply the opposite of their update."""

    def reverse(message, context, call_next):
        reply = call_next(message, context)
        if message.metadata.message_type != "train" or partition not in (0, 5):
            return reply
        received = message.content["arrays"].to_torch_state_dict()
        trained = reply.content["arrays"].to_torch_state_dict()
        for key, value in trained.items():
            if value.is_floating_point() and "running" not in key:
                trained[key] = received[key] - 3 * (value - received[key])
        reply.content["arrays"] = ArrayRecord(trained)
        return reply

    app = ClientApp(mods=[reverse])
    app.train()(quickstart_client.train)
    app.evaluate()(quickstart_client.evaluate)
    return app


def fedlaw(**settings):
    return FedLAW(max_byzantine=3, lr=0.1, beta=0.01, loss_key="train_loss", **settings)


def test_fedlaw_trains_an_unchanged_quickstart_client_app():
    result = accuracy_on_silos(fedlaw(fraction_evaluate=1.0))
    assert result.evaluate_metrics_clientapp[8]["eval_acc"] > 0.85


def test_where_two_of_ten_silos_turn_hostile_the_one_line_change_saves_the_run():
    apps = {partition: one_in_five_hostile(partition) for partition in range(N)}
    kept = accuracy_on_silos(fedlaw(fraction_evaluate=1.0), apps.__getitem__)
    lost = accuracy_on_silos(FedAvg(), apps.__getitem__)
    assert kept.evaluate_metrics_clientapp[8]["eval_acc"] > 0.85
    assert lost.evaluate_metrics_clientapp[8]["eval_acc"] < 0.5


def test_batch_norm_statistics_survive_training():
    result = accuracy_on_silos(fedlaw())
    state = result.arrays.to_torch_state_dict()
    assert torch.all(state["norm.running_var"] > 0)
    assert not torch.allclose(state["norm.running_mean"], torch.zeros(32))
    assert state["norm.num_batches_tracked"] == 0  # integers stay the server's


def test_flowers_own_fedavg_runs_on_our_client_app():
    settings = Settings(num_silos=10)
    task = load_task("digits", settings.partition_plan(), 0)
    grid = InProcessGrid(our_app, 10, settings.as_config())
    result = FedAvg().start(grid=grid, initial_arrays=ArrayRecord(task.build_model(0).state_dict()), num_rounds=8)
    model = task.build_model(0)
    model.load_state_dict(result.arrays.to_torch_state_dict())
    assert evaluate(model, task, task.load_test())["accuracy"] > 0.8
    assert "accuracy" in result.evaluate_metrics_clientapp[8]
