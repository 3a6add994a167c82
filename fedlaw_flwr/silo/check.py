"""`fedlaw check`: a silo's task run as the federation would run it, on the silo's machine, without a server."""

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fedlaw_flwr.config.findings import Finding, in_order, ok, wrong
from fedlaw_flwr.protocol.text import cause
from fedlaw_flwr.records.task import Option, load_silo_task
from fedlaw_flwr.silo.checks.disclosure import description, leaves, raw_data
from fedlaw_flwr.silo.checks.examples import examples
from fedlaw_flwr.silo.checks.loss import gradient, loss, mean, outputs, pairs
from fedlaw_flwr.silo.checks.model import random_state, seeded, state
from fedlaw_flwr.silo.checks.review import review
from fedlaw_flwr.silo.checks.training import exchange, learning, metrics, repeatable
from fedlaw_flwr.silo.checks.trial import Source, Trial
from fedlaw_flwr.tasks.base import SiloTask

__all__ = ["CHECKS", "Finding", "TaskCheck", "findings", "look", "save_model"]

_PROTOCOL = ("build_model", "loss", "metrics", "load_train", "load_test", "description")


@dataclass(frozen=True)
class TaskCheck:
    """One check, and those without whose success it would only repeat what they said."""

    run: Callable[[Trial], Iterator[Finding]]
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of its function, as in its findings."""
        return self.run.__name__


CHECKS = (
    TaskCheck(examples),
    TaskCheck(seeded),
    TaskCheck(random_state, needs=("seeded",)),
    TaskCheck(state, needs=("seeded",)),
    TaskCheck(outputs, needs=("examples", "state")),
    TaskCheck(loss, needs=("outputs",)),
    TaskCheck(mean, needs=("loss",)),
    TaskCheck(pairs, needs=("loss",)),
    TaskCheck(gradient, needs=("loss",)),
    TaskCheck(learning, needs=("mean", "pairs", "gradient")),
    TaskCheck(exchange, needs=("learning",)),
    TaskCheck(repeatable, needs=("exchange",)),
    TaskCheck(review, needs=("exchange",)),
    TaskCheck(metrics, needs=("outputs",)),
    TaskCheck(description, needs=("examples",)),
    TaskCheck(raw_data, needs=("exchange",)),
    TaskCheck(leaves, needs=("exchange", "metrics", "description")),
)
"""Every check in the order of their findings, after `loads`; a new one is a function and a line here."""


def findings(
    reference: str,
    data_path: str = "",
    options: Mapping[str, Option] | None = None,
    *,
    lr: float = 0.1,
    batch_size: int = 16,
    local_epochs: int = 1,
    seed: int = 0,
) -> list[Finding]:
    """All that is found about the task.

    What the task's code raises is a finding; nothing is raised here.

    Args:
        reference: A name of `records.task.SILO_TASKS`, or `package.module:name`.
        data_path: As in silo.yaml.
        options: As in silo.yaml; None for no options.
        lr: The step of local training, as the run will have it.
        batch_size: The examples in a batch, as the run will have it.
        local_epochs: The epochs of local training in an exchange, as the run will have it.
        seed: The seed, as the run will have it.

    Returns:
        The findings. The task may join a federation when none of them is "wrong".
    """
    return list(look(reference, data_path, options, lr=lr, batch_size=batch_size, local_epochs=local_epochs, seed=seed))


def look(
    reference: str,
    data_path: str = "",
    options: Mapping[str, Option] | None = None,
    *,
    lr: float = 0.1,
    batch_size: int = 16,
    local_epochs: int = 1,
    seed: int = 0,
) -> Iterator[Finding]:
    """Yields what `findings` returns, as it is found: training takes its time.

    Training runs on the CPU, by one thread, as in a silo. The arguments are those of `findings`.
    """
    source = Source(reference, data_path, dict(options or {}))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        task = _load(source)
        if isinstance(task, list):
            yield from (replace(finding, check="loads") for finding in task)
            return
        yield replace(ok(f"{reference} is a task, {task.name!r}"), check="loads")
        trial = Trial(task, source, lr, batch_size, local_epochs, seed)
        yield from in_order(CHECKS, lambda check: _made(check, trial))
    finally:
        torch.set_num_threads(threads)


def save_model(path: Path, reference: str, data_path: str, options: Mapping[str, Option], seed: int) -> None:
    """Writes the task's initial model for the server: see `tasks.initial`.

    Args:
        path: The file that is written.
        reference: A name of `records.task.SILO_TASKS`, or `package.module:name`.
        data_path: As in silo.yaml.
        options: As in silo.yaml.
        seed: The seed of the initial model.

    Raises:
        FileExistsError: Where the file is there already.
    """
    from fedlaw_flwr.tasks.initial import save_initial

    task = load_silo_task(reference, data_path, options)
    arrays = {key: value.numpy() for key, value in task.build_model(seed).state_dict().items()}
    save_initial(path, arrays, task.name, task.description())


def _load(source: Source) -> SiloTask | list[Finding]:
    """The task, or why there is none."""
    try:
        task = load_silo_task(source.reference, source.data_path, source.options)
    except ValueError as error:
        absent = isinstance(error.__cause__, ImportError)
        hint = "; is it installed here? `pip install -e .` in its folder" if absent else ""
        return [wrong(f"{line}{hint}") for line in str(error).splitlines() or [type(error).__name__]]
    except Exception as error:
        return [wrong(f"{_said(error, source)}; raise ValueError with a sentence where the data is not as expected")]
    missing = [name for name in _PROTOCOL if not callable(getattr(task, name, None))]
    if not isinstance(getattr(task, "name", None), str):
        missing.insert(0, "name (a text)")
    if missing:
        what = f"{source.reference} gives {type(task).__name__} without {', '.join(missing)}"
        return [wrong(f"{what}: fedlaw_flwr.tasks.base.SiloTask says what each is")]
    return task


def _made(check: TaskCheck, trial: Trial) -> Iterator[Finding]:
    try:
        yield from check.run(trial)
    except Exception as error:  # the institution's code may raise anything
        yield wrong(_said(error, trial.source))


def _said(error: Exception, source: Source) -> str:
    """What the task's code raised, on one line, and where in that code."""
    package = source.reference.partition(":")[0].partition(".")[0]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _belongs(frame.filename, package)]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {cause(error)}{where}"


def _belongs(filename: str, package: str) -> bool:
    """Whether this file is one of the package's, or the module itself."""
    return package in Path(filename).with_suffix("").parts
