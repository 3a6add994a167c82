"""Who takes part: node ids, the names operators registered and, in simulation, the partition each silo claims."""

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from flwr.serverapp import Grid

from fedlaw_flwr.core.state import State
from fedlaw_flwr.protocol.retry import retried

NAMELESS = "node "
"""How the name of a silo begins of which no more than its node is known."""


@dataclass(frozen=True)
class Silo:
    """One participant. Its node says which one it is; the name is for people, and a better one may come to be known.

    Attributes:
        node_id: Flower's id of the silo's node.
        name: The name that people read in events and in the log.
    """

    node_id: int
    name: str

    def __str__(self) -> str:
        return self.name


_Known = tuple[str, str | None, int | None, str | None]
"""Of a node: its name, the digest of its public key, the partition it claimed, and its key in the roster."""


class Roster:
    """The silos of a run in an order that does not depend on who answers first.

    In a deployment a registered name orders and labels each silo. In simulation there is none and node ids are random,
    so the silo says in its reply which partition it is. That claim orders rows and scores detection. A silo's first
    claim stands, and no defence ever rests on it.
    """

    def __init__(self) -> None:
        self._names: dict[int, str] = {}  # in the order in which the nodes became known
        self._claims: dict[int, int] = {}
        self._public_keys: dict[int, str] = {}  # digests
        self._keys: dict[int, str] = {}  # see `key`
        self._earlier: dict[int, _Known] = {}  # before the run was resumed; each counts once its node is online
        self._excluded: set[str] = set()
        self._asked: set[int] = set()
        self._asked_earlier: set[str] = set()

    def exclude(self, silo: Silo) -> None:
        """Leaves this silo out from now on, for as long as it keeps its name and its key."""
        self._excluded.add(self.key(silo))

    def was_asked(self, silo: Silo) -> bool:
        """Whether this silo was asked what it learns, by `note_asked`."""
        return silo.node_id in self._asked or self.key(silo) in self._asked_earlier

    def note_asked(self, silo: Silo) -> None:
        """Notes that this silo was asked what it learns."""
        self._asked.add(silo.node_id)

    def key(self, silo: Silo) -> str:
        """Who this silo is, whichever node id it has: under this, the server keeps what it knows of the silo.

        It is the registered name with a digest of the node's public key; in a simulation, where there is no name, the
        partition the silo claimed. Once known it stays for the run, whatever others claim. Before that, and for a silo
        that never claims, it is its node id, under which no later run knows it.
        """
        node_id = silo.node_id
        if node_id not in self._keys:
            if name := self._names.get(node_id):
                key = f"{name} {self._public_keys.get(node_id, '')}".rstrip()
            elif node_id in self._claims:
                key = f"partition {self._claims[node_id]}"
            else:
                return f"node {node_id}"
            self._take(node_id, key)
        return self._keys[node_id]

    def _take(self, node_id: int, key: str) -> None:
        """Makes this the key of a node, unless another node has it."""
        if key and node_id not in self._keys:
            self._keys[node_id] = f"{key} (node {node_id})" if key in self._keys.values() else key

    def refresh(self, grid: Grid) -> list[Silo]:
        """The silos online and not excluded, in order. Of two nodes with one name the first known is kept."""
        nodes = {node.node_id: node for node in grid.get_nodes()}
        for node_id in [node_id for node_id in self._earlier if node_id in nodes]:
            self._know_again(node_id, self._earlier.pop(node_id))
        for node_id in sorted(nodes):
            self._names.setdefault(node_id, str(getattr(nodes[node_id], "name", "") or ""))
            if public := bytes(getattr(nodes[node_id], "public_key", b"") or b""):
                self._public_keys.setdefault(node_id, hashlib.sha256(public).hexdigest()[:16])
        found = {node_id for node_id in nodes if self.key(self.silo(node_id)) not in self._excluded}
        online: dict[str, int] = {}
        for node_id, name in self._names.items():
            if node_id in found:
                online.setdefault(name or f"{NAMELESS}{node_id}", node_id)
        return self.ordered(self.silo(node_id) for node_id in online.values())

    def silo(self, node_id: int) -> Silo:
        """The silo behind a node, under the best name known for it by now; no two nodes share one."""
        claim = self._claims.get(node_id)
        if name := self._names.get(node_id):
            return Silo(node_id, name)
        if claim is None:
            return Silo(node_id, f"{NAMELESS}{node_id}")
        alone = list(self._claims.values()).count(claim) == 1
        return Silo(node_id, f"silo {claim}" if alone else f"silo {claim} (node {node_id})")

    def claim(self, node_id: int, partition: int | None) -> None:
        """Notes the partition a node says it is, the first time it says one."""
        if partition is not None:
            self._claims.setdefault(node_id, partition)

    def partition(self, silo: Silo) -> int | None:
        """The partition this silo claimed, None if it never did."""
        return self._claims.get(silo.node_id)

    def ordered(self, silos: Iterable[Silo]) -> list[Silo]:
        """By registered name, then by claimed partition, then by node id."""
        return sorted(
            silos,
            key=lambda silo: (
                self._names.get(silo.node_id, ""),
                self._claims.get(silo.node_id, 2**31),
                silo.node_id,
            ),
        )

    def state(self) -> State:
        """Which nodes are known, in the order in which they became so, who was asked what it learns, who is left out.

        Node ids are there for nodes that outlive the server, as those of a deployment do: such a node is the same silo,
        under the same name and the same claim. No other node is taken for it by its id.
        """
        known = [
            [node_id, name, self._public_keys.get(node_id), self._claims.get(node_id), self._keys.get(node_id)]
            for node_id, name in self._names.items()
        ]
        named = [[node_id, *one] for node_id, one in self._earlier.items() if one[0]]
        asked = self._asked_earlier | {self.key(self.silo(node_id)) for node_id in self._asked}
        return State({"nodes": known + named, "excluded": sorted(self._excluded), "asked": sorted(asked)})

    def restore(self, state: State) -> None:
        """Knows these nodes again, should they be online; see `state`."""
        self._names, self._public_keys, self._claims, self._keys = {}, {}, {}, {}
        self._earlier = {
            int(node_id): (name, public, claim, key) for node_id, name, public, claim, key in state.values["nodes"]
        }
        self._excluded = set(state.values["excluded"])
        self._asked, self._asked_earlier = set(), set(state.values["asked"])

    def _know_again(self, node_id: int, known: _Known) -> None:
        name, public, claim, key = known
        self._names[node_id] = name
        if public is not None:
            self._public_keys[node_id] = public
        if claim is not None:
            self._claims[node_id] = claim
        if key is not None:
            self._take(node_id, key)

    def wait(
        self,
        grid: Grid,
        at_least: int,
        timeout: float,
        settle: float = 2.0,
        able: Callable[[list[Silo]], list[Silo]] = list,
    ) -> list[Silo]:
        """Polls until enough silos are online and none came or went for a while.

        Args:
            grid: Flower's grid.
            at_least: How many silos must be online.
            timeout: How long to wait for them, in seconds.
            settle: For so many seconds no silo may have come or gone. `settle` seconds past `timeout`, `at_least` silos
                are enough even if some still come and go. Default: 2.
            able: Which of the silos online count. Default: all.

        Returns:
            The silos online that count, in the roster's order.

        Raises:
            TimeoutError: If fewer than `at_least` silos are online after `timeout` seconds; its text says how many
                there are.
        """
        started = last_change = time.monotonic()
        silos = able(retried(lambda: self.refresh(grid), timeout))
        while True:
            now = time.monotonic()
            if len(silos) >= at_least and (now - last_change >= settle or now - started > timeout + settle):
                return silos
            if now - started > timeout and len(silos) < at_least:
                raise TimeoutError(
                    f"{len(silos)} silos are online after {timeout:.0f} s and {at_least} are needed "
                    "(num-silos, or 2b+2 for max-byzantine=b, or the quorum); start the missing ones"
                )
            time.sleep(0.2)
            found = able(retried(lambda: self.refresh(grid), timeout))
            if [s.node_id for s in found] != [s.node_id for s in silos]:
                silos, last_change = found, time.monotonic()
