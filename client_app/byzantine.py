"""The Byzantine silo: a Flower mod around the honest ClientApp that poisons its examples or forges its reply."""

import sys

import numpy as np
from flwr.app import Context, Message, MetricRecord
from flwr.clientapp.typing import ClientAppCallable

from client_app.honest import respond, settings_of, silo_of, task_of
from client_app.wire import Asked, received_arrays
from fedlaw_flwr import seeding
from fedlaw_flwr.attacks import load_attack
from fedlaw_flwr.attacks.base import Attack, Situation
from fedlaw_flwr.layout import Layout
from fedlaw_flwr.settings import Settings


def attack_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Runs this silo's attack, if it has one, in every training exchange; honest in everything else.

    In a simulation the run configuration says who attacks. In a deployment it never does: there only the silo's own
    node config can (`attack`), for drills its operator agreed to.
    """
    settings = settings_of(context)
    name = _attack_of(context, settings)
    if name is None or message.metadata.message_type.partition(".")[0] != "train":
        return call_next(message, context)
    attack, silo = load_attack(name), silo_of(context)
    if attack.poison is None:
        return _forge(message, call_next(message, context), attack, settings, silo)
    task = task_of(settings)
    rng = seeding.generator(settings.seed, "attack", silo)
    reply = respond(message, settings, silo, task, attack.poison(task.load_train(silo), task.num_labels, rng))
    return _forge(message, reply, attack, settings, silo) if attack.forge else reply


def _attack_of(context: Context, settings: Settings) -> str | None:
    drill = context.node_config.get("attack")
    if drill is not None:
        return str(drill)
    return settings.attack_plan().attack_of(silo_of(context)) if _simulated(context) else None


def _simulated(context: Context) -> bool:
    """Whether this process is a simulation's: a Ray worker's, or an in-process grid's. A real silo's is neither."""
    if context.node_config.get("engine") == "in-process":
        return True
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _forge(message: Message, reply: Message, attack: Attack, settings: Settings, silo: int) -> Message:
    """The honest reply with the attack's update and loss in it; its buffers and the rest stay honest."""
    assert attack.forge is not None
    asked, received = Asked.of(message, settings), received_arrays(message)
    layout = Layout.of(received, settings.buffers)
    theta = layout.split(received)
    replied = next(iter(reply.content.array_records), None)
    trained = layout.split(reply.content.array_records[replied]) if replied else theta
    metrics: MetricRecord = next(iter(reply.content.metric_records.values()))
    start = theta.parameters.astype(np.float64)
    forged = attack.forge(
        Situation(
            round_number=asked.server_round,
            exchange=asked.exchange,
            wants_update=replied is not None,
            theta=start,
            update=(start - trained.parameters.astype(np.float64)) / asked.lr,
            loss=float(metrics["loss"]),  # type: ignore[arg-type]
            rng=seeding.generator(settings.seed, "attack", silo, asked.server_round, asked.exchange),
        )
    )
    metrics["loss"] = float(forged.loss)
    if replied:
        reply.content[replied] = theta.stepped(asked.lr * forged.update, trained.buffers).arrays()
    return reply
