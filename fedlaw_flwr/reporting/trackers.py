"""A run written for the trackers many look into: TensorBoard and MLflow."""

import re
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from fedlaw_flwr.core.extras import naming_the_extra
from fedlaw_flwr.events.record import Run, weight_on
from fedlaw_flwr.reporting.narrative import story
from fedlaw_flwr.reporting.report import title, write_report


def scalars(run: Run) -> Iterator[tuple[str, int, float]]:
    """Every figure of every round, as (name, round, value); values that are not finite are left out.

    Names: `evaluation/METRIC`; `round/seconds`, `round/bytes_down`, `round/bytes_up`, `round/excluded`, `round/clip`;
    `round/weight_on_attackers` where attackers are known; `exchange_1/seconds` and so on; `weight/SILO` of each silo.
    """
    found: list[tuple[str, int, Any]] = []
    for evaluation in run.evaluations:
        found += [
            (f"evaluation/{name}", evaluation.round, value)
            for name, value in evaluation.metrics.items()
            if isinstance(value, int | float)
        ]
    for event in run.rounds:
        figures: dict[str, Any] = {
            "round/seconds": event.seconds,
            "round/bytes_down": event.bytes_down,
            "round/bytes_up": event.bytes_up,
            "round/excluded": len(run.excluded_in(event.round)),
            "round/clip": event.clip,
            "round/weight_on_attackers": weight_on(run.attackers, event.weight_of) if run.attackers else None,
        }
        for number, one in enumerate(event.exchanges, start=1):
            names = ("seconds", "bytes_down", "bytes_up")
            figures |= {f"exchange_{number}/{name}": getattr(one, name) for name in names}
        figures |= {f"weight/{_tag(silo)}": weight for silo, weight in event.weight_of.items()}
        found += [(name, event.round, value) for name, value in figures.items()]
    for name, number, value in found:
        if value is not None and isfinite(value):
            yield name, number, float(value)


def to_tensorboard(folder: Path, out: Path) -> Path:
    """Writes a run as TensorBoard's event files: scalars a round, the weights as a histogram, the story as text.

    Args:
        folder: The run's folder.
        out: The folder that `tensorboard --logdir` is given; the run gets a folder of its name in it.

    Returns:
        The folder written.

    Raises:
        ModuleNotFoundError: Without the `tensorboard` extra; the text says what to install.
    """
    with naming_the_extra():
        import tensorboard  # noqa: F401  # torch's own message does not say what to install
        from torch.utils.tensorboard import SummaryWriter
    run = Run.read(folder)
    place = out / (run.name or "run")
    with SummaryWriter(str(place)) as writer:
        for name, number, value in scalars(run):
            writer.add_scalar(name, value, number)
        for number, weights in run.weights.items():
            writer.add_histogram("weights", np.array(list(weights.values())), number)
        writer.add_text("story", "\n\n".join([title(run), *story(run)]))
    return place


def to_mlflow(folder: Path, uri: str = "", experiment: str = "fedlaw") -> str:
    """Writes a run into MLflow: settings as parameters, scalars a round as metrics, report and events as artifacts.

    Args:
        folder: The run's folder; its report is written.
        uri: Where MLflow keeps its runs; empty: what MLFLOW_TRACKING_URI says, or MLflow's own default.
        experiment: The experiment in MLflow; it is made if it is not there.

    Returns:
        MLflow's id of the run.

    Raises:
        ModuleNotFoundError: Without the `mlflow` extra; the text says what to install.
    """
    with naming_the_extra():
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.tracking import MlflowClient
    run = Run.read(folder)
    report = write_report(folder)
    client = MlflowClient(uri or None)
    known = client.get_experiment_by_name(experiment)
    kept = client.create_run(known.experiment_id if known else client.create_experiment(experiment), run_name=run.name)
    made = str(kept.info.run_id)
    # A batch may hold 100 parameters and 1,000 metrics; a value 6,000 letters.
    parameters = [Param(name, str(value)[:6000]) for name, value in run.settings.items()]
    metrics = [Metric(_tag(name), value, 0, number) for name, number, value in scalars(run)]
    for at in range(0, len(parameters), 100):
        client.log_batch(made, params=parameters[at : at + 100])
    for at in range(0, len(metrics), 1000):
        client.log_batch(made, metrics=metrics[at : at + 1000])
    client.log_batch(made, tags=[RunTag("mlflow.note.content", "\n\n".join([title(run), *story(run)]))])
    for file in (report, folder / "events.jsonl"):
        client.log_artifact(made, str(file))
    is_done = run.end is not None and run.end.status == "completed"
    client.set_terminated(made, "FINISHED" if is_done else "FAILED")
    return made


def _tag(name: str) -> str:
    """The name with the letters that both trackers take."""
    return re.sub(r"[^\w\-. /]", "_", name)
