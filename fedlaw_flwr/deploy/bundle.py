"""The archive for one institution: what it needs to take part, no private key, nothing of another silo."""

import gzip
import io
import tarfile

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.deploy.certificates import fingerprint
from fedlaw_flwr.deploy.compose import as_yaml, compose
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder
from fedlaw_flwr.deploy.preparation import policy_yaml, silo_yaml
from fedlaw_flwr.silo.config import POLICY
from fedlaw_flwr.silo.packages import own_digest

_PAGE = """\
# Joining the federation {federation} as {silo}

What is in this folder: `ca.crt`, by which your silo knows the server; `silo.yaml`, what your silo decides for itself;
`policy.yaml`, what may leave it and how much may be asked of it; `compose.yml`, your three containers; and this page.
There is no key in it, and nothing about any other silo.

1. **The images.** Build `{image}` from the project's `docker/Dockerfile.silo`, or take the one your institution trusts.
   The server runs Flower {flwr}, and your silo must too: `docker build --build-arg FLWR='flwr=={flwr}.*'` takes it.
   A machine needs no Python for the `fedlaw` commands below: in this folder, not as root,

       fedlaw() {{ docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:$PWD" --workdir "$PWD" \\
         {data}{image} fedlaw "$@"; }}

2. **Your key.** On the machine that will run the silo, in this folder: `fedlaw join {silo}`. It makes `node.key`,
   which never leaves your machine, and `{silo}.pub`, which you send to the federation's operator. Read its fingerprint
   to them over the telephone.{known}
3. **Your data.** In `silo.yaml`, name your task and your data path. `compose.yml` mounts the path that the operator
   knows of, read-only, into the one container that has no network; another one, you write there under `{silo}-data`.
4. **Your limits.** `policy.yaml` limits nothing until you take the # off its lines; the project's
   docs/explanation/safeguards.md says what each line gives. The server has no say in it.
5. **Start**, once the operator has confirmed your key. Beside `compose.yml`, a file `.env` with the line
   `FEDLAW_USER=UID:GID` says who the containers run as: the owner of `node.key`, never root. First
   `fedlaw preflight silo.yaml`, which looks at key, user, certificate, data path, policy and the way to the server and
   says what is wrong; then `docker compose up -d` (or `docker-compose up -d`). Your node calls {host}:{port} and
   nothing calls you: no port of yours needs to be open.
6. **See** what is asked of your silo, and what your policy refuses: `docker compose logs {silo}-data`.

Of your three containers, `{silo}-node` holds your key and talks to the server; `{silo}-app` runs the package the
operator submits, and has neither your key, nor your data, nor a way out; `{silo}-data` has your data and no network.

`{silo}-app` runs the package that the fedlaw in your image would itself make, and refuses any other.
`fedlaw deploy package-digest` in your image prints its digest; the operator's is
{digest}.
Where the two differ, the two run different releases. To allow another package, look at what is in it, take its digest
yourself (`fedlaw deploy package-digest FILE.fab`) and write `FEDLAW_PACKAGES=DIGEST` into `.env`, several with commas
between them.

To renew your key: `fedlaw join {silo}` in an empty folder; send the new `{silo}.pub` and read its fingerprint to the
operator. Once they have put it in the place of the old one, put the new `node.key` in the place of yours and
`docker compose restart {silo}-node`. The old key is refused from then on.

To leave: `docker compose down`, and tell the operator, who takes your key off the server.
"""


def write_bundle(federation: Federation, folder: FederationFolder, silo: str) -> str:
    """Writes bundles/SILO.tar.gz in the federation's folder; the same input gives the same bytes.

    Args:
        federation: The federation.
        folder: The federation's folder.
        silo: The name of the silo that the archive is for.

    Returns:
        The path of the archive.

    Raises:
        InputError: If the federation has no such silo.
        FileNotFoundError: If there is no CA certificate.
    """
    silos = {one.name: one for one in federation.silos}
    if silo not in silos:
        raise InputError(f"silo {silo!r}: federation.yaml names {', '.join(silos)}")
    public = folder.public_key(silo)
    known = f" (The operator already holds the key {fingerprint(public)}.)" if public.exists() else ""
    page = _PAGE.format(
        federation=federation.name,
        silo=silo,
        image=federation.images.silo,
        data=f"--mount 'type=bind,source={data},target={data},readonly' " if (data := silos[silo].data_path) else "",
        flwr=federation.silo_config(silo).flwr,
        host=federation.superlink.host,
        port=federation.superlink.port,
        known=known,
        digest=own_digest(),
    )
    files = {
        "README.md": page.encode(),
        "ca.crt": folder.ca_certificate.read_bytes(),
        "compose.yml": as_yaml(compose(federation, [silo], server=False)).encode(),
        POLICY: policy_yaml(silo).encode(),
        "silo.yaml": silo_yaml(federation.silo_config(silo)).encode(),
    }
    path = folder.path / "bundles" / f"{silo}.tar.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("wb") as out,
        gzip.GzipFile("", "wb", fileobj=out, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(f"{federation.name}-{silo}/{name}")
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return str(path)
