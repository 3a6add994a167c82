"""Run folders written event by event, and large and hostile ones, for the tests of what people see of a run."""

import json
from dataclasses import dataclass, fields

import numpy as np

from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.core.losses import raise_low_losses
from fedlaw_flwr.core.projection import project
from fedlaw_flwr.core.scores import least_loss, score
from fedlaw_flwr.core.simplex import Simplex
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import RoundEnded, from_dict
from fedlaw_flwr.reporting.report import page_of

BETA = 0.01


class Scripted:
    """A run folder written event by event, in the shape the strategies and the experiment give their events.

    Scores and weights are computed by the weight update itself from the alignments and losses a test names.
    """

    def __init__(self, folder, silos=6, attackers=(), started=True, **settings):
        given = {"num-silos": silos, "max-byzantine": 2, "beta": BETA, "num-rounds": 3}
        given |= {"attack": "inverse_gradient" if attackers else "none", "byzantine": len(attackers)}
        self.settings = Settings.read(given | {key.replace("_", "-"): value for key, value in settings.items()})
        self.folder, self.silos, self.round = folder, [f"silo {number}" for number in range(silos)], 0
        self.w = np.full(silos, 1 / silos)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "settings.json").write_text(json.dumps(self.settings.as_config()))
        (folder / "events.jsonl").write_text("")
        if started:
            attacks = dict.fromkeys(attackers, "inverse_gradient")
            self.write(kind="run", settings=self.settings.as_config(), attackers=attacks, version=2)
            self.accuracy(0.1)

    def write(self, **event):
        """Appends a line; it must be one that today's release writes, to the last name."""
        assert from_dict(event).to_dict() == event
        with (self.folder / "events.jsonl").open("a") as events:
            events.write(json.dumps(event) + "\n")
        return self

    def accuracy(self, value, **more):
        return self.write(kind="evaluation", round=self.round, metrics={"loss": 1.0, "accuracy": value, **more})

    def end(self, status="completed", **more):
        return self.write(kind="end", status=status, **more)

    def gate(self, silo, reason, kind="rejected", exchange=1, ahead=1):
        return self.write(kind=kind, round=self.round + ahead, exchange=exchange, silo=silo, reason=reason)

    def learned(self, alignment, losses, unscored=(), absent=()):
        """A weight round: what each silo's update is worth to the others, and its loss at the trial model."""
        present = [row for row, silo in enumerate(self.silos) if silo not in absent]
        scored = [row for row in present if self.silos[row] not in unscored]
        alignment, trial = np.array(alignment, float)[scored], np.array(losses, float)[scored]
        before = self.w[scored] / self.w[scored].sum()
        used, low = raise_low_losses(trial)
        h = score(before, alignment / BETA, used, 1.0, BETA)
        chosen = self.settings
        simplex = Simplex.for_federation(len(self.silos), chosen.max_byzantine, chosen.s, chosen.t).among(len(scored))
        bsum = self.settings.variant == "bsum"
        learned = least_loss(used, simplex.s, simplex.t) if bsum else project(h, simplex.s, simplex.t)
        self.w[present] = 0.0
        self.w[scored] = learned
        return self._round(
            present,
            2,
            phase="learning",
            scored=[self.silos[row] for row in scored],
            **{"trial-losses": trial.tolist()},
            **{"losses-raised": [self.silos[row] for row, is_low in zip(scored, low, strict=True) if is_low]},
            alignment=alignment.tolist(),
            scores=h.tolist(),
            unscored=[self.silos[row] for row in present if row not in scored],
            weights=self.w[present].tolist(),
        )

    def frozen(self, absent=()):
        """A round with frozen weights."""
        present = [row for row, silo in enumerate(self.silos) if silo not in absent]
        weights = self.w[present] / self.w[present].sum()
        return self._round(present, 1, phase="frozen", weights=weights.tolist())

    def by_rule(self, **found):
        return self._round(range(len(self.silos)), 1, phase="rule", **found)

    def skipped(self, reason, unscored=()):
        """A round that kept the model."""
        self.w[[self.silos.index(silo) for silo in unscored]] = 0.0
        return self._round((), 2, skipped=True, reason=reason, phase="learning", unscored=list(unscored))

    def _round(self, present, exchanges, skipped=False, **report):
        self.round += 1
        numbers = {"answered": len(present), "rejected": 0, "silent": 0, "bytes-down": 1000, "bytes-up": 400}
        norms = {"norms": [1.0 + row for row in present], "clip": 5.5} if report["phase"] != "rule" else {}
        answers = {"silos": [self.silos[row] for row in present], "losses": [0.5 + row for row in present]}
        self.write(
            kind="round",
            round=self.round,
            skipped=skipped,
            seconds=exchanges * 2.0 + 0.5,
            **{"bytes-down": 1000 * exchanges, "bytes-up": 400 * exchanges},
            exchanges=[{**numbers, "seconds": 2.0} for _ in range(exchanges)],
            **({"norms": [0.0] * len(present)} | answers | norms | report),
        )
        return self.accuracy(min(0.9, 0.1 + 0.2 * self.round))

    def page(self):
        return page_of(Run.read(self.folder))

    def row(self, silo):
        return next(row for row in self.page().silos if row.name == silo)


AGREES, ALIKE = [0.012] * 6, [0.4] * 6


def but(values, **others):
    """The values with those of silo_3=... replaced."""
    return [others.get(f"silo_{row}", value) for row, value in enumerate(values)]


def large(folder, silos=200, rounds=400):
    """A run of this size in which every round learned weights: the largest page there is for it."""
    rng = np.random.default_rng(0)
    names = [f"silo {number}" for number in range(silos)]
    settings = Settings.read({"num-silos": silos, "num-rounds": rounds, "weight-rounds": rounds}).as_config()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(settings))
    totals = {"answered": silos, "bytes-down": 10**8, "bytes-up": 10**8, "seconds": 10.5}
    attackers = dict.fromkeys(names[: silos // 5], "inverse_gradient")
    with (folder / "events.jsonl").open("w") as events:

        def write(**event):
            events.write(json.dumps(event) + "\n")

        write(kind="run", settings=settings, attackers=attackers, version=2)
        for number in range(1, rounds + 1):
            weights = rng.dirichlet(np.ones(silos)) * (rng.random(silos) > 0.2)
            write(
                kind="round",
                round=number,
                skipped=False,
                seconds=21.3,
                exchanges=[totals, totals],
                phase="learning",
                silos=names,
                clip=rng.random() + 5,
                scored=names,
                **{"bytes-down": 2 * 10**8, "bytes-up": 2 * 10**8, "losses-raised": [], "unscored": []},
                **{"losses": rng.gamma(2.0, 1.0, silos).tolist(), "norms": rng.gamma(9.0, 1.0, silos).tolist()},
                **{"trial-losses": rng.gamma(2.0, 1.0, silos).tolist(), "weights": (weights / weights.sum()).tolist()},
                **{"alignment": rng.normal(0.01, 0.01, silos).tolist(), "scores": rng.normal(0, 0.1, silos).tolist()},
            )
            write(kind="evaluation", round=number, metrics={"loss": rng.random(), "accuracy": rng.random()})
        write(kind="end", status="completed")
    return folder


HOSTILE = "<script>alert(1)</script>"
"""A silo's name that a page must show as the text it is."""


def hostile(folder):
    """A run with a silo of that name, which is excluded, rejected and silent, and a name with every quote there is."""
    run = Scripted(folder, attackers=["silo 5"], max_byzantine=1)
    run.silos[0], run.silos[2] = HOSTILE, "</td>\"'><img src=x onerror=alert(2)>&amp; {{ 7 * 7 }} \n\x07"
    run.gate(HOSTILE, f"</td>{HOSTILE}", kind="silent").learned(but(AGREES, silo_0=-0.05, silo_5=-0.05), ALIKE)
    run.gate("silo 3", f"</script>{HOSTILE}").learned(but(AGREES, silo_0=-0.05), ALIKE, absent=["silo 3"])
    run.write(kind="warning", reason=HOSTILE)
    run.frozen().end("failed", reason=HOSTILE)
    return folder


@dataclass(frozen=True, kw_only=True)
class Reviewed(RoundEnded):
    """A weight round with peer review: it has no scores and no trial model."""

    support: tuple | None = None
    vouching: tuple | None = None
    reviewers: tuple | None = None
    approval: tuple | None = None


def reviewed(folder, silos=8, matrix=True):
    """A run that learned weights by peer review: the last silo helps nobody else, and the one before sent no review."""
    scripted = Scripted(folder, silos=silos, attackers=[f"silo {silos - 1}"], max_byzantine=2)
    scripted.learned([0.012] * (silos - 2) + [0.0, -0.2], [0.4] * silos).frozen().end()
    run = Run.read(folder)
    names, last = tuple(scripted.silos), silos - 1

    def said(i, j):
        if i == j or j == last - 1:
            return None
        return (-0.03 if last in (i, j) else 0.02) + 0.001 * j

    inside = names[: silos - 2]
    extra = {
        "support": tuple(tuple(said(i, j) for j in range(silos)) for i in range(silos)) if matrix else None,
        "vouching": inside,
        "reviewers": (*inside, names[-1]),
        "approval": (0.02,) * (silos - 2) + (0.015, -0.027),
        **dict.fromkeys(("scored", "trial_losses", "losses_raised", "alignment", "scores", "unscored")),
    }
    first = run.rounds[0]
    event = Reviewed(**{one.name: getattr(first, one.name) for one in fields(first)} | extra)
    return Run.of([event if one is first else one for one in run.events], folder.name)
