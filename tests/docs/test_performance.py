"""The tables of docs/performance.md are those of its figures."""

import json

from benchmarks import performance


def test_the_page_shows_the_figures_of_the_last_measurement():
    page = performance.FIGURES.with_suffix(".md").read_text(encoding="utf-8")
    figures = json.loads(performance.FIGURES.read_text(encoding="utf-8"))
    assert performance.with_tables(page, figures) == page
    assert figures.keys() == performance.TABLES.keys()


def test_the_least_of_a_line_is_bold_and_what_ran_once_is_said():
    row = {"n": 5, "d": 1000, "row": "krum", "column": "ours", "matvecs": 4.04, "runs": 3}
    machine = {"processor": "one", "versions": "two"}
    table = performance.arithmetic(
        {"machine": machine, "rows": [row, {**row, "column": "Flower", "matvecs": 60.0, "runs": 1}]}
    )
    assert "| krum | **4.0** | 60.0 |" in table
    assert "run once only, because slow: Flower krum." in table
