"""The latest run's figures for Prometheus, read from the run folders: they outlive a server-app and a SuperLink."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.events.folder import EVENTS
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import Event, Joined, NoReply, Pardoned, Removed, ReplyRejected, RunResumed, SitsOut


class RunMetrics:
    """A Prometheus collector over a folder of run folders: at every scrape, the newest run as its events have it.

    All have the label `run`: fedlaw_round, fedlaw_rounds_skipped_total, fedlaw_seconds_total, fedlaw_round_seconds,
    fedlaw_bytes_total{direction}, fedlaw_weight{silo}, fedlaw_rejected_total{silo}, fedlaw_silent_total{silo},
    fedlaw_sitting_out{silo}, fedlaw_sat_out_total{silo}, fedlaw_pardoned_total{silo}, fedlaw_removed_total{silo},
    fedlaw_joined_total{silo}, fedlaw_resumed_total, fedlaw_accuracy, fedlaw_last_event_timestamp_seconds,
    fedlaw_run_state{state}.
    """

    def __init__(self, runs: Path) -> None:
        self._runs = runs

    def collect(self) -> Iterator["object"]:
        """Yields the metric families; none where there is no run yet."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        latest = self._latest()
        if latest is None:
            return
        read = Run.read(latest)
        run, rounds = latest.name, read.rounds
        yield _one(GaugeMetricFamily("fedlaw_round", "The last finished round", labels=["run"]), run, len(rounds))
        skipped = CounterMetricFamily("fedlaw_rounds_skipped", "Rounds that kept the model", labels=["run"])
        yield _one(skipped, run, sum(event.skipped for event in rounds))
        seconds = sum(event.seconds for event in rounds)
        yield _one(CounterMetricFamily("fedlaw_seconds", "Seconds in rounds", labels=["run"]), run, seconds)
        if rounds:
            last = GaugeMetricFamily("fedlaw_round_seconds", "Seconds the last round took", labels=["run"])
            yield _one(last, run, rounds[-1].seconds)
        sent = CounterMetricFamily("fedlaw_bytes", "Payload bytes", labels=["run", "direction"])
        sent.add_metric([run, "down"], sum(event.bytes_down for event in rounds))
        sent.add_metric([run, "up"], sum(event.bytes_up for event in rounds))
        yield sent
        weights = GaugeMetricFamily("fedlaw_weight", "The weight a silo last had", labels=["run", "silo"])
        for silo, weight in read.final_weights.items():
            weights.add_metric([run, silo], weight)
        yield weights
        yield from _of_silos(run, read.events)
        resumed = CounterMetricFamily(
            "fedlaw_resumed", "How often the run went on after its server ended", labels=["run"]
        )
        yield _one(resumed, run, sum(isinstance(event, RunResumed) for event in read.events))
        if read.accuracies:
            yield _one(
                GaugeMetricFamily(
                    "fedlaw_accuracy",
                    "On the server's test set; without one, the median of what silos report",
                    labels=["run"],
                ),
                run,
                read.accuracies[max(read.accuracies)],
            )
        when = GaugeMetricFamily(
            "fedlaw_last_event_timestamp_seconds", "When the run last said anything", labels=["run"]
        )
        yield _one(when, run, (latest / EVENTS).stat().st_mtime)
        now = read.end.status if read.end else "running"
        states = GaugeMetricFamily("fedlaw_run_state", "1 for the state the run is in", labels=["run", "state"])
        for state in ("running", "completed", "failed"):
            states.add_metric([run, state], float(state == now))
        yield states

    def _latest(self) -> Path | None:
        folders = [log.parent for log in self._runs.glob(f"*/{EVENTS}")]
        return max(folders, key=lambda folder: (folder / EVENTS).stat().st_ctime, default=None)


def serve(runs: Path, host: str, port: int) -> None:
    """Answers Prometheus at http://HOST:PORT/metrics until ended.

    Args:
        runs: The folder of run folders.
        host: The address to listen on.
        port: The port to listen on.

    Raises:
        InputError: If there is no such folder, or nothing can be served at that address.
    """
    from prometheus_client import start_http_server
    from prometheus_client.core import CollectorRegistry

    if not runs.is_dir():
        raise InputError(f"runs={str(runs)!r}: there is no such folder")
    registry = CollectorRegistry()
    registry.register(RunMetrics(runs))  # type: ignore[arg-type]
    try:
        start_http_server(port, host, registry)
    except (OSError, OverflowError) as error:
        where, reason = f"port={port}, host={host!r}", getattr(error, "strerror", None) or error
        raise InputError(f"{where}: no metrics can be served there ({reason}); name others") from None
    print(f"metrics of the latest run in {runs} at http://{host}:{port}/metrics", flush=True)
    while True:
        time.sleep(3600)


_Counted = ReplyRejected | NoReply | SitsOut | Pardoned | Removed | Joined
_COUNTED: tuple[tuple[type[_Counted], str, str], ...] = (
    (ReplyRejected, "fedlaw_rejected", "Rejected replies"),
    (NoReply, "fedlaw_silent", "Exchanges without an answer"),
    (SitsOut, "fedlaw_sat_out", "How often a silo was asked no more after too many strikes"),
    (Pardoned, "fedlaw_pardoned", "How often the operator let a silo back in"),
    (Removed, "fedlaw_removed", "Silos that the operator took out of the run"),
    (Joined, "fedlaw_joined", "Silos that came after the run had begun"),
)


def _of_silos(run: str, events: Sequence[Event]) -> Iterator["object"]:
    """What befell each silo."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    counts = Counter((type(event), event.silo) for event in events if isinstance(event, _Counted))
    for kind, name, what in _COUNTED:
        family = CounterMetricFamily(name, what, labels=["run", "silo"])
        for silo in sorted(silo for counted, silo in counts if counted is kind):
            family.add_metric([run, silo], counts[kind, silo])
        yield family
    out = GaugeMetricFamily("fedlaw_sitting_out", "1 for a silo that is asked no more, 0 again", labels=["run", "silo"])
    for silo, sits in _sitting_out(events).items():
        out.add_metric([run, silo], float(sits))
    yield out


def _sitting_out(events: Sequence[Event]) -> dict[str, bool]:
    """Every silo that ever sat out, and whether it does so now."""
    found: dict[str, bool] = {}
    for event in events:
        if isinstance(event, SitsOut):
            found[event.silo] = True
        elif isinstance(event, Pardoned | Removed) and event.silo in found:
            found[event.silo] = False
    return dict(sorted(found.items()))


def _one(family: "object", run: str, value: float) -> "object":
    family.add_metric([run], value)  # type: ignore[attr-defined]
    return family
