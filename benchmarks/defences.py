"""What FedLAW needs against forged losses, sleepers and coalitions: `python -m benchmarks.defences final`.

One row a run, appended to a CSV as it ends, so that a killed study goes on where it stopped; then the tables of
docs/research/defences.md, on validation accuracy. Digits, 20 silos, 26 rounds, of which 20 learn weights: sleepers wake
in round 21.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.one_run import ENGINES, run_of
from fedlaw_flwr.attacks import ATTACKS
from fedlaw_flwr.studies.table import Row, opened

TASK = "digits"
WORLDS = ((0.6, 0.2), (0.9, 0.4))
"""q, and the share of attackers, which max-byzantine is told."""
_COALITION, _WATCH = {"cluster-distance": 0.05}, {"relearn-on-conflict": True}
_MEMORY = {"score-decay": 1.0, "beta": 0.001}

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {"cluster-distance": 0.0, "relearn-on-conflict": False},
    "coalition": _COALITION,
    "watch": _WATCH,
    "refresh-2": {"refresh-every": 2},
    "always": {"weight-rounds": -1},
    "fence-1": {"loss-fence": 1.0},
    "fence-0": {"loss-fence": 0.0},
    "fedavg": {"strategy": "fedavg"},
    "ideal": {"strategy": "ideal"},
    "watch-anew": {"variant": "relearn_from_equal"},
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
    "momentum-0.9": {"variant": "momentum"},
    "stable-3": {"variant": "stable"},
    "beta/k": {"variant": "falling"},
    "beta/sqrt(k)": {"variant": "falling_sqrt"},
    "normalised": {"variant": "normalised"},
    "ranks": {"variant": "ranks"},
}
"""What each defence sets. The names are those of docs/research/defences.csv, from before settings were renamed."""


_TODAY = {
    "coalition": "cluster-distance",
    "watch": "relearn-on-conflict",
    "watch-anew": "relearn_from_equal",
    "memory-1": "score-decay",
}


def shown(defence: str) -> str:
    """A defence's name with settings as they are called today, for a table."""
    return " ".join(_TODAY.get(word, word) for word in defence.split())


SCHEDULES = ("beta/k", "beta/sqrt(k)", "warm-5")
"""Those that change how fast, or from when on, weights are learned."""

ABLATED = (
    *("warm-2", "warm-5", "memory-1", "warm-2 memory-1", "warm-3 memory-1", "warm-5 memory-1", "coalition"),
    *("warm-2 memory-1 coalition", "warm-5 coalition", "trained", "trained warm-2 memory-1 coalition", "s-from-n"),
    *("watch", "always", "stable-3", "momentum-0.9"),
    *("beta/k", "beta/sqrt(k)", "normalised", "ranks", "fence-1", "fence-0"),
)
"""Every change within FedLAW's own framing; the ablation of docs/research/results.md."""

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
    from fedlaw_flwr.events.verdict import verdict

    attack, q, share, defence, seed = cell
    values = {"task": TASK, "num-silos": 20, "num-rounds": 26, "q": q, "byzantine": share, "max-byzantine": share}
    chosen, noise = JITTERED.get(defence, (defence, 0.0))
    values |= {"attack": attack, "seed": seed, **SETTINGS["default"], **SETTINGS.get(chosen, {})}
    if noise:
        values |= {"attack-noise": noise}
    run = run_of(values, engine)
    found = verdict(run)
    learned = sum(event.phase == "learning" for event in run.rounds)
    accuracies = (found.validation_accuracy, found.accuracy)
    figures = (*accuracies, found.weight_on_attackers, found.caught, found.wrongly_excluded, learned)
    idle = defence in ("coalition", "watch") and not any(event.clusters or event.conflicts for event in run.rounds)
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
    columns = [name for name in dict.fromkeys((*SETTINGS, *JITTERED)) if any(key[2] == name for key in means)]
    lines = ["| q | attack | " + " | ".join(map(shown, columns)) + " |", "|---" * (len(columns) + 2) + "|"]
    for q, _ in WORLDS:
        for attack in ("none", *ATTACKS):
            base = means.get((q, attack, "default"))
            values = [means.get((q, attack, name)) for name in columns]
            if base is None:
                continue
            gains = ["" if value is None else f"{value - base:+.1f}" for value in values]
            gains[columns.index("default")] = f"{base:.1f}"
            lines.append(f"| {q} | {attack} | " + " | ".join(gains) + " |")
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
            lines.append(f"| {shown(name)} | " + " | ".join(f"{gain:+.1f}" for gain in (*gains, min(gains))) + " |")
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
    parser.add_argument("--out", type=Path, default=Path("docs/research/defences.csv"))
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
