"""The mod that adds a review to an existing ClientApp, and the example clients' own."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity
from torch import nn
from torch.nn.functional import cross_entropy

from fedlaw_flwr.apps.review_mod import ReviewedBy, review_mod
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.protocol.gate import read_review, read_update
from fedlaw_flwr.protocol.layout import Layout
from fedlaw_flwr.training.reviews import review

EXAMPLES = Path(__file__).parents[2] / "examples"


def net():
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(30, 4, generator=generator), torch.arange(30) % 3


def asked(state, **config):
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 0, 1, 7
    message = Message(
        RecordDict({"arrays": state, "config": ConfigRecord(config)}), dst_node_id=7, message_type="train"
    )
    message.metadata.__dict__["_message_id"] = "the-message"
    return message


def context(**node_config):
    return Context(1, 7, node_config, RecordDict(), {})


def app_of(answer, load=lambda context: ReviewedBy(net(), cross_entropy, *data())):
    app = ClientApp(mods=[review_mod(load)])

    @app.train()
    def train(message, context):
        return answer(message)

    return app


def untrained(message):
    metrics = MetricRecord({"train_loss": 1.0, "num-examples": 30})
    return Message(RecordDict({"arrays": message.content["arrays"], "metrics": metrics}), reply_to=message)


def test_the_mod_adds_the_review_of_the_received_model_and_its_loss_and_nothing_else():
    other = net()
    with torch.no_grad():
        other.weight.add_(0.5)
    message = asked(ArrayRecord(other.state_dict()), reply="review")
    reply = app_of(untrained)(message, context())
    expected = review(other, cross_entropy, *data())
    assert reply.content["metrics"]["balanced-loss"] == pytest.approx(expected.loss)
    assert reply.content["metrics"]["train_loss"] == 1.0
    for key, value in expected.gradient.items():
        np.testing.assert_array_equal(reply.content["review"][key].numpy(), value.numpy())


def test_where_no_review_is_asked_for_nothing_is_loaded_or_added():
    def never(context):
        raise AssertionError("loaded for nothing")

    message = asked(ArrayRecord(net().state_dict()), reply="update")
    assert set(app_of(untrained, never)(message, context()).content) == {"arrays", "metrics"}


def test_an_error_reply_stays_one():
    message = asked(ArrayRecord(net().state_dict()), reply="review")
    reply = app_of(lambda message: Message(Error(7, "no"), reply_to=message))(message, context())
    assert reply.has_error()


def test_a_model_that_is_not_the_silos_own_is_an_error():
    message = asked(ArrayRecord(nn.Linear(5, 3).state_dict()), reply="review")
    with pytest.raises(RuntimeError, match="size mismatch"):
        app_of(untrained)(message, context())


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", ["numpy_client", "sklearn_client"])
def test_the_example_clients_review_what_their_loss_says(name, classes, tmp_path):
    spec = importlib.util.spec_from_file_location(f"review_{name}", EXAMPLES / name / "client.py")
    client = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(client)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), [40, 12, 5][:classes])
    rows = rng.normal(size=(len(labels), 3)) + labels[:, None]
    path = tmp_path / "records.csv"
    lines = [",".join(map(str, (*row, label))) for row, label in zip(rows.round(4), labels, strict=True)]
    path.write_text("a,b,c,label\n" + "\n".join(lines[i] for i in rng.permutation(len(lines))) + "\n")
    own = context(**{"data-path": str(path), "classes": classes})
    start = {
        key: rng.normal(size=value.shape).astype(np.float32)
        for key, value in client.initial_model(own.node_config).items()
    }
    state = ArrayRecord({key: client.Array(value) for key, value in start.items()})
    config = {"server-round": 1, "exchange": 1, "lr": 0.1, "local-epochs": 1, "batch-size": 8}
    reply = client.app(asked(state, reply="review", **config), own)
    plain = client.app(asked(state, reply="update", **config), own)
    model = Layout.of(state).split(state)
    row, update = np.empty(model.layout.num_parameters), np.empty_like(model.parameters)
    read_review(reply.content, model.layout, row)
    assert read_update(reply.content, model, update, None, with_review=True) == read_update(
        plain.content, model, update
    )
    assert reply.content["metrics"]["loss"] == plain.content["metrics"]["loss"]

    def balanced_loss(parameters):
        moved = model.stepped(model.parameters.astype(np.float64) - parameters).arrays()
        return client.app(asked(moved, reply="review", **config), own).content["metrics"]["balanced-loss"]

    theta, step = model.parameters.astype(np.float64), 1e-2
    numeric = np.array(
        [(balanced_loss(theta + step * e) - balanced_loss(theta - step * e)) / (2 * step) for e in np.eye(theta.size)]
    )
    np.testing.assert_allclose(row / np.linalg.norm(row), numeric / np.linalg.norm(numeric), atol=2e-3)


def test_a_review_of_nothing_is_one_sentence():
    with pytest.raises(InputError, match="at least one example"):
        review(net(), cross_entropy, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
