"""What every strategy here shares: the rounds, the matrix of updates, evaluation, and the events."""

import logging
import math
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from numpy.typing import NDArray

from fedlaw_flwr.checkpoints.resuming import differences
from fedlaw_flwr.checkpoints.store import Checkpoint, Checkpoints
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.setting import check_settings, setting
from fedlaw_flwr.core.simplex import byzantine_count, fewest_silos
from fedlaw_flwr.core.state import Stateful, gathered, restore_all
from fedlaw_flwr.events.folder import RunFailed
from fedlaw_flwr.events.orders import PARDON, REMOVE, Order
from fedlaw_flwr.events.types import (
    Evaluated,
    Event,
    ExchangeTotals,
    NoReview,
    OnEvent,
    RoundEnded,
    Warned,
)
from fedlaw_flwr.protocol import gate
from fedlaw_flwr.protocol.attendance import Attendance
from fedlaw_flwr.protocol.exchange import Ask, run_exchange
from fedlaw_flwr.protocol.layout import Layout, Model
from fedlaw_flwr.protocol.legacy import RecordNames
from fedlaw_flwr.protocol.loss_key import LossFinder
from fedlaw_flwr.protocol.model_findings import findings_of, not_learned
from fedlaw_flwr.protocol.retry import retried
from fedlaw_flwr.protocol.roster import Roster, Silo
from fedlaw_flwr.protocol.round import Channel, Matrix, RoundExchanges, without_arrays
from fedlaw_flwr.protocol.text import single_line
from fedlaw_flwr.strategy.account import Account, RunResult, VerdictTable, account_of, verdict_on
from fedlaw_flwr.strategy.callbacks import OnRoundEnd, RoundDone, all_of
from fedlaw_flwr.strategy.evidence import PART, Evidence, evidence_of
from fedlaw_flwr.strategy.metrics import agreeing, carriers
from fedlaw_flwr.strategy.options import ServerOptions
from fedlaw_flwr.strategy.participation import CheckTask, Orders, Participation
from fedlaw_flwr.strategy.progress import Progress
from fedlaw_flwr.strategy.silo_metrics import evaluation, weights_in
from fedlaw_flwr.strategy.stuck import mend, shared_reason

_log = logging.getLogger("flwr")

Configure = Callable[[int, ConfigRecord], Mapping[str, Any] | None]
"""(round, a copy of train_config) -> what goes to the silos in this round; None: the copy, as it was changed."""

AggregateMetrics = Callable[[list[RecordDict], str], MetricRecord]
"""(records of the replies, `weighted_by_key`) -> one MetricRecord, as Flower's strategies have it."""


class TooFewSilos(RunFailed):
    """A run ended before its last round because too few silos still take part.

    Attributes:
        result: The run so far, with the model of the last round that moved it.
    """

    def __init__(self, reason: str, result: Result) -> None:
        super().__init__(reason)
        self.result = result


@dataclass(kw_only=True, eq=False, repr=False)
class MatrixStrategy(ServerOptions, Strategy):
    """A strategy whose exchange 1 fills one preallocated matrix with the silos' updates, a row each.

    Subclasses say in `_round` what the next model is. Memory at its peak, measured (`python -m benchmarks.memory`), is
    about n + 9 models: the initial model, which the caller holds; the model and the trial model, each with its
    serialised copy; z; the update being decoded; one reply.
    """

    lr: float | None = setting(
        None,
        "alpha, the step of the silos' local training; None: `lr` of train_config or, where that has none, a scale "
        "that FedLAW finds in the first round",
        above=0,
    )
    num_silos: int = setting(0, "how many silos there are; 0: those online at the start", least=0, unit="silos")
    loss_key: str | None = setting(
        None,
        "the name under which a reply's metrics have the loss; None: `loss`, `train_loss`, `train-loss`, or the one "
        'metric with "loss" in its name, whichever all silos but b send',
    )
    arrayrecord_key: str = setting("arrays", "the name under which a message to a silo has the model")
    configrecord_key: str = setting("config", "the name under which a message to a silo has the config")
    weighted_by_key: str = setting(
        "num-examples", "the metric that train_metrics_aggr_fn and evaluate_metrics_aggr_fn are told to weigh by"
    )
    min_train_nodes: int = setting(2, "fewest silos online before the first round", least=0, unit="silos")
    min_available_nodes: int = setting(2, "fewest silos online before the first round", least=0, unit="silos")
    min_evaluate_nodes: int = setting(
        2, "fewest silos that measure each model, where fraction_evaluate is above 0", least=0, unit="silos"
    )
    seed: int = setting(0, "names the samples of silos where fraction_train is below 1", least=0)
    fraction_evaluate: float = setting(
        0.0, "the share of silos that measure each model on examples of their own", least=0, most=1
    )
    on_event: OnEvent | None = None
    attackers: frozenset[int] = frozenset()
    check_task: CheckTask | None = None
    on_round_end: OnRoundEnd | Sequence[OnRoundEnd] | None = None
    configure: Configure | None = None
    train_metrics_aggr_fn: AggregateMetrics | None = None
    evaluate_metrics_aggr_fn: AggregateMetrics | None = None
    run_dir: str | Path | None = None
    checkpoint: str | Path | Checkpoints | None = None
    ledger_dir: str | Path | None = None
    orders_in: str | Path | None = None
    _matrix: Matrix = field(init=False)
    _finder: LossFinder | None = field(default=None, init=False)
    _account: Account = field(default_factory=Account, init=False)
    _progress: Progress = field(init=False)
    _participation: Participation = field(init=False)
    _evidence: Evidence = field(default_factory=Evidence, init=False)
    _shares: Mapping[str, float] | None = field(default=None, init=False)
    _unreviewed: Counter[tuple[str, str]] = field(default_factory=Counter, init=False)
    _step: float | None = field(default=None, init=False)
    _most: int = field(default=0, init=False)  # b at the start
    _orders: Orders = field(default_factory=Orders, init=False)

    def __post_init__(self) -> None:
        check_settings(self)
        self._matrix = Matrix(self.matrix_in)

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
        *,
        resume: bool = False,
        resume_changed: bool = False,
    ) -> Result:
        """Runs the rounds over the grid and returns Flower's Result, as Flower's own strategies do.

        A round in which too few silos answer keeps the model. `TooFewSilos` has the result so far.

        Args:
            grid: Flower's grid, through which messages go.
            initial_arrays: The state dict of the model that the first round begins from.
            num_rounds: How many rounds to run. Default: 3.
            timeout: Seconds that an exchange waits for its silos. A silo that has not answered by then is silent for
                the round. Default: 3600.
            train_config: What goes to the silos in every exchange. Default: None.
            evaluate_config: What goes to the silos that measure the model. Default: None.
            evaluate_fn: Called as evaluate_fn(round, arrays) before the first round, as round 0, and after each round.
                Default: None.
            resume: Goes on from the newest usable checkpoint in the folder that `checkpoint` names, with what the run
                was started with; begins the run where there is none yet. Default: no, and a folder that holds a run is
                left alone.
            resume_changed: With resume: whether settings that differ from the run's are meant to. Default: no.

        Raises:
            ValueError: For settings that cannot hold, and where several metrics may be the loss; with resume, where
                settings differ or no checkpoint can be used.
            FileExistsError: If the folder already holds a run, and it is not to be resumed.
            RunFailed: If no round moved the model, or if in the first round all silos but b were set aside for one
                reason; the text has the reason and what to do about it. As `TooFewSilos`, if too few silos still take
                part.
            TimeoutError: If the silos needed do not come online.
        """
        told = {"num-rounds": num_rounds, "timeout": timeout}
        with (
            account_of(self, told, dict(train_config or {}), resume, resume_changed) as self._account,
            evidence_of(self._ledger_folder(), self.server_key, self._account.store) as self._evidence,
        ):
            return self._run(
                grid, initial_arrays, num_rounds, timeout, train_config, evaluate_config or ConfigRecord(), evaluate_fn
            )

    def verdict(self) -> VerdictTable:
        """What became of each silo in the run of the last `start()`, or so far: a table that prints itself."""
        return verdict_on(self._account.run)

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

    def _run(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int,
        timeout: float,
        train_config: ConfigRecord | None,
        evaluate_config: ConfigRecord,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None,
    ) -> Result:
        store = self._account.store
        train_config = self._train_config(train_config)
        first = self._prepare(grid, initial_arrays, timeout, evaluate_fn)
        progress, result = self._progress, self._progress.result
        for server_round in range(first, num_rounds + 1):
            if progress.stopped:
                break
            if store is not None:
                store.begin(server_round)
            if self.check_task is not None:
                self._participation.check_tasks(self.check_task, grid, server_round, timeout)
            if lacking := self._participation.gather(grid, server_round, timeout):
                self._conclude(result)
                raise TooFewSilos(f"the run ends before round {server_round}: {lacking}", result)
            started = time.monotonic()
            config = self._configured(train_config, server_round)
            exchanges = RoundExchanges(self._channel(grid, config, timeout), server_round)
            following, account = self._round(exchanges, progress.model)
            progress.model = following or progress.model
            result.arrays = progress.model.arrays()
            ended = self._tell(exchanges, account, following is None, time.monotonic() - started, result)
            self._participation.note(exchanges)
            progress.moved, progress.last = progress.moved or following is not None, ended.reason or ""
            self._check_moved(exchanges)
            self._evaluate_on_silos(grid, server_round, result.arrays, evaluate_config, timeout, result)
            self._evaluate_centrally(server_round, result.arrays, evaluate_fn, result)
            if stopped := self._call_back(ended, result):
                _log.info("The run ends after round %s: %s", server_round, stopped)
                progress.stopped = stopped
            self._keep(server_round)
        if num_rounds > 0 and not progress.moved:
            raise RunFailed(f"none of {num_rounds} rounds moved the model; in the last, {progress.last}")
        self._conclude(result)
        return result

    def _prepare(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        timeout: float,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None,
    ) -> int:
        """Waits for the silos and makes what the rounds need, or knows it again; returns the first round to run."""
        store = self._account.store
        resumed = store.resumed if store else None
        layout = Layout.of(initial_arrays, self.buffers)
        self._look_at(layout, initial_arrays, aloud=resumed is None)
        self.roster = Roster()
        self.attendance = Attendance(self.strikes, self.fraction_train, self.seed)
        place = self.orders_in or self._own_folder()
        self._participation = Participation(
            options=self,
            roster=self.roster,
            attendance=self.attendance,
            orders=self._orders,
            orders_folder=Path(place).expanduser() if place else None,
            size=lambda: self._size,
            fewest=self._fewest,
            resize=self._resized,
            say=self._say,
        )
        result = RunResult(arrays=initial_arrays)
        self._progress = progress = Progress(0, layout.split(initial_arrays), result, self._step)
        if resumed is not None:
            restore_all(MatrixStrategy._parts(self), resumed.state.split(*MatrixStrategy._parts(self))[0])
        settle = 0.0 if getattr(grid, "all_present", False) else 2.0
        silos = self.roster.wait(grid, self._needed(), self.startup_timeout, settle)
        self.attendance.arrived(silos)
        progress.n = progress.n or max(self.num_silos, len(silos))
        self._begin(progress.n, layout)
        self._most = byzantine_count(self.max_byzantine, progress.n)
        self._finder = None if self.loss_key else LossFinder(self._most, self._loss_floor, self._needs_loss)
        self._evidence.reach(grid, self.roster, timeout)
        self._unreviewed.clear()
        self._shares = None
        self.summary()
        if resumed is None:
            self._account.begin(progress.n)
            self._evaluate_centrally(0, initial_arrays, evaluate_fn, result)
            self._keep(0)
            return 1
        self._go_on(resumed)
        result.arrays = progress.model.arrays()
        return resumed.round + 1

    def _check_moved(self, exchanges: RoundExchanges) -> None:
        """Notes why no round has moved the model so far, where that is for one reason; in round 1, raises RunFailed."""
        progress = self._progress
        if progress.moved:
            return
        shared = shared_reason(exchanges.outcomes[0], self._most, exchanges.unreviewed)
        if shared is None:
            return
        reason, count, asked = shared
        mended = f"{reason}{mend(reason, self.loss_key)}"
        progress.last = f"{count} of {asked} silos are set aside for one reason: {mended}"
        if exchanges.server_round == 1:
            raise RunFailed(f"round 1 did not move the model: {progress.last}")

    def _conclude(self, result: RunResult) -> None:
        """Says what is left to say, saves the model and judges the silos."""
        self._tell_unreviewed()
        self._account.save(result.arrays)
        result.verdict = self.verdict()

    def _ledger_folder(self) -> str | Path | None:
        """The folder of the ledger: that of the run, unless somebody else writes it."""
        return self.ledger_dir or self._own_folder()

    def _own_folder(self) -> str | Path | None:
        """The run folder, where this strategy is the one to write it."""
        return self.run_dir or (None if isinstance(self.checkpoint, Checkpoints) else self.checkpoint)

    def _parts(self) -> dict[str, Stateful]:
        """The parts of the server that live on from round to round, by name: what a checkpoint has."""
        return {
            "progress": self._progress,
            "roster": self.roster,
            "attendance": self.attendance,
            "told": self._orders,
            PART: self._evidence,
        }

    def _keep(self, server_round: int) -> None:
        """Writes the checkpoint of a round that is over."""
        if self._account.store is not None:
            self._progress.step, self._progress.loss_key = self._step, self._finder.key if self._finder else None
            self._account.store.save(server_round, gathered(self._parts()))

    def _go_on(self, checkpoint: Checkpoint) -> None:
        """Knows again the rest of what the server knew when it wrote this checkpoint."""
        shared = MatrixStrategy._parts(self)  # known already: the rest was made for as many silos as there were
        restore_all(
            {name: part for name, part in self._parts().items() if name not in shared},
            checkpoint.state.split(*shared)[1],
        )
        if self._finder is not None:
            self._finder.key = self._progress.loss_key
        step = self._progress.step if self._step is None else self._step  # what train_config says now comes first
        if step is not None:
            self._rescale(step)
        assert self._account.store is not None
        if "num-rounds" in differences(checkpoint.settings, self._account.store.settings):
            self._progress.stopped = None

    def _call_back(self, ended: RoundEnded, result: Result) -> str | None:
        """Calls `on_round_end`; returns why the run is to end, where one of them says so."""
        done = RoundDone(
            ended,
            result.arrays,
            result.evaluate_metrics_serverapp.get(ended.round, {}),
            result.evaluate_metrics_clientapp.get(ended.round, {}),
            result.train_metrics_clientapp[ended.round],
        )
        for callback in all_of(self.on_round_end):
            callback(done)
        return done.stopped

    # -- what a strategy is made of ----------------------------------------------------------------------------

    @abstractmethod
    def _begin(self, n: int, layout: Layout) -> None:
        """Fixes what depends on the number of silos n, and refuses what cannot hold for it."""

    @abstractmethod
    def _round(self, exchanges: RoundExchanges, model: Model) -> tuple[Model | None, dict[str, Any]]:
        """The next model (None: keep this one) and what the round's event says beside the totals, by field name."""

    @abstractmethod
    def _resize(self, n: int) -> int:
        """Takes another number of silos; returns b. Raises InputError where the settings cannot hold for it."""

    @abstractmethod
    def _fewest(self) -> int:
        """With how many usable replies a round can move the model at best; those that sit out are known."""

    @property
    @abstractmethod
    def _size(self) -> tuple[int, int]:
        """n and b."""

    def _needed(self) -> int:
        """How many silos must be online before the first round."""
        least = max(self.min_train_nodes, self.min_available_nodes)
        if self.num_silos and not self.quorum:
            return max(self.num_silos, least)
        return max(fewest_silos(self.max_byzantine), self.quorum, least)

    def _channel(self, grid: Grid, config: ConfigRecord, timeout: float) -> Channel:
        finder = self._finder
        config = ConfigRecord({**config, **self._evidence.sent()})
        known = self.loss_key or (finder.key if finder else None) or ""
        return Channel(
            *(grid, self.roster, self._matrix, config, timeout, known, self._loss_floor, self._say, self.num_silos),
            finder=None if known else finder,
            names=self._names,
            keeps_records=self.train_metrics_aggr_fn is not None,
            with_digests=bool(self._evidence),
            ask=lambda server_round, online: self.attendance.ask(
                server_round, online, max(self._fewest(), self.quorum, self.min_train_nodes)
            ),
            able=self.attendance.able,
            trial_timeout=self.trial_timeout,
        )

    @property
    def _names(self) -> RecordNames:
        return RecordNames(self.arrayrecord_key, self.configrecord_key)

    @property
    def _needs_lr(self) -> bool:
        """Whether thresholds in units of g need the step with which silos train."""
        return True

    @property
    def _needs_loss(self) -> bool:
        """Whether a silo that reports no loss is of no use. No rule but FedLAW reads losses."""
        return False

    @property
    def _loss_floor(self) -> float | None:
        """The least loss a reply may have; None: any, since no rule but FedLAW reads losses."""
        return None

    @property
    def _alpha(self) -> float:
        assert self._step is not None
        return self._step

    def _is_honest(self, silos: Sequence[Silo]) -> NDArray[np.bool_]:
        """Who is honest, by the partition each claims: for an experiment's ceiling and oracle, never for a defence."""
        return np.array([self.roster.partition(silo) not in self.attackers for silo in silos], dtype=bool)

    def _configured(self, config: ConfigRecord, server_round: int) -> ConfigRecord:
        """What goes to the silos in this round: train_config as `configure` changes it. Its lr is the round's alpha."""
        if self.configure is None:
            return config
        own = ConfigRecord(dict(config))
        changed = self.configure(server_round, own)
        own = own if changed is None else ConfigRecord(dict(changed))
        lr = own.get("lr")
        if lr is None and config.get("lr") is None:
            return own
        if isinstance(lr, bool) or not isinstance(lr, int | float) or not 0 < lr < math.inf:
            raise InputError(f"configure: lr={lr!r} in round {server_round}; a finite number above 0 is expected")
        self._rescale(float(lr))
        return own

    def _rescale(self, alpha: float) -> None:
        """Takes alpha, the step of the silos' local training, of the round that comes."""
        self._step = alpha

    def _train_config(self, config: ConfigRecord | None) -> ConfigRecord:
        """train_config with lr in it, if one is known. Raises ValueError if it and the strategy name two steps."""
        config = ConfigRecord(dict(config or {}))
        stated = config.get("lr")
        if self.lr is None and stated is None:
            if self._needs_lr:
                raise InputError(
                    "lr is needed, the step of the clients' local training: give it to the strategy (lr=0.1) or to the "
                    "clients in train_config; FedLAW alone does without"
                )
            self._step = None
            return config
        if self.lr is not None and stated is not None and float(stated) != float(self.lr):  # type: ignore[arg-type]
            raise InputError(f"lr={self.lr} in the strategy and lr={stated!r} in train_config: they must be the same")
        self._step = float(self.lr if stated is None else stated)  # type: ignore[arg-type]
        config["lr"] = self._step
        return config

    def _refuse(self) -> NoReturn:
        raise RuntimeError(
            f"{type(self).__name__} runs its exchanges itself, in start(). Whatever wraps a strategy through "
            "configure_train and aggregate_train (Flower's differential-privacy wrappers do) would skip the gate and, "
            "with FedLAW, run one exchange of two. Use the silo-side LocalDpMod for privacy, and configure=... to "
            "change what silos are sent from round to round, such as lr"
        )

    def _look_at(self, layout: Layout, arrays: ArrayRecord, aloud: bool) -> None:
        """Says what will be done with this model before anything is sent. Raises ValueError for one that is wrong."""
        unlearned = list(not_learned(layout, arrays))
        for finding in findings_of(layout, arrays):
            if finding.kind == "wrong":
                raise InputError(f"the initial model: {finding.what}")
            if finding.what not in unlearned:
                _log.info("The model: %s", finding.what)
        for sentence in unlearned:
            if aloud:  # a resumed run has said so
                self._say(Warned(reason=f"The model: {sentence}"))
            _log.warning("The model: %s", sentence)

    # -- who takes part -------------------------------------------------------------------------------------------

    def pardon(self, silo: str) -> None:
        """Asks this silo again from the next round on, if it sits out.

        Args:
            silo: The name under which events know it.
        """
        self._orders.told.append(Order(PARDON, silo))

    def remove(self, silo: str) -> None:
        """Takes this silo out of the federation before the next round. Nothing else makes n and b smaller.

        Args:
            silo: The name under which events know it.
        """
        self._orders.told.append(Order(REMOVE, silo))

    def _resized(self, n: int) -> int:
        """Goes on with n silos; see `_resize`."""
        b = self._resize(n)
        self._progress.n = n
        return b

    # -- evaluation and the account ----------------------------------------------------------------------------

    def _tell(
        self, exchanges: RoundExchanges, account: Mapping[str, Any], skipped: bool, seconds: float, result: Result
    ) -> RoundEnded:
        outcomes = exchanges.outcomes
        totals = [
            ExchangeTotals(
                answered=len(o.answered),
                rejected=len(o.rejected),
                silent=len(o.silent),
                bytes_down=o.bytes_down,
                bytes_up=o.bytes_up,
                seconds=o.seconds,
            )
            for o in outcomes
        ]
        event = RoundEnded(
            round=exchanges.server_round,
            skipped=skipped,
            seconds=seconds,
            bytes_down=sum(one.bytes_down for one in totals),
            bytes_up=sum(one.bytes_up for one in totals),
            exchanges=tuple(totals),
            asked=self._drawn(exchanges),
            **account,
        )
        self._say(event)
        if not skipped:
            self._shares = weights_in(event)
        self._evidence.tell_round(exchanges, event, self.roster, result.arrays)
        if skipped:
            _log.warning("round %s is skipped, the model stays as it is: %s", event.round, event.reason or "")
        metrics: dict[str, Any] = {
            "seconds": seconds,
            "bytes-down": event.bytes_down,
            "bytes-up": event.bytes_up,
            "exchanges": len(totals),
            "answered": totals[-1].answered,
            "skipped": int(skipped),
            **({"loss": float(np.median(event.losses))} if event.losses else {}),
        }
        if self.train_metrics_aggr_fn is not None and not skipped:
            trusted = carriers(event, [silo.node_id for silo in exchanges.replies.silos])
            records = [exchanges.records[node_id] for node_id in trusted]
            metrics |= self._aggregated("train_metrics_aggr_fn", records)
        result.train_metrics_clientapp[event.round] = MetricRecord(metrics)
        return event

    def _drawn(self, exchanges: RoundExchanges) -> tuple[str, ...] | None:
        """The names of the silos drawn for this round; None where everyone was asked."""
        if self.fraction_train >= 1:
            return None
        return tuple(self.roster.silo(silo.node_id).name for silo in exchanges.asked.silos)

    def _aggregated(self, which: str, records: Sequence[RecordDict]) -> dict[str, Any]:
        """What the function of this name makes of these records; nothing, and a warning, where it fails."""
        alike = agreeing(records)
        try:
            return dict(getattr(self, which)(alike, self.weighted_by_key)) if alike else {}
        except Exception as error:  # replies may hold anything, and no metric is worth the run
            reason = f"{which} failed: {type(error).__name__}: {single_line(error)}"
            self._say(Warned(reason=reason))
            _log.warning("%s", reason)
            return {}

    def _say(self, event: Event) -> None:
        self._account.write(event)
        self._evidence.tell(event)
        if isinstance(event, NoReview):
            self._count_unreviewed(event)
        if self.on_event is not None:
            self.on_event(event)

    def _count_unreviewed(self, event: NoReview) -> None:
        """Logs a silo without a valid review once for each reason; `_tell_unreviewed` says how often it was."""
        self._unreviewed[event.silo, event.reason] += 1
        if self._unreviewed[event.silo, event.reason] == 1:
            _log.warning("round %s: %s has no voice in peer review: %s", event.round, event.silo, event.reason)

    def _tell_unreviewed(self) -> None:
        """Logs at the end in how many rounds each silo had no voice."""
        for (silo, reason), rounds in self._unreviewed.items():
            if rounds > 1:
                _log.warning("%s had no voice in peer review in %s rounds: %s", silo, rounds, reason)

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
            told = dict(metrics)
            classes = told.pop(gate.BY_CLASS, None)
            by_class = None
            if isinstance(classes, list):
                by_class = tuple(round(float(one), 4) if 0 <= one <= 1 else None for one in classes)
            self._say(Evaluated(round=server_round, metrics=told, by_class=by_class))
            _log.info("round %s: %s", server_round, told)

    def _evaluate_on_silos(
        self,
        grid: Grid,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord | None,
        timeout: float,
        result: Result,
    ) -> None:
        """Every finite number that silos report, put together by weight: no claim of size gives a silo a larger say."""
        if not self.fraction_evaluate:
            return
        silos = self.attendance.able(retried(lambda: self.roster.refresh(grid), timeout))
        count = min(len(silos), max(int(self.fraction_evaluate * len(silos)), self.min_evaluate_nodes))
        chosen = np.sort(np.random.default_rng(server_round).permutation(len(silos))[:count])
        asks = [Ask(silos[row]) for row in chosen]
        if not asks:
            return
        reported: dict[str, dict[str, float]] = {}
        classes: dict[str, list[float | None]] = {}
        records: list[RecordDict] = []

        def receive(ask: Ask, content: RecordDict) -> None:
            records.append(without_arrays(content))
            name = self.roster.silo(ask.silo.node_id).name
            for key, value in gate.read_metrics(content).items():
                reported.setdefault(key, {})[name] = value
            if (told := gate.read_by_class(content)) is not None:
                classes[name] = told

        sent = {**(config or {}), **self._evidence.sent(), "server-round": server_round, "exchange": 0}
        patience = self.evaluate_timeout or timeout
        run_exchange(grid, asks, arrays, sent, receive, patience, MessageType.EVALUATE, self._names)
        # What fewer than half of them report is some silo's invention, not a metric of the federation. Nor is
        # num-examples, which Flower's replies carry for its own weighting.
        common = {
            key: by_silo
            for key, by_silo in reported.items()
            if 2 * len(by_silo) >= len(asks) and key.replace("_", "-") not in (gate.NUM_EXAMPLES, self.weighted_by_key)
        }
        event = evaluation(server_round, common, classes, self._shares)
        if common:
            self._say(event)
        metrics: dict[str, Any] = dict(event.metrics)
        if self.evaluate_metrics_aggr_fn is not None:
            metrics = self._aggregated("evaluate_metrics_aggr_fn", records) or metrics
        if metrics:
            result.evaluate_metrics_clientapp[server_round] = MetricRecord(metrics)
