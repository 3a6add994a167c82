"""What a train message asks of a silo, read from its config record."""

from dataclasses import dataclass

from flwr.app import ArrayRecord, ConfigRecord, Message

from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.protocol.gate import REVIEW


@dataclass(frozen=True)
class Asked:
    """One exchange as the server asks for it; what a strategy other than ours leaves out comes from the settings.

    Attributes:
        server_round: The round; 0 where the message does not say.
        exchange: The exchange, 1 or 2; 1 where the message does not say.
        wants_update: Whether the update is asked for; if not, the loss alone is.
        wants_review: Whether a review of the model is asked for beside the update.
        lr: alpha, the step of local training.
        local_epochs: Passes over the examples.
        batch_size: Examples in a batch.
    """

    server_round: int
    exchange: int
    wants_update: bool
    wants_review: bool
    lr: float
    local_epochs: int
    batch_size: int

    @classmethod
    def of(cls, message: Message, settings: Settings) -> "Asked":
        """Reads the message's config.

        Raises:
            ValueError: For a value that is no number where one belongs.
        """
        config = next(iter(message.content.config_records.values()), ConfigRecord())

        def number(key: str, otherwise: float) -> float:
            value = config.get(key, otherwise)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InputError(f"{key}={value!r} in the server's message: a number is expected")
            return value

        return cls(
            server_round=int(number("server-round", 0)),
            exchange=int(number("exchange", 1)),
            wants_update=config.get("reply", "update") != "loss",
            wants_review=config.get("reply") == REVIEW,
            lr=float(number("lr", settings.lr)),
            local_epochs=int(number("local-epochs", settings.local_epochs)),
            batch_size=int(number("batch-size", settings.batch_size)),
        )


def asks_for_review(message: Message) -> bool:
    """Whether the message asks for a review of its model."""
    return any(record.get("reply") == REVIEW for record in message.content.config_records.values())


def received_arrays(message: Message) -> ArrayRecord:
    """The model in a message of the server's."""
    return next(iter(message.content.array_records.values()))
