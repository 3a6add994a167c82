"""`fedlaw schema draft | summary | agree`: how silos come to one schema without showing one another their records."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedlaw_flwr.core.errors import InputError

if TYPE_CHECKING:
    from fedlaw_flwr.records.cells import Records

schema = typer.Typer(
    help="The schema of tabular data: drafted by one silo, summarised by each, agreed by all.", no_args_is_help=True
)

SchemaFile = Annotated[Path, typer.Argument(help="The schema's YAML file.", metavar="SCHEMA")]
Data = Annotated[str, typer.Argument(help="A CSV or Parquet file, or its folder. Not needed with -o query=...")]
Option = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", help="name=value, as under `options` in silo.yaml: separator, missing, query ..."),
]
Out = Annotated[Path | None, typer.Option(help="The file to write as well; it must not exist.")]


@schema.command()
def draft(
    target: Annotated[str, typer.Option(help="The column to predict.")],
    data: Data = "",
    option: Option = None,
    out: Out = None,
) -> None:
    """Proposes a schema from this silo's columns: kinds and categories, no constant. Read it before it leaves."""
    from fedlaw_flwr.records.draft import draft as propose

    found = propose(_records(data, option, target), target)
    head = (
        "# Proposed by `fedlaw schema draft` from one silo's columns. Whoever knows the data: check kinds, categories,",
        "# classes (of two, the second is the positive one), add units, remove what must not be learned from.",
        "# center and scale: null until `fedlaw schema agree` or a person who knows the measure fills them in.",
    )
    _give((*head, found.schema.written()), found.notes, out)


@schema.command()
def summary(
    schema_file: SchemaFile,
    data: Data = "",
    option: Option = None,
    least: Annotated[int, typer.Option(min=5, help="From fewer records or values no figure is given.")] = 20,
    out: Out = None,
) -> None:
    """Prints the few rounded figures of this silo's columns that the federation needs, and nothing else leaves it."""
    from fedlaw_flwr.records.agreement import summarise
    from fedlaw_flwr.records.schema import Schema
    from fedlaw_flwr.records.suspicions import look

    drafted = Schema.read(schema_file, draft=True)
    records = _records(data, option, drafted.target.column)
    found = summarise(drafted, records, least)
    notes = [
        f"column {own.column!r}: under {least} values, nothing is said" for own in found.numeric if own.center is None
    ]
    notes += [
        f"column {own.column!r}: its quartiles are equal, no scale is given"
        for own in found.numeric
        if own.center is not None and own.scale is None
    ]
    notes += [suspicion.sentence for suspicion in look(drafted, records)]
    head = "# What leaves this silo is this text, if you send it: no command here sends anything."
    _give((head, found.written()), notes, out)


@schema.command()
def agree(
    schema_file: SchemaFile,
    summaries: Annotated[list[Path], typer.Argument(help="The silos' summaries, one of each.", metavar="SUMMARY...")],
    max_byzantine: Annotated[int, typer.Option(min=0, help="How many of these silos may lie, at most.")],
    out: Out = None,
) -> None:
    """Fills open constants with the median of the silos' figures; categories are those more than max-byzantine name."""
    from fedlaw_flwr.records.agreement import SiloSummary
    from fedlaw_flwr.records.agreement import agree as settle
    from fedlaw_flwr.records.schema import Schema

    twice = [path for path in summaries if [other.resolve() for other in summaries].count(path.resolve()) > 1]
    if twice:
        raise InputError(f"{twice[0]} is named twice: one summary of each silo is expected")
    read = {str(path): SiloSummary.read(path) for path in summaries}
    found = settle(Schema.read(schema_file, draft=True), read, max_byzantine)
    head = (
        f"# Agreed by `fedlaw schema agree` from {len(read)} silos, of which at most {max_byzantine} lie. What was",
        "# open is the median of the silos' figures; a category is there if more silos name it than may lie.",
    )
    _give((*head, found.schema.written()), found.notes, out)


def _records(data: str, option: Sequence[str] | None, target: str) -> "Records":
    """The records of the file or the query these options name; target: the column of their classes."""
    from fedlaw_flwr.records.options import read_options

    options: dict[str, str] = {}
    for text in option or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--option {text!r}: name=value is expected")
        options[name] = value
    if "query" in options:
        from fedlaw_flwr.records.sql import QueryOptions

        if data:
            raise InputError(f"data {data!r} and --option query: one of them is expected")
        query = read_options(QueryOptions, "sql", options)
        return query.with_class(query.records(), target)
    from fedlaw_flwr.records.tabular import FileOptions

    file = read_options(FileOptions, "tabular", options)
    return file.with_class(file.records(data), target)


def _give(parts: Sequence[str], notes: Sequence[str], out: Path | None) -> None:
    """Prints the text, the same to the file, and the notes beside it, where a pipe does not take them along."""
    text = "\n".join(parts)
    if out is not None:
        try:
            with out.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise InputError(f"{out} exists and is not overwritten; name another --out") from None
    typer.echo(text, nl=False)
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    if out is not None:
        typer.echo(f"wrote {out}", err=True)
