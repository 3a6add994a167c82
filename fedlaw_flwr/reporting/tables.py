"""A run as tables for pandas, for notebooks and for analyses of one's own."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedlaw_flwr.core.extras import naming_the_extra
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.verdict import Verdict, verdict
from fedlaw_flwr.reporting.in_short import parts
from fedlaw_flwr.reporting.narrative import alarm, story
from fedlaw_flwr.reporting.report import silo_rows, title
from fedlaw_flwr.reporting.terminal import verdict_rows

if TYPE_CHECKING:
    import pandas as pd

_Figures = Mapping[str, Sequence[float] | None]


def load_run(path: Path | str) -> "RunTables":
    """The run in a folder, as tables.

        from fedlaw_flwr import load_run
        run = load_run("runs/20260101-120000-digits-fedlaw-none")
        run.weights.plot()

    Args:
        path: The run folder; the run may still go on.

    Raises:
        FileNotFoundError: If the folder holds no run.
    """
    return RunTables(Run.read(Path(path)))


@dataclass(frozen=True)
class RunTables:
    """One run. A notebook shows it as its story and its figures; the tables are made when they are first asked for.

    Attributes:
        run: The run as its events tell it.
    """

    run: Run

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings by their names in files."""
        return self.run.settings

    @cached_property
    def verdict(self) -> Verdict:
        """Accuracy, who was caught, who was wrongly excluded, bytes and seconds."""
        return verdict(self.run)

    @cached_property
    def rounds(self) -> "pd.DataFrame":
        """A row a round, by its number.

        Columns: phase, skipped, reason, seconds, bytes_down, bytes_up, clip (units of g), excluded (how many silos),
        and seconds_1, bytes_down_1, bytes_up_1 of exchange 1, the same with 2 of exchange 2; NaN where there was none.
        """
        rows = []
        for event in self.run.rounds:
            row: dict[str, Any] = {
                "round": event.round,
                "phase": event.phase,
                "skipped": event.skipped,
                "reason": event.reason,
                "seconds": event.seconds,
                "bytes_down": event.bytes_down,
                "bytes_up": event.bytes_up,
                "clip": event.clip,
                "excluded": len(self.run.excluded_in(event.round)),
            }
            for number, one in enumerate(event.exchanges, start=1):
                row |= {f"{name}_{number}": getattr(one, name) for name in ("seconds", "bytes_down", "bytes_up")}
            rows.append(row)
        return self._frame(rows, ["round"])

    @cached_property
    def weights(self) -> "pd.DataFrame":
        """The weight of each silo: a row a round, a column a silo; NaN where a silo or a round has none."""
        frame = self._frame([{"round": number, **weights} for number, weights in self.run.weights.items()], ["round"])
        return frame.reindex(columns=[silo for silo in self.run.silos if silo in frame.columns])

    @cached_property
    def replies(self) -> "pd.DataFrame":
        """A row for each silo in each round, by round and silo.

        Columns: part ("counted", "excluded", "rejected", "silent", "absent" or empty), loss, norm (units of g), weight
        and, of weight rounds, trial_loss, alignment and score; NaN where there is none.
        """
        words = parts(self.run)
        rows = []
        for at, event in enumerate(self.run.rounds):
            found: dict[str, dict[str, Any]] = {silo: {"part": words[silo][at]} for silo in self.run.silos}
            of_all: dict[str, Sequence[float] | None] = {
                "loss": event.losses,
                "norm": event.norms,
                "weight": event.weights,
            }
            of_scored: dict[str, Sequence[float] | None] = {
                "trial_loss": event.trial_losses,
                "alignment": event.alignment,
                "score": event.scores,
            }
            for names, figures in ((event.silos, of_all), (event.scored or (), of_scored)):
                for column, values in figures.items():
                    for silo, value in zip(names, values or (), strict=False):  # a figure the round does not have
                        found[silo][column] = value
            rows += [{"round": event.round, "silo": silo, **row} for silo, row in found.items()]
        columns = ["part", "loss", "norm", "weight", "trial_loss", "alignment", "score"]
        return self._frame(rows, ["round", "silo"]).reindex(columns=columns)

    @cached_property
    def silos(self) -> "pd.DataFrame":
        """A row a silo, those first that a reader looks for: its verdict, what happened, and what was counted.

        Columns: attack, outcome, weight at the end, short (one sentence), why (the same in numbers), first_without,
        rounds_without, rejected, silent, clipped, raised, median_loss.
        """
        names = ["attack", "outcome", "weight", "short", "why", "first_without", "rounds_without", "rejected"]
        names += ["silent", "clipped", "raised", "median_loss"]
        rows = [{"silo": row.name, **{name: getattr(row, name) for name in names}} for row in silo_rows(self.run)]
        return self._frame(rows, ["silo"])

    @cached_property
    def evaluations(self) -> "pd.DataFrame":
        """The model's metrics: a row a round it was measured in, a column a metric; round 0 is the first model."""
        return self._frame([{"round": event.round, **event.metrics} for event in self.run.evaluations], ["round"])

    def _repr_html_(self) -> str:
        """The story and the figures of the run, for a notebook."""
        said = [sentence for sentence in (alarm(self.run), *story(self.run)) if sentence]
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th><td>{escape(values[0])}</td></tr>"
            for name, values in verdict_rows([self.verdict])
        )
        text = "".join(f"<p>{escape(sentence)}</p>" for sentence in said)
        return f"<h3>{escape(title(self.run))}</h3>{text}<table>{rows}</table>"

    def __repr__(self) -> str:
        figures = {name: value for name, value in asdict(self.verdict).items() if value is not None}
        return f"<{title(self.run)}; {figures}>"

    @staticmethod
    def _frame(rows: list[dict[str, Any]], index: list[str]) -> "pd.DataFrame":
        with naming_the_extra():
            import pandas as pd
        frame = pd.DataFrame(rows) if rows else pd.DataFrame(columns=index)
        return frame.set_index(index[0] if len(index) == 1 else index)
