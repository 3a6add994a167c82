"""What every strategy here shares: the rounds, the matrix of updates, evaluation, and the account of it all."""

import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypedDict

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from numpy.typing import NDArray

from fedlaw_flwr import gate
from fedlaw_flwr.exchange import Ask, Ledger, exchange
from fedlaw_flwr.layout import BATCH_NORM, Layout, Model
from fedlaw_flwr.patience import patiently
from fedlaw_flwr.roster import Roster, Silo
from fedlaw_flwr.strategy.exchanges import Channel, Exchanges, Matrix
from fedlaw_flwr.weighting import fewest_silos

_log = logging.getLogger("flwr")
_TOLD = 5  # of the ways in which a silo's data differ; its own log has them all


Differs = Callable[[Mapping[str, str]], Sequence[str]]
"""What is wrong with what a silo says it learns, by name ("column 'age' is missing"): a sentence each."""


class Shared(TypedDict, total=False):
    """The settings every strategy takes beside its own; `FedLAW` says what each means, `MatrixStrategy` its default."""

    lr: float | None
    max_byzantine: int | float
    num_silos: int
    quorum: int
    loss_key: str
    loss_floor: float | None
    buffers: str
    fraction_train: float
    fraction_evaluate: float
    wait: float
    ledger: Ledger | None
    attackers: frozenset[int]
    differs: Differs | None


class MatrixStrategy(Strategy):
    """A strategy whose exchange 1 fills one preallocated matrix with the silos' updates, a row each.

    Subclasses say in `_round` what the next model is. Memory at its peak, measured (`python -m
    benchmarks.memory`): n + 9 models, payload and one reply included; the 9 are z and a step in float64, the models
    before and after, and their serialised copies.
    """

    def __init__(
        self,
        *,
        lr: float | None = None,
        max_byzantine: int | float = 0.2,
        num_silos: int = 0,
        quorum: int = 0,
        loss_key: str = "loss",
        loss_floor: float | None = 0.0,
        buffers: str = BATCH_NORM,
        fraction_train: float = 1.0,
        fraction_evaluate: float = 0.0,
        wait: float = 60.0,
        ledger: Ledger | None = None,
        attackers: frozenset[int] = frozenset(),
        differs: Differs | None = None,
    ) -> None:
        if fraction_train != 1.0:
            raise ValueError(
                f"fraction_train={fraction_train}: every silo is needed in every round, so only 1.0 is allowed"
            )
        if not 0.0 <= fraction_evaluate <= 1.0:
            raise ValueError(f"fraction_evaluate={fraction_evaluate}: must be in [0, 1]")
        if lr is not None and not 0 < lr < float("inf"):
            raise ValueError(f"lr={lr}: the silos' step must be a finite number above 0")
        if isinstance(max_byzantine, bool):
            raise ValueError(f"max_byzantine={max_byzantine}: a count (3) or a fraction of the silos (0.2) is expected")
        if quorum < 0 or num_silos < 0:
            raise ValueError(f"quorum={quorum}, num_silos={num_silos}: numbers of silos are at least 0")
        self.lr, self.max_byzantine, self.num_silos, self.quorum = lr, max_byzantine, num_silos, quorum
        self.loss_key, self.loss_floor, self.buffers = loss_key, loss_floor, buffers
        self.fraction_evaluate, self.wait, self.attackers = fraction_evaluate, wait, attackers
        self._sink: Ledger = ledger or (lambda event: None)
        self._matrix = Matrix()
        self._differs = differs
        self._asked_what: set[int] = set()

    # -- Flower's interface ------------------------------------------------------------------------------------

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Runs num_rounds rounds over the grid and returns Flower's Result, as Flower's own strategies do.

        timeout: seconds an exchange waits for its silos; who has not answered by then is silent for the round.
        train_config goes to the silos in every exchange; evaluate_fn(round, arrays) is called before the first round
        and after each. A round in which too few answer keeps the model. Raises ValueError for settings that cannot
        hold, TimeoutError if the silos needed do not come online.
        """
        train_config = self._train_config(train_config)
        layout = Layout.of(initial_arrays, self.buffers)
        model = layout.split(initial_arrays)
        self.roster = Roster()
        silos = self.roster.wait(grid, self._needed(), self.wait)
        self._asked_what = set()
        self._begin(max(self.num_silos, len(silos)), layout)
        self.summary()
        result = Result(arrays=initial_arrays)
        self._evaluate_centrally(0, initial_arrays, evaluate_fn, result)
        for server_round in range(1, num_rounds + 1):
            self._turn_away(grid, server_round, timeout)
            started = time.monotonic()
            exchanges = Exchanges(self._channel(grid, train_config, timeout), server_round)
            following, report = self._round(exchanges, model)
            held, model = following is None, following or model
            result.arrays = model.arrays()
            self._account(exchanges, report, held, time.monotonic() - started, result)
            self._evaluate_on_silos(grid, server_round, result.arrays, evaluate_config, timeout, result)
            self._evaluate_centrally(server_round, result.arrays, evaluate_fn, result)
        return result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Refused: see `aggregate_train`."""
        self._refuse()

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Refused: a wrapper that calls Flower's hooks would run one exchange of a round, ungated; call `start`."""
        self._refuse()

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Refused: see `aggregate_train`."""
        self._refuse()

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Refused: see `aggregate_train`."""
        self._refuse()

    # -- what a strategy is made of ----------------------------------------------------------------------------

    @abstractmethod
    def _begin(self, n: int, layout: Layout) -> None:
        """Fixes what depends on the number of silos n, and refuses what cannot hold for it."""

    @abstractmethod
    def _round(self, exchanges: Exchanges, model: Model) -> tuple[Model | None, dict[str, Any]]:
        """The next model (None: keep this one) and what the ledger should know of the round."""

    def _needed(self) -> int:
        """How many silos must be online before the first round."""
        if self.num_silos and not self.quorum:
            return self.num_silos
        return max(fewest_silos(self.max_byzantine), self.quorum)

    def _channel(self, grid: Grid, config: ConfigRecord, timeout: float) -> Channel:
        return Channel(
            grid, self.roster, self._matrix, config, timeout, self.loss_key, self.loss_floor, self._sink, self.num_silos
        )

    def _is_honest(self, silos: Sequence[Silo]) -> NDArray[np.bool_]:
        """Who is honest, by the partition each claims: for an experiment's ceiling and oracle, never for a defence."""
        return np.array([self.roster.partition(silo) not in self.attackers for silo in silos], dtype=bool)

    def _train_config(self, config: ConfigRecord | None) -> ConfigRecord:
        """train_config with lr in it. Raises ValueError if it and the strategy name different steps, or none."""
        config = ConfigRecord(dict(config or {}))
        stated = config.get("lr")
        if self.lr is None and stated is None:
            raise ValueError("lr is needed: the strategy turns the silos' displacement into gradients with it")
        if self.lr is not None and stated is not None and float(stated) != float(self.lr):  # type: ignore[arg-type]
            raise ValueError(f"lr={self.lr} in the strategy and lr={stated!r} in train_config: they must be the same")
        self.lr = float(self.lr if stated is None else stated)  # type: ignore[arg-type]
        config["lr"] = self.lr
        return config

    def _refuse(self) -> NoReturn:
        raise RuntimeError(
            f"{type(self).__name__} runs its exchanges itself, in start(). Whatever wraps a strategy through "
            "configure_train and aggregate_train (Flower's differential-privacy wrappers do) would skip the gate and, "
            "with FedLAW, run one exchange of two. Use the silo-side LocalDpMod for privacy"
        )

    # -- who takes part -------------------------------------------------------------------------------------------

    def _turn_away(self, grid: Grid, server_round: int, timeout: float) -> None:
        """Asks each silo, once, what it learns (a query), and turns away those that learn something else.

        Against mistakes, not malice: a silo that says the right thing, or nothing, takes part.
        """
        if self._differs is None:
            return
        silos = patiently(lambda: self.roster.refresh(grid), timeout)
        asks = [Ask(silo) for silo in silos if silo.node_id not in self._asked_what]
        if not asks:
            return
        said: dict[Silo, Mapping[str, str] | None] = {}

        def receive(ask: Ask, content: RecordDict) -> None:
            said[ask.silo] = gate.read_description(content)

        config = {"server-round": server_round, "exchange": 0}
        exchange(grid, asks, ArrayRecord(), config, receive, timeout, MessageType.QUERY)
        for silo in (ask.silo for ask in asks):
            self._asked_what.add(silo.node_id)
            own = said.get(silo)
            where = {"round": server_round, "silo": silo.name}
            if own is None:
                self._sink({"kind": "unseen", **where, "reason": "it does not say what it learns"})
            elif wrong := self._differs(own):
                self.roster.turn_away(silo)
                reason = "; ".join(wrong[:_TOLD]) + (f"; and {len(wrong) - _TOLD} more" if len(wrong) > _TOLD else "")
                self._sink({"kind": "turned-away", **where, "reason": reason})
                _log.warning("%s learns something else and takes no part: %s", silo, reason)

    # -- evaluation and the account ----------------------------------------------------------------------------

    def _account(
        self, exchanges: Exchanges, report: Mapping[str, Any], held: bool, seconds: float, result: Result
    ) -> None:
        outcomes = exchanges.outcomes
        sums = {
            "seconds": seconds,
            "bytes-down": sum(o.bytes_down for o in outcomes),
            "bytes-up": sum(o.bytes_up for o in outcomes),
        }
        self._sink(
            {
                "kind": "round",
                "round": exchanges.server_round,
                "held": held,
                **sums,
                "exchanges": [
                    {
                        "answered": len(o.answered),
                        "rejected": len(o.rejected),
                        "silent": len(o.silent),
                        "bytes-down": o.bytes_down,
                        "bytes-up": o.bytes_up,
                        "seconds": o.seconds,
                    }
                    for o in outcomes
                ],
                **report,
            }
        )
        if held:
            _log.warning("round %s: the model is held: %s", exchanges.server_round, report.get("reason", ""))
        result.train_metrics_clientapp[exchanges.server_round] = MetricRecord(
            {
                **sums,
                "exchanges": len(outcomes),
                "answered": len(outcomes[-1].answered),
                "held": int(held),
                **({"loss": float(np.median(report["losses"]))} if report.get("losses") else {}),
            }
        )

    def _evaluate_centrally(
        self,
        server_round: int,
        arrays: ArrayRecord,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None,
        result: Result,
    ) -> None:
        metrics = evaluate_fn(server_round, arrays) if evaluate_fn else None
        if metrics is not None:
            result.evaluate_metrics_serverapp[server_round] = metrics
            self._sink({"kind": "evaluate", "round": server_round, **dict(metrics)})
            _log.info("round %s: %s", server_round, dict(metrics))

    def _evaluate_on_silos(
        self,
        grid: Grid,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord | None,
        timeout: float,
        result: Result,
    ) -> None:
        """The median over silos of every finite number they report: no claim of size gives a silo more of a say."""
        silos = patiently(lambda: self.roster.refresh(grid), timeout) if self.fraction_evaluate else []
        asks = [Ask(silo) for silo in silos[: round(self.fraction_evaluate * len(silos))]]
        if not asks:
            return
        reported: dict[str, dict[str, float]] = {}

        def receive(ask: Ask, content: RecordDict) -> None:
            for key, value in gate.read_metrics(content).items():
                reported.setdefault(key, {})[self.roster.silo(ask.silo.node_id).name] = value

        sent = {**(config or {}), "server-round": server_round, "exchange": 0}
        exchange(grid, asks, arrays, sent, receive, timeout, MessageType.EVALUATE)
        # What fewer than half of them report is some silo's invention, not a metric of the federation.
        common = {key: by_silo for key, by_silo in reported.items() if 2 * len(by_silo) >= len(asks)}
        medians: dict[str, Any] = {key: float(np.median(list(by_silo.values()))) for key, by_silo in common.items()}
        if medians:
            result.evaluate_metrics_clientapp[server_round] = MetricRecord(medians)
            self._sink({**medians, "kind": "silo-evaluation", "round": server_round, "by-silo": common})
