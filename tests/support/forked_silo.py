"""A silo's own process without the seconds that a new Python takes: a fork of the process that runs the tests."""

import logging
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedlaw_flwr.silo.config import SiloConfig
from fedlaw_flwr.silo.serve import SiloProcess


@contextmanager
def silo(folder: Path, text: str, **keys: str) -> Iterator[None]:
    """What `fedlaw silo` runs, under this policy and with the client of private_client.py, in a fork of this process.

    Args:
        folder: Where its files are, with a name short enough for a socket.
        text: Its policy.yaml.
        **keys: More of its silo.yaml.
    """
    (folder / "policy.yaml").write_text(text)
    (folder / "silo.yaml").write_text(
        "name: bonn\nclient: private_client:app\npolicy: policy.yaml\n"
        f"socket: {folder}/silo.sock\nstate: {folder}/state\n"
        + "".join(f"{name.replace('_', '-')}: {value}\n" for name, value in keys.items())
    )

    def serve() -> None:
        logging.basicConfig(filename=folder / "log", level=logging.INFO, force=True)
        SiloProcess(SiloConfig.read(folder / "silo.yaml")).run()

    log = folder / "log"
    log.touch()
    before = log.read_text().count("answers at")
    process = multiprocessing.get_context("fork").Process(target=serve)
    process.start()
    try:
        deadline = time.monotonic() + 60
        while not (listens := log.read_text().count("answers at") > before) and process.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert listens, log.read_text()
        yield
    finally:
        process.terminate()
        process.join(10)
        (folder / "silo.sock").unlink(missing_ok=True)
