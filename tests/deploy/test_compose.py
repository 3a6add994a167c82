"""The compose file, the proxy and the Dockerfiles: who meets whom, who sees which key, what an image holds."""

import ast
import re
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from flwr.superlink.routers.control.router import router as control_router
from flwr.superlink.routers.fleet.router import router as fleet_router

from fedlaw_flwr.deploy.compose import as_yaml, compose, nginx_conf
from fedlaw_flwr.deploy.federation import Federation

ROOT = Path(__file__).parents[2]
DEMO = Federation.read(ROOT / "deploy" / "federation.yaml")


def federation(**changes: Any) -> Federation:
    """Three silos, two with data of their own, one of them hostile in a drill."""
    given = {
        "name": "clinics",
        "superlink": {"host": "fl.example.org", "port": 8443},
        "run": {"task": "digits", "max-byzantine": 1},
        "silos": [
            {"name": "aachen", "data-path": "/srv/aachen", "memory": "3g", "cpus": 0.5},
            {"name": "bonn", "data-path": "/srv/bonn"},
            {"name": "cologne", "attack": "inverse_gradient"},
        ],
    }
    return Federation.model_validate({**given, **changes})


def sources(service: dict[str, Any]) -> set[str]:
    return {mount["source"] for mount in service["volumes"]}


def networks(service: dict[str, Any]) -> set[str]:
    return set(service.get("networks", []))


def test_every_container_is_held_to_the_same():
    for name, service in compose(federation())["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"] == "${FEDLAW_USER:-49999:49999}", name
        assert service["restart"] == "unless-stopped", name
        assert service["mem_limit"] and service["cpus"] and service["pids_limit"], name
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert not any("docker.sock" in source for source in sources(service)), name


def test_a_silo_s_memory_and_cores_are_its_containers():
    services = compose(federation())["services"]
    assert {
        (services[f"aachen-{part}"]["mem_limit"], services[f"aachen-{part}"]["cpus"]) for part in ("node", "data")
    } == {("3g", 0.5)}


def test_no_two_silos_share_a_network_or_a_volume():
    services = compose(federation())["services"]
    for one, other in combinations(["aachen", "bonn", "cologne"], 2):
        of = {
            silo: [service for name, service in services.items() if name.startswith(f"{silo}-")]
            for silo in (one, other)
        }
        for what in (networks, sources):
            held = {silo: set().union(*map(what, found)) - {"./ca.crt"} for silo, found in of.items()}
            assert not held[one] & held[other]


def test_only_the_proxy_meets_both_the_superlink_and_the_silos():
    document = compose(federation())
    meets_control = {name for name, service in document["services"].items() if "control" in networks(service)}
    assert meets_control == {"superlink", "server-app", "proxy"}
    assert networks(document["services"]["superlink"]) == networks(document["services"]["server-app"]) == {"control"}
    for silo in ("aachen", "bonn", "cologne"):
        outside = {name for name, service in document["services"].items() if f"{silo}-outside" in networks(service)}
        inside = {name for name, service in document["services"].items() if f"{silo}-inside" in networks(service)}
        assert outside == {"proxy", f"{silo}-node"}
        assert inside == {f"{silo}-node", f"{silo}-app"}
    assert {name for name, network in document["networks"].items() if not network} == {"public", "metrics"}


def test_only_the_proxy_is_published_and_the_metrics_to_this_machine_alone():
    services = compose(federation())["services"]
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == {
        "proxy": ["8443:9443"],
        "metrics": ["127.0.0.1:${FEDLAW_METRICS_PORT:-9100}:9100"],
    }


def test_a_federation_called_localhost_is_published_to_this_machine_alone():
    services = compose(federation(superlink={"host": "localhost", "port": 9443}))["services"]
    assert services["proxy"]["ports"] == ["127.0.0.1:9443:9443"]


def test_keys_and_data_are_mounted_where_they_belong_and_nothing_mounted_can_be_written():
    services = compose(federation())["services"]

    def holders(source: str) -> set[str]:
        return {name for name, service in services.items() if source in sources(service)}

    assert holders("./server.key") == {"superlink", "proxy"}
    assert holders("./ca.key") == set()
    for silo in ("aachen", "bonn", "cologne"):
        assert holders(f"./silos/{silo}/node.key") == {f"{silo}-node"}
    assert holders("/srv/aachen") == {"aachen-data"}
    binds = [mount for service in services.values() for mount in service["volumes"] if mount["type"] == "bind"]
    assert all(mount["read_only"] for mount in binds)


def test_the_data_has_no_network_and_the_shipped_code_neither_key_nor_data():
    services = compose(federation())["services"]
    assert services["aachen-data"]["network_mode"] == "none" and not networks(services["aachen-data"])
    assert sources(services["aachen-app"]) == {"aachen-socket", "aachen-secret"}
    assert all(mount["read_only"] for mount in services["aachen-app"]["volumes"])


def test_the_silo_s_policy_is_seen_by_its_data_s_container_alone():
    services = compose(federation())["services"]
    holders = {name for name, service in services.items() if any("policy.yaml" in one for one in sources(service))}
    assert holders == {"aachen-data", "bonn-data", "cologne-data"}


def test_packages_allowed_beside_the_image_s_own_are_told_to_the_shipped_code_s_container_alone():
    services = compose(federation())["services"]
    told = {name for name, service in services.items() if "FEDLAW_PACKAGES" in service.get("environment", {})}
    assert told == {"aachen-app", "bonn-app", "cologne-app"}


def test_in_a_silo_s_image_the_guard_is_found_before_flower_s_own_programs():
    text = dockerfile("silo")
    path = re.search(r"ENV PATH=(\S+)", text)
    assert path and path[1].split(":")[:2] == ["/opt/fedlaw/guard", "/opt/fedlaw/bin"]
    assert "RUN python -m fedlaw_flwr.silo.guard --install /opt/fedlaw/guard\nUSER" in text  # by root, for no one else


def test_only_a_drill_s_silo_runs_the_image_with_the_attacks():
    services = compose(federation())["services"]
    images = {name: service["image"] for name, service in services.items() if name.endswith("-data")}
    assert images == {"aachen-data": "fedlaw-silo", "bonn-data": "fedlaw-silo", "cologne-data": "fedlaw-silo-drill"}


def test_an_institution_s_own_file_has_its_containers_and_nothing_of_anyone_else():
    document = compose(federation(), ["bonn"], server=False)
    assert set(document["services"]) == {"bonn-node", "bonn-app", "bonn-data"}
    assert "fl.example.org:8443" in document["services"]["bonn-node"]["command"]
    assert document["networks"] == {"bonn-inside": {"internal": True}, "bonn-outside": {"internal": False}}
    binds = {
        mount["source"]
        for service in document["services"].values()
        for mount in service["volumes"]
        if mount["type"] == "bind"
    }
    assert binds == {"./ca.crt", "./node.key", "./silo.yaml", "./policy.yaml", "/srv/bonn"}
    assert not re.search("aachen|cologne|server.key|superlink:", as_yaml(document))


def test_a_server_may_stand_without_silos_of_its_own():
    document = compose(federation(), [])
    assert set(document["services"]) == {"superlink", "server-app", "proxy", "metrics"}
    assert set(document["volumes"]) == {"state", "runs", "secret"}


def test_what_cannot_be_a_container_is_refused_with_its_reason():
    with pytest.raises(ValueError, match="silo 'dresden': the federation has aachen, bonn, cologne"):
        compose(federation(), ["dresden"])
    with pytest.raises(ValueError, match="aachen: data-path='data/x': an absolute path is needed"):
        compose(federation(silos=[{"name": "aachen", "data-path": "data/x"}, {"name": "bonn"}]))
    with pytest.raises(ValueError, match="server-app is a container of the server's"):
        compose(federation(silos=[{"name": "server"}, {"name": "bonn"}]))


def test_a_dollar_in_a_path_is_not_a_variable_of_compose():
    silos = [{"name": "aachen", "data-path": "/srv/$HOME"}, {"name": "bonn"}]
    assert "/srv/$$HOME" in sources(compose(federation(silos=silos))["services"]["aachen-data"])


def test_an_ipv6_address_is_written_with_brackets():
    document = compose(federation(superlink={"host": "fd00::7"}), ["bonn"], server=False)
    assert "[fd00::7]:9443" in document["services"]["bonn-node"]["command"]


def test_the_text_is_the_document_and_the_same_every_time():
    text = as_yaml(compose(federation()))
    assert text == as_yaml(compose(federation())) and text.startswith("# A federation as containers")
    assert yaml.safe_load(text) == compose(federation())
    assert "&id" not in text


def test_the_demo_s_compose_file_is_in_step_with_its_federation():
    made = as_yaml(compose(DEMO, folder="../deploy/demo"))
    assert (ROOT / "docker" / "compose.yml").read_text() == made, "run `make docker/compose.yml`"


COMPOSE_FILES = {
    "server-and-silos": as_yaml(compose(federation())),
    "server-alone": as_yaml(compose(federation(), [])),
    "one-institution": as_yaml(compose(federation(), ["aachen"], server=False)),
    "docker/compose.yml": (ROOT / "docker" / "compose.yml").read_text(),
}


@pytest.mark.parametrize("file", COMPOSE_FILES)
@pytest.mark.parametrize("reader", ["docker-compose", "docker compose"])
def test_compose_1_29_and_2_read_every_kind_of_file(tmp_path, reader, file):
    command = reader.split()
    if not shutil.which(command[0]) or subprocess.run([*command, "version"], capture_output=True).returncode:
        pytest.skip(f"`{reader}` is not installed")
    (tmp_path / "compose.yml").write_text(COMPOSE_FILES[file])
    done = subprocess.run(
        [*command, "--file", str(tmp_path / "compose.yml"), "config"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    written, understood = yaml.safe_load(COMPOSE_FILES[file]), yaml.safe_load(done.stdout)
    for what in ("services", "networks", "volumes"):
        assert set(understood.get(what, {})) == set(written[what])
    for name, service in understood["services"].items():
        assert len(service["volumes"]) == len(written["services"][name]["volumes"]), name


def test_the_proxy_lets_through_what_a_supernode_calls_and_nothing_else_flower_serves():
    conf = nginx_conf(federation())
    (allowed,) = re.findall(r"location ~ (\S+) \{", conf)
    fleet = {route.path for route in fleet_router.routes}
    refused = {"/v1/fleet/register-node", "/v1/fleet/unregister-node"}
    assert {path for path in fleet if re.search(allowed, path)} == fleet - refused
    control = {route.path for route in control_router.routes}
    assert control and not any(re.search(allowed, path) for path in control)
    for path in ("/", "/health", "/docs", "/v1/runtime/acquire-task", "/v1/fleet/../control/x", "/v1/fleet/get-run/x"):
        assert not re.search(allowed, path), path
    assert re.search(r"location / \{\s+return 403;", conf)


def test_the_proxy_trusts_no_superlink_but_the_federation_s():
    conf = nginx_conf(federation())
    for line in (
        "proxy_ssl_verify on;",
        "proxy_ssl_trusted_certificate /etc/fedlaw/ca.crt;",
        "client_max_body_size 16m;",
    ):
        assert line in conf


# -- the images ------------------------------------------------------------------------------------------------


def dockerfile(name: str) -> str:
    return (ROOT / "docker" / f"Dockerfile.{name}").read_text()


def test_both_images_share_the_layers_of_their_libraries():
    shared = [
        re.search(r"FROM \$\{BASE\} AS libraries\n.*?(?=\nFROM )", dockerfile(name), re.S)
        for name in ("server", "silo")
    ]
    assert shared[0] and shared[1] and shared[0][0] == shared[1][0]


def kept_by_an_honest_silo() -> set[str]:
    """The files of the package that Dockerfile.silo leaves in an honest silo's image."""
    text = dockerfile("silo")
    removed = re.search(r"&& rm -r (fedlaw_flwr/apps/byzantine .*) \\", text)
    attacks = re.search(r"find fedlaw_flwr/attacks -type f (.*) -delete", text)
    assert removed and attacks
    gone, kept_attacks = removed[1].split(), set(re.findall(r"! -name (\S+)", attacks[1]))
    assert {"fedlaw_flwr/apps/byzantine", "fedlaw_flwr/engines"} < set(gone)
    kept = set()
    for file in (ROOT / "fedlaw_flwr").rglob("*.py"):
        path = file.relative_to(ROOT)
        if str(path) in gone or any(path.is_relative_to(place) for place in gone):
            continue
        if path.parent.name != "attacks" or path.name in kept_attacks:
            kept.add(str(path))
    assert "fedlaw_flwr/apps/deployed.py" in kept and "fedlaw_flwr/attacks/plan.py" in kept
    assert "fedlaw_flwr/attacks/lie.py" not in kept
    return kept


def test_what_an_honest_silo_keeps_imports_nothing_of_what_it_lacks():
    kept = kept_by_an_honest_silo()
    for path in kept:
        if path.startswith(("fedlaw_flwr/apps/", "fedlaw_flwr/attacks/", "fedlaw_flwr/silo/")):
            for imported in _imports(ROOT / path):
                place = imported.replace(".", "/")
                if (ROOT / f"{place}.py").is_file():
                    assert f"{place}.py" in kept or path == "fedlaw_flwr/apps/shipped/server.py", (
                        f"{path} imports {imported}"
                    )


def test_an_honest_silo_starts_with_the_files_it_keeps(tmp_path):
    for path in kept_by_an_honest_silo():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    program = (
        "import fedlaw_flwr.apps.deployed, fedlaw_flwr.cli.main, fedlaw_flwr.silo.guard; print(fedlaw_flwr.__file__)"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == str(tmp_path / "fedlaw_flwr" / "__init__.py")


def _imports(path: Path) -> set[str]:
    """The modules a file imports where it runs, those for the type checker alone left out."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def test_only_code_reaches_a_build():
    let_through = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert set(let_through) == {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "fedlaw_flwr",
        "docker",
    }
    assert "\n*\n" in (ROOT / ".dockerignore").read_text()


def test_no_image_runs_as_root():
    for name in ("server", "silo"):
        stages = re.split(r"^FROM ", dockerfile(name), flags=re.M)[1:]
        for stage in stages:
            if " AS libraries" not in stage and " AS code" not in stage and stage.startswith("${BASE}"):
                assert "USER 49999:49999" in stage
