"""A silo's client in NumPy alone: softmax or logistic regression by mini-batch SGD, on a CSV of its own."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

HELD_BACK = 5
"""Every record whose number is a multiple of this is kept for evaluation."""

app = ClientApp()


@dataclass(frozen=True)
class Records:
    """Inputs (m, d), standardised, and labels (m,) from 0 to classes - 1; columns: what was done to each, by name."""

    inputs: Matrix
    labels: NDArray[np.int64]
    columns: Mapping[str, str]
    classes: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The model's arrays: one row for each class, or a single one where there are two."""
        rows = 1 if self.classes == 2 else self.classes
        return {"weight": (rows, len(self.columns)), "bias": (rows,)}


@app.train()
def train(message: Message, context: Context) -> Message:
    """One exchange: the loss at the model received and, unless the loss alone is wanted, the trained weights.

    Nothing is kept from one message to the next, and the batches are drawn from the message's round and exchange: the
    same message gets the same reply.
    """
    training, _ = records_of(context.node_config)
    weight, bias, received = model_in(message, training)
    config = message.content["config"]
    loss, *_ = loss_and_gradients(weight, bias, training.inputs, training.labels)
    metrics = MetricRecord({"loss": loss, "num-examples": len(training.labels)})
    if config.get("reply") == "loss":
        return Message(RecordDict({"metrics": metrics}), reply_to=message)
    if "lr" not in config:
        raise ValueError("the server's message names no lr")
    content = RecordDict({"metrics": metrics})
    if config.get("reply") == "review":  # peer review: the gradient of the class-balanced loss at the model received
        metrics["balanced-loss"], *gradients = balanced(weight, bias, training)
        named = zip(("weight", "bias"), gradients, strict=True)
        content["review"] = ArrayRecord({key: Array(value.astype(received[key].dtype)) for key, value in named})
    lr, size = float(config["lr"]), int(config.get("batch-size", 16))
    rng = np.random.default_rng([int(config.get("server-round", 0)), int(config.get("exchange", 1))])
    for _ in range(int(config.get("local-epochs", 1))):
        order = rng.permutation(len(training.labels))
        for batch in np.split(order, range(size, len(order), size)):
            _, for_weight, for_bias = loss_and_gradients(weight, bias, training.inputs[batch], training.labels[batch])
            weight, bias = weight - lr * for_weight, bias - lr * for_bias
    arrays = {key: Array(value.astype(received[key].dtype)) for key, value in (("weight", weight), ("bias", bias))}
    content["arrays"] = ArrayRecord(arrays)
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Loss and accuracy of the model received, on the records held back."""
    _, held_back = records_of(context.node_config)
    weight, bias, _ = model_in(message, held_back)
    loss, *_ = loss_and_gradients(weight, bias, held_back.inputs, held_back.labels)
    z = held_back.inputs @ weight.T + bias
    right = (z[:, 0] > 0 if len(bias) == 1 else z.argmax(1)) == held_back.labels
    metrics = {"loss": loss, "accuracy": float(right.mean()), "num-examples": len(held_back.labels)}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)


@app.query()
def describe(message: Message, context: Context) -> Message:
    """What silos must agree on: nothing of the records themselves."""
    training, _ = records_of(context.node_config)
    kind = "logistic" if training.classes == 2 else "softmax"
    agreed = {**training.columns, "label": f"class numbers 0 to {training.classes - 1}"}
    told = ConfigRecord({"task": f"{kind} regression", "description": json.dumps(agreed)})
    return Message(RecordDict({"description": told}), reply_to=message)


def prepare(node_config: Mapping[str, Any]) -> None:
    """Reads the records before the first message comes."""
    records_of(node_config)


def initial_model(node_config: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    """The model to begin with, zeros, for `fedlaw conformance`; the server sends it."""
    training, _ = records_of(node_config)
    return {key: np.zeros(shape, np.float32) for key, shape in training.shapes().items()}


def loss_and_gradients(
    weight: Matrix, bias: Matrix, inputs: Matrix, labels: NDArray[np.int64]
) -> tuple[float, Matrix, Matrix]:
    """The mean cross-entropy of z = X W' + b, and its gradients in W (k, d) and b (k,).

    k = 1: of sigmoid(z) against labels 0 and 1. k > 1: of softmax(z). With e = p - y (m, k): e'X / m and mean e.
    """
    z = inputs @ weight.T + bias
    if len(bias) == 1:
        y = labels[:, None].astype(np.float64)
        losses = np.logaddexp(0, z) - y * z
        p = np.exp(-np.logaddexp(0, -z))
    else:
        y = np.eye(len(bias))[labels]
        log_p = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
        losses = -(y * log_p).sum(1)
        p = np.exp(log_p)
    error = p - y
    return float(losses.mean()), error.T @ inputs / len(labels), error.mean(0)


def balanced(weight: Matrix, bias: Matrix, records: Records) -> tuple[float, Matrix, Matrix]:
    """The mean over the classes held of the mean loss in each, and its gradients in W (k, d) and b (k,)."""
    held = [records.labels == label for label in np.unique(records.labels)]
    parts = [loss_and_gradients(weight, bias, records.inputs[rows], records.labels[rows]) for rows in held]
    losses, for_weight, for_bias = zip(*parts, strict=True)
    return float(np.mean(losses)), np.mean(for_weight, axis=0), np.mean(for_bias, axis=0)


def model_in(message: Message, records: Records) -> tuple[Matrix, Matrix, Mapping[str, Matrix]]:
    """weight (k, d) and bias (k,) of a message, in float64, and as received. Raises ValueError for any other model."""
    received = {key: array.numpy() for key, array in message.content["arrays"].items()}
    shapes = {key: value.shape for key, value in received.items()}
    expected = records.shapes()
    if shapes != expected:
        raise ValueError(f"a model of {shapes} came where {expected} is expected")
    return received["weight"].astype(np.float64), received["bias"].astype(np.float64), received


def records_of(node_config: Mapping[str, Any]) -> tuple[Records, Records]:
    """The records to train on and those held back, read once in a process. Raises ValueError.

    node_config: `data-path`, a CSV with a line of names, numbers, and the class number in the last column; `classes`
    (2); `centre` and `scale`, a number for each column with commas between: (x - centre) / scale, the same at every
    silo.
    """
    centre, scale = (str(node_config.get(key, "")) for key in ("centre", "scale"))
    return _read(Path(str(node_config["data-path"])), int(node_config.get("classes", 2)), centre, scale)


@lru_cache(maxsize=16)
def _read(path: Path, classes: int, centre: str, scale: str) -> tuple[Records, Records]:
    with path.open(newline="", encoding="utf-8") as file:
        names, *rows = csv.reader(file)
    try:
        table = np.array(rows, dtype=np.float64)
    except ValueError:
        raise ValueError(f"{path}: after a line of names, every line needs {len(names)} numbers") from None
    d = len(names) - 1
    if table.shape != (len(rows), d + 1) or len(rows) < HELD_BACK or not np.isfinite(table).all():
        raise ValueError(f"{path}: {HELD_BACK} records or more, of {d + 1} finite numbers each, are needed")
    labels = table[:, -1].astype(np.int64)
    if np.any(labels != table[:, -1]) or not np.all((labels >= 0) & (labels < classes)):
        raise ValueError(f"{path}: the last column, {names[-1]!r}, must hold class numbers, 0 to {classes - 1}")
    centres, scales = _constants("centre", centre, 0.0, d), _constants("scale", scale, 1.0, d)
    inputs = (table[:, :-1] - centres) / scales
    columns = {
        f"column {name}": f"numeric, minus {c:g}, over {s:g}"
        for name, c, s in zip(names[:-1], centres, scales, strict=True)
    }
    held = np.arange(len(rows)) % HELD_BACK == 0
    training, held_back = (Records(inputs[rows], labels[rows], columns, classes) for rows in (~held, held))
    return training, held_back


def _constants(name: str, text: str, otherwise: float, d: int) -> Matrix:
    """d numbers with commas between, or the same number d times where there are none. Raises ValueError."""
    if not text:
        return np.full(d, otherwise)
    try:
        values = np.array([float(part) for part in text.split(",")])
    except ValueError:
        values = np.empty(0)
    if values.size != d or not np.isfinite(values).all() or (name == "scale" and not np.all(values > 0)):
        raise ValueError(
            f"{name}: {d} finite numbers with commas between are expected{', above 0' * (name == 'scale')}"
        )
    return values
