"""A federation in real containers: its run with a network cut in it, who can reach whom, what an image holds."""

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml
from real_federation import assert_agrees, events, rounds, simulated_twin

from fedlaw_flwr.deploy.containers import Containers, engine
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder
from fedlaw_flwr.deploy.preparation import init, render
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import Evaluated, Event, NoReply, RoundEnded, RunEnded, RunResumed

pytestmark = pytest.mark.slow

HOSTILE, CUT = "silo-2", "silo-1"
DEMO = {"num-rounds": 10, "weight-rounds": 5}  # deploy/federation.yaml's
_HELD = 3  # the round in which CUT is cut off; weights are learned in two, so it is one exchange
_REACH = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor

def reached(target):
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 3).close()
    except OSError:
        return False
    return True

with ThreadPoolExecutor(32) as pool:
    for target, found in zip(sys.argv[1:], pool.map(reached, sys.argv[1:])):
        if found:
            print(target)
"""
_ASK = """
import http.client, json, ssl, sys
trusted = ssl.create_default_context(cafile="/etc/fedlaw/ca.crt")
for method, path, length in json.loads(sys.argv[1]):
    connection = http.client.HTTPSConnection("proxy", 9443, context=trusted, timeout=20)
    connection.request(method, path, b"x" * length)
    print(connection.getresponse().status)
"""
_KILL = """
import os, signal, sys
for pid in os.listdir("/proc"):
    if pid.isdigit() and int(pid) not in (1, os.getpid()):
        if sys.argv[1].encode() in open(f"/proc/{pid}/cmdline", "rb").read():
            os.kill(int(pid), signal.SIGKILL)
"""
_WRITE = """
import sys
print(open(sys.argv[1]).read().strip())
try:
    open(sys.argv[1], "a")
except OSError as error:
    print(error.strerror)
"""
_USER = """
import os
print(os.getuid(), os.getgid())
try:
    open("/opt/written", "w")
except OSError as error:
    print(error.strerror)
"""
_CODE = """
import pathlib, sysconfig
place = pathlib.Path(sysconfig.get_path("purelib"))
files = [file for own in ("fedlaw_flwr/apps", "fedlaw_flwr/attacks") for file in (place / own).rglob("*.py")]
print(*sorted(str(file.relative_to(place)) for file in files))
unwanted = [file for word in ("byzantine", "inverse_gradient", "coalition") for file in place.rglob(f"{word}*")]
print(*unwanted, *place.glob("fedlaw_flwr/engines*"))
"""
_LIBRARIES = """
import importlib.util, shutil
print(*(name for name in ("ray", "matplotlib", "torchvision", "nvidia", "pip") if importlib.util.find_spec(name)))
print(shutil.which("uv"))
"""


@dataclass
class Running:
    """The federation under test, and its first run."""

    containers: Containers
    folder: Path
    events: list[Event] = field(default_factory=list)

    @cached_property
    def ids(self) -> dict[str, str]:
        """The container of every service."""
        mine = f"label=com.docker.compose.project={self.containers.project}"
        lines = docker("ps", "--filter", mine, "--format", '{{.Label "com.docker.compose.service"}} {{.ID}}')
        return dict(line.split() for line in lines.splitlines())

    def inspect(self, service: str) -> dict[str, Any]:
        return json.loads(docker("inspect", self.ids[service]))[0]

    def addresses(self, service: str) -> list[str]:
        return [network["IPAddress"] for network in self.inspect(service)["NetworkSettings"]["Networks"].values()]

    def python(self, service: str, script: str, *arguments: str) -> list[str]:
        """The lines a script prints in this service's container."""
        return docker("exec", "-i", self.ids[service], "python", "-", *arguments, said=script).splitlines()

    def rounds(self) -> list[RoundEnded]:
        return [event for event in self.events if isinstance(event, RoundEnded)]


def docker(*arguments: str, said: str = "") -> str:
    done = subprocess.run(["docker", *arguments], input=said, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments[:3])}: {done.stderr}"
    return done.stdout + (done.stderr if arguments[0] == "logs" else "")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The images built, five silos up, and one run done in which CUT has no network for one exchange."""
    try:
        engine()
    except ValueError as error:
        pytest.skip(f"container tests did not run: {error}")
    place = tmp_path_factory.mktemp("federation")
    data = place / "data"
    data.mkdir(mode=0o755)
    (data / "patients.csv").write_text("1,2,3\n")
    (data / "patients.csv").chmod(0o666)  # whoever the container runs as may write it, were it not for the mount
    (place / "federation.yaml").write_text(yaml.safe_dump(_federation(data)))
    federation = Federation.read(place / "federation.yaml")
    folder = FederationFolder.beside(place / "federation.yaml", federation.name)
    containers = Containers(federation, folder)
    containers.build()
    init(federation, folder, drill=True)
    render(federation, folder)
    under_test = Running(containers, folder.path)
    with pytest.MonkeyPatch.context() as changed, contextlib.ExitStack() as after:
        changed.setenv("FEDLAW_METRICS_PORT", str(free_port()))
        after.callback(containers.down, volumes=True)
        containers.up()
        node, outside = under_test.ids[f"{CUT}-node"], f"{containers.project}_{CUT}-outside"

        def on_event(event: Event) -> None:
            under_test.events.append(event)
            if isinstance(event, RoundEnded) and event.round == _HELD - 1:
                docker("network", "disconnect", outside, node)
            if isinstance(event, RoundEnded) and event.round == _HELD:
                docker("network", "connect", outside, node)

        under_test.folder = containers.run(on_event)
        yield under_test


def _federation(data: Path) -> dict[str, Any]:
    run = {"task": "digits", "partition": "dirichlet", "concentration": 1.0, "seed": 0, "max-byzantine": 1}
    return {
        "name": "proof",
        "superlink": {"host": "localhost", "port": free_port()},
        "run": {**run, "num-rounds": 8, "weight-rounds": 2},
        "silos": [
            {"name": "silo-0", "data-path": str(data)},
            {"name": "silo-1"},
            {"name": "silo-2", "attack": "inverse_gradient"},
            {"name": "silo-3"},
            {"name": "silo-4"},
        ],
    }


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


# -- the run ---------------------------------------------------------------------------------------------------


def test_the_run_completes_and_the_hostile_silo_has_no_weight(running: Running):
    assert running.events[-1] == RunEnded(status="completed")
    for event in running.rounds():
        assert event.weight_of[HOSTILE] == 0.0
    accuracies = [event.metrics["accuracy"] for event in running.events if isinstance(event, Evaluated)]
    assert accuracies[-1] > 0.85


def test_its_folder_is_on_this_machine_when_it_ends(running: Running):
    assert (running.folder / "model.safetensors").stat().st_size > 0
    assert len((running.folder / "events.jsonl").read_text().splitlines()) == len(running.events)


def test_a_silo_cut_off_for_one_exchange_is_silent_in_it_and_comes_back_by_itself(running: Running):
    silent = [(event.round, event.silo) for event in running.events if isinstance(event, NoReply)]
    assert silent == [(_HELD, CUT)]
    answered = [exchange.answered for event in running.rounds() for exchange in event.exchanges]
    assert answered[:5] == [5, 5, 5, 5, 4] and answered[-1] == 5
    assert running.inspect(f"{CUT}-node")["RestartCount"] == 0


# -- who can reach whom ----------------------------------------------------------------------------------------


def test_a_silo_reaches_the_proxy_and_itself_and_nothing_else(running: Running):
    others = [f"{address}:9094" for address in running.addresses("silo-1-node") + running.addresses("silo-1-app")]
    link = [f"{address}:8000" for address in running.addresses("superlink") + running.addresses("server-app")]
    named = ["superlink:8000", "server-app:8000", "silo-1-node:9094", "metrics:9100"]
    away = ["192.0.2.1:443", *(f"{address}:9100" for address in running.addresses("metrics"))]
    own = ["silo-0-node:9094", "proxy:9443"]
    assert running.python("silo-0-node", _REACH, *own, *named, *others, *link, *away) == own
    # And the shipped code not even the proxy.
    proxies = [f"{address}:9443" for address in running.addresses("proxy")]
    assert running.python("silo-0-app", _REACH, *own, *named, *others, *link, *away, *proxies) == own[:1]


def test_the_data_s_container_has_the_data_read_only_and_no_network(running: Running):
    data = running.containers.federation.silos[0].data_path
    assert running.python("silo-0-data", _WRITE, f"{data}/patients.csv") == ["1,2,3", "Read-only file system"]
    assert running.python("silo-0-data", "import os; print(*os.listdir('/sys/class/net'))") == ["lo"]
    assert running.inspect("silo-0-data")["HostConfig"]["NetworkMode"] == "none"


def test_the_shipped_code_s_container_sees_neither_key_nor_data_and_cannot_replace_the_socket(running: Running):
    script = "import os; print(os.path.exists('/etc/fedlaw')); print(os.listdir('/run/fedlaw'))\n"
    script += "try: os.unlink('/run/fedlaw/silo.sock')\nexcept OSError as error: print(error.strerror)"
    assert running.python("silo-0-app", script) == ["False", "['silo.sock']", "Read-only file system"]


def test_a_registered_silo_that_tries_flwr_run_is_refused(running: Running):
    node = running.ids["silo-0-node"]
    runs = running.containers.compose(
        "exec", "-T", "server-app", "flwr", "list", "federation", "--format", "json"
    ).stdout
    app = subprocess.run(
        ["tar", "-C", str(running.containers.folder.package), "-c", "."], capture_output=True, check=True
    )
    unpack = ["docker", "exec", "-i", node, "sh", "-c", "mkdir -p /tmp/own/app && tar -x -C /tmp/own/app"]
    subprocess.run(unpack, input=app.stdout, check=True)
    connection = '[superlink.x]\naddress = "proxy:9443"\nroot-certificates = "/etc/fedlaw/ca.crt"\n'
    docker("exec", "-i", node, "sh", "-c", "cat >/tmp/own/config.toml", said=connection)
    tried = subprocess.run(
        ["docker", "exec", "-e", "FLWR_HOME=/tmp/own", "-e", "COLUMNS=200", node, "flwr", "run", "/tmp/own/app", "x"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert tried.returncode != 0 and "403 Forbidden" in tried.stdout + tried.stderr
    after = running.containers.compose(
        "exec", "-T", "server-app", "flwr", "list", "federation", "--format", "json"
    ).stdout
    assert len(json.loads(after)["runs"]) == len(json.loads(runs)["runs"]) == 1


def test_no_way_of_writing_a_path_gets_past_the_proxy(running: Running):
    refused = [
        ("POST", "/v1/control/start-run"),
        ("POST", "/v1/control/list-runs"),
        ("POST", "/v1/runtime/acquire-task"),
        ("POST", "/v1/fleet/register-node"),
        ("POST", "/v1/fleet/unregister-node"),
        ("POST", "/v1/fleet/../control/list-runs"),
        ("POST", "/v1/fleet/%2e%2e/control/list-runs"),
        ("POST", "/v1/fleet/get-run/../../control/list-runs"),
        ("POST", "/v1/fleet/get-run%2f..%2f..%2fcontrol/list-runs"),
        ("GET", "/v1/fleet/get-run"),
        ("GET", "/health"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
    ]
    asked = [(*what, 0) for what in refused] + [("POST", "/v1/fleet/push-object", 17 * 2**20)]
    answers = running.python("silo-0-node", _ASK, json.dumps(asked))
    assert answers == ["403"] * len(refused) + ["413"]
    # What it is for: the SuperLink itself answers, and finds no signed Flower message in this.
    assert running.python("silo-0-node", _ASK, json.dumps([("POST", "/v1/fleet/pull-messages", 9)])) == ["415"]


# -- what a container is ---------------------------------------------------------------------------------------


def test_no_container_is_root_or_writes_to_its_image(running: Running):
    assert len(running.ids) == 4 + 3 * 5
    for service in running.ids:
        host = running.inspect(service)["HostConfig"]
        assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["CapAdd"], service
        assert host["Memory"] > 0 and host["NanoCpus"] > 0 and host["PidsLimit"] > 0, service
        assert host["RestartPolicy"]["Name"] == "unless-stopped", service
        user, *said = running.python(service, _USER)
        assert user == (f"{os.getuid()} {os.getgid()}" if os.getuid() else "49999 49999"), service
        assert said == ["Read-only file system"], service


def test_every_container_says_that_it_is_healthy(running: Running):
    assert {running.inspect(service)["State"]["Health"]["Status"] for service in running.ids} == {"healthy"}


def test_an_honest_silo_s_image_has_no_attack_and_a_drill_s_has(running: Running):
    honest, found = running.python("silo-0-data", _CODE)
    assert honest.split() == [
        *("fedlaw_flwr/apps/__init__.py", "fedlaw_flwr/apps/deployed.py", "fedlaw_flwr/apps/head_mod.py"),
        *("fedlaw_flwr/apps/honest.py", "fedlaw_flwr/apps/own.py", "fedlaw_flwr/apps/review_mod.py"),
        *("fedlaw_flwr/apps/shipped/__init__.py", "fedlaw_flwr/apps/shipped/client.py"),
        *("fedlaw_flwr/apps/shipped/package.py", "fedlaw_flwr/apps/shipped/server.py", "fedlaw_flwr/apps/wire.py"),
        *("fedlaw_flwr/attacks/__init__.py", "fedlaw_flwr/attacks/base.py", "fedlaw_flwr/attacks/options.py"),
        "fedlaw_flwr/attacks/plan.py",
    ]
    assert found == ""
    drill, _ = running.python(f"{HOSTILE}-data", _CODE)
    assert {"fedlaw_flwr/apps/byzantine/mod.py", "fedlaw_flwr/attacks/inverse_gradient.py"} < set(drill.split())


def test_a_silo_s_image_has_no_ray_no_plotting_and_nothing_that_installs(running: Running):
    assert running.python("silo-0-data", _LIBRARIES) == ["", "None"]


def test_no_image_holds_a_key_or_anything_of_a_federation(running: Running):
    images = running.containers.federation.images
    kinds = ["*.key", "*.pub", "federation.yaml", "silo.yaml", "nginx.conf", "events.jsonl"]
    names = " -o ".join(f"-name '{kind}'" for kind in kinds)
    for image in (images.server, f"{images.server}-proxy", images.silo, f"{images.silo}-drill"):
        script = rf"find / -xdev \( {names} \) -not -path '/proc/*' -not -path '/etc/nginx/*' 2>/dev/null || true"
        assert docker("run", "--rm", "--network", "none", image, "sh", "-c", script) == "", image


# -- a run that nothing disturbs -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(running: Running) -> Path:
    """The folder of a second run on the same containers, of the demonstration's length."""
    return running.containers.run(lambda event: None, DEMO)


def test_it_equals_the_simulation_of_the_same_seed(running: Running, undisturbed: Path, tmp_path: Path):
    twin = simulated_twin(running.containers.federation, tmp_path / "simulated", DEMO)
    assert len(rounds(undisturbed)) == 10
    assert_agrees(undisturbed, twin)
    assert not Run.read(undisturbed).missing
    assert rounds(undisturbed)[-1].weight_of[HOSTILE] == 0.0


# -- a node that is killed -------------------------------------------------------------------------------------


def test_a_killed_supernode_is_let_back_in_by_the_restart_policy(running: Running):
    node = running.ids["silo-3-node"]
    running.python("silo-3-node", _KILL, "flower-supernode")
    deadline = time.monotonic() + 180
    while docker("logs", node).count("SuperNode ID") < 2 and time.monotonic() < deadline:
        time.sleep(2)
    # It comes back too early at first, and is refused: the SuperLink must have noticed that it had gone.
    assert docker("logs", node).count("Exit Code: 305") >= 1
    assert running.inspect("silo-3-node")["RestartCount"] >= 2
    assert running.containers.control().silos()["silo-3"] == "online"


# -- a server that is killed -----------------------------------------------------------------------------------

SHORT = {"num-rounds": 2, "weight-rounds": 1}  # three exchanges; the SuperLink is killed after the first two
where_asked_for = pytest.mark.skipif(
    "FEDLAW_CONTAINER_KILLS" not in os.environ, reason="three minutes: make test-kills"
)


def started_at(running: Running, service: str) -> str:
    return str(running.inspect(service)["State"]["StartedAt"])


def assert_completed(folder: Path) -> None:
    """Both rounds are done and no reply was lost, by the server that began the run."""
    assert [(event.round, event.skipped) for event in rounds(folder)] == [(1, False), (2, False)]
    assert Run.read(folder).end.status == "completed" and not Run.read(folder).missing
    assert not events(folder, RunResumed)


@where_asked_for
def test_a_superlink_that_dies_in_mid_run_is_started_anew_by_the_restart_policy_and_the_run_goes_on(running: Running):
    before, count = started_at(running, "superlink"), running.inspect("superlink")["RestartCount"]
    killed: list[int] = []

    def kill_after_round_1(event: Event) -> None:
        if isinstance(event, RoundEnded) and not killed:
            command = ["docker", "exec", "-i", running.ids["superlink"], "python", "-", "flower-superlink"]
            # The container ends with its program, and so may this look into it: its exit code says nothing.
            killed.append(subprocess.run(command, input=_KILL, text=True, check=False).returncode)

    folder = running.containers.run(kill_after_round_1, SHORT)
    assert killed and running.inspect("superlink")["RestartCount"] == count + 1
    assert started_at(running, "superlink") != before
    assert_completed(folder)


@where_asked_for
def test_a_superlink_killed_by_docker_stays_down_until_up_is_given_again_and_then_the_run_goes_on(running: Running):
    """Docker takes `docker kill` for a person's wish, which no restart policy overrules."""
    killed: list[str] = []

    def kill_after_round_1(event: Event) -> None:
        if isinstance(event, RoundEnded) and not killed:
            killed.append(docker("kill", running.ids["superlink"]))
            time.sleep(3)
            assert not running.inspect("superlink")["State"]["Running"]
            running.containers.up()

    folder = running.containers.run(kill_after_round_1, SHORT)
    assert killed and running.inspect("superlink")["State"]["Running"]
    assert_completed(folder)
