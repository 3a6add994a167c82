"""A rule as a federation runs it: its condition checked, thresholds converted, buckets drawn, its memory kept."""

import math
from dataclasses import replace

import numpy as np

from fedlaw_flwr.core.blocks import Floats, Vector
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.sampling import enough_asked, first_that
from fedlaw_flwr.core.seeding import generator
from fedlaw_flwr.core.state import State
from fedlaw_flwr.rules.bucketing import bucket_mixing
from fedlaw_flwr.rules.interface import MAJORITY, Aggregate, Call, Rows, Rule, RuleSettings
from fedlaw_flwr.rules.matrix import Mask, check_form, check_matrix, mix
from fedlaw_flwr.rules.nnm import neighbour_mixing
from fedlaw_flwr.rules.registry import RULES


class Aggregator:
    """One rule, with its pre-aggregations, over the rounds of a run.

    With both pre-aggregations, buckets are formed first and mixed after, an order of our own choice. Bucketing lowers
    the variance of honest rows because a bucket is a mean of independent ones, whatever robust rule stands behind it.
    Its paper proves Krum, RFA and the median; NNM with a rule is one such rule. Mixed first, the honest rows would be
    near copies of one another: a bucket would average nothing while its attackers' share grew.

    Args:
        name: The rule, a key of `RULES`.
        settings: The rule's numbers, thresholds in units of g.
        scale: alpha in delta = alpha g, if the matrices handed in hold deltas; 1 if they hold pseudo-gradients. It is
            the one place where thresholds leave units of g. Default: 1.

    Attributes:
        scale: As in the arguments; may be set anew when alpha changes.
        center: (d,), the one thing carried from round to round: CClip's last result, in units of g; None before it.
    """

    def __init__(self, name: str, settings: RuleSettings, scale: float = 1.0) -> None:
        self.name, self.settings, self.scale = name, settings, scale
        self.center: Vector | None = None
        self._rule = _rule_named(name)

    def __call__(
        self, updates: Floats, round_number: int, honest: Mask | None = None, sizes: Vector | None = None
    ) -> Aggregate:
        """The aggregate of updates, its weights and kept rows given for the rows of updates.

        Memory: a second matrix of n/bucket_size rows under bucketing, and of as many again under NNM.

        Args:
            updates: (n, d), one update a row.
            round_number: The round; buckets come from (seed, round_number).
            honest: (n,), who is honest; read by `ideal` only.
            sizes: (n,), the examples each silo claims; read by `fedavg` under a size_cap only.

        Returns:
            The aggregate. A row is kept if anything it went into was.

        Raises:
            ValueError: Where `check` does, judged by the rows present; the centre is then unchanged.
        """
        check_form(updates)
        n = updates.shape[0]
        check(self.name, n, self.settings)
        settings = _in_units_of_updates(self.settings, self.scale)
        rows, mixing = updates, None
        if settings.bucket_size > 1 or settings.nnm:
            check_matrix(updates)  # rows that are mixed could not be named
        if settings.bucket_size > 1:
            mixing = bucket_mixing(n, settings.bucket_size, generator(settings.seed, "rule", round_number))
            rows = mix(mixing, updates)
        if settings.nnm:
            neighbours = neighbour_mixing(rows, settings.f)
            rows = mix(neighbours, rows)
            mixing = neighbours if mixing is None else neighbours @ mixing
        center = None if self.center is None else self.center * self.scale
        result = self._rule.run(rows, Call(settings, center, honest, sizes))
        if self._rule.remembers:
            self.center = result.update.astype(np.float64) / self.scale
        return result if mixing is None else _back_to_rows(result, mixing)

    def state(self) -> State:
        """See `core.state`."""
        return State(arrays={} if self.center is None else {"center": self.center.copy()})

    def restore(self, state: State) -> None:
        """See `core.state`."""
        center = state.arrays.get("center")
        self.center = None if center is None else np.array(center, np.float64)


def check(name: str, n: int, settings: RuleSettings) -> None:
    """Checks that rule name may run on n silos with these settings.

    The paper's condition is judged by the rows the rule sees, ceil(n / bucket_size), with f unchanged: f silos spoil f
    buckets at most. beyond_guarantee lifts the condition down to where the rule's formula still has a value.

    Args:
        name: The rule, a key of `RULES`.
        n: How many silos there are.
        settings: The rule's numbers.

    Raises:
        ValueError: If the rule may not run; the message holds the numbers.
    """
    rule = _rule_named(name)
    f, size = settings.f, settings.bucket_size
    if n < 1:
        raise InputError(f"n={n}: there is nothing to aggregate")
    if f >= n:
        raise InputError(f"f={f} of n={n} silos: at least one must be honest")
    if size > n:
        raise InputError(f"bucket_size={size}: a bucket holds 1 to n={n} updates")
    if rule.simulated and (size > 1 or settings.nnm):
        raise InputError(f"{name} knows who is honest and takes no bucketing or NNM: set bucket_size=1 and nnm=false")
    rows = -(-n // size)
    there = f"there are {n}" if size == 1 else f"{n} silos in buckets of {size} make {rows}"
    _check_rows(name, rule.defined, rows, f, there, "")
    if not settings.beyond_guarantee:
        hint = ", or set beyond_guarantee=true to run it without its proof"
        _check_rows(name, rule.guarantee, rows, f, there, hint)
        if settings.nnm:
            _check_rows("nnm", MAJORITY, rows, f, there, hint)
    _check_own_numbers(name, rows, settings)


def holds(name: str, n: int, settings: RuleSettings) -> bool:
    """Whether `check` lets rule name run on n silos."""
    try:
        check(name, n, settings)
    except InputError:
        return False
    return True


def check_fraction(name: str, fraction: float, n: int, settings: RuleSettings) -> None:
    """Checks that rule name may run on the silos asked in a round. f stays: all attackers may be among them.

    Args:
        name: The rule, a key of `RULES`.
        fraction: The share of the silos that is asked in a round.
        n: How many silos there are.
        settings: The rule's numbers.

    Raises:
        InputError: If too few are asked; the text has the least fraction that would do.
    """
    f = settings.f
    needed = max(2 * f + 2, first_that(lambda m: holds(name, m, settings), n))
    enough_asked(fraction, n, needed, f"2f+2 and what {name} needs with f={f}, all of whom may be among them")


def _check_rows(name: str, needs: Rows, rows: int, f: int, there: str, hint: str) -> None:
    if rows >= needs.least(f):
        return
    most = max((g for g in range(f) if rows >= needs.least(g)), default=None)
    remedy = "add silos" if most is None else f"lower f to at most {most}"
    raise InputError(f"{name} with f={f} needs n >= {needs.text} = {needs.least(f)} rows, but {there}: {remedy}{hint}")


def _check_own_numbers(name: str, rows: int, settings: RuleSettings) -> None:
    """The settings only one rule reads, against the rows it sees."""
    if settings.size_cap and name != "fedavg":
        raise InputError(f"size_cap={settings.size_cap}: only fedavg weighs silos by size; set it to 0 for {name}")
    if settings.size_cap and (settings.bucket_size > 1 or settings.nnm):
        raise InputError(f"size_cap={settings.size_cap} takes no bucketing or NNM: set bucket_size=1 and nnm=false")
    f, m, pool, beyond = settings.f, settings.krum_m, settings.bulyan_pool, settings.beyond_guarantee
    if name == "multi_krum" and m is not None and m > (rows if beyond else rows - f):
        raise InputError(f"krum_m={m}: of {rows} rows with f={f}, at most n - f = {rows - f} can be without attackers")
    if name != "bulyan":
        return
    inner, average = settings.bulyan_inner, settings.bulyan_average
    if not beyond and (pool, inner, average) != (None, None, None):
        raise InputError(
            f"bulyan_pool={pool}, bulyan_inner={inner}, bulyan_average={average}: Bulyan's proof fixes them, at "
            "n - 2f, r - f - 2 of r rows and n - 4f; leave them unset, or set beyond_guarantee=true"
        )
    if pool is None and rows - 2 * f < 1:
        raise InputError(f"bulyan with f={f} of {rows} rows selects n-2f = {rows - 2 * f}: lower f or set bulyan_pool")
    if pool is not None and pool > rows:
        raise InputError(f"bulyan_pool={pool}: Bulyan selects from {rows} rows")
    selected = rows - 2 * f if pool is None else pool
    if average is not None and average > selected:
        raise InputError(f"bulyan_average={average}: Bulyan averages at most the {selected} rows it selects")


def _rule_named(name: str) -> Rule:
    if name not in RULES:
        raise InputError(f"there is no rule {name!r}; the rules are {', '.join(RULES)}")
    return RULES[name]


def _in_units_of_updates(settings: RuleSettings, scale: float) -> RuleSettings:
    """Settings with every threshold times scale: delta = scale g, so lengths of g are lengths of delta / scale."""
    if not (math.isfinite(scale) and scale > 0):
        raise InputError(f"scale={scale}: alpha must be a finite number above 0")
    return replace(
        settings,
        cclip_tau=settings.cclip_tau * scale,
        rfa_nu=settings.rfa_nu * scale,
        huber_threshold=settings.huber_threshold * scale,
    )


def _back_to_rows(result: Aggregate, mixing: Vector) -> Aggregate:
    """The aggregate with weights and kept given for the rows that mixing made the rule's rows of."""
    weights = None if result.weights is None else result.weights @ mixing
    kept = None if result.kept is None else np.count_nonzero(mixing[result.kept], axis=0) > 0
    return Aggregate(result.update, weights, kept)
