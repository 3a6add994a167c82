"""Runs of an experiment several at a time: one a core, where memory allows, which a first run must show."""

import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from typing import Any

import psutil

from fedlaw_flwr.studies.plan import PlannedRun
from fedlaw_flwr.studies.worker import Place, work

ROOM = 1.25
"""Another run is begun where this many times the largest run so far still fits into memory."""

Message = dict[str, Any]
"""What a run says: {"round", "peak"}, {"row"}, {"error"}; or {"lost": exit code} where its process ended unheard."""


@dataclass
class _Running:
    planned: PlannedRun
    process: BaseProcess
    pipe: connection.Connection
    peak: int = 0  # bytes; 0 until its first round is over


def run_several(
    planned: Sequence[PlannedRun],
    place: Place,
    at_once: int,
    available: Callable[[], int] = lambda: int(psutil.virtual_memory().available),
) -> Generator[tuple[PlannedRun, Message], None, None]:
    """Does the runs in order and yields what they say as they say it.

    The first starts alone. Another starts once every one under way has finished its first round, by when it holds what
    it needs, and ROOM times the largest is available. Ended early, by whatever, it ends what it has started.

    Args:
        planned: The runs.
        place: Where they are done and what they leave.
        at_once: How many runs go on at a time at most.
        available: The memory that is free now, in bytes.

    Yields:
        A run, and a message as `worker.work` sends it, or {"lost": exit code} for a process that ended unheard.
    """
    # One thread of BLAS a run; it reads this when it is loaded, in the processes to come.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    waiting, running = list(planned), list[_Running]()
    largest = 0
    try:
        while waiting or running:
            while waiting and len(running) < at_once and _fits(running, largest, available):
                running.append(_start(waiting.pop(0), place))
            ready = connection.wait([each.pipe for each in running], timeout=5)
            for one in [each for each in running if each.pipe in ready]:
                try:
                    message: Message = one.pipe.recv()
                except EOFError:
                    one.process.join()
                    message = {"lost": one.process.exitcode}
                one.peak = message.get("peak", one.peak)
                largest = max(largest, one.peak)
                if "round" not in message:
                    running.remove(one)
                    one.process.join()
                    one.pipe.close()
                yield one.planned, message
    finally:
        for one in running:
            one.process.terminate()
        for one in running:
            one.process.join()


def _fits(running: Sequence[_Running], largest: int, available: Callable[[], int]) -> bool:
    if not running:
        return True
    return all(one.peak for one in running) and available() > ROOM * largest


def _start(planned: PlannedRun, place: Place) -> _Running:
    """A process forked from one that has imported what a run needs and nothing else: no thread, no display of ours."""
    context = get_context("forkserver")
    context.set_forkserver_preload(
        ["fedlaw_flwr.apps.byzantine.batched", "fedlaw_flwr.simulation.in_process", "fedlaw_flwr.studies.worker"]
    )
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(planned, place, theirs), daemon=True)
    process.start()
    theirs.close()  # else its end would never be seen
    return _Running(planned, process, ours)
