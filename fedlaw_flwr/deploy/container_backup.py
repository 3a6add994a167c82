"""The backup of a server in containers: its database and run folders lie in volumes, the rest in the folder."""

import subprocess
import tarfile
import tempfile
from pathlib import Path

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.deploy.backup import DATABASE, REGISTERED, RUNS, keys_and_certificates, read_backup, write_backup
from fedlaw_flwr.deploy.containers import Containers, engine
from fedlaw_flwr.deploy.preparation import render

_DATABASE, _COPY = f"/var/lib/fedlaw/{DATABASE}", f"/var/lib/fedlaw/{DATABASE}.copy"


def backup(containers: Containers, federation_yaml: Path, out: Path) -> int:
    """Writes an archive of the running server, as `write_backup` does; returns how many files it has."""
    with tempfile.TemporaryDirectory() as place:
        parts = _parts(containers, Path(place))
        containers.compose("exec", "-T", "superlink", "python", "-m", "fedlaw_flwr.deploy.backup", _DATABASE, _COPY)
        try:
            containers.copy_out("superlink", _COPY, parts[DATABASE])
        finally:
            containers.compose("exec", "-T", "superlink", "rm", "-f", _COPY)
        containers.copy_out("server-app", "/runs", parts[RUNS])
        return write_backup(out, federation_yaml, parts)


def restore(containers: Containers, archive: Path) -> int:
    """Puts an archive back: keys and registrations in the folder, database and run folders into new volumes.

    Args:
        containers: The federation's containers.
        archive: An archive that `backup` wrote.

    Returns:
        The number of files that were not there.

    Raises:
        InputError: If the server has a volume for its database already, or as `read_backup` raises it. Nothing is
            changed then.
        AlreadyThere: As `read_backup` raises it. Nothing is changed then.
    """
    engine()
    volume = f"{containers.project}_state"
    if subprocess.run(["docker", "volume", "inspect", volume], capture_output=True, check=False).returncode == 0:
        raise InputError(f"the volume {volume} is there: `fedlaw deploy containers down --volumes` removes it")
    with tempfile.TemporaryDirectory() as place:
        parts = _parts(containers, Path(place))
        count = len(read_backup(archive, parts))
        render(containers.federation, containers.folder)  # the compose file, which the next lines need
        runs = Path(place) / "runs.tar"
        with tarfile.open(runs, "w") as packed:
            for run in sorted(parts[RUNS].glob("*")):
                packed.add(run, run.name)
        containers.pour("superlink", f"cat >{_DATABASE}", parts[DATABASE])
        containers.pour("server-app", "tar -x -C /runs", runs)
    return count


def _parts(containers: Containers, place: Path) -> dict[str, Path]:
    """A backup's parts: in the federation's folder, and in `place` what lies in volumes."""
    volumes = {DATABASE: place / DATABASE, RUNS: place / RUNS}
    return {**keys_and_certificates(containers.folder), REGISTERED: containers.registered, **volumes}
