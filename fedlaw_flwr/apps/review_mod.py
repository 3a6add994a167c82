"""A Flower mod that adds a review to the replies of an existing PyTorch ClientApp, in one line."""

from collections.abc import Callable
from dataclasses import dataclass

from flwr.app import ArrayRecord, Context, Message
from flwr.clientapp.typing import ClientAppCallable, Mod
from torch import Tensor, nn

from fedlaw_flwr.apps.wire import asks_for_review, received_arrays
from fedlaw_flwr.protocol.gate import BALANCED_LOSS, REVIEW
from fedlaw_flwr.training.reviews import Review, review


@dataclass(frozen=True)
class ReviewedBy:
    """What a silo reviews with.

    Attributes:
        model: A net of the federation's kind; the received model is loaded into it.
        loss: From outputs (k, ...) and targets (k, ...) to their mean loss, a scalar.
        inputs: The silo's examples, (m, ...).
        targets: Their targets, (m, ...).
        classes: The class of each example, (m,); None: `targets` where these are integers, else no classes.
    """

    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    inputs: Tensor
    targets: Tensor
    classes: Tensor | None = None


def review_mod(load: Callable[[Context], ReviewedBy]) -> Mod:
    """A mod that answers the server's request for a review beside whatever the ClientApp replies.

    The ClientApp needs no change: to it the message is like any other. Where no review is asked for, or the reply is an
    error, nothing is added.

    Args:
        load: From the silo's context to what it reviews with; called for each message that asks for a review.

    Returns:
        The mod, for `ClientApp(mods=[...])`.

    Example:
        >>> app = ClientApp(mods=[review_mod(lambda context: ReviewedBy(Net(), cross_entropy, *load_data(context)))])
        ... # doctest: +SKIP
    """

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        found = _reviewed(load(context), received_arrays(message)) if asks_for_review(message) else None
        reply = call_next(message, context)
        if found is not None and reply.has_content():
            add_review(reply, found)
        return reply

    return mod


def add_review(reply: Message, found: Review) -> None:
    """Puts a review and its loss into a reply, in place."""
    reply.content[REVIEW] = ArrayRecord({key: value.detach().cpu() for key, value in found.gradient.items()})
    for record in reply.content.metric_records.values():
        record[BALANCED_LOSS] = found.loss


def _reviewed(own: ReviewedBy, arrays: ArrayRecord) -> Review:
    own.model.load_state_dict(arrays.to_torch_state_dict(), strict=True)
    return review(own.model, own.loss, own.inputs, own.targets, own.classes)
