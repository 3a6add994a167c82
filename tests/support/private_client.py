"""A silo's own client for the tests of policies: moves the model by what the message says, and seeds NumPy by 0."""

import os
import time

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """theta + step on every coordinate, num-examples as told; without arrays where only the loss is asked for."""
    drawn = float(np.random.random())
    np.random.seed(0)  # as many a client does: whatever draws noise afterwards must not depend on it
    config = message.content["config"]
    time.sleep(float(config.get("sleep", 0)))
    metrics = MetricRecord({"loss": 0.25, "num-examples": int(config.get("num-examples", 100))})
    content = RecordDict({"metrics": metrics, "process": ConfigRecord({"pid": os.getpid(), "drawn": drawn})})
    if config.get("reply", "update") != "loss":
        received = message.content["arrays"]
        content["arrays"] = ArrayRecord(
            {key: Array(np.asarray(value.numpy() + np.float32(config["step"]))) for key, value in received.items()}
        )
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """A loss."""
    return Message(RecordDict({"metrics": MetricRecord({"loss": 0.5, "num-examples": 100})}), reply_to=message)
