"""Who takes part in a run: waiting for silos, the operator's orders, strikes, and what silos say they learn."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import ArrayRecord, MessageType, RecordDict
from flwr.serverapp import Grid

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.sampling import sample_size
from fedlaw_flwr.core.state import State
from fedlaw_flwr.events.orders import PARDON, REMOVE, Order, read_orders
from fedlaw_flwr.events.types import Joined, NotAdmitted, OnEvent, Pardoned, Removed, SitsOut, TaskNotStated, Warned
from fedlaw_flwr.protocol import gate
from fedlaw_flwr.protocol.attendance import Attendance
from fedlaw_flwr.protocol.exchange import Ask, run_exchange
from fedlaw_flwr.protocol.retry import retried
from fedlaw_flwr.protocol.roster import NAMELESS, Roster, Silo
from fedlaw_flwr.protocol.round import RoundExchanges
from fedlaw_flwr.protocol.text import single_line
from fedlaw_flwr.strategy.options import ServerOptions

_log = logging.getLogger("flwr")
_MOST_DIFFERENCES = 5  # of the ways in which a silo's data differ; its own log has them all

CheckTask = Callable[[Mapping[str, str]], Sequence[str]]
"""Takes what a silo says it learns, by name, and returns a sentence for each mismatch ("column 'age' is missing")."""


@dataclass
class Orders:
    """What an operator said and no round has carried out yet; it may be said before the run begins.

    Attributes:
        told: The orders given in Python. A checkpoint has them.
    """

    told: list[Order] = field(default_factory=list)

    def state(self) -> State:
        """The orders given in Python."""
        return State({"orders": [[order.what, order.silo] for order in self.told]})

    def restore(self, state: State) -> None:
        """Puts these orders before those given since."""
        self.told[:0] = [Order(what, silo) for what, silo in state.values["orders"]]

    def take(self, folder: Path | None, done: int) -> tuple[list[Order], int]:
        """The orders to carry out now, and how many of them came from the file of orders.

        Args:
            folder: Where the file of orders is; None: there is none.
            done: How many orders of that file have been carried out.
        """
        given = read_orders(folder, done) if folder else []
        said, self.told = [*self.told, *given], []
        return said, len(given)


@dataclass(kw_only=True)
class Participation:
    """Decides before each round who can be asked, and notes after it who did not answer.

    Args:
        options: min_silos, quorum, rejoin_timeout and strikes are read.
        roster: The silos that are known.
        attendance: Their strikes, and who sits out.
        orders: What the operator said.
        orders_folder: Where the file of orders is; None: there is none.
        size: Gives n and b.
        fewest: Gives the least number of usable replies that a round needs to move the model.
        resize: Takes another n and returns b; raises InputError where the settings cannot hold for it.
        say: Takes each event.
    """

    options: ServerOptions
    roster: Roster
    attendance: Attendance
    orders: Orders
    orders_folder: Path | None
    size: Callable[[], tuple[int, int]]
    fewest: Callable[[], int]
    resize: Callable[[int], int]
    say: OnEvent

    # -- before a round -----------------------------------------------------------------------------------------

    def gather(self, grid: Grid, server_round: int, timeout: float) -> str:
        """Carries out orders and waits until enough silos can be asked.

        Args:
            grid: Flower's grid.
            server_round: The round that is to begin.
            timeout: Seconds for which a grid that does not answer is asked again.

        Returns:
            Why the run ends, else "". It ends where too few silos came within rejoin_timeout (a grid whose silos are
            all there is not waited for), and where nobody answered in as many rounds in a row as there are strikes.
        """
        strikes = self.options.strikes
        if strikes and self.attendance.unheard >= strikes:
            return f"in {self.attendance.unheard} rounds in a row nobody answered"

        def able(online: list[Silo]) -> list[Silo]:
            self._carry_out_orders(server_round)
            for silo in self.attendance.arrived(online):
                if not silo.name.startswith(NAMELESS):
                    self.say(Joined(round=server_round, silo=silo.name))
                    _log.info("round %s: %s has joined", server_round, silo)
            return self.attendance.able(online)

        silos = able(retried(lambda: self.roster.refresh(grid), timeout))
        needed = self._needed()
        if len(silos) < needed and not getattr(grid, "all_present", False):
            _log.warning(
                "round %s waits up to %g s: %s silos can be asked and %s are needed",
                *(server_round, self.options.rejoin_timeout, len(silos), needed),
            )
            try:
                silos = self.roster.wait(grid, needed, self.options.rejoin_timeout, settle=0.0, able=able)
            except TimeoutError:
                silos = able(retried(lambda: self.roster.refresh(grid), timeout))
            needed = self._needed()
        if len(silos) >= needed:
            return ""
        out = ", ".join(sorted(self.attendance.sitting_out))
        sit = f"; {out} sit out after {strikes} rounds in a row without a usable reply" if out else ""
        return f"{len(silos)} silos still take part and {needed} are needed (2b+2, quorum, min-silos){sit}"

    def _needed(self) -> int:
        """How many silos must be there for a round to begin."""
        n, _ = self.size()
        least = self.options.min_silos
        count = sample_size(least, n) if isinstance(least, float) else least
        return max(1, count, self.options.quorum, self.fewest())

    def check_tasks(self, check: CheckTask, grid: Grid, server_round: int, timeout: float) -> None:
        """Asks each silo, once, what it learns (a query), and does not admit those that learn something else.

        Against mistakes, not malice: a silo that says the right thing, or nothing, takes part.

        Args:
            check: Says what is wrong with what a silo learns.
            grid: Flower's grid.
            server_round: The round that is to begin.
            timeout: Seconds that silos have to answer.
        """
        silos = retried(lambda: self.roster.refresh(grid), timeout)
        asks = [Ask(silo) for silo in silos if not self.roster.was_asked(silo)]
        if not asks:
            return
        said: dict[Silo, Mapping[str, str] | None] = {}
        alarms: dict[Silo, list[str]] = {}

        def receive(ask: Ask, content: RecordDict) -> None:
            said[ask.silo] = gate.read_description(content)
            alarms[ask.silo] = gate.read_alarms(content)

        config = {"server-round": server_round, "exchange": 0}
        run_exchange(grid, asks, ArrayRecord(), config, receive, timeout, MessageType.QUERY)
        for silo in (ask.silo for ask in asks):
            self.roster.note_asked(silo)
            for alarm in alarms.get(silo, ()):
                self.say(Warned(reason=f"{silo.name}: {alarm}"))
                _log.warning("%s: %s", silo, alarm)
            own = said.get(silo)
            if own is None:
                self.say(TaskNotStated(round=server_round, silo=silo.name, reason="it does not say what it learns"))
            elif wrong := check(own):
                self.roster.exclude(silo)
                more = len(wrong) - _MOST_DIFFERENCES
                reason = "; ".join(wrong[:_MOST_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")
                self.say(NotAdmitted(round=server_round, silo=silo.name, reason=reason))
                _log.warning("%s learns something else and takes no part: %s", silo, reason)

    # -- the operator's orders ----------------------------------------------------------------------------------

    def _carry_out_orders(self, server_round: int) -> None:
        """What the operator said since the last round, in Python or in the file of orders."""
        said, of_file = self.orders.take(self.orders_folder, self.attendance.orders)
        self.attendance.orders += of_file
        for order in said:
            if why_not := self._carry_out(order, server_round):
                self.say(Warned(reason=why_not))
                _log.warning("%s", why_not)

    def _carry_out(self, order: Order, server_round: int) -> str:
        """Does what the operator said; returns why it cannot be done."""
        if order.what == PARDON:
            if not self.attendance.pardon(order.silo):
                return f"pardon {order.silo}: no silo of this name sits out"
            self.say(Pardoned(round=server_round, silo=order.silo))
            _log.info("%s is asked again", order.silo)
            return ""
        if order.what != REMOVE:
            return f"an order that is not understood: {single_line(order.silo)!r}"
        if not self.attendance.has(order.silo):
            return f"remove {order.silo}: no silo of this name takes part"
        n = self.size()[0] - 1
        try:
            b = self.resize(n)
        except InputError as error:
            return f"remove {order.silo}: {error}"
        self.attendance.remove(order.silo)
        self.say(Removed(round=server_round, silo=order.silo, n=n, b=b))
        _log.info("%s is removed: n=%s, b=%s", order.silo, n, b)
        return ""

    # -- after a round ------------------------------------------------------------------------------------------

    def note(self, exchanges: RoundExchanges) -> None:
        """Takes strikes, and says who sits out from now on."""
        now = [self.roster.silo(silo.node_id) for silo in exchanges.asked.silos]
        found = self.attendance.note(exchanges.server_round, exchanges.outcomes, now, self.size()[1])
        for silo, one in sorted(found.items()):
            self.say(
                SitsOut(
                    round=exchanges.server_round,
                    silo=silo,
                    strikes=self.options.strikes,
                    reason=one.reason,
                    identified=one.identified,
                )
            )
            _log.warning(
                "%s sits out: no usable reply in %s rounds in a row (%s); `fedlaw deploy pardon` lets it in again",
                *(silo, self.options.strikes, one.reason),
            )
