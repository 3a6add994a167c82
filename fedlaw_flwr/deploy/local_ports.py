"""The ports of a federation on one machine: chosen once, kept in local/ports.json, looked at before they are used."""

import errno
import json
import socket
from collections.abc import Iterable
from pathlib import Path

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.simulation.processes import free_port, holder_of

SUPERLINK = "superlink"


class LocalPorts:
    """Where the SuperLink and every silo's node listen on the loopback address."""

    def __init__(self, file: Path, superlink: int) -> None:
        self.file, self._superlink = file, superlink

    def of(self, name: str) -> int:
        """The port of the superlink or of a silo's node: the same for as long as the file stands.

        Raises:
            InputError: For a file that holds no ports, with what to do about it.
        """
        if name == SUPERLINK:
            return self._superlink
        ports = self._read()
        if name not in ports:
            ports[name] = free_port()
            while ports[name] in {self._superlink, *(port for other, port in ports.items() if other != name)}:
                ports[name] = free_port()
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.file.write_text(json.dumps(ports, indent=2) + "\n")
        return ports[name]

    def check(self, names: Iterable[str]) -> None:
        """Looks whether each of these, none of which runs, can have its port.

        Raises:
            InputError: A sentence for each that cannot: whose port it is, who has it, and where another is named.
        """
        wrong = [sentence for name in names if (sentence := self._what_is_wrong(name))]
        if wrong:
            raise InputError("\n".join(wrong))

    def _what_is_wrong(self, name: str) -> str:
        port = self.of(name)
        others = {SUPERLINK: self._superlink, **self._read()}
        whose, mend = self._named(name)
        if twice := [other for other, its in others.items() if its == port and other != name]:
            return f"{whose} and {twice[0]} have one port, {port}: {mend}"
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what hung up a minute ago takes no port
            try:
                probe.bind(("127.0.0.1", port))
            except PermissionError:
                return f"port {port} of {whose} is root's alone: {mend}"
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    return f"port {port} of {whose} cannot be had ({error.strerror}): {mend}"
                return f"port {port} of {whose} is taken by {holder_of(port) or 'another program'}: end that, or {mend}"
        return ""

    def _named(self, name: str) -> tuple[str, str]:
        """Whose port it is, in words, and where another one is named."""
        if name == SUPERLINK:
            return "the SuperLink", "name another port in federation.yaml (superlink.port)"
        silo = name.removesuffix("-node")
        return f"{silo}'s node", f'take the line "{name}" out of {self.file}, and the next start chooses another port'

    def _read(self) -> dict[str, int]:
        if not self.file.exists():
            return {}
        try:
            ports = json.loads(self.file.read_text(encoding="utf-8"))
            if not isinstance(ports, dict):
                raise InputError("an object of names and ports is expected")
            if wrong := [name for name, port in ports.items() if type(port) is not int or not 0 < port < 65536]:
                raise InputError(f"{wrong[0]} has {ports[wrong[0]]!r}, and a port is 1 to 65535")
        except ValueError as error:  # of which those of JSON and of UTF-8 are two
            raise InputError(
                f"{self.file} cannot be read: {error}. Remove it after `fedlaw deploy local down`: the next `up` "
                "chooses the ports anew"
            ) from None
        return ports
