"""The tables of docs/research/results.md from results/: `python -m benchmarks.results` puts them in.

Nothing else on the page is changed. A table stands between `<!-- table NAME -->` and `<!-- end -->`: the settings the
experiment's runs share, those of each method, then a line a cell. `ablation` and `ablation-fresh` are of
docs/research/defences.csv.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from benchmarks import defences
from fedlaw_flwr.studies.plan import Experiment
from fedlaw_flwr.studies.summary import cells_of, common_settings, markdown, own_settings
from fedlaw_flwr.studies.table import read_rows

ROOT = Path(__file__).resolve().parents[1]
RESEARCH = ROOT / "docs" / "research"
PAGE = RESEARCH / "results.md"
_COMMIT = re.compile(r" [0-9a-f]{7,}\+?,")  # in made_by
_MEMORY = re.compile(r"\bmemory\b")  # in methods' names, from before the setting was renamed
_TABLE = re.compile(r"(<!-- table ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(page: str) -> str:
    """The page with every table as the results have it."""
    return _TABLE.sub(lambda found: found[1] + _table(found[2]) + found[3], page)


def _table(name: str) -> str:
    if name in ("ablation", "ablation-fresh"):
        seeds = defences.SEEDS if name == "ablation" else defences.FRESH
        return f"\n{defences.ablation(read_rows(RESEARCH / 'defences.csv', defences.FIELDS), seeds)}\n\n"
    # Only where examples lie differs from machine to machine, and no table says it.
    experiment = Experiment.read(ROOT / "experiments" / f"{name}.yaml", {"data-dir": str(ROOT)})
    rows = read_rows(ROOT / "results" / f"{name}.csv")
    cells = cells_of(experiment, rows)
    settings = _listed(common_settings(experiment))
    methods = "; ".join(f"{method}: {_listed(own)}" for method, own in own_settings(experiment).items() if own)
    made_by = "; ".join(sorted({_COMMIT.sub(",", row["made_by"]) for row in rows}))
    done = f"{sum(len(cell.seeds) for cell in cells)} of {len(experiment.runs)} runs ({made_by}; commits in the rows)"
    told = f"{done}; all with {settings}." + (f" {methods}." if methods else "")
    return _MEMORY.sub("score-decay", f"\n{told}\n\n{markdown(experiment, cells)}\n\n")


def _listed(settings: Mapping[str, object]) -> str:
    return ", ".join(f"`{key}={value}`" for key, value in settings.items())


def main() -> None:
    """Writes the page."""
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
