"""The archive for one institution: what it needs to take part, no private key, nothing of another silo."""

import gzip
import io
import tarfile

from fedlaw_flwr.deploy.certificates import fingerprint
from fedlaw_flwr.deploy.compose import as_yaml, compose
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder
from fedlaw_flwr.deploy.preparation import silo_yaml

_PAGE = """\
# Joining the federation {federation} as {silo}

What is in this folder: `ca.crt`, by which your silo knows the server; `silo.yaml`, what your silo decides for itself;
`compose.yml`, your three containers; and this page. There is no key in it, and nothing about any other silo.

1. **Your key.** On the machine that will run the silo, in this folder: `fedlaw join {silo}`. It makes `node.key`,
   which never leaves your machine, and `{silo}.pub`, which you send to the federation's operator. Read its fingerprint
   to them over the telephone.{known}
2. **Your data.** In `silo.yaml`, name your task and your data path; in `compose.yml` that path is mounted read-only
   into the one container that has no network.
3. **The images.** Build `{image}` from the project's `docker/Dockerfile.silo`, or take the one your institution trusts.
4. **Start**, once the operator has confirmed your key. Beside `compose.yml`, a file `.env` with the line
   `FEDLAW_USER=UID:GID` says who the containers run as: the owner of `node.key`, never root. Then
   `docker compose up -d` (or `docker-compose up -d`). Your node calls {host}:{port} and nothing calls you: no port of
   yours needs to be open.
5. **See** what is asked of your silo: `docker compose logs {silo}-data`.

Of your three containers, `{silo}-node` holds your key and talks to the server; `{silo}-app` runs the package the
operator submits, and has neither your key, nor your data, nor a way out; `{silo}-data` has your data and no network.
To leave: `docker compose down`, and tell the operator, who takes your key off the server.
"""


def write_bundle(federation: Federation, folder: FederationFolder, silo: str) -> str:
    """Writes bundles/SILO.tar.gz in the federation's folder and returns its path; the same input, the same bytes.

    Raises ValueError for a silo the federation does not have, FileNotFoundError without a CA certificate.
    """
    names = [one.name for one in federation.silos]
    if silo not in names:
        raise ValueError(f"silo {silo!r}: federation.yaml names {', '.join(names)}")
    public = folder.public_key(silo)
    known = f" (The operator already holds the key {fingerprint(public)}.)" if public.exists() else ""
    page = _PAGE.format(
        federation=federation.name,
        silo=silo,
        image=federation.images.silo,
        host=federation.superlink.host,
        port=federation.superlink.port,
        known=known,
    )
    files = {
        "README.md": page.encode(),
        "ca.crt": folder.ca_certificate.read_bytes(),
        "compose.yml": as_yaml(compose(federation, [silo], server=False)).encode(),
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
