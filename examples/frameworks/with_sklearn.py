"""A ClientApp in scikit-learn: ten linear classifiers, one for each digit, trained by `partial_fit`."""

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from shares import CLIENTS, share
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss

app = ClientApp()
DIGITS = np.arange(10)


def records(number: int):
    """A share in the precision that scikit-learn computes in."""
    images, digits = share(number)
    return images.astype(float), digits


def classifier(arrays: ArrayRecord, seed: int = 0) -> SGDClassifier:
    """A classifier with these coefficients, ready for `partial_fit`."""
    model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.02, random_state=seed)
    model.partial_fit(*records(CLIENTS), classes=DIGITS)  # for the shapes: what it learned is overwritten
    model.coef_, model.intercept_ = (arrays[name].numpy().astype(float) for name in ("coef", "intercept"))
    return model


@app.train()
def train(message: Message, context: Context) -> Message:
    """Trains for three epochs."""
    images, digits = records(context.node_config["partition-id"])
    model = classifier(message.content["arrays"], seed=message.content["config"]["server-round"])
    loss = log_loss(digits, model.predict_proba(images), labels=DIGITS)
    for _ in range(3):
        model.partial_fit(images, digits)
    metrics = MetricRecord({"loss": loss, "num-examples": len(digits)})
    return Message(RecordDict({"arrays": record(model.coef_, model.intercept_), "metrics": metrics}), reply_to=message)


def record(coef, intercept) -> ArrayRecord:
    """Coefficients as Flower sends them."""
    named = {"coef": coef, "intercept": intercept}
    return ArrayRecord({name: Array(np.asarray(value, np.float32)) for name, value in named.items()})


def initial() -> ArrayRecord:
    """The model to begin with: zeros."""
    return record(np.zeros((10, 64)), np.zeros(10))


def accuracy(arrays: ArrayRecord) -> float:
    """On the images that no client has."""
    return classifier(arrays).score(*records(CLIENTS))
