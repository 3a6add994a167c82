"""A silo's review: the gradient of its class-balanced loss at the received model, and that loss."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlaw_flwr.core.errors import InputError

REVIEW_BATCH = 2048
"""Examples that go through the model at once; the review is of all, whatever this is."""


@dataclass(frozen=True)
class Review:
    """What a silo says of the received model theta.

    Attributes:
        gradient: r, the gradient of the class-balanced loss at theta, by parameter name; 0 for a parameter that is not
            learned or not used.
        loss: f, the class-balanced loss at theta.
    """

    gradient: dict[str, Tensor]
    loss: float


def review(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
    classes: Tensor | None = None,
) -> Review:
    """The gradient at the model's parameters of f = mean over classes c held of (mean loss over the examples of c).

    One pass over all examples and no step. The model is in evaluation mode meanwhile, so that dropout is off and a
    batch norm uses its running statistics. The mode it was in, its parameters, its buffers and its `.grad` are left as
    they were.

    Args:
        model: The net with the received model in it; the review is taken on its device.
        loss: From outputs (k, ...) and targets (k, ...) to their mean loss, a scalar.
        inputs: The silo's examples, (m, ...), m at least 1.
        targets: Their targets, (m, ...).
        classes: The class of each example, (m,). Default: `targets` where these are integers, one each; else all
            examples are of one class and f is the mean loss, as in regression.

    Returns:
        The review. A silo that holds one class reviews by its mean loss.

    Raises:
        ValueError: For no examples, or `classes` of another length.

    Source: docs/research/peer-review.md.
    """
    if not len(inputs):
        raise InputError("a review needs at least one example, and inputs has none")
    if classes is None:
        whole = targets.dim() == 1 and not targets.is_floating_point() and not targets.is_complex()
        classes = targets if whole else torch.zeros(len(inputs), dtype=torch.long)
    if classes.shape != (len(inputs),):
        raise InputError(f"classes has shape {tuple(classes.shape)}: one class for each of {len(inputs)} inputs")
    device = next(model.parameters()).device
    found, place, count = torch.unique(classes.cpu(), return_inverse=True, return_counts=True)
    order = torch.argsort(place, stable=True)
    named = dict(model.named_parameters())
    learned = {key: value for key, value in named.items() if value.requires_grad}
    total = {key: torch.zeros_like(value) for key, value in named.items()}
    f, training = 0.0, model.training
    model.eval()
    try:
        for rows in order.split(REVIEW_BATCH):
            outputs, own = model(inputs[rows].to(device)), targets[rows].to(device)
            labels = place[rows]
            part = outputs.new_zeros(())
            for label in labels.unique().tolist():
                held = (labels == label).to(device)
                share = float((labels == label).sum()) / (float(count[label]) * len(found))
                part = part + share * loss(outputs[held], own[held])
            gradients = torch.autograd.grad(part, list(learned.values()), allow_unused=True)
            f += float(part.detach())
            for key, gradient in zip(learned, gradients, strict=True):
                if gradient is not None:
                    total[key] += gradient
    finally:
        model.train(training)
    return Review(total, f)
