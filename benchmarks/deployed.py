"""Seconds of a deployed exchange: `python -m benchmarks.deployed` runs four silos' real processes on this machine.

Flower starts a process for every message; its imports are most of an exchange. The same silos are asked by a client
that imports NumPy alone, by ours with torch in that process, and by ours as it is shipped, which hands the message over
to the silo's own process, where torch and data are loaded already.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from fedlaw_flwr.apps.shipped.package import package_files
from fedlaw_flwr.deploy.control import follow
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder
from fedlaw_flwr.deploy.local import LocalFederation
from fedlaw_flwr.deploy.package import run_config
from fedlaw_flwr.deploy.preparation import init, render
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.silo.packages import digest_of
from fedlaw_flwr.simulation.processes import free_port

_FEDERATION = """\
name: speed
superlink: {{host: 127.0.0.1, port: {port}}}
run: {{task: digits, partition: iid, strategy: fedavg, max-byzantine: 1, num-rounds: {rounds}, timeout: 300.0}}
silos: [{{name: silo-0}}, {{name: silo-1}}, {{name: silo-2}}, {{name: silo-3}}]
"""
_NUMPY = '''\
"""A client that imports NumPy alone and replies a step towards zero."""

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    arrays = message.content["arrays"]
    stepped = ArrayRecord({key: Array(np.float32(0.99) * value.numpy()) for key, value in arrays.items()})
    metrics = MetricRecord({"loss": 1.0, "num-examples": 1})
    return Message(RecordDict({"arrays": stepped, "metrics": metrics}), reply_to=message)
'''
_TORCH = '''\
"""Our client without the silo's own process: torch, data and training in the process that Flower starts."""

from pathlib import Path

from flwr.app import Context
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    from fedlaw_flwr.apps import deployed

    silo = int(Path(context.node_config["socket"]).stem.rpartition("-")[2])
    own = {"partition-id": silo, "num-partitions": 4, "partition": "iid", "task": "digits", "seed": 0}
    return deployed.app(message, Context(context.run_id, context.node_id, own, context.state, context.run_config))
'''
CLIENTS = {"numpy": _NUMPY, "torch": _TORCH, "ours": ""}
_IMPORTS = {
    "flwr's own process": "flwr.supernode.cli.flwr_clientapp",
    "+ numpy": "flwr.supernode.cli.flwr_clientapp, numpy, flwr.app, flwr.clientapp",
    "+ our dispatcher": "flwr.supernode.cli.flwr_clientapp, fedlaw_flwr.silo.guard, fedlaw_flwr.apps.shipped.client",
    "+ our client with torch": "flwr.supernode.cli.flwr_clientapp, fedlaw_flwr.apps.deployed",
}


def exchanges(processes: LocalFederation, app: Path, rounds: int) -> list[float]:
    """The seconds of each exchange of one run of this app but the first, in which processes and caches warm up."""
    control = processes.control()
    number = control.submit(str(app), run_config(processes.federation, {"num-rounds": rounds}))
    run = Run.of(follow(processes.runs / f"run-{number}", lambda: control.status(number).startswith("finished")))
    found = [exchange for event in run.rounds for exchange in event.exchanges]
    if len(found) != rounds or any(exchange.answered != 4 for exchange in found):
        raise RuntimeError(f"run {number}: not all answered: {run.missing}")
    return [exchange.seconds for exchange in found[1:]]


def own_seconds(processes: LocalFederation) -> list[float]:
    """The seconds that each silo's own process took for each message, by its own log: training and all around it."""
    logs = [processes.log(f"{silo.name}-data") for silo in processes.federation.silos]
    return [float(taken) for log in logs for taken in re.findall(r"answered in ([0-9.]+) s", log.read_text())]


def import_seconds(modules: str, times: int = 5) -> float:
    """The least seconds a fresh interpreter takes to import these modules, an empty one's taken off."""

    def least(code: str) -> float:
        taken = []
        for _ in range(times):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            taken.append(time.perf_counter() - started)
        return min(taken)

    return least(f"import {modules}") - least("pass")


@contextmanager
def federation(folder: Path, rounds: int) -> Iterator[tuple[LocalFederation, dict[str, Path]]]:
    """Four silos up, and the app of each client, which the silos allow."""
    file = folder / "federation.yaml"
    file.write_text(_FEDERATION.format(port=free_port(), rounds=rounds))
    read = Federation.read(file)
    place = FederationFolder.beside(file, read.name)
    init(read, place, drill=True)
    render(read, place)
    apps = {name: _app(folder / name, source) if source else place.package for name, source in CLIENTS.items()}
    allowed = "".join(f"\n- {digest_of(app)}" for name, app in apps.items() if CLIENTS[name])
    for silo in read.silos:
        own = place.silo(silo.name) / "silo.yaml"
        own.write_text(own.read_text() + f"packages:{allowed}\n")
    processes = LocalFederation(read, place)
    try:
        processes.up()
        yield processes, apps
    finally:
        processes.down()


def _app(folder: Path, client: str) -> Path:
    """The package as rendered, with another client in it."""
    for name, content in package_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(client.encode() if path.name == "client.py" else content)
    return folder


def main() -> None:
    """Prints what a client process imports, then a row for each client, its ratio to the NumPy one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--turns", type=int, default=2, help="how often each client has its turn")
    chosen = parser.parse_args()
    for name, modules in _IMPORTS.items():
        print(f"import {name:26} {import_seconds(modules):6.2f} s", flush=True)
    taken: dict[str, list[float]] = {name: [] for name in CLIENTS}
    with tempfile.TemporaryDirectory(prefix="fedlaw-") as folder, federation(Path(folder), chosen.rounds) as (up, apps):
        for _ in range(chosen.turns):
            for name, app in apps.items():
                taken[name] += exchanges(up, app, chosen.rounds)
        own = own_seconds(up)
    rows: dict[str, Any] = {name: (min(found), median(found)) for name, found in taken.items()}
    for name, (least, middle) in rows.items():
        ratio = middle / rows["numpy"][1]
        print(f"{name:8} least {least:6.2f} s, median {middle:6.2f} s an exchange, {ratio:5.2f} x", flush=True)
    print(f"of ours, in the silo's own process: median {median(own):.2f} s, most {max(own):.2f} s, {len(own)} messages")


if __name__ == "__main__":
    main()
