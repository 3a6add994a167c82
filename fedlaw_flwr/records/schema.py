"""The schema of a federation's tables: columns, agreed constants, classes, net; and what two descriptions differ in."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from fedlaw_flwr.config.document import FROM_FILE, Document, DocumentError
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.records.spelling import clean


def _a_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError("write it in quotes: unquoted, YAML reads yes, no, 1.5 and 2024-01-31 as something else")
    text = clean(str(value))
    if not is_text(text):
        raise InputError("1 to 200 printable characters are allowed")
    return text


def is_text(text: str) -> bool:
    """Whether a schema can hold this clean text: a column's name, a class or a category."""
    return text.isprintable() and 1 <= len(text) <= 200


def distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    """The values, if none is there twice.

    Raises:
        ValueError: Where one is.
    """
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise InputError(f"{twice[0]!r} is there twice")
    return values


Text = Annotated[str, BeforeValidator(_a_text)]
"""A column's name, a class or a category: see `spelling.clean`."""

Number = Annotated[float, Field(allow_inf_nan=False)]


class Strict(BaseModel):
    """Data of a file: unchanging, without unknown keys, names with hyphens."""

    model_config = FROM_FILE


class Target(Strict):
    """What is predicted. classes: in the net's order; of two, the second is the one whose AUC is reported."""

    column: Text
    classes: Annotated[tuple[Text, ...], Field(min_length=2), AfterValidator(distinct)]


class Numeric(Strict):
    """A column of numbers x, of which the net sees (x - center) / scale.

    Attributes:
        column: The column's name.
        center: What is subtracted; None while it is open.
        scale: What is divided by, above 0; None while it is open.
        unit: The numbers' unit; "" where it is not said.
        missing: Refuse a record without a number, give it the center, or give it the center and 1 in an extra input.
    """

    column: Text
    center: Number | None = None
    scale: Annotated[Number, Field(gt=0)] | None = None
    unit: Annotated[Text, Field(min_length=1)] | Literal[""] = ""
    missing: Literal["refuse", "center", "indicator"] = "refuse"

    @property
    def width(self) -> int:
        """How many inputs of the net this column takes."""
        return 2 if self.missing == "indicator" else 1


class Categorical(Strict):
    """A column of texts, one input for each value.

    Attributes:
        column: The column's name.
        values: The agreed values.
        unseen: Refuse a text that is no agreed value, or give such texts an input of their own.
        missing: Refuse a record without a text, or give such records an input of their own.
    """

    column: Text
    values: Annotated[tuple[Text, ...], Field(min_length=1), AfterValidator(distinct)]
    unseen: Literal["refuse", "other"] = "refuse"
    missing: Literal["refuse", "slot"] = "refuse"

    @property
    def width(self) -> int:
        """How many inputs of the net this column takes."""
        return len(self.values) + (self.unseen == "other") + (self.missing == "slot")


class Schema(Strict):
    """All a silo must know to turn its records into examples of the federation's net."""

    target: Target
    numeric: tuple[Numeric, ...] = ()
    categorical: tuple[Categorical, ...] = ()
    hidden: tuple[Annotated[int, Field(ge=1, le=100_000)], ...] = (16,)
    test_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @classmethod
    def read(cls, path: Path, *, draft: bool = False) -> "Schema":
        """Reads a schema file.

        Args:
            path: The file.
            draft: Whether constants may still be open.

        Raises:
            DocumentError: `FILE:LINE: what is wrong`.
        """
        document = Document.read(path)
        schema = document.check(cls)
        wrong = [*_clashes(schema), *([] if draft else _open_constants(schema))]
        if wrong:
            raise DocumentError("\n".join(document.wrong(place, what) for place, what in wrong))
        return schema

    @property
    def columns(self) -> tuple[Numeric | Categorical, ...]:
        """The inputs' columns by name: the order of the net's inputs, so that the order in the file means nothing."""
        return tuple(sorted((*self.numeric, *self.categorical), key=lambda column: column.column))

    @property
    def widths(self) -> tuple[int, ...]:
        """The perceptron's widths, from its inputs to its classes."""
        return (sum(column.width for column in self.columns), *self.hidden, len(self.target.classes))

    def description(self) -> dict[str, str]:
        """What must be the same at every silo, by name; see `SiloTask.description`.

        Returns:
            Each value is a list of parts "label rest" separated by "; ". Two schemas whose records mean the same to the
                same net have equal descriptions, and no others have.
        """
        found = {f"target {self.target.column}": f"classes {_listed(self.target.classes)}"}
        for column in self.columns:
            found[f"column {column.column}"] = "; ".join(_parts_of(column))
        return {**found, "net": f"perceptron; widths {', '.join(map(str, self.widths))}"}

    def written(self) -> str:
        """The schema as YAML that `read` takes."""
        data = self.model_dump(mode="json", by_alias=True)
        for column in data["numeric"]:
            column |= {key: _short(column[key]) for key in ("center", "scale")}
            if not column["unit"]:
                del column["unit"]
        return as_yaml(data)


def as_yaml(data: dict[str, Any]) -> str:
    """The data in the order of its keys, a column on a line where it fits."""
    import yaml

    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    return text


def differences(own: Mapping[str, str], agreed: Mapping[str, str]) -> list[str]:
    """What differs between a silo's own description and the agreed one.

    Either description may be hostile. So sentences are of printable characters, at most some 1,000, and there are at
    most 21 of them.

    Args:
        own: The silo's own description.
        agreed: The agreed description.

    Returns:
        A sentence for each difference, by name; empty if there is none. Examples are "column 'age' is missing" and
            "column 'sex': values f, m here, female, male agreed".
    """
    found = []
    for key in dict.fromkeys((*agreed, *own)):
        if key not in own:
            found.append(f"{_title(key)} is missing")
        elif key not in agreed:
            found.append(f"{_title(key)} is not agreed")
        elif str(own[key]) != str(agreed[key]):
            found.append(f"{_title(key)}: {_difference(str(own[key]), str(agreed[key]))}")
    more = len(found) - _SENTENCES
    return found if more <= 0 else [*found[:_SENTENCES], f"and {more} more differences"]


_SENTENCES, _SHOWN, _BEFORE, _LABELS = 20, 80, 20, 3


def _difference(here: str, there: str) -> str:
    """The parts that differ, or the whole where the parts are no such list."""
    ours, theirs = _parts(here), _parts(there)
    if ours is None or theirs is None or next(iter(ours)) != next(iter(theirs)):
        return _against(here.split("; ")[0], there.split("; ")[0]) if ours and theirs else _against(here, there)
    labels = [label for label in dict.fromkeys((*theirs, *ours)) if ours.get(label) != theirs.get(label)]
    said = [f"{_clean(label)} {_against(ours.get(label), theirs.get(label))}" for label in labels[:_LABELS]]
    return "; ".join(said) + ("; and more" if len(labels) > _LABELS else "") if labels else _against(here, there)


def _parts(text: str) -> dict[str, str] | None:
    """Label to rest of the parts; None where a label is there twice."""
    pairs = [part.partition(" ") for part in text.split("; ")]
    parts = {label: rest for label, _, rest in pairs}
    return parts if len(parts) == len(pairs) else None


def _against(here: str | None, there: str | None) -> str:
    """Both texts, cut so that the first place where they differ is seen."""
    here, there = here or "", there or ""
    same = next((i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b), min(len(here), len(there)))
    return f"{_clean(here, same)} here, {_clean(there, same)} agreed"


def _clean(text: str, same: int = 0) -> str:
    """Printable and short; where it must be cut, what stands around character `same` is kept."""
    if not text:
        return "none"
    start = max(0, same - _BEFORE) if len(text) > _SHOWN else 0
    shown = "".join(c if c.isprintable() else "?" for c in text[start : start + _SHOWN])
    return ("..." if start else "") + shown + ("..." if start + _SHOWN < len(text) else "")


def _title(key: str) -> str:
    kind, _, name = str(key).partition(" ")
    return f"{_clean(kind)} '{_clean(name)}'" if name else _clean(kind)


def _parts_of(column: Numeric | Categorical) -> Iterator[str]:
    if isinstance(column, Categorical):
        yield "categorical"
        yield f"values {_listed(tuple(sorted(column.values)))}"
        yield f"unseen {column.unseen}"
    else:
        yield "numeric"
        yield f"center {_short(column.center)}"
        yield f"scale {_short(column.scale)}"
        if column.unit:
            yield f"unit {_token(column.unit)}"
    yield f"missing {column.missing}"


def _listed(values: tuple[str, ...]) -> str:
    return ", ".join(map(_token, values))


def _token(text: str) -> str:
    """The text, quoted where it holds what separates tokens and parts, so that no two lists look the same."""
    return text if re.fullmatch(r'[^,;"\\]+', text) else json.dumps(text, ensure_ascii=False).replace(";", "\\u003b")


def _short(number: float | None) -> float | int | None:
    """60 for 60.0: as people write it, and the same number."""
    return int(number) if number is not None and number.is_integer() and abs(number) < 2**53 else number


def _clashes(schema: Schema) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Columns named twice, with their place in the file."""
    if not schema.columns:
        yield (), "there is no column under numeric or categorical to learn from"
    seen = {schema.target.column: "target"}
    numeric = [("numeric", index, column.column) for index, column in enumerate(schema.numeric)]
    categorical = [("categorical", index, column.column) for index, column in enumerate(schema.categorical)]
    for kind, index, name in (*numeric, *categorical):
        if name in seen:
            yield (kind, index, "column"), f"column {name!r} is there twice, first in {seen[name]}"
        seen.setdefault(name, kind)


def _open_constants(schema: Schema) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Constants nobody has agreed on yet, with their place in the file."""
    for index, column in enumerate(schema.numeric):
        for key, value in (("center", column.center), ("scale", column.scale)):
            if value is None:
                remedy = "`fedlaw schema agree` finds one, or a person who knows the measure writes it"
                yield ("numeric", index, key), f"column {column.column!r} has no agreed {key} yet: {remedy}"
