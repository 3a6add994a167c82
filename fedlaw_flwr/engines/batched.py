"""A Grid that trains all silos of a simulation in this process as one batch, a part of them at a time."""

import logging
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, TypeVar

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MessageType
from flwr.clientapp import ClientApp
from torch import nn

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.engines.in_process import CLIENT_APP_EXCEPTION, InProcessGrid
from fedlaw_flwr.engines.stacked import train_together
from fedlaw_flwr.tasks.base import Objective, Task
from fedlaw_flwr.training.local import Job, Trained, local_round

_log = logging.getLogger("flwr")
_T = TypeVar("_T", Job, Trained)

OUT_OF_MEMORY = (MemoryError, torch.cuda.OutOfMemoryError)

Trainer = Callable[[Sequence[Job]], list[Trained]]
"""What a silo that answers may have trained beside its own job, from the same model: its fellow colluders' jobs."""


class Silos(Protocol):
    """The client side of all silos: what each would train, and what it replies once that is trained."""

    app: ClientApp  # answers whatever is not training
    task: Task

    def model(self, arrays: ArrayRecord) -> nn.Module:
        """The task's model with these arrays in it, on the silos' device."""
        ...

    def job(self, message: Message, context: Context) -> Job:
        """What this silo trains for this message, on poisoned examples if that is its attack."""
        ...

    def reply(self, message: Message, context: Context, job: Job, trained: Trained, others: Trainer) -> Message:
        """What it answers once the job is done, forged if that is its attack."""
        ...


class BatchedGrid(InProcessGrid):
    """num_silos silos that are trained together; their replies are made one at a time, each when it is pulled.

    A training message that is pulled and not yet trained for is trained with the next silos_per_batch - 1 that wait
    with the same model and configuration (`stacked.train_together`). What is left of the batch before is then dropped,
    so pull in the order of pushing. So silos_per_batch trained models exist at a time, and those of colluders: what was
    trained for them to know one another is kept until the exchange is over, and is their own training too. The model
    of an exchange is decoded once.

    Weights and updates are those of an InProcessGrid but for the rounding of float32 sums, whose last bits also depend
    on silos_per_batch and on torch's number of threads. What fails as a batch, or cannot be one (a model with
    buffers), is trained one silo at a time, with a warning, so that an error is the error of the silo that made it. A
    machine that is out of memory even then is no silo's fault, and ends the run.

    The grid is only for clients that come apart into `Silos`, as this project's do. Somebody else's ClientApp runs in
    an InProcessGrid.

    Args:
        silos: The client side of all silos.
        num_silos: How many silos there are.
        run_config: The run config in every silo's Context. Default: empty.
        silos_per_batch: How many silos are trained together at most. Default: 64.

    Raises:
        ValueError: If `silos_per_batch` is below 1.
    """

    def __init__(
        self, silos: Silos, num_silos: int, run_config: Mapping[str, Any] | None = None, silos_per_batch: int = 64
    ) -> None:
        if silos_per_batch < 1:
            raise InputError(f"silos-per-batch={silos_per_batch}: a whole number from 1 up is needed")
        super().__init__(silos.app, num_silos, run_config)
        self._silos, self._silos_per_batch = silos, silos_per_batch
        self._jobs: dict[str, Job | Exception] = {}  # by message id, of the batch now being answered
        self._exchange: _Exchange | None = None
        self._warned: set[str] = set()

    def _answer(self, message: Message) -> Message:
        if not _is_training(message):
            return super()._answer(message)
        try:
            if message.metadata.message_id not in self._jobs:
                self._next_batch(message)
            job = _sound(self._jobs.pop(message.metadata.message_id))
            trained = _sound(self._now.find(job))
            context = self._contexts[message.metadata.dst_node_id]
            return self._silos.reply(message, context, job, trained, self._train_others)
        except OUT_OF_MEMORY:  # this machine's fault and no silo's: a run that went on would be a wrong result
            raise
        except Exception as error:  # as Flower does: the silo failed, the run goes on
            return Message(Error(CLIENT_APP_EXCEPTION, f"{type(error).__name__}: {error}"), reply_to=message)

    @property
    def _now(self) -> "_Exchange":
        assert self._exchange is not None
        return self._exchange

    def _next_batch(self, message: Message) -> None:
        asked = _asked(message)
        if self._exchange is None or not self._exchange.is_about(asked):
            self._exchange = None  # let go of the old one first
            self._exchange = _Exchange(*asked, self._silos.model(asked[0]))
        self._now.batch = {}
        alike = (other for other in self._waiting.values() if _is_training(other) and self._now.is_about(_asked(other)))
        batch = [message, *islice(alike, self._silos_per_batch - 1)]
        self._jobs = {each.metadata.message_id: self._job(each) for each in batch}
        jobs = [job for job in self._jobs.values() if isinstance(job, Job)]
        self._now.batch = self._train([job for job in jobs if self._now.find(job) is None])

    def _job(self, message: Message) -> Job | Exception:
        try:
            return self._silos.job(message, self._contexts[message.metadata.dst_node_id])
        except Exception as error:
            return error

    def _train_others(self, jobs: Sequence[Job]) -> list[Trained]:
        missing = [job for job in jobs if self._now.find(job) is None]
        for start in range(0, len(missing), self._silos_per_batch):
            self._now.kept |= self._train(missing[start : start + self._silos_per_batch])
        return [_sound(self._now.keep(job)) for job in jobs]

    def _train(self, jobs: Sequence[Job]) -> "_Results":
        model, task, results = self._now.model, self._silos.task, list[Trained | Exception]()
        if not jobs:
            return {}
        try:
            results += train_together(model, task, jobs)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            if reason not in self._warned:
                self._warned.add(reason)
                _log.warning("silos that cannot be trained as one batch are trained one by one (%s)", reason)
            results += [_alone(model, task, job) for job in jobs]
        return {_key(job): result for job, result in zip(jobs, results, strict=True)}


_Results = dict[tuple[int, str], Trained | Exception]
"""By silo and poison: in one exchange two jobs that agree in both are the same training."""


@dataclass
class _Exchange:
    """One model sent out with one configuration, and what has been trained for it."""

    arrays: ArrayRecord
    config: Mapping[str, Any]
    model: nn.Module
    batch: _Results = field(default_factory=dict)  # for the messages now being answered
    kept: _Results = field(default_factory=dict)  # for colluders, until the exchange is over

    def is_about(self, asked: tuple[ArrayRecord, Mapping[str, Any]]) -> bool:
        """Whether a message with this model and configuration belongs to it."""
        return asked[0] is self.arrays and asked[1] == self.config

    def find(self, job: Job) -> Trained | Exception | None:
        """What this job gave; None if it was not trained, or without the update that is now wanted."""
        for results in (self.batch, self.kept):
            found = results.get(_key(job))
            if isinstance(found, Exception) or (found and _answers(found, job)):
                return found
        return None

    def keep(self, job: Job) -> Trained | Exception | None:
        """The same, and it stays: as a copy, since the results of a batch are views of one stack."""
        found = self.find(job)
        if isinstance(found, Trained) and found is not self.kept.get(_key(job)):
            state = found.state and {key: value.clone() for key, value in found.state.items()}
            found = self.kept[_key(job)] = Trained(found.loss, state, found.review)
        return found


def _answers(found: Trained, job: Job) -> bool:
    """Whether this training has all that the job asks for."""
    return (found.state is not None or not job.wants_update) and (found.review is not None or not job.wants_review)


def _alone(model: nn.Module, task: Objective, job: Job) -> Trained | Exception:
    try:
        return local_round(deepcopy(model), task, job)
    except OUT_OF_MEMORY:
        raise
    except Exception as error:
        return error


def _asked(message: Message) -> tuple[ArrayRecord, dict[str, Any]]:
    """The model in a message of the server's, and its configuration but for `reply`, in which silos may differ."""
    records = list(message.content.values())
    arrays = next(record for record in records if isinstance(record, ArrayRecord))
    config = next((dict(record) for record in records if isinstance(record, ConfigRecord)), {})
    config.pop("reply", None)
    return arrays, config


def _is_training(message: Message) -> bool:
    return message.metadata.message_type.partition(".")[0] == MessageType.TRAIN


def _key(job: Job) -> tuple[int, str]:
    return job.silo, job.poison


def _sound(found: _T | Exception | None) -> _T:
    if isinstance(found, Exception):
        raise found
    assert found is not None
    return found
