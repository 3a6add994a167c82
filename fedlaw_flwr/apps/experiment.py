"""An experiment over any grid: settings to task, strategy and attackers, then rounds, evaluation and the account."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result

from fedlaw_flwr.attacks import sleeper
from fedlaw_flwr.attacks.backdoor_target import success_rate
from fedlaw_flwr.checkpoints.resuming import reopen
from fedlaw_flwr.checkpoints.store import Checkpoints
from fedlaw_flwr.config.settings import Settings, without_effect
from fedlaw_flwr.core import seeding
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.partition import labels_without_honest_home
from fedlaw_flwr.core.setting import settings_of
from fedlaw_flwr.core.simplex import byzantine_count
from fedlaw_flwr.engines.batched import BatchedGrid
from fedlaw_flwr.events.folder import EVENTS, RunFailed, RunFolder
from fedlaw_flwr.events.types import OnEvent, RunStarted, Warned
from fedlaw_flwr.ledger.keys import ServerKey
from fedlaw_flwr.records.schema import differences
from fedlaw_flwr.strategy import FedLAW, RuleStrategy
from fedlaw_flwr.strategy.base import MatrixStrategy, TooFewSilos
from fedlaw_flwr.tasks import OWN
from fedlaw_flwr.tasks.base import Task
from fedlaw_flwr.tasks.device import device
from fedlaw_flwr.tasks.initial import load_initial
from fedlaw_flwr.training.local import evaluate, evaluate_classes
from fedlaw_flwr.training.reviews import review

NOT_OMNISCIENT = (
    "knowledge='omniscient': silos of their own cannot see what others train; use `fedlaw run --engine batched` or "
    "knowledge=colluders"
)
"""Why engines other than the batched one refuse it."""

EvaluateModel = Callable[[int, ArrayRecord], MetricRecord | None]
"""(round, arrays) -> the metrics of this model; None in a round in which none are taken."""

_log = logging.getLogger("flwr")


def opened(settings: Settings, on_event: OnEvent | None = None) -> Checkpoints:
    """The run folder of these settings, open, with its checkpoints: a new one or, with `resume`, that of a run.

    Args:
        settings: The run's; `resume` names the run, and `run-dir` its folder where that is not in `runs/`.
        on_event: Called with every event after it is written.

    Raises:
        UserError: If the folder already holds a run, or if the run cannot be resumed.
    """
    key = ServerKey.of(settings.server_key) if settings.keep_checkpoints else None
    if not settings.resume:
        folder = RunFolder.create(settings, on_event)
        return Checkpoints(folder, settings.as_config(), settings.keep_checkpoints, key)
    path = Path(settings.run_dir or Path("runs") / settings.resume).expanduser()
    if path.name != settings.resume:
        raise InputError(f"run-dir={settings.run_dir!r} and resume={settings.resume!r}: name the same run, or only one")
    return reopen(path, settings.as_config(), settings.keep_checkpoints, key, settings.resume_changed, on_event)[1]


def run_experiment(grid: Grid, settings: Settings, run: RunFolder | Checkpoints) -> Result:
    """One run as the settings say, every event of it in the folder, the final model beside them.

    Args:
        grid: Where the silos are.
        settings: The run's.
        run: The open run folder, with its checkpoints if any are to be written.

    Returns:
        Flower's result of the strategy.

    Raises:
        InputError: For knowledge = "omniscient" on a grid other than the batched engine's.
        RunFailed: If every round was skipped, so that none moved the model; if too few silos still take part, once the
            model so far is in the folder.
    """
    if settings.knowledge == "omniscient" and not isinstance(grid, BatchedGrid):
        raise InputError(NOT_OMNISCIENT)
    folder, checkpoints = (run, None) if isinstance(run, RunFolder) else (run.folder, run)
    beginning = _own(settings) if settings.task == OWN else _dealt(settings)
    if checkpoints is None or checkpoints.resumed is None:  # else the events say so already
        attackers, own_task = settings.known_attacks(), beginning.own_task or None
        folder.write(RunStarted(settings=settings.as_config(), attackers=attackers, own_task=own_task))
        for warning in warnings_of(settings):
            folder.write(Warned(reason=warning))
            _log.warning(warning)
    places = {"checkpoint": checkpoints, "ledger_dir": folder.path, "orders_in": folder.path}
    strategy = build_strategy(settings, folder.write, **places, **beginning.strategy)
    config: dict[str, Any] = {
        "lr": settings.lr,
        "local-epochs": settings.local_epochs,
        "batch-size": settings.batch_size,
    }
    try:
        result = strategy.start(
            grid,
            beginning.arrays,
            num_rounds=settings.num_rounds,
            timeout=settings.timeout,
            train_config=ConfigRecord(config),
            evaluate_fn=beginning.evaluate_fn,
        )
    except RunFailed as failure:
        if isinstance(failure, TooFewSilos):
            folder.save_model({key: array.numpy() for key, array in failure.result.arrays.items()})
        raise RunFailed(f"{failure}; {folder.path / EVENTS} says why of each round") from failure
    folder.save_model({key: array.numpy() for key, array in result.arrays.items()})
    return result


@dataclass(frozen=True)
class _Beginning:
    """The first model, how models are measured here, and what the strategy must know beside the settings."""

    arrays: ArrayRecord
    evaluate_fn: EvaluateModel | None
    strategy: Mapping[str, Any]
    own_task: str = ""


def _dealt(settings: Settings) -> _Beginning:
    """A task whose examples are here."""
    task = settings.load_task()
    task.load_train(0)  # deals the examples: what cannot be dealt must not become twenty rounds of silence
    arrays = ArrayRecord(task.build_model(settings.seed).state_dict())
    more = {"root_review": root_review(settings, task)} if settings.root_data else {}
    return _Beginning(arrays, central_evaluation(settings, task), more)


def _own(settings: Settings) -> _Beginning:
    """Silos that learn what they hold: each is held against what was agreed, and measures every model itself."""
    initial = load_initial(Path(settings.initial_model))
    arrays = ArrayRecord({key: Array(value) for key, value in initial.arrays.items()})
    differs = partial(differences, agreed=initial.description) if initial.description else None
    return _Beginning(arrays, None, {"check_task": differs, "fraction_evaluate": 1.0}, initial.task)


def build_strategy(settings: Settings, on_event: OnEvent | None = None, **more: Any) -> MatrixStrategy:
    """The strategy the settings name, with the settings it takes.

    Args:
        settings: The run's.
        on_event: Is handed every event.
        **more: Other arguments of the strategy.
    """
    kind = FedLAW if settings.strategy == "fedlaw" else RuleStrategy
    taken = {name: getattr(settings, name) for name in settings_of(kind) if hasattr(settings, name)}
    if kind is RuleStrategy:
        taken |= {"rule": settings.strategy, "rule_settings": settings.rule_settings()}
    return kind(**taken, loss_key="loss", on_event=on_event, attackers=settings.attack_plan().attackers, **more)


def root_review(settings: Settings, task: Task) -> Callable[[ArrayRecord], dict[str, Any]]:
    """The server's own review, on `root-data` examples drawn from the validation split.

    Args:
        settings: The run's.
        task: The task whose examples are here.

    Returns:
        A function from the model to the gradient of its class-balanced loss, by parameter.

    Raises:
        InputError: If the validation split has fewer examples.
    """
    validation = task.load_validation()
    if settings.root_data > len(validation):
        raise InputError(f"root-data={settings.root_data}: the validation split has {len(validation)} examples")
    order = seeding.generator(settings.seed, "root").permutation(len(validation))[: settings.root_data]
    inputs, targets = validation.inputs[order], validation.targets[order]
    model = task.build_model(settings.seed).to(device(settings.device))

    def reviewed(arrays: ArrayRecord) -> dict[str, Any]:
        model.load_state_dict(arrays.to_torch_state_dict(), strict=True)
        found = review(model, task.loss, inputs, targets)
        return {key: value.cpu().numpy() for key, value in found.gradient.items()}

    return reviewed


def central_evaluation(settings: Settings, task: Task) -> EvaluateModel:
    """evaluate_fn for Flower.

    Args:
        settings: The run's; `evaluate-every` says in which rounds models are measured, beside the last.
        task: The task whose examples are here.

    Returns:
        A function that gives the task's metrics on the test split, and on the validation split as `validation-...`.
        Where silos plant a backdoor with a target, also its success on the test split, `attack-success`.
    """
    every = settings.evaluate_every
    place = device(settings.device)
    test, validation = task.load_test(), task.load_validation()
    model = task.build_model(settings.seed).to(place)
    backdoored = "backdoor_target" in settings.known_attacks().values()

    def evaluate_fn(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        if server_round != settings.num_rounds and (not every or server_round % every):
            return None
        model.load_state_dict(arrays.to_torch_state_dict(), strict=True)
        chosen = {f"validation-{key}": value for key, value in evaluate(model, task, validation).items()}
        triggered = {"attack-success": success_rate(model, test)} if backdoored else {}
        found, classes = evaluate_classes(model, task, test)
        return MetricRecord({**found, **chosen, **triggered, **classes})

    return evaluate_fn


def warnings_of(settings: Settings) -> list[str]:
    """What a researcher should know about this choice of attackers before believing its numbers."""
    found = []
    plan = settings.attack_plan()
    if "sleeper" in plan.attacks.values() and settings.num_rounds <= sleeper.SLEEPS:
        found.append(
            f"the sleeper sleeps for {sleeper.SLEEPS} rounds and num-rounds={settings.num_rounds}: it never attacks"
        )
    num_labels = settings.num_labels
    lost = labels_without_honest_home(settings.num_silos, num_labels, plan.attackers)
    if settings.partition == "q-groups" and plan.attackers and lost:
        shares = settings.partition_plan().honest_share(plan.attackers, num_labels)
        held = ", ".join(f"{100 * shares[label]:.0f} % of label {label}" for label in lost)
        found.append(
            f"attackers own the whole group of label {', '.join(map(str, lost))}: honest silos hold only about {held}, "
            "so even a perfect defence learns little of it"
        )
    most = byzantine_count(settings.max_byzantine, settings.num_silos)
    if len(plan.attackers) > most:
        found.append(
            f"{len(plan.attackers)} silos attack and max-byzantine={settings.max_byzantine} says at most {most} of "
            f"{settings.num_silos}: no rule promises anything beyond that; raise max-byzantine or lower byzantine"
        )
    if not plan.attackers and settings.byzantine not in (0, settings_of(Settings)["byzantine"].default):
        found.append(without_effect({"byzantine": settings.byzantine, "attack": settings.attack})[0])
    return found
