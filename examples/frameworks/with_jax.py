"""A ClientApp in JAX: a gradient step written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from shares import CLIENTS, batches, share

app = ClientApp()


def outputs(parameters, images):
    """64 pixels through one hidden layer to ten digits."""
    hidden = jax.nn.relu(images @ parameters["w1"] + parameters["b1"])
    return hidden @ parameters["w2"] + parameters["b2"]


@jax.jit
def step(parameters, velocity, images, digits):
    """One step of SGD with momentum 0.9; returns the parameters, the velocity and the loss before the step."""

    def mean_loss(parameters):
        logs = jax.nn.log_softmax(outputs(parameters, images))
        return -jnp.mean(jnp.take_along_axis(logs, digits[:, None], axis=1))

    loss, gradient = jax.value_and_grad(mean_loss)(parameters)
    velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradient)
    return jax.tree.map(lambda p, v: p - 0.02 * v, parameters, velocity), velocity, loss


@app.train()
def train(message: Message, context: Context) -> Message:
    """Trains for three epochs."""
    images, digits = share(context.node_config["partition-id"])
    parameters = {name: jnp.asarray(array.numpy()) for name, array in message.content["arrays"].items()}
    velocity = jax.tree.map(jnp.zeros_like, parameters)
    losses = []
    for rows in batches(len(digits), epochs=3, seed=message.content["config"]["server-round"]):
        parameters, velocity, loss = step(parameters, velocity, images[rows], digits[rows])
        losses.append(float(loss))
    metrics = MetricRecord({"train_loss": float(np.mean(losses)), "num-examples": len(digits)})
    return Message(RecordDict({"arrays": record(parameters), "metrics": metrics}), reply_to=message)


def record(parameters) -> ArrayRecord:
    """Parameters as Flower sends them."""
    return ArrayRecord({name: Array(np.asarray(value)) for name, value in parameters.items()})


def initial() -> ArrayRecord:
    """The model to begin with."""
    first, second = jax.random.split(jax.random.key(0))
    w1, w2 = jax.random.normal(first, (64, 32)) / 8, jax.random.normal(second, (32, 10)) / 32**0.5
    return record({"w1": w1, "b1": jnp.zeros(32), "w2": w2, "b2": jnp.zeros(10)})


def accuracy(arrays: ArrayRecord) -> float:
    """On the images that no client has."""
    images, digits = share(CLIENTS)
    parameters = {name: array.numpy() for name, array in arrays.items()}
    return float((outputs(parameters, images).argmax(1) == digits).mean())
