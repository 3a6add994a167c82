"""The tables of docs/performance.md from docs/performance.json: `python -m benchmarks.performance` puts them in.

A table stands between `<!-- table NAME -->` and `<!-- end -->`; nothing else on the page is changed.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "performance.json"
_TABLE = re.compile(r"(<!-- table ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def arithmetic(figures: dict[str, Any]) -> str:
    """A table for each size: a line a rule, a column a library, the fewest matvecs of a rule in bold."""
    rows = figures["rows"]
    parts = [_made_on(figures)]
    for n, d in dict.fromkeys((row["n"], row["d"]) for row in rows):
        here = [row for row in rows if (row["n"], row["d"]) == (n, d)]
        cells = {(row["row"], row["column"]): row for row in here}
        columns = list(dict.fromkeys(row["column"] for row in here))
        lines = [
            f"**n = {n}, d = {d:,}**, in matvecs:",
            "",
            "| | " + " | ".join(columns) + " |",
            "|---|" + "---:|" * len(columns),
        ]
        for name in dict.fromkeys(row["row"] for row in here):
            least = min(cells[name, column]["matvecs"] for column in columns if (name, column) in cells)
            shown = [_cell(cells.get((name, column)), least) for column in columns]
            lines.append(f"| {name} | " + " | ".join(shown) + " |")
        parts.append("\n".join(lines))
        parts.append(_runs(here))
    return "\n\n".join(parts)


def projection(figures: dict[str, Any]) -> str:
    """A line a size."""
    lines = ["| n | seconds | times `np.sort` |", "|---:|---:|---:|"]
    lines += [f"| {row['n']:,} | {row['seconds']:.5f} | {row['sorts']:.1f} |" for row in figures["rows"]]
    return _made_on(figures) + "\n\n" + "\n".join(lines)


def whole_rounds(figures: dict[str, Any]) -> str:
    """A line a strategy, for each number of silos."""
    lines = [
        "| silos | strategy | seconds an exchange | times FedAvg's | CPU seconds | times FedAvg's | turns |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row['silos']} | {row['method']} | {row['seconds']:.2f} | {row['ratio']:.2f} | {row['cpu']:.2f} | "
        f"{row['cpu_ratio']:.2f} | {row['turns']} |"
        for row in figures["rows"]
    ]
    return _made_on(figures) + "\n\n" + "\n".join(lines)


def engines(figures: dict[str, Any]) -> str:
    """A line an engine, for each net."""
    parts = [_made_on(figures)]
    for net in figures["nets"]:
        first = net["rows"][0]
        lines = [
            f"**{net['task']}, {net['net']}**, {net['gflop']:.1f} GFLOP a round:",
            "",
            "| engine | seconds a round, least | times batched | CPU seconds, median | times batched "
            "| GFLOP a CPU second |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        lines += [
            f"| {row['engine']} | {row['least']:.2f} | {row['least'] / first['least']:.1f} | {row['cpu']:.2f} | "
            f"{row['cpu'] / first['cpu']:.1f} | {row['gflop']:.2g} |"
            for row in net["rows"]
        ]
        own, large = net["own"], net["large"]
        lines += [
            f"| the products of this net's training alone | | | | | {own:.1f} |",
            f"| one product of two 2048 x 2048 matrices | | | | | {large:.1f} |",
        ]
        counts = "medians of " + ", ".join(f"{row['rounds']} ({row['engine']})" for row in net["rows"]) + " rounds"
        parts += ["\n".join(lines), f"CPU seconds: {counts}."]
    return "\n\n".join(parts)


def growth(figures: dict[str, Any]) -> str:
    """Seconds and memory: a line for each d, a column for each n; then the slopes."""
    silos = sorted({row["n"] for row in figures["rows"]})
    cells = {(row["n"], row["d"]): row for row in figures["rows"]}
    lines = ["| d | " + " | ".join(f"n = {n}" for n in silos) + " |", "|---:|" + "---:|" * len(silos)]
    for d in sorted({row["d"] for row in figures["rows"]}):
        found = [cells.get((n, d)) for n in silos]
        shown = ["" if row is None else f"{row['seconds']:.2f} s, {row['bytes'] / 1e9:.2f} GB" for row in found]
        lines.append(f"| {d:,} | " + " | ".join(shown) + " |")
    more = ["| slope over | where | sizes | of seconds | of memory |", "|---|---|---:|---:|---:|"]
    for row in figures["slopes"]:
        along = "n" if row["fixed"] == "d" else "d"
        more.append(
            f"| {along} | {row['fixed']} = {row['at']:,} | {row['sizes']} | {row['seconds']} | {row['bytes']} |"
        )
    return "\n\n".join([_made_on(figures), "\n".join(lines), "\n".join(more)])


def bytes_to(figures: dict[str, Any]) -> str:
    """A line a method, for each attack."""
    lines = [
        "| attack | strategy | seeds that reach it | rounds | MB | best accuracy |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in figures["rows"]:
        there = f"{row['rounds']:g} | {row['megabytes']:.1f}" if row["reached"] else "never | "
        lines.append(
            f"| {row['attack']} | {row['method']} | {row['reached']} of {row['seeds']} | {there} | {row['best']} % |"
        )
    return _made_on(figures) + "\n\n" + "\n".join(lines)


def server_round(figures: dict[str, Any]) -> str:
    """A line a part of a round, two columns a size: what it costs and the least it could, in matvecs."""
    rows = figures["rows"]
    sizes = list(dict.fromkeys((row["n"], row["d"]) for row in rows))
    cells = {(row["part"], row["n"], row["d"]): row for row in rows}
    lines = [
        "| in matvecs | " + " | ".join(f"n = {n}, d = {d:,} | floor" for n, d in sizes) + " |",
        "|---|" + "---:|" * (2 * len(sizes)),
    ]
    for part in dict.fromkeys(row["part"] for row in rows):
        shown = []
        for n, d in sizes:
            row = cells.get((part, n, d))
            shown += ["", ""] if row is None else [f"{row['matvecs']:.1f}", _floor(row["floor"])]
        lines.append(f"| {part} | " + " | ".join(shown) + " |")
    units = [
        f"{cells['w @ G', n, d]['milliseconds']:.1f} ms (n = {n}, d = {d:,}; {cells['w @ G', n, d]['repeats']} runs)"
        for n, d in sizes
    ]
    return _made_on(figures) + " One matvec: " + ", ".join(units) + ".\n\n" + "\n".join(lines)


def memory(figures: dict[str, Any]) -> str:
    """A line a number of silos."""
    lines = ["| n | peak, in models | beyond n |", "|---:|---:|---:|"]
    lines += [f"| {row['n']} | {row['models']:.2f} | {row['models'] - row['n']:.2f} |" for row in figures["rows"]]
    return "\n".join(lines)


def storage(figures: dict[str, Any]) -> str:
    """A line a way to keep the updates."""
    lines = ["| the updates | seconds of a weighted sum, times memory's | error of the sum |", "|---|---:|---:|"]
    lines += [f"| {row['what']} | {row['ratio']} | {row['error']:g} |" for row in figures["rows"]]
    unit = f" n = {figures['n']}, d = {figures['d']:,}; in memory {figures['seconds']} s."
    return _made_on(figures) + unit + "\n\n" + "\n".join(lines)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "arithmetic": arithmetic,
    "projection": projection,
    "whole_rounds": whole_rounds,
    "engines": engines,
    "growth": growth,
    "bytes_to": bytes_to,
    "bytes_to-mnist": bytes_to,
    "server-round": server_round,
    "memory": memory,
    "storage": storage,
}


def with_tables(page: str, figures: dict[str, Any]) -> str:
    """The page with every table that there are figures for."""

    def filled(found: re.Match[str]) -> str:
        name = found[2]
        return found[1] + f"\n{TABLES[name](figures[name])}\n\n" + found[3] if name in figures else found[0]

    return _TABLE.sub(filled, page)


def read(path: Path) -> dict[str, Any]:
    """The figures of the JSON file by table; none where there is no file yet."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def write(path: Path, name: str, found: dict[str, Any]) -> None:
    """Puts the figures of one table into the JSON file, and the table into the page beside it, if there is one."""
    figures = read(path) | {name: found}
    path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    page = path.with_suffix(".md")
    if page.exists():
        page.write_text(with_tables(page.read_text(encoding="utf-8"), figures), encoding="utf-8")


def _made_on(figures: dict[str, Any]) -> str:
    return f"{figures['machine']['processor']}; {figures['machine']['versions']}."


def _runs(rows: list[dict[str, Any]]) -> str:
    once = [f"{row['column']} {row['row']}" for row in rows if row["runs"] == 1]
    if len(once) == len(rows):
        return "Each of these is a single run."
    several = [row["runs"] for row in rows if row["runs"] > 1]
    counts = " to ".join(str(count) for count in sorted({min(several), max(several)}))
    medians = f"Medians of {counts} runs"
    return medians + (f"; run once only, because slow: {', '.join(once)}." if once else ".")


def _floor(matvecs: float | None) -> str:
    return "" if matvecs is None else f"{matvecs:.1f}"


def _cell(row: dict[str, Any] | None, least: float) -> str:
    if row is None:
        return ""
    return f"**{row['matvecs']:.1f}**" if row["matvecs"] == least else f"{row['matvecs']:.1f}"


def main() -> None:
    """Writes the page anew from the figures there are."""
    page = FIGURES.with_suffix(".md")
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    page.write_text(with_tables(page.read_text(encoding="utf-8"), figures), encoding="utf-8")


if __name__ == "__main__":
    main()
