"""What `fedlaw deploy containers` asks of docker-compose, for which folders and plain processes stand in here."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from functools import partial
from itertools import takewhile
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml
from fake_flwr import FLWR
from scripted_runs import AGREES, ALIKE, Scripted, but
from typer.testing import CliRunner

from fedlaw_flwr.cli.main import app
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder
from fedlaw_flwr.deploy.preparation import accept, init, join, render
from fedlaw_flwr.events.folder import RunFailed
from fedlaw_flwr.events.orders import Order, read_orders

# Volumes are folders of `world`, a container's paths are looked for there, and what is run in one is run here.
ENGINE = """
import json, pathlib, re, shutil, subprocess, sys
world = pathlib.Path(WORLD)
places = {"/var/lib/fedlaw": world / "volumes/fedlaw-clinics_state", "/runs": world / "volumes/fedlaw-clinics_runs"}
places["/tmp/"] = str(world / "tmp") + "/"

def here(text):
    return re.sub("/var/lib/fedlaw|/runs|/tmp/", lambda found: str(places[found[0]]), text)

def note(*what):
    with (world / "asked").open("a") as asked:
        asked.write(" ".join(what) + "\\n")

name, *words = pathlib.Path(sys.argv[0]).name, *sys.argv[1:]
if name == "docker":
    if words[0] == "version":
        print("27.0")
    elif words[0] == "build":
        note(*words)
    elif words[0] == "volume":
        sys.exit(not (world / "volumes" / words[2]).exists())
    elif words[0] == "inspect":
        told = world / "states" / words[-1]
        lines = told.read_text().splitlines() if told.exists() else ["running 0 healthy"]
        print(lines[0])
        if lines[1:]:  # at the next look it is as the next line says
            told.write_text("\\n".join(lines[1:]))
    elif words[0] == "cp":
        source = pathlib.Path(here(words[1].partition(":")[2]))
        (shutil.copytree if source.is_dir() else shutil.copy)(source, words[2])
    else:
        sys.exit(1)
    sys.exit()
file, (verb, *words) = words[1], words[4:]
for made in ("up", "run"):
    if verb == made:
        for place in places.values():
            pathlib.Path(place).mkdir(parents=True, exist_ok=True)
if verb in ("exec", "run"):
    service, *command = [word for word in words if word not in ("-T", "--rm", "--no-deps")]
    note(verb, service, *command[:4])
    if command[0] == "grep":
        sys.exit(not (world / "listens" / service).exists())
    if command[0] == "flwr":
        command = [sys.executable, FLWR, str(world / "volumes/fedlaw-clinics_state/nodes"), *command[1:]]
    elif command[0] == "python":
        command = [sys.executable, *map(here, command[1:])]
    else:
        command = [command[0], *map(here, command[1:])]
    sys.exit(subprocess.run(command).returncode)
note(verb, *words)
if verb == "logs" and (world / "logs" / words[-1]).exists():
    print((world / "logs" / words[-1]).read_text())
if verb == "ps":
    print(words[-1])
if verb == "up" and words == ["-d"]:
    store = world / "volumes/fedlaw-clinics_state/nodes"
    nodes = json.loads(store.read_text())
    started = "-node:" in pathlib.Path(file).read_text()
    store.write_text(json.dumps({i: "online" if started and s == "registered" else s for i, s in nodes.items()}))
if verb == "down" and "--volumes" in words:
    shutil.rmtree(world / "volumes")
"""
TEXT = """\
name: clinics
superlink: {host: localhost}
run: {max-byzantine: 0}
retention-days: 30
silos: [{name: aachen}, {name: bonn}]
"""
SERVER = ["server-app", "proxy", "metrics"]


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The engine's folder, `docker` and `docker-compose` of it first in PATH."""
    place = tmp_path / "world"
    (place / "tmp").mkdir(parents=True)
    (place / "bin").mkdir()
    (place / "flwr.py").write_text(FLWR)
    script = f"#!{sys.executable}\nWORLD, FLWR = {str(place)!r}, {str(place / 'flwr.py')!r}\n{ENGINE}"
    for name in ("docker", "docker-compose"):
        (place / "bin" / name).write_text(script)
        (place / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return place


@pytest.fixture
def file(tmp_path):
    (tmp_path / "federation.yaml").write_text(TEXT)
    return tmp_path / "federation.yaml"


@pytest.fixture
def federation(file):
    return Federation.read(file)


@pytest.fixture
def folder(file, federation):
    return FederationFolder.beside(file, federation.name)


def fedlaw(command: str, file: Path, *rest: str) -> str:
    result = CliRunner().invoke(app, ["deploy", *command.split(), str(file), *rest])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def asked(world: Path, verb: str) -> list[list[str]]:
    """The commands of this verb that were given to docker-compose, in order, without the verb."""
    lines = [line.split() for line in (world / "asked").read_text().splitlines()]
    return [words for first, *words in lines if first == verb]


def nodes(world: Path) -> dict[str, str]:
    return json.loads((world / "volumes" / "fedlaw-clinics_state" / "nodes").read_text())


def test_a_real_server_stands_alone_and_registers_each_key_once_it_is_accepted(
    world, file, federation, folder, tmp_path
):
    init(federation, folder)
    for name in ("aachen", "bonn"):
        join(name, tmp_path / name)
    accept(federation, folder, "aachen", tmp_path / "aachen" / "aachen.pub")
    render(federation, folder)
    told = fedlaw("containers up", file)
    assert asked(world, "up") == [["-d", *SERVER], ["-d"]]
    assert nodes(world) == {"100": "registered"}
    assert "0 of 2 silos are online" in told
    assert "aachen: registered" in told and "bonn: has sent no key that was accepted" in told
    # The public key went in as it is, and nothing of the silo's own came near.
    assert (world / "tmp" / "aachen.pub").read_text().strip() == folder.public_key("aachen").read_text().strip()
    assert folder.here(["aachen", "bonn"]) == []

    accept(federation, folder, "bonn", tmp_path / "bonn" / "bonn.pub")
    fedlaw("containers up", file)
    assert nodes(world) == {"100": "registered", "101": "registered"}
    status = fedlaw("containers status", file)
    assert [line.split() for line in status.splitlines()[1:]] == [["aachen", "registered"], ["bonn", "registered"]]


def test_in_a_drill_every_silo_is_started_data_first_and_nodes_once_they_are_registered(
    world, file, federation, folder
):
    init(federation, folder, drill=True)
    render(federation, folder)
    assert "2 of 2 silos are online" in fedlaw("containers up", file)
    assert asked(world, "up") == [["-d", *SERVER, "aachen-data", "bonn-data"], ["-d"]]
    lines = (world / "asked").read_text().splitlines()
    registered = [index for index, line in enumerate(lines) if "supernode register" in line]
    assert len(registered) == 2 and max(registered) < lines.index("up -d")


def test_images_are_built_with_the_flower_that_is_installed_here_unless_another_is_named(world, file):
    from fedlaw_flwr.core.flower import installed

    fedlaw("containers build", file, "TORCH_INDEX=https://wheels.example/cpu")
    built = asked(world, "build")
    assert [words[words.index("--target") + 1] for words in built] == ["silo", "server", "proxy"]  # no drill, no image
    here = [f"FLWR=flwr=={installed()}", "TORCH_INDEX=https://wheels.example/cpu"]
    assert all([words[i + 1] for i, word in enumerate(words) if word == "--build-arg"] == here for words in built)
    for words in built:  # Docker takes an argument that no line of the file names, and does nothing with it
        lines = (Path(__file__).parents[2] / words[words.index("--file") + 1]).read_text()
        assert re.search(r"^ARG FLWR=", lines, re.M) and '".[silo]" ${FLWR:+"$FLWR"}' in lines
    fedlaw("containers build", file, "FLWR=flwr==9.8.7")
    assert all("FLWR=flwr==9.8.7" in words and here[0] not in words for words in asked(world, "build")[3:])


@pytest.fixture
def drill(world, file, federation, folder, monkeypatch):
    """A drill whose containers are as these files say: how, whether its socket is there, and what is in its log."""
    init(federation, folder, drill=True)
    render(federation, folder)
    monkeypatch.setattr("fedlaw_flwr.deploy.containers._LOOK", 0.0)

    def write(kind: str, **contents: str) -> None:
        (world / kind).mkdir(exist_ok=True)
        for silo, content in contents.items():
            (world / kind / f"{silo}-data").write_text(content)

    return write


def test_a_silo_s_data_are_waited_for_by_the_look_of_its_own_health_check(world, file, drill):
    drill(
        "states",
        aachen="created 0\nrunning 0 starting\nrunning 0 starting\nrunning 0 healthy",
        bonn="running 3 unhealthy",
    )
    drill("listens", bonn="")  # it was started anew last night, and Docker has not looked again
    assert "2 of 2 silos are online" in fedlaw("containers up", file)
    looks = [words for words in asked(world, "exec") if words[1] == "grep"]
    assert looks == [
        ["bonn-data", "grep", "-q", "/run/fedlaw/silo.sock", "/proc/net/unix"],
        *[["aachen-data", "grep", "-q", "/run/fedlaw/silo.sock", "/proc/net/unix"]] * 2,
    ]


@pytest.mark.parametrize("state", ["restarting 4 starting", "running 1 starting", "exited 0", "dead 0 unhealthy"])
def test_a_silo_whose_own_container_ends_is_named_with_the_last_sentence_of_its_log(world, file, folder, drill, state):
    drill("states", bonn=state)
    said = "records.csv: row 300,001: age='n/a' is no number"
    drill("logs", bonn=f"bonn-data  | INFO reading\nbonn-data  | error: {said}")
    with pytest.raises(RunFailed) as caught:
        fedlaw("containers up", file)
    assert str(caught.value) == (
        f"bonn's own process ends before it can answer: {said}; "
        f"`docker compose logs bonn-data` in {folder.path} has the rest"
    )


def test_data_that_load_for_too_long_in_a_container_are_said(file, drill, monkeypatch):
    monkeypatch.setattr("fedlaw_flwr.deploy.containers._LOADING", 0.0)
    drill("states", aachen="running 0 starting")
    with pytest.raises(TimeoutError, match="still loading after 0 s: aachen; `docker compose logs aachen-data`"):
        fedlaw("containers up", file)


def test_a_replaced_key_is_taken_off_the_server_and_its_node_restarted_where_it_is_here(
    world, file, federation, folder, tmp_path
):
    init(federation, folder, drill=True)
    render(federation, folder)
    fedlaw("containers up", file)
    fedlaw("rotate", file, "aachen")
    assert len(folder.replaced("aachen")) == 2
    fedlaw("containers reregister", file, "aachen")
    assert nodes(world) == {"100": "unregistered", "101": "online", "102": "registered"}
    assert (world / "tmp" / "aachen.pub").read_text().strip() == folder.public_key("aachen").read_text().strip()
    assert asked(world, "restart") == [["aachen-node"]]
    assert folder.replaced("aachen") == []

    _, sent = join("bonn", tmp_path / "bonn")
    fedlaw("rotate", file, "bonn", str(sent))
    told = fedlaw("containers reregister", file, "bonn")
    assert asked(world, "restart") == [["aachen-node"]]  # bonn's key is elsewhere now, and so is its node
    assert "docker compose restart bonn-node" in told


def test_a_silo_that_left_is_not_registered_again(world, file, federation, folder, tmp_path):
    init(federation, folder)
    for name in ("aachen", "bonn"):
        _, sent = join(name, tmp_path / name)
        accept(federation, folder, name, sent)
    render(federation, folder)
    fedlaw("containers up", file)
    fedlaw("containers unregister", file, "bonn")
    told = fedlaw("containers up", file)
    assert nodes(world) == {"100": "registered", "101": "unregistered"}
    assert "bonn: has sent no key that was accepted" in told


def test_prune_removes_old_runs_of_the_server_and_their_copies(world, file, federation, folder):
    init(federation, folder)
    render(federation, folder)
    fedlaw("containers up", file)
    inside = world / "volumes" / "fedlaw-clinics_runs"
    for runs in (inside, folder.path / "runs"):
        for name, days in (("run-1", 40), ("run-2", 20)):
            (runs / name).mkdir(parents=True)
            (runs / name / "events.jsonl").write_text("{}\n")
            os.utime(runs / name / "events.jsonl", (time.time() - 86400 * days,) * 2)
    told = fedlaw("containers prune", file)
    assert [path.name for path in inside.iterdir()] == ["run-2"]
    assert [path.name for path in (folder.path / "runs").iterdir()] == ["run-2"]
    assert told.count("removed ") == 2 and "removed server-app:" in told


def test_a_server_s_volumes_come_back_from_its_backup(world, file, federation, folder, tmp_path):
    init(federation, folder, drill=True)
    render(federation, folder)
    fedlaw("containers up", file)
    volumes = world / "volumes"
    database, run = volumes / "fedlaw-clinics_state" / "superlink.db", volumes / "fedlaw-clinics_runs" / "run-1"
    run.mkdir()
    (run / "events.jsonl").write_text('{"kind": "end"}\n')
    out = tmp_path / "backup.tar.gz"
    with closing(sqlite3.connect(database)) as superlink:
        superlink.execute("PRAGMA journal_mode = WAL")
        superlink.execute("CREATE TABLE node (name TEXT)")
        superlink.execute("INSERT INTO node VALUES ('aachen')")
        superlink.commit()
        fedlaw("containers backup", file, str(out))
    registered = (folder.path / "containers" / "registered.json").read_text()
    assert not list(database.parent.glob("*.copy"))
    with pytest.raises(ValueError, match="the volume fedlaw-clinics_state is there"):
        fedlaw("containers restore", file, str(out))

    fedlaw("containers down", file, "--volumes")
    folder.path.rename(tmp_path / "lost")
    fedlaw("containers restore", file, str(out))
    with closing(sqlite3.connect(database)) as restored:
        assert restored.execute("SELECT name FROM node").fetchall() == [("aachen",)]
    assert (run / "events.jsonl").read_text() == '{"kind": "end"}\n'
    assert (folder.path / "containers" / "registered.json").read_text() == registered
    assert {f"{silo}-node" for silo in ("aachen", "bonn")} < set(
        yaml.safe_load((folder.path / "compose.yml").read_text())["services"]
    )


@pytest.fixture
def running(world, file, federation, folder):
    """The server with two runs on its volume, the second without an end yet; that one's script."""
    init(federation, folder)
    render(federation, folder)
    fedlaw("containers up", file)
    runs = world / "volumes" / "fedlaw-clinics_runs"
    Scripted(runs / "run-11").learned(AGREES, ALIKE).end()
    os.utime(runs / "run-11", (time.time() - 86400,) * 2)
    return Scripted(runs / "run-12", attackers=["silo 3"], max_byzantine=1)


def test_a_run_in_containers_is_watched_from_another_terminal_with_its_page_until_it_ends(running, file):
    command = [Path(sys.executable).parent / "fedlaw", "deploy", "containers", "watch", file, "--serve"]
    # Ctrl-C must reach it even where the tests were started in the background, which ignores it.
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    watched = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heeds)
    timer = threading.Timer(120, watched.kill)
    timer.start()
    try:
        told = iter(watched.stdout.readline, "")
        address = re.search(r"http://127\.0\.0\.1:\d+/", next(told))[0]
        running.learned(but(AGREES, silo_3=-0.5), ALIKE).frozen().end()
        lines = list(takewhile(lambda line: "until Ctrl-C" not in line, told))
        with urlopen(address, timeout=60) as page:
            text = page.read().decode()
        watched.send_signal(signal.SIGINT)
        assert watched.wait(60) == 0
    finally:
        timer.cancel()
        watched.kill()
    assert any("round 1: silo 3 gets no weight" in line for line in lines)
    # The settings came too: the page knows how many rounds there were to be, and that the run is over.
    assert "2 of 3 rounds" in text and 'http-equiv="refresh"' not in text


def test_a_run_in_containers_that_is_over_is_shown_by_its_number_and_one_that_is_none_is_refused(running, file):
    assert "attackers caught" in fedlaw("containers watch", file, "11")
    with pytest.raises(InputError, match="run '13': there are 12, 11"):
        fedlaw("containers watch", file, "run-13")


# -- what the operator tells a run -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["pardon", "remove"])
def test_an_order_is_left_in_the_folder_of_the_run_that_goes_on_at_the_server(running, world, file, command):
    assert fedlaw(f"containers {command}", file, "bonn").startswith("bonn is ")
    runs = world / "volumes" / "fedlaw-clinics_runs"
    assert read_orders(runs / "run-12", after=0) == [Order(command, "bonn")]
    assert not (runs / "run-11" / "orders.jsonl").exists()
    assert ["server-app", "python", "-m", "fedlaw_flwr.events.orders", "/runs"] in asked(world, "exec")


@pytest.mark.parametrize("command", ["pardon", "remove"])
def test_an_order_that_nobody_can_carry_out_is_refused_in_a_sentence(running, world, file, command):
    before = (world / "asked").read_text()
    with pytest.raises(InputError, match=r"silo 'berlin': federation\.yaml names aachen, bonn"):
        fedlaw(f"containers {command}", file, "berlin")
    assert (world / "asked").read_text() == before  # the server is not asked
    running.end()
    with pytest.raises(RunFailed, match="no run goes on here; a silo sits out for one run") as caught:
        fedlaw(f"containers {command}", file, "bonn")
    assert len(str(caught.value).splitlines()) == 1
    assert not list((world / "volumes").rglob("orders.jsonl"))
