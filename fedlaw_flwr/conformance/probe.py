"""A ClientApp under examination: asked in this process what a server asks, its replies read as a server reads them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, MessageType, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from fedlaw_flwr.conformance.asking import SILO, Answer, ask
from fedlaw_flwr.protocol import gate
from fedlaw_flwr.protocol.layout import BATCH_NORM, Layout, Model

Config = Mapping[str, str | float | None]
"""Keys of a message's config record and their values, None for one that is left out."""

_AS_IN_EXCHANGE_1: Config = {}
# Steps round the model again and again.
_ROUNDINGS = 30


class NoAnswer(ValueError):
    """A message that the protocol wants answered was not; the text says what came instead."""


@dataclass(frozen=True)
class Terms:
    """The run that is imitated.

    Attributes:
        lr: The step of local training, in every message.
        local_epochs: The epochs of local training, in every message.
        batch_size: The records in a batch, in every message.
        loss_key: The name of the metric that the strategy reads as the loss.
        loss_floor: The least loss that the strategy takes; None for any loss.
        buffers: A regular expression; arrays whose keys match it are buffers. "" for none.
        seconds: After how long a message is given up.
    """

    lr: float = 0.1
    local_epochs: int = 1
    batch_size: int = 16
    loss_key: str = "loss"
    loss_floor: float | None = 0.0
    buffers: str = BATCH_NORM
    seconds: float = 600.0


@dataclass(frozen=True)
class Reply:
    """A reply to a model theta as the server reads it.

    Attributes:
        delta: The update theta - psi (d,) in float64.
        trained: The trained model psi itself.
        loss: The loss.
    """

    delta: NDArray[np.float64]
    trained: Model
    loss: float

    @property
    def norm(self) -> float:
        """The l2 norm of delta."""
        return float(np.linalg.norm(self.delta))

    def same(self, other: "Reply") -> bool:
        """Whether both are equal, number by number."""
        mine, its = self.trained, other.trained
        arrays = np.array_equal(mine.parameters, its.parameters) and np.array_equal(mine.buffers, its.buffers)
        return arrays and self.loss == other.loss


class Probe:
    """A client, the model it is asked about, and what was asked of it so far.

    Each message comes with a fresh, empty `context.state` unless a context is given, so that what one reply owes to
    earlier messages is the client's own doing.

    Args:
        app: The client.
        arrays: The model, as the server would send it.
        terms: The run that is imitated; None for the defaults of `Terms`.
        node_config: What the client finds in `context.node_config`.
        run_config: The run configuration that the client is given.

    Raises:
        ValueError: For arrays without anything to learn.
    """

    def __init__(
        self,
        app: ClientApp,
        arrays: ArrayRecord,
        terms: Terms | None = None,
        node_config: Mapping[str, Any] | None = None,
        run_config: Mapping[str, Any] | None = None,
    ) -> None:
        self.terms = terms or Terms()
        self.model = Layout.of(arrays, self.terms.buffers).split(arrays)
        self._app, self._node_config, self._run_config = app, dict(node_config or {}), dict(run_config or {})

    # -- asking ------------------------------------------------------------------------------------------------

    def ask(
        self,
        arrays: ArrayRecord | None,
        config: Config = _AS_IN_EXCHANGE_1,
        context: Context | None = None,
        message_type: str = MessageType.TRAIN,
    ) -> Answer:
        """Sends one message with this model, or without any.

        Args:
            arrays: The model; None for a message without one.
            config: What differs from exchange 1 of round 1; None as a value leaves a key out.
            context: The context that the client is given; None for a fresh one.
            message_type: The type of the message.

        Returns:
            What came of the message.
        """
        said = ConfigRecord()
        for key, value in {**self._config(), **config}.items():
            if value is not None:
                said[key] = value
        content = RecordDict({"config": said})
        if arrays is not None:
            content["arrays"] = arrays
        return ask(self._app, content, context or self.context(), message_type, self.terms.seconds)

    def reply(self, model: Model, config: Config = _AS_IN_EXCHANGE_1, context: Context | None = None) -> Reply:
        """The client's reply to this model as the gate lets it through.

        Args:
            model: The model that is sent.
            config: What differs from exchange 1 of round 1.
            context: The context that the client is given; None for a fresh one.

        Raises:
            NoAnswer: Where the client gives no answer.
            gate.Rejected: For a reply that fails the gate.
        """
        return self.read(self.ask(model.arrays(), config, context), model)

    def loss(self, model: Model, config: Config = _AS_IN_EXCHANGE_1) -> float:
        """The loss alone, asked for alone.

        Args:
            model: The model that is sent.
            config: What differs from exchange 1 of round 1.

        Raises:
            NoAnswer: Where the client gives no answer.
            gate.Rejected: For a loss that fails the gate.
        """
        return self.read_loss(self.ask(model.arrays(), {**config, "reply": "loss"}))

    def query(self) -> Answer:
        """What the client says of what it learns, asked as the server asks before the first exchange."""
        config = ConfigRecord({"server-round": 1, "exchange": 0, "reply": "update"})
        content = RecordDict({"arrays": ArrayRecord(), "config": config})
        return ask(self._app, content, self.context(), MessageType.QUERY, self.terms.seconds)

    def context(self, run_config: Mapping[str, Any] | None = None) -> Context:
        """A context as a silo's own process makes it for the first message of a run.

        Args:
            run_config: What differs from the run configuration given.
        """
        return Context(1, SILO, dict(self._node_config), RecordDict(), {**self._run_config, **(run_config or {})})

    @property
    def epochs(self) -> dict[str, int]:
        """What the run configuration says of epochs, where Flower's examples read how long a silo trains."""
        return {key: value for key, value in self._run_config.items() if "epoch" in key.lower() and type(value) is int}

    # -- reading -----------------------------------------------------------------------------------------------

    def read(self, answer: Answer, model: Model, with_review: bool = False) -> Reply:
        """What the server makes of an answer about this model.

        Args:
            answer: The answer.
            model: The model that was sent.
            with_review: Whether a review was asked for. Default: no.

        Raises:
            NoAnswer: Where the client gave no answer.
            gate.Rejected: For a reply that fails the gate.
        """
        content = self.content(answer)
        delta = np.empty(model.layout.num_parameters, model.layout.dtype)
        buffers = np.empty(model.layout.num_buffers, model.layout.dtype)
        loss = gate.read_loss(content, self.terms.loss_key, self.terms.loss_floor)
        gate.read_update(content, model, delta, buffers, with_review)
        wide = delta.astype(np.float64)
        return Reply(wide, model.stepped(wide, buffers), loss)

    def read_loss(self, answer: Answer) -> float:
        """The loss of an answer.

        Raises:
            NoAnswer: Where the client gave no answer.
            gate.Rejected: For a loss that fails the gate.
        """
        return gate.read_loss(self.content(answer), self.terms.loss_key, self.terms.loss_floor)

    def content(self, answer: Answer) -> RecordDict:
        """The records of an answer.

        Raises:
            NoAnswer: Where the client gave no answer.
        """
        if answer.content is None:
            raise NoAnswer(answer.failure)
        return answer.content

    # -- asked once for all checks -----------------------------------------------------------------------------

    @cached_property
    def first(self) -> Answer:
        """The very first message: exchange 1 of round 1."""
        return self.ask(self.model.arrays())

    @cached_property
    def base(self) -> Reply:
        """The reply to the very first message.

        Raises:
            NoAnswer: Where the client gives no answer.
            gate.Rejected: For a reply that fails the gate.
        """
        return self.read(self.first, self.model)

    @property
    def trial(self) -> Model:
        """The model of exchange 2 where this silo has all the weight: theta - delta."""
        return self.base.trained

    @cached_property
    def second(self) -> Answer:
        """Exchange 2 at the trial model, with the update asked for."""
        return self.ask(self.trial.arrays(), {"exchange": 2})

    @cached_property
    def small(self) -> Reply:
        """Exchange 1 with a thousandth of lr: training that hardly leaves the model."""
        return self.reply(self.model, {"lr": self.terms.lr / 1000})

    def gentle(
        self, config: Config = _AS_IN_EXCHANGE_1, run_config: Mapping[str, Any] | None = None, shrunk: int = 1
    ) -> Reply | None:
        """The reply to exchange 1 with a step so small that training hardly leaves the model.

        The step is a thousandth of lr or, where the rounding of the model's dtype loses that, a hundredth, a tenth.

        Args:
            config: What differs from exchange 1 of round 1.
            run_config: What differs from the run configuration given.
            shrunk: By how much each of these steps is divided once more.

        Returns:
            The reply; None where the rounding loses all three steps.

        Raises:
            NoAnswer: Where the client gives no answer.
            gate.Rejected: For a reply that fails the gate.
        """
        for divisor in (1000, 100, 10):
            lr = self.terms.lr / divisor / shrunk
            reply = self.reply(self.model, {**config, "lr": lr}, self.context(run_config))
            if reply.norm > self.rounding:
                return reply
        return None

    @cached_property
    def rounding(self) -> float:
        """The l2 norm below which a displacement may be rounding."""
        parameters = [slot for slot in self.model.layout.slots if slot.kind == "parameter"]
        eps = max(float(np.finfo(slot.dtype.name).eps) for slot in parameters)
        return _ROUNDINGS * eps * float(np.linalg.norm(self.model.parameters.astype(np.float64)))

    def _config(self) -> Config:
        terms = self.terms
        how = {"lr": terms.lr, "local-epochs": terms.local_epochs, "batch-size": terms.batch_size}
        return {"server-round": 1, "exchange": 1, **how, "reply": "update"}
