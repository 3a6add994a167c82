"""A package the operator submits that reads the silos' data: no silo runs it, and the proper run goes on."""

import json
import time
from pathlib import Path

import pytest
from real_federation import free_port, local_federation

from fedlaw_flwr.events.record import Run
from fedlaw_flwr.silo.packages import digest_of, own_digest

pytestmark = pytest.mark.slow

SECRET = "patient-4711-has-a-fever"
SILOS = ("silo-0", "silo-1", "silo-2", "silo-3")

FEDERATION = """\
name: test
superlink:
  host: 127.0.0.1
  port: {port}
run:
  task: digits
  partition: dirichlet
  concentration: 1.0
  num-rounds: 1
  weight-rounds: 1
  max-byzantine: 1
  timeout: 120.0
silos:
"""
PYPROJECT = """\
[project]
name = "statistics"
version = "1.0.0"
dependencies = []
[tool.flwr.app]
publisher = "operator"
fab-include = ["harmless/*.py"]
[tool.flwr.app.components]
serverapp = "harmless.server:app"
clientapp = "harmless.client:app"
[tool.flwr.app.config]
"""
CLIENT = """\
from pathlib import Path

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

Path({canary!r}).mkdir(exist_ok=True)
app = ClientApp()


@app.train()
def train(message, context):
    stolen = Path({data!r}).read_text()
    (Path({canary!r}) / str(context.node_id)).write_text(stolen)
    return Message(RecordDict({{"metrics": ConfigRecord({{"stolen": stolen}})}}), reply_to=message)
"""
SERVER = """\
import json
import os
from pathlib import Path

from flwr.app import Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()


@app.main()
def main(grid, context):
    asks = [Message(RecordDict(), node, "train") for node in grid.get_node_ids()]
    told = []
    for reply in grid.send_and_receive(asks, timeout=120):
        told.append({"error": reply.error.reason} if reply.has_error() else {"content": str(reply.content)})
    (Path(os.environ["FEDLAW_RUNS"]) / "told.json").write_text(json.dumps(told))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The data of every silo: a folder that each silo's own configuration names."""
    place = tmp_path_factory.mktemp("data")
    (place / "patients.csv").write_text(SECRET)
    return place


@pytest.fixture(scope="module")
def up(tmp_path_factory, data):
    """Four silos online."""
    place = tmp_path_factory.mktemp("federation")
    silos = "".join(f"  - name: {name}\n    data-path: {data}\n" for name in SILOS)
    with local_federation(place, FEDERATION.format(port=free_port()) + silos) as processes:
        processes.runs.mkdir(exist_ok=True)
        yield processes


def test_a_hostile_package_gets_nothing_and_the_proper_run_goes_on(up, data, tmp_path):
    package, canary = tmp_path / "statistics", tmp_path / "canary"
    (package / "harmless").mkdir(parents=True)
    (package / "pyproject.toml").write_text(PYPROJECT)
    (package / "harmless" / "__init__.py").write_text("")
    (package / "harmless" / "server.py").write_text(SERVER)
    client = CLIENT.format(canary=str(canary), data=str(data / "patients.csv"))
    (package / "harmless" / "client.py").write_text(client)
    # It would work: what it does where nobody looks at packages.
    exec(compile(client, "client.py", "exec"), {})
    assert canary.is_dir() and not list(canary.iterdir())
    canary.rmdir()

    control = up.control()
    number = control.submit(str(package))
    deadline = time.monotonic() + 180
    while not control.status(number).startswith("finished") and time.monotonic() < deadline:
        time.sleep(2)
    assert control.status(number) == "finished:completed"

    told = json.loads((up.runs / "told.json").read_text())
    sentence = f"this silo does not run package {digest_of(package)[:12]}…; it allows {own_digest()[:12]}…"
    assert len(told) == len(SILOS) and all(sentence in one["error"] for one in told), told
    assert not canary.exists()
    written = [path for path in up.folder.path.rglob("*") if path.is_file()]
    assert len(written) > 50 and not [path for path in written if SECRET.encode() in path.read_bytes()]
    for name in SILOS:
        assert not list((up.path / "homes" / f"{name}-app").rglob("harmless"))  # nothing was unpacked

    folder = up.run(lambda event: None)
    (first,) = Run.read(folder).rounds
    assert sorted(first.silos) == sorted(SILOS)
    assert [exchange.answered for exchange in first.exchanges] == [4, 4]
