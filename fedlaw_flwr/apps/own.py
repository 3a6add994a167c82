"""The ClientApp of a silo with data of its own: what is learned is its silo.yaml's say, only how is the server's."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable

from fedlaw_flwr.apps import honest
from fedlaw_flwr.apps.deployed import own_context, ready_torch
from fedlaw_flwr.records.task import load_silo_task
from fedlaw_flwr.tasks.base import SiloTask

_SETTINGS = {"device": "device", "seed": "seed"}
_NO_OPTIONS = ("name", "task", "data-path", "device", "seed", "partition-id", "num-partitions", "engine")
"""What a silo's node config holds beside the options of its task."""


def own_settings(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """A Flower mod: of the run configuration the client sees only how to train."""
    return call_next(message, own_context(context, _SETTINGS))


app = ClientApp(mods=[own_settings])


@app.train()
def train(message: Message, context: Context) -> Message:
    """One exchange, honestly, on the silo's own examples: see `honest.respond`."""
    task = task_of(context.node_config)
    settings = honest.settings_of(context)
    return honest.respond(message, settings, honest.silo_of(context), task, task.load_train())


@app.evaluate()
def evaluate_received(message: Message, context: Context) -> Message:
    """Metrics of the received model on the examples the silo holds back, and how many they are."""
    task = task_of(context.node_config)
    examples = task.load_test()
    model = honest.received_model(message, honest.settings_of(context), task)
    return honest.measured(message, model, task, examples)


@app.query()
def describe(message: Message, context: Context) -> Message:
    """What the silo learns, by name, for the server to compare with what was agreed; nothing of its data.

    Beside it the task's alarms, where it has any: the agreed columns that are odd at this silo, and in what way.
    """
    task = task_of(context.node_config)
    alarms = list(getattr(task, "alarms", ()))
    told = ConfigRecord({"task": task.name, "description": json.dumps(task.description()), "alarms": alarms})
    return Message(RecordDict({"description": told}), reply_to=message)


def prepare(node_config: Mapping[str, Any]) -> None:
    """Loads the silo's examples before the first message comes.

    Args:
        node_config: The silo's node config.

    Raises:
        Exception: What the task raises where the data is not as said.
    """
    ready_torch()
    task = task_of(node_config)
    task.load_train()
    task.load_test()


def task_of(node_config: Mapping[str, Any]) -> SiloTask:
    """The silo's task, made once in a process."""
    return _task(tuple(sorted(node_config.items())))


@lru_cache(maxsize=8)
def _task(items: tuple[tuple[str, Any], ...]) -> SiloTask:
    config = dict(items)
    options = {key: value for key, value in config.items() if key not in _NO_OPTIONS}
    return load_silo_task(str(config["task"]), str(config.get("data-path", "")), options)
