"""Records under a schema: every column checked, by name, and turned into the net's inputs."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.records.cells import Records
from fedlaw_flwr.records.matching import alike, resemblances, shown
from fedlaw_flwr.records.schema import Categorical, Numeric, Schema
from fedlaw_flwr.tasks.base import Examples

_NAMED = 5


def encode(schema: Schema, records: Records) -> Examples:
    """The records as inputs and targets, in the schema's column order.

    A number x becomes (x - center) / scale, a missing one 0, and an indicator input 0 or 1. A text becomes one 1 among
    its values, `other` and `missing`, in that order, values sorted.

    Args:
        schema: The agreed schema.
        records: The silo's records.

    Returns:
        Inputs (m, p) float32 and targets (m,) int64, with p = schema.widths[0].

    Raises:
        ValueError: A sentence, in which cells are quoted, for each column that is not as the schema says: for the
            silo's own log, not for the server.
    """
    wrong, blocks = [], []
    targets = np.zeros(len(records), dtype=np.int64)
    try:
        targets = _targets(schema, records)
    except ValueError as error:
        wrong.append(str(error))
    for column in schema.columns:
        try:
            blocks.append(_numeric(column, records) if isinstance(column, Numeric) else _one_hot(column, records))
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise InputError("\n".join(wrong))
    return Examples(torch.from_numpy(np.concatenate(blocks, axis=1)), torch.from_numpy(targets))


def check_columns(schema: Schema, records: Records) -> None:
    """Checks that the schema's columns are there and the target's cells are its classes.

    What else is in the cells is not looked at.

    Raises:
        ValueError: A sentence for each column that is not there, and for cells of the target that are none of its
            classes.
    """
    wrong = [records.absent(column.column) for column in schema.columns if not records.has(column.column)]
    try:
        _targets(schema, records)
    except ValueError as error:
        wrong.append(str(error))
    if wrong:
        raise InputError("\n".join(wrong))


def refuse_unlabelled(column: str, records: Records, texts: NDArray[np.object_]) -> None:
    """Raises ValueError where one of these cells of the target's column has no value."""
    empty = np.flatnonzero([text is None for text in texts])
    if len(empty):
        where = f"{records.source}: column {column!r} has no value in {records.named(empty)}"
        option = f"the option unlabelled=leave-out leaves out these {len(empty)} of {len(records)}"
        raise InputError(
            f"{where}; of a record without its class nothing can be learned: {option} (in a shell -o "
            "unlabelled=leave-out)"
        )


def _targets(schema: Schema, records: Records) -> NDArray[np.int64]:
    column, classes = schema.target.column, schema.target.classes
    texts = _texts(column, records, classes)
    refuse_unlabelled(column, records, texts)
    return _positions(column, records, texts, classes)


def _numeric(column: Numeric, records: Records) -> NDArray[np.float32]:
    if not records.has(column.column):
        raise InputError(records.absent(column.column))
    assert column.center is not None and column.scale is not None, "Schema.read refuses open constants"
    values = records.numbers(column.column)
    missing = np.isnan(values)
    if column.missing == "refuse" and missing.any():
        raise InputError(
            f"{records.source}: column {column.column!r} has no value in {records.named(np.flatnonzero(missing))}, "
            "and the schema says missing: refuse"
        )
    scaled = np.where(missing, 0.0, (values - column.center) / column.scale)
    if np.abs(scaled).max() > np.finfo(np.float32).max:
        raise InputError(f"{records.source}: column {column.column!r} has values beyond all bounds in agreed scales")
    inputs = [scaled, missing] if column.missing == "indicator" else [scaled]
    return np.stack(inputs, axis=1).astype(np.float32)


def _one_hot(column: Categorical, records: Records) -> NDArray[np.float32]:
    texts = _texts(column.column, records, column.values)
    values = sorted(column.values)
    missing = np.array([text is None for text in texts])
    if column.missing == "refuse" and missing.any():
        raise InputError(
            f"{records.source}: column {column.column!r} has no value in {records.named(np.flatnonzero(missing))}, "
            "and the schema says missing: refuse"
        )
    present = np.flatnonzero(~missing)
    where = np.full(len(texts), column.width - 1)  # the missing slot is the last
    if column.unseen == "other":
        place = {value: index for index, value in enumerate(values)}
        where[present] = [place.get(texts[row], len(values)) for row in present]
    else:
        where[present] = _positions(column.column, records, texts, values, present)
    found: NDArray[np.float32] = np.eye(column.width, dtype=np.float32)[where]
    return found


def _texts(column: str, records: Records, agreed: Sequence[str]) -> NDArray[np.object_]:
    if not records.has(column):
        raise InputError(records.absent(column))
    return records.texts(column, agreed)


def _positions(
    column: str,
    records: Records,
    texts: NDArray[np.object_],
    allowed: Sequence[str],
    rows: NDArray[np.intp] | None = None,
) -> NDArray[np.int64]:
    """Where each of these rows' texts stands in `allowed`. Raises ValueError, naming those that do not."""
    rows = np.arange(len(texts)) if rows is None else rows
    place = {value: index for index, value in enumerate(allowed)}
    strange = dict.fromkeys(texts[row] for row in rows if texts[row] not in place)
    if strange:
        first = next(row for row in rows if texts[row] not in place)
        named = ", ".join(shown(text) for text in list(strange)[:_NAMED])
        more = f" and {len(strange) - _NAMED} more" if len(strange) > _NAMED else ""
        like = [alike(text, value) for text, value in resemblances(strange, allowed).items()]
        remedy = f"; {'; '.join(like[:_NAMED])}: write it as agreed" if like else ""
        raise InputError(
            f"{records.source}: column {column!r} has {named}{more} (first in row {records.number_of(first)}), "
            f"allowed are {', '.join(allowed)}{remedy}"
        )
    return np.array([place[texts[row]] for row in rows], dtype=np.int64)
