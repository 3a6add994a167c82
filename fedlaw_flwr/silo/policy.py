"""policy.yaml: what may leave an institution and how much may be asked of it, whatever a server or a run says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from flwr.app import Array, ArrayRecord, Message, RecordDict
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from fedlaw_flwr.apps.wire import asks_for_review
from fedlaw_flwr.config.document import FROM_FILE, Document
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.protocol.gate import BALANCED_LOSS, REVIEW
from fedlaw_flwr.silo.budget import Used


class Refused(Exception):
    """The silo does not take part in this exchange. The text is told to the server: it has no data in it, ever."""


def _not_a_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise InputError("a number is expected")
    return value


def _a_limit(value: float) -> float:
    # 0 could be read as "nothing is allowed" and as "no limit": neither is guessed.
    if not 0 < value < float("inf"):
        raise InputError("a number above 0 is expected; for no limit, leave the line out")
    return value


Whole = Annotated[int, BeforeValidator(_not_a_bool)]
Real = Annotated[float, BeforeValidator(_not_a_bool)]
Above0 = Annotated[Real, Field(gt=0, allow_inf_nan=False)]


class Privacy(BaseModel):
    """Local differential privacy of every update sent: its l2 norm clipped, then Gaussian noise on every coordinate.

    sigma = sensitivity * sqrt(2 ln(1.25 / delta)) / epsilon (Dwork and Roth 2014, Theorem A.1, for epsilon < 1), as
    Flower's LocalDpMod has it.

    Attributes:
        clip: The largest l2 norm of an update.
        epsilon: The epsilon of the formula above.
        delta: The delta of the formula above.
        sensitivity: How far apart two updates of this silo can be; None for 2 * clip.
    """

    model_config = FROM_FILE

    clip: Above0
    epsilon: Above0
    delta: Annotated[Real, Field(gt=0, lt=1)]
    sensitivity: Above0 | None = None


class Policy(BaseModel):
    """The whole file; what it does not name is not limited.

    docs/explanation/safeguards.md says what each key does and does not do.
    """

    model_config = FROM_FILE

    message_types: Annotated[list[Literal["train", "evaluate", "query"]], Field(min_length=1)] = [
        "train",
        "evaluate",
        "query",
    ]
    runs: list[Annotated[Whole, Field(ge=0)]] = []
    tasks: list[str] = []
    exchanges_per_day: Annotated[Whole, AfterValidator(_a_limit)] | None = None
    seconds_per_day: Annotated[Real, AfterValidator(_a_limit)] | None = None
    largest_update_norm: Annotated[Real, AfterValidator(_a_limit)] | None = None
    minimum_records: Annotated[Whole, Field(ge=0)] = 0
    privacy: Privacy | None = None
    reviews: bool = False
    review_privacy: Privacy | None = None

    @model_validator(mode="after")
    def _reviews_are_noised_too(self) -> "Policy":
        if self.privacy and self.reviews and not self.review_privacy:
            raise InputError(
                "reviews: true beside privacy needs review-privacy (clip, epsilon, delta): a review is a second "
                "release, clipped and noised for itself; or leave reviews out"
            )
        if self.review_privacy and not (self.privacy and self.reviews):
            raise InputError("review-privacy noises reviews beside privacy: it needs privacy and reviews: true")
        return self

    @classmethod
    def read(cls, path: Path) -> "Policy":
        """Reads policy.yaml.

        Raises:
            DocumentError: `FILE:LINE: what is wrong`, also where there is no such file.
        """
        return Document.read(path).check(cls)

    def check_message(self, message: Message, run: int, run_config: Mapping[str, Any], used: Used) -> None:
        """Checks what can be known before anything is trained.

        Args:
            message: The message received.
            run: The id of the run, as the server says it.
            run_config: The run's configuration, as the server says it.
            used: What this silo counted in the last 24 hours.

        Raises:
            Refused: For a message that the policy does not allow.
        """
        kind = _kind(message)
        if kind not in self.message_types:
            raise Refused(f"messages of type {kind} are not answered, {', '.join(self.message_types)} are")
        if self.runs and run not in self.runs:
            raise Refused(f"run {run} is not among the runs allowed")
        if self.tasks and run_config.get("task") not in self.tasks:
            raise Refused("the run's task is not among the tasks allowed")
        if self.exchanges_per_day is not None and used.exchanges >= self.exchanges_per_day:
            raise Refused(f"{self.exchanges_per_day} exchanges in 24 h are used up")
        if self.seconds_per_day is not None and used.seconds >= self.seconds_per_day:
            raise Refused(f"{self.seconds_per_day:g} seconds in 24 h are used up")

    def refuses_review(self, message: Message) -> bool:
        """Whether this message asks for a review that the policy does not allow: then the update alone is answered."""
        return not self.reviews and asks_for_review(message)

    def seconds_left(self, used: Used) -> float:
        """How long an exchange may still train today."""
        return float("inf") if self.seconds_per_day is None else self.seconds_per_day - used.seconds

    def check_reply(self, message: Message, reply: Message) -> None:
        """Checks what is about to be sent in answer to this message.

        Raises:
            Refused: For a reply that the policy does not allow. The text never says how far the reply was off.
        """
        if self.minimum_records and _kind(message) != "query":  # what answers a query is made from no records
            records = reply.content.metric_records.values()
            counts = [record["num-examples"] for record in records if "num-examples" in record]
            if not counts or not all(isinstance(n, int | float) and n >= self.minimum_records for n in counts):
                raise Refused(f"not from the {self.minimum_records} records that minimum-records asks for")
        if self.largest_update_norm is not None and (pair := update(message, reply)):
            norm = update_norm(*pair)
            if not norm <= self.largest_update_norm:  # nan is above any limit
                raise Refused(f"the update's norm is above largest-update-norm={self.largest_update_norm:g}")


def update(message: Message, reply: Message) -> tuple[ArrayRecord, ArrayRecord] | None:
    """The model that came and the trained one about to be sent.

    Returns:
        The two array records, received and sent; None where the reply has no arrays.

    Raises:
        Refused: For arrays that are not an update of the model received: one record on each side beside a review, the
            same keys and shapes.
    """
    received = list(message.content.array_records.values())
    sent = [record for name, record in reply.content.array_records.items() if name != REVIEW]
    if not sent:
        return None
    if len(received) != 1 or len(sent) != 1 or _shapes(received[0]) != _shapes(sent[0]):
        raise Refused("the reply's arrays are not an update of the model received")
    return received[0], sent[0]


def without_review(reply: Message, asked: Message) -> Message:
    """The reply without a review and its loss, which the policy does not allow to leave."""
    kept = {name: record for name, record in reply.content.items() if name != REVIEW}
    for record in reply.content.metric_records.values():
        record.pop(BALANCED_LOSS, None)
    return Message(RecordDict(kept), reply_to=asked)


def update_norm(received: ArrayRecord, sent: ArrayRecord) -> float:
    """||theta - psi||, the l2 norm over all floating-point arrays, in float64.

    Integer arrays are left out. An array that came with values that are not finite, as a mask does, counts 0 if it goes
    back as it came, else nan.

    Args:
        received: The model theta that came.
        sent: The trained model psi.
    """
    total = 0.0
    for key, array in sent.items():
        psi = array.numpy()
        if np.issubdtype(psi.dtype, np.inexact) and not goes_back_as_it_came(received[key], array):
            wide = np.result_type(psi.dtype, np.float64)
            with np.errstate(invalid="ignore"):
                total += float(np.sum(np.abs(received[key].numpy().astype(wide) - psi.astype(wide)) ** 2))
    return float(np.sqrt(total))


def goes_back_as_it_came(received: Array, sent: Array) -> bool:
    """Whether this is an array with values that are not finite and nothing in it is this silo's."""
    theta, psi = received.numpy(), sent.numpy()
    if np.isfinite(theta).all() or theta.dtype != psi.dtype:
        return False
    return theta.tobytes() == psi.tobytes()


def _kind(message: Message) -> str:
    """train, evaluate or query; Flower's message types may go on after a dot."""
    return message.metadata.message_type.partition(".")[0]


def _shapes(record: ArrayRecord) -> dict[str, tuple[int, ...]]:
    return {key: tuple(array.shape) for key, array in record.items()}
