"""Who is asked in a round: strikes for silence and junk, who sits out, who is removed, and the sample of a round."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.sampling import draw, sample_size
from fedlaw_flwr.core.state import State
from fedlaw_flwr.protocol.exchange import NOT_SENT, OF_THE_CLIENT, Outcome
from fedlaw_flwr.protocol.roster import NAMELESS, Silo

_VERSION = 1


@dataclass(frozen=True)
class Streak:
    """The rounds in a row in which a silo was asked and gave no usable reply.

    Attributes:
        rounds: How many.
        rejected: In how many of them the gate rejected its reply.
        reason: Why the last reply is missing or was rejected.
    """

    rounds: int = 0
    rejected: int = 0
    reason: str = ""


@dataclass(frozen=True)
class SitOut:
    """A silo that is no longer asked.

    Attributes:
        since: The round after which it is not asked.
        reason: Why its last reply is missing or was rejected.
        identified: Whether the gate rejected its reply in every round that counted: it then stays one of the b silos
            that may be Byzantine, and b' stays lowered by it.
    """

    since: int
    reason: str
    identified: bool


@dataclass(frozen=True)
class Asked:
    """Who is asked in a round.

    Attributes:
        silos: Those asked, in the roster's order.
        pool: Those who could have been asked: online, not removed, and not sitting out.
        there: How many silos are online and not removed.
    """

    silos: list[Silo]
    pool: list[Silo]
    there: int


@dataclass
class Attendance:
    """Who takes part, from round to round.

    What counts as a strike, a round in a row in which a silo was asked and cannot be used:

    - it gave no answer to exchange 1 or to the trial model in time;
    - its ClientApp answered exchange 1 with an error;
    - the gate rejected its reply to exchange 1.

    What does not: a message that could not be sent; an exchange in which nobody at all answered, which tells of the
    line and not of the silos; rejected replies and errors of more than b silos at once, who cannot all be Byzantine, so
    that the model or the settings are at fault; errors and rejected replies at the trial model, which one liar can make
    such that honest losses are infinite; and rounds in which a silo was not asked or not online. These change nothing.
    A round with usable replies ends the row.

    Silos are known by the name the operator registered or, in a simulation, the partition that they claim.

    Args:
        limit: After so many strikes in a row a silo sits out; 0: never.
        fraction: The share of the silos that is asked in a round.
        seed: Names the samples.

    Attributes:
        orders: How many of the operator's orders have been carried out.
    """

    limit: int = 3
    fraction: float = 1.0
    seed: int = 0
    _strikes: dict[str, Streak] = field(default_factory=dict, init=False)
    _out: dict[str, SitOut] = field(default_factory=dict, init=False)
    _removed: set[str] = field(default_factory=set, init=False)
    _known: set[str] = field(default_factory=set, init=False)
    _unheard: int = field(default=0, init=False)
    orders: int = field(default=0, init=False)
    # Of this process alone: which node goes by which name, and which nameless nodes were asked at least once.
    _keys: dict[int, str] = field(default_factory=dict, init=False)
    _met: set[int] = field(default_factory=set, init=False)

    @property
    def sitting_out(self) -> Mapping[str, SitOut]:
        """Who sits out, by name."""
        return dict(self._out)

    @property
    def removed(self) -> frozenset[str]:
        """Whom the operator removed."""
        return frozenset(self._removed)

    @property
    def identified(self) -> int:
        """How many silos sit out because the gate rejected every reply that counted."""
        return sum(one.identified for one in self._out.values())

    @property
    def unheard(self) -> int:
        """In how many rounds in a row nobody at all answered exchange 1."""
        return self._unheard

    def able(self, online: Iterable[Silo]) -> list[Silo]:
        """Those of the silos online that may be asked: neither removed nor sitting out."""
        return [silo for silo in online if (key := self._key(silo)) not in self._out and key not in self._removed]

    def arrived(self, online: Iterable[Silo]) -> list[Silo]:
        """Those of the silos online that were never seen before; from now on they are known."""
        new = [silo for silo in online if self._key(silo) not in self._known]
        self._known.update(self._key(silo) for silo in new)
        return new

    def ask(self, server_round: int, online: Sequence[Silo], least: int = 0) -> Asked:
        """Who is asked in this round.

        With a fraction of 1 that is everyone who is able. Below, ceil(fraction able) are drawn (`core.sampling.draw`),
        at least `least`. A node without a registered name is asked as well when it is first seen: what it replies says
        which partition it is, and samples are drawn among these.

        Args:
            server_round: The round, from 1.
            online: The silos online, in the roster's order.
            least: The fewest to ask, where there are as many.
        """
        able = self.able(online)
        there = sum(self._key(silo) not in self._removed for silo in online)
        chosen = able
        if self.fraction < 1:
            keys = {silo.node_id: self._key(silo) for silo in able}
            new = {node for node, key in keys.items() if key.startswith(NAMELESS) and node not in self._met}
            count = min(len(able), max(sample_size(self.fraction, len(able)), least))
            drawn = draw([key for node, key in keys.items() if node not in new], count, self.seed, server_round)
            chosen = [silo for silo in able if silo.node_id in new or keys[silo.node_id] in drawn]
        self._met.update(silo.node_id for silo in chosen)
        return Asked(chosen, able, there)

    def note(
        self, server_round: int, outcomes: Sequence[Outcome], silos: Iterable[Silo], most: int
    ) -> dict[str, SitOut]:
        """Takes what became of the silos asked, and returns who sits out from now on.

        Args:
            server_round: The round, from 1.
            outcomes: Exchange 1 and, where there was one, exchange 2.
            silos: The silos asked, under the best name known after the exchanges.
            most: b, the most silos that may be Byzantine.
        """
        named = {silo.node_id: self._key(silo) for silo in silos}
        struck, unclear = _struck(outcomes, most)
        self._unheard = 0 if any(_heard(one) for one in outcomes[:1]) else self._unheard + 1
        found: dict[str, SitOut] = {}
        for node, key in named.items():
            if node in struck:
                rejected, reason = struck[node]
                before = self._strikes.get(key, Streak())
                streak = Streak(before.rounds + 1, before.rejected + rejected, reason)
                self._strikes[key] = streak
                if self.limit and streak.rounds >= self.limit:
                    found[key] = SitOut(server_round, reason, streak.rejected == streak.rounds)
            elif node not in unclear:
                self._strikes.pop(key, None)
        self._out |= found
        return found

    def has(self, name: str) -> bool:
        """Whether a silo of this name was seen and not removed."""
        return name in self._known and name not in self._removed

    def pardon(self, name: str) -> bool:
        """Asks this silo again from the next round on, its strikes forgotten. Whether it sat out."""
        self._strikes.pop(name, None)
        return self._out.pop(name, None) is not None

    def remove(self, name: str) -> bool:
        """Takes this silo out of the federation. Whether it was in it."""
        was_in = self.has(name)
        self._removed.add(name)
        self._strikes.pop(name, None)
        self._out.pop(name, None)
        return was_in

    def state(self) -> State:
        """See `core.state`; without node ids."""
        return State(
            {
                "version": _VERSION,
                "strikes": {key: asdict(one) for key, one in sorted(self._strikes.items())},
                "sitting-out": {key: asdict(one) for key, one in sorted(self._out.items())},
                "removed": sorted(self._removed),
                "known": sorted(self._known),
                "unheard": self._unheard,
                "orders": self.orders,
            }
        )

    def restore(self, state: State) -> None:
        """See `core.state`.

        Raises:
            InputError: If another version of this class wrote it.
        """
        values = state.values
        if values.get("version") != _VERSION:
            raise InputError(f"attendance: version {values.get('version')!r} where {_VERSION} is expected")
        self._strikes = {key: Streak(**one) for key, one in values["strikes"].items()}
        self._out = {key: SitOut(**one) for key, one in values["sitting-out"].items()}
        self._removed, self._known = set(values["removed"]), set(values["known"])
        self._unheard, self.orders = int(values["unheard"]), int(values["orders"])

    def _key(self, silo: Silo) -> str:
        """The silo's name. A node keeps the first that is more than its number, whoever claims the same later."""
        before = self._keys.get(silo.node_id)
        if before is None or (before.startswith(NAMELESS) and before != silo.name):
            self._keys[silo.node_id] = silo.name
            if before is not None:
                self._rename(before, silo.name)
        return self._keys[silo.node_id]

    def _rename(self, before: str, name: str) -> None:
        """What was noted of a node goes on under the name by which it is known now."""
        if before in self._strikes:
            self._strikes.setdefault(name, self._strikes.pop(before))
        if before in self._known:
            self._known.discard(before)
            self._known.add(name)


def _struck(outcomes: Sequence[Outcome], most: int) -> tuple[dict[int, tuple[bool, str]], set[int]]:
    """Whom a round strikes, by node: whether the gate rejected the reply, and why; and whom it says nothing of."""
    struck: dict[int, tuple[bool, str]] = {}
    unclear: set[int] = set()
    for number, outcome in enumerate(outcomes):
        heard = _heard(outcome)
        wrong = dict(outcome.rejected) | {silo: reason for silo, reason in outcome.silent.items() if _is_error(reason)}
        blamed = number == 0 and len(wrong) <= most
        for silo, reason in {**outcome.rejected, **outcome.silent}.items():
            counts = blamed if silo in wrong else heard and reason != NOT_SENT
            if counts:
                struck[silo.node_id] = (silo in outcome.rejected, reason)
            else:
                unclear.add(silo.node_id)
    return struck, unclear - struck.keys()


def _heard(outcome: Outcome) -> bool:
    """Whether anybody gave any sign of life. Other errors than a ClientApp's are the SuperLink's own words."""
    return bool(outcome.answered or outcome.rejected) or any(
        reason.startswith(OF_THE_CLIENT) for reason in outcome.silent.values()
    )


def _is_error(reason: str) -> bool:
    return reason.startswith("error ")
