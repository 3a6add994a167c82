"""A first schema from one silo's records: columns and kinds for people to edit, no constant taken from them."""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from fedlaw_flwr.tasks.agreement import LEAST_NAMED, frequent
from fedlaw_flwr.tasks.records import Records
from fedlaw_flwr.tasks.schema import Categorical, Numeric, Schema, Target

# Whole numbers of so few kinds are codes (0 and 1, grades), not measures; texts of more are no categories.
_CODES, _CATEGORIES, _CLASSES = 10, 50, 100
_COMMA = re.compile(r"[+-]?\d+,\d+")


@dataclass(frozen=True)
class Draft:
    """The proposed schema, and a sentence for each column that is not in it or not whole."""

    schema: Schema
    notes: tuple[str, ...]


def draft(records: Records, target: str) -> Draft:
    """Proposes numeric columns without constants and categorical ones with the values of at least LEAST_NAMED records.

    Left out, with a note: columns without a value, identifiers (whole numbers or texts, different in each record) and
    free text. Raises ValueError where the target is not there, has an empty cell, or fewer than 2 or over 100 classes.
    """
    if not records.has(target):
        raise ValueError(records.absent(target))
    schema_target = Target(column=target, classes=_classes(records, target))
    numeric, categorical = [], []
    notes = [f"{schema_target.classes[1]!r} is the positive class; swap the two if it is not"]
    notes = notes if len(schema_target.classes) == 2 else []
    for name in map(str, records.frame.columns):
        if name == target:
            continue
        counts = Counter(text for text in records.texts(name) if text is not None)
        found = _kind(records, name, counts)
        if found == "numeric":
            numeric.append(Numeric(column=name, missing="center"))
        elif found == "categorical":
            values = frequent(records, name)
            categorical.append(Categorical(column=name, values=tuple(values), unseen="other", missing="slot"))
            rare = len(counts) - len(values)
            if rare:
                notes.append(f"column {name!r}: {rare} values in fewer than {LEAST_NAMED} records are not listed")
        else:
            notes.append(f"column {name!r} is left out: {found}")
    schema = Schema(target=schema_target, numeric=tuple(numeric), categorical=tuple(categorical))
    if not schema.columns:
        raise ValueError(f"{records.source}: there is no column to learn from; " + "; ".join(notes))
    return Draft(schema, tuple(notes))


def _classes(records: Records, target: str) -> tuple[str, ...]:
    texts = records.texts(target)
    classes = sorted({text for text in texts if text is not None})
    if any(text is None for text in texts):
        raise ValueError(f"{records.source}: column {target!r} has cells without a value; leave those records out")
    if not 2 <= len(classes) <= _CLASSES:
        raise ValueError(
            f"{records.source}: column {target!r} has {len(classes)} different values; "
            f"2 to {_CLASSES} classes are expected"
        )
    return tuple(classes)


def _kind(records: Records, name: str, counts: Counter[str]) -> str:
    """numeric, categorical, or why it is neither."""
    total = sum(counts.values())
    if total == 0:
        return "it has no value"
    try:
        values = records.numbers(name)
    except ValueError:
        whole, number = True, False
    else:
        present = values[~np.isnan(values)]
        whole, number = bool(np.all(present == np.round(present))), True
    if whole and len(counts) == total and total > _CODES:
        return "it is different in every record, an identifier?"
    if number and not (whole and len(counts) <= _CODES):
        return "numeric"
    if len(counts) > _CATEGORIES:
        if records.decimal == "." and sum(bool(_COMMA.fullmatch(text)) for text in counts) > len(counts) / 2:
            return "its numbers have a decimal comma; set the option decimal (in a shell -o decimal=,) and draft again"
        return f"{len(counts)} different texts, no categories"
    if not frequent(records, name):
        return f"no value of it is in {LEAST_NAMED} records"
    return "categorical"
