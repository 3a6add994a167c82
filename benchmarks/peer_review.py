"""Peer review beside published FedLAW and other rules: `python -m benchmarks.peer_review main --seeds 16 17 18 19`.

One row a run, appended to a CSV as it ends, so that a study that was stopped goes on where it stopped; then the tables
of docs/research/peer-review.md. Test accuracy after 26 rounds; weights are learned in the first 20, or in all of them
where the method says so. The batched engine.
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.one_run import run_of
from fedlaw_flwr.attacks import ATTACKS
from fedlaw_flwr.learners.options import REVIEW_PARTS
from fedlaw_flwr.studies.table import Row, opened

_BEFORE: dict[str, Any] = {"variant": "review", "review-step": 0, "review-without": "majority"}

METHODS: dict[str, dict[str, Any]] = {
    "review": {"variant": "review"},
    "review in every round": {"variant": "review", "weight-rounds": -1},
    "review, updates alone": {"variant": "review", "review-step": 0},
    "review, the form before": _BEFORE,
    "review in every round, the form before": {**_BEFORE, "weight-rounds": -1},
    "fedlaw": {"variant": "fedlaw"},
    "fedavg": {"strategy": "fedavg"},
    "ideal": {"strategy": "ideal"},
    "review, lr 0.2": {"variant": "review", "lr": 0.2},
    "ideal, lr 0.2": {"strategy": "ideal", "lr": 0.2},
    "fedavg, lr 0.2": {"strategy": "fedavg", "lr": 0.2},
    "multi_krum": {"strategy": "multi_krum"},
    "cw_median": {"strategy": "cw_median"},
    "rfa": {"strategy": "rfa"},
    "cclip": {"strategy": "cclip"},
    "bulyan": {"strategy": "bulyan", "beyond-guarantee": True},
    "nnm trimmed mean": {"strategy": "trimmed_mean", "nnm": True},
    "review, 50 root examples": {"variant": "review", "root-data": 50},
    "review, 100 root examples": {"variant": "review", "root-data": 100},
    "review, 5 trusted silos": {"variant": "review", "trusted": 5},
    **{f"review without {part}": {"variant": "review", "review-without": part} for part in REVIEW_PARTS},
    "review by plain gradients": {"variant": "review", "review-by": "gradient"},
}
"""What each method sets; "ideal" is the mean of the honest silos, `trusted` the number of honest silos vouched for.

The form before is that without the step along reviews, in which the last weight round's weights are frozen. The step of
local training is 0.1 where no other is said.
"""

PAPER = ("none", "label_flipping", "inverse_gradient", "backdoor", "double", "global_parameter")
"""Nobody, and the five attacks whose mean is the target."""

LIARS = ("bad_mouthing", "bad_mouthing_flip", "support_max", "review_max")
"""The attacks on peer review itself; they see every silo's updates and reviews."""

STUDIES: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "main": (("review", "review in every round", "fedlaw", "fedavg", "ideal"), (*PAPER, "lie")),
    "longer steps": (
        ("review, lr 0.2", "ideal, lr 0.2", "fedavg, lr 0.2"),
        ("none", "label_flipping", "inverse_gradient", "lie"),
    ),
    "liars": (("review", "review without trim", "fedavg", "ideal"), LIARS),
    "all": (("review", "fedlaw", "fedavg", "ideal"), ("none", *ATTACKS)),
    "rules": (("multi_krum", "cw_median", "rfa", "cclip", "nnm trimmed mean"), (*PAPER, "lie")),
    "ablation": (
        tuple(name for name in METHODS if name.startswith(("review without", "review by", "review, updates"))),
        ("none", "label_flipping", "inverse_gradient", "backdoor"),
    ),
    "root": (tuple(name for name in METHODS if "root" in name or "trusted" in name), (*PAPER, "lie", *LIARS)),
}
"""Methods and attacks of each study."""

FIELDS = (
    *("task", "silos", "examples", "q", "share", "attack", "seed", "method"),
    *("validation", "test", "caught", "honest_excluded", "skipped"),
)


def one(world: Mapping[str, Any], attack: str, method: str, seed: int) -> dict[str, Any]:
    """One run: its row."""
    from fedlaw_flwr.config.settings import Settings
    from fedlaw_flwr.events.verdict import verdict

    silos, q, share = world["silos"], world["q"], world["share"]
    values: dict[str, Any] = {"task": world["task"], "num-silos": silos, "num-rounds": 26, "q": q, "seed": seed}
    values |= {"byzantine": share, "max-byzantine": share, "weight-rounds": 20, "beta": 0.01, "attack": attack}
    if attack in LIARS:
        values["knowledge"] = "omniscient"
    if method.startswith(("ideal", "fedavg")) and attack == "none":
        values["byzantine"] = 0
    values |= {"data-dir": world["data-dir"], "train-examples": world["examples"]}
    values |= METHODS[method]
    if "trusted" in values:
        attackers = Settings.read({**values, "trusted": ""}).known_attacks()
        honest = [name for name in (f"silo {silo}" for silo in range(silos)) if name not in attackers]
        values["trusted"] = ",".join(honest[: values["trusted"]])
    run = run_of(values)
    found = verdict(run)
    figures = (found.validation_accuracy, found.accuracy, found.caught, found.wrongly_excluded)
    skipped = sum(event.skipped for event in run.rounds)
    named = (world["task"], silos, world["examples"], q, share, attack, seed, method, *figures, skipped)
    return dict(zip(FIELDS, named, strict=True))


def table(rows: Sequence[Row], seeds: Sequence[int], measure: str = "test") -> str:
    """Markdown: a line a method, a column an attack: the mean in per cent over the seeds, the worst in brackets.

    A cell that lacks a seed says how many it has.
    """
    found: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        if int(row["seed"]) in seeds:
            cell = found.setdefault((row["method"], row["attack"]), {})
            cell[int(row["seed"])] = 100 * float(row[measure] or 0)
    attacks = [attack for attack in ("none", *ATTACKS) if any(key[1] == attack for key in found)]
    lines = ["| method | " + " | ".join(attacks) + f" | mean of {len(PAPER)} |", "|---" * (len(attacks) + 2) + "|"]
    for method in METHODS:
        if not any(key[0] == method for key in found):
            continue
        cells = []
        for attack in attacks:
            values = found.get((method, attack), {})
            text = f"{mean(values.values()):.1f} ({min(values.values()):.0f})" if values else ""
            cells.append(text if len(values) in (0, len(seeds)) else f"{text}, {len(values)} seeds")
        six = [mean(found[method, attack].values()) for attack in PAPER if found.get((method, attack))]
        overall = f"{mean(six):.1f}" if len(six) == len(PAPER) else ""
        lines.append(f"| {method} | " + " | ".join(cells) + f" | {overall} |")
    return "\n".join(lines)


def main() -> None:
    """Runs what the CSV lacks, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", choices=(*STUDIES, "table"))
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=list(range(8)), help="0 to 7 to choose, 16 on to report"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=None, help="in place of the study's")
    parser.add_argument("--attacks", nargs="+", choices=("none", *ATTACKS), default=None, help="likewise")
    parser.add_argument("--task", default="digits")
    parser.add_argument("--silos", type=int, default=20)
    parser.add_argument("--examples", type=int, default=0, help="of the training split so many are dealt; 0: all")
    parser.add_argument("--q", type=float, default=0.9)
    parser.add_argument("--share", type=float, default=0.4)
    parser.add_argument("--data-dir", default="", help="torchvision's folder, for --task mnist")
    parser.add_argument("--measure", choices=("test", "validation"), default="test")
    parser.add_argument("--out", type=Path, default=Path("docs/research/peer-review.csv"))
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    world = {name: getattr(chosen, name) for name in ("task", "silos", "examples", "q", "share")}
    place = {"data-dir": chosen.data_dir}
    methods, attacks = STUDIES.get(chosen.study, ((), ()))
    with opened(chosen.out, FIELDS) as results:
        here = [row for row in results.rows if all(str(row[name]) == str(value) for name, value in world.items())]
        done = {(row["attack"], row["method"], int(row["seed"])) for row in here}
        for seed in chosen.seeds:
            for attack in chosen.attacks or attacks:
                for method in chosen.methods or methods:
                    if (attack, method, seed) not in done:
                        row = one(world | place, attack, method, seed)
                        results.append(row)
                        here.append({name: "" if value is None else str(value) for name, value in row.items()})
        print(table(here, chosen.seeds, chosen.measure))


if __name__ == "__main__":
    main()
