"""What FedLAW needs against forged losses, sleepers and coalitions: `python -m benchmarks.defences final`.

One row a run, appended to a CSV as it ends, so that a killed study goes on where it stopped; then the tables of
docs/defences.md, on validation accuracy. Digits, 20 silos, 26 rounds, of which 20 learn weights: sleepers wake in 21.
"""

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from statistics import mean
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.one_run import ENGINES, events_of
from fedlaw_flwr.attacks import ATTACKS, load_attack
from fedlaw_flwr.attacks.base import Forgery, Situation
from fedlaw_flwr.blocks import Floats, Vector, inner_products
from fedlaw_flwr.guards import raise_low_losses
from fedlaw_flwr.strategy import FedLAW
from fedlaw_flwr.strategy.exchanges import Replies
from fedlaw_flwr.studies.table import Row, opened
from fedlaw_flwr.weighting import Weights, score

TASK = "digits"
WORLDS = ((0.6, 0.2), (0.9, 0.4))
"""q, and the share of attackers, which max-byzantine is told."""
_STRATEGY = "fedlaw_flwr.strategy.fedlaw"
_COALITION, _WATCH, _MEMORY = {"coalition-distance": 0.05}, {"watch": True}, {"memory": 1.0, "beta": 0.001}

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {"coalition-distance": 0.0, "watch": False},
    "coalition": _COALITION,
    "watch": _WATCH,
    "refresh-2": {"refresh-every": 2},
    "always": {"weight-rounds": -1},
    "fence-1": {"loss-fence": 1.0},
    "fence-0": {"loss-fence": 0.0},
    "fedavg": {"strategy": "fedavg"},
    "ideal": {"strategy": "ideal"},
    "watch-anew": _WATCH,
    "warm-5": {"warm-rounds": 5},
    "memory-1": _MEMORY,
    "warm-2": {"warm-rounds": 2},
    "warm-2 memory-1": {"warm-rounds": 2, **_MEMORY},
    "warm-3 memory-1": {"warm-rounds": 3, **_MEMORY},
    "warm-5 memory-1": {"warm-rounds": 5, **_MEMORY},
    "warm-2 memory-1 coalition": {"warm-rounds": 2, **_MEMORY, **_COALITION},
    "s-from-n": {"s-start": 20},
    "trained": {"loss-at": "trained"},
    "trained warm-2 memory-1 coalition": {"loss-at": "trained", "warm-rounds": 2, **_MEMORY, **_COALITION},
    "warm-5 coalition": {"warm-rounds": 5, **_COALITION},
}
"""What each defence sets."""


def momentum(share: float) -> AbstractContextManager[Any]:
    """Scores h averaged over the weight rounds, hbar <- share hbar + (1 - share) h, where the same silos are scored."""
    kept: list[Vector] = []

    def averaged(*args: Any) -> Vector:
        h = score(*args)
        if kept and kept[-1].shape == h.shape:
            h = share * kept[-1] + (1 - share) * h
        kept.append(h)
        return h

    return patch(f"{_STRATEGY}.score", averaged)


def stable(rounds: int) -> AbstractContextManager[Any]:
    """Weights held once the same silos carried weight in so many weight rounds on end, however many that takes."""

    class Held(Weights):
        supports: tuple[frozenset[Any], ...] = ()

        def learns(self, round_number: int) -> bool:
            return len(self.supports) <= rounds or len(set(self.supports[-rounds - 1 :])) > 1

        def learn(self, silos: Sequence[Any], w: Vector, round_number: int) -> None:
            super().learn(silos, w, round_number)
            carriers = frozenset(silo for silo, weight in zip(silos, w, strict=True) if weight > 0)
            self.supports = (*self.supports, carriers)

    return patch(f"{_STRATEGY}.Weights", Held)


def falling(power: float) -> AbstractContextManager[Any]:
    """A smaller step in each weight round: beta / k^power in the k-th, as Robbins and Monro's conditions want it."""
    weight_rounds = count(1)

    def slower(w: Vector, inner: Vector, losses: Vector, alpha: float, beta: float) -> Vector:
        return score(w, inner, losses, alpha, beta / next(weight_rounds) ** power)

    return patch(f"{_STRATEGY}.score", slower)


def anew() -> AbstractContextManager[Any]:
    """With watch: the weight round a turn calls for starts from 1/n for all, carriers or not, as the first one did."""
    turned = FedLAW._turned

    def forgetting(strategy: FedLAW, replies: Replies, w: Vector) -> list[str]:
        if found := turned(strategy, replies, w):
            strategy.weights.learn_again()
        return found

    return patch.object(FedLAW, "_turned", forgetting)


def normalised() -> AbstractContextManager[Any]:
    """The alignment of every silo at the median norm: <d_i, z> median_j |d_j| / |d_i|, so that length earns nothing."""

    def along(rows: Floats, direction: Vector) -> Vector:
        norms = np.linalg.norm(rows.astype(np.float64), axis=1)
        scaled: Vector = inner_products(rows, direction) * np.median(norms) / np.maximum(norms, 1e-30)
        return scaled

    return patch(f"{_STRATEGY}.inner_products", along)


def ranks() -> AbstractContextManager[Any]:
    """Losses replaced by their ranks, spread over three deviations on each side of the median."""

    def ranked(losses: Vector, width: float) -> tuple[Vector, Any]:
        _, low = raise_low_losses(losses, width)
        median = np.median(losses)
        deviation = 1.4826 * np.median(np.abs(losses - median))
        return median + deviation * np.linspace(-width, width, losses.size)[losses.argsort().argsort()], low

    return patch(f"{_STRATEGY}.raise_low_losses", ranked)


CANDIDATES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "momentum-0.9": partial(momentum, 0.9),
    "stable-3": partial(stable, 3),
    "beta/k": partial(falling, 1.0),
    "beta/sqrt(k)": partial(falling, 0.5),
    "watch-anew": anew,
    "normalised": normalised,
    "ranks": ranks,
}
"""Defences that did not earn a setting: put in place here alone, so that their figures can be made again."""


@contextmanager
def jitter(share: float) -> Iterator[None]:
    """Colluders who would send one vector each add noise of their own, |noise| = share |u|, so as not to be alike."""

    def noisy(forge: Callable[[Situation], Forgery], situation: Situation) -> Forgery:
        forged = forge(situation)
        noise = situation.rng.standard_normal(forged.update.size)
        scale = share * np.linalg.norm(forged.update) / np.linalg.norm(noise)
        return replace(forged, update=forged.update + scale * noise)

    with ExitStack() as stack:
        for name in ALIKE:
            attack = load_attack(name)
            assert attack.forge is not None
            changed = replace(attack, forge=partial(noisy, attack.forge))
            stack.enter_context(patch(f"fedlaw_flwr.attacks.{name}.ATTACK", changed))
        yield


SCHEDULES = ("beta/k", "beta/sqrt(k)", "warm-5")
"""Those that change how fast, or from when on, weights are learned."""

ABLATED = (
    *("warm-2", "warm-5", "memory-1", "warm-2 memory-1", "warm-3 memory-1", "warm-5 memory-1", "coalition"),
    *("warm-2 memory-1 coalition", "warm-5 coalition", "trained", "trained warm-2 memory-1 coalition", "s-from-n"),
    *("watch", "always", "stable-3", "momentum-0.9"),
    *("beta/k", "beta/sqrt(k)", "normalised", "ranks", "fence-1", "fence-0"),
)
"""Every change within FedLAW's own framing; the ablation of docs/results.md."""

PAPER = ("none", "label_flipping", "backdoor", "inverse_gradient", "double", "lie")
"""No attackers, and the five attacks of the paper's tables."""

SEEDS, FRESH = (0, 1, 2, 3, 4), (5, 6, 7, 8, 9)
"""What a change is chosen on, and what the choice is tried on."""

ALIKE = ("lie", "min_max", "min_sum", "score_max")
"""Attacks whose colluders all send the same."""

JITTERED: dict[str, tuple[str, float]] = {
    f"{defence} jitter-{share}": (defence, share) for share in (0.03, 0.1) for defence in ("default", "coalition")
}
"""A defence, and what the colluders add to be told apart."""

_SCREENING = (
    *("default", "coalition", "watch", "refresh-2", "always", "fence-1", "fence-0", "fedavg", "ideal", "watch-anew"),
    *("momentum-0.9", "stable-3", "normalised", "ranks"),
)
# Attacks a row of the screening is about; every defence also meets those it is not meant for.
_SCREENED = ("none", "inverse_gradient", "lie", "loss_zero", "sleeper", "sign_flip")
FIELDS = (
    *("task", "attack", "share", "q", "seed", "defence", "validation", "test"),
    *("attackers_weight", "caught", "honest_excluded", "weight_rounds"),
)
Cell = tuple[str, float, float, str, int]


def one(cell: Cell, engine: str) -> list[dict[str, Any]]:
    """One run: its row; and the default's, where the defence under test found nothing to do: that is the same run."""
    from fedlaw_flwr.runs.verdict import verdict

    attack, q, share, defence, seed = cell
    values = {"task": TASK, "num-silos": 20, "num-rounds": 26, "q": q, "byzantine": share, "max-byzantine": share}
    chosen, noise = JITTERED.get(defence, (defence, 0.0))
    values |= {"attack": attack, "seed": seed, **SETTINGS["default"], **SETTINGS.get(chosen, {})}
    changed = jitter(noise) if noise else CANDIDATES.get(defence, nullcontext)()
    with changed:
        events = events_of(values, engine)
    found = verdict(events)
    learned = sum(event.get("phase") == "learned" for event in events if event["kind"] == "round")
    figures = (found.validation_accuracy, found.accuracy, found.mass_on_attackers, found.caught, found.wronged, learned)
    idle = defence in ("coalition", "watch") and not any(e.get("coalitions") or e.get("turned") for e in events)
    names = (defence, "default") if idle else (defence,)
    return [dict(zip(FIELDS, (TASK, attack, share, q, seed, name, *figures), strict=True)) for name in names]


def _means(rows: Sequence[Row], seeds: Sequence[int]) -> dict[tuple[float, str, str], float]:
    """Mean validation accuracy in per cent by q, attack and defence, of those that have a run of every seed."""
    cells: dict[tuple[float, str, str], dict[int, float]] = {}
    for row in rows:
        if int(row["seed"]) in seeds:
            of_seed = cells.setdefault((float(row["q"]), row["attack"], row["defence"]), {})
            of_seed[int(row["seed"])] = 100 * float(row["validation"] or 0)
    return {key: mean(found.values()) for key, found in cells.items() if len(found) == len(seeds)}


def table(rows: Sequence[Row], seeds: Sequence[int]) -> str:
    """Markdown: mean validation accuracy over the seeds in per cent, and what each defence gains on the default."""
    means = _means(rows, seeds)
    columns = [
        name for name in dict.fromkeys((*SETTINGS, *CANDIDATES, *JITTERED)) if any(key[2] == name for key in means)
    ]
    lines = ["| q | attack | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for q, _ in WORLDS:
        for attack in ("none", *ATTACKS):
            base = means.get((q, attack, "default"))
            values = [means.get((q, attack, name)) for name in columns]
            if base is None:
                continue
            shown = ["" if value is None else f"{value - base:+.1f}" for value in values]
            shown[columns.index("default")] = f"{base:.1f}"
            lines.append(f"| {q} | {attack} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def ablation(rows: Sequence[Row], seeds: Sequence[int] = SEEDS) -> str:
    """Markdown: a line a change, a column an attack of the paper at each q: the mean gain on the default over seeds.

    Changes that lack a run are left out. worst: the least of its gains.
    """
    means = _means(rows, seeds)
    columns = [(q, attack) for q, _ in WORLDS for attack in PAPER]
    lines = [
        "| change | " + " | ".join(f"{attack}, {q}" for q, attack in columns) + " | worst |",
        "|---" * (len(columns) + 2) + "|",
        "| default | " + " | ".join(f"{means[*column, 'default']:.1f}" for column in columns) + " | |",
    ]
    for name in ABLATED:
        if all((*column, name) in means for column in columns):
            gains = [means[*column, name] - means[*column, "default"] for column in columns]
            lines.append(f"| {name} | " + " | ".join(f"{gain:+.1f}" for gain in (*gains, min(gains))) + " |")
    return "\n".join(lines)


def wanted(
    what: str, seeds: Sequence[int], defences: Sequence[str] | None, attacks: Sequence[str] | None
) -> list[Cell]:
    """The runs of a study, each seed in full before the next.

    screen: every defence on some attacks; final: what may become the default on all; jitter: colluders who add noise;
    schedules: how fast and from when on weights are learned, on the paper's attacks; ablation: every change on these.
    defences and attacks, where given, replace the study's own.
    """
    studies: dict[str, tuple[Sequence[str], Sequence[str]]] = {
        "screen": (_SCREENING, _SCREENED),
        "final": (("coalition", "watch", "default"), ("none", *ATTACKS)),
        "jitter": (tuple(JITTERED), ALIKE),
        "schedules": (SCHEDULES, PAPER),
        "ablation": (("default", *ABLATED), PAPER),
        "table": ((), ()),
    }
    defences, attacks = defences or studies[what][0], attacks or studies[what][1]
    return [
        (attack, q, share, defence, seed)
        for seed in seeds
        for defence in defences
        for q, share in WORLDS
        for attack in attacks
    ]


def main() -> None:
    """Runs what the CSV lacks, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("screen", "final", "jitter", "schedules", "ablation", "table"))
    parser.add_argument("--seeds", type=int, nargs="+", default=None, help="0 1 for screen, jitter; else 0 to 4")
    parser.add_argument("--defences", nargs="+", default=None, help="in place of the study's")
    parser.add_argument("--attacks", nargs="+", default=None, help="in place of the study's")
    parser.add_argument("--engine", choices=ENGINES, default="batched")
    parser.add_argument("--out", type=Path, default=Path("docs/defences.csv"))
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    seeds = chosen.seeds or (SEEDS if chosen.what not in ("screen", "jitter") else SEEDS[:2])
    with opened(chosen.out, FIELDS) as results:
        done = {(r["attack"], float(r["q"]), float(r["share"]), r["defence"], int(r["seed"])) for r in results.rows}
        for cell in wanted(chosen.what, seeds, chosen.defences, chosen.attacks):
            if cell not in done:
                for row in one(cell, chosen.engine):
                    if (known := (*cell[:3], row["defence"], cell[4])) not in done:
                        results.append(row)
                        done.add(known)
        print((ablation if chosen.what == "ablation" else table)(results.rows, seeds))


if __name__ == "__main__":
    main()
