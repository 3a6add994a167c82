"""The exchanges of one round: the model out, every reply through the gate, the updates into one matrix, in order."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fedlaw_flwr.core.blocks import Vector, rounded_sum
from fedlaw_flwr.core.storage import zeros
from fedlaw_flwr.events.types import NoReply, NoReview, OnEvent, ReplyRejected
from fedlaw_flwr.protocol import gate
from fedlaw_flwr.protocol.attendance import Asked
from fedlaw_flwr.protocol.exchange import Ask, Outcome, run_exchange
from fedlaw_flwr.protocol.layout import Layout, Model, combine_buffers
from fedlaw_flwr.protocol.legacy import TODAYS, RecordNames
from fedlaw_flwr.protocol.loss_key import LossFinder
from fedlaw_flwr.protocol.retry import retried
from fedlaw_flwr.protocol.roster import Roster, Silo

_log = logging.getLogger("flwr")

Mask = NDArray[np.bool_]
# Ranks tolerate its rounding: docs/research/peer-review.md has the measurement.
_REVIEW = np.float16


class Matrix:
    """The server's memory of one exchange: a row of updates and one of buffers for each silo.

    It is allocated once, and again only when more silos join. Each reply is decoded straight into its row.

    Args:
        folder: Where updates and reviews lie as files; "": they lie in memory. Default: memory.

    Attributes:
        updates: The updates D, (n, d).
        buffers: The buffers, (n, p).
        reviews: The reviews, (n, d), in float16; (0, 0) until one is asked for.
    """

    def __init__(self, folder: str = "") -> None:
        self._folder = folder
        self.updates: NDArray[np.floating] = np.empty((0, 0))
        self.buffers: NDArray[np.floating] = np.empty((0, 0))
        self.reviews: NDArray[np.floating] = np.empty((0, 0))

    def reserve(self, n: int, layout: Layout) -> None:
        """Makes room for n rows of this layout."""
        fits = self.updates.shape[1] == layout.num_parameters and self.buffers.shape[1] == layout.num_buffers
        if self.updates.shape[0] < n or not fits or self.updates.dtype != layout.dtype:
            self.updates = self.buffers = np.empty((0, 0))  # let go of the old one first
            self.updates = zeros((n, layout.num_parameters), layout.dtype, self._folder)
            self.buffers = np.zeros((n, layout.num_buffers), layout.dtype)

    def reserve_reviews(self, layout: Layout) -> None:
        """Makes room for a review in each row."""
        if self.reviews.shape != self.updates.shape:
            self.reviews = np.empty((0, 0))
            self.reviews = zeros((len(self.updates), layout.num_parameters), _REVIEW, self._folder)

    def release_reviews(self) -> None:
        """Lets go of the memory for reviews."""
        self.reviews = np.empty((0, 0))

    def arrange(self, order: Sequence[int]) -> None:
        """Brings row order[j] to row j, for every j, in place by swaps: no second matrix."""
        content = list(range(len(self.updates)))  # which row's content lies at a place
        place = list(range(len(self.updates)))  # at which place a row's content lies
        for j, row in enumerate(order):
            there, other = place[row], content[j]
            if there == j:
                continue
            for matrix in (self.updates, self.buffers, self.reviews):
                if not len(matrix):
                    continue
                spare = matrix[j].copy()
                matrix[j] = matrix[there]
                matrix[there] = spare
            content[j], content[there] = row, other
            place[row], place[other] = j, there


@dataclass(frozen=True)
class Channel:
    """What all exchanges of a run share.

    Attributes:
        grid: Flower's grid, through which messages go.
        roster: The silos of the run.
        matrix: The memory for the updates and buffers of exchange 1.
        config: What goes to the silos in every exchange.
        timeout: Seconds that an exchange waits for its silos.
        loss_key: The name under which a reply's metrics have the loss; "" where it is not known, and none is read.
        loss_floor: The least loss that passes the gate; None: any.
        on_event: Called with each event.
        num_silos: For how many silos the matrix has rows at least.
        sizes: Whether num-examples is read, and must then be usable. Default: no.
        finder: What finds the loss key in exchange 1, where it is not known; None: `loss_key` is. Default: None.
        names: Under which names a message has the model and the config.
        keeps_records: Whether the replies of exchange 1 are kept without their arrays. Default: no.
        with_digests: Whether the digest of every reply is taken. Default: no.
        ask: Called with the round and the silos online; says who of them is asked. None: all are. Default: None.
        able: Says who of these silos may be asked: a node whose reply shows that it is a silo that sits out is treated
            as if it had not been asked. None: all may. Default: None.
        trial_timeout: Seconds that exchange 2 waits; 0: `timeout`. Default: 0.
    """

    grid: Grid
    roster: Roster
    matrix: Matrix
    config: ConfigRecord
    timeout: float
    loss_key: str
    loss_floor: float | None
    on_event: OnEvent
    num_silos: int
    sizes: bool = False  # whether num-examples is read, and must then be usable
    finder: LossFinder | None = None
    names: RecordNames = TODAYS
    keeps_records: bool = False
    with_digests: bool = False
    ask: Callable[[int, list[Silo]], Asked] | None = None
    able: Callable[[list[Silo]], list[Silo]] | None = None
    trial_timeout: float = 0.0


@dataclass(frozen=True)
class Replies:
    """Exchange 1 as the gate let it through: row j of each array belongs to silos[j], in the roster's order.

    Attributes:
        silos: The m silos that gave a usable reply.
        updates: D, (m, d), delta = theta - psi; a view of the run's matrix.
        buffers: The buffers, (m, p).
        losses: The losses, (m,); NaN where none is needed and the silos send none.
        norms: The l2 norms of the updates as they came, (m,).
        sizes: The num-examples claimed, (m,); 0 where they are not read.
        outcome: What became of every silo asked.
        reviews: Where reviews were asked for, a row of r / max |r_k| for each silo, (m, d); else None.
        review_norms: The l2 norms of these rows, (m,); NaN for a silo without a valid review.
        balanced_losses: The class-balanced losses, (m,); NaN where none was reported.
    """

    silos: Sequence[Silo]
    updates: NDArray[np.floating]  # D (m, d), delta = theta - psi, a view of the run's matrix
    buffers: NDArray[np.floating]  # (m, p)
    losses: NDArray[np.float64]  # (m,)
    norms: NDArray[np.float64]  # (m,), l2, of the updates as they came
    sizes: NDArray[np.float64]  # (m,), the num-examples claimed, 0 where they are not read
    outcome: Outcome
    reviews: NDArray[np.floating] | None = None
    review_norms: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    balanced_losses: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def moved(self, model: Model, w: Vector, besides: Vector | None = None) -> Model:
        """The model after a step with these weights: theta - sum_i w_i delta_i, less `besides`.

        Args:
            model: The model that was sent out, theta.
            w: The weights, (m,). The buffers of the silos with weight are combined by the median.
            besides: What else is taken from the parameters, (d,). Default: None, nothing.
        """
        weighted = self.buffers[np.flatnonzero(w > 0)] if model.buffers.size else None
        buffers = None if weighted is None else combine_buffers(model.layout, weighted)
        step = rounded_sum(w, self.updates)
        if besides is not None:
            np.add(step, besides, out=step, casting="same_kind")
        return model.stepped(step, buffers, out=step)


Receive = Callable[[int, float, NDArray[np.floating] | None, float], None]
"""(row, loss, update, its norm): one reply to the trial model; no update where none was wanted."""


class RoundExchanges:
    """The one or two exchanges of a round, and what became of each.

    Args:
        channel: What all exchanges of the run share.
        server_round: The round, from 1.

    Attributes:
        server_round: The round, from 1.
        outcomes: What became of each exchange so far.
        replies: What exchange 1 brought.
        records: What each silo replied in exchange 1, by node id, without its arrays; empty where it is not kept.
        unreviewed: Why a silo that was asked for a review has no valid one.
        asked: Who was asked in exchange 1.
    """

    replies: Replies
    asked: Asked

    def __init__(self, channel: Channel, server_round: int) -> None:
        self.server_round = server_round
        self.outcomes: list[Outcome] = []
        self.records: dict[int, RecordDict] = {}
        self.unreviewed: Mapping[Silo, str] = {}
        self._channel = channel

    def first(self, model: Model, reviewed: bool = False) -> None:
        """Sends the model to everyone who is asked, asks for an update and its loss, and keeps what came in `replies`.

        Args:
            model: The model that is sent out.
            reviewed: Whether every silo is asked for a review too. A silo whose review is not valid stays in the round,
                and an event says why it has no voice. Default: no.
        """
        channel, roster, matrix = self._channel, self._channel.roster, self._channel.matrix
        online = retried(lambda: roster.refresh(channel.grid), channel.timeout)
        everyone = Asked(online, online, len(online))
        self.asked = everyone if channel.ask is None else channel.ask(self.server_round, online)
        asks = [Ask(silo, gate.REVIEW if reviewed else "update") for silo in self.asked.silos]
        matrix.reserve(max(len(asks), channel.num_silos), model.layout)
        if reviewed:
            matrix.reserve_reviews(model.layout)
        else:
            matrix.release_reviews()
        rows = {ask.silo.node_id: row for row, ask in enumerate(asks)}
        losses, norms, sizes = np.zeros(len(asks)), np.zeros(len(asks)), np.zeros(len(asks))
        review_norms, balanced = np.full(len(asks), np.nan), np.full(len(asks), np.nan)
        unreviewed: dict[Silo, str] = {}

        def receive(ask: Ask, content: RecordDict) -> None:
            row = rows[ask.silo.node_id]
            roster.claim(ask.silo.node_id, gate.read_claim(content))  # first: junk too is reported under its name
            if channel.finder is None:
                losses[row] = gate.read_loss(content, channel.loss_key, channel.loss_floor)
            else:
                channel.finder.look(ask.silo, content)
            sizes[row] = gate.read_size(content) if channel.sizes else 0.0
            norms[row] = gate.read_update(content, model, matrix.updates[row], matrix.buffers[row], reviewed)
            if channel.keeps_records:
                self.records[ask.silo.node_id] = without_arrays(content)
            if not reviewed:
                return
            try:
                norm = gate.read_review(content, model.layout, matrix.reviews[row])
                balanced[row] = gate.read_loss(content, gate.BALANCED_LOSS, channel.loss_floor)
                review_norms[row] = norm
            except gate.Rejected as reason:
                unreviewed[ask.silo] = str(reason)

        def settle(outcome: Outcome) -> None:
            self._leave_out(outcome)
            if channel.finder is not None:
                losses[:] = np.nan
                for silo, loss in channel.finder.settle(outcome).items():
                    losses[rows[silo.node_id]] = loss
                self._channel = replace(channel, loss_key=channel.finder.key or "")

        outcome = self._exchange(1, asks, model, receive, settle)
        self.unreviewed = unreviewed
        self._tell_unreviewed(unreviewed)
        outcome.answered = roster.ordered(roster.silo(silo.node_id) for silo in outcome.answered)
        order = [rows[silo.node_id] for silo in outcome.answered]
        matrix.arrange(order)
        m = len(order)
        numbers = losses[order], norms[order], sizes[order]
        reviews = (matrix.reviews[:m] if reviewed else None), review_norms[order], balanced[order]
        self.replies = Replies(outcome.answered, matrix.updates[:m], matrix.buffers[:m], *numbers, outcome, *reviews)

    def _leave_out(self, outcome: Outcome) -> None:
        """Takes those out that sit out, as is known since they said who they are: under a node's id nobody knew them.

        A server that goes on with a simulation meets every silo under another node id.
        """
        if self._channel.able is None:
            return
        roster = self._channel.roster
        able = {silo.node_id for silo in self._channel.able([roster.silo(silo.node_id) for silo in self.asked.silos])}
        left_out = {silo for silo in self.asked.silos if silo.node_id not in able}
        for silo in left_out:
            _log.info("round %s: %s was asked before it said who it is, and sits out", self.server_round, silo)
            outcome.leave_out(silo)
        silos, pool = ([silo for silo in part if silo not in left_out] for part in (self.asked.silos, self.asked.pool))
        self.asked = replace(self.asked, silos=silos, pool=pool)

    def second(self, model: Model, asked: Mask, wanted: Mask, receive: Receive) -> Outcome:
        """Sends the trial model to the m silos of exchange 1.

        Args:
            model: The trial model.
            asked: Who is asked for its update, (m,); the others are asked for their loss alone.
            wanted: Whose update is read, (m,).
            receive: Called with each usable reply; the update is overwritten by the next one.

        Returns:
            What became of every silo asked.
        """
        channel = self._channel
        rows = {silo.node_id: row for row, silo in enumerate(self.replies.silos)}
        update = np.empty_like(model.parameters)

        def read(ask: Ask, content: RecordDict) -> None:
            row = rows[ask.silo.node_id]
            loss = gate.read_loss(content, channel.loss_key, channel.loss_floor) if channel.loss_key else 0.0
            if wanted[row]:
                receive(row, loss, update, gate.read_update(content, model, update))
            else:
                receive(row, loss, None, 0.0)

        asks = [Ask(silo, "update" if asked[row] else "loss") for row, silo in enumerate(self.replies.silos)]
        return self._exchange(2, asks, model, read)

    def _tell_unreviewed(self, reasons: Mapping[Silo, str]) -> None:
        for silo, reason in reasons.items():
            name = self._channel.roster.silo(silo.node_id).name
            self._channel.on_event(NoReview(round=self.server_round, silo=name, reason=reason))

    def _exchange(
        self,
        number: int,
        asks: Sequence[Ask],
        model: Model,
        receive: Callable[[Ask, RecordDict], None],
        settle: Callable[[Outcome], None] = lambda outcome: None,
    ) -> Outcome:
        channel = self._channel
        config = {**channel.config, "server-round": self.server_round, "exchange": number}
        timeout = channel.trial_timeout if number == 2 and channel.trial_timeout else channel.timeout
        outcome = run_exchange(
            *(channel.grid, asks, model.arrays(), config, receive, timeout),
            names=channel.names,
            with_digests=channel.with_digests,
        )
        settle(outcome)
        self.outcomes.append(outcome)
        for silo, reason in outcome.rejected.items():
            name = channel.roster.silo(silo.node_id).name  # the best one known by now
            channel.on_event(ReplyRejected(round=self.server_round, exchange=number, silo=name, reason=reason))
            _log.warning(
                "round %s, exchange %s: the reply of %s is rejected: %s", self.server_round, number, name, reason
            )
        for silo, reason in outcome.silent.items():
            name = channel.roster.silo(silo.node_id).name
            channel.on_event(NoReply(round=self.server_round, exchange=number, silo=name, reason=reason))
            _log.warning("round %s, exchange %s: %s is silent: %s", self.server_round, number, name, reason)
        return outcome


def without_arrays(content: RecordDict) -> RecordDict:
    """The records of a reply but for its arrays: a few numbers and texts."""
    return RecordDict({key: record for key, record in content.items() if not isinstance(record, ArrayRecord)})
