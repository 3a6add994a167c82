"""The Byzantine silo: a Flower mod around the honest ClientApp that poisons its examples or forges its reply."""

import sys
from collections.abc import Callable

import numpy as np
from flwr.app import Context, Error, Message, MetricRecord
from flwr.clientapp.typing import ClientAppCallable

from fedlaw_flwr.apps.byzantine.coalition import honest_coalition
from fedlaw_flwr.apps.honest import respond, settings_of, silo_of
from fedlaw_flwr.apps.wire import Asked, received_arrays
from fedlaw_flwr.attacks import load_attack
from fedlaw_flwr.attacks.base import Attack, Coalition, Situation, review_forged, with_noise
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.core import seeding
from fedlaw_flwr.protocol.gate import BALANCED_LOSS, REVIEW
from fedlaw_flwr.protocol.layout import Layout
from fedlaw_flwr.tasks.base import Examples, Task

# Flower's code for a ClientApp that failed: what a silo that answers nothing looks like from the server.
_CLIENT_APP_EXCEPTION = 2


def attack_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Runs this silo's attack, if it has one, in every training exchange; honest in everything else.

    In a simulation the run configuration says who attacks. In a deployment it never does: there only the silo's own
    node config can (`attack`), for drills its operator agreed to, and such a silo colludes with nobody.
    """
    name = _attack_of(context)
    if name is None or message.metadata.message_type.partition(".")[0] != "train":
        return call_next(message, context)
    attack = load_attack(name)
    if attack.poison is None:
        reply = call_next(message, context)
    else:
        settings, silo = settings_of(context), silo_of(context)
        task = settings.load_task()
        own = task.load_train(silo)
        measured = own if settings.poison_loss == "own" else None
        reply = respond(message, settings, silo, task, poisoned(attack, own, task, settings, silo), measured)
    members = _members(context, attack)
    return forged(message, context, reply, attack, lambda: honest_coalition(message, context, members))


def poisoned(attack: Attack, examples: Examples, task: Task, settings: Settings, silo: int) -> Examples:
    """What the silo trains on under this attack: in every exchange the same, and its own where none are changed."""
    if attack.poison is None:
        return examples
    return attack.poison(examples, task, seeding.generator(settings.seed, "attack", silo))


def _attack_of(context: Context) -> str | None:
    drill = context.node_config.get("attack")
    if drill is not None:
        return str(drill)
    return settings_of(context).attack_plan().attack_of(silo_of(context)) if _simulated(context) else None


def _members(context: Context, attack: Attack) -> tuple[int, ...]:
    """The silos that run this attack: in a drill this one alone, which has no other's examples."""
    silo = silo_of(context)
    if "attack" in context.node_config:
        return (silo,)
    return settings_of(context).attack_plan().members(attack.name)


def _simulated(context: Context) -> bool:
    """Whether this process is a simulation's: a Ray worker's, or an in-process grid's. A real silo's is neither."""
    if context.node_config.get("engine") == "in-process":
        return True
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def forged(
    message: Message, context: Context, reply: Message, attack: Attack, coalition: Callable[[], Coalition]
) -> Message:
    """The reply with the attack's update and loss in it; its buffers and the rest stay as they were.

    A silent attacker's reply is an error, the one way a ClientApp has of giving no answer: to the strategy an error
    and no reply are the same silence, and the run need not wait for its timeout.

    Args:
        message: What the server sent.
        context: The context of the silo.
        reply: What its training gave; it is changed in place.
        attack: What the silo runs.
        coalition: Gives what its colluders know; called by attacks that collude only.
    """
    if attack.forge is None and attack.forge_review is None:
        return reply
    settings, silo, members = settings_of(context), silo_of(context), _members(context, attack)
    asked, received = Asked.of(message, settings), received_arrays(message)
    layout = Layout.of(received, settings.buffers)
    theta = layout.split(received)
    replied = next((name for name in reply.content.array_records if name != REVIEW), None)
    reviewed = reply.content.array_records.get(REVIEW)
    trained = layout.split(reply.content.array_records[replied]) if replied else theta
    metrics: MetricRecord = next(iter(reply.content.metric_records.values()))
    start = theta.parameters.astype(np.float64)
    rng = seeding.generator(settings.seed, "attack", silo, asked.server_round, asked.exchange)
    situation = Situation(
        round_number=asked.server_round,
        exchange=asked.exchange,
        wants_update=replied is not None,
        lr=asked.lr,
        theta=start,
        update=(start - trained.parameters.astype(np.float64)) / asked.lr,
        loss=float(metrics["loss"]),  # type: ignore[arg-type]
        silo=silo,
        members=members,
        num_silos=settings.num_silos,
        rng=rng,
        shared_rng=seeding.generator(settings.seed, "coalition"),
        coalition=coalition,
        global_parameter=settings.global_parameter,
        lie_over=settings.lie_over,
        review=None if reviewed is None else layout.gradient({key: one.numpy() for key, one in reviewed.items()}),
    )
    forgery = attack.forge(situation) if attack.forge else situation.honestly()
    if settings.attack_noise and attack.same_for_all and replied:
        forgery = with_noise(forgery, settings.attack_noise, rng)
    if forgery.silent:
        return Message(Error(_CLIENT_APP_EXCEPTION, f"{attack.name}: no answer"), reply_to=message)
    metrics["loss"] = float(forgery.loss)
    if replied:
        reply.content[replied] = theta.stepped(asked.lr * forgery.update, trained.buffers).arrays()
    if reviewed is not None:
        own = seeding.generator(settings.seed, "attack", silo, asked.server_round, asked.exchange, 1)
        review = review_forged(attack, situation, forgery.update, own)
        metrics[BALANCED_LOSS] = _balanced_loss(float(metrics[BALANCED_LOSS]), situation.loss, forgery.loss)  # type: ignore[arg-type]
        if review is None:
            del reply.content[REVIEW]
        else:
            reply.content[REVIEW] = layout.parameter_arrays(review)
    return reply


def _balanced_loss(honest: float, loss: float, forged_loss: float) -> float:
    """The class-balanced loss it reports: the honest one where the attack leaves the loss as it is, else the forged."""
    return honest if forged_loss == loss else forged_loss
