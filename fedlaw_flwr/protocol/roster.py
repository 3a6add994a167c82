"""Who takes part: node ids, the names operators registered and, in simulation, the partition each silo claims."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from flwr.serverapp import Grid

from fedlaw_flwr.protocol.retry import retried

NAMELESS = "node "
"""How the name of a silo begins of which no more than its node is known."""


@dataclass(frozen=True)
class Silo:
    """One participant. Two are the same if their node is: everything else is a name for people.

    Attributes:
        node_id: Flower's id of the silo's node.
        name: The name that people read in events and in the log.
    """

    node_id: int
    name: str

    def __str__(self) -> str:
        return self.name


class Roster:
    """The silos of a run in an order that does not depend on who answers first.

    In a deployment a registered name orders and labels each silo. In simulation there is none and node ids are random,
    so the silo says in its reply which partition it is. That claim orders rows and scores detection. A silo's first
    claim stands, and no defence ever rests on it.
    """

    def __init__(self) -> None:
        self._names: dict[int, str] = {}  # in the order in which the nodes became known
        self._claims: dict[int, int] = {}
        self._excluded: set[int] = set()

    def exclude(self, silo: Silo) -> None:
        """Leaves this silo out from now on, for as long as its node keeps its id."""
        self._excluded.add(silo.node_id)

    def refresh(self, grid: Grid) -> list[Silo]:
        """The silos online and not excluded, in order. Of two nodes with one name the first known is kept."""
        nodes = [node for node in grid.get_nodes() if node.node_id not in self._excluded]
        found = {node.node_id: str(getattr(node, "name", "") or "") for node in nodes}
        for node_id in sorted(found):
            self._names.setdefault(node_id, found[node_id])
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
                    f"{len(silos)} silos are online after {timeout:.0f} s and {at_least} are needed; "
                    "(num-silos, or 2b+2 for max-byzantine=b, or the quorum); start the missing ones"
                )
            time.sleep(0.2)
            found = able(retried(lambda: self.refresh(grid), timeout))
            if [s.node_id for s in found] != [s.node_id for s in silos]:
                silos, last_change = found, time.monotonic()
