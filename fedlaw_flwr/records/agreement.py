"""Constants for all silos from a few rounded figures of each: what a silo says of its columns, and what is agreed."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from fedlaw_flwr.config.document import Document, DocumentError
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.records.matching import alike, resemblance, resemblances
from fedlaw_flwr.records.schema import Categorical, Number, Numeric, Schema, Strict, Text, as_yaml, distinct, is_text

if TYPE_CHECKING:
    from fedlaw_flwr.records.cells import Records

LEAST_RECORDS = 20
"""From fewer values no figure is given: the median of three records is a record."""

LEAST_NAMED = 5
"""A category in fewer records is not named: it may be a person."""

# A silo's center so many agreed scales off, or its scale so many times larger or smaller, is told to the operator.
_FAR, _TIMES = 8.0, 10.0
_NAMED = 3
_LARGEST_FILE, _DEEPEST = 2**20, 10


class NumericSummary(Strict):
    """A column of numbers at one silo, rounded.

    Attributes:
        column: The column's name.
        center: The median; None where it is not told.
        scale: The spread; None where the column has none or it is not told.
        mostly: That more than half of the column's cells have no value, or nearly all the same; None for neither.
    """

    column: Text
    center: Number | None = None
    scale: Annotated[Number, Field(gt=0)] | None = None
    mostly: Literal["missing", "constant"] | None = None


class CategoricalSummary(Strict):
    """The values of a column at one silo.

    Attributes:
        column: The column's name.
        values: The values that occur in at least LEAST_NAMED records.
        mostly: That more than half of the column's cells have no value, or all the same; None for neither.
    """

    column: Text
    values: Annotated[tuple[Text, ...], AfterValidator(distinct)] = ()
    mostly: Literal["missing", "constant"] | None = None


class SiloSummary(Strict):
    """All that leaves a silo before a federation agrees on its schema.

    Attributes:
        records: The number of the silo's records, two digits of it.
        numeric: The columns of numbers.
        categorical: The columns of texts.
    """

    records: Annotated[int, Field(ge=0)]
    numeric: tuple[NumericSummary, ...] = ()
    categorical: tuple[CategoricalSummary, ...] = ()

    @classmethod
    def read(cls, path: Path) -> "SiloSummary":
        """Reads a file another silo sent.

        Raises:
            DocumentError: `FILE:LINE: what is wrong`.
        """
        import yaml

        try:
            if path.stat().st_size > _LARGEST_FILE:
                raise DocumentError(f"{path}: a summary of at most {_LARGEST_FILE} bytes is expected")
            _refuse_traps(path)
            summary = Document.read(path).check(cls)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise DocumentError(f"{path}: it cannot be read ({type(error).__name__})") from None
        names = Counter([*(own.column for own in summary.numeric), *(own.column for own in summary.categorical)])
        name, times = max(names.items(), key=lambda item: item[1], default=("", 0))
        if times > 1:  # one silo, one voice
            raise DocumentError(f"{path}: column {name!r} is there {times} times")
        return summary

    def written(self) -> str:
        """The summary as YAML that `read` takes."""
        data: dict[str, Any] = self.model_dump(mode="json", by_alias=True)
        for column in (*data["numeric"], *data["categorical"]):
            if column["mostly"] is None:
                del column["mostly"]
        return as_yaml(data)


@dataclass(frozen=True)
class Agreement:
    """The schema with its constants, and what people should look at before they take it."""

    schema: Schema
    notes: tuple[str, ...]


def summarise(schema: Schema, records: "Records", least: int = LEAST_RECORDS) -> SiloSummary:
    """What this silo says of the schema's columns.

    The scale is 1.4826 MAD, or IQR / 1.349 where more than half of the values are equal, to two digits. There is no
    scale where the quartiles are equal too. The center is the median, to the place of the scale's second digit.

    Args:
        schema: The schema, whose constants may be open.
        records: The silo's records.
        least: The fewest records that are summarised, and the fewest values that a center or a scale is taken from.

    Raises:
        ValueError: For fewer than `least` records, and for columns that are not as the schema says.
    """
    from fedlaw_flwr.records.encoding import check_columns
    from fedlaw_flwr.records.suspicions import look

    if len(records) < least:
        raise InputError(f"{records.source}: {len(records)} records; from fewer than {least} no summary is given")
    check_columns(schema, records)
    mostly: dict[str, Literal["missing", "constant"]] = {}
    for suspicion in look(schema, records):
        if suspicion.kind in ("missing", "constant"):
            mostly.setdefault(suspicion.column, suspicion.kind)
    return SiloSummary(
        records=int(_two_digits(len(records))),
        numeric=tuple(
            _numeric_summary(column.column, records, least).model_copy(update={"mostly": mostly.get(column.column)})
            for column in schema.numeric
        ),
        categorical=tuple(
            CategoricalSummary(
                column=column.column,
                values=tuple(frequent(records, column.column, column.values)),
                mostly=mostly.get(column.column),
            )
            for column in schema.categorical
        ),
    )


def frequent(records: "Records", column: str, agreed: Sequence[str] = ()) -> list[str]:
    """The column's values, in their agreed spelling, that occur in at least LEAST_NAMED records.

    Args:
        records: The silo's records.
        column: The column's name.
        agreed: The values already agreed, if any.

    Returns:
        The values, sorted, without those that no schema can hold.
    """
    counts = Counter(text for text in records.texts(column, agreed) if text is not None)
    return sorted(value for value, count in counts.items() if count >= LEAST_NAMED and is_text(value))


def agree(schema: Schema, summaries: Mapping[str, SiloSummary], max_byzantine: int) -> Agreement:
    """The schema, each open constant set to the lower median of the silos' figures.

    Of at least 2b + 1 numbers, b of them arbitrary, the lower median lies between the smallest and the largest honest
    one. A category is taken if more than b silos name it, so at least one honest silo does. Constants already written
    in the schema stay.

    Args:
        schema: The schema, with open constants.
        summaries: The summary of each silo, by the silo's name.
        max_byzantine: b, the largest number of silos that may lie.

    Raises:
        ValueError: A sentence for each column on which too few silos speak.
    """
    b = max_byzantine
    if b < 0 or len(summaries) < 2 * b + 1:
        raise InputError(
            f"max-byzantine={b}: it must be at least 0, and 2b + 1 = {2 * b + 1} summaries are needed; "
            f"there are {len(summaries)}"
        )
    wrong = [
        f"{source}: column {column!r} is not one of the schema's"
        for source, summary in summaries.items()
        for column in _strangers(schema, summary)
    ]
    numeric, categorical, notes = [], [], []
    for column in schema.numeric:
        said = _said(column, summaries)
        found = {key: _constant(column, key, said, b, wrong) for key in ("center", "scale")}
        agreed = column.model_copy(update=found)
        numeric.append(agreed)
        notes += [note for source, own in said.items() for note in _far_off(agreed, source, own)]
        notes += _mostly(column.column, {source: own.mostly for source, own in said.items()})
    for texts in schema.categorical:
        values, dropped = _values(texts, summaries, b)
        if not values:
            wrong.append(f"column {texts.column!r}: no value is named by more than {b} silos; write them by hand")
            continue
        categorical.append(texts.model_copy(update={"values": values}))
        if dropped:
            fate = (
                "they count as other" if texts.unseen == "other" else "a silo that has them is refused: unseen: refuse"
            )
            like = [alike(value, other) for value, other in resemblances(dropped, values).items()]
            hint = f": {'; '.join(like[:_NAMED])}" if like else ""
            notes.append(f"column {texts.column!r}: not more than {b} silos name {', '.join(dropped)}; {fate}{hint}")
        named = {
            source: own
            for source, summary in summaries.items()
            for own in summary.categorical
            if own.column == texts.column
        }
        notes += _apart(texts.column, values, {source: own.values for source, own in named.items()})
        notes += _mostly(texts.column, {source: own.mostly for source, own in named.items()})
    if wrong:
        raise InputError("\n".join(wrong))
    return Agreement(
        schema.model_copy(update={"numeric": tuple(numeric), "categorical": tuple(categorical)}), tuple(notes)
    )


def _apart(column: str, values: Sequence[str], named: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Sentences for agreed values that look alike, and for silos that name none of them."""
    for index, value in enumerate(values):
        other = resemblance(value, values[:index])
        if other:
            yield f"column {column!r}: two categories are agreed of which {alike(value, other)}: are they one?"
    for source, own in named.items():
        if not set(own) & set(values):
            what = f"none of the values it names ({', '.join(own)}) is" if own else "it names no value, and none is"
            yield f"{source}: column {column!r}: {what} agreed ({', '.join(values)}): there all cells count as other"


def _mostly(column: str, said: Mapping[str, str | None]) -> Iterator[str]:
    """A sentence for each way in which silos' columns say nothing."""
    for kind, what in (("missing", "more than half of the cells have no value"), ("constant", "the cells are alike")):
        silos = [source for source, mostly in said.items() if mostly == kind]
        if silos and len(silos) == len(said):
            yield f"column {column!r}: {what} at every silo: nothing can be learned from it; take it out?"
        elif silos:
            yield f"{', '.join(silos)}: column {column!r}: {what}, which is not so at {len(said) - len(silos)} others"


def _refuse_traps(path: Path) -> None:
    """Raises DocumentError for YAML that unfolds or nests without end: a few lines of it would occupy us for hours."""
    import yaml

    depth = 0
    for token in yaml.scan(path.read_text(encoding="utf-8")):
        if isinstance(token, yaml.AliasToken):
            raise DocumentError(f"{path}: YAML's aliases (*name) are not taken in a summary")
        starts = yaml.FlowSequenceStartToken, yaml.FlowMappingStartToken, yaml.BlockMappingStartToken
        ends = yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken
        depth += isinstance(token, (*starts, yaml.BlockSequenceStartToken)) - isinstance(token, ends)
        if depth > _DEEPEST:
            raise DocumentError(f"{path}: a summary is not nested so deeply")


def _numeric_summary(column: str, records: "Records", least: int) -> NumericSummary:
    import numpy as np

    from fedlaw_flwr.records.suspicions import MAD_TO_DEVIATION

    values = records.numbers(column)
    values = values[~np.isnan(values)]
    if len(values) < least:
        return NumericSummary(column=column)
    center = float(np.median(values))
    scale = MAD_TO_DEVIATION * float(np.median(np.abs(values - center)))
    if scale == 0:
        low, high = np.quantile(values, [0.25, 0.75])
        scale = float(high - low) / 1.349  # a normal distribution's IQR in deviations
    if scale == 0:
        return NumericSummary(column=column, center=_two_digits(center))
    return NumericSummary(column=column, center=round(center, 1 - floor(log10(scale))), scale=_two_digits(scale))


def _two_digits(number: float) -> float:
    return float(f"{number:.1e}")


def _strangers(schema: Schema, summary: SiloSummary) -> Iterator[str]:
    """Columns the summary speaks of and the schema has not, or as another kind."""
    numeric = {column.column for column in schema.numeric}
    categorical = {column.column for column in schema.categorical}
    yield from (own.column for own in summary.numeric if own.column not in numeric)
    yield from (own.column for own in summary.categorical if own.column not in categorical)


def _said(column: Numeric, summaries: Mapping[str, SiloSummary]) -> dict[str, NumericSummary]:
    """What each silo says of this column, by source."""
    return {
        source: own for source, summary in summaries.items() for own in summary.numeric if own.column == column.column
    }


def _constant(column: Numeric, key: str, said: Mapping[str, NumericSummary], b: int, wrong: list[str]) -> float | None:
    """The column's center or scale: as written, or the lower median; where too few speak, None and a sentence more."""
    written: float | None = getattr(column, key)
    if written is not None:
        return written
    given: list[float] = [value for own in said.values() if (value := getattr(own, key)) is not None]
    if len(given) < 2 * b + 1:
        need = f"{len(given)} silos give a {key}, 2b + 1 = {2 * b + 1} are needed"
        wrong.append(f"column {column.column!r}: {need}; write it by hand in the schema")
        return None
    return median_low(given)


def _values(column: Categorical, summaries: Mapping[str, SiloSummary], b: int) -> tuple[tuple[str, ...], Sequence[str]]:
    """The values more than b silos name, and the others anyone names, each as the schema spells it."""
    counts = Counter(
        value
        for summary in summaries.values()
        for own in summary.categorical
        if own.column == column.column
        for value in own.values
    )
    counts.update(dict.fromkeys(column.values, 0))
    return (
        tuple(sorted(value for value, count in counts.items() if count > b)),
        sorted(value for value, count in counts.items() if count <= b),
    )


def _far_off(agreed: Numeric, source: str, own: NumericSummary) -> Iterator[str]:
    """A sentence if this silo's figures look like another unit's."""
    if agreed.center is None or agreed.scale is None or own.center is None:
        return
    times = (own.scale or agreed.scale) / agreed.scale
    if abs(own.center - agreed.center) > _FAR * agreed.scale or not 1 / _TIMES <= times <= _TIMES:
        unit = f" ({agreed.unit})" if agreed.unit else ""
        figures = f"center {own.center:g}" + (f" and scale {own.scale:g}" if own.scale else "")
        reference = f"center {agreed.center:g}{unit} and scale {agreed.scale:g}"
        yield f"{source}: column {agreed.column!r} has {figures}, agreed are {reference}: another unit?"
