"""What stands in a silo's PATH where Flower looks for `flwr-clientapp`: it runs the packages the silo allows, no other.

Flower's SuperExec starts a process by name for every message, and that process unpacks and imports whatever package the
operator submitted. `install_guard` fills a folder with programs of those names, to stand first in the SuperExec's PATH:
`flwr-clientapp` is Flower's own with a look at the package before a byte of it is unpacked; the others, by which a run
could start code at a silo in another way (an AgentApp, for one), end at once.
"""

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

from fedlaw_flwr.silo.packages import digest, is_digest

PACKAGES = "FEDLAW_PACKAGES"
"""The environment variable with the digests of packages that this silo allows beside its own, commas between them."""

_SHOWN, _LISTED = 12, 3


class PackageRefused(RuntimeError):
    """This silo does not run the package; Flower sends the text to the server, which has it from there already."""


def check(bundle: bytes, allowed: Sequence[str]) -> None:
    """Lets a bundle through if its digest is allowed.

    Args:
        bundle: The bytes of the .fab file.
        allowed: The digests allowed, 64 hex digits each.

    Raises:
        PackageRefused: One line, unless the digest of this bundle is among those allowed.
    """
    try:
        found = digest(bundle)
    except ValueError as error:
        raise PackageRefused(f"this silo does not run the package: {error}") from None
    if found not in allowed:
        more = f" and {len(allowed) - _LISTED} more" if len(allowed) > _LISTED else ""
        listed = ", ".join(f"{one[:_SHOWN]}…" for one in allowed[:_LISTED])
        raise PackageRefused(f"this silo does not run package {found[:_SHOWN]}…; it allows {listed}{more}")


def allowed_packages(own: str, environment: Mapping[str, str]) -> list[str]:
    """The silo's own package and those its operator named in FEDLAW_PACKAGES.

    Args:
        own: The digest of the silo's own package.
        environment: The environment variables.

    Returns:
        The digests, the silo's own first, each once.

    Raises:
        PackageRefused: Where FEDLAW_PACKAGES holds anything but digests. An allow-list with a slip in it allows
            nothing.
    """
    named = [one.strip().lower() for one in environment.get(PACKAGES, "").split(",") if one.strip()]
    if not all(map(is_digest, named)):
        raise PackageRefused(f"{PACKAGES} at this silo does not hold digests of 64 hexadecimal digits, comma-separated")
    return list(dict.fromkeys([own, *named]))


def guarded(install: Callable[..., Path], own: str, environment: Mapping[str, str]) -> Callable[..., Path]:
    """Flower's install_from_fab(bundle, ...) behind `check`."""

    @wraps(install)
    def checked(bundle: bytes, *arguments: Any, **options: Any) -> Path:
        check(bundle, allowed_packages(own, environment))
        return install(bundle, *arguments, **options)

    return checked


def install_guard(folder: Path, own: str) -> list[Path]:
    """Writes the guard's programs, for the Python that runs this.

    Args:
        folder: Where the programs are written; it is made if it is not there.
        own: The digest of the silo's own package.

    Returns:
        The paths of the programs.
    """
    from flwr.supercore.constant import TASK_TYPE_TO_COMMAND, TaskType

    client = TASK_TYPE_TO_COMMAND[TaskType.CLIENT_APP]
    # -P: not the working directory's modules, which are not this installation's.
    scripts = {client: f'exec {shlex.quote(sys.executable)} -P -m fedlaw_flwr.silo.guard {own} "$@"\n'}
    for name in TASK_TYPE_TO_COMMAND.values():
        scripts.setdefault(
            name, f'echo "{name} is not run at this silo; only packages it allows, as {client}" >&2\nexit 1\n'
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, script in scripts.items():
        unfinished = folder / f"{name}.unfinished"
        unfinished.write_text(f"#!/bin/sh\n{script}")
        unfinished.chmod(0o755)
        unfinished.replace(folder / name)
    return [folder / name for name in scripts]


def main(arguments: Sequence[str]) -> None:
    """`OWN-DIGEST ARGUMENTS...` runs flwr-clientapp with these arguments; `--install FOLDER` fills the folder."""
    first, *rest = arguments
    if first == "--install":
        from fedlaw_flwr.silo.packages import own_digest

        for path in install_guard(Path(rest[0]), own_digest()):
            print(path)
        return
    # By their modules' names: Flower's packages export functions of the same names.
    process = import_module("flwr.supernode.runtime.run_clientapp")
    command = import_module("flwr.supernode.cli.flwr_clientapp")
    # Where a later Flower unpacks elsewhere, this raises and the silo stays silent, rather than unguarded.
    vars(process)["install_from_fab"] = guarded(process.install_from_fab, first, os.environ)
    sys.argv = ["flwr-clientapp", *rest]
    command.flwr_clientapp()


if __name__ == "__main__":
    main(sys.argv[1:])
