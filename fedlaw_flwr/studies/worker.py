"""One run of an experiment in a process of its own: its row and its curve, and word of every round meanwhile."""

import logging
import subprocess
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fedlaw_flwr.core.peak import peak_bytes
from fedlaw_flwr.events.folder import unused
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import Event, NoReply, RoundEnded
from fedlaw_flwr.events.verdict import Verdict, verdict
from fedlaw_flwr.studies.curves import points_of, write_points
from fedlaw_flwr.studies.plan import PlannedRun


@dataclass(frozen=True)
class Place:
    """Where a run is done and what it leaves: the settings of this machine, a folder for runs, one for curves."""

    where: Mapping[str, Any]
    runs: Path
    curves: Path
    silos_per_batch: int


def work(planned: PlannedRun, place: Place, pipe: Connection) -> None:
    """Does a run and tells of it.

    One torch thread: several runs at a time fill the cores better, and sums do not depend on how many there are. A
    run in which no round moved the model is a result, its row says why; one in which an honest silo failed is none. If
    nobody reads the pipe any more, the run ends at its next round. The traceback of an error is in the run folder.

    Args:
        planned: The run.
        place: Where it is done and what it leaves.
        pipe: Gets {"round", "peak"} after every round (peak: the most bytes held so far), then {"row"}, or {"error"}
            for what is no result.
    """
    folder = unused(place.runs / planned.name)  # what a killed run left is kept
    try:
        pipe.send({"row": _row(planned, place, folder, pipe)})
    except BrokenPipeError:
        sys.exit(1)
    except (Exception, KeyboardInterrupt) as error:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
        pipe.send({"error": f"{type(error).__name__}: {error} (see {folder / 'traceback.txt'})"})


def _row(planned: PlannedRun, place: Place, folder: Path, pipe: Connection) -> dict[str, Any]:
    import torch

    from fedlaw_flwr.apps.byzantine.batched import SimulatedSilos
    from fedlaw_flwr.events.folder import RunFailed
    from fedlaw_flwr.simulation.in_process import run_batched

    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    # A grid does again what was not done; checkpoints would make each of its many short rounds wait for the disk.
    settings = replace(planned.settings(place.where), keep_checkpoints=0)
    failed = ""

    def note(event: Event) -> None:
        if isinstance(event, RoundEnded):
            pipe.send({"round": event.round, "peak": peak_bytes()})

    try:
        run_batched(SimulatedSilos, settings, folder, note, silos_per_batch=place.silos_per_batch)
    except RunFailed as error:
        failed = str(error).partition(";")[0]
    run = Run.read(folder)
    _no_silo_failed(run)
    write_points(points_of(run), place.curves / f"{planned.name}.csv")
    return {
        **columns_of(verdict(run)),
        "method": planned.method,
        "task": settings.task,
        "attack": settings.attack,
        "q": settings.q,
        "byzantine": settings.byzantine,
        "seed": settings.seed,
        "failed": failed,
        "made_by": _made_by(settings.device),
        "run": planned.name,
        "settings": planned.text,
    }


def columns_of(found: Verdict) -> dict[str, Any]:
    """The figures of a run under the names that the published tables have for them (`table.FIELDS`).

    There, silos are counted for rules that give weights, and for no others.
    """
    has_weights = found.weight_on_attackers is not None
    detection = found.detection if has_weights else {}
    return {
        "accuracy": found.accuracy,
        "validation_accuracy": found.validation_accuracy,
        "attack_success": found.attack_success,
        "attackers": found.attackers,
        "caught": found.caught if has_weights else None,
        "wronged": found.wrongly_excluded if has_weights else None,
        "precision": detection.get("precision"),
        "recall": detection.get("recall"),
        "f1": detection.get("f1"),
        "detection_accuracy": detection.get("accuracy"),
        "mass_on_attackers": found.weight_on_attackers,
        "rounds": found.rounds,
        "held": found.skipped_rounds,
        "bytes_down": found.bytes_down,
        "bytes_up": found.bytes_up,
        "seconds": found.seconds,
    }


def _no_silo_failed(run: Run) -> None:
    """Looks whether an honest silo's app raised: the run went on without it, and its figures are no result.

    Raises:
        RuntimeError: If one did.
    """
    for event in run.missing:
        if isinstance(event, NoReply) and event.silo not in run.attackers and event.reason.startswith("error "):
            raise RuntimeError(f"{event.silo} failed in round {event.round}: {event.reason}")


def _made_by(device: str) -> str:
    from importlib.metadata import version

    import torch

    from fedlaw_flwr.tasks.device import device as find

    place = find(device)
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else place.type
    release = version("fedlaw-flwr") + commit_of(Path(__file__).resolve().parent)
    return f"fedlaw-flwr {release}, torch {torch.__version__}, {name}"


def commit_of(folder: Path) -> str:
    """The commit checked out in this folder.

    Returns:
        The short hash after a space, with a + if Python files or pyproject.toml changed; results that a grid adds while
        it runs are no change. Empty where the folder is no checkout.
    """
    head = _git(folder, "rev-parse", "--short", "HEAD")
    if head is None or head.returncode:
        return ""
    changed = _git(folder, "diff", "--quiet", "HEAD", "--", ":(top)*.py", ":(top)pyproject.toml")
    return f" {head.stdout.strip()}{'' if changed is not None and changed.returncode == 0 else '+'}"


def _git(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str] | None":
    """What git said; None where there is no git, or it does not answer."""
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
