"""The compose file of a federation: the server's containers, three for each silo, and which of them can meet."""

import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from fedlaw_flwr.apps.shipped import server as shipped_server
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.deploy import proxy
from fedlaw_flwr.deploy.federation import Federation, Silo
from fedlaw_flwr.silo.config import POLICY
from fedlaw_flwr.silo.guard import PACKAGES

Service = dict[str, Any]

USER = 49999
"""Who the containers run as where FEDLAW_USER (uid:gid) names nobody else: the number Flower's own images use."""

METRICS_PORT = 9100
"""Where the metrics' container is reached on the server's machine, unless FEDLAW_METRICS_PORT says otherwise."""

_NODE_PORT = 9094
_INITIAL = "/etc/fedlaw/initial.safetensors"
_HEAD = """\
# A federation as containers, for docker-compose 1.29 and `docker compose` v2. Made by `fedlaw deploy render`: change
# federation.yaml instead. No container runs as root, writes into its image or holds a key that is not its own.
"""


def compose(
    federation: Federation, silos: Sequence[str] | None = None, server: bool = True, folder: str = "."
) -> dict[str, Any]:
    """The compose file as a document.

    Args:
        federation: The federation.
        silos: Names of the silos in the file; all by default.
        server: Whether the server is in the file. Without it, the file is for one institution's own machine.
        folder: Where the federation's files lie, seen from the compose file. An institution's files (ca.crt, node.key,
            silo.yaml, policy.yaml) lie beside its own compose file.

    Returns:
        The services, networks and volumes.

    Raises:
        InputError: If the federation has no such silo, or a silo cannot be run in containers as it is written.
    """
    known = {silo.name: silo for silo in federation.silos}
    names = list(known) if silos is None else list(silos)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"silo {unknown[0]!r}: the federation has {', '.join(known)}")
    chosen = [known[name] for name in names]
    services = _server(federation, names, folder) if server else {}
    networks = {"control": {"internal": True}, "public": {}, "metrics": {}} if server else {}
    volumes = ["state", "runs", "secret"] if server else []
    for silo in chosen:
        place = f"{folder}/silos/{silo.name}" if server else folder
        services |= _silo(federation, silo, place, folder, server)
        # Nothing leaves the inner network; on one machine with the server, the outer one ends at the proxy.
        networks |= {f"{silo.name}-inside": {"internal": True}, f"{silo.name}-outside": {"internal": server}}
        volumes += [f"{silo.name}-{what}" for what in ("socket", "secret", "state")]
    return {"services": services, "networks": networks, "volumes": {name: {} for name in volumes}}


def published_on(federation: Federation) -> str:
    """The address on which the server's machine publishes the server.

    Returns:
        "" for every address of the machine; 127.0.0.1 for a federation called localhost, which is nobody else's.
    """
    return "127.0.0.1" if federation.superlink.host in ("localhost", "127.0.0.1") else ""


def as_yaml(document: dict[str, Any]) -> str:
    """The file's text, the same for the same federation; to be read by people, so without anchors."""
    text: str = yaml.dump(document, Dumper=_Plain, sort_keys=False, width=110)
    return _HEAD + text


def nginx_conf(federation: Federation) -> str:
    """The configuration of the server's proxy."""
    return proxy.nginx_conf(federation.name)


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _server(federation: Federation, silos: Sequence[str], folder: str) -> dict[str, Service]:
    """SuperLink, ServerApp, proxy and metrics. Only the proxy is reached from outside, only it meets the silos."""
    image, port = federation.images.server, federation.superlink.port
    outside = f"{address}:" if (address := published_on(federation)) else ""
    certificates = [_file(folder, name) for name in ("ca.crt", "server.crt", "server.key")]
    link = f"https://superlink:{proxy.LINK_PORT}/health"
    initial = str(federation.run.get("initial-model", ""))
    model = {"environment": {shipped_server.INITIAL_MODEL: _INITIAL}} if initial else {}
    return {
        "superlink": {
            **_contained(image, "FEDLAW_SERVER", "2g"),
            "command": [
                *("with-secret", "make", "flower-superlink", "--host", "0.0.0.0", "--port", str(proxy.LINK_PORT)),
                *("--ssl-ca-certfile", "/etc/fedlaw/ca.crt", "--ssl-certfile", "/etc/fedlaw/server.crt"),
                *("--ssl-keyfile", "/etc/fedlaw/server.key", "--enable-supernode-auth", "--isolation", "process"),
                *("--disable-runtime-dependency-installation", "--database", "/var/lib/fedlaw/superlink.db"),
            ],
            "volumes": [*certificates, _volume("state", "/var/lib/fedlaw"), _volume("secret", "/run/secret")],
            "networks": ["control"],
            # Others wait for it, so it is looked at often.
            "healthcheck": {**_healthy(link, "/etc/fedlaw/ca.crt"), "interval": "5s", "retries": 20},
        },
        "server-app": {
            **_contained(image, "FEDLAW_SERVER", "4g"),
            **model,
            "command": [
                *("with-secret", "await", "flower-superexec", "--runtime-api-address", f"superlink:{proxy.LINK_PORT}"),
                *("--root-certificates", "/etc/fedlaw/ca.crt"),
            ],
            "volumes": [
                _file(folder, "ca.crt"),
                _bind(f"{folder}/app", "/app"),
                *([_bind(initial, _INITIAL)] if initial else []),
                _volume("runs", "/runs"),
                _volume("secret", "/run/secret", read_only=True),
            ],
            "networks": ["control"],
            "depends_on": {"superlink": {"condition": "service_healthy"}},
            "healthcheck": _healthy(link, "/etc/fedlaw/ca.crt"),
        },
        "proxy": {
            **_contained(f"{image}-proxy", "FEDLAW_PROXY", "512m"),
            "ports": [f"{outside}{port}:{proxy.PROXY_PORT}"],
            "volumes": [*certificates, _file(folder, "nginx.conf")],
            "networks": ["control", "public", *(f"{silo}-outside" for silo in silos)],
            "depends_on": {"superlink": {"condition": "service_healthy"}},
            # What is not a silo's business is answered 403: an answer all the same.
            "healthcheck": _healthy(f"https://localhost:{proxy.PROXY_PORT}/", "/etc/fedlaw/ca.crt", "403"),
        },
        "metrics": {
            **_contained(image, "FEDLAW_METRICS", "512m"),
            "command": ["fedlaw", "metrics", "/runs", "--host", "0.0.0.0", "--port", str(METRICS_PORT)],
            "ports": [f"127.0.0.1:${{FEDLAW_METRICS_PORT:-{METRICS_PORT}}}:{METRICS_PORT}"],
            "volumes": [_volume("runs", "/runs", read_only=True)],
            "networks": ["metrics"],
            "healthcheck": _healthy(f"http://127.0.0.1:{METRICS_PORT}/metrics"),
        },
    }


def _silo(federation: Federation, silo: Silo, place: str, folder: str, server: bool) -> dict[str, Service]:
    """The key with the way out, the shipped code with neither key nor data, the data with no network at all."""
    if silo.name == "server":
        raise InputError("silo 'server': server-app is a container of the server's; give the silo another name")
    if silo.data_path and not PurePosixPath(silo.data_path).is_absolute():
        raise InputError(
            f"{silo.name}: data-path={silo.data_path!r}: an absolute path is needed, to be mounted as it is"
        )
    image = federation.images.silo + ("-drill" if silo.attack else "")
    contained = {**_contained(image, "", silo.memory), "cpus": silo.cpus}
    node, inside = f"{silo.name}-node", [f"{silo.name}-inside"]
    host, port = ("proxy", proxy.PROXY_PORT) if server else (federation.superlink.host, federation.superlink.port)
    data = [_bind(silo.data_path, silo.data_path)] if silo.data_path else []
    socket = f"{silo.name}-socket"
    return {
        node: {
            **contained,
            "command": [
                *(
                    "with-secret",
                    "make",
                    "flower-supernode",
                    "--superlink",
                    f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
                ),
                *("--root-certificates", "/etc/fedlaw/ca.crt", "--auth-supernode-private-key", "/etc/fedlaw/node.key"),
                *("--isolation", "process", "--host", "0.0.0.0", "--port", str(_NODE_PORT)),
            ],
            "volumes": [
                _file(folder, "ca.crt"),
                _file(place, "node.key"),
                _volume(f"{silo.name}-secret", "/run/secret"),
            ],
            "networks": [*inside, f"{silo.name}-outside"],
            "healthcheck": _healthy(f"http://127.0.0.1:{_NODE_PORT}/health"),
        },
        f"{silo.name}-app": {
            **contained,
            "command": [
                *("with-secret", "await", "flower-superexec", "--runtime-api-address", f"{node}:{_NODE_PORT}"),
                "--insecure",  # plain HTTP over a network of these two containers, who prove themselves by the secret
            ],
            # Packages this silo's operator allows beside the image's own; the guard stands first in the image's PATH.
            "environment": {PACKAGES: f"${{{PACKAGES}:-}}"},
            "volumes": [
                _volume(f"{silo.name}-secret", "/run/secret", read_only=True),
                _volume(socket, "/run/fedlaw", read_only=True),
            ],
            "networks": inside,
            "healthcheck": _healthy(f"http://{node}:{_NODE_PORT}/health"),
        },
        f"{silo.name}-data": {
            **contained,
            "command": ["fedlaw", "silo", "/etc/fedlaw/silo.yaml"],
            "volumes": [
                _file(place, "silo.yaml"),
                _file(place, POLICY),
                *data,
                _volume(f"{silo.name}-state", "/var/lib/fedlaw"),
                _volume(socket, "/run/fedlaw"),
            ],
            "network_mode": "none",
            # Listens once client and data are loaded.
            "healthcheck": _health(["CMD", "grep", "-q", "/run/fedlaw/silo.sock", "/proc/net/unix"]),
        },
    }


def _contained(image: str, variable: str, memory: str) -> Service:
    """What every container is held to; variables of the environment change a server container's memory and cores."""
    return {
        "image": image,
        "user": f"${{FEDLAW_USER:-{USER}:{USER}}}",
        "read_only": True,
        "tmpfs": ["/tmp:size=512m,mode=1777"],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "init": True,
        "pids_limit": 512,
        "mem_limit": f"${{{variable}_MEMORY:-{memory}}}" if variable else memory,
        "cpus": f"${{{variable}_CPUS:-1.0}}" if variable else 1.0,
        "restart": "unless-stopped",
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}},
    }


def _file(folder: str, name: str) -> Service:
    """A file of the federation's, where every container looks for it."""
    return _bind(f"{folder}/{name}", f"/etc/fedlaw/{name}")


def _bind(source: str, target: str) -> Service:
    """Something of this machine's, which a container may read. Compose reads `$` as the start of a variable."""
    source, target = source.replace("$", "$$"), target.replace("$", "$$")
    return {"type": "bind", "source": source, "target": target, "read_only": True}


def _volume(name: str, target: str, read_only: bool = False) -> Service:
    """A volume of the engine's."""
    return {"type": "volume", "source": name, "target": target, **({"read_only": True} if read_only else {})}


def _healthy(*arguments: str) -> Service:
    return _health(["CMD", "python", "/opt/fedlaw/bin/healthy.py", *arguments])


def _health(test: list[str]) -> Service:
    # Seldom, since each look is a process, three a silo, on a machine that trains.
    return {"test": test, "interval": "30s", "timeout": "10s", "retries": 3, "start_period": "60s"}


if __name__ == "__main__":  # FEDERATION.YAML FOLDER: prints the compose file that sees the federation's files there
    print(as_yaml(compose(Federation.read(Path(sys.argv[1])), folder=sys.argv[2])), end="")
