"""The honest ClientApp of a real silo: what it learns is its own configuration's say, only how is the server's."""

from collections.abc import Mapping
from typing import Any

import torch
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable

from fedlaw_flwr.apps import honest

HOW = ("lr", "local-epochs", "batch-size", "loss-at", "buffers")
"""What a run configuration may decide for a real silo. Everything else it says is ignored."""

_OWN = {
    "task": "task",
    "data-path": "data-dir",
    "device": "device",
    "num-partitions": "num-silos",
    "partition": "partition",
    "q": "q",
    "concentration": "concentration",
    "seed": "seed",
}


def own_settings(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """A Flower mod: the client sees the silo's own settings and of the run configuration only what it may decide."""
    return call_next(message, own_context(context))


def own_context(context: Context, own: Mapping[str, str] = _OWN) -> Context:
    """The context with a run configuration made of the silo's node config and, of the server's, the keys in HOW.

    Args:
        context: The context as Flower gives it.
        own: Which keys of the node config are which settings.
    """
    config: dict[str, Any] = {key: context.run_config[key] for key in HOW if key in context.run_config}
    config |= {setting: context.node_config[key] for key, setting in own.items() if key in context.node_config}
    return Context(
        run_id=context.run_id,
        node_id=context.node_id,
        node_config=context.node_config,
        state=context.state,
        # No strategy runs here; this bound is feasible for any number of silos.
        run_config={**config, "max-byzantine": 0},
    )


def prepare(node_config: dict[str, Any]) -> None:
    """Loads the silo's examples, and the libraries that train on them, before the first message comes.

    Args:
        node_config: The silo's node config.

    Raises:
        Exception: What the task raises where the data is not as the configuration says.
    """
    ready_torch()
    context = own_context(Context(run_id=0, node_id=0, node_config=node_config, state=RecordDict(), run_config={}))
    honest.settings_of(context).load_task().load_train(honest.silo_of(context))


def ready_torch() -> None:
    """One thread, and one step on nothing, in the process that forks for each message.

    More threads would leave some behind that the forks do not have; and a process's first optimiser makes torch import
    870 modules, 2 s that each fork would pay.
    """
    torch.set_num_threads(1)
    nothing = torch.nn.Parameter(torch.zeros(1))
    nothing.grad = torch.zeros(1)
    optimiser = torch.optim.SGD([nothing], lr=1.0)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


app = ClientApp(mods=[own_settings])
app.train()(honest.train)
app.evaluate()(honest.evaluate_received)
