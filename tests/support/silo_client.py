"""A silo's own client for tests: does what the message's config says, well or badly."""

import os
import signal
import time

from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()
prepared: list[dict] = []


def prepare(node_config):
    """Called once, before the first message."""
    prepared.append(node_config)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Echoes, counts, raises, dies, sleeps."""
    what = message.content["config"]["do"]
    if what == "raise":
        raise ValueError("patient 4711 has a fever")
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "sleep":
        time.sleep(60)
    before = int(context.state["seen"]["count"]) if "seen" in context.state else 0
    context.state["seen"] = MetricRecord({"count": before + 1})
    told = {
        "count": before + 1,
        "pid": os.getpid(),
        "prepared": len(prepared),
        "run-config": str(sorted(context.run_config.items())),
        "node-config": str(sorted(context.node_config.items())),
    }
    return Message(RecordDict({"told": ConfigRecord(told)}), reply_to=message)


not_an_app = "text"
