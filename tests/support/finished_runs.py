"""Whole small runs in this process, and one exchange of one client, for the tests of several parts."""

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from fedlaw_flwr.apps.byzantine.simulated import app
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.engines.in_process import InProcessGrid
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.simulation.in_process import run_in_process
from fedlaw_flwr.tasks import load_task

SMALL = {"num-silos": 10, "num-rounds": 3, "local-epochs": 1, "attack": "inverse_gradient"}


def finished(tmp_path, name="run", client=app, **settings):
    """The run with these settings, done in the folder `name`."""
    chosen = Settings.read(SMALL | {key.replace("_", "-"): value for key, value in settings.items()})
    run_in_process(client, chosen, tmp_path / name)
    return Run.read(tmp_path / name)


def exchanged(client, node, settings, **config):
    """One train message answered by one silo of a grid, and the model it was sent."""
    grid = InProcessGrid(client, settings.num_silos, settings.as_config())
    task = load_task(settings.task, settings.partition_plan(), settings.seed)
    arrays = ArrayRecord(task.build_model(0).state_dict())
    config = ConfigRecord({"server-round": 1, "exchange": 1, "lr": 0.1} | config)
    message = Message(RecordDict({"arrays": arrays, "config": config}), node + 2, "train")
    return next(iter(grid.send_and_receive([message]))), arrays


def update(reply, arrays):
    sent, got = arrays.to_torch_state_dict(), reply.content["arrays"].to_torch_state_dict()
    return np.concatenate([(sent[key] - got[key]).numpy().ravel() for key in sent])
