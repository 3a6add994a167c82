"""`fedlaw ledger verify | heads | why`: whether a run's ledger was changed, and what it says of one silo."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from fedlaw_flwr.cli.console import console, say
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.setting import did_you_mean

if TYPE_CHECKING:
    from fedlaw_flwr.core.findings import Finding
    from fedlaw_flwr.ledger.verify import Written

ledger = typer.Typer(
    help="A run's ledger: what arrived from each silo and what became of it, chained and signed.", no_args_is_help=True
)

RunFolder = Annotated[Path, typer.Argument(help="A run folder, or its ledger.jsonl.", metavar="RUN")]


@ledger.command()
def verify(
    run: RunFolder,
    heads: Annotated[
        list[Path] | None,
        typer.Option(help="The heads that a silo kept: a file, or the folder `heads` of its state. May be repeated."),
    ] = None,
    key: Annotated[
        str, typer.Option(help="The fingerprint of the server's key, SHA256:..., as the log of a silo has it.")
    ] = "",
) -> None:
    """Looks whether a ledger was edited, cut, reordered or signed anew.

    Without --key and --heads, a ledger that was signed anew with another key cannot be seen; without --heads, one that
    was signed anew with the server's own.
    """
    from fedlaw_flwr.ledger.heads import read_heads
    from fedlaw_flwr.ledger.verify import Written
    from fedlaw_flwr.ledger.verify import verify as look

    written = Written.read(run)
    kept = [head for path in heads for head in read_heads(path)] if heads else None
    findings = [*look(written, kept, _has_ended(written), key), *_model(written)]
    for finding in findings:
        _say_finding(finding.kind, finding.what)
    if any(finding.kind == "wrong" for finding in findings):
        raise typer.Exit(1)


@ledger.command()
def heads(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="The heads that silos kept, two or more: files, or their folders `heads`.", metavar="HEADS"
        ),
    ],
) -> None:
    """Compares the heads that silos kept: a server that tells each another story is found."""
    from fedlaw_flwr.ledger.heads import contradictions, read_heads
    from fedlaw_flwr.ledger.keys import fingerprint

    if len(files) < 2:
        raise InputError("there is nothing to compare with: name the heads of two silos or more")
    kept = {str(path): read_heads(path) for path in files}
    for run in sorted({head.run for one in kept.values() for head in one}):
        for holder, all_heads in kept.items():
            own = [head for head in all_heads if head.run == run]
            if own:
                said = f"{len(own)} heads, the last of {own[-1]}, key {fingerprint(own[-1].key)}"
                say(escape(f"run {run[:8]}…  {holder}: {said}"))
    found = contradictions(kept)
    for sentence in found:
        _say_finding("wrong", sentence)
    if found:
        raise typer.Exit(1)
    if not set.intersection(*({head.run for head in one} for one in kept.values())):
        _say_finding("note", "no run is in all of them: what is in one of them alone was compared with nothing")
    _say_finding("ok", "the heads tell one story")


@ledger.command()
def why(
    run: RunFolder,
    silo: Annotated[str, typer.Argument(help="The silo's name.", metavar="SILO")],
) -> None:
    """What the ledger says of one silo, round by round: what arrived, how it was scored, its weight, and why."""
    from fedlaw_flwr.ledger.verify import Written
    from fedlaw_flwr.ledger.verify import verify as look

    written = Written.read(run)
    lines = [line for line in written.of("silo") if line.get("silo") == silo]
    left = [line for line in written.of("not-admitted") if line.get("silo") == silo]
    if not lines and not left:
        names = sorted({str(line.get("silo")) for kind in ("silo", "not-admitted") for line in written.of(kind)})
        raise InputError(f"silo={silo!r}: the ledger has no line of it{did_you_mean(silo, names)}")
    wrong = [finding for finding in look(written) if finding.kind == "wrong"]
    for finding in wrong:
        _say_finding("wrong", f"do not trust what follows: {finding.what}")
    for line in left:
        say(f"round {line.get('round')}: it was not admitted: {escape(str(line.get('reason')))}")
    if lines:
        console.print(_table(silo, lines))
    for resumed in written.of("resumed"):
        rounds = ", ".join(str(one.get("round")) for one in resumed.get("abandons", ()))
        again = f"; these rounds had been run before, and were run again: {rounds}" if rounds else ""
        say(f"The run was resumed after round {resumed.get('round')} (attempt {resumed.get('attempt')}){again}.")
    if wrong:
        raise typer.Exit(1)


_COLUMNS: Mapping[str, str] = {
    "loss": "loss",
    "norm": "norm",
    "trial-loss": "loss at the trial model",
    "alignment": "alignment",
    "score": "score",
    "approval": "approval",
}


def _table(silo: str, lines: list[Mapping[str, Any]]) -> Table:
    """A row for each round; columns that no round fills are left out."""
    shown = {name: title for name, title in _COLUMNS.items() if any(name in line for line in lines)}
    table = Table(title=silo, title_justify="left")
    for heading in ("round", "verdict", "weight", *shown.values(), "arrived", "reason"):
        table.add_column(heading)
    for line in lines:
        numbers = [
            _number(line.get(name)) + (" clipped" * (name == "norm" and bool(line.get("clipped")))) for name in shown
        ]
        arrived = [
            f"{one.get('bytes')} B in {one.get('seconds')} s, {str(one.get('digest', '-'))[:12]}"
            for one in line["arrived"]
        ]
        reasons = [str(line[name]) for name in ("reason", "no-review") if name in line]
        reasons += ["its loss was raised to the fence"] if line.get("loss-raised") else []
        cells = (
            line["round"],
            line["verdict"],
            _number(line.get("weight")),
            *numbers,
            "\n".join(arrived),
            "; ".join(reasons),
        )
        table.add_row(*(escape(str(cell)) for cell in cells))
    return table


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else ""


def _has_ended(written: "Written") -> bool | None:
    """Whether the events beside the ledger say that the run ended; None where there are none."""
    from fedlaw_flwr.events.folder import EVENTS
    from fedlaw_flwr.events.record import Run

    folder = written.path.parent
    return Run.read(folder).end is not None if (folder / EVENTS).exists() else None


def _model(written: "Written") -> "list[Finding]":
    """Whether the model beside the ledger is the one that its last round names."""
    from fedlaw_flwr.core.findings import ok, wrong
    from fedlaw_flwr.events.folder import MODEL
    from fedlaw_flwr.ledger.lines import model_digest

    rounds = list(written.of("round"))
    path = written.path.parent / MODEL
    if not rounds or not path.exists():
        return []
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        same = model_digest(load_file(path)) == rounds[-1].get("model")
    except SafetensorError:
        same = False
    if same:
        return [ok(f"{MODEL} is the model of the last round")]
    return [wrong(f"{MODEL} is not the model that the ledger names after round {rounds[-1].get('round')}")]


def _say_finding(kind: str, what: str) -> None:
    colour = {"ok": "green", "wrong": "red", "note": "yellow"}[kind]
    say(f"[{colour}]{kind if kind != 'wrong' else 'WRONG'}[/]  {escape(what)}")
