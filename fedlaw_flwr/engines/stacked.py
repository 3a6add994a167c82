"""Algorithm 1 for many silos at once: a copy of every parameter for each, one step of plain SGD advancing them all."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from itertools import chain, groupby, pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from fedlaw_flwr.tasks.base import Objective
from fedlaw_flwr.training.local import EVALUATION_BATCH, Job, Trained, mean_loss, review_of

Loss = Callable[[Tensor], Tensor]
"""Outputs (k, c, ...) of k silos to the sum of their k losses, a scalar: silo i's gradient of it is its own loss's."""


class NotStackable(ValueError):
    """A model whose silos cannot be trained as one batch; the text says why."""


def train_together(model: nn.Module, task: Objective, jobs: Sequence[Job]) -> list[Trained]:
    """What `local_round` gives for each job from this one model, up to the rounding of float32 sums.

    It holds n models, and the gradients of as many where the net is not a perceptron.

    On the CPU the silos are divided among as many threads as torch has, each with a stack of its own, and torch's
    operations stay single-threaded. These threads meet once in a batch and not in every product. On a machine that
    others use too, meeting in every product costs many times the products.

    Args:
        model: The model that every silo starts from; it is left as it is, in either mode.
        task: Whose loss is minimised.
        jobs: What each of the n silos trains; all must agree in lr, epochs, batch_size and loss_at.

    Returns:
        One result for each job, in their order. The state dicts are views of stacks.

    Raises:
        NotStackable: For a model with buffers or tied parameters.
        Exception: What the task's loss raises, for whichever silo.
    """
    threads = torch.get_num_threads() if next(model.parameters()).device.type == "cpu" else 1
    order = sorted(range(len(jobs)), key=lambda i: -len(jobs[i].examples))
    parts = _divided(order, [len(jobs[i].examples) for i in order], threads)

    def trained(part: Sequence[int]) -> list[Trained]:
        torch.set_num_threads(1)  # counts for this thread, and in MKL for all, until it is put back
        return _train_stack(deepcopy(model), task, [jobs[i] for i in part])

    if len(parts) == 1:
        results = [_train_stack(model, task, [jobs[i] for i in order])]
    else:
        try:
            with ThreadPoolExecutor(len(parts)) as pool:
                results = list(pool.map(trained, parts))
        finally:
            torch.set_num_threads(threads)
    by_job = dict(zip(order, chain.from_iterable(results), strict=True))
    return [by_job[i] for i in range(len(jobs))]


def _divided(order: Sequence[int], sizes: Sequence[int], parts: int) -> list[Sequence[int]]:
    """order in at most so many runs of about equal total size, none of them empty."""
    ends = np.cumsum(sizes)
    cuts = np.searchsorted(ends, [ends[-1] * part / parts for part in range(1, parts)]).tolist()
    runs = [order[start:end] for start, end in pairwise([0, *cuts, len(order)])]
    return [run for run in runs if run]


def _train_stack(model: nn.Module, task: Objective, jobs: Sequence[Job]) -> list[Trained]:
    """One stack's part. The largest silo comes first, so that those with a whole batch left are the first rows in every
    step of an epoch, and those whose last batch is equally short lie together: each step advances a slice of the
    stacked parameters, and no batch is padded.
    """
    after = jobs[0].loss_at == "trained"
    reviews = {i: review_of(model, task, job) for i, job in enumerate(jobs) if job.wants_review}
    losses = {} if after else {i: mean_loss(model, task, job.loss_examples) for i, job in enumerate(jobs)}
    states: dict[int, dict[str, Tensor]] = {}
    wanted = [i for i, job in enumerate(jobs) if job.wants_update or after]
    if wanted:
        chosen = [jobs[i] for i in wanted]
        stack = stacked(model, len(chosen))
        _train(stack, task, chosen)
        if after:
            losses = dict(zip(wanted, _losses(stack, task, chosen), strict=True))
        parameters = {key: value.cpu() for key, value in stack.parameters.items()}
        for row, i in enumerate(wanted):
            states[i] = {key: value[row] for key, value in parameters.items()}
    return [Trained(losses[i], states.get(i), reviews.get(i)) for i in range(len(jobs))]


class Stack(Protocol):
    """n copies of one net.

    Attributes:
        parameters: The parameters under the names of the net's state dict, each (n, *its shape).
    """

    parameters: dict[str, Tensor]

    def outputs(self, rows: slice, inputs: Tensor) -> Tensor:
        """What the nets of these rows make of inputs (k, c, ...), in evaluation mode, without gradients."""
        ...

    def step(self, rows: slice, inputs: Tensor, loss: Loss, lr: float) -> None:
        """One step of plain SGD, psi <- psi - lr grad, for these rows, in training mode, in place.

        Args:
            rows: The k nets that take the step.
            inputs: Their inputs, (k, c, ...).
            loss: From the k nets' outputs to the sum of their k losses.
            lr: The step of local training, alpha.
        """
        ...


def stacked(model: nn.Module, n: int) -> Stack:
    """n copies of one net.

    Args:
        model: The net; its parameters are copied.
        n: How many copies there are.

    Returns:
        `Perceptrons` for a perceptron, else `AnyNets`.

    Raises:
        NotStackable: For a model with buffers or tied parameters.
    """
    named = dict(model.named_parameters())
    if list(named) != list(model.state_dict()):
        raise NotStackable("the model has buffers or tied parameters")
    parameters = {key: value.detach().expand(n, *value.shape).clone() for key, value in named.items()}
    return Perceptrons(parameters) if _is_perceptron(model) else AnyNets(model, parameters)


class Perceptrons:
    """Flattened inputs through linear layers with ReLU between them, by batched matrix products.

    The gradient of a weight goes from its product straight into the weight (baddbmm), so that none is ever held. With
    h_l the input and d_l the output gradient of layer l: W_l <- W_l - lr d_l' h_l and b_l <- b_l - lr sum d_l.

    Args:
        parameters: The stacked parameters under the names of the state dict, each (n, *its shape); changed in place.
    """

    def __init__(self, parameters: dict[str, Tensor]) -> None:
        self.parameters = parameters
        values = list(parameters.values())
        self._layers = list(zip(values[::2], values[1::2], strict=True))

    def outputs(self, rows: slice, inputs: Tensor) -> Tensor:
        """See `Stack`."""
        return self._forward(rows, inputs)[-1]

    def step(self, rows: slice, inputs: Tensor, loss: Loss, lr: float) -> None:
        """See `Stack`."""
        *hidden, outputs = self._forward(rows, inputs)
        outputs.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(outputs), outputs)
        with torch.no_grad():
            for i in range(len(self._layers) - 1, -1, -1):
                weight, bias = (value[rows] for value in self._layers[i])
                through = torch.bmm(gradient, weight).mul_(hidden[i] > 0) if i else gradient
                weight.baddbmm_(gradient.transpose(1, 2), hidden[i], alpha=-lr)
                bias.sub_(gradient.sum(1), alpha=lr)
                gradient = through

    @torch.no_grad()
    def _forward(self, rows: slice, inputs: Tensor) -> list[Tensor]:
        """The input of every layer, (k, c, width), and the outputs."""
        values = [inputs.flatten(2)]
        for i, (weight, bias) in enumerate(self._layers):
            if i:
                values[-1].relu_()
            values.append(torch.baddbmm(bias[rows].unsqueeze(1), values[-1], weight[rows].transpose(1, 2)))
        return values


class AnyNets:
    """Any net without state of its own: torch.func's vmap over the parameters, gradients by autograd."""

    def __init__(self, model: nn.Module, parameters: dict[str, Tensor]) -> None:
        self.parameters = parameters
        self._model = model
        self._learned = [key for key, value in model.named_parameters() if value.requires_grad]
        self._nets = vmap(lambda own, inputs: functional_call(model, own, (inputs,)))

    @torch.no_grad()
    def outputs(self, rows: slice, inputs: Tensor) -> Tensor:
        """See `Stack`."""
        self._model.eval()
        result: Tensor = self._nets({key: value[rows] for key, value in self.parameters.items()}, inputs)
        return result

    def step(self, rows: slice, inputs: Tensor, loss: Loss, lr: float) -> None:
        """See `Stack`."""
        self._model.train()
        own = {key: value[rows] for key, value in self.parameters.items()}
        learned = [own[key].requires_grad_() for key in self._learned]
        gradients = torch.autograd.grad(loss(self._nets(own, inputs)), learned, allow_unused=True)
        with torch.no_grad():
            for key, gradient in zip(self._learned, gradients, strict=True):
                if gradient is not None:
                    self.parameters[key][rows].sub_(gradient, alpha=lr)


def _is_perceptron(model: nn.Module) -> bool:
    """Flatten, then linear layers with biases and ReLU between them, all of it learned."""
    if type(model) is not nn.Sequential or len(model) % 2 or not all(p.requires_grad for p in model.parameters()):
        return False
    flatten, *layers = model
    if type(flatten) is not nn.Flatten or (flatten.start_dim, flatten.end_dim) != (1, -1):
        return False
    return all(
        type(layer) is nn.ReLU if i % 2 else type(layer) is nn.Linear and layer.bias is not None
        for i, layer in enumerate(layers)
    )


def _train(stack: Stack, task: Objective, jobs: Sequence[Job]) -> None:
    """The local epochs of all jobs, each in its own orders, as `training.train` takes one silo's."""
    device = next(iter(stack.parameters.values())).device
    inputs = [job.examples.inputs.to(device) for job in jobs]
    targets = [job.examples.targets.to(device) for job in jobs]
    sizes, first = [len(job.examples) for job in jobs], jobs[0]
    streams = [job.rng() for job in jobs]
    # One buffer for all batches: memory fresh from the system costs more than what is copied into it.
    shape = inputs[0].shape[1:]
    buffer = inputs[0].new_empty(len(jobs) * min(first.batch_size, sizes[0]) * shape.numel())
    for _ in range(first.epochs):
        orders = [
            torch.from_numpy(rng.permutation(size)).to(device).split(first.batch_size)
            for rng, size in zip(streams, sizes, strict=True)
        ]
        for start, rows, count in slices(sizes, first.batch_size):
            chosen = [order[start // first.batch_size] for order in orders[rows]]
            batch = buffer[: len(chosen) * count * shape.numel()].view(len(chosen), count, *shape)
            for row, own, into in zip(chosen, inputs[rows], batch, strict=True):
                torch.index_select(own, 0, row, out=into)
            labels = torch.cat([own[row] for row, own in zip(chosen, targets[rows], strict=True)])
            stack.step(rows, batch, _summed(task, labels), first.lr)


def _summed(task: Objective, targets: Tensor) -> Loss:
    """The sum over k silos of their mean losses: k times the mean over all, as each has as many examples."""
    return lambda outputs: len(outputs) * task.loss(outputs.flatten(0, 1), targets)


@torch.no_grad()
def _losses(stack: Stack, task: Objective, jobs: Sequence[Job]) -> list[float]:
    """f_i of every row at its own parameters, the mean over all its examples."""
    device = next(iter(stack.parameters.values())).device
    sizes = [len(job.loss_examples) for job in jobs]
    totals = [0.0] * len(jobs)
    for start, rows, count in slices(sizes, EVALUATION_BATCH):
        part, own = slice(start, start + count), jobs[rows]
        outputs = stack.outputs(rows, torch.stack([job.loss_examples.inputs[part].to(device) for job in own]))
        for i, (job, given) in enumerate(zip(own, outputs, strict=True), rows.start):
            totals[i] += float(task.loss(given, job.loss_examples.targets[part].to(device))) * count
    return [total / size for total, size in zip(totals, sizes, strict=True)]


def slices(sizes: Sequence[int], width: int) -> Iterator[tuple[int, slice, int]]:
    """Every batch of one pass over the examples of all rows.

    For sizes 5, 3, 3, 2 and width 2: all four rows, 2 from 0 on; row 0, 2 from 2 on; rows 1 and 2, 1 from 2 on; row 0,
    1 from 4 on.

    Args:
        sizes: How many examples each row has, descending.
        width: The size of a batch.

    Yields:
        (start, rows, count): the examples of these rows from `start` on, exactly `count` of each.
    """
    for start in range(0, max(sizes), width):
        counts = [min(width, size - start) for size in sizes if size > start]
        row = 0
        for count, group in groupby(counts):
            rows = slice(row, row + len(list(group)))
            yield start, rows, count
            row = rows.stop
