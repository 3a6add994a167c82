"""The simulated silos as the batched engine drives them: the same client, with its training taken out of the middle."""

from dataclasses import replace

import torch
from flwr.app import Array, ArrayRecord, Context, Message

from fedlaw_flwr.apps.byzantine.coalition import coalition_of
from fedlaw_flwr.apps.byzantine.mod import forged, poisoned
from fedlaw_flwr.apps.byzantine.simulated import app
from fedlaw_flwr.apps.honest import answer, job_of, model_with, silo_of
from fedlaw_flwr.apps.wire import Asked, received_arrays
from fedlaw_flwr.attacks import load_attack
from fedlaw_flwr.attacks.base import Attack, Coalition
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.engines.batched import Trainer
from fedlaw_flwr.protocol.layout import Layout
from fedlaw_flwr.tasks.base import Examples
from fedlaw_flwr.tasks.device import device
from fedlaw_flwr.training.local import Job, Trained


class SimulatedSilos:
    """All silos of one run; see `fedlaw_flwr.engines.batched.Silos`.

    Each silo's examples, own and poisoned, are kept on the device once they were used: a second copy of the training
    split in memory, for a fifth of the time of an exchange. What colluders know of one another is made once in an
    exchange and kept until the next.
    """

    def __init__(self, settings: Settings) -> None:
        self.app, self.task = app, settings.load_task()
        self._settings, self._plan = settings, settings.attack_plan()
        self._examples: dict[tuple[int, str], Examples] = {}
        self._about: tuple[ArrayRecord, Asked] | None = None
        self._coalitions: dict[tuple[str, bool, bool], Coalition] = {}

    def model(self, arrays: ArrayRecord) -> torch.nn.Module:
        """The task's model with these arrays in it, on the run's device."""
        return model_with(arrays, self._settings, self.task)

    def job(self, message: Message, context: Context) -> Job:
        """What this silo trains, on poisoned examples if that is its attack."""
        attack = self._attack(context)
        return self._job(message, silo_of(context), attack if attack and attack.poison else None)

    def reply(self, message: Message, context: Context, job: Job, trained: Trained, others: Trainer) -> Message:
        """The honest reply, forged if that is the silo's attack."""
        reply, attack = answer(message, job, trained), self._attack(context)
        if attack is None:
            return reply
        return forged(message, context, reply, attack, lambda: self._known_to(attack, message, others))

    def _attack(self, context: Context) -> Attack | None:
        name = self._plan.attack_of(silo_of(context))
        return None if name is None else load_attack(name)

    def _job(self, message: Message, silo: int, poison: Attack | None) -> Job:
        measured = self._examples_of(silo, None) if poison and self._settings.poison_loss == "own" else None
        name = poison.name if poison else ""
        return job_of(message, self._settings, silo, self._examples_of(silo, poison), name, measured)

    def _examples_of(self, silo: int, poison: Attack | None) -> Examples:
        """A silo's examples, own or poisoned, on the run's device."""
        name = poison.name if poison else ""
        if (silo, name) not in self._examples:
            examples = self.task.load_train(silo)
            if poison:
                examples = poisoned(poison, examples, self.task, self._settings, silo)
            place = device(self._settings.device)
            self._examples[silo, name] = Examples(examples.inputs.to(place), examples.targets.to(place))
        return self._examples[silo, name]

    def _known_to(self, attack: Attack, message: Message, others: Trainer) -> Coalition:
        """The honest updates and losses of the attack's members, or of all silos; made once in an exchange."""
        asked, received = Asked.of(message, self._settings), received_arrays(message)
        exchange, key = (
            replace(asked, wants_update=True, wants_review=False),
            (attack.name, asked.wants_update, asked.wants_review),
        )
        if self._about is None or self._about[0] is not received or self._about[1] != exchange:
            self._about, self._coalitions = (received, exchange), {}
        if key not in self._coalitions:
            everyone = self._settings.knowledge == "omniscient"
            seen = range(self._settings.num_silos) if everyone else self._plan.members(attack.name)
            trained = others([self._job(message, silo, None) for silo in seen])
            self._coalitions[key] = self._assembled(received, asked, trained)
        return self._coalitions[key]

    def _assembled(self, received: ArrayRecord, asked: Asked, trained: list[Trained]) -> Coalition:
        layout = Layout.of(received, self._settings.buffers)
        rows = [
            layout.split(ArrayRecord({key: Array(value.numpy()) for key, value in one.state.items()})).parameters
            if one.state is not None and asked.wants_update
            else None
            for one in trained
        ]
        reviews = [
            layout.gradient({key: value.cpu().numpy() for key, value in one.review.gradient.items()})
            for one in trained
            if one.review is not None and asked.wants_review
        ]
        return coalition_of(layout.split(received), asked.lr, [one.loss for one in trained], rows, reviews)
