"""A silo's client in scikit-learn: SGDClassifier.partial_fit as plain SGD, on a CSV of the silo's own."""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray
from sklearn.linear_model import SGDClassifier

Matrix = NDArray[np.float64]

HELD_BACK = 5
"""Every record whose number is a multiple of this is kept for evaluation."""

_DATA = ("data-path", "classes", "centre", "scale")

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """One exchange: the loss at the model received and, unless the loss alone is wanted, the trained weights."""
    inputs, _, labels, _ = records_of(context.node_config)
    config = message.content["config"]
    if "lr" not in config:
        raise ValueError("the server's message names no lr")
    # partial_fit steps after every record; lr / B a record adds up to lr times the mean over a batch of B.
    step = float(config["lr"]) / min(int(config.get("batch-size", 16)), len(labels))
    seed = [int(config.get("server-round", 0)), int(config.get("exchange", 1))]
    model = model_in(message, inputs.shape[1], context.node_config, step, seed)
    metrics = MetricRecord({"loss": loss_of(model, inputs, labels), "num-examples": len(labels)})
    if config.get("reply") == "loss":
        return Message(RecordDict({"metrics": metrics}), reply_to=message)
    received, content = message.content["arrays"], RecordDict({"metrics": metrics})
    if config.get("reply") == "review":  # peer review: the gradient of the class-balanced loss at the model received
        metrics["balanced-loss"], gradients = balanced(model, inputs, labels)
        said = {key: Array(value.astype(received[key].dtype)) for key, value in gradients.items()}
        content["review"] = ArrayRecord(said)
    for _ in range(int(config.get("local-epochs", 1))):
        model.partial_fit(inputs, labels)
    trained = {"weight": model.coef_, "bias": model.intercept_}
    content["arrays"] = ArrayRecord({key: Array(value.astype(received[key].dtype)) for key, value in trained.items()})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Loss and accuracy of the model received, on the records held back."""
    _, inputs, _, labels = records_of(context.node_config)
    model = model_in(message, inputs.shape[1], context.node_config)
    accuracy = float(model.score(inputs, labels))
    metrics = {"loss": loss_of(model, inputs, labels), "accuracy": accuracy, "num-examples": len(labels)}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)


@app.query()
def describe(message: Message, context: Context) -> Message:
    """What silos must agree on: nothing of the records themselves."""
    columns, classes = columns_of(context.node_config), classes_of(context.node_config)
    kind = "logistic" if classes == 2 else "one-vs-rest logistic"
    agreed = {**columns, "label": f"class numbers 0 to {classes - 1}"}
    told = ConfigRecord({"task": f"{kind} regression", "description": json.dumps(agreed)})
    return Message(RecordDict({"description": told}), reply_to=message)


def prepare(node_config: Mapping[str, Any]) -> None:
    """Reads the records before the first message comes."""
    records_of(node_config)


def initial_model(node_config: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    """The model to begin with, zeros, for `fedlaw conformance`; the server sends it."""
    shapes = shapes_of(len(columns_of(node_config)), classes_of(node_config))
    return {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}


def model_in(
    message: Message, d: int, node_config: Mapping[str, Any], step: float = 1.0, seed: list[int] | None = None
) -> SGDClassifier:
    """The classifier with a message's weight and bias in it, as if fitted. Raises ValueError for any other model.

    step: what it moves by after a record. seed: of the order of the records.
    """
    received = {key: array.numpy() for key, array in message.content["arrays"].items()}
    shapes, expected = {key: value.shape for key, value in received.items()}, shapes_of(d, classes_of(node_config))
    if shapes != expected:
        raise ValueError(f"a model of {shapes} came where {expected} is expected")
    model = SGDClassifier(
        loss="log_loss",
        penalty=None,  # a penalty would pull the weights to 0, which no silo's records ask for
        learning_rate="constant",  # the default falls from record to record
        eta0=step,
        random_state=np.random.RandomState(seed),  # one generator, so that each epoch has another order
    )
    model.classes_, model.n_features_in_ = np.arange(classes_of(node_config)), d
    model.coef_, model.intercept_ = (np.array(received[key], np.float64, order="C") for key in ("weight", "bias"))
    return model


def loss_of(model: SGDClassifier, inputs: Matrix, labels: NDArray[np.int64]) -> float:
    """The mean over the records of what SGDClassifier descends: the log loss, summed over classes if more than two."""
    z = model.decision_function(inputs).reshape(len(labels), -1)
    y = (labels[:, None] == (np.arange(z.shape[1]) if z.shape[1] > 1 else 1)).astype(np.float64)
    return float((np.logaddexp(0, z) - y * z).sum(1).mean())


def balanced(model: SGDClassifier, inputs: Matrix, labels: NDArray[np.int64]) -> tuple[float, dict[str, Matrix]]:
    """The mean over the classes held of `loss_of` in each, and its gradient in the arrays of the model."""
    losses, for_weight, for_bias = [], [], []
    for label in np.unique(labels):
        own = inputs[labels == label]
        z = model.decision_function(own).reshape(len(own), -1)
        y = (label == (np.arange(z.shape[1]) if z.shape[1] > 1 else 1)) * np.ones_like(z)
        error = np.exp(-np.logaddexp(0, -z)) - y  # sigmoid(z) - y, the gradient of the log loss in z
        losses.append(loss_of(model, own, labels[labels == label]))
        for_weight.append(error.T @ own / len(own))
        for_bias.append(error.mean(0))
    return float(np.mean(losses)), {"weight": np.mean(for_weight, axis=0), "bias": np.mean(for_bias, axis=0)}


def shapes_of(d: int, classes: int) -> dict[str, tuple[int, ...]]:
    """The model's arrays: one row for each class, or a single one where there are two."""
    rows = 1 if classes == 2 else classes
    return {"weight": (rows, d), "bias": (rows,)}


def classes_of(node_config: Mapping[str, Any]) -> int:
    """How many classes there are; 2 unless `classes` says otherwise."""
    return int(node_config.get("classes", 2))


def columns_of(node_config: Mapping[str, Any]) -> dict[str, str]:
    """The names of the columns and what is done to each."""
    with Path(str(node_config["data-path"])).open(encoding="utf-8") as file:
        names = file.readline().strip().split(",")[:-1]
    centre, scale = constants_of(node_config, len(names))
    return {
        f"column {name}": f"numeric, minus {c:g}, over {s:g}" for name, c, s in zip(names, centre, scale, strict=True)
    }


def constants_of(node_config: Mapping[str, Any], d: int) -> tuple[Matrix, Matrix]:
    """centre and scale of d columns: (x - centre) / scale, the same at every silo; 0 and 1 where they are not given."""
    found = []
    for key, otherwise in (("centre", 0.0), ("scale", 1.0)):
        text = str(node_config.get(key, ""))
        values = np.array([float(part) for part in text.split(",")]) if text else np.full(d, otherwise)
        if values.size != d:
            raise ValueError(f"{key}: {values.size} numbers for {d} columns")
        found.append(values)
    return found[0], found[1]


def records_of(node_config: Mapping[str, Any]) -> tuple[Matrix, Matrix, NDArray[np.int64], NDArray[np.int64]]:
    """Inputs to train on and held back, labels to train on and held back; read once in a process. Raises ValueError.

    node_config: `data-path`, a CSV with a line of names, numbers, and the class number in the last column; `classes`;
    `centre` and `scale`, a number for each column with commas between.
    """
    return _read(tuple(sorted((key, str(node_config[key])) for key in _DATA if key in node_config)))


@lru_cache(maxsize=16)
def _read(items: tuple[tuple[str, str], ...]) -> tuple[Matrix, Matrix, NDArray[np.int64], NDArray[np.int64]]:
    config = dict(items)
    table = np.loadtxt(config["data-path"], delimiter=",", skiprows=1, ndmin=2)
    centre, scale = constants_of(config, table.shape[1] - 1)
    labels = table[:, -1].astype(np.int64)
    if np.any(labels != table[:, -1]) or not np.isin(labels, range(classes_of(config))).all():
        raise ValueError(
            f"{config['data-path']}: the last column must hold class numbers, 0 to {classes_of(config) - 1}"
        )
    inputs, held = (table[:, :-1] - centre) / scale, np.arange(len(table)) % HELD_BACK == 0
    return inputs[~held], inputs[held], labels[~held], labels[held]
