"""The silo's review, as peer review would ask for it: that it can be taken, what it rests on, and its seconds."""

import time
from collections.abc import Iterator

import torch

from fedlaw_flwr.config.findings import Finding, note, ok, wrong
from fedlaw_flwr.silo.checks.trial import Trial
from fedlaw_flwr.training.reviews import review as taken

FEW = 5
"""With fewer examples of a class than this, the class's part of a review is mostly chance (docs/research)."""


def review(trial: Trial) -> Iterator[Finding]:
    """Whether a review can be taken of the first model, and of how many classes and examples."""
    model, examples = trial.model(), trial.train
    started = time.monotonic()
    found = taken(model, trial.task.loss, examples.inputs, examples.targets)
    seconds = time.monotonic() - started
    broken = [key for key, value in found.gradient.items() if not torch.isfinite(value).all()]
    if broken:
        yield wrong(
            f"the review's gradient of {broken[0]!r} is not finite: the loss of one class alone cannot be taken, so "
            "the silo would have no voice in peer review"
        )
        return
    targets = examples.targets
    if targets.dim() != 1 or targets.is_floating_point():
        yield ok(f"a review (variant=review) takes {seconds:.2f} s, on {len(examples)} examples without classes")
        return
    labels, counts = targets.unique(return_counts=True)
    yield ok(
        f"a review (variant=review) takes {seconds:.2f} s, on {len(labels)} classes of {int(counts.min())} to "
        f"{int(counts.max())} examples; it leaves only where policy.yaml says `reviews: true`"
    )
    rare = [int(label) for label, count in zip(labels, counts, strict=True) if count < FEW]
    if rare:
        yield note(
            f"fewer than {FEW} examples of class {', '.join(map(str, rare[:5]))}{' ...' * (len(rare) > 5)}: a review "
            "weighs every class alike, so these few decide much of it, and can be read from it more easily"
        )
