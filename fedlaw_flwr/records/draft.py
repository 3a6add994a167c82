"""A first schema from one silo's records: columns and kinds for people to edit, no constant taken from them."""

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.records.agreement import LEAST_NAMED, frequent
from fedlaw_flwr.records.cells import Records, listed
from fedlaw_flwr.records.encoding import refuse_unlabelled
from fedlaw_flwr.records.identity import names_people, says_who
from fedlaw_flwr.records.matching import SURE, SYNONYM, alike, resemblance, sex, shown, truth
from fedlaw_flwr.records.schema import Categorical, Numeric, Schema, Target, is_text
from fedlaw_flwr.records.spelling import clean
from fedlaw_flwr.records.suspicions import by_count, rounded

# Whole numbers of so few kinds are codes (0 and 1, grades), not measures; texts of more are no categories.
_CODES, _CATEGORIES, _CLASSES = 10, 50, 100
# A column is one of numbers, spoiled by texts, from this share on.
_NUMBERS = 0.5
# Whole numbers this long are codes: no measure has so many digits.
_LONG = 1e15
_UNIT = re.compile(r"[<>]?[+-]?[0-9]+(?:[.,][0-9]+)? ?([^0-9\s].*)")
_ZERO = re.compile(r"0[0-9]+")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}.*|[0-9]{1,2}([./])[0-9]{1,2}\1[0-9]{2,4}.*")
# Not by themselves: "none" may be a grade of pain. But worth a question.
_NO_VALUE = {"-", "--", "---", ".", "..", "?", "??", "n/a", "na", "n.a.", "#n/a", "nan", "nil", "null", "none", "unk"}
_NO_VALUE |= {"missing", "unknown", "not known", "not available", "unbekannt", "k.a.", "keine angabe", "inconnu"}


@dataclass(frozen=True)
class Draft:
    """The proposed schema, and a sentence for each column that is not in it or not whole."""

    schema: Schema
    notes: tuple[str, ...]


def draft(records: Records, target: str) -> Draft:
    """Proposes numeric columns without constants and categorical ones with the values of at least LEAST_NAMED records.

    Left out, with a note, are columns without a value, identifiers (different in each record, or named as such),
    people's names, free text, and numbers spoiled by texts.

    Args:
        records: The silo's records.
        target: The name of the target's column.

    Raises:
        ValueError: Where the target is not there, has an empty cell, or has fewer than 2 or over 100 classes.
    """
    target = clean(target)
    if not records.has(target):
        raise InputError(records.absent(target))
    schema_target = Target(column=target, classes=_classes(records, target))
    numeric, categorical = [], []
    notes = [f"{schema_target.classes[1]!r} is the positive class; swap the two if it is not"]
    notes = notes if len(schema_target.classes) == 2 else []
    notes += _about_classes(records, target)
    notes += [f"the column at place {place} has no name in the header and is left out" for place in records.unnamed]
    for name in records.columns:
        if name == target:
            continue
        if not is_text(name):
            notes.append(
                f"column {shown(name)} is left out: its name has over 200 or unprintable characters; rename it"
            )
            continue
        try:
            counts = Counter(text for text in records.texts(name) if text is not None)
        except ValueError as error:
            notes.append(f"column {name!r} is left out: {str(error).rpartition(f'column {name!r} ')[2]}")
            continue
        found = _kind(records, name, counts)
        if found == "numeric":
            numeric.append(Numeric(column=name, missing="center"))
        elif found == "categorical":
            values = [value for value in frequent(records, name) if value not in _variants(counts)[0]]
            categorical.append(Categorical(column=name, values=tuple(values), unseen="other", missing="slot"))
            notes += _about_values(name, counts, values)
        else:
            notes.append(f"column {name!r} is left out: {found}")
    schema = Schema(target=schema_target, numeric=tuple(numeric), categorical=tuple(categorical))
    if not schema.columns:
        raise InputError(f"{records.source}: there is no column to learn from; " + "; ".join(notes))
    return Draft(schema, tuple(notes))


def _classes(records: Records, target: str) -> tuple[str, ...]:
    texts = records.texts(target)
    classes = sorted({text for text in texts if text is not None})
    refuse_unlabelled(target, records, texts)
    if not 2 <= len(classes) <= _CLASSES:
        raise InputError(
            f"{records.source}: column {target!r} has {len(classes)} different values; "
            f"2 to {_CLASSES} classes are expected"
        )
    odd = [text for text in classes if not is_text(text)]
    if odd:
        raise InputError(
            f"{records.source}: column {target!r} has {listed(odd)}: a class has at most 200 characters, all printable"
        )
    return tuple(classes)


def _about_classes(records: Records, target: str) -> Iterator[str]:
    counts = Counter(records.texts(target))
    surely, perhaps = _variants(counts)
    for said in (*surely.values(), *perhaps.values()):
        yield f"column {target!r}: {said}; spell one class alike in the data before anyone agrees on them"
    rare = [name for name, count in counts.items() if count < LEAST_NAMED]
    if rare:
        yield f"column {target!r}: fewer than {LEAST_NAMED} records are {listed(sorted(rare))}: is each a class?"


def _about_values(name: str, counts: Counter[str], values: list[str]) -> Iterator[str]:
    rare = sum(count < LEAST_NAMED for count in counts.values())
    if rare:
        yield f"column {name!r}: {rare} values in fewer than {LEAST_NAMED} records are not listed"
    odd = sum(count >= LEAST_NAMED and not is_text(value) for value, count in counts.items())
    if odd:
        yield f"column {name!r}: {odd} values of over 200 or of unprintable characters are not listed"
    empty = [value for value in by_count(counts) if value.casefold() in _NO_VALUE]
    if empty:
        yield f"column {name!r}: {listed(empty)} may stand for no value; if so, name it in the option missing"
    surely, perhaps = _variants(counts)
    for value, said in surely.items():
        listed_not = ", and is not listed" if counts[value] >= LEAST_NAMED else ""
        yield f"column {name!r}: {said}{listed_not}; spell one category alike in the data, or it counts as other"
    for said in (*perhaps.values(), *_shortened(values, counts)):
        yield f"column {name!r}: {said}; spell one category alike in the data, and draft again"
    if len(values) > _CODES:
        yield f"column {name!r}: read its {len(values)} values: none may name a person, and many make a large net"


def _variants(counts: Counter[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Values that look like one that is more frequent, and a part of a sentence about each.

    The first are surely no values of their own: F and f, yes and ja. The second may be: 250.1 and 250.10.
    """
    kept, surely, perhaps = list[str](), dict[str, str](), dict[str, str]()
    words = next((word for word in (truth, sex) if all(word(value) for value in counts)), None)
    for value in by_count(counts):
        other = resemblance(value, kept)
        if other and other[1] == SYNONYM:  # of words for two things, the second is no word for the first
            other = None
        if words and (same := [text for text in kept if words(text) == words(value)]):
            other = other or (same[0], SYNONYM)
        if other:
            found = surely if other[1] in (SYNONYM, *SURE) else perhaps
            found[value] = f"{alike(value, other)}, in {counts[value]} and {counts[other[0]]} records"
        if value not in surely:
            kept.append(value)
    return surely, perhaps


def _shortened(values: list[str], counts: Counter[str]) -> Iterator[str]:
    for value in values:
        short = [text for text in values if _short_for(text, value)]
        if len(short) == 1:
            both = f"{counts[short[0]]} and {counts[value]} records"
            yield f"{shown(short[0])} may be {shown(value)} (the same first letter), in {both}"


def _short_for(short: str, long: str) -> bool:
    """m for male, W for weiblich."""
    return len(short) == 1 < len(long) and short.isalpha() and long.isalpha() and long.casefold()[0] == short.casefold()


def _kind(records: Records, name: str, counts: Counter[str]) -> str:
    """numeric, categorical, or why it is neither."""
    total = sum(counts.values())
    if total == 0:
        return "it has no value"
    values, bad = records.parsed(name)
    present = values[~np.isnan(values)]
    zeros = sum(bool(_ZERO.fullmatch(text)) for text in counts)
    number = len(bad) == 0 and not zeros
    whole = len(bad) > 0 or bool(np.all(present == np.round(present)))
    if number and np.abs(present).max(initial=0) > 1e19:
        return "it has numbers beyond 1e19, which no measure is"
    code = len(counts) <= _CODES or (len(present) > 0 and float(np.abs(present).max()) >= _LONG)
    if len(counts) > _CODES and all(_DAY.fullmatch(text) for text in counts):
        return "it holds dates: write a number that matters into a column, years of age or days since"
    if whole and len(counts) == total and total > _CODES:
        return "it is different in every record, an identifier?"
    if (why := says_who(name)) and (len(counts) > _CODES or not number):
        return f"its name says that it is {why}; who knows better writes it into the draft"
    if number and not (whole and code):
        return "numeric"
    if lost := rounded(counts):
        return lost
    if len(bad) and (spoiled := _spoiled(records, name, counts, values, bad)):
        return spoiled
    if zeros and len(counts) > _CATEGORIES:
        return f"{len(counts)} different texts of digits with a leading zero: codes, and too many for categories"
    if number and len(counts) > _CATEGORIES:
        return f"{len(counts)} different whole numbers of 16 digits and more: codes, and too many for categories"
    if len(counts) > _CATEGORIES:
        units = Counter(found[1] for text in counts if (found := _UNIT.fullmatch(text)))
        if units.total() > _NUMBERS * len(counts):
            return f"its cells hold a number and a text ({listed(by_count(units))}): write the number alone"
        return f"{len(counts)} different texts, no categories"
    if not frequent(records, name):
        return f"no value of it is in {LEAST_NAMED} records"
    if why := names_people(counts):
        return f"{why}; who knows better writes its categories into the draft"
    return "categorical"


def _as_missing(records: Records, texts: list[str]) -> str:
    """What to do with texts among numbers."""
    marks = [text for text in texts if "," not in text and not any(mark.isdigit() for mark in text)]
    if not marks:
        return "write plain numbers in their place"
    option = shlex.quote(",".join(sorted({*records.missing, *marks[:10]})))
    return f"if they stand for no value: -o missing={option}, else write numbers in their place"


def _spoiled(
    records: Records, name: str, counts: Counter[str], values: np.ndarray[tuple[int], np.dtype[np.float64]], bad: object
) -> str:
    """Why a column of numbers is none: its point, or the texts among them; empty if it is no column of numbers."""
    total = sum(counts.values())
    numbers, point = int(np.sum(~np.isnan(values))), records.decimal
    other = "," if point == "." else "."
    otherwise, _ = records.parsed(name, other)
    swapped = int(np.sum(~np.isnan(otherwise)))
    found = max(numbers, swapped)
    if found <= _NUMBERS * total:
        return ""
    use = otherwise if swapped > numbers else values
    rest = Counter(
        text for text, value in zip(records.texts(name), use, strict=True) if text is not None and np.isnan(value)
    )
    if len({value for value in use.tolist() if value == value}) <= _CODES and len(counts) <= _CATEGORIES:
        return ""  # codes, of which some are texts
    advice = []
    if swapped > numbers:
        kind = "comma" if other == "," else "point"
        advice.append(f"its numbers have a decimal {kind}; set the option decimal (in a shell -o decimal={other})")
    if rest:
        share = min(99, round(100 * found / total))
        texts = by_count(rest)
        named = ", ".join(f"{shown(text)} ({rest[text]})" for text in texts[:3])
        more = f" and {len(texts) - 3} more" if len(texts) > 3 else ""
        advice.append(f"{share} % of its cells are numbers; the rest are {named}{more}: {_as_missing(records, texts)}")
    return "; ".join(advice) + ", and draft again"
