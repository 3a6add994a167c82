"""Training as the federation asks for it: the loss falls, one exchange and what it costs, the same again, figures."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from flwr.app import ArrayRecord, MetricRecord
from torch import Tensor, nn

from fedlaw_flwr.config.findings import Finding, note, ok, wrong
from fedlaw_flwr.core.peak import peak_bytes
from fedlaw_flwr.protocol.exchange import payload_bytes
from fedlaw_flwr.protocol.layout import Layout
from fedlaw_flwr.records.task import load_silo_task
from fedlaw_flwr.silo.checks.trial import Trial, same_bytes, size_of
from fedlaw_flwr.tasks.base import Examples
from fedlaw_flwr.training.local import local_round, mean_loss, train

STEPS = 20
# Sums in another order differ by this much of a tensor's norm; anything above is another computation.
_ROUNDING = 1e-6
# A run waits this long for a reply unless its `timeout` says otherwise.
_TIMEOUT = 600.0


def learning(trial: Trial) -> Iterator[Finding]:
    """Whether the mean loss falls in 20 steps of plain SGD at the given lr; if not, whether it does at another."""
    first, last = _in_20_steps(trial, trial.lr)
    if last < first:
        yield ok(f"the loss falls from {first:.4g} to {last:.4g} in {STEPS} steps of lr={trial.lr:g}")
        return
    what = f"the loss goes from {first:.4g} to {last:.4g} in {STEPS} steps of lr={trial.lr:g}"
    falling = {lr: _in_20_steps(trial, lr)[1] for lr in (trial.lr / 100, trial.lr / 10, trial.lr * 10, trial.lr * 100)}
    better = [lr for lr, reached in falling.items() if reached < first]
    if not better:
        tried = ", ".join(f"{lr:g}" for lr in falling)
        yield wrong(f"{what}, and does not fall at {tried} either: look at the sign of the loss, targets and inputs")
        return
    best = min(better, key=lambda lr: falling[lr])
    size = "large" if best < trial.lr else "small"
    yield wrong(
        f"{what}; that lr is too {size}: at {best:g} it falls to {falling[best]:.4g}. Scale the inputs (standardise by "
        "constants the federation agrees on), or agree on that lr"
    )


def exchange(trial: Trial) -> Iterator[Finding]:
    """Whether one exchange gives the arrays that were sent, trained; its seconds and bytes, and the memory it took."""
    one_left = len(trial.train) % trial.batch_size == 1
    normalised = [
        name for name, module in trial.model().named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    try:
        trained, seconds = trial.exchange
    except ValueError as error:
        if not (one_left and normalised):
            raise
        yield wrong(
            f"the last batch of an epoch has one example ({len(trial.train)} in batches of {trial.batch_size}), and "
            f"batch norm ({normalised[0]}) does not train on one: {error}; drop an example, or use group norm"
        )
        return
    sent, reply = dict(trial.model().state_dict()), trial.reply
    changed = [
        key
        for key in {**sent, **reply}
        if key not in sent
        or key not in reply
        or sent[key].shape != reply[key].shape
        or sent[key].dtype != reply[key].dtype
    ]
    if changed:
        yield wrong(
            f"training changes the state dict's names, shapes or dtypes: {', '.join(changed)}; the server takes back "
            "what it sent, so register everything in __init__"
        )
        return
    broken = [
        key
        for key, value in reply.items()
        if not torch.isfinite(value).all() and torch.isfinite(sent[key]).all()  # a mask with -inf is as it was
    ]
    if broken or not math.isfinite(trained.loss):
        what = f"{broken[0]!r} is not finite" if broken else f"the loss is {trained.loss}"
        yield wrong(f"after one exchange at lr={trial.lr:g}, {what}: the server would set the reply aside; lower lr")
        return
    arrays = ArrayRecord({**reply})
    down = payload_bytes({"arrays": arrays})
    up = payload_bytes({"arrays": arrays, "metrics": MetricRecord({"loss": 0.0, "num-examples": 1})})
    yield ok(
        f"an exchange takes {seconds:.2f} s ({trial.epochs} x {len(trial.train)} examples), {size_of(down)} to the "
        f"silo and {size_of(up)} back; a round is two. This process took {size_of(peak_bytes())} of memory at most"
    )
    if seconds > _TIMEOUT:
        yield note(f"that is longer than a run waits unless its operator raises `timeout` above {_TIMEOUT:g} s")
    yield from _moving_buffers(sent, reply, {name for name, _ in trial.model().named_buffers()})


def repeatable(trial: Trial) -> Iterator[Finding]:
    """Whether the task, loaded once more, has the same examples, and the same exchange the same reply."""
    source = trial.source
    again = load_silo_task(source.reference, source.data_path, source.options)
    examples = again.load_train()
    if not (_same_examples(trial.train, examples) and _same_examples(trial.test, again.load_test())):
        yield wrong(
            "loaded a second time, the task has other examples: after a restart a model is measured on what it was "
            "trained on; split by a fixed rule or a fixed seed, and read in a fixed order"
        )
        return
    model = again.build_model(trial.seed)
    second = local_round(model, again, trial.job(examples)).state
    assert second is not None
    if all(same_bytes(value, second[key]) for key, value in trial.reply.items()):
        yield ok("loaded and trained a second time, the reply is the same to the bit")
        return
    distances = {key: _relative(value, second[key]) for key, value in trial.reply.items()}
    worst = max(distances, key=lambda key: distances[key])
    if distances[worst] <= _ROUNDING:
        yield note(f"trained a second time, the reply differs by {distances[worst]:.1g} ({worst}): rounding, harmless")
        return
    yield wrong(
        f"trained a second time from the same seed, {worst} differs by {distances[worst]:.1g} of its size: something "
        "draws numbers or keeps a state outside what the seed decides (torch's own generator, which dropout uses, is "
        "seeded). No run can then be repeated, nor a suspicious update explained; draw from a "
        "torch.Generator that build_model seeds, or leave it out"
    )


def metrics(trial: Trial) -> Iterator[Finding]:
    """Whether the figures of a model are finite numbers under names a reply can carry."""
    found, figures = trial.measured, trial.figures
    if not isinstance(figures, dict):
        yield wrong(f"metrics() gives {type(figures).__name__}: a dict of names and numbers is expected")
        return
    taken = [name for name in figures if name in ("loss", "num-examples")]
    strange = [name for name, value in figures.items() if isinstance(value, bool) or not isinstance(value, int | float)]
    if not all(isinstance(name, str) for name in figures) or taken:
        yield wrong(f"metrics() names {taken or list(figures)}: texts are expected; loss and num-examples are taken")
    elif strange:
        kind = type(figures[strange[0]]).__name__
        yield wrong(f"metrics() gives {strange[0]!r} as {kind}: a float is expected, float(...) makes one")
    elif not all(math.isfinite(value) for value in figures.values()):
        broken = ", ".join(f"{name}={value}" for name, value in figures.items() if not math.isfinite(value))
        yield wrong(f"metrics() gives figures that are not finite on {len(found)} examples: {broken}")
    else:
        yield ok(f"figures before training: {', '.join(f'{name} {value:.4g}' for name, value in figures.items())}")
        if not found.targets.is_floating_point() and "accuracy" not in figures:
            yield note("the targets are labels and metrics() has no `accuracy`: reports will have none either")


def _in_20_steps(trial: Trial, lr: float) -> tuple[float, float]:
    """The mean loss over the training examples before and after STEPS batches, inf where it is not finite."""
    model, rng, examples = trial.model(), np.random.default_rng(trial.seed), trial.train
    first = mean_loss(model, trial.task, examples)
    epochs = -(-STEPS * trial.batch_size // len(examples))
    order = np.concatenate([rng.permutation(len(examples)) for _ in range(epochs)])[: STEPS * trial.batch_size]
    drawn = Examples(examples.inputs[order], examples.targets[order])
    train(model, trial.task, drawn, lr=lr, epochs=1, batch_size=trial.batch_size, rng=rng)
    last = mean_loss(model, trial.task, examples)
    return first, last if math.isfinite(last) else math.inf


def _moving_buffers(sent: Mapping[str, Tensor], reply: Mapping[str, Tensor], names: set[str]) -> Iterator[Finding]:
    """Float buffers that training changes and the server would take for parameters."""
    slots = Layout.of(ArrayRecord({**sent})).slots
    moving = [
        s.key for s in slots if s.kind == "parameter" and s.key in names and not same_bytes(sent[s.key], reply[s.key])
    ]
    if moving:
        yield note(
            f"training changes the buffers {', '.join(moving)}, which the server takes for parameters by their names: "
            "ask for a `buffers` pattern that has them, or take batch norm's names"
        )


def _same_examples(one: Examples, other: Examples) -> bool:
    return same_bytes(one.inputs, other.inputs) and same_bytes(one.targets, other.targets)


def _relative(one: Tensor, other: Tensor) -> float:
    """||one - other|| / ||one||, in float64."""
    one, other = one.double(), other.double()
    return float((one - other).norm() / one.norm().clamp_min(1e-300))
