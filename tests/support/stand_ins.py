"""A local federation whose processes are scripts: a test says what each of a silo's processes and the server does."""

import sys
from collections.abc import Callable
from pathlib import Path

from fake_flwr import FLWR

from fedlaw_flwr.deploy.control import Control
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder
from fedlaw_flwr.deploy.local import LocalFederation
from fedlaw_flwr.deploy.preparation import init, render

TEXT = (
    "name: clinics\nsuperlink: {{host: localhost, port: {port}}}\nrun: {{max-byzantine: 0}}\n"
    "silos: [{{name: aachen}}, {{name: bonn}}]\n"
)
SLEEPS = "import time; time.sleep(300)"
NODE = "import time; print('SuperNode ID: 7', flush=True); time.sleep(300)"
LISTENS = """
import socket, sys, time
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("INFO clinic answers at", sys.argv[1], flush=True)
time.sleep(300)
"""


def stand_in_federation(place: Path, monkeypatch, port: int, scripts: dict[str, str]) -> LocalFederation:
    """A drill federation of aachen and bonn in `place`, whose processes run these scripts (by process name).

    A process that is not named sleeps, a node says that it was let in, a silo's own process listens at once. Silos that
    are registered are online. A script's first argument is the path of its silo's socket.
    """
    file = place / "federation.yaml"
    file.write_text(TEXT.format(port=port))
    federation = Federation.read(file)
    folder = FederationFolder.beside(file, "clinics")
    init(federation, folder, drill=True)
    render(federation, folder)
    (place / "flwr.py").write_text(FLWR.replace('= "registered"', '= "online"'))
    usual: Callable[[str], str] = lambda name: (  # noqa: E731
        NODE if name.endswith("-node") else LISTENS if name.endswith("-data") else SLEEPS
    )

    def command(self: LocalFederation, name: str) -> list[str]:
        path = self._sockets() / f"{name.rpartition('-')[0]}.sock"
        if name.endswith("-data"):
            path.unlink(missing_ok=True)
        return [sys.executable, "-c", scripts.get(name) or usual(name), str(path)]

    def control(self: LocalFederation) -> Control:
        flwr = [sys.executable, str(place / "flwr.py"), str(place / "nodes")]
        return Control(flwr, "here", place / "registered.json")

    monkeypatch.setattr(LocalFederation, "_command", command)
    monkeypatch.setattr(LocalFederation, "control", control)
    monkeypatch.setattr(LocalFederation, "_wait_until_up", lambda self: None)
    for wait in ("deploy.local._END", "simulation.processes._STOP"):
        monkeypatch.setattr(f"fedlaw_flwr.{wait}", 0.3)
    return LocalFederation(federation, folder)
