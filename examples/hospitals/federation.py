"""The hospitals' federation, in process: from their files to an agreed schema and a first model; and a run of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hospitals import TARGET, Hospital, write_records

from fedlaw_flwr.apps import own
from fedlaw_flwr.apps.experiment import run_experiment
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.engines.in_process import InProcessGrid
from fedlaw_flwr.events.folder import RunFolder
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import EvaluatedBySilos
from fedlaw_flwr.records.agreement import agree, summarise
from fedlaw_flwr.records.draft import draft
from fedlaw_flwr.records.tabular import FileOptions
from fedlaw_flwr.tasks.base import Examples, SiloTask
from fedlaw_flwr.tasks.initial import save_initial
from fedlaw_flwr.training.local import evaluate

MAX_BYZANTINE = 2
"""What the federation believes: the largest bound six silos allow (2b + 2 <= n), and one fewer than is true."""


@dataclass(frozen=True)
class Federation:
    """Everything that is there before the first round. configs: each hospital's node config, as its silo.yaml gives
    it; noticed: what its own data check says; initial: the file of the first model; agreed: what was noted when the
    schema was made from six summaries."""

    hospitals: tuple[Hospital, ...]
    configs: list[dict[str, Any]]
    initial: Path
    agreed: tuple[str, ...]
    noticed: Mapping[str, list[str]]

    def task(self, hospital: Hospital) -> SiloTask:
        """What the hospital learns, over its own records."""
        return own.task_of(self.configs[self.hospitals.index(hospital)])

    def honest_test(self) -> Examples:
        """The held-back records of the honest hospitals together: on these, results are reported."""
        parts = [self.task(hospital).load_test() for hospital in self.hospitals if not hospital.fault]
        return Examples(torch.cat([part.inputs for part in parts]), torch.cat([part.targets for part in parts]))


@dataclass(frozen=True)
class Outcome:
    """A finished run. own_auc: by silo, on what it holds back, as it says; auc: on the honest hospitals' together."""

    run: Run
    own_auc: Mapping[str, float]
    auc: float


def prepare(
    folder: Path,
    hospitals: tuple[Hospital, ...],
    seed: int,
    task: str = "tabular",
    options: Mapping[str, int] | None = None,
) -> Federation:
    """From the hospitals' files to a schema all agreed on and a first model, as `fedlaw schema draft`, `summary` and
    `agree` and `fedlaw check --save` do it."""
    paths = write_records(folder, hospitals, seed)
    records = {name: FileOptions().records(str(path)) for name, path in paths.items()}
    drafted = draft(records[hospitals[0].name], TARGET)
    summaries = {name: summarise(drafted.schema, mine) for name, mine in records.items()}
    agreement = agree(drafted.schema, summaries, MAX_BYZANTINE)
    schema = folder / "schema.yaml"
    schema.write_text(agreement.schema.written(), encoding="utf-8")
    configs = [
        {
            "name": hospital.name,
            "task": task,
            "data-path": str(paths[hospital.name]),
            "schema": str(schema),
            "partition-id": index,
            "num-partitions": len(hospitals),
            "seed": seed,
            **(options or {}),
        }
        for index, hospital in enumerate(hospitals)
    ]
    tasks = {str(config["name"]): own.task_of(config) for config in configs}
    any_task = tasks[hospitals[0].name]
    arrays = {key: value.numpy() for key, value in any_task.build_model(seed).state_dict().items()}
    initial = folder / "initial.safetensors"
    save_initial(initial, arrays, any_task.name, any_task.description())
    noticed = {name: task.suspicions() for name, task in tasks.items()}
    return Federation(hospitals, configs, initial, agreement.notes, noticed)


def train(federation: Federation, folder: Path, changed: Mapping[str, Any]) -> Outcome:
    """One federated run in this process, settings `changed`; each hospital trains and measures by its own ClientApp."""
    settings = Settings.read(
        {
            "task": "own",
            "initial-model": str(federation.initial),
            "num-silos": len(federation.hospitals),
            "max-byzantine": MAX_BYZANTINE,
            "run-dir": str(folder),
            **changed,
        }
    )
    grid = InProcessGrid(own.app, len(federation.hospitals), settings.as_config(), node_configs=federation.configs)
    with RunFolder.create(settings) as opened:
        result = run_experiment(grid, settings, opened)
    run = Run.read(folder)
    measured = [event for event in run.events if isinstance(event, EvaluatedBySilos)]
    task = federation.task(federation.hospitals[0])
    model = task.build_model(0)
    model.load_state_dict(result.arrays.to_torch_state_dict())
    auc = evaluate(model, task, federation.honest_test()).get("auc", float("nan"))
    return Outcome(run, measured[-1].by_silo.get("auc", {}) if measured else {}, auc)
